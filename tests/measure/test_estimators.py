"""Best of n, the fits of over-optimization, and equal budgets, against cases that can be worked out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from rrm.core.errors import RRMError
from rrm.measure.experiments.active import needed
from rrm.measure.experiments.budget import attention_for
from rrm.measure.experiments.depth import leveled, tokens
from rrm.measure.experiments.overoptimization import expected_best, fit, peak, smooth
from rrm.measure.experiments.propagation import first_gains, ratios, slopes, verdict, wrong_claims
from rrm.measure.roots import with_difficulty
from rrm.measure.stage import depth, prune
from rrm.measure.stats import Interval
from tests import toy
from tests.measure.material import TASK


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_expected_best_is_the_mean_over_all_subsets(n: int) -> None:
    by, value = torch.tensor([0.3, -1.0, 2.0, 0.9, 0.1]), torch.tensor([1.0, 5.0, -2.0, 0.0, 3.0])
    best = [max(subset, key=lambda i: by[i].item()) for subset in itertools.combinations(range(5), n)]
    assert expected_best(by, value, n) == pytest.approx(np.mean([value[i].item() for i in best]))


def test_equal_rewards_share_their_weight() -> None:
    assert expected_best(torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, 6.0]), 3) == pytest.approx(3.0)


def test_fits_find_what_was_planted() -> None:
    d = np.linspace(0.0, 3.0, 20)
    assert fit(d.tolist(), (d * (0.5 - 0.1 * d)).tolist(), "best of n") == pytest.approx((0.5, 0.1))
    logs = d * (0.5 - 0.2 * np.log(np.where(d > 0, d, 1)))
    assert fit(d.tolist(), logs.tolist(), "rl") == pytest.approx((0.5, 0.2))
    assert peak([0, 1, 2], [0.1, 0.5, 0.2]) == pytest.approx((1, 0.3))
    assert smooth([1, 1, 1, 1]) == [1, 1, 1, 1]


def test_depths_of_a_tree() -> None:
    assert depth(TASK) == 2
    assert [depth(prune(TASK, levels)) for levels in range(3)] == [0, 1, 2]
    assert prune(TASK, 2) == TASK


@pytest.mark.parametrize("levels", [0, 1])
def test_a_shallower_tree_has_the_whole_trees_budget(levels: int) -> None:
    per_round = 264
    settings = leveled(TASK, levels, 5 * per_round, per_round)
    assert settings.rounds == 5
    whole = sum(tokens(node.settings) for node in TASK.walk())
    below = sum(tokens(node.settings) for node in prune(TASK, levels).walk() if node.path != TASK.path)
    assert below + tokens(settings) == pytest.approx(whole, rel=0.1)


def test_difficulty_needs_cases_that_have_one() -> None:
    assert with_difficulty(TASK, steps=6).cases.difficulty.steps == 6  # type: ignore[union-attr]
    with pytest.raises(RRMError, match="difficulty"):
        with_difficulty(toy.task())


def test_attention_for_the_same_is_interpolated() -> None:
    assert attention_for([0, 4, 8], [0.5, 0.6, 0.8], 0.7) == pytest.approx(6)
    assert attention_for([0, 4, 8], [0.5, 0.6, 0.8], 0.4) == 0
    assert attention_for([0, 4, 8], [0.5, 0.6, 0.8], 0.9) == math.inf


def test_labels_needed_are_interpolated_in_their_logarithm() -> None:
    assert needed([16, 64], [0.6, 0.8], 0.7) == pytest.approx(32)
    assert needed([16, 64], [0.6, 0.8], 0.5) == 16
    assert needed([16, 64], [0.6, 0.8], 0.9) == math.inf


def test_gains_of_a_path() -> None:
    assert verdict(Interval(mean=0.5, low=0.2, high=0.9, n=5)) == "contracts"
    assert verdict(Interval(mean=1.5, low=1.1, high=1.9, n=5)) == "amplifies"
    unsure = Interval(mean=0.9, low=0.7, high=1.1, n=5)
    assert verdict(unsure) == verdict(Interval(mean=0.5, low=0.2, high=0.9, n=5), unsure) == "not told"
    assert first_gains([[0.1, 0.2, 0.2]] * 2, [[0.0, 0.25, 1.0], [0.1, 0.6, 1.0]])["mean"] == pytest.approx(0.3)
    assert slopes([[0.1, 0.2, 0.3]] * 2, [[0.0, 0.5, 1.0], [0.1, 0.2, 0.3]])["mean"] == pytest.approx(0.6)
    nothing = first_gains([[0.1, 0.1]] * 3, [[0.2, 0.2]] * 3)
    assert nothing["n"] == 0 and verdict(nothing) == "not told", "no finding was spoiled: that is no contraction"
    assert ratios(np.array([0.1, 0.1]), np.array([0.2, 0.001]))[0] == 0.5
    assert math.isnan(ratios(np.array([0.1, 0.1]), np.array([0.2, 0.001]))[1]), "nothing went in, so no gain"
    assert wrong_claims([[0, 1, 1], [0, 0, 1], [1, 0, 0], [1, 1, 0]]) == 0.5
