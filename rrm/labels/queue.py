"""The people's questions and labels: `labels.db` in the run folder.

Training asks a round's questions at once; labelers, in any number of processes, claim them, answer, skip and
undo; training takes the round's judgements when all of it is answered. Nothing is updated or deleted except
claims, which are leases and may be lost: an undo is a row that supersedes a label. Every row that a labeler
sends has a key made by the sender, so that sending it again adds nothing.

Several people's labels of one pair make one judgement: the mean of their preferences. The reward model's loss
is linear in the preference, so that is the same as training on each label. What they say of one outcome alone (its
rating, that it is unacceptable) is never averaged.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Case, Outcome, Spans, digest
from rrm.core.remarks import Remark
from rrm.core.task import Drawing, no_pictures, no_spans
from rrm.labels import controls
from rrm.labels.controls import Control, Gold, Mixing, OwnControls
from rrm.labels.questions import (
    STRENGTHS,
    Choice,
    Label,
    LabelError,
    Pictured,
    Question,
    Verdict,
    combine,
    named,
    preference_of,
    said,
)
from rrm.labels.remarking import heard, written
from rrm.labels.rows import (
    LABEL,
    OFFERED,
    QUESTION,
    STANDS,
    Standing,
    body_of,
    exhausted,
    label_of,
    question_of,
    standings,
    take_back,
    within,
)
from rrm.store.database import TICK, Database
from rrm.store.encoding import dumped
from rrm.store.upgrades import LABELS

ASKED = Path("trust", "asked")
"""Where in a run's folder is what an audit asks people (`rrm.trust.auditing`), beside what training asks."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS questions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, round INTEGER NOT NULL,
    pair TEXT NOT NULL, case_id TEXT NOT NULL,
    assistance INTEGER NOT NULL, overlap INTEGER NOT NULL, unassisted REAL NOT NULL, at REAL NOT NULL,
    instruction TEXT NOT NULL, spans TEXT NOT NULL, ask TEXT NOT NULL DEFAULT '',
    body TEXT NOT NULL -- last, so that counting does not read it
);
CREATE TABLE IF NOT EXISTS labels (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, question TEXT NOT NULL,
    labeler TEXT NOT NULL, preference REAL, strength TEXT NOT NULL, swapped INTEGER NOT NULL,
    assisted INTEGER NOT NULL, looked INTEGER NOT NULL, seconds REAL NOT NULL, note TEXT NOT NULL,
    marks TEXT NOT NULL, at REAL NOT NULL, supersedes INTEGER, remarks TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS closed (
    question TEXT PRIMARY KEY, reason TEXT NOT NULL, judgement TEXT NOT NULL, labels TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    question TEXT NOT NULL, labeler TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (question, labeler)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS questions_round ON questions (task, round);
CREATE INDEX IF NOT EXISTS labels_question ON labels (question, labeler);
CREATE INDEX IF NOT EXISTS labels_labeler ON labels (labeler, seq);
CREATE UNIQUE INDEX IF NOT EXISTS labels_supersedes ON labels (supersedes);
CREATE VIEW IF NOT EXISTS current AS
    SELECT * FROM labels l WHERE kind != 'undo' AND NOT EXISTS (SELECT 1 FROM labels u WHERE u.supersedes = l.seq);
CREATE VIEW IF NOT EXISTS open AS
    SELECT * FROM questions q WHERE NOT EXISTS (SELECT 1 FROM closed WHERE closed.question = q.id);
"""
LEASE = 180.0
"""Seconds, at most, for which a claimed question is nobody else's; whoever asks for the next one renews it. A claim
that runs much longer (`FURTHEST`) was made before the clock was set back, and holds nobody up."""
FURTHEST = 2 * LEASE
"""Seconds from now: more than a lease, as the clocks of those who share a run may differ a little."""
_judgement = TypeAdapter(Judgement)


@dataclass(frozen=True)
class Receipt:
    """What became of something sent. It is on the disk now, or was before."""

    status: Literal["kept", "repeated", "known", "nothing"]
    """kept; repeated: the same key again; known: this person has judged this pair already; nothing to undo."""
    question: str = ""
    late: bool = False
    """Training had gone on without it: it is kept, and changes nothing that was trained."""


@dataclass(frozen=True)
class LabelerProgress:
    """Where one person stands. Counts are of open questions: those that training waits for."""

    task: str = ""
    round: int = 0
    asked: int = 0
    answered: int = 0
    """Those with all the labels they need, or all that they will get: see `Labels.take`."""
    left: int = 0
    """Those that this person can still be asked, and the controls that they hold."""
    mine: int = 0
    """Labels and skips of this person in this run, those of controls included, as they cannot tell which these are."""
    judged: int = 0
    """Without the skips."""
    pace: float | None = None
    """Median seconds of this person's latest labels."""


# --- the database ------------------------------------------------------------------------------------


class Labels(Database):
    """The queue and the labels of one run. Safe for several processes and threads at once."""

    def __init__(self, folder: Path | str) -> None:
        tables = ("questions", "labels", "closed", *controls.TABLES)
        super().__init__(Path(folder) / "labels.db", SCHEMA + controls.SCHEMA, tables, LABELS)
        self.mixing: Mixing | None = None
        """What comes in between for whoever is asked through this object."""
        self._first_open = 0
        self._newest = (0, 0.0)
        """The newest label that `take` has seen, and when, by a clock that nobody sets."""

    # --- training's side -----------------------------------------------------------------------------

    def ask(
        self, task: str, round: int, instruction: str, pairs: Sequence[Pair], overlap: int, unassisted: float,
        locate: Callable[[Case, Outcome], Spans] = no_spans,
        draw: Drawing = no_pictures, ask: str = "",
    ) -> list[str]:  # fmt: skip
        """Queue pairs of a round; returns their questions' ids. Asking again adds nothing.

        `locate` says where the facts are in an outcome's text, to show what assistants point at; `draw` gives an
        outcome in pictures, which are kept with the question: who judges needs none of the task's code. `ask`: what
        is asked of each outcome beside which is better, as `Settings.ask` says it.

        What an earlier attempt at this round asked and this one does not (it sampled other outcomes) is
        withdrawn: nobody should judge what nobody waits for.
        """
        with self._reading():
            withdrawn = {
                id for (id,) in self._db.execute("SELECT question FROM closed WHERE reason = 'withdrawn'")
            }
        ids, now = [], time.time()
        for pair in pairs:
            id = digest(round, pair.id)
            while id in withdrawn:  # asked, withdrawn, and now asked after all
                id = digest(id, "again")
            ids.append(id)
        rows = [
            (
                id, task, round, pair.id, pair.case.id, instruction, body_of(pair, Pictured.of(pair, draw)),
                json.dumps([dict(locate(pair.case, outcome)) for outcome in (pair.a, pair.b)]),
                bool(pair.assistance_a or pair.assistance_b), overlap, unassisted, now, ask,
            )
            for id, pair in zip(ids, pairs, strict=True)
        ]  # fmt: skip
        wanted, nothing = set(ids), dumped(_judgement, Judgement(None))
        with self._writing():
            self._db.executemany(
                "INSERT INTO questions (id, task, round, pair, case_id, instruction, body,"
                " spans, assistance, overlap, unassisted, at, ask) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                rows,
            )
            others = self._db.execute("SELECT id FROM open WHERE task = ? AND round = ?", (task, round)).fetchall()
            self._db.executemany(
                "INSERT INTO closed (question, reason, judgement, labels, at) VALUES (?, 'withdrawn', ?, '[]', ?)",
                [(id, nothing, now) for (id,) in others if id not in wanted],
            )
        return ids

    def waiting(self, ids: Sequence[str]) -> int:
        """How many of these questions still lack a label."""
        with self._reading():
            closed = self._closed(ids)
            return sum(not one.settled for one in self._standing([id for id in ids if id not in closed]))

    def taken(self, ids: Sequence[str]) -> dict[str, Judgement] | None:
        """The judgements of a round that was taken before, or None."""
        with self._reading():
            closed = self._closed(ids)
        return closed if len(closed) == len(set(ids)) else None

    def take(self, ids: Sequence[str], grace: float = 0.0) -> dict[str, Judgement] | None:
        """The judgements of a round, once all of it is answered and the last label is `grace` seconds old.

        Taking them closes the questions, for good: the same call again gives the same judgements. A question
        that everybody skipped is an abstention, but only when nobody is left to be asked: everyone who has
        worked on this round has skipped it, as many as `overlap` demands, and nobody has it before them.
        """
        with self._reading():  # most calls find an unfinished round, and need not hold up the labelers
            if not self._ready(ids, grace):
                return None
        with self._writing():
            if not self._ready(ids, grace):
                return None
            taken = self._closed(ids)
            standings = {one.question: one for one in self._standing([id for id in ids if id not in taken])}
            for question in self._questions(list(standings)):
                standing = standings[question.id]
                judgement = combine(question.pair, standing.labels)
                self._db.execute(
                    "INSERT INTO closed (question, reason, judgement, labels, at) VALUES (?, 'judged', ?, ?, ?)",
                    (
                        question.id, dumped(_judgement, judgement),
                        json.dumps([label.seq for label in standing.labels]), self._stamp(question.id),
                    ),
                )  # fmt: skip
                taken[question.id] = judgement
        return {id: taken[id] for id in ids}

    def _ready(self, ids: Sequence[str], grace: float) -> bool:
        taken = self._closed(ids)
        standings = list(self._standing([id for id in ids if id not in taken]))
        people = {label.labeler for standing in standings for label in standing.labels}
        latest = max((label for one in standings for label in one.labels), key=lambda label: label.seq, default=None)
        if latest is not None and self._fresh(latest, grace):
            return False
        return all(standing.settled or standing.exhausted(people) for standing in standings)

    def _fresh(self, label: Label, grace: float) -> bool:
        """Whether a label is less than `grace` seconds old. One from the future is (the clock was set back), for so
        long, that we have not looked at it for so long."""
        if self._newest[0] != label.seq:
            self._newest = label.seq, time.monotonic()
        age = time.time() - label.at
        return age < grace and (age >= 0 or time.monotonic() - self._newest[1] < grace)

    def _stamp(self, question: str) -> float:
        """Now; later than the last label, and than when this question was closed, if the clock was set back."""
        row = self._db.execute(
            "SELECT MAX(COALESCE((SELECT at FROM labels ORDER BY seq DESC LIMIT 1), 0), COALESCE((SELECT at FROM closed"
            f" WHERE question = {STANDS}), 0), COALESCE((SELECT at FROM control_labels ORDER BY seq DESC LIMIT 1), 0))",
            (question,),
        ).fetchone()
        latest: float = row[0]
        return max(time.time(), latest + TICK)

    def _closed(self, ids: Sequence[str]) -> dict[str, Judgement]:
        rows = within(self._db, "SELECT question, judgement FROM closed WHERE question IN", ids)
        return {id: _judgement.validate_json(body) for id, body in rows}

    def _standing(self, ids: Sequence[str]) -> Iterator[Standing]:
        return standings(self._db, ids, FURTHEST)

    def _questions(self, ids: Sequence[str]) -> list[Question]:
        return [question_of(row) for row in within(self._db, f"SELECT {QUESTION} FROM questions WHERE id IN", ids)]

    # --- the labelers' side --------------------------------------------------------------------------

    def claim(self, labeler: str, n: int = 1, lease: float = LEASE) -> list[Question]:
        """The next questions for this person, theirs for `lease` seconds; those they hold already come first.

        Nobody is asked what they have answered or skipped, and no more people at once than `overlap` demands. Controls
        are among them if there is `mixing`.
        """
        labeler = named(labeler)
        with self._writing():
            now = time.time()
            rows = self._db.execute(
                f"SELECT id, held FROM ({OFFERED}) ORDER BY held DESC, seq LIMIT :n",
                {"labeler": labeler, "now": now, "limit": now + FURTHEST, "n": n, "since": self._since()},
            ).fetchall()
            ids = [id for id, _ in rows]
            self._db.executemany(
                "INSERT INTO claims (question, labeler, until) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET until = excluded.until",
                [(id, labeler, now + min(lease, LEASE)) for id in ids],
            )
            if self.mixing is not None:
                controls.give(self._db, labeler, [id for id, held in rows if not held], self.mixing, now)
                ids = controls.mixed(self._db, labeler, ids)[:n]
        found = self.questions(ids)
        return [found[id] if id in found else self.question(id) for id in ids]

    def mix(self, gold: Sequence[Gold], mixing: Mixing) -> None:
        """From now on ask controls in between, these gold questions among them. Raises `LabelError` if these would be
        told from the others."""
        with self._writing():
            controls.check(self._db, gold)
            known = controls.keep(self._db, gold, time.time())
        self.mixing = replace(mixing, known=known)

    def release(self, labeler: str) -> None:
        """Give back what this person holds unanswered."""
        with self._writing():
            self._db.execute("DELETE FROM claims WHERE labeler = ?", (named(labeler),))

    def answer(
        self, key: str, question: str, labeler: str, choice: Choice, strength: str = "clearly",
        seconds: float = 0.0, note: str = "", marks: Mapping[str, Verdict] | None = None, hidden: bool = False,
        remarks: tuple[Sequence[Remark], Sequence[Remark]] = ((), ()),
    ) -> Receipt:  # fmt: skip
        """Keep a person's judgement, for good. `hidden`: they kept the assistance hidden all the time. `remarks`: what
        they say of one outcome alone, of that which was shown first, and of the other (`rrm.labels.remarking`).

        Never refused because it comes late or because a claim has run out. Raises `LabelError` if it means
        nothing.
        """
        labeler, marks = named(labeler), dict(marks or {})
        if strength not in STRENGTHS:
            raise LabelError(f"strength {strength!r}: give one of {', '.join(STRENGTHS)}")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise LabelError(f"seconds {seconds!r}: give the time it took, 0 or more")
        if not 8 <= len(key) <= 100:
            raise LabelError("key: give 8 to 100 characters that no other judgement has, such as a UUID")
        asked = self.question(question)
        table, current = ("labels", "current")
        if isinstance(asked, Control):
            table, current = ("control_labels", "current_controls")
            if asked.labeler != labeler:
                raise LabelError(f"question {question!r} is not for {labeler}; load the page again")
        swapped, assisted = asked.swapped(labeler), asked.assisted(labeler)
        preference = preference_of(choice, strength, swapped)
        unknown = set(marks) - ({one.at for one in said(asked.pair)} if assisted else set())
        if unknown or not set(marks.values()) <= {"yes", "no", "n/a"}:
            raise LabelError(f"marks {marks!r}: give yes, no or n/a for answers that were shown")
        shown = ("b", "a") if swapped else ("a", "b")
        spoken = {
            side: heard(asked.asked, getattr(asked.pair, side), said_of, choice != "skip", f"of {name}")
            for side, said_of, name in zip(shown, remarks, "AB", strict=True)
        }
        with self._writing():
            if (before := self._sent(key)) is not None:
                if before[:2] != (question, labeler):
                    raise LabelError(f"key {key!r} was used for another judgement; give each its own")
                return Receipt("repeated", question, self._is_closed(question, before[2]))
            if self._db.execute(
                f"SELECT 1 FROM {current} WHERE question = ? AND labeler = ?", (question, labeler)
            ).fetchone():
                return Receipt("known", question)
            late = self._is_closed(question)
            self._db.execute(
                f"INSERT INTO {table} (key, kind, question, labeler, preference, strength, swapped, assisted, looked,"
                " seconds, note, marks, at, remarks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key, "skip" if choice == "skip" else "label", question, labeler, preference, strength, swapped,
                    assisted, assisted and not hidden, seconds, note, json.dumps(marks, sort_keys=True),
                    self._stamp(question), written((spoken["a"], spoken["b"])),
                ),
            )  # fmt: skip
            self._db.execute("DELETE FROM claims WHERE question = ? AND labeler = ?", (question, labeler))
        return Receipt("kept", question, late)

    def undo(self, key: str, labeler: str, target: str | None = None) -> Receipt:
        """Take back this person's label with the key `target`, or their latest; the question is theirs again.

        If training has used it already, that is recorded and said (`late`), and the question stays closed.
        """
        labeler = named(labeler)
        with self._writing():
            if (before := self._sent(key)) is not None:
                return Receipt("repeated", before[0], self._is_closed(before[0], before[2]))
            latest = "SELECT at, seq, question, '{0}' FROM {1} WHERE labeler = ?1 AND (?2 IS NULL OR key = ?2)"
            rows = [
                self._db.execute(f"{latest} ORDER BY seq DESC LIMIT 1".format(*where), (labeler, target)).fetchone()
                for where in (("labels", "current"), ("control_labels", "current_controls"))
            ]
            if rows == [None, None]:
                return Receipt("nothing")
            _, seq, question, table = max(row for row in rows if row is not None)
            late, now = self._is_closed(question), time.time()
            take_back(self._db, table, key, question, labeler, self._stamp(question), seq)
            if not late and table == "labels":
                self._db.execute(
                    "INSERT OR REPLACE INTO claims (question, labeler, until) VALUES (?, ?, ?)",
                    (question, labeler, now + LEASE),
                )
        return Receipt("kept", question, late)

    def _since(self) -> int:
        """The first open question's place: none before it opens again, so years of closed ones cost nothing."""
        (self._first_open,) = self._db.execute(
            "SELECT COALESCE((SELECT MIN(seq) FROM open WHERE seq >= ?),"
            " (SELECT COALESCE(MAX(seq), 0) + 1 FROM questions))",
            (self._first_open,),
        ).fetchone()
        return self._first_open

    def _sent(self, key: str) -> tuple[str, str, float] | None:
        row = self._db.execute(
            "SELECT question, labeler, at FROM labels WHERE key = ?1"
            " UNION ALL SELECT question, labeler, at FROM control_labels WHERE key = ?1",
            (key,),
        ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def _is_closed(self, question: str, before: float | None = None) -> bool:
        """Whether training has taken it, or what it is asked before; with `before`, whether it had at that time."""
        row = self._db.execute(f"SELECT at FROM closed WHERE question = {STANDS}", (question,)).fetchone()
        return row is not None and (before is None or row[0] <= before)

    # --- reading -------------------------------------------------------------------------------------

    def question(self, id: str) -> Question:
        """A question, or a control. Raises `LabelError` if there is none such."""
        with self._reading():
            row = self._db.execute(f"SELECT {QUESTION} FROM questions WHERE id = ?", (id,)).fetchone()
            control = controls.control_of(self._db, id) if row is None else None
        if control is not None:
            return control
        if row is None:
            raise LabelError(f"no question {id!r} in {self.path}; load the page again")
        return question_of(row)

    def questions(self, ids: Sequence[str]) -> dict[str, Question]:
        """Id -> question; ids that are not known are left out."""
        with self._reading():
            return {question.id: question for question in self._questions(ids)}

    def cases(self) -> dict[str, str]:
        """Question -> the id of its case."""
        with self._reading():
            return dict(self._db.execute("SELECT id, case_id FROM questions").fetchall())

    def pairs(self) -> dict[str, tuple[str, str]]:
        """Question -> (task, the id of its pair)."""
        with self._reading():
            rows = self._db.execute("SELECT id, task, pair FROM questions").fetchall()
        return {id: (task, pair) for id, task, pair in rows}

    def labels(self, drawn: bool = False) -> list[Label]:
        """Labels and skips that stand, in the order they came.

        `drawn`: only where there was assistance, so that a draw decided whether the person saw it.
        """
        where = "WHERE question IN (SELECT id FROM questions WHERE assistance)" if drawn else ""
        with self._reading():
            rows = self._db.execute(f"SELECT {LABEL} FROM current {where} ORDER BY seq").fetchall()
        return [label_of(row) for row in rows]

    def progress(self, labeler: str) -> LabelerProgress:
        """Where this person stands. `task` and `round` are those of the oldest open question."""
        labeler = named(labeler)
        with self._reading():
            now = time.time()
            values = {"labeler": labeler, "now": now, "limit": now + FURTHEST, "since": self._since()}
            head = self._db.execute(
                "SELECT task, round FROM open WHERE seq >= :since ORDER BY seq LIMIT 1", values
            ).fetchone()
            asked, answered = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM((SELECT COUNT(*) FROM current l WHERE l.question = q.id"
                " AND l.kind = 'label') >= q.overlap), 0) FROM open q WHERE q.seq >= :since",
                values,
            ).fetchone()
            (left,) = self._db.execute(f"SELECT COUNT(*) FROM ({OFFERED})", values).fetchone()
            times = self._db.execute(
                "SELECT seconds FROM current WHERE labeler = ? AND kind = 'label' ORDER BY seq DESC LIMIT 20",
                (labeler,),
            ).fetchall()
            answered += exhausted(self._db, self._since(), FURTHEST)
            mine, judged = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM(kind = 'label'), 0) FROM (SELECT kind FROM current WHERE labeler = ?1"
                " UNION ALL SELECT kind FROM current_controls WHERE labeler = ?1)",
                (labeler,),
            ).fetchone()
            if self.mixing is not None:
                left += len(controls.pending(self._db, labeler))
        pace = sorted(seconds for (seconds,) in times)[len(times) // 2] if times else None
        task, round = head or ("", 0)
        return LabelerProgress(task, round, asked, answered, left, mine, judged, pace)

    def controlled(self) -> Mapping[str, OwnControls]:
        """Labeler -> how they judged gold questions, and pairs shown twice."""
        with self._reading():
            return controls.results(self._db)

    def withdrawn_late(self) -> int:
        """Labels taken back after training had used them."""
        with self._reading():
            row = self._db.execute(
                "SELECT COUNT(*) FROM labels u JOIN closed c ON c.question = u.question"
                " WHERE u.kind = 'undo' AND c.reason = 'judged' AND u.at >= c.at"
            ).fetchone()
        return int(row[0])
