"""Intervals of shares are exact where they can be, as wide as the clusters make them, and cover what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rrm.core.shares import Known, difference, exact, mean, most, share


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_exact_interval_is_scipys(seen: tuple[int, int]) -> None:
    k, n = seen
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    assert exact(k, n) == pytest.approx((expected.low, expected.high))
    one_sided = stats.binomtest(k, n, alternative="less").proportion_ci(0.95, method="exact")
    assert most(k, n) == pytest.approx(one_sided.high)


def test_none_seen_is_bounded_by_the_rule_of_three() -> None:
    for n in (1, 10, 300, 10_000):
        assert most(0, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert most(0, 10_000) == pytest.approx(3 / 10_000, rel=0.01)
    assert most(0, 0) == 1.0


@given(st.integers(1, 60), st.integers(0, 60))
def test_cases_of_one_value_each_are_a_simple_sample(n: int, k: int) -> None:
    k = min(k, n)
    found = share([(float(i < k), 1) for i in range(n)])
    assert found is not None and (found.n, found.cases) == (n, n)
    low, high = exact(k, n)  # the variance's n - 1 makes it worth a value less at most
    assert found.low <= low + 1e-9 and found.high >= high - 1e-9
    if n > 8:
        assert found.high - found.low < 1.3 * (high - low)


def test_values_of_few_cases_are_worth_less_than_as_many_of_many() -> None:
    alike = [(10.0, 10), (0.0, 10), (10.0, 10), (10.0, 10)]  # a case decides all its pairs
    mixed = [(7.0, 10), (8.0, 10), (7.0, 10), (8.0, 10)]
    one, other = share(alike), share(mixed)
    assert one is not None and other is not None and one.mean == other.mean == 0.75
    assert one.high - one.low > 2 * (other.high - other.low)
    certain = share([(10.0, 10)] * 3)
    assert certain is not None and certain.low == pytest.approx(exact(3, 3)[0]), "all alike: each case counts once"
    assert share([]) is None and share([(0.0, 0)]) is None


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Cases that differ: right with a chance of their own, several pairs each."""
    rng = np.random.default_rng(0)
    covered, means, times = 0, 0, 400
    for _ in range(times):
        chances = rng.beta(3, 1, size=25)  # mean 0.75
        clusters = [(float(rng.binomial(4, p)), 4) for p in chances]
        found, by_mean = share(clusters), mean(clusters)
        assert found is not None and by_mean is not None
        covered += found.low <= 0.75 <= found.high
        means += by_mean.low <= 0.75 <= by_mean.high
    assert covered / times > 0.93 and means / times > 0.92


def test_a_mean_of_independent_values_has_students_interval() -> None:
    values = [0.1, 0.4, -0.2, 0.5]
    found = mean((one, 1) for one in values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found is not None and (found.low, found.high) == pytest.approx((low, high))
    one = mean([(3.0, 2)])
    assert one is not None and (one.mean, one.n, math.isnan(one.low)) == (1.5, 2, True)
    assert "[" not in str(one)


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_difference_turns_its_sign_with_its_sides_and_holds_itself(a: int, b: int) -> None:
    one, other = (Known(k / 20, *exact(k, 20), 20, 20) for k in (a, b))
    there, back = difference(one, other), difference(other, one)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.low <= there.mean <= there.high and there.low >= -1 - 1e-9 and there.high <= 1 + 1e-9
