"""Position bias: how much it moves a judge, whether an outcome is shown first or second.

A language model that judges is asked in both orders (`rrm.users.pairwise`), and its note says what it made of each. For
people the order is drawn at random, so that whoever minds no position prefers the first as often as the second. Where
neither is on record, nothing is said.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from rrm.core.errors import StoreError
from rrm.core.shares import Known, mean, share
from rrm.store.database import check_version, hurried, read_only
from rrm.store.upgrades import LABELS
from rrm.view.damage import torn
from rrm.view.reading import Reader

_CHANCE = "[01].[0-9][0-9][0-9]"
_NOTED = f"c.note GLOB 'p(A) {_CHANCE}, orders {_CHANCE} and {_CHANCE}' AND c.user NOT GLOB 'human(*'"
_FIRST, _SECOND = (f"CAST(substr(c.note, {at}, 5) AS REAL)" for at in (20, 30))
POSITION = f"(CASE WHEN {_NOTED} THEN {_FIRST} - {_SECOND} END)"
"""The probability that A is better, asked in the order A B, less that asked in the order B A, of comparison `c` in SQL:
above 0 where what stands first gains by it. NULL where nobody was asked in both orders, or who was abstained."""
FLIPS = f"({_NOTED} AND ({_FIRST} - 0.5) * ({_SECOND} - 0.5) < 0)"
"""Whether the order decides which is better, in SQL."""
LOOKED = 200
"""Comparisons at a run's either end that are looked at to know whether its user was asked in both orders."""

MOST = 20
"""People that are listed."""


@dataclass(frozen=True)
class PositionBias:
    """Of a node's comparisons that a judge was asked about in both orders. Intervals are over cases.

    Attributes
    ----------
    signed: mean of p(A is better | A B) - p(A is better | B A); above 0: what stands first is preferred for it.
    absolute: mean of its size.
    flips: share of comparisons in which the order decides which is better.
    """

    signed: Known
    absolute: Known
    flips: Known


@dataclass(frozen=True)
class FirstPreferred:
    """How often a person prefers the outcome that was shown first, of those where they prefer one. 0.5 is no bias."""

    labeler: str
    share: Known


def in_both_orders(run: Reader) -> bool:
    """Whether any of a run's first or newest comparisons were judged in both orders."""
    ends = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {POSITION} AS at FROM comparisons c ORDER BY c.seq {way} LIMIT {LOOKED})"
        for way in ("ASC", "DESC")
    )
    return bool(run.row(f"SELECT COUNT(at) FROM ({ends})")[0])


def position_bias(run: Reader, task: str, seconds: float = 0.3) -> PositionBias | None:
    """Of a node; None where nobody was asked in both orders, or where it takes longer than `seconds`."""
    if not in_both_orders(run):
        return None
    try:
        with hurried(run.db, seconds):
            rows = run.rows(
                f"SELECT SUM({POSITION}), SUM(abs({POSITION})), SUM({FLIPS}), COUNT(*) FROM comparisons c"
                f" WHERE c.task = ? AND c.preference IS NOT NULL AND {_NOTED}"
                " AND c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0) GROUP BY c.case_id",
                (task,),
            )
    except sqlite3.OperationalError:
        return None
    signed, absolute = (mean((row[i], row[3]) for row in rows) for i in (0, 1))
    flips = share((row[2], row[3]) for row in rows)
    return PositionBias(signed, absolute, flips) if signed and absolute and flips else None


def first_preferred(run: Reader, task: str = "", seconds: float = 0.3) -> list[FirstPreferred]:
    """Of each person who judged at a node (anywhere in the run, if none is given), those who judged most first.
    Empty where nobody did, or where it takes longer than `seconds`."""
    return [
        FirstPreferred(name, known) for name, clusters in _clusters(run, task, seconds).items()
        if (known := share(clusters)) is not None
    ]  # fmt: skip


def _clusters(run: Reader, task: str, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Labeler -> per case, (how often the first was preferred, of how many)."""
    path = run.folder / "labels.db"
    if not path.exists() or torn(path):
        return {}
    try:
        with read_only(path, 1.0) as db, hurried(db, seconds):
            check_version(db, path, len(LABELS))
            rows = db.execute(
                "SELECT l.labeler, SUM((l.preference > 0.5) != l.swapped), COUNT(*) FROM current l"
                " JOIN questions q ON q.id = l.question WHERE l.kind = 'label' AND l.preference != 0.5"
                " AND (:task = '' OR q.task = :task) GROUP BY l.labeler, q.case_id",
                {"task": task},
            ).fetchall()
    except (sqlite3.DatabaseError, StoreError):  # not made yet, unreadable, or too many for a page
        return {}
    found: dict[str, list[tuple[float, float]]] = {}
    for labeler, first, n in rows:
        found.setdefault(labeler, []).append((first, n))
    return dict(sorted(found.items(), key=lambda item: -sum(n for _, n in item[1])))


def bias_figures(run: Reader, task: str, seconds: float = 0.3) -> list[tuple[str, Known]]:
    """(what, value) of all that is known of the position bias of who judged at a node; each may take `seconds`."""
    bias = position_bias(run, task, seconds)
    found: list[tuple[str, Known]] = []
    if bias is not None:
        found += [
            ("p(A) asked A first, less p(A) asked B first", bias.signed),
            ("size of that difference", bias.absolute),
            ("comparisons whose verdict flips with the order", bias.flips),
        ]
    people = first_preferred(run, task, seconds)[:MOST]
    return found + [(f"{one.labeler} prefers what was shown first", one.share) for one in people]
