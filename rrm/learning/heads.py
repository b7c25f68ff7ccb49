"""Fit linear heads on features that do not change: a convex problem, solved to its optimum in well under a second.

Per head h, over standardized features x, with the comparison's bootstrap weight w and the user's preference p:

    (1/pairs) sum w * BCE(p, (x_a - x_b) . W_h) + strength/2 * |W_h - anchor_h|^2

Each head is drawn towards an anchor of its own and not to zero, so that the heads keep disagreeing where no
comparison speaks (anchored ensembles: Pearce et al. 2020, arXiv 1810.05546).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from rrm.learning.losses import bradley_terry

STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Regularization to choose from, the strongest first."""
FOLDS = 4
"""Parts of the cases, each held out once when the strength is chosen."""
ENOUGH = 24
"""With fewer pairs than this nothing is chosen: the strength is `DEFAULT`."""
DEFAULT = 0.3
ANCHOR = 0.3
"""Standard deviation, in logits, of the score differences that the anchors alone make."""


def fit_heads(
    features: Tensor, a: Tensor, b: Tensor, preference: Tensor, weight: Tensor, anchor: Tensor, case: Tensor
) -> tuple[Tensor, float]:
    """The heads' weights for the features as they are (not standardized), and the strength that was chosen.

    Parameters
    ----------
    features: (rows, features).
    a, b: (pairs,) rows. preference: (pairs,). weight: (pairs, heads) bootstrap weights.
    anchor: (heads, features) random directions of standard normal scale.
    case: (pairs,) which case a pair belongs to: cross-validation never splits a case.
    """
    spread = features.std(0, correction=0)
    # A feature that hardly moves says nothing; where none does, all that moves is the rounding of its digits.
    spread = spread.clamp(min=max(1e-3 * float(spread.mean()), 1e-6 * float(features.abs().mean()), 1e-12))
    # The offset of a feature cancels in a difference, so there is none to take away.
    problem = Problem.of((features[a] - features[b]) / spread, preference)
    strength = choose(problem, case)
    heads = solve(problem, weight, anchor * (ANCHOR / (2 * anchor.shape[1]) ** 0.5), strength)
    return heads / spread, strength


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


def choose(problem: Problem, case: Tensor) -> float:
    """The strength under which held-out cases are predicted best; from strong to weak, each solution the next's
    start."""
    names, pairs = torch.unique(case), len(case)
    if pairs < ENOUGH or len(names) < FOLDS:
        return DEFAULT
    held = torch.searchsorted(names, case)[:, None] % FOLDS == torch.arange(FOLDS)  # (pairs, folds)
    weight = (~held).float() * (FOLDS / (FOLDS - 1))  # one head per fold, blind to the pairs it holds out
    heads = zero = torch.zeros(FOLDS, problem.difference.shape[1])
    losses = {}
    for strength in STRENGTHS:
        heads = solve(problem, weight, zero, strength, heads, tolerance=1e-3)
        margin = problem.difference @ (heads @ problem.axes).T
        losses[strength] = bradley_terry(margin, torch.zeros_like(margin), problem.preference, held.float()).item()
    return min(STRENGTHS, key=lambda strength: losses[strength])
