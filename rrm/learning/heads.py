"""Fit linear heads on features that do not change: a convex problem, solved to its optimum in well under a second.

Per head h, over standardized features x, with the comparison's bootstrap weight w and the user's preference p:

    (1/pairs) sum w * BCE(p, (x_a - x_b) . W_h) + strength/2 * |W_h - anchor_h|^2

A rating is a row of the same kind, in which a threshold stands for the second outcome (`rrm.learning.ordinal`), so
thresholds are solved for with the heads. They are hardly regularized: a scale may lie anywhere.

Each head is drawn towards an anchor of its own and not to zero, so that the heads keep disagreeing where no
comparison speaks (anchored ensembles: Pearce et al. 2020, arXiv 1810.05546).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from rrm.learning.losses import bradley_terry
from rrm.learning.ordinal import Levels

STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Regularization to choose from, the strongest first."""
FOLDS = 4
"""Parts of the cases, each held out once when the strength is chosen."""
ENOUGH = 24
"""With fewer pairs than this nothing is chosen: the strength is `DEFAULT`."""
DEFAULT = 0.3
FREE = 10.0
"""A threshold's scale against the features': its square is how much less it is regularized."""
ANCHOR = 0.3
"""Standard deviation, in logits, of the score differences that the anchors alone make."""


def fit_heads(
    features: Tensor, a: Tensor, b: Tensor, preference: Tensor, weight: Tensor, anchor: Tensor, case: Tensor,
    levels: Levels | None = None, rated: Tensor | None = None,
) -> tuple[Tensor, float]:  # fmt: skip
    """The heads' weights for the features as they are (not standardized), and the strength that was chosen.

    Parameters
    ----------
    features: (rows, features).
    a, b: (pairs,) rows. preference: (pairs,). weight: (pairs, heads) bootstrap weights.
    anchor: (heads, features) random directions of standard normal scale.
    case: (pairs,) which case a pair belongs to: cross-validation never splits a case.
    levels: ratings of rows. rated: (their rows,) which case each belongs to.
    """
    spread = features.std(0, correction=0)
    # A feature that hardly moves says nothing; where none does, all that moves is the rounding of its digits.
    spread = spread.clamp(min=max(1e-3 * float(spread.mean()), 1e-6 * float(features.abs().mean()), 1e-12))
    anchor = anchor * (ANCHOR / (2 * anchor.shape[1]) ** 0.5)
    difference = (features[a] - features[b]) / spread  # the offset of a feature cancels: there is none to take away
    if levels is None or not len(levels):
        problem = Problem.of(difference, preference)
        strength = choose(problem, case)
        return solve(problem, weight, anchor, strength) / spread, strength
    assert rated is not None
    n, wide = int(levels.threshold.max()) + 1, features.shape[1]
    own = (features[levels.outcome] - features.mean(0)) / spread
    against = torch.zeros(len(levels), n)
    against[torch.arange(len(levels)), levels.threshold] = -FREE
    difference = torch.cat([nn.functional.pad(difference, (0, n)), torch.cat([own, against], 1)])
    problem = Problem.of(difference, torch.cat([preference, levels.above]))
    # The loss is a mean over rows; a judgement of several rows counts once.
    once = len(difference) / (len(preference) + levels.ratings)
    base = torch.cat([torch.ones(len(preference)), levels.share]) * once
    weight = torch.cat([weight, levels.weight]) * once
    strength = choose(problem, torch.cat([case, rated]), base)
    return solve(problem, weight, nn.functional.pad(anchor, (0, n)), strength)[:, :wide] / spread, strength


def fit_marks(features: Tensor, marks: Tensor, weight: Tensor, case: Tensor) -> Tensor:
    """(heads, features + 1): logistic regression of marks, the last column its offset. Regularized towards 0. Where all
    marks are alike there is nothing to tell apart: the rate alone, with half a mark of either kind added (Jeffreys).

    Parameters
    ----------
    features: (rows, features). marks: (rows,) 1 or 0. weight: (rows, heads) bootstrap weights.
    case: (rows,) which case a row belongs to.
    """
    if bool((marks == marks[0]).all()):
        found = torch.zeros(weight.shape[1], features.shape[1] + 1)
        found[:, -1] = torch.logit((marks.sum() + 0.5) / (len(marks) + 1))
        return found
    spread, mean = features.std(0, correction=0), features.mean(0)
    spread = spread.clamp(min=max(1e-3 * float(spread.mean()), 1e-6 * float(features.abs().mean()), 1e-12))
    rows = nn.functional.pad((features - mean) / spread, (0, 1), value=FREE)
    problem = Problem.of(rows, marks)
    found = solve(problem, weight, torch.zeros(weight.shape[1], rows.shape[1]), choose(problem, case))
    heads = found[:, :-1] / spread
    offset = found[:, -1:] * FREE - heads @ mean[:, None]
    return torch.cat([heads, offset], 1)


@dataclass(frozen=True)
class Problem:
    """Comparisons as differences of standardized features, in the axes in which these are uncorrelated."""

    difference: Tensor  # (pairs, features)
    preference: Tensor  # (pairs,)
    axes: Tensor  # (features, features), orthogonal
    variance: Tensor  # (features,) along each axis

    @staticmethod
    def of(difference: Tensor, preference: Tensor) -> Problem:
        """From (pairs, features) differences and (pairs,) preferences."""
        second = (difference.T @ difference / len(difference)).double()
        variance, axes = torch.linalg.eigh(second)
        return Problem(difference @ axes.float(), preference, axes.float(), variance.clamp(min=0).float())


def solve(
    problem: Problem,
    weight: Tensor,
    anchor: Tensor,
    strength: float,
    start: Tensor | None = None,
    tolerance: float = 1e-5,
) -> Tensor:
    """(heads, features) minimizing the above by L-BFGS (Liu & Nocedal 1989), until no element of the gradient
    exceeds `tolerance`. `start` saves time, no more.

    Along the axes, each divided by the root of the curvature it has at most, all directions are about as steep, and
    some ten steps are enough where a hundred were needed.
    """
    x, p = problem.difference, problem.preference
    scale = (0.25 * problem.variance + strength).sqrt()
    center = anchor @ problem.axes
    first = center if start is None else start @ problem.axes

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        heads = torch.from_numpy(flat).view_as(center).float() / scale
        margin, pull = x @ heads.T, heads - center  # (pairs, heads), (heads, features)
        value = bradley_terry(margin, torch.zeros_like(margin), p, weight) + strength / 2 * (pull**2).sum()
        slope = weight * (margin.sigmoid() - p[:, None]) / len(margin)
        gradient = (slope.T @ x + strength * pull) / scale
        return value.item(), gradient.double().numpy().ravel()

    begin = (first * scale).double().numpy().ravel()
    found = minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": tolerance})
    return (torch.from_numpy(found.x).view_as(center).float() / scale) @ problem.axes.T


def choose(problem: Problem, case: Tensor, base: Tensor | None = None) -> float:
    """The strength under which held-out cases are predicted best; from strong to weak, each solution the next's
    start. base: (pairs,) how much a pair counts; by default all alike."""
    names, pairs = torch.unique(case), len(case)
    if pairs < ENOUGH or len(names) < FOLDS:
        return DEFAULT
    held = torch.searchsorted(names, case)[:, None] % FOLDS == torch.arange(FOLDS)  # (pairs, folds)
    counts = held.float() if base is None else held * base[:, None]
    weight = (~held).float() * (FOLDS / (FOLDS - 1))  # one head per fold, blind to the pairs it holds out
    weight = weight if base is None else weight * base[:, None]
    heads = zero = torch.zeros(FOLDS, problem.difference.shape[1])
    losses = {}
    for strength in STRENGTHS:
        heads = solve(problem, weight, zero, strength, heads, tolerance=1e-3)
        margin = problem.difference @ (heads @ problem.axes).T
        losses[strength] = bradley_terry(margin, torch.zeros_like(margin), problem.preference, counts).item()
    return min(STRENGTHS, key=lambda strength: losses[strength])
