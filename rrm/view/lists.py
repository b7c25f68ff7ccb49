"""Lists of a node's comparisons: filtered, searched, sorted, paged. Nothing here takes long, whatever a run's size: a
search stops when its time is up and says how far it came, and so do counting and sorting."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rrm.core.interrupts import interrupts_held
from rrm.core.records import rendering
from rrm.store.database import hurried
from rrm.view.comparisons import PARTS, SHOWN, accepting, retrained, start
from rrm.view.positions import FLIPS, POSITION, in_both_orders
from rrm.view.reading import Reader
from rrm.view.truth import BETTER, JOINS, WITHOUT, attached, untrue_of

PAGE = 50
SECONDS = 0.35
"""How long a list may look for its rows."""
COUNTING = 0.2
"""And how long it may count or sort them."""
AROUND = 60
"""Characters before a hit that are shown with it."""
NA = (
    "EXISTS (SELECT 1 FROM blobs x, json_each(x.body) o WHERE x.id IN (c.assistance_a, c.assistance_b) AND NOT EXISTS"
    " (SELECT 1 FROM json_each(o.value, '$.answers') n WHERE json_array_length(n.value, '$.findings') > 0))"
)
FILTERS = {
    "all": ("all", "1"),
    "disagree": ("user against reward model", "(c.preference - 0.5) * s.margin < 0"),
    "unsure": ("low margin (below its own deviation)", "abs(s.margin) < s.std"),
    "tie": ("ties", "c.preference = 0.5"),
    "none": ("no judgement", "c.preference IS NULL"),
    "na": ("an assistant says N/A", NA),
    "stale": ("stale: an assistant was retrained since", "c.shown != '[]' AND c.at < :retrained"),
    "assisted": ("with assistance", "c.shown != '[]'"),
    "unassisted": ("without assistance", "c.shown = '[]'"),
    "both": (
        "assisted against unassisted",
        "(c.case_id, c.a, c.b) IN (SELECT d.case_id, d.a, d.b FROM comparisons d WHERE d.task = :task"
        " GROUP BY d.case_id, d.a, d.b HAVING MIN(d.shown = '[]') < MAX(d.shown = '[]')"
        " AND MIN(d.preference) < MAX(d.preference))",
    ),
    "heldout": ("held out from the reward model", "s.held"),
    "parts": ("of parts of outcomes", "@parts"),
    "accept": ("whether an improvement stands", "@accept"),
    "undone": (
        "of rounds whose improvement was undone",
        "c.round IN (SELECT round FROM metrics WHERE task = :task"
        " AND (name = 'undone' OR name = 'kept' AND value = 0))",
    ),
}
BY_TRUTH = {
    "user_wrong": ("user against truth", f"(c.preference - 0.5) * {BETTER} < 0 AND NOT @parts"),
    "user_blind": (
        "user sees no difference, but one is truly better", f"c.preference = 0.5 AND {BETTER} != 0 AND NOT @parts"
    ),
    "user_right": ("user as the truth", f"(c.preference - 0.5) * {BETTER} > 0 AND NOT @parts"),
    "reward_wrong": ("reward model against truth", f"s.margin * {BETTER} < 0 AND NOT @parts"),
    "untrue": ("an assistant against truth", f"({untrue_of('a')} OR {untrue_of('b')}) AND NOT @parts"),
}
"""Of runs beside which a truth was measured; of whole outcomes, like the figures that lead here
(`rrm.view.truth.rightness`)."""
BY_POSITION = {"flips": ("the verdict flips with the order", FLIPS)}
"""Of runs whose user was asked in both orders."""
ORDERS = {
    "": ("the order they were judged", ""),
    "newest": ("newest first", "c.seq"),
    "sure": ("reward model surest", "abs(s.margin)"),
    "against": ("reward model most against the user", "(0.5 - c.preference) * s.margin"),
    "attention": ("most attention", "c.attention"),
    "slow": ("took longest", "c.seconds"),
    "position": ("most position bias", f"abs({POSITION})"),
}
"""Largest first; those that are equal, and those of which the number is not known, by number. The last only of runs
whose user was asked in both orders (`orders_of`)."""
SAYS = {
    "no": "EXISTS (SELECT 1 FROM json_each(o.value, '$.answers') n, json_each(n.value, '$.findings') f"
          " WHERE NOT json_extract(f.value, '$.holds'))",
    "N/A": "NOT EXISTS (SELECT 1 FROM json_each(o.value, '$.answers') n, json_each(n.value, '$.findings') f)",
}  # fmt: skip
SAYS["yes"] = f"NOT {SAYS['no']} AND NOT {SAYS['N/A']}"
"""Verdict of an assistant about an outcome -> in SQL."""


@dataclass(frozen=True)
class Query:
    """Which of a node's comparisons, and in which order.

    Attributes
    ----------
    show: a key of `FILTERS`, `BY_TRUTH` or `BY_POSITION`; one that is unknown, or not to be had here, is "all".
    text: what case or outcomes must contain, in upper or lower case.
    who: an assistant's path; with `says` (yes, no, N/A) and `of` (a, b; "": either) what it must say of which outcome.
    labeler: who judged.
    order: a key of `ORDERS`.
    """

    show: str = "all"
    text: str = ""
    round: int | None = None
    who: str = ""
    says: str = ""
    of: str = ""
    labeler: str = ""
    order: str = ""


@dataclass(frozen=True)
class Line:
    """A comparison in a list. `better`: by how much A is truly better than B, where that is known. `position`: by how
    much it moved the judge's probability of A that A was shown first, where that is known (`rrm.view.positions`)."""

    seq: int
    round: int
    preference: float | None
    margin: float | None
    std: float | None
    attention: int
    seconds: float
    user: str
    assisted: bool
    accept: bool
    """Whether it was asked to decide if an improvement stands."""
    better: float | None
    position: float | None
    case: str
    a: str
    b: str


@dataclass(frozen=True)
class Found:
    """A page of a list. `after` is where the next page goes on, `before` where the one before does (None: no more); of
    a sorted list, how many to leave out."""

    lines: Sequence[Line]
    before: int | None
    after: int | None
    searched: int
    """Comparisons looked at for this page."""
    complete: bool
    """False: time was up before the page was full."""


def filters_of(run: Reader) -> dict[str, tuple[str, str]]:
    """Name -> (in words, in SQL): what lists of a run can show."""
    return FILTERS | (BY_TRUTH if attached(run) else {}) | (BY_POSITION if in_both_orders(run) else {})


def orders_of(run: Reader) -> dict[str, tuple[str, str]]:
    """Name -> (in words, in SQL): how lists of a run can be sorted."""
    return ORDERS if in_both_orders(run) else {name: order for name, order in ORDERS.items() if name != "position"}


def _query(run: Reader, task: str, wanted: Query) -> tuple[str, str, dict[str, Any]]:
    """(which it hits, FROM and WHERE, values), in SQL over comparison `c`; those that later ones supersede left out."""
    kinds = filters_of(run)
    tests = [kinds.get(wanted.show, FILTERS["all"])[1].replace("@accept", accepting(run)).replace("@parts", PARTS)]
    if text := wanted.text.strip():
        run.db.create_function("rendered", 1, _rendered, deterministic=True)  # asked only where there is no text
        tests.append(
            "EXISTS (SELECT 1 FROM blobs t WHERE t.id IN (c.case_id, c.a, c.b) AND instr(lower("
            "coalesce(nullif(json_extract(t.body, '$.text'), ''), json_extract(t.body, '$.prompt'),"
            " rendered(json_extract(t.body, '$.data')))), lower(:text)) > 0)"
        )
    if wanted.who and wanted.says in SAYS:
        sides = [
            f"EXISTS (SELECT 1 FROM blobs x, json_each(x.body) o WHERE x.id = c.assistance_{side}"
            f" AND json_extract(o.value, '$.assistant') = :who AND {SAYS[wanted.says]})"
            for side in ("a", "b") if wanted.of in ("", side)
        ]  # fmt: skip
        tests.append(" OR ".join(sides))
    kept = ["c.task = :task", "c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0)"]
    kept += ["c.round = :round"] if wanted.round is not None else []
    kept += ["c.user = :labeler"] if wanted.labeler else []
    values = {
        "task": task, "round": wanted.round, "text": text, "who": wanted.who, "labeler": wanted.labeler,
        "retrained": retrained(run, task), "latest": _latest(run, task),
    }  # fmt: skip
    hit = " AND ".join(f"({test})" for test in tests)
    joins = _scores(run) + (JOINS if attached(run) else WITHOUT)
    return hit, f"FROM comparisons c {joins} WHERE {' AND '.join(kept)}", values


def find(
    run: Reader, task: str, wanted: Query = Query(), after: int = 0, before: int | None = None, limit: int = PAGE,
    seconds: float = SECONDS,
) -> Found:  # fmt: skip
    """Comparisons of a task that are `wanted`.

    Page by number: those after `after`, or, if `before` is given, the last ones before it. In another order than that
    in which they were judged, `after` is how many to leave out.
    """
    hit, source, values = _query(run, task, wanted)
    columns = (
        f"c.seq, ({hit}) AS hit, c.round, c.preference, s.margin, s.std, c.attention, c.seconds, c.user,"
        f" c.shown != '[]', {accepting(run)}, {BETTER}, {POSITION}, c.case_id, c.a, c.b"
    )
    text = wanted.text.strip()
    if ORDERS.get(wanted.order, ("", ""))[1]:
        key = ORDERS[wanted.order][1]
        try:
            with hurried(run.db, seconds):
                rows = run.rows(
                    f"SELECT {columns} {source} AND {hit} ORDER BY {key} IS NULL, {key} DESC, c.seq"
                    " LIMIT :n OFFSET :skip",
                    values | {"n": limit + 1, "skip": after},
                )
        except sqlite3.OperationalError:
            return Found((), None, None, 0, False)
        lines = [_line(run, row, text) for row in rows[:limit]]
        earlier, later = max(0, after - limit) if after else None, after + limit if len(rows) > limit else None
        return Found(lines, earlier, later, len(rows), True)
    back = before is not None
    sign, direction = ("<", "DESC") if back else (">", "ASC")
    found = run.db.execute(
        f"SELECT {columns} {source} AND c.seq {sign} :start ORDER BY c.seq {direction}",
        values | {"start": before if before is not None else after},
    )
    deadline = time.monotonic() + seconds
    lines = []
    searched = last = 0
    complete, more = True, False
    with interrupts_held():  # `_rendered` may be called
        for row in found:
            if len(lines) == limit:
                more = True
                break
            if searched and time.monotonic() > deadline:
                complete, more = False, True
                break
            searched, last = searched + 1, row[0]
            if row[1]:
                lines.append(_line(run, row, text))
    found.close()
    if back:
        lines.reverse()
        return Found(lines, last if more else None, (before or 1) - 1, searched, complete)
    return Found(lines, after + 1 if after else None, last if more else None, searched, complete)


def matching(run: Reader, task: str, wanted: Query, seconds: float = COUNTING) -> int | None:
    """How many comparisons are wanted; None where counting takes longer."""
    hit, source, values = _query(run, task, wanted)
    try:
        with hurried(run.db, seconds):
            return int(run.row(f"SELECT COUNT(*) {source} AND {hit}", values)[0])
    except sqlite3.OperationalError:
        return None


def labelers(run: Reader, task: str) -> list[str]:
    """Who judged at a node, by name; one who judged by several names is several. None of more than 50."""
    found = [user for (user,) in run.rows("SELECT DISTINCT user FROM comparisons WHERE task = ? LIMIT 51", (task,))]
    return sorted(found) if 1 < len(found) <= 50 else []


def _line(run: Reader, row: Sequence[Any], text: str) -> Line:
    seq, _, *judgement, case, a, b = row
    return Line(seq, *judgement, *(_around(run, blob, text) for blob in (case, a, b)))


def _around(run: Reader, blob: str, text: str) -> str:
    """The beginning of a text, or what is around the first hit of a search in it."""
    shown, _ = start(run, blob, SHOWN if text else 200)
    at = shown.lower().find(text.lower()) if text else -1
    if at <= AROUND:
        return shown[:200]
    return f"…{shown[at - AROUND : at + 200 - AROUND]}"


def _scores(run: Reader) -> str:
    """The latest fit's view of each comparison; nothing for runs that did not keep it."""
    if "scores" in run.tables:
        return "LEFT JOIN scores s ON s.task = c.task AND s.round = :latest AND s.pair = c.pair"
    return "LEFT JOIN (SELECT NULL AS margin, NULL AS std, NULL AS held, 0 AS never) s ON s.never"


def _latest(run: Reader, task: str) -> int | None:
    if "scores" not in run.tables:
        return None
    row = run.row("SELECT round FROM scores WHERE task = ? ORDER BY round DESC LIMIT 1", (task,))
    return row[0] if row else None


def _rendered(data: str | None) -> str:
    """The data of an outcome without text, as it is shown."""
    return rendering("", None if data is None else json.loads(data))
