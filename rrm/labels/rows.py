"""Rows of `labels.db` as questions and labels, and what may be asked of whom."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from rrm.core.judgements import Pair
from rrm.core.records import Spans
from rrm.labels.questions import Label, Pictured, Question
from rrm.labels.remarking import read
from rrm.store.encoding import dumped

_pair, _spans, _pictured = TypeAdapter(Pair), TypeAdapter(tuple[Spans, Spans]), TypeAdapter(Pictured)

QUESTION = "id, task, round, instruction, body, spans, overlap, unassisted, ask"
LABEL = (
    "seq, key, question, labeler, preference, strength, swapped, assisted, looked, seconds, note, marks, at,"
    " remarks"
)
OFFERED = """
    SELECT q.id, q.seq,
      EXISTS (SELECT 1 FROM claims c WHERE c.question = q.id AND c.labeler = :labeler AND c.until > :now
        AND c.until <= :limit) held
    FROM open q WHERE q.seq >= :since
    AND NOT EXISTS (SELECT 1 FROM current l WHERE l.question = q.id AND l.labeler = :labeler)
    AND (SELECT COUNT(*) FROM current l WHERE l.question = q.id AND l.kind = 'label')
      + (SELECT COUNT(*) FROM claims c WHERE c.question = q.id AND c.labeler != :labeler AND c.until > :now
        AND c.until <= :limit)
      < q.overlap
"""
"""What may be asked of a person, those that they hold marked. A claim that runs beyond `limit` was made before the
clock was set back: it holds no more."""

STANDS = "COALESCE((SELECT before FROM controls WHERE id = ?1), ?1)"
"""Of a control the question that it comes before, of a question itself."""


@dataclass(frozen=True)
class Standing:
    """A question and what was said of it so far."""

    question: str
    overlap: int
    labels: tuple[Label, ...]
    claimed: bool

    @property
    def settled(self) -> bool:
        """As many have judged it as should."""
        return sum(label.preference is not None for label in self.labels) >= self.overlap

    def exhausted(self, people: set[str]) -> bool:
        """Nobody is left to ask: everyone at work on the round has answered, and somebody skipped."""
        answered = {label.labeler for label in self.labels}
        skipped = any(label.preference is None for label in self.labels)
        return skipped and not self.claimed and answered >= people and len(answered) >= self.overlap


def within(db: Any, query: str, ids: Sequence[str]) -> Iterator[Any]:
    """Rows of a query that ends in "IN", however many ids there are."""
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        yield from db.execute(f"{query} ({','.join('?' * len(some))})", some).fetchall()


def standings(db: Any, ids: Sequence[str], furthest: float) -> Iterator[Standing]:
    """What was said of these questions. A claim that runs more than `furthest` seconds from now holds nobody up."""
    by_question: dict[str, list[Label]] = {}
    for row in within(db, f"SELECT {LABEL} FROM current WHERE question IN", ids):
        label = label_of(row)
        by_question.setdefault(label.question, []).append(label)
    now = time.time()
    claims = within(db, "SELECT question, until FROM claims WHERE question IN", ids)
    claimed = {id for id, until in claims if now < until <= now + furthest}
    for id, overlap in within(db, "SELECT id, overlap FROM questions WHERE id IN", ids):
        labels = sorted(by_question.get(id, ()), key=lambda label: label.seq)
        yield Standing(id, overlap, tuple(labels), id in claimed)


def exhausted(db: Any, since: int, furthest: float) -> int:
    """Of the open questions from this number on, those that lack labels and of which nobody is left to be asked."""
    said = "FROM open q JOIN current l ON l.question = q.id WHERE q.seq >= ?"
    skipped = {
        id: (task, round)
        for id, task, round in db.execute(f"SELECT q.id, q.task, q.round {said} AND l.kind = 'skip'", (since,))
    }
    if not skipped:
        return 0
    people: dict[tuple[str, int], set[str]] = {}
    for task, round, name in db.execute(f"SELECT DISTINCT q.task, q.round, l.labeler {said}", (since,)):
        people.setdefault((task, round), set()).add(name)
    found = standings(db, [*skipped], furthest)
    return sum(not one.settled and one.exhausted(people[skipped[one.question]]) for one in found)


def body_of(pair: Pair, pictured: Pictured) -> str:
    """A pair as JSON, with its pictures beside what it has itself, if there are any."""
    body = dumped(_pair, pair)
    return body if pictured == Pictured() else json.dumps(json.loads(body) | _pictured.dump_python(pictured))


def question_of(row: Sequence[Any]) -> Question:
    """The question of a row of `QUESTION`."""
    id, task, round, instruction, body, spans, overlap, unassisted, ask = row
    return Question(
        id, task, round, instruction, _pair.validate_json(body), _spans.validate_json(spans), overlap, unassisted,
        _pictured.validate_json(body).drawn, ask,
    )  # fmt: skip


def label_of(row: Sequence[Any]) -> Label:
    """The label of a row of `LABEL`."""
    (seq, key, question, labeler, preference, strength, swapped, assisted, looked, seconds, note, marks, at,
     remarks) = row  # fmt: skip
    return Label(
        seq, key, question, labeler, preference, strength, bool(swapped), bool(assisted), bool(looked), seconds,
        note, json.loads(marks), at, *read(remarks),
    )  # fmt: skip


def take_back(db: Any, table: str, key: str, question: str, labeler: str, at: float, seq: int) -> None:
    """Supersede a label, the one of this number, of `labels` or `control_labels`."""
    db.execute(
        f"INSERT INTO {table} (key, kind, question, labeler, preference, strength, swapped, assisted, looked,"
        " seconds, note, marks, at, supersedes) VALUES (?, 'undo', ?, ?, NULL, '', 0, 0, 0, 0, '', '{}', ?, ?)",
        (key, question, labeler, at, seq),
    )
