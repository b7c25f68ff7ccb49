"""Intervals: bootstrap over cases, since outcomes and pairs of one case are not independent, and over seeds."""

from __future__ import annotations

import math
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


def over_seeds(seeds: Sequence[Sequence[Sequence[float]]], seed: int = 0, resamples: int = 2000) -> Interval:
    """Mean over seeds of each seed's mean, with a 95 % interval: the wider of two, at either end.

    One is Student's t over the seeds' means: right when seeds differ, whatever the noise within them. The other is a
    bootstrap of the cases of every seed: it keeps five means that happen to lie close together from passing for
    certainty, and is all there is for one seed. (A two-level bootstrap of five seeds called nothing something in
    17 % of simulations where seeds differ; this does in 2 to 6 %: tests/measure/test_stats.py.)

    Parameters
    ----------
    seeds: per seed, per case, the values; differences of two arms on the same pairs give a paired interval.
    """
    full = [[case for case in cases if len(case)] for cases in seeds]
    full = [cases for cases in full if cases]
    if not full:
        return Interval(mean=float("nan"), low=float("nan"), high=float("nan"), n=0)
    rng = np.random.default_rng(seed)
    means, resampled = np.empty(len(full)), np.empty((len(full), resamples))
    for s, cases in enumerate(full):
        sums, counts = np.array([float(np.sum(case)) for case in cases]), np.array([len(case) for case in cases])
        means[s] = sums.sum() / counts.sum()
        weights = rng.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=resamples)
        resampled[s] = (weights @ sums) / (weights @ counts)
    low, high = np.percentile(resampled.mean(0), [2.5, 97.5])
    over = of_numbers(means.tolist())
    n = sum(len(case) for cases in full for case in cases)
    low, high = np.nanmin([low, over["low"]]), np.nanmax([high, over["high"]])
    return Interval(mean=over["mean"], low=float(low), high=float(high), n=n)


def share_over_seeds(seeds: Sequence[Sequence[Sequence[float]]]) -> Interval:
    """`over_seeds` of shares: an interval that ends at 0 and 1."""
    return clipped(over_seeds(seeds))


def clipped(found: Interval) -> Interval:
    """An interval of a share or a chance, which ends at 0 and 1, where Student's need not."""
    low, high = float(np.clip(found["low"], 0, 1)), float(np.clip(found["high"], 0, 1))
    return Interval(mean=found["mean"], low=low, high=high, n=found["n"])


def of_numbers(values: Sequence[float]) -> Interval:
    """Mean of one number per seed, and Student's 95 % interval; NaNs are left out. One number has no interval: NaN."""
    found = [value for value in values if not math.isnan(value)]
    n = len(found)
    mean = float(np.mean(found)) if found else float("nan")
    if n < 2:
        return Interval(mean=mean, low=float("nan"), high=float("nan"), n=n)
    if np.ptp(found) == 0:
        return Interval(mean=mean, low=mean, high=mean, n=n)
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=stats.sem(found))
    return Interval(mean=mean, low=float(low), high=float(high), n=n)


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann-Whitney); NaN if either is empty."""
    if not positives or not negatives:
        return float("nan")
    found = stats.mannwhitneyu(positives, negatives, method="asymptotic").statistic
    return float(found) / (len(positives) * len(negatives))
