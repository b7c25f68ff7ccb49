"""Controls: what is asked of a person to learn how they judge, in between what training asks, and looking like it.

Gold questions are pairs of which it is known which outcome is better; repeats are pairs that this person has judged,
shown again with A and B in the other places. They have tables of their own, which nothing that trains reads: no label
of theirs is in a judgement, in a round's progress, or in the agreement between people. Which question has a control
before it is drawn, by the question and the person, and kept with the claim: a killed server asks the same again.

Functions here take the open database of `rrm.labels.queue.Labels`, inside of its transactions.
"""

from __future__ import annotations

import math
import random
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter

from rrm.core.errors import Notice
from rrm.core.judgements import Pair
from rrm.core.records import digest
from rrm.labels.questions import LabelError, Pictured, Question, side
from rrm.labels.rows import QUESTION, body_of, question_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS gold (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, better REAL NOT NULL,
    assistance INTEGER NOT NULL, at REAL NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS controls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, labeler TEXT NOT NULL,
    before TEXT NOT NULL, what TEXT NOT NULL, swapped INTEGER NOT NULL, assisted INTEGER NOT NULL, at REAL NOT NULL,
    UNIQUE (labeler, before), UNIQUE (labeler, what)
);
CREATE TABLE IF NOT EXISTS control_labels (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, question TEXT NOT NULL,
    labeler TEXT NOT NULL, preference REAL, strength TEXT NOT NULL, swapped INTEGER NOT NULL,
    assisted INTEGER NOT NULL, looked INTEGER NOT NULL, seconds REAL NOT NULL, note TEXT NOT NULL,
    marks TEXT NOT NULL, at REAL NOT NULL, supersedes INTEGER, remarks TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS control_labels_question ON control_labels (question);
CREATE UNIQUE INDEX IF NOT EXISTS control_labels_supersedes ON control_labels (supersedes);
CREATE VIEW IF NOT EXISTS current_controls AS SELECT * FROM control_labels l WHERE kind != 'undo'
    AND NOT EXISTS (SELECT 1 FROM control_labels u WHERE u.supersedes = l.seq);
"""
"""In `controls`, `before` is the question it comes before, and `what` the gold pair, or the question it repeats."""
TABLES = ("gold", "controls", "control_labels")
MOST = 0.5
"""Of what a person is shown, the most that may be controls."""
SPACING = 10
"""Judgements, at least, between a pair and its repeat: who remembers what they said has not judged twice."""
LOOKED = 100
"""Questions of a node, the newest, that gold ones are held against before they are mixed in."""
_pair = TypeAdapter(Pair)


@dataclass(frozen=True)
class Gold:
    """A pair, at the node `pair.task`, and the right preference for its A: 1, 0, or 0.5 for a tie."""

    pair: Pair
    better: float

    @property
    def id(self) -> str:
        """The same pair with another answer is another gold question."""
        return digest("gold", self.pair.id, self.better)


@dataclass(frozen=True)
class Mixing:
    """What comes in between what training asks. Raises `LabelError` for shares that cannot be."""

    gold: float = 0.0
    """The share of what a person is shown that are gold questions, on average and while there are any left for them."""
    repeats: float = 0.0
    """The share that are repeats, likewise."""
    spacing: int = SPACING
    known: tuple[str, ...] = ()
    """The gold questions to choose from, by `Gold.id`."""

    def __post_init__(self) -> None:
        if not (self.gold >= 0 and self.repeats >= 0 and self.gold + self.repeats <= MOST):
            raise LabelError(
                f"gold questions at a share of {self.gold}, repeats at {self.repeats}: give shares of 0 or more, "
                f"together at most {MOST}"
            )

    def drawn(self, question: str, labeler: str) -> str:
        """What comes before a question: "gold", "repeat", or nothing. Always the same for the same person."""
        at, rest = random.Random(digest("control", question, labeler)).random(), 1 - self.gold - self.repeats
        return "gold" if at < self.gold / rest else "repeat" if at < (self.gold + self.repeats) / rest else ""


@dataclass(frozen=True)
class Control(Question):
    """A control as it is shown: the pair's, in the place of the question that it comes before."""

    labeler: str = ""
    """Whose it is: nobody else is asked."""
    turned: bool = False
    helped: bool = False
    beside: bool = False
    """Whether there is, or seems to be, assistance: the question that a gold one comes before may have some."""

    def swapped(self, labeler: str) -> bool:
        """Whether B is shown first: of a repeat, what was not."""
        return self.turned

    def assisted(self, labeler: str) -> bool:
        """Whether the assistance is shown: with a repeat, as it was."""
        return self.helped

    @property
    def assistable(self) -> bool:
        """See `Question.assistable`."""
        return self.beside


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    right: int
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "none yet"
        low, high = wilson(self.right, self.n)
        return f"{self.right} of {self.n} (95 % interval {low:.2f} to {high:.2f})"


@dataclass(frozen=True)
class OwnControls:
    """How one person judged their controls; skips are left out."""

    gold: Share
    """On the right side: A, B, or a tie."""
    repeats: Share
    """On the same side both times."""

    def lines(self, name: str) -> list[str]:
        """In words."""
        gold = [f"{name}, gold questions: right on {self.gold}"] if self.gold.n else []
        again = f"{name}, pairs shown twice, A and B exchanged: the same both times on {self.repeats}"
        return gold + ([again] if self.repeats.n else [])


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, which holds for few, too); n is 1 or more."""
    z, share = 1.959964, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


# --- asking ------------------------------------------------------------------------------------------


def keep(db: Any, gold: Sequence[Gold], now: float) -> tuple[str, ...]:
    """Keep gold questions; those that are there are there, and of a pair the newest counts. Returns their ids."""
    newest = {pair: (id, better) for id, pair, better in _known(db)}
    ids = []
    for one in gold:
        id, better = newest.get(one.pair.id, ("", math.nan))
        if better != one.better:
            id = one.id
            while db.execute("SELECT 1 FROM gold WHERE id = ?", (id,)).fetchone():  # it was right once before
                id = digest(id, "again")
            db.execute(
                "INSERT INTO gold (id, task, better, assistance, at, body) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    id, one.pair.task, one.better, bool(one.pair.assistance_a or one.pair.assistance_b), now,
                    body_of(one.pair, Pictured()),
                ),
            )  # fmt: skip
            newest[one.pair.id] = id, one.better
        ids.append(id)
    return tuple(ids)


def _known(db: Any) -> list[tuple[str, str, float]]:
    """(gold question, its pair, the right preference), the newest last."""
    rows = db.execute("SELECT id, body, better FROM gold ORDER BY seq").fetchall()
    return [(id, _pair.validate_json(body).id, better) for id, body, better in rows]


def check(db: Any, gold: Sequence[Gold]) -> None:
    """Raise `LabelError` for a gold question that would be told from its node's, as far as these are there."""
    for task in dict.fromkeys(one.pair.task for one in gold):
        rows = db.execute(
            f"SELECT {QUESTION} FROM questions WHERE task = ? ORDER BY seq DESC LIMIT ?", (task, LOOKED)
        ).fetchall()
        for question in map(question_of, rows):
            for one in gold:
                if one.pair.task == task and (why := unlike(question, one.pair)):
                    raise LabelError(
                        f"gold questions at {task} would be told from the others: {why}. None is asked; leave "
                        "them out, and ask pairs again (--repeats), which look as they did"
                    )


def unlike(question: Question, gold: Pair) -> str:
    """What would tell a gold pair from this question, as what the task's code adds to one is in no file of pairs; empty
    if they look alike."""
    if question.drawn != Pictured().drawn:
        return "these have pictures (Task.drawing), and gold pairs have none"
    if any(question.spans) and (gold.assistance_a or gold.assistance_b):
        return (
            "in these, places that assistants point at are lit up (Task.locate), and in gold pairs with assistance "
            "none; give rows without assistance"
        )
    if any(one.data is not None for one in (question.pair.a, question.pair.b)) and gold.a.data is gold.b.data is None:
        return "the outcomes of these are data (an episode, a move), and those of gold pairs are text alone"
    return ""


def give(db: Any, labeler: str, questions: Sequence[str], mixing: Mixing, now: float) -> None:
    """Draw which of these questions, which this person is asked for the first time, a control comes before."""
    for before in questions:
        kind = mixing.drawn(before, labeler)
        found = None
        if kind == "gold":
            found = _gold(db, labeler, before, mixing.known)
        elif kind == "repeat":
            found = _repeat(db, labeler, before, mixing.spacing)
        if found is not None:
            db.execute(
                "INSERT INTO controls (id, kind, labeler, before, what, swapped, assisted, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (secrets.token_hex(8), kind, labeler, before, *found, now),
            )


def _gold(db: Any, labeler: str, before: str, known: Sequence[str]) -> tuple[str, bool, bool] | None:
    """A gold question, of a pair that this person was not asked as one, at the node of `before`, and looking like it;
    how it is shown is drawn."""
    rows = db.execute(
        "SELECT g.id, g.assistance, g.body FROM gold g JOIN questions q ON q.task = g.task WHERE q.id = ?"
        " AND NOT EXISTS (SELECT 1 FROM controls c WHERE c.labeler = ? AND c.what = g.id)",
        (before, labeler),
    ).fetchall()
    wanted = {*known}
    left = sorted((row for row in rows if row[0] in wanted), key=lambda row: digest(labeler, row[0]))
    if not left:
        return None
    said = "SELECT g.body FROM controls c JOIN gold g ON g.id = c.what WHERE c.labeler = ?"
    asked = {_pair.validate_json(body).id for (body,) in db.execute(said, (labeler,))}
    place, why = _question(db, before), ""
    for id, assistance, body in left:
        pair = _pair.validate_json(body)
        if pair.id in asked:
            continue
        if why := unlike(place, pair):
            continue
        rng = random.Random(digest("shown", id, labeler))
        return id, rng.random() < 0.5, bool(assistance) and rng.random() >= place.unassisted
    if why:
        warnings.warn(f"{place.task}: gold questions are not asked, as they would be told: {why}", Notice, stacklevel=2)
    return None


def _repeat(db: Any, labeler: str, before: str, spacing: int) -> tuple[str, bool, bool] | None:
    """A pair that this person judged at the node of `before`, with others since, and was not shown twice; in the other
    order, and with the assistance as it was."""
    rows = db.execute(
        "SELECT l.question, l.swapped, l.assisted FROM (SELECT * FROM current WHERE labeler = ?1 AND kind = 'label'"
        " ORDER BY seq DESC LIMIT -1 OFFSET ?3) l JOIN questions q ON q.id = l.question"
        " WHERE q.task = (SELECT task FROM questions WHERE id = ?2)"
        " AND NOT EXISTS (SELECT 1 FROM controls c WHERE c.labeler = ?1 AND c.what = l.question)",
        (labeler, before, spacing),
    ).fetchall()
    if not rows:
        return None
    id, swapped, assisted = min(rows, key=lambda row: digest(labeler, row[0]))
    return id, not swapped, bool(assisted)


def mixed(db: Any, labeler: str, held: Sequence[str]) -> list[str]:
    """The questions a person holds, with the controls they have not answered each before its own. One whose question is
    answered already (it was undone, or somebody else was quicker) comes first, until training has taken that."""
    open_ = pending(db, labeler)
    out = [id for id, before in open_ if before not in held]
    for question in held:
        out += [id for id, before in open_ if before == question] + [question]
    return out


def pending(db: Any, labeler: str) -> list[tuple[str, str]]:
    """This person's controls that are not answered: (id, the question it comes before). Once training has that, nobody
    is asked it any more, and so nobody the control."""
    rows = db.execute(
        "SELECT id, before FROM controls c WHERE labeler = ?"
        " AND NOT EXISTS (SELECT 1 FROM closed WHERE closed.question = c.before)"
        " AND NOT EXISTS (SELECT 1 FROM current_controls l WHERE l.question = c.id) ORDER BY seq",
        (labeler,),
    ).fetchall()
    return [(id, before) for id, before in rows]


def control_of(db: Any, id: str) -> Control | None:
    """A control as it is shown, with all that is the same for the question it comes before; None if there is none."""
    row = db.execute(
        "SELECT kind, labeler, before, what, swapped, assisted FROM controls WHERE id = ?", (id,)
    ).fetchone()
    if row is None:
        return None
    kind, labeler, before, what, swapped, assisted = row
    place = _question(db, before)
    shown: dict[str, Any] = {one.name: getattr(place, one.name) for one in fields(Question)} | {"id": id}
    if kind == "repeat":
        again = _question(db, what)
        shown |= {name: getattr(again, name) for name in ("pair", "spans", "drawn", "instruction", "ask")}
        beside = again.assistable
    else:
        (body,) = db.execute("SELECT body FROM gold WHERE id = ?", (what,)).fetchone()
        shown |= {"pair": _pair.validate_json(body), "spans": ({}, {}), "drawn": Pictured().drawn}
        beside = place.assistable
    return Control(**shown, labeler=labeler, turned=bool(swapped), helped=bool(assisted), beside=beside)


def _question(db: Any, id: str) -> Question:
    return question_of(db.execute(f"SELECT {QUESTION} FROM questions WHERE id = ?", (id,)).fetchone())


# --- what came of it ---------------------------------------------------------------------------------


def results(db: Any) -> Mapping[str, OwnControls]:
    """Labeler -> how they judged their controls; only who judged one. Of a pair that was given as gold with several
    answers, one after the other, the newest is right."""
    said = "FROM current_controls l JOIN controls c ON c.id = l.question"
    gold = db.execute(
        f"SELECT l.labeler, l.preference, c.what {said} WHERE c.kind = 'gold' AND l.kind = 'label'"
    ).fetchall()
    repeats = db.execute(
        f"SELECT l.labeler, l.preference, o.preference {said}"
        " JOIN current o ON o.question = c.what AND o.labeler = l.labeler AND o.kind = 'label'"
        " WHERE c.kind = 'repeat' AND l.kind = 'label'"
    ).fetchall()
    rows = _known(db) if gold else []
    newest = {pair: better for _, pair, better in rows}  # a file that was put right is right about what was judged, too
    right = {id: newest[pair] for id, pair, _ in rows}
    known = _shares([(name, given, right[what]) for name, given, what in gold])
    again = _shares(repeats)
    none = Share(0, 0)
    return {
        name: OwnControls(known.get(name, none), again.get(name, none)) for name in sorted({*known, *again})
    }


def _shares(given: Sequence[tuple[str, float, float]]) -> dict[str, Share]:
    """Of (labeler, preference, the one it is held against): labeler -> how many are on the same side."""
    same: dict[str, list[bool]] = {}
    for name, one, other in given:
        same.setdefault(name, []).append(side(one) == side(other))
    return {name: Share(sum(found), len(found)) for name, found in same.items()}
