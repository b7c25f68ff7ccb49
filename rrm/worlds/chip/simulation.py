"""Everything the simulation says of a cache under a specification: what claims are measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rrm.worlds.chip import physics
from rrm.worlds.chip.cache import ACCESSES, TRIALS, Cache, attack, hits
from rrm.worlds.chip.spec import Program, Spec


@dataclass(frozen=True)
class Numbers:
    """What a designer claims of a cache, or what the simulation finds.

    hits: percent, for each phase of each program. ns: mean access time. switching, leakage: watts. celsius: junction.
    years: median lifetime. bits: leak to the attacker per probe, None without one.
    """

    hits: tuple[tuple[float, ...], ...]
    ns: float
    switching: float
    leakage: float
    celsius: float
    years: float
    bits: float | None


@dataclass(frozen=True)
class Tolerance:
    """How far apart two numbers may be and still agree: `absolute`, or `relative` times the second, if that is more."""

    absolute: float
    relative: float = 0.0


TOLERANCES = {
    "hits": Tolerance(5), "mean": Tolerance(3), "ns": Tolerance(0.15, 0.05), "switching": Tolerance(0.1, 0.1),
    "leakage": Tolerance(0.1, 0.1), "celsius": Tolerance(3), "years": Tolerance(1, 0.2), "bits": Tolerance(0.1),
}  # fmt: skip


def agree(kind: str, said: float, found: float) -> bool:
    """Whether a number said of this kind is the one found, within its tolerance."""
    tolerance = TOLERANCES[kind]
    return abs(said - found) <= max(tolerance.absolute, tolerance.relative * abs(found)) + 1e-9


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return sum(values) / len(values)


@lru_cache(1 << 14)
def benchmark(cache: Cache, program: Program, seed: int, accesses: int = ACCESSES) -> tuple[float, ...]:
    """Percent of hits, phase by phase; remembered."""
    return hits(cache, program, seed, accesses)


@lru_cache(1 << 14)
def leak(cache: Cache, noise: int, seed: int, trials: int = TRIALS) -> float:
    """Bits per probe; remembered."""
    return attack(cache, noise, seed, trials)


def simulate(spec: Spec, cache: Cache, accesses: int = ACCESSES, trials: int = TRIALS) -> Numbers:
    """Run the programs and the attack, and work out speed, heat and lifetime. Shorter runs are coarser."""
    found = tuple(benchmark(cache, program, spec.seed, accesses) for program in spec.programs)
    switching, leakage, celsius = physics.heat(cache, spec.cooling)
    return Numbers(
        hits=found,
        ns=physics.access_ns(cache, [mean(phases) for phases in found]),
        switching=switching,
        leakage=leakage,
        celsius=celsius,
        years=physics.lifetime_years(cache, celsius),
        bits=None if spec.noise is None else leak(cache, spec.noise, spec.seed, trials),
    )
