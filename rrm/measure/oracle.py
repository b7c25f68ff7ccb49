"""The exact truth about outcomes. Only `rrm.measure` may import this, or `rrm.core.records.unseal`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rrm.core.errors import Malformed, RRMError
from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Case, Fact, Outcome, unseal, worth
from rrm.core.task import Task


def matter(fact: Fact) -> bool:
    """Whether the matter of a fact holds: its own truth, or all of its parts."""
    if fact.parts:
        return all(is_true(part) for part in fact.parts)
    assert fact.truth is not None, f"fact {fact.name!r} has neither parts nor a truth"
    return unseal(fact.truth)


def is_true(fact: Fact) -> bool:
    """Whether what a fact claims of its matter is so."""
    return matter(fact) == fact.claims


def share_true(facts: Iterable[Fact]) -> float:
    """The share of facts that are true."""
    truths = [is_true(fact) for fact in facts]
    return sum(truths) / len(truths)


def aspects(facts: Sequence[Fact]) -> dict[str, float]:
    """The share of true facts per aspect."""
    by: dict[str, list[bool]] = {}
    for fact in facts:
        by.setdefault(fact.aspect, []).append(is_true(fact))
    return {aspect: sum(truths) / len(truths) for aspect, truths in by.items()}


def score(facts: Sequence[Fact]) -> float:
    """The true score of an outcome: the mean over its aspects of the share of facts that are true."""
    if not facts:
        raise RRMError("an outcome has no facts, so there is no truth to measure against; its task needs facts=...")
    return worth((fact.aspect, is_true(fact)) for fact in facts)


class OracleUser:
    """A user who sees the whole truth at once: the ceiling. Only for measuring."""

    name = "oracle"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Prefers the higher true score, without doubt; equal ones are a tie. What does not parse is worst."""
        a, b = (true_score(task, pair.case, outcome) for outcome in (pair.a, pair.b))
        return Judgement(0.5 if abs(a - b) < 1e-9 else float(a > b), note=f"{a:.3f} against {b:.3f}")

    def recall(self, task: Task, judgement: Judgement) -> None:
        """It learns nothing."""


def true_score(task: Task, case: Case, outcome: Outcome) -> float:
    """The true score of an outcome; -1 for one that does not parse, below every one that does. Of a part of an outcome
    it is that of the facts which lie in it."""
    try:
        return score(task.facts_of(case, outcome))
    except Malformed:
        return -1.0
