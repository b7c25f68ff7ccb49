"""Calibration against users whose certainty is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from rrm.measure.calibration import brier, chances, expected_error, reliability, slope


def margins(seed: int, s: float, n: int = 1600) -> list[list[float | None]]:
    """Pairs whose first is better with chance expit(s * margin)."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 0.2, n)
    truth = rng.random(n) < special.expit(s * margin)
    return [[i // 4, float(t), float(m)] for i, (t, m) in enumerate(zip(truth, margin, strict=True))]


@pytest.mark.parametrize("planted", [0.0, 2.0, 10.0])
def test_a_planted_slope_is_found(planted: float) -> None:
    rows = [(t, m) for _, t, m in margins(0, planted) if t is not None and m is not None]
    assert slope(rows) == pytest.approx(planted, abs=0.9)


def test_margins_that_mean_what_they_say_are_calibrated() -> None:
    sure = chances([margins(seed, 8.0) for seed in range(5)])
    assert expected_error(sure)["mean"] < 0.05
    for row in reliability(sure):
        assert abs(row["sure"] - row["right"]["mean"]) < 0.05
    assert sum(row["pairs"] for row in reliability(sure)) == 5 * 1600, "every pair is in one bin"


def test_a_margin_that_says_nothing_is_a_chance_of_a_half() -> None:
    sure = chances([margins(seed, 0.0) for seed in range(5)])
    assert brier(sure)["mean"] == pytest.approx(0.25, abs=0.01)


def test_the_slope_is_that_of_the_other_seeds() -> None:
    """One seed's user is always wrong: fitted on the others, its chances are wrong too, and the error shows."""
    wrong = [[c, None if t is None else 1 - t, m] for c, t, m in margins(9, 50.0)]
    sure = chances([margins(0, 50.0), margins(1, 50.0), wrong])
    assert expected_error([sure[2]])["mean"] > 0.3
    assert brier([sure[2]])["mean"] > 0.5


def test_who_does_not_say_how_sure_they_are_is_left_out() -> None:
    assert chances([[[0, 1.0, None]], [[0, 1.0, None]]]) == [[], []]
    assert reliability([[]]) == [] and math.isnan(expected_error([[]])["mean"])
