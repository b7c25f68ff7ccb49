"""A simulated user who can check only so much, and so judges better or worse as attention is directed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field, PrivateAttr

from rrm.core.errors import Malformed
from rrm.core.judgements import Check, Judgement, Pair
from rrm.core.records import Assistance, Case, Fact, Outcome, digest, unseal
from rrm.core.settings import Explained
from rrm.core.task import Task


class Attention:
    """The meter on the truth: a check costs the fact's price, and may err; what is not paid is not known."""

    def __init__(self, budget: int, error: float, rng: random.Random) -> None:
        self.left = budget
        self.spent = 0
        self._error = error
        self._rng = rng

    def check(self, fact: Fact) -> bool | None:
        """Whether the matter of a fact holds, as far as the user sees; None if it costs more than is left."""
        if fact.price > self.left:
            return None
        self.left -= fact.price
        self.spent += fact.price
        return self._look(fact)

    def _look(self, fact: Fact) -> bool:
        if fact.parts:
            looks = [self._look(part) == part.claims for part in fact.parts]
            return all(looks)
        assert fact.truth is not None, f"fact {fact.name!r} has neither parts nor a truth"
        return unseal(fact.truth) != (self._rng.random() < self._error)


class BoundedUser(Explained):
    """A simulated user who can check only so much (docs/architecture.md).

    Attention goes first where assistants point, cheapest first; the rest is spent on the cheapest facts.
    What was not checked is believed at the rate at which the most telling assistant was right when it was
    checked, or, unassisted, at the prior. The surface moves the judgement too. Nothing here says that
    assistance helps: it helps exactly as much as it directs attention well and earns belief.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    attention: int = Field(default=6, ge=0)
    """Attention for one comparison, in facts; half of it for each outcome (an odd number loses one)."""
    error: float = Field(default=0.02, ge=0, le=0.5)
    """Chance that a look at one fact goes wrong."""
    prior: float = Field(default=0.7, gt=0, lt=1)
    """Belief that a fact nobody checked holds."""
    biases: Mapping[str, float] = Field(default_factory=lambda: {"confident": 0.05, "length": 0.01})
    """How much each surface feature adds to an outcome's perceived value (whose range is 0 to 1)."""
    doubt: float = Field(default=4.0, gt=0)
    """Checked claims it takes for an assistant's record to weigh as much as the prior."""
    spot_checks: float = Field(default=0.1, ge=0, le=1)
    """Chance, per outcome, that attention first goes to a fact picked at random instead."""
    margin: float = Field(default=0.01, ge=0)
    """Perceived values closer than this are a tie."""
    seed: int = 0
    """Decides errors and spot checks, together with the case and the outcome: they repeat in every pair that an outcome
    is in, in whatever order pairs come."""

    _record: Counter[tuple[str, str, bool, bool, bool]] = PrivateAttr(default_factory=Counter)

    def model_post_init(self, context: object) -> None:
        """Begin without a record of anybody."""
        object.__setattr__(self, "_record", Counter())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> BoundedUser:
        """A copy has met nobody yet: what this user learned of assistants is not shared with it."""
        other = super().model_copy(update=update, deep=deep)
        object.__setattr__(other, "_record", Counter())
        return other

    @property
    def name(self) -> str:
        """Its kind, and its attention."""
        return f"bounded(attention={self.attention})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Perceive the value of both, each with half of the attention, and prefer the higher."""
        checks: list[Check] = []
        values, spent = [], 0
        for outcome, assistance in ((pair.a, pair.assistance_a), (pair.b, pair.assistance_b)):
            rng = random.Random(digest(self.seed, pair.case.id, outcome.id))
            meter = Attention(self.attention // 2, self.error, rng)
            values.append(self._value(task, pair.case, outcome, assistance, meter, rng, checks))
            spent += meter.spent
        difference = values[0] - values[1]
        preference = 0.5 if abs(difference) < self.margin else float(difference > 0)
        note = f"{values[0]:.3f} against {values[1]:.3f}"
        judgement = Judgement(preference, tuple(checks), spent, note, margin=difference)
        self.recall(task, judgement)
        return judgement

    def recall(self, task: Task, judgement: Judgement) -> None:
        """Add what was checked to the records of whoever claimed it."""
        self._record.update((task.path, c.by, c.said, c.contested, c.right) for c in judgement.checks)

    def trust(self, task: str, assistant: str, said: bool, contested: bool = False) -> float:
        """Belief that a claim is right: the prior, moved by how often such claims were right when checked.

        Claims that an assistant's own assistants contest have a record of their own: those are seldom checked
        (nobody points at a part that fails), so the uncontested ones' good record says little about them.
        """
        prior = self.prior if said else 1 - self.prior
        right, wrong = (self._record[task, assistant, said, contested, outcome] for outcome in (True, False))
        return (self.doubt * prior + right) / (self.doubt + right + wrong)

    def _value(
        self, task: Task, case: Case, outcome: Outcome, assistance: Sequence[Assistance], meter: Attention,
        rng: random.Random, checks: list[Check],
    ) -> float:  # fmt: skip
        """An outcome's perceived value: the mean over aspects of the mean belief in facts, and surface."""
        try:
            facts = task.facts_of(case, outcome)
        except Malformed:
            return -1.0  # anyone sees at a glance that this is not what was asked for
        claims = claims_of(assistance)
        believed = {
            fact.name: self._believe(task.path, claims.get(fact.name, ())) for fact in facts
        }  # that the matter holds

        def settle(fact: Fact, holds: bool) -> None:
            believed[fact.name] = float(holds)
            checks.extend(_checked(claim, holds) for claim in claims.get(fact.name, ()))

        open_facts = {fact.name: fact for fact in facts}
        if open_facts and rng.random() < self.spot_checks:
            fact = rng.choice(list(open_facts.values()))
            if (holds := meter.check(fact)) is not None:
                settle(open_facts.pop(fact.name), holds)
        sound: set[tuple[str, int | None]] = set()  # parts that were looked at and hold
        refuted: dict[str, set[str]] = defaultdict(set)  # whose accusations of a fact pointed at such a part
        for target, fact, claim in self._accusations(task.path, open_facts, claims):
            if fact.name not in open_facts:
                continue
            holds = True if (fact.name, claim.part) in sound else meter.check(target)
            if holds is None:
                continue
            if target is fact or not holds:  # a part that fails settles the whole
                settle(open_facts.pop(fact.name), holds)
            else:
                checks.append(_checked(claim, True))
                sound.add((fact.name, claim.part))
                refuted[fact.name].add(claim.by)
                left = [c for c in claims[fact.name] if c.by not in refuted[fact.name]]
                believed[fact.name] = self._believe(task.path, left)
        for fact in sorted(open_facts.values(), key=lambda fact: (fact.price, rng.random())):
            if (holds := meter.check(fact)) is not None:
                settle(fact, holds)
        by_aspect: dict[str, list[float]] = {}
        for fact in facts:
            belief = believed[fact.name]
            by_aspect.setdefault(fact.aspect, []).append(belief if fact.claims else 1 - belief)
        value = sum(sum(beliefs) / len(beliefs) for beliefs in by_aspect.values()) / max(1, len(by_aspect))
        surface = task.surface_of(case, outcome)
        return value + sum(self.biases.get(name, 0.0) * amount for name, amount in surface.items())

    def _believe(self, task: str, claims: Iterable[Claim]) -> float:
        """Belief that a matter holds: by the claim whose maker's record moves it furthest from the prior.

        Trust moves belief towards a claim or not at all: who was mostly wrong is ignored, not turned around.
        """
        beliefs = [self.prior]
        for claim in claims:
            trust = self.trust(task, claim.by, claim.holds, claim.contested)
            beliefs.append(max(self.prior, trust) if claim.holds else min(self.prior, 1 - trust))
        return max(beliefs, key=lambda belief: abs(belief - self.prior))

    def _accusations(
        self, task: str, facts: Mapping[str, Fact], claims: Mapping[str, Sequence[Claim]]
    ) -> list[tuple[Fact, Fact, Claim]]:
        """What assistants call wrong, as (what to look at, the fact it is of, the claim): cheapest first,
        then the best record."""
        found: list[tuple[int, float, int, Fact, Fact, Claim]] = []
        for fact in facts.values():
            for claim in claims.get(fact.name, ()):
                if claim.holds:
                    continue
                pointed = claim.part is not None and claim.part < len(fact.parts)
                target = fact.parts[claim.part] if pointed and claim.part is not None else fact
                trust = self.trust(task, claim.by, False, claim.contested)
                found.append((target.price, -trust, len(found), target, fact, claim))
        return [(target, fact, claim) for *_, target, fact, claim in sorted(found, key=lambda row: row[:3])]


@dataclass(frozen=True)
class Claim:
    """What an assistant, somewhere in the tree of assistance, says of a fact's matter."""

    by: str
    holds: bool
    part: int | None
    contested: bool
    """Whether an assistant below it says otherwise."""


def claims_of(assistance: Sequence[Assistance]) -> dict[str, list[Claim]]:
    """Fact name -> who says what of its matter, down the whole tree of assistance."""
    claims: dict[str, list[Claim]] = {}
    for one in assistance:
        for said in one.tree():
            below = {f.fact: f.holds for sub in said.below for under in sub.tree() for f in under.findings}
            for f in said.findings:
                contested = below.get(f.fact, f.holds) != f.holds
                claims.setdefault(f.fact, []).append(Claim(said.assistant, f.holds, f.part, contested))
    return claims


def _checked(claim: Claim, holds: bool) -> Check:
    return Check(claim.by, claim.holds, claim.holds == holds, claim.contested)
