"""Specifications and designs drawn at random."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from rrm.core.records import Case, digest
from rrm.worlds.chip.cache import ISOLATIONS, POLICIES, Cache
from rrm.worlds.chip.physics import access_ns, heat, lifetime_years
from rrm.worlds.chip.simulation import Numbers, benchmark, leak, mean, simulate
from rrm.worlds.chip.spec import KILOBYTES, NOISE, STRIDES, Difficulty, Goals, Phase, Spec

LINES = (16, 32, 64, 128)
"""Bytes in a line."""
WAYS = (1, 2, 4, 8)
VOLTS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
GHZ = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
SLACK = 1.1
"""How much worse than the reference design's numbers the goals for speed and lifetime are."""
SLOWEST = 5.0
"""Nanoseconds: a reference design is faster."""
LEAKIEST = 0.1
"""Bits: a reference design leaks less; the goal is twice that."""


def make_phase(rng: random.Random) -> Phase:
    """A random pattern and region; the hot part of a region has at most 8 kB and is smaller than the region."""
    pattern = rng.choice(("walk", "scatter", "hot"))
    if pattern == "walk":
        return Phase(pattern, rng.choice(KILOBYTES), rng.choice(STRIDES))
    if pattern == "scatter":
        return Phase(pattern, rng.choice(KILOBYTES))
    hot = rng.choice(KILOBYTES[:4])
    return Phase(pattern, rng.choice([k for k in KILOBYTES if k > hot]), hot)


def make_cache(rng: random.Random, area: int) -> Cache:
    """Any cache that can be built in this area."""
    isolation = rng.choice(ISOLATIONS)
    return Cache(
        kilobytes=rng.choice([k for k in KILOBYTES if 2 <= k <= area]),
        line=rng.choice(LINES),
        ways=rng.choice([w for w in WAYS if w > 1 or isolation != "partitioned"]),
        policy=rng.choice(POLICIES),
        isolation=isolation,
        volts=rng.choice(VOLTS),
        ghz=rng.choice(GHZ),
    )


def make_spec(rng: random.Random, difficulty: Difficulty = Difficulty()) -> Spec:
    """A specification whose goals some design reaches."""
    return solved(rng, difficulty)[0]


def solved(rng: random.Random, difficulty: Difficulty = Difficulty()) -> tuple[Spec, Cache]:
    """A specification, and the reference design that its goals were taken from."""
    while True:  # some programs are too hard for any cache of the area: those are drawn anew too
        spec = Spec(
            area=rng.choice((16, 32, 64)),
            programs=tuple(
                tuple(make_phase(rng) for _ in range(difficulty.phases)) for _ in range(difficulty.programs)
            ),
            seed=rng.randrange(100),
            cooling=rng.choice((10, 20, 30)),
            noise=rng.choice((None, *NOISE)),
            goals=Goals(0.0, 0, 0, None),
        )
        cache = make_cache(rng, spec.area)
        if sensible(spec, cache):
            return replace(spec, goals=goals(simulate(spec, cache))), cache


def sensible(spec: Spec, cache: Cache) -> bool:
    """Whether a design is good enough for its numbers to be goals. The cheap checks come first."""
    *_, celsius = heat(cache, spec.cooling)
    if celsius > 105 or lifetime_years(cache, celsius) < 5:
        return False
    if access_ns(cache, [mean(benchmark(cache, program, spec.seed)) for program in spec.programs]) > SLOWEST:
        return False
    return spec.noise is None or leak(cache, spec.noise, spec.seed) < LEAKIEST


def goals(found: Numbers) -> Goals:
    """What a design reaches, with some slack, in the steps that specifications are written in."""
    return Goals(
        ns=math.ceil(10 * SLACK * found.ns) / 10,
        celsius=math.ceil(found.celsius / 5 + 0.4) * 5,
        years=min(20, math.floor(found.years / SLACK)),
        bits=None if found.bits is None else 2 * LEAKIEST,
    )


@dataclass(frozen=True)
class Specs:
    """An endless supply of specifications. `split` keeps training and held-out ones apart."""

    seed: int = 0
    split: str = "train"
    difficulty: Difficulty = Difficulty()

    def draw(self, n: int, key: str) -> list[Case]:
        """`n` cases; (seed, split, key) decide which."""
        rng = random.Random(digest(self.seed, self.split, key))
        return [make_spec(rng, self.difficulty).case() for _ in range(n)]
