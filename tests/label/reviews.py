"""Made-up rows in the schemas of HH-RLHF and PeerRead."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrm.core.judgements import Comparison
from rrm.store.store import Store

KEYS = ("CLARITY", "ORIGINALITY", "SOUNDNESS_CORRECTNESS", "SUBSTANCE")


def dialogue(*turns: str, last: str) -> str:
    """Turns of a human and an assistant by turns, then the assistant's last."""
    roles = ("Human", "Assistant")
    said = "".join(f"\n\n{roles[i % 2]}: {text}" for i, text in enumerate(turns))
    return f"{said}\n\nAssistant: {last}"


def review(recommendation: object = "3", **scores: object) -> dict[str, Any]:
    """A review as ACL's: scores are texts."""
    given = {"comments": "I read it.", "is_meta_review": None, "REVIEWER_CONFIDENCE": "4", **scores}
    return given | ({} if recommendation is None else {"RECOMMENDATION": recommendation})


def paper(id: str, *reviews: Mapping[str, Any], **more: object) -> dict[str, Any]:
    texts = {"title": f"On w{id}", "abstract": f"We study w{id} ."}
    return {"id": id, **texts, "histories": [], "reviews": list(reviews), **more}


def papers(n: int, seed: int = 0, noise: float = 0.3) -> list[dict[str, Any]]:
    """Papers whose recommendation is the mean of their clarity and soundness, but for noise."""
    rng = random.Random(seed)
    out = []
    for i in range(n):
        scores = {key: rng.randint(1, 5) for key in KEYS}
        mean = (scores["CLARITY"] + scores["SOUNDNESS_CORRECTNESS"]) / 2
        given = [min(5, max(1, round(mean + rng.gauss(0, noise)))) for _ in range(2)]
        out.append(paper(str(i), *(review(str(r), **{k: str(v) for k, v in scores.items()}) for r in given)))
    return out


def venue(folder: Path, name: str, rows: list[dict[str, Any]], split: str = "train") -> Path:
    """FOLDER/NAME/SPLIT/reviews/ID.json, as PeerRead lays them out. Returns FOLDER/NAME."""
    place = folder / name / split / "reviews"
    place.mkdir(parents=True)
    for row in rows:
        (place / f"{row['id']}.json").write_text(json.dumps(row) + "\n")
    return folder / name


def lines(file: Path, rows: list[Any]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


def stored(folder: Path, node: str | None = None) -> list[Comparison]:
    """A run's comparisons."""
    store = Store(folder / "run.db")
    try:
        return store.comparisons(node)
    finally:
        store.close()
