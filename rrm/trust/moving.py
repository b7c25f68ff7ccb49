"""What moves a reward model, over many judged pairs: each part's share of the differences of its scores.

With d the difference of a pair's scores and p a part of it, the share is sum(p d) / sum(d d): the covariance over the
variance, about zero and not about a mean, which would hang on which outcome was called A. The shares of all parts sum
to 1. One may be negative: that part works against the whole, as where surprise takes back what findings gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rrm.core.shares import Known, mean
from rrm.models.attribution import Parts

Differing = Sequence[tuple[str, Parts]]
"""The case of each pair, and the parts of the difference of its scores."""


def shares(pairs: Differing) -> dict[str, Known]:
    """Part -> its share, with an interval over cases (Student's, of the ratio's linearized variance); empty where all
    pairs' scores are alike."""
    names = list(dict.fromkeys(name for _, parts in pairs for name in parts))
    found = {}
    for name in names:
        clusters: dict[str, list[float]] = {}
        for case, parts in pairs:
            whole = sum(parts.values())
            cluster = clusters.setdefault(case, [0.0, 0.0])
            cluster[0] += parts.get(name, 0.0) * whole
            cluster[1] += whole * whole
        known = mean((k, n) for k, n in clusters.values())
        if known is not None:
            found[name] = replace(known, n=len(pairs), cases=len(clusters))
    return found


def typical(pairs: Differing) -> float | None:
    """The median size of a difference, in standard deviations; None of no pairs."""
    sizes = sorted(abs(sum(parts.values())) for _, parts in pairs)
    return (sizes[len(sizes) // 2] + sizes[(len(sizes) - 1) // 2]) / 2 if sizes else None


def figure(known: Known | None) -> dict[str, Any] | None:
    """As JSON, with null for an interval that is not there; None of nothing."""
    if known is None:
        return None
    low, high = (None if math.isnan(end) else end for end in (known.low, known.high))
    rounded = [None if value is None else round(value, 4) for value in (known.mean, low, high)]
    return {**dict(zip(("value", "low", "high"), rounded, strict=True)), "n": known.n, "cases": known.cases}


def sentence(found: Mapping[str, Known]) -> str:
    """ "71 % [60, 82] findings of paper/proofs, 20 % [11, 30] what it reads", the largest first."""
    told = sorted(found.items(), key=lambda one: -abs(one[1].mean))
    return ", ".join(f"{_percent(known)} {name}" for name, known in told)


def _percent(known: Known) -> str:
    between = "" if math.isnan(known.low) else f" [{100 * known.low:z.0f}, {100 * known.high:z.0f}]"
    return f"{100 * known.mean:z.0f} %{between}"


def by_case(values: Iterable[tuple[str, float]]) -> Known | None:
    """The mean of values, each of a case, with an interval over cases; None of nothing."""
    clusters: dict[str, list[float]] = {}
    for case, value in values:
        cluster = clusters.setdefault(case, [0.0, 0])
        cluster[0] += value
        cluster[1] += 1
    return mean((k, n) for k, n in clusters.values())
