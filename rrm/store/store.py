"""The run's memory: SQLite, append-only, content-addressed.

Every outcome, answer, comparison and metric is written as it happens, and a committed row survives a kill.
A retry inserts the same keys again and adds nothing. Nothing is updated or deleted, and only the driver process
writes. What people take back they take back before it comes here (rrm/labels/queue.py), or, when they leave, by a row
that stands for the one that `comparisons.supersedes` names (rrm/labels/forgetting.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rrm.core.judgements import Check, Comparison, Judgement, Margin, Pair
from rrm.core.records import Answer, Assistance, Case, Group, Outcome, Spans, digest
from rrm.core.remarks import Remark, Remarked
from rrm.store import links
from rrm.store.database import TICK, Database
from rrm.store.encoding import dumped, written
from rrm.store.upgrades import RUN

SCHEMA = """
CREATE TABLE IF NOT EXISTS blobs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    version TEXT NOT NULL, case_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (version, case_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS comparisons (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL, round INTEGER NOT NULL, position INTEGER NOT NULL, pair TEXT NOT NULL,
    case_id TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL,
    assistance_a TEXT NOT NULL, assistance_b TEXT NOT NULL, shown TEXT NOT NULL,
    user TEXT NOT NULL, preference REAL, checks TEXT NOT NULL, attention INTEGER NOT NULL,
    note TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL, supersedes INTEGER NOT NULL DEFAULT 0,
    purpose TEXT NOT NULL DEFAULT '', again INTEGER NOT NULL DEFAULT 0,
    UNIQUE (task, round, pair, supersedes)
);
CREATE TABLE IF NOT EXISTS metrics (
    task TEXT NOT NULL, round INTEGER NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL,
    name TEXT NOT NULL, value REAL, at REAL NOT NULL, PRIMARY KEY (task, round, phase, step, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
    task TEXT NOT NULL, round INTEGER NOT NULL, part TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (task, round, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    task TEXT NOT NULL, round INTEGER NOT NULL, pair TEXT NOT NULL, margin REAL NOT NULL, std REAL NOT NULL,
    held INTEGER NOT NULL, PRIMARY KEY (task, round, pair)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spans (
    case_id TEXT NOT NULL, outcome TEXT NOT NULL, fact TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
    PRIMARY KEY (case_id, outcome, fact)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origins (
    task TEXT NOT NULL, round INTEGER NOT NULL, pair TEXT NOT NULL, sha256 TEXT NOT NULL, file TEXT NOT NULL,
    row INTEGER NOT NULL, PRIMARY KEY (task, round, pair, sha256, file, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    task TEXT NOT NULL, round INTEGER NOT NULL, purpose TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (task, round, purpose)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remarks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL, round INTEGER NOT NULL, pair TEXT NOT NULL, side TEXT NOT NULL, name TEXT NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL, case_id TEXT NOT NULL, outcome TEXT NOT NULL, assistance TEXT NOT NULL,
    user TEXT NOT NULL, at REAL NOT NULL, supersedes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (task, round, pair, side, name, supersedes)
);
CREATE TABLE IF NOT EXISTS computed (
    task TEXT NOT NULL, chapter TEXT NOT NULL, name TEXT NOT NULL, nth INTEGER NOT NULL, sha256 TEXT NOT NULL,
    weights TEXT NOT NULL, rows INTEGER, at REAL NOT NULL, PRIMARY KEY (task, chapter, name, nth)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS comparisons_task ON comparisons (task);
CREATE INDEX IF NOT EXISTS remarks_task ON remarks (task);
"""
KEYS = {
    "blobs": "id", "answers": "version, case_id", "comparisons": "task, round, pair, supersedes",
    "metrics": "task, round, phase, step, name", "checkpoints": "task, round, part", "scores": "task, round, pair",
    "spans": "case_id, outcome, fact", "origins": "task, round, pair, sha256, file, row",
    "samples": "task, round, purpose", "remarks": "task, round, pair, side, name, supersedes",
    "computed": "task, chapter, name, nth",
}  # fmt: skip
"""Table -> what tells its rows apart: a row whose key is there already repeats it."""
TABLES = tuple(KEYS)
_COLUMNS = {
    "blobs": "id, kind, body", "answers": "version, case_id, body",
    "comparisons": "seq, task, round, position, pair, case_id, a, b, assistance_a, assistance_b, shown, user, "
                   "preference, checks, attention, note, seconds, at, supersedes, purpose, again",
    "metrics": "task, round, phase, step, name, value, at", "checkpoints": "task, round, part, path, sha256, at",
    "scores": "task, round, pair, margin, std, held", "spans": "case_id, outcome, fact, start, stop",
    "origins": "task, round, pair, sha256, file, row", "samples": "task, round, purpose, body",
    "remarks": "seq, task, round, pair, side, name, kind, body, case_id, outcome, assistance, user, at, supersedes",
    "computed": "task, chapter, name, nth, sha256, weights, rows, at",
}  # fmt: skip
LINKED = {t: (columns, "seq" if columns.startswith("seq, ") else KEYS[t]) for t, columns in _COLUMNS.items()}
"""Table -> what is hashed of its rows, and what tells one apart, also when it is rewritten. Neither ever changes: a
column that is added later needs links of its own."""

_case, _outcome, _answer = TypeAdapter(Case), TypeAdapter(Outcome), TypeAdapter(Answer)
_groups = TypeAdapter(tuple[Group, ...])
_assistance, _checks = TypeAdapter(tuple[Assistance, ...]), TypeAdapter(tuple[Check, ...])
_remark = TypeAdapter(Remark)
ALONE = ""
"""The side of a remark that was not made beside a comparison; its `pair` then names its outcome."""


@dataclass(frozen=True)
class Origin:
    """Where an imported comparison came from."""

    sha256: str
    """Of the bytes of the source: a file, or all files of a folder, or all rows of a data set."""
    file: str
    row: int
    """Counted from 1; a line of a JSONL file."""


class Store(Database):
    """One run's database. Raises `StoreError` saying what could not be written and how to mend it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA + links.SCHEMA + links.triggers(LINKED), (*TABLES, "links"), RUN)
        with self._reading():
            links.add_functions(self._db)
            if not self._db.execute("SELECT 1 FROM links LIMIT 1").fetchone():
                with self._writing():
                    links.fill(self._db, LINKED)
            (self._last,) = self._db.execute("SELECT COALESCE(MAX(at), 0.0) FROM metrics").fetchone()

    @contextmanager
    def rewriting(self, tables: Sequence[str]) -> Iterator[None]:
        """See `Database`; the rows' old links can no longer be tried out."""
        with super().rewriting((*tables, "links")):
            yield
            links.wipe(self._db)

    # --- the memo ------------------------------------------------------------------------------------

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """See `Memo`."""
        ids = list({case.id for case in cases})
        found: dict[str, Answer] = {}
        with self._reading():
            for start in range(0, len(ids), 500):
                some = ids[start : start + 500]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(
                    f"SELECT case_id, body FROM answers WHERE version = ? AND case_id IN ({marks})",
                    (version, *some),
                )
                found |= {case: _answer.validate_json(body) for case, body in rows}
        return found

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
        """See `Memo`."""
        rows = [(version, case, written(_answer, answer)) for case, answer in answers.items()]
        with self._writing():
            self._keep("answers", "version, case_id, body", rows)

    # --- outcomes that cannot be sampled again --------------------------------------------------------

    def sampled(self, task: str, round: int, purpose: str) -> list[Group] | None:
        """Groups that were kept for this purpose; None if none were."""
        with self._reading():
            row = self._db.execute(
                "SELECT body FROM samples WHERE task = ? AND round = ? AND purpose = ?", (task, round, purpose)
            ).fetchone()
        return None if row is None else list(_groups.validate_json(row[0]))

    def keep_sampled(self, task: str, round: int, purpose: str, groups: Sequence[Group]) -> None:
        """Keep groups of an agent that would give others if it were asked again."""
        body = written(_groups, tuple(groups))
        with self._writing():
            self._keep("samples", "task, round, purpose, body", [(task, round, purpose, body)])

    # --- comparisons ---------------------------------------------------------------------------------

    def add(self, comparison: Comparison, position: int, spans: tuple[Spans, Spans] = ({}, {})) -> None:
        """Keep a judgement. The same pair in the same round a second time adds nothing.

        `spans`: where the facts are in the text of A and of B, for showing what assistants point at.
        """
        with self._writing():
            self._insert(comparison, position, spans)

    def bring(self, imported: Sequence[tuple[Comparison, int, Sequence[Origin]]]) -> None:
        """Keep comparisons from elsewhere, each with its position and where it came from: all of these, or none."""
        with self._writing():
            for one, position, origins in imported:
                comparison = replace(one, round=self._round_of(one))
                self._insert(comparison, position, ({}, {}))
                name = (comparison.pair.task, comparison.round, comparison.pair.id)
                rows = [(*name, one.sha256, one.file, one.row) for one in origins]
                self._keep("origins", "task, round, pair, sha256, file, row", rows)

    def _round_of(self, comparison: Comparison) -> int:
        """The round under which an imported comparison is kept: its own, unless the same pair is there with another
        preference. A contradiction is no repetition, so it goes below it."""
        round, preference = comparison.round, comparison.preference
        while True:
            name = (comparison.pair.task, round, comparison.pair.id)
            query = "SELECT preference FROM comparisons WHERE task = ? AND round = ? AND pair = ?"
            there = self._db.execute(query, name).fetchone()
            if there is None or there[0] == preference:
                return round
            round -= 1

    def origins(self, task: str) -> dict[tuple[int, str], list[Origin]]:
        """(round, pair) of a task's imported comparisons -> where each came from."""
        with self._reading():
            rows = self._db.execute(
                "SELECT round, pair, sha256, file, row FROM origins WHERE task = ? ORDER BY sha256, file, row", (task,)
            ).fetchall()
        found: dict[tuple[int, str], list[Origin]] = {}
        for round, pair, *where in rows:
            found.setdefault((round, pair), []).append(Origin(*where))
        return found

    def _insert(self, comparison: Comparison, position: int, spans: tuple[Spans, Spans]) -> None:
        pair, judgement = comparison.pair, comparison.judgement
        bodies = {
            "case": written(_case, pair.case),
            "a": written(_outcome, pair.a),
            "b": written(_outcome, pair.b),
            "assistance_a": written(_assistance, pair.assistance_a),
            "assistance_b": written(_assistance, pair.assistance_b),
        }
        ids = {name: digest(body) for name, body in bodies.items()}
        there = (*pair.assistance_a, *pair.assistance_b) if judgement.assisted else ()
        shown = sorted({f"{a.assistant}@{a.version}" for a in there})
        kinds = [(ids[name], name.split("_")[0], body) for name, body in bodies.items()]
        self._keep("blobs", "id, kind, body", kinds)
        self._keep(
            "comparisons",
            "task, round, position, pair, case_id, a, b, assistance_a, assistance_b, shown, user, preference, checks,"
            " attention, note, seconds, at, purpose, again",
            [(
                pair.task, comparison.round, position, pair.id, ids["case"], ids["a"], ids["b"],
                ids["assistance_a"], ids["assistance_b"], json.dumps(shown), comparison.user,
                judgement.preference, dumped(_checks, judgement.checks), judgement.attention,
                judgement.note, comparison.seconds, time.time(), comparison.purpose, pair.again,
            )],
        )  # fmt: skip
        for side, remarks in (("a", judgement.remarks_a), ("b", judgement.remarks_b)):
            where = (pair.task, comparison.round, pair.id, side)
            self._remark(where, remarks, comparison.user, ids["case"], ids[side], ids[f"assistance_{side}"])
        places = [
            (ids["case"], ids[side], fact, start, stop)
            for side, found in zip(("a", "b"), spans, strict=True)
            for fact, (start, stop) in found.items()
        ]
        self._keep("spans", "case_id, outcome, fact, start, stop", places)

    def _remark(
        self, where: tuple[str, int, str, str], remarks: Iterable[Remark], user: str, case: str, outcome: str, said: str
    ) -> None:
        """Keep what is said of one outcome; where: task, round, pair, side."""
        self._keep(
            "remarks",
            "task, round, pair, side, name, kind, body, case_id, outcome, assistance, user, at",
            [
                (*where, remark_name(where[-1], one, user), one.kind, written(_remark, one), case, outcome, said, user,
                 time.time())
                for one in remarks
            ],
        )

    def _keep(self, table: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
        """Insert rows; one whose key is there adds nothing. Any other refusal is an error: OR IGNORE would hide it."""
        marks = ", ".join("?" * len(columns.split(",")))
        self._db.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT ({KEYS[table]}) DO NOTHING", rows
        )

    def comparisons(self, task: str | None = None, round: int | None = None) -> list[Comparison]:
        """Comparisons in the order they were judged, superseded ones left out."""
        wanted = {"c.task": task, "c.round": round}
        where = "".join(f" AND {column} = :{column[2:]}" for column, value in wanted.items() if value is not None)
        with self._reading():
            rows = self._db.execute(
                "SELECT c.task, c.round, bc.body, ba.body, bb.body, sa.body, sb.body, c.user, c.preference,"
                " c.checks, c.attention, c.note, c.seconds, c.shown, c.purpose, c.again FROM comparisons c"
                " JOIN blobs bc ON bc.id = c.case_id"
                " JOIN blobs ba ON ba.id = c.a JOIN blobs bb ON bb.id = c.b"
                " JOIN blobs sa ON sa.id = c.assistance_a JOIN blobs sb ON sb.id = c.assistance_b"
                " WHERE NOT EXISTS (SELECT 1 FROM comparisons later WHERE later.supersedes = c.seq)"
                f"{where} ORDER BY CASE c.supersedes WHEN 0 THEN c.seq ELSE c.supersedes END",
                {"task": task, "round": round},
            ).fetchall()
            said = self._db.execute(
                "SELECT r.task, r.round, r.pair, r.side, r.body FROM remarks r WHERE r.side != '' AND r.kind != ''"
                " AND NOT EXISTS (SELECT 1 FROM remarks later WHERE later.supersedes = r.seq)"
                f"{where.replace('c.', 'r.')} ORDER BY r.seq",
                {"task": task, "round": round},
            ).fetchall()
        return _with_remarks([_comparison(row) for row in rows], said)

    def compared(self, task: str) -> list[tuple[str, str, str]]:
        """The ids of the records of every outcome that was compared at a task, once with each assistance: of its case,
        its own, of the assistance. (A record's id is not `Case.id`, which does not hang on how it is written.)"""
        with self._reading():
            return self._db.execute(
                "SELECT case_id, a, assistance_a FROM comparisons WHERE task = :task"
                " UNION SELECT case_id, b, assistance_b FROM comparisons WHERE task = :task",
                {"task": task},
            ).fetchall()

    def record(self, ids: tuple[str, str, str]) -> tuple[Case, Outcome, tuple[Assistance, ...]]:
        """What `compared` names."""
        with self._reading():
            case, outcome, said = (
                self._db.execute("SELECT body FROM blobs WHERE id = ?", (one,)).fetchone()[0] for one in ids
            )
        return _case.validate_json(case), _outcome.validate_json(outcome), _assistance.validate_json(said)

    def remarks(self, task: str) -> list[Remarked]:
        """A task's remarks that were made beside no comparison, in the order in which they came."""
        with self._reading():
            rows = self._db.execute(
                "SELECT r.round, r.user, r.body, bc.body, bo.body, ba.body FROM remarks r"
                " JOIN blobs bc ON bc.id = r.case_id JOIN blobs bo ON bo.id = r.outcome"
                " JOIN blobs ba ON ba.id = r.assistance"
                " WHERE r.task = ? AND r.side = ? AND r.kind != ''"
                " AND NOT EXISTS (SELECT 1 FROM remarks later WHERE later.supersedes = r.seq) ORDER BY r.seq",
                (task, ALONE),
            ).fetchall()
        return [
            Remarked(
                task, _case.validate_json(case), _outcome.validate_json(outcome), _remark.validate_json(body), user,
                round, _assistance.validate_json(said),
            )
            for round, user, body, case, outcome, said in rows
        ]  # fmt: skip

    def bring_remarks(self, imported: Sequence[tuple[Remarked, Sequence[Origin]]]) -> None:
        """Keep remarks from elsewhere, each with where it came from: all of these, or none."""
        with self._writing():
            for one, origins in imported:
                bodies = [written(_case, one.case), written(_outcome, one.outcome)]
                bodies.append(written(_assistance, one.assistance))
                case, outcome, said = ids = tuple(map(digest, bodies))
                kinds = zip(ids, ("case", "a", "assistance"), bodies, strict=True)
                self._keep("blobs", "id, kind, body", list(kinds))
                about = digest(one.case.id, one.outcome.id)
                self._remark((one.task, one.round, about, ALONE), [one.remark], one.user, case, outcome, said)
                rows = [(one.task, one.round, about, o.sha256, o.file, o.row) for o in origins]
                self._keep("origins", "task, round, pair, sha256, file, row", rows)

    def remarked(self) -> list[str]:
        """Tasks of which there are remarks beside no comparison, in order."""
        with self._reading():
            query = "SELECT DISTINCT task FROM remarks WHERE side = ? ORDER BY task"
            return [task for (task,) in self._db.execute(query, (ALONE,))]

    def rounds(self) -> list[tuple[str, int]]:
        """(task, round) of all comparisons, in order. Rounds below 0 were imported."""
        with self._reading():
            return self._db.execute("SELECT DISTINCT task, round FROM comparisons ORDER BY task, round").fetchall()

    # --- metrics and checkpoints ---------------------------------------------------------------------

    def log(self, task: str, round: int, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep a step's metrics."""
        # Metrics are read in this order, and a run that is resumed decides by them: also if the clock was set back.
        self._last = now = max(time.time(), self._last + TICK)
        rows = [(task, round, phase, step, name, value, now) for name, value in metrics.items()]
        with self._writing():
            self._keep("metrics", "task, round, phase, step, name, value, at", rows)

    def metrics(self, task: str | None = None, phase: str | None = None) -> list[tuple[str, int, str, int, str, float]]:
        """(task, round, phase, step, name, value), in order."""
        wanted = {"task": task, "phase": phase}
        where = "".join(f" AND {column} = :{column}" for column, value in wanted.items() if value is not None)
        with self._reading():
            return self._db.execute(
                "SELECT task, round, phase, step, name, value FROM metrics"
                f" WHERE 1{where} ORDER BY task, round, at, step",
                wanted,
            ).fetchall()

    def score(self, task: str, round: int, margins: Sequence[Margin]) -> None:
        """Keep what a round's reward model makes of comparisons so far, or later ones; a pair's first margin stays."""
        rows = [(task, round, m.comparison, m.mean, m.std, int(m.heldout)) for m in margins]
        with self._writing():
            self._keep("scores", "task, round, pair, margin, std, held", rows)

    def checkpoint(self, task: str, round: int, part: str, path: str, sha256: str) -> None:
        """Keep where a round's weights are (`part`: reward, agent or candidate), and what they are."""
        with self._writing():
            row = (task, round, part, path, sha256, time.time())
            self._keep("checkpoints", "task, round, part, path, sha256, at", [row])

    def checkpoints(self, task: str) -> dict[tuple[int, str], tuple[str, str]]:
        """(round, part) -> (path, sha256)."""
        with self._reading():
            rows = self._db.execute("SELECT round, part, path, sha256 FROM checkpoints WHERE task = ?", (task,))
            return {(round, part): (path, sha256) for round, part, path, sha256 in rows}

    def note_computed(
        self, task: str, chapter: str, name: str, sha256: str, weights: str, rows: int | None = None,
        put: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Note a file beside the run that holds what was computed of a node's weights (`rrm.trust.shelf`), so that its
        being taken away, or another in its place, shows. The same as the last of this name adds nothing.

        sha256: of the file. weights: what tells the weights from others. rows: how many of its judgements it is of,
        None if it is of the weights alone. put: puts the file there, in the same transaction, so that two commands at
        once write and note in one order; returns whether it lay there already as it is, and if not, it is noted anew.
        """
        with self._writing():
            last = self._db.execute(
                "SELECT nth, sha256 FROM computed WHERE task = ? AND chapter = ? AND name = ? ORDER BY nth DESC",
                (task, chapter, name),
            ).fetchone()
            lay = put is None or put()
            if last is None or last[1] != sha256 or not lay:
                row = (task, chapter, name, 0 if last is None else last[0] + 1, sha256, weights, rows, time.time())
                self._keep("computed", _COLUMNS["computed"], [row])

    def computed(self) -> list[tuple[Any, ...]]:
        """What was noted of files beside the run; whoever is putting one there is waited for."""
        with self._writing():
            columns = "task, chapter, name, nth, sha256, weights, rows"
            return self._db.execute(f"SELECT {columns} FROM computed ORDER BY task, chapter, name, nth").fetchall()

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        with self._reading():
            return {t: self._db.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in TABLES}


def remark_name(side: str, one: Remark, user: str) -> str:
    """What tells a remark apart from others on the same side: also who made it, where no comparison says that."""
    return one.id if side != ALONE or one.by else digest(one.id, user)


def _with_remarks(comparisons: list[Comparison], rows: Sequence[tuple[str, int, str, str, str]]) -> list[Comparison]:
    """The comparisons, each with what was said of its outcomes; rows: (task, round, pair, side, remark)."""
    if not rows:
        return comparisons
    said: dict[tuple[str, int, str], dict[str, list[Remark]]] = {}
    for *where, side, body in rows:
        sides = said.setdefault(tuple(where), {"a": [], "b": []})  # type: ignore[arg-type]
        sides[side].append(_remark.validate_json(body))

    def whole(one: Comparison) -> Comparison:
        found = said.get((one.pair.task, one.round, one.pair.id))
        if found is None:
            return one
        a, b = tuple(found["a"]), tuple(found["b"])
        return replace(one, judgement=replace(one.judgement, remarks_a=a, remarks_b=b))

    return [whole(one) for one in comparisons]


def _comparison(row: Sequence[Any]) -> Comparison:
    (
        task,
        round,
        case,
        a,
        b,
        assistance_a,
        assistance_b,
        user,
        preference,
        checks,
        attention,
        note,
        seconds,
        shown,
        purpose,
        again,
    ) = row
    pair = Pair(
        task, _case.validate_json(case), _outcome.validate_json(a), _outcome.validate_json(b),
        _assistance.validate_json(assistance_a), _assistance.validate_json(assistance_b), again,
    )  # fmt: skip
    assisted = shown != "[]" or not (pair.assistance_a or pair.assistance_b)
    judgement = Judgement(preference, _checks.validate_json(checks), attention, note, assisted)
    return Comparison(pair, judgement, round, user, seconds, purpose)
