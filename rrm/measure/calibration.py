"""Is a user as often right as they are sure? Margins between perceived values, made chances and held against truth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize, special

from rrm.measure.experiment import by_case
from rrm.measure.stats import Interval, of_numbers, over_seeds, share_over_seeds

Margins = Sequence[Sequence[float | None]]
"""Per pair [case, truth, margin] of one seed; None where the user does not say how sure they are."""
BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Edges of the bins of the reliability curve: chance given to the preferred side."""


def slope(rows: Sequence[tuple[float, float]]) -> float:
    """The one number s that makes expit(s * margin) the chance that the first is better: least log loss over (truth,
    margin). No intercept: which of a pair comes first means nothing. At most 200, where margins tell perfectly."""
    truth, margin = np.array(rows).T

    def loss(s: float) -> float:
        return float(np.mean(np.logaddexp(0, -s * np.where(truth > 0.5, margin, -margin))))

    return float(optimize.minimize_scalar(loss, bounds=(0.0, 200.0), method="bounded").x)


def chances(seeds: Sequence[Margins]) -> list[list[list[float]]]:
    """Per seed the [case, truth, chance that the first is better] of each pair with a margin. The slope is fitted on
    the other seeds, so that nobody is calibrated on what they are tested on; one seed alone is fitted on itself."""
    known = [[(c, t, m) for c, t, m in rows if c is not None and t is not None and m is not None] for rows in seeds]
    out = []
    for place, rows in enumerate(known):
        others = [(t, m) for k, other in enumerate(known) if k != place or len(known) == 1 for _, t, m in other]
        s = slope(others) if others else 0.0
        out.append([[c, t, float(special.expit(s * m))] for c, t, m in rows])
    return out


def brier(seeds: Sequence[Sequence[Sequence[float]]]) -> Interval:
    """Mean squared distance of the chances to the truth: 0.25 is knowing nothing, 0 is knowing all."""
    return over_seeds([by_case((case, (truth - p) ** 2) for case, truth, p in rows) for rows in seeds])


def reliability(seeds: Sequence[Sequence[Sequence[float]]]) -> list[dict[str, Any]]:
    """Per bin of how sure: the mean chance given to the preferred side, and how often that side is truly better."""
    rows: list[dict[str, Any]] = []
    for low, high in itertools.pairwise(BINS):
        inside: list[list[tuple[float, float]]] = []
        sure: list[float] = []
        for seed in seeds:
            inside.append([])
            for case, truth, p in seed:
                side = max(p, 1 - p)
                if low <= side < high or side == high == 1:
                    right = 0.5 if p == 0.5 else float((p > 0.5) == (truth > 0.5))
                    inside[-1].append((case, right))
                    sure.append(side)
        if sure:
            right_of = share_over_seeds([by_case(values) for values in inside])
            rows.append({"sure": float(np.mean(sure)), "right": right_of, "pairs": len(sure)})
    return rows


def expected_error(seeds: Sequence[Sequence[Sequence[float]]]) -> Interval:
    """Expected calibration error (Naeini et al. 2015), over the bins of `reliability`: mean distance of sure to right,
    weighted by pairs. Sampling alone makes it more than 0."""

    def of(seed: Sequence[Sequence[float]]) -> float:
        bins = reliability([seed])
        n = sum(b["pairs"] for b in bins)
        return sum(b["pairs"] * abs(b["sure"] - b["right"]["mean"]) for b in bins) / n if n else float("nan")

    return of_numbers([of(seed) for seed in seeds])
