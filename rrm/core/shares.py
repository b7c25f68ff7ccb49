"""Shares with their intervals: k of n, counted in clusters (cases), exactly where little or nothing was seen.

Without resampling, so that it takes no time on a run of any size. For experiments see `rrm.measure.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Known:
    """A mean (of a share: between 0 and 1) with its 95 % interval. NaN: no interval, as it takes two cases."""

    mean: float
    low: float
    high: float
    n: int
    """How many values it is the mean of."""
    cases: int
    """In how many cases: values of one case are not independent."""

    def __str__(self) -> str:
        between = "" if math.isnan(self.low) else f" [{self.low:z.2f}, {self.high:z.2f}]"
        return f"{self.mean:z.2f}{between}, n {self.n:g}"


def exact(k: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The two-sided interval of a share of which `k` of `n` were seen (Clopper and Pearson 1934). `k` need not be
    whole: a tie is half of one."""
    from scipy.special import betaincinv  # late: it takes a tenth of a second

    tail = (1 - level) / 2
    low = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k >= n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high


def most(k: float, n: float, level: float = LEVEL) -> float:
    """The one-sided upper bound of the chance of what was seen `k` times in `n` (Clopper and Pearson 1934): with none
    seen 1 - (1 - level)^(1/n), which the rule of three makes 3/n. Of nothing looked at, 1."""
    return 1.0 if n <= 0 else exact(k, n, 2 * level - 1)[1]


def share(clusters: Iterable[tuple[float, float]]) -> Known | None:
    """A share over clusters, each (k, n); None of nothing.

    The exact interval for as many independent values as these are worth: n / deff, deff being the variance between
    clusters over that of a simple sample (Korn and Graubard 1998, Survey Methodology 24, 193-201), with Student's
    correction for few clusters left out and deff never below 1, so that it is no narrower than for independent values.
    Where all values are alike no deff can be seen; then every cluster counts as one value.
    """
    full = [(k, n) for k, n in clusters if n]
    if not full:
        return None
    total, m = sum(n for _, n in full), len(full)
    p = sum(k for k, _ in full) / total
    worth = float(m)
    if 0 < p < 1 and m > 1:
        between = m / (m - 1) * sum((k - p * n) ** 2 for k, n in full) / total**2
        worth = min(float(total), p * (1 - p) / between) if between > 0 else float(total)
    low, high = exact(p * worth, worth)
    return Known(p, low, high, int(total), m)


def mean(clusters: Iterable[tuple[float, float]]) -> Known | None:
    """A mean over clusters, each (sum, n), with Student's interval of the ratio's linearized variance (Cochran 1977,
    chapter 6); None of nothing. One cluster has no interval, nor have clusters that are all alike."""
    from scipy.special import stdtrit  # late, see `exact`

    full = [(s, n) for s, n in clusters if n]
    if not full:
        return None
    total, m = sum(n for _, n in full), len(full)
    value = sum(s for s, _ in full) / total
    error = math.nan
    if m > 1:
        error = math.sqrt(m / (m - 1) * sum((s - value * n) ** 2 for s, n in full)) / total
    reach = error * float(stdtrit(m - 1, (1 + LEVEL) / 2)) if error > 0 else math.nan
    return Known(value, value - reach, value + reach, int(total), m)


def difference(one: Known, other: Known) -> Known:
    """The first less the second, two independent shares, by their own intervals (Newcombe 1998, Statistics in Medicine
    17, 873-890, method 10). `n` and `cases` are those of the smaller."""
    value = one.mean - other.mean
    low = value - math.hypot(one.mean - one.low, other.high - other.mean)
    high = value + math.hypot(one.high - one.mean, other.mean - other.low)
    smaller = min(one, other, key=lambda known: known.n)
    return Known(value, low, high, smaller.n, smaller.cases)
