"""Ratings as comparisons: with thresholds in the place of a second outcome.

A scale of K levels has K - 1 thresholds, and an outcome that is rated at level y (from 0) was found above the first y
of them and not above the rest:

    P(y > k) = sigmoid(s - t_k)        the proportional odds model (McCullagh 1980)

Its likelihood is taken as that of K - 1 answers, each about one threshold (the "all-threshold" loss of Rennie & Srebro
2005), divided by their number, so that a rating weighs as much as a comparison. So a rating is a row of the same
logistic loss as a comparison (`losses.bradley_terry`), in the same scores, and the whole stays convex in heads and
thresholds. Who rates on a scale of their own has thresholds of their own: nobody's "4" is taken for another's. An
approval is a rating of two levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rrm.core.remarks import Remarked

Scales = Mapping[str, int]
"""`Remarked.scale` -> the number of its first threshold."""


@dataclass(frozen=True)
class Levels:
    """Ratings, as rows of a logistic loss: one for each threshold of each rating."""

    outcome: Tensor  # (rows,) place of the outcome that is rated
    threshold: Tensor  # (rows,)
    above: Tensor  # (rows,) 1 if it was rated above the threshold, else 0
    share: Tensor  # (rows,) of a rating that this row is
    weight: Tensor  # (rows, heads) the rating's bootstrap weight, times `share`
    ratings: int

    def __len__(self) -> int:
        return len(self.outcome)

    def moved(self, first: int) -> Levels:
        """The same, where outcomes are counted from `first`."""
        return Levels(self.outcome + first, self.threshold, self.above, self.share, self.weight, self.ratings)

    def among(self, rows: Tensor) -> Levels:
        """Some of the rows, by their numbers: all of a rating's, or none."""
        share = self.share[rows]
        parts = (self.outcome[rows], self.threshold[rows], self.above[rows], share, self.weight[rows])
        return Levels(*parts, ratings=round(float(share.sum())))


def scales_of(remarks: Sequence[Remarked]) -> tuple[Scales, int]:
    """The scales of these ratings, and how many thresholds they have in all."""
    first: dict[str, int] = {}
    total = 0
    for one in remarks:
        if one.remark.level is not None and one.scale not in first:
            first[one.scale], total = total, total + one.remark.level[1] - 1
    return first, total


def tells(remarks: Sequence[Remarked]) -> bool:
    """Whether anything is told apart by these ratings: somebody gave two levels of one scale."""
    given: dict[str, set[int]] = {}
    for one in remarks:
        if one.remark.level is not None:
            given.setdefault(one.scale, set()).add(one.remark.level[0])
    return any(len(levels) > 1 for levels in given.values())


def levels_of(remarks: Sequence[Remarked], places: Sequence[int], weights: Sequence[Tensor], scales: Scales) -> Levels:
    """Rows of ratings, each of the outcome at its place; weights: (heads,) each, what the bootstrap makes of it."""
    outcome: list[int] = []
    threshold: list[int] = []
    above: list[float] = []
    share: list[float] = []
    weight: list[Tensor] = []
    for one, place, drawn in zip(remarks, places, weights, strict=True):
        assert one.remark.level is not None
        level, of = one.remark.level
        for k in range(of - 1):
            outcome.append(place)
            threshold.append(scales[one.scale] + k)
            above.append(float(level > k))
            share.append(1 / (of - 1))
            weight.append(drawn / (of - 1))
    rows = torch.stack(weight) if weight else torch.empty(0, 0)
    return Levels(
        torch.tensor(outcome, dtype=torch.long), torch.tensor(threshold, dtype=torch.long), torch.tensor(above),
        torch.tensor(share), rows, len(remarks),
    )  # fmt: skip


def joined(parts: Sequence[Levels], firsts: Sequence[int]) -> Levels:
    """Several cases' rows as one, their outcomes counted from `firsts`."""
    some = [part.moved(first) for part, first in zip(parts, firsts, strict=True) if len(part)]
    if not some:
        return levels_of((), (), (), {})
    return Levels(
        torch.cat([one.outcome for one in some]), torch.cat([one.threshold for one in some]),
        torch.cat([one.above for one in some]), torch.cat([one.share for one in some]),
        torch.cat([one.weight for one in some]), sum(one.ratings for one in some),
    )  # fmt: skip


def first_thresholds(levels: Levels, thresholds: int) -> Tensor:
    """(thresholds,) where all outcomes score 0: the log-odds of not being above each, a half added to either count."""
    above = torch.zeros(thresholds).index_add(0, levels.threshold, levels.above)
    total = torch.zeros(thresholds).index_add(0, levels.threshold, torch.ones(len(levels)))
    return ((total - above + 0.5) / (above + 0.5)).log()
