"""The simulated cache and its physics, against traces worked out by hand and laws that hold for any trace."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm.worlds.chip import Cache, physics
from rrm.worlds.chip.cache import ACCESSES, POLICIES, Ways, attack, hits, information, probe, run, trace
from rrm.worlds.chip.spec import Phase
from rrm.worlds.chip.supply import GHZ, VOLTS, make_cache, make_phase

CACHE = Cache(kilobytes=16, line=64, ways=4, policy="lru", isolation="shared", volts=1.0, ghz=1.0)
seeds = st.integers(0, 10**6)
lines = st.lists(st.integers(0, 20), max_size=60)
ways = st.integers(1, 5)


def play(numbers: list[int], ways: int, policy: str, sets: int = 1) -> list[bool]:
    content = Ways(sets, ways, policy, random.Random(0))
    return [content.access(number) for number in numbers]


def cache_of(seed: int) -> Cache:
    return make_cache(random.Random(seed), 64)


# --- by hand -----------------------------------------------------------------------------------------


def test_a_short_trace_by_hand() -> None:
    numbers = [1, 2, 1, 3, 2]  # two ways: 3 takes the place of 2 under LRU, of 1 under FIFO
    assert play(numbers, 2, "lru") == [False, False, True, False, False]
    assert play(numbers, 2, "fifo") == [False, False, True, False, True]
    assert play(numbers, 1, "lru") == [False] * 5
    assert play(numbers, 3, "random") == [False, False, True, False, True]  # all three fit


def test_lines_of_different_sets_do_not_meet() -> None:
    assert play([0, 1, 0, 1], 1, "lru", sets=2) == [False, False, True, True]
    assert play([0, 2, 0, 2], 1, "lru", sets=2) == [False] * 4


def test_beladys_anomaly() -> None:
    """Belady, Nelson and Shedler 1969: under FIFO more room can mean more misses, 9 with three frames, 10 with four."""
    numbers = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]
    assert play(numbers, 3, "fifo").count(False) == 9
    assert play(numbers, 4, "fifo").count(False) == 10


@pytest.mark.parametrize(
    ("phase", "changes", "missing"),
    [
        (Phase("walk", 1, 4), {}, 16),  # 1 kB is 16 lines of 64 bytes: each misses once
        (Phase("walk", 1, 4), {"line": 16}, 64),
        (Phase("walk", 64, 64), {}, 512),  # never the same line twice
        (Phase("walk", 64, 64), {"line": 128}, 256),  # every second access is to the line before
        (Phase("walk", 4, 256), {}, 16),
        (Phase("walk", 4, 256), {"kilobytes": 2, "ways": 1}, 512),  # 16 lines fall into 8 of the 32 sets, two in each
        (Phase("walk", 4, 256), {"kilobytes": 4, "ways": 1}, 16),  # 64 sets: they fit
    ],
)
def test_walks_by_hand(phase: Phase, changes: dict[str, int], missing: int) -> None:
    (percent,) = hits(replace(CACHE, **changes), (phase,), seed=0)  # type: ignore[arg-type]
    assert percent == pytest.approx(100 * (1 - missing / ACCESSES))


# --- laws --------------------------------------------------------------------------------------------


@given(lines, ways, st.integers(1, 4))
def test_under_lru_what_hits_in_fewer_ways_hits_in_more(numbers: list[int], ways: int, sets: int) -> None:
    """Inclusion (Mattson et al. 1970), access by access."""
    fewer, more = play(numbers, ways, "lru", sets), play(numbers, ways + 1, "lru", sets)
    assert all(m for f, m in zip(fewer, more, strict=True) if f)


@given(lines, ways)
def test_a_fully_associative_lru_cache_hits_by_stack_distance(numbers: list[int], ways: int) -> None:
    """It hits iff fewer than `ways` other lines were read since the same line was (Mattson et al. 1970)."""
    expected = []
    for i, number in enumerate(numbers):
        before = [j for j in range(i) if numbers[j] == number]
        expected.append(bool(before) and len(set(numbers[before[-1] + 1 : i])) < ways)
    assert play(numbers, ways, "lru") == expected


def optimal_misses(numbers: list[int], ways: int) -> int:
    """Belady 1966: make room by the line that is read again last, or never."""
    cached: set[int] = set()
    missing = 0
    for i, number in enumerate(numbers):
        if number in cached:
            continue
        missing += 1
        if len(cached) >= ways:
            rest = numbers[i:]
            cached.remove(max(cached, key=lambda line: rest.index(line) if line in rest else len(rest)))
        cached.add(number)
    return missing


@given(lines, ways, st.sampled_from(POLICIES))
def test_no_policy_misses_less_than_the_optimal_one(numbers: list[int], ways: int, policy: str) -> None:
    misses = play(numbers, ways, policy).count(False)
    assert len(set(numbers)) <= optimal_misses(numbers, ways) <= misses


@given(lines, st.sampled_from(POLICIES), st.integers(0, 2**64 - 1))
def test_with_room_for_all_only_first_accesses_miss(numbers: list[int], policy: str, key: int) -> None:
    content = Ways(4, 21, policy, random.Random(0), key)
    assert [content.access(n) for n in numbers].count(False) == len(set(numbers))


@given(seeds)
def test_phases_have_memory_of_their_own_so_each_can_be_checked_alone(seed: int) -> None:
    rng = random.Random(seed)
    program = tuple(make_phase(rng) for _ in range(3))
    cache = replace(make_cache(rng, 64), policy=rng.choice(("lru", "fifo")), isolation="shared")
    together = run(cache, [trace(phase, i, 7) for i, phase in enumerate(program)], 7)
    for i, phase in enumerate(program):
        assert together[i] == run(cache, [trace(phase, i, 7)], 7)[0]


@given(seeds)
def test_a_partition_is_a_cache_with_half_of_the_ways(seed: int) -> None:
    cache = replace(cache_of(seed), isolation="partitioned", ways=4)
    half = replace(cache, isolation="shared", ways=2, kilobytes=cache.kilobytes // 2)
    program = (make_phase(random.Random(seed)),)
    assert cache.sets == half.sets
    assert hits(cache, program, 1) == hits(half, program, 1)


@given(seeds)
def test_a_simulation_repeats_itself(seed: int) -> None:
    cache, program = cache_of(seed), (make_phase(random.Random(seed)),)
    assert hits(cache, program, seed) == hits(cache, program, seed)
    assert attack(cache, 2, seed, trials=4) == attack(cache, 2, seed, trials=4)


@given(seeds)
def test_accesses_stay_in_their_region(seed: int) -> None:
    phase = make_phase(random.Random(seed))
    offsets = [address - (3 << 24) for address in trace(phase, 2, seed)]
    assert all(0 <= offset < phase.kilobytes * 1024 and offset % 4 == 0 for offset in offsets)
    if phase.pattern == "hot":
        assert sum(offset < phase.step * 1024 for offset in offsets) > 0.8 * len(offsets)


# --- the attack --------------------------------------------------------------------------------------


@given(seeds, st.sampled_from((0, 2, 8, 32)))
def test_a_partitioned_cache_leaks_nothing(seed: int, noise: int) -> None:
    """The attacker sees the same whatever the secret is: not nearly, exactly."""
    cache = replace(cache_of(seed), isolation="partitioned", ways=random.Random(seed).choice((2, 4, 8)))
    for chance in range(8):
        assert probe(cache, 0, noise, chance) == probe(cache, 1, noise, chance)
    assert attack(cache, noise, seed, trials=8) == 0


@pytest.mark.parametrize("policy", ["lru", "fifo"])
def test_a_shared_cache_without_noise_tells_the_whole_bit(policy: str) -> None:
    assert attack(replace(CACHE, policy=policy), 0, 1) == pytest.approx(1)


def test_noise_and_random_replacement_hide_some_of_it() -> None:
    small = replace(CACHE, kilobytes=2)
    noisy = attack(small, 32, 1)
    assert 0.02 < noisy < 0.9
    assert 0.05 < attack(replace(CACHE, policy="random"), 0, 1) < 1


@given(seeds, st.sampled_from((0, 2, 8, 32)))
def test_a_hashed_index_leaks_no_more_than_chance(seed: int, noise: int) -> None:
    assert attack(replace(cache_of(seed), isolation="hashed", ways=4), noise, seed) < 0.1


def test_with_one_set_there_is_nothing_to_tell() -> None:
    assert attack(replace(CACHE, kilobytes=1, line=128, ways=8), 0, 1) < 0.1


def test_information_by_hand() -> None:
    assert information(Counter({(0, 0): 5, (1, 1): 5})) == pytest.approx(1)
    assert information(Counter({(0, 0): 5, (0, 1): 5, (1, 0): 5, (1, 1): 5})) == 0
    assert information(Counter({(0, 0): 2, (0, 1): 2, (1, 1): 4})) == pytest.approx(0.311278, abs=1e-6)


# --- physics -----------------------------------------------------------------------------------------


@given(seeds, st.floats(1.01, 2))
def test_switching_power_goes_with_the_square_of_the_supply_and_with_the_clock(seed: int, factor: float) -> None:
    cache = cache_of(seed)
    power = physics.switching_watts(cache)
    assert physics.switching_watts(replace(cache, volts=factor * cache.volts)) == pytest.approx(factor**2 * power)
    assert physics.switching_watts(replace(cache, ghz=factor * cache.ghz)) == pytest.approx(factor * power)


@given(seeds, st.sampled_from((10, 20, 30)))
def test_the_junction_is_in_a_steady_state(seed: int, cooling: int) -> None:
    cache = cache_of(seed)
    switching, leakage, celsius = physics.heat(cache, cooling)
    steady = physics.AIR_CELSIUS + cooling * (switching + leakage)
    assert celsius == pytest.approx(min(steady, physics.HOTTEST_CELSIUS), abs=1e-3)
    assert leakage == pytest.approx(physics.leakage_watts(cache, celsius), rel=1e-3)


@given(seeds, st.floats(20, 120), st.floats(1, 30))
def test_heat_leaks_and_shortens_life(seed: int, celsius: float, more: float) -> None:
    cache = cache_of(seed)
    assert physics.leakage_watts(cache, celsius + more) > physics.leakage_watts(cache, celsius)
    cooler, hotter = (physics.lifetime_years(cache, c) for c in (celsius, celsius + more))
    assert hotter < cooler or hotter == cooler == physics.LONGEST_YEARS


@given(seeds, st.sampled_from((1.5, 2.0)))
def test_blacks_equation(seed: int, factor: float) -> None:
    """At one temperature life falls with the square of the current density; kept below the cap by heat."""
    cache = replace(cache_of(seed), volts=1.2)
    years = physics.lifetime_years(cache, 130)
    if years < physics.LONGEST_YEARS:
        assert physics.lifetime_years(replace(cache, ghz=factor * cache.ghz), 130) == pytest.approx(years / factor**2)


def test_ten_years_where_it_says() -> None:
    density, celsius = physics.TEN_YEARS_AT
    cache = replace(CACHE, kilobytes=1, ways=1, ghz=3.0 * density)
    assert physics.lifetime_years(cache, celsius) == pytest.approx(10)
    ratio = physics.lifetime_years(cache, 80) / physics.lifetime_years(cache, 90)  # exp(Ea / k (1 / T1 - 1 / T2))
    assert ratio == pytest.approx(2.258, abs=2e-3)


@given(seeds)
def test_a_higher_supply_is_faster_and_a_faster_clock_than_the_array_gains_nothing(seed: int) -> None:
    cache = cache_of(seed)
    delays = [physics.gate_delay(v) for v in VOLTS]
    assert delays == sorted(delays, reverse=True) and physics.gate_delay(1.0) == 1
    slow, fast = (physics.hit_ns(replace(cache, ghz=1000.0, volts=v)) for v in (0.7, 1.2))
    assert slow / fast == pytest.approx(delays[0] / delays[-1], rel=0.01)
    fastest = physics.hit_ns(replace(cache, ghz=1000.0))  # the array's own delay, nearly
    for ghz in GHZ:
        clocked = replace(cache, ghz=ghz)
        cycles = physics.hit_ns(clocked) * ghz
        assert cycles == pytest.approx(round(cycles)) and physics.hit_ns(clocked) >= fastest - 1e-3


@given(seeds, st.floats(0, 100), st.floats(0, 100))
def test_more_hits_are_faster(seed: int, a: float, b: float) -> None:
    cache = cache_of(seed)
    assert (a > b) == (physics.access_ns(cache, [a]) < physics.access_ns(cache, [b])) or abs(a - b) < 1e-9
    assert physics.access_ns(cache, [100, 100]) == physics.hit_ns(cache)
