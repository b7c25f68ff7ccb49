"""What assistants claim of an outcome's facts, and what a claim rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rrm.core.records import Answer, Assistance, Fact


@dataclass(frozen=True)
class Way:
    """Where one begins to follow a claim down: the answer, of an assistant of the task itself, that makes it or that it
    was said of."""

    by: str
    answer: Answer


@dataclass(frozen=True)
class Claim:
    """What an assistant, somewhere in the tree of assistance, says of a fact's matter."""

    by: str
    holds: bool
    part: int | None
    contested: bool
    """Whether an assistant below it says otherwise."""
    way: Way = field(compare=False, repr=False)


def claims_of(assistance: Sequence[Assistance]) -> dict[str, list[Claim]]:
    """Fact name -> who says what of its matter, down the whole tree of assistance."""
    claims: dict[str, list[Claim]] = {}
    for one in assistance:
        for said, way in _ways(one):
            below = {f.fact: f.holds for sub in said.below for under in sub.tree() for f in under.findings}
            for answer in said.answers:
                for f in answer.findings:
                    contested = below.get(f.fact, f.holds) != f.holds
                    claim = Claim(said.assistant, f.holds, f.part, contested, way or Way(one.assistant, answer))
                    claims.setdefault(f.fact, []).append(claim)
    return claims


def _ways(one: Assistance) -> Iterator[tuple[Assistance, Way | None]]:
    """`Assistance.tree`, each with the answer of `one` that it was said of; None for `one` itself."""
    yield one, None
    for answer in one.answers:
        for sub in answer.below:
            for said in sub.tree():
                yield said, Way(one.assistant, answer)


def rests_on(finding: str, facts: Mapping[str, Fact]) -> tuple[Fact, ...]:
    """The facts of an answer that its finding about the fact `finding` rests on: the one of that name, or else all."""
    return (facts[finding],) if finding in facts else tuple(facts.values())
