"""Speed, heat and lifetime of a cache: textbook equations with illustrative constants (no process's own).

Sources:
- power: switching = energy of an access * accesses per second, energy ~ C V^2; leakage grows exponentially with
  temperature and supply (Weste and Harris, *CMOS VLSI Design*, chapter 5);
- delay: the alpha-power law (Sakurai and Newton 1990);
- mean access time = hit time + miss rate * miss penalty (Hennessy and Patterson, appendix B);
- lifetime: Black's equation of electromigration, MTTF = A j^-n exp(Ea / kT) (Black 1969).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rrm.worlds.chip.cache import Cache

AIR_CELSIUS = 40.0
HOTTEST_CELSIUS = 150.0
"""Here the chip shuts itself down: temperatures beyond are not modeled."""
CAPACITANCE_NF = 0.1
"""Switched in an access to a direct-mapped cache of 1 kB with lines of 64 bytes."""
LEAKAGE_A_PER_KB = 0.01
"""At 25 degrees Celsius and 1 V."""
THRESHOLD_VOLTS, ALPHA = 0.35, 1.3
BOLTZMANN_EV = 8.617e-5
"""Electronvolts per kelvin."""
ACTIVATION_EV, CURRENT_EXPONENT = 0.9, 2
TEN_YEARS_AT = (1.0, 60.0)
"""Current density (of a wire of the reference design's, relative) and temperature that give ten years."""
LONGEST_YEARS = 50.0
"""Longer lives count as this."""


def energy_nj(cache: Cache) -> float:
    """Nanojoules of one access: C V^2. Word and bit lines grow with the root of the size, each way read adds."""
    shape = math.sqrt(cache.kilobytes) * math.sqrt(cache.ways) * math.sqrt(cache.line / 64)
    hashing = 1.1 if cache.isolation == "hashed" else 1.0
    return CAPACITANCE_NF * shape * hashing * cache.volts**2


def switching_watts(cache: Cache) -> float:
    """One access in each clock."""
    return energy_nj(cache) * cache.ghz


def leakage_watts(cache: Cache, celsius: float) -> float:
    """Leakage current times supply. The current grows by a factor of e with every 50 degrees, and with every 2/3 V."""
    current = LEAKAGE_A_PER_KB * cache.kilobytes * math.exp(0.02 * (celsius - 25) + 1.5 * (cache.volts - 1))
    return current * cache.volts


def heat(cache: Cache, kelvin_per_watt: float) -> tuple[float, float, float]:
    """(switching watts, leakage watts, junction degrees Celsius) in the steady state.

    Leakage heats the junction, and heat makes it leak: a fixed point, approached from below, up to `HOTTEST_CELSIUS`.
    """
    switching, celsius = switching_watts(cache), AIR_CELSIUS
    for _ in range(200):
        hotter = AIR_CELSIUS + kelvin_per_watt * (switching + leakage_watts(cache, celsius))
        hotter = min(hotter, HOTTEST_CELSIUS)
        if abs(hotter - celsius) < 1e-6:
            break
        celsius = hotter
    return switching, leakage_watts(cache, celsius), celsius


def gate_delay(volts: float) -> float:
    """Relative to the delay at 1 V: V / (V - Vt)^alpha."""

    def delay(v: float) -> float:
        return v / math.pow(v - THRESHOLD_VOLTS, ALPHA)

    return delay(volts) / delay(1.0)


def hit_ns(cache: Cache) -> float:
    """Nanoseconds of a hit: the array's delay, in whole clocks. A faster clock than the array allows gains nothing."""
    array = 0.3 + 0.06 * math.log2(cache.kilobytes) + 0.05 * math.log2(cache.ways)
    if cache.isolation == "hashed":
        array += 0.3  # the cipher in the path of the address
    return math.ceil(array * gate_delay(cache.volts) * cache.ghz - 1e-9) / cache.ghz


def access_ns(cache: Cache, hit_percent: Sequence[float]) -> float:
    """Mean access time in nanoseconds, over phases of equal length. A miss takes 5 ns and its line's transfer."""
    missed = 1 - sum(hit_percent) / len(hit_percent) / 100
    return hit_ns(cache) + missed * (5 + cache.line / 32)


def lifetime_years(cache: Cache, celsius: float) -> float:
    """Years until half of such chips fail of electromigration, at most `LONGEST_YEARS`: Black's equation.

    The supply wires' current is I = P / V, and they are as wide as the array: j ~ C V f / sqrt(size).
    """
    density = switching_watts(cache) / cache.volts / math.sqrt(cache.kilobytes) / (CAPACITANCE_NF * 3)
    reference_density, reference_celsius = TEN_YEARS_AT
    kelvin, reference = celsius + 273.15, reference_celsius + 273.15
    arrhenius = math.exp(ACTIVATION_EV / BOLTZMANN_EV * (1 / kelvin - 1 / reference))
    years = 10 * math.pow(reference_density / density, CURRENT_EXPONENT) * arrhenius
    return min(LONGEST_YEARS, years)
