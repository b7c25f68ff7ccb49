"""What an agent writes: the outcomes that were compared in a round, by what the newest reward model makes of them.

Reward hacking is seen here first: what all the best ones have in common. Kept are outcomes that were compared, not
those that the agent was only trained on; a score is known but for a constant among those that were compared with one
another, directly or through others, and is told as its distance from their mean.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rrm.core.records import digest
from rrm.view.comparisons import ShownAnswer, said, start, whole
from rrm.view.reading import Reader
from rrm.view.truth import JOINS, WITHOUT, attached

MOST = 2000
"""Comparisons of a round that are looked at: the newest."""
BEGIN = 400
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Produced:
    """An outcome of a case in a round.

    Attributes
    ----------
    case, text: their beginnings; `blob`: the id of the whole text.
    same: the same for outcomes of the same text.
    length: characters in all.
    finished: whether it ended by itself, and not at the limit of its length.
    copies: outcomes of this text in the round, of any case, this one among them.
    score: by the newest reward model, above the mean of those it was compared with (nats); None if not known.
    won, lost, tied: times that the user preferred it, the other, neither.
    true: its true score, where that was measured (-1: it cannot be read).
    seq: a comparison that it is in; `side`: a or b there.
    answers: what the assistants said of it in that comparison.
    """

    case: str
    case_blob: str
    text: str
    blob: str
    same: str
    length: int
    finished: bool
    copies: int
    score: float | None
    won: int
    lost: int
    tied: int
    true: float | None
    seq: int
    side: str
    answers: Sequence[ShownAnswer] = field(default=())


def rounds_with(run: Reader, task: str) -> list[int]:
    """The rounds in which something was compared."""
    return sorted(run.counts.get(task, {}))


def apart(edges: Iterable[tuple[str, str, float]]) -> list[dict[str, float]]:
    """Scores but for a constant, of those that are connected: `edges` are (one, other, score of one less the other's).
    Where ways differ, the shortest counts."""
    near: dict[str, list[tuple[str, float]]] = {}
    for one, other, more in edges:
        near.setdefault(one, []).append((other, -more))
        near.setdefault(other, []).append((one, more))
    found: list[dict[str, float]] = []
    seen: set[str] = set()
    for begin in near:
        if begin in seen:
            continue
        scores, waiting = {begin: 0.0}, [begin]
        while waiting:
            one = waiting.pop(0)
            for other, more in near[one]:
                if other not in scores:
                    scores[other] = scores[one] + more
                    waiting.append(other)
        seen |= scores.keys()
        found.append(scores)
    return found


def produced(run: Reader, task: str, round: int) -> list[Produced]:
    """A round's outcomes, once for every case: best first by score, those without one last."""
    known = attached(run)
    scored = "scores" in run.tables
    margin = (
        "LEFT JOIN scores s ON s.task = c.task AND s.pair = c.pair AND s.round ="
        " (SELECT MAX(round) FROM scores WHERE task = :task)" if scored
        else "LEFT JOIN (SELECT NULL AS margin) s ON 0"
    )  # fmt: skip
    rows = run.rows(
        "SELECT c.seq, c.case_id, c.a, c.b, c.preference, s.margin, c.assistance_a, c.assistance_b, ta.score, tb.score"
        f" FROM comparisons c {margin}{JOINS if known else WITHOUT} WHERE c.task = :task AND c.round = :round"
        " AND c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0) ORDER BY c.seq DESC LIMIT :most",
        {"task": task, "round": round, "most": MOST},
    )
    edges: dict[str, list[tuple[str, str, float]]] = {}
    first: dict[tuple[str, str], tuple[int, str, str, float | None]] = {}
    counts: dict[tuple[str, str], list[int]] = {}
    for seq, case, a, b, preference, margin_ab, said_a, said_b, true_a, true_b in rows:
        if margin_ab is not None:
            edges.setdefault(case, []).append((a, b, margin_ab))
        for side, blob, told, true in (("a", a, said_a, true_a), ("b", b, said_b, true_b)):
            first.setdefault((case, blob), (seq, side, told, true))
            won = counts.setdefault((case, blob), [0, 0, 0])
            if preference is not None:
                mine = preference if side == "a" else 1 - preference
                won[0 if mine > 0.5 else 1 if mine < 0.5 else 2] += 1
    scores = {
        (case, blob): value - sum(some.values()) / len(some)
        for case, pairs in edges.items() for some in apart(pairs) for blob, value in some.items()
    }  # fmt: skip
    looked = {blob: _looked(run, blob) for blob in {blob for _, blob in first}}
    alike = _alike(run, looked)
    same = Counter(alike[blob] for _, blob in first)
    found = []
    for (case, blob), (seq, side, _, true) in first.items():
        text, length, finished = looked[blob]
        found.append(
            Produced(
                start(run, case, 120)[0], case, text, blob, alike[blob], length, finished, same[alike[blob]],
                scores.get((case, blob)),
                counts[case, blob][0], counts[case, blob][1], counts[case, blob][2], true, seq, side,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.score is None, -(one.score or 0.0), one.seq))


def _looked(run: Reader, blob: str) -> tuple[str, int, bool]:
    """An outcome's beginning, its length in characters, and whether it ended by itself."""
    text, cut = start(run, blob, BEGIN)
    length, finished = run.row(
        "SELECT length(json_extract(body, '$.text')), json_extract(body, '$.finished') FROM blobs WHERE id = ?", (blob,)
    )
    if cut and not length:  # data that nobody described
        length = len(whole(run, blob) or "")
    return text, int(length or 0) or len(text), bool(finished)


def _alike(run: Reader, looked: Mapping[str, tuple[str, int, bool]]) -> dict[str, str]:
    """Record -> what stands for its text: the same for the same text, whatever its tokens. Whole texts are compared
    only where beginning and length are alike."""
    groups: dict[tuple[str, int], list[str]] = {}
    for blob, (text, length, _) in looked.items():
        groups.setdefault((text, length), []).append(blob)
    found = {}
    for (text, length), blobs in groups.items():
        for blob in blobs:
            more = digest(_text(run, blob)) if len(blobs) > 1 and length > len(text) else ""
            found[blob] = f"{digest(text, length)}{more}"
    return found


def _text(run: Reader, blob: str) -> str | None:
    """A whole text, without reading tokens and the like; of data that nobody described, the data."""
    return run.row("SELECT json_extract(body, '$.text') FROM blobs WHERE id = ?", (blob,))[0] or whole(run, blob)


def with_answers(run: Reader, found: Sequence[Produced]) -> list[Produced]:
    """The same with what the assistants said of each: for a page, not for thousands."""
    told: dict[str, Sequence[ShownAnswer]] = {}
    out = []
    for one in found:
        (blob,) = run.row(f"SELECT assistance_{one.side} FROM comparisons WHERE seq = ?", (one.seq,))
        if blob not in told:
            row = run.row("SELECT body FROM blobs WHERE id = ?", (blob,))
            told[blob] = said(json.loads(row[0]), 200, knowing=run.knowing) if row else ()
        out.append(Produced(**{**vars(one), "answers": told[blob]}))
    return out


@dataclass(frozen=True)
class InShort:
    """A round's outcomes in numbers."""

    outcomes: int
    cases: int
    same: int
    """That repeat another's text."""
    unfinished: int
    unreadable: int | None
    """Where the truth was measured."""
    length: float
    """Their mean, in characters."""
    longer: float | None
    """Characters by which the better half, by score, is longer than the other; None if fewer than four have one."""


def in_short(found: Sequence[Produced]) -> InShort:
    """Of a round's outcomes."""
    scored = [one.length for one in found if one.score is not None]
    half = len(scored) // 2
    known = [one for one in found if one.true is not None]
    return InShort(
        len(found), len({one.case_blob for one in found}), len(found) - len({one.same for one in found}),
        sum(not one.finished for one in found), sum((one.true or 0) < 0 for one in known) if known else None,
        sum(one.length for one in found) / len(found) if found else 0.0,
        sum(scored[:half]) / half - sum(scored[-half:]) / half if half > 1 else None,
    )  # fmt: skip


def beside(earlier: Sequence[Produced], later: Sequence[Produced]) -> list[tuple[Produced, Produced]]:
    """Of every case that both rounds have, the best outcome of each by score."""
    best: list[Mapping[str, Produced]] = []
    for found in (earlier, later):
        of: dict[str, Produced] = {}
        for one in found:
            of.setdefault(one.case_blob, one)
        best.append(of)
    return [(one, best[1][case]) for case, one in best[0].items() if case in best[1]]
