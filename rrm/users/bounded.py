"""A simulated user who can check only so much, and so judges better or worse as attention is directed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr

from rrm.core.errors import Malformed
from rrm.core.judgements import Check, Judgement, Pair
from rrm.core.parts import asked_alone
from rrm.core.records import Assistance, Case, Fact, Outcome, digest, unseal
from rrm.core.remarks import Kind, Remark
from rrm.core.settings import Explained
from rrm.core.task import Task
from rrm.users.claims import Claim, claims_of, rests_on
from rrm.users.descent import Descent, Standing


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

    def read(self, price: int) -> bool:
        """Pay for reading an answer, unless nothing would be left to check it with; whether it was read."""
        if price >= self.left:
            return False
        self.left -= price
        self.spent += price
        return True

    def _look(self, fact: Fact) -> bool:
        if fact.parts:
            looks = [self._look(part) == part.claims for part in fact.parts]
            return all(looks)
        assert fact.truth is not None, f"fact {fact.name!r} has neither parts nor a truth"
        return unseal(fact.truth) != (self._rng.random() < self._error)


@dataclass(frozen=True)
class View:
    """An outcome as a bounded user sees it: perceived value, which facts were looked at and found wrong, and whether it
    is believed to be unacceptable (None: of an outcome without form, or where the task says of nothing that it is)."""

    value: float
    wrong: tuple[str, ...] = ()
    unacceptable: bool | None = None

    def remarks(self, asked: Mapping[Kind, int], prior: float) -> tuple[Remark, ...]:
        """What is said of it, of the kinds that are asked for. A rating is the value's share of the levels; what is
        worth at least the prior is approved, as something is that nobody looked at; the note names what was found
        wrong. Nobody simulated writes corrections."""
        found: list[Remark] = []
        for kind, levels in asked.items():
            if kind == "rating":
                found.append(Remark(kind, float(min(levels, max(1, 1 + int(self.value * levels)))), levels))
            elif kind == "approval":
                found.append(Remark(kind, float(self.value >= prior)))
            elif kind == "unacceptable" and self.unacceptable is not None:
                found.append(Remark(kind, float(self.unacceptable)))
            elif kind == "note" and self.wrong:
                found.append(Remark(kind, text=f"wrong: {', '.join(self.wrong)}"))
        return tuple(found)


class BoundedUser(Explained):
    """A simulated user who can check only so much (docs/architecture.md).

    Attention goes first where assistants point, cheapest first; the rest is spent on the cheapest facts.
    What was not checked is believed at the rate at which the most telling assistant was right when it was
    checked, or, unassisted, at the prior. The surface moves the judgement too. Nothing here says that
    assistance helps: it helps exactly as much as it directs attention well and earns belief.

    Two abilities are off by default: to follow an answer down (`descent`), and to know an assistant from the judging
    of its own node (`own_record`). Each is an assumption about people, to be ablated.
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
    descent: int = Field(default=0, ge=0, exclude_if=lambda levels: levels == 0)
    """Most levels that a claim is followed down if checking it costs more attention than is left; 0: none. A step down
    is to read the answer that makes it, for `reading`, and to check that answer's facts: parts that its assistants call
    wrong first, then the fact; what is too dear is followed a step further. Assumed: an answer stands if all that its
    claim rests on (the fact of the same name, else all of its facts) was found true, and is then believed as `stands`
    says; at a false one it falls, and its claim is ignored. It counts for this outcome: records are of outright checks.
    """
    reading: int = Field(default=1, ge=0, exclude_if=lambda price: price == 1)
    """With `descent`: attention for reading one answer, paid once an outcome. None is read that would leave none to
    check with."""
    stands: float = Field(default=0.9, gt=0, le=1, exclude_if=lambda chance: chance == 0.9)
    """With `descent`: belief in a claim whose answer stands, before its maker's record moves it, as it moves the prior.
    Assumed, not learned. It is taken to the power of the levels it stood by: each may mislead."""
    own_record: bool = Field(default=False, exclude_if=lambda on: not on)
    """Start trust in an assistant not from the prior, but from how its answers did when this user judged them at the
    assistant's own node: right and wrong facts among those that were paid for there, drawn to the prior by `doubt`.
    Never from truth that was not paid for: of whoever was not checked there, trust starts from the prior. Assumed: the
    assistant at work is like its outcomes in training, early ones included, and is right where their facts are."""
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
        """Its kind, its attention, and its abilities."""
        abilities = f", descent={self.descent}" * (self.descent > 0) + ", own record" * self.own_record
        return f"bounded(attention={self.attention}{abilities})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Perceive the value of both, each with half of the attention, and prefer the higher."""
        checks: list[Check] = []
        views, spent, answers, stood = [], 0, 0, 0
        both: tuple[tuple[Literal["a", "b"], Outcome, tuple[Assistance, ...]], ...]
        both = ("a", pair.a, pair.assistance_a), ("b", pair.b, pair.assistance_b)
        for side, outcome, assistance in both:
            rng = random.Random(digest(self.seed, pair.case.id, outcome.id))
            meter = Attention(self.attention // 2, self.error, rng)
            down = Descent(task, self.descent, self.stands, partial(meter.read, self.reading), meter.check)
            found: list[Check] = []
            views.append(self._view(task, pair.case, outcome, assistance, meter, down, rng, found))
            checks += [replace(one, side=side) for one in found]
            spent, answers, stood = spent + meter.spent, answers + down.answers, stood + down.stood
        a, b = views
        difference = a.value - b.value
        preference = 0.5 if abs(difference) < self.margin else float(difference > 0)
        followed = f"; answers read: {answers}, stood: {stood}" if self.descent else ""
        note = f"{a.value:.3f} against {b.value:.3f}{followed}"
        asked = asked_alone(task.settings.asked, pair.case)
        said_a, said_b = (one.remarks(asked, self.prior) for one in views)
        judgement = Judgement(
            preference, tuple(checks), spent, note, margin=difference, remarks_a=said_a, remarks_b=said_b
        )
        self.recall(task, judgement)
        return judgement

    def recall(self, task: Task, judgement: Judgement) -> None:
        """Add what was checked to the records of whoever claimed it; the task itself, of its own outcomes."""
        self._record.update((task.path, c.by, c.said, c.contested, c.right) for c in judgement.checks)

    def trust(
        self, task: str, assistant: str, said: bool, contested: bool = False, start: float | None = None
    ) -> float:
        """Belief that a claim is right: the prior, moved by how often such claims were right when checked.

        `start`: instead of the prior (and of `own_record`), where the claim was followed down.

        Claims that an assistant's own assistants contest have a record of their own: those are seldom checked
        (nobody points at a part that fails), so the uncontested ones' good record says little about them.
        """
        if start is None:
            start = self.prior if said else 1 - self.prior
            if self.own_record:
                start = self._moved(start, assistant, assistant, said, contested)
        return self._moved(start, task, assistant, said, contested)

    def _moved(self, start: float, *whose: Any) -> float:
        """A belief, moved by a record: by half where the record is of as many claims as `doubt` says."""
        right, wrong = (self._record[*whose, outcome] for outcome in (True, False))
        return (self.doubt * start + right) / (self.doubt + right + wrong)

    def _view(
        self, task: Task, case: Case, outcome: Outcome, assistance: Sequence[Assistance], meter: Attention,
        down: Descent, rng: random.Random, checks: list[Check],
    ) -> View:  # fmt: skip
        """An outcome as the user sees it. Its value: the mean over aspects of the mean belief in facts, and surface."""
        try:
            facts = task.facts_of(case, outcome)
        except Malformed:
            return View(-1.0)  # anyone sees at a glance that this is not what was asked for
        claims = claims_of(assistance)
        believed = {
            fact.name: self._believe(task.path, claims.get(fact.name, ())) for fact in facts
        }  # that the matter holds

        own = self._claims_made(task, case, outcome, facts)
        standing: dict[str, Standing] = defaultdict(dict)
        refuted: dict[str, set[str]] = defaultdict(set)  # whose accusations of a fact pointed at a part that holds

        looked: set[str] = set()

        def settle(fact: Fact, holds: bool, spot: float | None = None) -> None:
            believed[fact.name] = float(holds)
            looked.add(fact.name)
            said = claims.get(fact.name, ())
            checks.extend(_checked(fact, claim, holds, spot) for claim in said)
            contested = any(claim.holds != fact.claims for claim in said)
            made = own.get(fact.name, ())
            checks.extend(
                Check(task.path, one, holds == fact.claims, contested, spot, fact=fact.name) for one in made
            )

        def credible(fact: Fact) -> list[Claim]:
            return [claim for claim in claims.get(fact.name, ()) if claim.by not in refuted[fact.name]]

        def follow(fact: Fact, some: Sequence[Claim]) -> None:
            if found := down.follow(fact.name, some):
                standing[fact.name] |= found
                believed[fact.name] = self._believe(task.path, credible(fact), standing[fact.name])
                if any(found.values()):
                    del open_facts[fact.name]

        open_facts = {fact.name: fact for fact in facts}
        if open_facts and rng.random() < self.spot_checks:
            fact = rng.choice(list(open_facts.values()))
            if (holds := meter.check(fact)) is not None:
                settle(open_facts.pop(fact.name), holds, self.spot_checks / len(facts))
        sound: set[tuple[str, int | None]] = set()  # parts that were looked at and hold
        for target, fact, claim in self._accusations(task.path, open_facts, claims):
            if fact.name not in open_facts:
                continue
            holds = True if (fact.name, claim.part) in sound else meter.check(target)
            if holds is None:
                follow(fact, [claim])
                continue
            if target is fact or not holds:  # a part that fails settles the whole
                settle(open_facts.pop(fact.name), holds)
            else:
                checks.append(replace(_checked(fact, claim, True), part=claim.part))
                sound.add((fact.name, claim.part))
                refuted[fact.name].add(claim.by)
                believed[fact.name] = self._believe(task.path, credible(fact), standing[fact.name])
        for fact in sorted(open_facts.values(), key=lambda fact: (fact.price, rng.random())):
            if (holds := meter.check(fact)) is not None:
                settle(fact, holds)
            else:
                follow(fact, credible(fact))
        by_aspect: dict[str, list[float]] = {}
        wrong, unbearable = [], False
        for fact in facts:
            belief = believed[fact.name] if fact.claims else 1 - believed[fact.name]
            by_aspect.setdefault(fact.aspect, []).append(belief)
            wrong += [fact.name] * (fact.name in looked and belief == 0)
            unbearable |= fact.aspect in task.unacceptable and belief < 0.5
        value = sum(sum(beliefs) / len(beliefs) for beliefs in by_aspect.values()) / max(1, len(by_aspect))
        surface = task.surface_of(case, outcome)
        value += sum(self.biases.get(name, 0.0) * amount for name, amount in surface.items())
        return View(value, tuple(wrong), unbearable if task.unacceptable else None)

    def _claims_made(
        self, task: Task, case: Case, outcome: Outcome, facts: Sequence[Fact]
    ) -> Mapping[str, Sequence[bool]]:
        """Fact of an assistant's answer -> what the claims say that rest on it; nothing without `own_record`, or of
        outcomes that claim nothing."""
        if not self.own_record or task.findings is None:
            return {}
        try:
            findings = task.findings_of(case, outcome)
        except Malformed:
            return {}
        named = {fact.name: fact for fact in facts}
        made: dict[str, set[bool]] = {}
        for finding in findings:
            for fact in rests_on(finding.fact, named):
                made.setdefault(fact.name, set()).add(finding.holds)
        return {name: sorted(said) for name, said in made.items()}

    def _believe(self, task: str, claims: Iterable[Claim], standing: Standing | None = None) -> float:
        """Belief that a matter holds: by the claim whose maker's record moves it furthest from the prior.

        Trust moves belief towards a claim or not at all: who was mostly wrong is ignored, not turned around. So is a
        claim whose answer fell when it was followed down; where it stood, trust starts from there.
        """
        beliefs = [self.prior]
        for claim in claims:
            start = (standing or {}).get((claim.by, claim.holds))
            if start == 0:
                continue
            trust = self.trust(task, claim.by, claim.holds, claim.contested, start)
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


def _checked(fact: Fact, claim: Claim, holds: bool, spot: float | None = None) -> Check:
    return Check(claim.by, claim.holds, claim.holds == holds, claim.contested, spot, fact=fact.name)
