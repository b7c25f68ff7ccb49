"""Intervals against known cases: what is there is found, what is not is not, at the rate that is claimed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rrm.measure.experiment import agreement, bounded, by_case, lift, misses
from rrm.measure.experiments.sandwich import mistakes
from rrm.measure.stats import Interval, auc, of_numbers, over_seeds

SIMULATIONS = 400


def simulated(rng: np.random.Generator, effect: float, between: float, within: float) -> list[list[list[float]]]:
    """Five seeds of 40 cases of 3 values: an effect, a deviation of each seed, and noise of each case."""
    return [
        [[float(effect + deviation + noise)] * 3 for noise in rng.normal(0, within, 40)]
        for deviation in rng.normal(0, between, 5)
    ]


def share_of_alarms(effect: float, between: float, within: float) -> float:
    rng = np.random.default_rng(7)
    found = [over_seeds(simulated(rng, effect, between, within), resamples=400) for _ in range(SIMULATIONS)]
    return sum(one["low"] > 0 or one["high"] < 0 for one in found) / SIMULATIONS


@pytest.mark.parametrize(("between", "within"), [(0.2, 0.0001), (0.2, 1.0), (0.0, 1.0)])
def test_no_effect_is_called_one_at_most_as_often_as_claimed(between: float, within: float) -> None:
    """95 % intervals: 5 % of false alarms; 400 simulations have a standard error of 1.1 %."""
    assert share_of_alarms(0.0, between, within) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)


@pytest.mark.parametrize(("between", "within"), [(0.05, 1.0), (0.0, 1.0)])
def test_a_planted_effect_is_found(between: float, within: float) -> None:
    assert share_of_alarms(0.5, between, within) > 0.95


def test_a_bootstrap_of_five_seeds_alone_would_be_too_narrow() -> None:
    """Why `over_seeds` is what it is."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(SIMULATIONS):
        means = rng.normal(0, 1, 5)
        low, high = np.percentile(rng.choice(means, (400, 5)).mean(1), [2.5, 97.5])
        alarms += low > 0 or high < 0
    assert alarms / SIMULATIONS > 0.1


def test_every_seed_counts_the_same() -> None:
    assert over_seeds([[[0.0]] * 100, [[1.0]] * 2])["mean"] == 0.5


def test_nothing_and_one_seed() -> None:
    assert math.isnan(over_seeds([])["mean"]) and math.isnan(over_seeds([[], [[]]])["mean"])
    one = over_seeds([[[0.0], [1.0], [1.0], [0.0]]])
    assert one["low"] < 0.5 < one["high"]
    assert math.isnan(of_numbers([1.0])["low"]), "one number has no interval"
    assert of_numbers([1.0, 1.0, math.nan]) == Interval(mean=1.0, low=1.0, high=1.0, n=2)


def test_student_is_scipys() -> None:
    values = [0.1, 0.4, 0.2, 0.5]
    low, high = scipy_stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy_stats.sem(values))
    found = of_numbers(values)
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def rows(rng: np.random.Generator, right: float) -> list[list[float]]:
    """80 judged pairs of 20 cases, each right with this chance; the truth of a pair is a coin."""
    truths = np.random.default_rng(0).integers(0, 2, 80)
    return [[i // 4, float(t), float(t if rng.random() < right else 1 - t), 4] for i, t in enumerate(truths)]


def test_a_planted_lift_is_found_and_no_lift_is_not() -> None:
    rng = np.random.default_rng(1)
    alone, better, same = ([rows(rng, right) for _ in range(5)] for right in (0.6, 0.9, 0.6))
    assert lift(better, alone)["low"] > 0.15
    assert lift(same, alone)["low"] < 0 < lift(same, alone)["high"]
    assert lift(alone, better)["high"] < 0, "a loss is shown as one"
    assert lift(alone, alone) == Interval(mean=0.0, low=0.0, high=0.0, n=400)


def test_the_two_ways_to_be_wrong_are_told_apart() -> None:
    found = misses([[[0, 1.0, 1.0, 4], [0, 1.0, 0.0, 4], [1, 0.0, 0.5, 4], [1, 0.0, 0.75, 4]]])
    assert found["prefers the worse"]["mean"] == 0.5 and found["sees no difference"]["mean"] == 0.25
    said = [[[0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 1], [1, 0, 0], [2, 1, 1]]]
    assert mistakes(said)["false negatives"]["mean"] == pytest.approx(2 / 3)
    assert mistakes(said)["false positives"]["mean"] == pytest.approx(1 / 3)


def test_no_lift_is_reported_where_there_is_no_room_for_one() -> None:
    rng = np.random.default_rng(2)
    assert "ceiling" in bounded(agreement([rows(rng, 1.0) for _ in range(5)]))
    assert "floor" in bounded(agreement([rows(rng, 0.4) for _ in range(5)]))
    assert bounded(agreement([rows(rng, 0.7) for _ in range(5)])) == ""
    assert "nothing was judged" in bounded(agreement([[], []]))


def test_cases_are_the_clusters() -> None:
    assert by_case([(3, 1.0), (1, 0.0), (3, 0.5)]) == [[0.0], [1.0, 0.5]]


def test_auc() -> None:
    assert auc([2, 3], [0, 1]) == 1
    assert auc([0, 1], [2, 3]) == 0
    assert auc([1, 1], [1]) == 0.5
    assert math.isnan(auc([], [1]))
