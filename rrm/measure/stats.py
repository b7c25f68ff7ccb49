"""Intervals: bootstrap over cases, since outcomes and pairs of one case are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy import stats


class Interval(TypedDict):
    """A mean with its 95 % bootstrap interval; `n` counts the values, not the clusters."""

    mean: float
    low: float
    high: float
    n: int


def interval(clusters: Sequence[Sequence[float]], seed: int = 0, resamples: int = 2000) -> Interval:
    """Mean of all values with a 95 % percentile interval, resampling whole clusters (cases).

    No values give NaN; one cluster has no interval but itself.
    """
    full = [cluster for cluster in clusters if len(cluster)]
    sums = np.array([float(np.sum(cluster)) for cluster in full])
    counts = np.array([len(cluster) for cluster in full])
    if not full:
        return Interval(mean=float("nan"), low=float("nan"), high=float("nan"), n=0)
    mean = float(sums.sum() / counts.sum())
    if len(full) == 1 or np.ptp(sums / counts) == 0:
        return Interval(mean=mean, low=mean, high=mean, n=int(counts.sum()))

    def ratio(s: np.ndarray, c: np.ndarray, axis: int = -1) -> np.ndarray:
        value: np.ndarray = s.sum(axis) / c.sum(axis)
        return value

    result = stats.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=seed,
    )
    low, high = result.confidence_interval
    return Interval(mean=mean, low=float(low), high=float(high), n=int(counts.sum()))
