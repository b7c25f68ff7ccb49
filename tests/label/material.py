"""Pairs with assistance for the labeling tests; nothing here needs a model."""

from __future__ import annotations

from rrm import Case, Finding, Outcome
from rrm.core.judgements import Pair
from rrm.core.records import Answer, Assistance


def answer(fact: str, holds: bool, below: tuple[Assistance, ...] = ()) -> Answer:
    return Answer(Case(f"is {fact} right?"), Outcome(f"{fact} says it"), (Finding(fact, holds),), 0.75, below)


def assistance(side: str, holds: bool = True) -> tuple[Assistance, ...]:
    """proofs, contested by steps below it; novelty, who has nothing to say."""
    steps = Assistance("t/proofs/steps", "s1", (answer(f"{side}1", not holds),))
    return (Assistance("t/proofs", "p1", (answer(f"{side}1", holds, (steps,)),)), Assistance("t/novelty", "n1", ()))


def pair(i: int, assisted: bool = True, text: str = "outcome") -> Pair:
    shown = (assistance("a"), assistance("b", False)) if assisted else ((), ())
    return Pair("t", Case(f"case {i}", {"n": i}), Outcome(f"{text} {i} A"), Outcome(f"{text} {i} B"), *shown)
