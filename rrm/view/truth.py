"""What truth.db, where `rrm measure truth` wrote one beside a run, says of the run's comparisons."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from rrm.core.shares import Known, share
from rrm.store.database import hurried, rows_beside
from rrm.store.truths import FILE
from rrm.store.upgrades import TRUTHS
from rrm.view.comparisons import PARTS
from rrm.view.damage import torn
from rrm.view.reading import Reader

BETTER = "(ta.score - tb.score)"
"""By how much A is truly better, in SQL with `JOINS`; NULL where that is not known."""
JOINS = (
    " LEFT JOIN truth.outcomes ta ON ta.task = c.task AND ta.case_id = c.case_id AND ta.outcome = c.a"
    " LEFT JOIN truth.outcomes tb ON tb.task = c.task AND tb.case_id = c.case_id AND tb.outcome = c.b"
)
WHILE = "nobody measured it while it trained"
"""Of the truth, where the records of a run hold none."""
ALL = (
    "SELECT g.code, o.task, o.case_id, o.outcome, o.score, f.task, f.case_id, f.outcome, f.fact, f.holds, s.task,"
    " s.case_id, s.outcome, s.assistance, s.assistant, s.sound, s.alarms, s.flawed, s.misses"
    " FROM truth.origin g, truth.outcomes o, truth.facts f, truth.said s LIMIT 0"
)
"""Fails where a table or a column is missing, and reads no row."""
NEWEST = 3000
"""Comparisons of which is said how right somebody is, where all are too many to count in time."""
WITHOUT = " LEFT JOIN (SELECT NULL AS score) ta ON 0 LEFT JOIN (SELECT NULL AS score) tb ON 0"
"""The same for a run without truth.db."""


def untrue_of(side: str) -> str:
    """Whether an assistant says something untrue of a side of comparison `c`, in SQL."""
    return (
        f"EXISTS (SELECT 1 FROM truth.said w WHERE w.task = c.task AND w.case_id = c.case_id AND w.outcome = c.{side}"
        f" AND w.assistance = c.assistance_{side} AND w.alarms + w.misses > 0)"
    )


def attached(run: Reader) -> bool:
    """Whether a run has a truth.db that can be read; if so, it is attached to its connection as `truth`."""
    if any(name == "truth" for _, name, _ in run.rows("PRAGMA database_list")):
        return True
    path = run.folder / FILE
    if not path.exists() or torn(path):
        return False
    for way in ["mode=ro"] + ([] if rows_beside(path) else ["mode=ro&immutable=1"]):
        try:
            run.db.execute("ATTACH DATABASE ? AS truth", (f"{path.resolve().as_uri()}?{way}",))
            (version,) = run.row("PRAGMA truth.user_version")
            if version == len(TRUTHS):
                run.rows(ALL)
                return True
            run.db.execute("DETACH DATABASE truth")  # a newer one
            return False
        except sqlite3.DatabaseError:  # a folder that cannot be written, with a file in WAL; or none, or not all of one
            if any(name == "truth" for _, name, _ in run.rows("PRAGMA database_list")):
                run.db.execute("DETACH DATABASE truth")
    return False


def untold(run: Reader) -> str:
    """Why a run's own records hold no true score: what stays true once truth.db lies beside it, too."""
    if attached(run):
        return f"{WHILE}; `rrm measure truth` did afterwards, of what was judged: see By the truth"
    return f"{WHILE}; where its tasks know what is true, `rrm measure truth` does, of what was judged"


@dataclass(frozen=True)
class Rightness:
    """How often somebody is right by the truth.

    Attributes
    ----------
    who: in words; `what`: user, reward model, held out, holds or fails (an assistant's findings about what does, or
        does not, hold); `node`: of an assistant, its path.
    share: of `of`; None where nothing was to be told.
    wrong: how many are wrong; `ties`: of those where no difference was seen although there is one.
    show: the filter that lists the wrong ones; `ties_show`: the ties.
    """

    who: str
    what: str
    share: Known | None
    wrong: int
    ties: int = 0
    show: str = ""
    ties_show: str = ""
    node: str = ""


def rightness(run: Reader, task: str, seconds: float = 0.5) -> list[Rightness] | None:
    """Of the user, of the newest reward model, and of each assistant at a node. Pairs of which neither is truly better
    count nowhere, and parts of outcomes (`rrm.core.parts`) neither. Where it takes longer than `seconds`, of the
    `NEWEST` comparisons, which is said. None without a truth."""
    if not attached(run):
        return None
    try:
        with hurried(run.db, seconds):
            return [*_judges(run, task), *_assistants(run, task)]
    except sqlite3.OperationalError:
        some = [*_judges(run, task, NEWEST), *_assistants(run, task, NEWEST)]
        return [replace(one, who=f"{one.who} (the newest {NEWEST:,})", show="", ties_show="") for one in some]


def measured(run: Reader, task: str) -> tuple[int, int]:
    """Of how many comparisons of whole outcomes at a task both true scores are known, and of how many they are not."""
    known, unknown = run.row(
        f"SELECT COUNT({BETTER}), COUNT(*) - COUNT({BETTER}) FROM comparisons c{JOINS if attached(run) else WITHOUT}"
        f" WHERE c.task = ? AND c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0) AND NOT {PARTS}",
        (task,),
    )
    return int(known), int(unknown)


def _judges(run: Reader, task: str, newest: int = -1) -> list[Rightness]:
    """In one pass: of many comparisons most of the time goes into finding what is so of them."""
    scored = SCORED if "scores" in run.tables else " LEFT JOIN (SELECT NULL AS margin, NULL AS held) s ON 0"
    sums = (
        ("c.preference IS NOT NULL", "(c.preference - 0.5)"), ("s.margin IS NOT NULL", "s.margin"),
        ("s.held", "s.margin"),
    )  # fmt: skip
    columns = [
        f"SUM({where} AND {said} * {BETTER} > 0), SUM({where} AND {said} = 0), SUM({where})" for where, said in sums
    ]
    rows = run.rows(
        f"SELECT * FROM (SELECT {', '.join(columns)}, c.case_id FROM {_newest(newest)} c{JOINS}{scored}"
        f" WHERE c.task = :task AND c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0)"
        f" AND {BETTER} != 0 GROUP BY c.case_id) c WHERE NOT {PARTS} ORDER BY c.case_id",  # a case is looked at once
        {"task": task, "newest": newest},
    )
    found = []
    for at, (who, what, show) in enumerate(
        (("user", "user", "user_wrong"), ("reward model", "reward model", "reward_wrong"),
         ("reward model, held out", "held out", ""))
    ):  # fmt: skip
        some = [tuple(one or 0 for one in row[3 * at : 3 * at + 3]) for row in rows]
        right, ties, n = (sum(row[i] for row in some) for i in range(3))
        if n:
            known = share((row[0] + row[1] / 2, row[2]) for row in some)
            blind = "user_blind" if what == "user" else ""
            found.append(Rightness(who, what, known, n - right - ties, ties, show, blind))
    return found


SCORED = (
    " LEFT JOIN scores s ON s.task = c.task AND s.pair = c.pair"
    " AND s.round = (SELECT MAX(round) FROM scores WHERE task = :task)"
)


def _newest(newest: int) -> str:
    """Comparisons, or the newest of a task: in SQL."""
    return "comparisons" if newest < 0 else (
        "(SELECT * FROM comparisons WHERE task = :task ORDER BY seq DESC LIMIT :newest)"
    )  # fmt: skip


def _assistants(run: Reader, task: str, newest: int = -1) -> list[Rightness]:
    """Each of what was said of an outcome counts once, however often the outcome was compared."""
    sides = [f"SELECT case_id, {side}, assistance_{side} FROM {_newest(newest)}" for side in "ab"]
    some = "" if newest < 0 else f" AND (case_id, outcome, assistance) IN ({' UNION '.join(sides)})"
    rows = run.rows(
        "SELECT * FROM (SELECT assistant, case_id, SUM(sound), SUM(alarms), SUM(flawed), SUM(misses) FROM truth.said"
        f" WHERE task = :task AND assistant != ''{some} GROUP BY assistant, case_id) c WHERE NOT {PARTS}"
        " ORDER BY assistant, case_id",
        {"task": task, "newest": newest},
    )
    mine: dict[str, list[Any]] = {}
    for row in rows:
        mine.setdefault(row[0], []).append(row)
    found = []
    for name, own in mine.items():
        for who, what, wrong, of in (("about what holds", "holds", 3, 2), ("about what does not hold", "fails", 5, 4)):
            known = share((row[of] - row[wrong], row[of]) for row in own)
            short = name.rsplit("/", 1)[-1]
            wrongs = sum(row[wrong] for row in own)
            found.append(Rightness(f"{short}, {who}", what, known, wrongs, show="untrue", node=name))
    return found


@dataclass(frozen=True)
class TrueSide:
    """What is so of one outcome of a comparison: its true score (-1: it cannot be read), and its facts."""

    score: float
    holds: dict[str, bool]


def true_sides(run: Reader, task: str, case: str, outcomes: tuple[str, str]) -> tuple[TrueSide, TrueSide] | None:
    """Of both outcomes of a comparison, by the ids of their records; None where it is not known."""
    if not attached(run):
        return None
    sides = []
    for outcome in outcomes:
        key = (task, case, outcome)
        row = run.row("SELECT score FROM truth.outcomes WHERE task = ? AND case_id = ? AND outcome = ?", key)
        if row is None:
            return None
        facts = run.rows(
            "SELECT fact, holds FROM truth.facts WHERE task = ? AND case_id = ? AND outcome = ? ORDER BY fact", key
        )
        sides.append(TrueSide(float(row[0]), {fact: bool(holds) for fact, holds in facts}))
    return sides[0], sides[1]
