"""The unlabeled, faulty corpus that a tiny model of the chip world is pretrained on.

Designs and critiques as hurried people write them: the caches are any that can be built, every number is far from what
the simulation finds with a published probability, and nothing marks which. A model of this corpus has, at best, the
corpus's own skill. Numbers are written in coarse steps, so that each is one word of a small vocabulary.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from rrm.core.records import Case, Outcome
from rrm.worlds.chip import critique
from rrm.worlds.chip.cache import ISOLATIONS, POLICIES, Cache
from rrm.worlds.chip.design import CONFIDENT, PADDING, Design, write, write_heat, write_hits
from rrm.worlds.chip.physics import HOTTEST_CELSIUS, heat
from rrm.worlds.chip.simulation import Numbers, agree, mean, simulate
from rrm.worlds.chip.spec import PROGRAMS, Difficulty, Spec
from rrm.worlds.chip.supply import make_cache, make_spec

ROLES = ("chip", "benchmark", "segments", "heat", "lifetime", "security")
STEPS = {
    "hits": 5.0, "mean": 1.0, "ns": 0.1, "switching": 0.1, "leakage": 0.1, "celsius": 1.0, "years": 1.0, "bits": 0.1,
}  # fmt: skip
"""Numbers of each kind are written as multiples of this."""
MOST = {
    "hits": 100, "mean": 100, "ns": 19.9, "switching": 19.9, "leakage": 19.9, "celsius": 199, "years": 50, "bits": 1
}  # fmt: skip
SPREAD = {
    "hits": 30, "mean": 20, "ns": 1.5, "switching": 1.0, "leakage": 1.0, "celsius": 25, "years": 15, "bits": 0.6
}  # fmt: skip
"""How far a wrong number is from the right one, at most, unless nothing within that disagrees."""
DESIGNS = 4
"""Designs that a specification gives to the corpus."""
MOST_READY = 64
"""Cases kept of each role; older ones are dropped."""


@dataclass(frozen=True)
class Errors:
    """How often the corpus is wrong."""

    claim: float = 0.2
    """A designer's number."""
    critic: float = 0.2
    """A critic's."""
    confident: float = 0.3
    """Designs with a confident word; independent of everything true."""
    padded: float = 0.3
    """Designs with an empty closing sentence; independent of everything true."""


def vocabulary() -> list[str]:
    """Every word of the world, in a fixed order; the first three are special."""
    words = ["<pad>", "<eos>", "<unk>", ".", ",", ";", ":", "+", "(", ")", "?", *ROLES, *PROGRAMS, *POLICIES]
    words += """Design a data cache of at most kB Program walk by B scatter hot in Seed Cooling K/W Attacker none prime
        and probe noise Goals ns C years bits Choose or Answer like line ways V GHz hits percent time power W leak
        Simulate this phase What are the mean Compute Attack""".split()  # noqa: SIM905
    words += [*ISOLATIONS, *CONFIDENT]
    words += [*PADDING.split(), "fast", "watts", "celsius", "cool", "lasts", "safe", "right", "wrong", "N/A"]
    words += [*map(str, range(200)), "256", *(f"{n / 10:.1f}" for n in range(200)), *(f"phase{n}" for n in range(10))]
    return list(dict.fromkeys(words))


@dataclass
class Corpus:
    """Writes documents as (prompt, outcome) pairs; `rng` decides everything."""

    rng: random.Random
    errors: Errors = Errors()
    difficulty: Difficulty = Difficulty()

    ready: dict[str, list[Case]] = field(default_factory=lambda: {role: [] for role in ROLES})
    """Cases that were made already."""

    def document(self, role: str) -> tuple[str, str]:
        """(prompt, outcome) of one of `ROLES`, the outcome as a hurried person writes it."""
        case = self.case(role)
        return case.prompt, self.write(role, case)

    def case(self, role: str) -> Case:
        """A case of a role; a critic's is framed from a design of this corpus.

        Simulating takes the time, so a specification gives several designs, and a design cases for all critics.
        """
        while not self.ready[role]:
            case = make_spec(self.rng, self.difficulty).case()
            for _ in range(DESIGNS):
                outcome = Outcome(self.write("chip", case))
                cases = {"chip": [case]} | {name: frame(case, outcome) for name, frame in FRAMES.items()}
                answer = Outcome(self.write("benchmark", cases["benchmark"][0]))
                cases["segments"] = critique.frame_segments(cases["benchmark"][0], answer)
                for name, framed in cases.items():
                    self.ready[name] = [*self.ready[name], *framed][-MOST_READY:]
        return self.ready[role].pop()

    def write(self, role: str, case: Case) -> str:
        """A hurried designer's design, or a hurried critic's answer."""
        if role == "chip":
            return write(Spec.of(case), self.design(Spec.of(case)))
        spec, design = critique.behind(case)
        found = self.stated(simulate(spec, design.cache), self.errors.critic)
        if role == "segments":
            program = case.data["program"]
            return f"{write_hits(spec.named[program][0], found.hits[program])} ."
        if role == "benchmark":
            hits = simulate(spec, design.cache).hits
            means = [self.number("mean", mean(phases), self.errors.critic) for phases in hits]
            said = " , ".join(f"{name} mean {m:.0f} percent" for (name, _), m in zip(spec.named, means, strict=True))
            return f"{said} , time {found.ns:.1f} ns ."
        if role == "heat":
            return f"{write_heat(found)} ."
        return f"{found.years:.0f} years ." if role == "lifetime" else f"leak {found.bits:.1f} bits ."

    def design(self, spec: Spec) -> Design:
        """A random cache with claims about it, each wrong with probability `errors.claim`."""
        rng, e = self.rng, self.errors
        cache = self.cache(spec)
        return Design(
            cache,
            self.stated(simulate(spec, cache), e.claim),
            rng.choice(CONFIDENT) if rng.random() < e.confident else "",
            rng.random() < e.padded,
        )

    def cache(self, spec: Spec) -> Cache:
        """Any that does not burn."""
        while heat(cache := make_cache(self.rng, spec.area), spec.cooling)[2] >= HOTTEST_CELSIUS - 10:
            continue
        return cache

    def stated(self, found: Numbers, error: float) -> Numbers:
        """The numbers as they are written down, each with a chance of being wrong."""
        single = ("ns", "switching", "leakage", "celsius", "years")
        hits = tuple(tuple(self.number("hits", h, error) for h in hits) for hits in found.hits)
        values = {kind: self.number(kind, getattr(found, kind), error) for kind in single}
        bits = None if found.bits is None else self.number("bits", found.bits, error)
        return Numbers(hits, **values, bits=bits)

    def number(self, kind: str, value: float, error: float) -> float:
        """`value` to the nearest step, or, with probability `error`, a number that does not agree with it."""
        if self.rng.random() >= error:
            return to_step(kind, value)
        spread = float(SPREAD[kind])
        while True:
            said = to_step(kind, value + self.rng.uniform(-spread, spread))
            if 0 <= said <= MOST[kind] and not agree(kind, said, value):
                return said
            spread *= 1.05


def to_step(kind: str, value: float) -> float:
    """The nearest multiple of `STEPS[kind]`, which is one word of the vocabulary."""
    return round(round(value / STEPS[kind]) * STEPS[kind], 1)


FRAMES = {
    "benchmark": critique.frame_benchmark,
    "heat": critique.frame_heat,
    "lifetime": critique.frame_lifetime,
    "security": critique.frame_security,
}
