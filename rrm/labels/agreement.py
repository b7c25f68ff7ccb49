"""Do people agree, and does the assistance help them? From labels alone, and how far that goes.

Whether a person sees the assistance on a pair is drawn at random, so what differs between their assisted and
unassisted labels is the assistance's doing. What "better" means is the measure's business: without a truth
there is only how far they agree with others who judged the same pair, which needs overlap; and people who read
the same assistance may agree in its mistakes. Where a world has a truth, `rrm.measure.people` uses it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import krippendorff
import numpy as np

from rrm.labels.controls import OwnControls
from rrm.labels.questions import Label, side
from rrm.labels.queue import Labels

RESAMPLES = 1000
ENOUGH = 20
"""Fewest cases for an interval: with fewer, a percentile bootstrap is much too narrow; with one, it has no width."""
SIDES = (0.0, 0.5, 1.0)
"""B is better, a tie, A is better: strength is left out of agreement."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over cases. NaN: no value without labels, no interval with fewer than
    `ENOUGH` cases."""

    value: float
    low: float
    high: float
    n: int = 0
    """How many labels it rests on."""
    cases: int = 0
    """How many cases it rests on."""

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low):
            return f"{self.value:.2f} (no interval: it takes {ENOUGH} cases, not {self.cases})"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def of(self, n: float) -> Estimate:
        """The same estimate, of `n` labels."""
        return replace(self, n=int(n))


@dataclass(frozen=True)
class TrialArm:
    """A person's labels with, or without, assistance."""

    n: int
    skipped: int
    ties: int
    seconds: float
    """Median per pair; NaN without any."""
    worth: Estimate
    """Mean of what is measured: agreement with others, or with the truth."""


@dataclass(frozen=True)
class Uplift:
    """What the assistance did for one person, and for how many labels that can be said."""

    labeler: str
    assisted: TrialArm
    unassisted: TrialArm
    difference: Estimate
    """Of worth: assisted minus unassisted."""


Worth = Callable[[Label], float | None]
"""How good a label is, 0 to 1; None where that cannot be said."""


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha over pairs with several labels: 1 perfect agreement, 0 as by chance."""

    pairs: int
    ordinal: Estimate
    """B, tie, A in this order: a tie is nearer to either than they are to each other."""
    nominal: Estimate


def alpha(labels: Sequence[Label], cases: dict[str, str], seed: int = 0) -> Alpha:
    """Agreement between the labelers. `cases`: question -> case, the unit of the bootstrap."""
    by_question: dict[str, list[float]] = {}
    for label in labels:
        if label.preference is not None:
            by_question.setdefault(label.question, []).append(side(label.preference))
    several = {id: sides for id, sides in by_question.items() if len(sides) > 1}
    clusters: dict[str, list[list[int]]] = {}
    for id, sides in several.items():
        clusters.setdefault(cases[id], []).append([sides.count(s) for s in SIDES])
    units = [np.array(rows) for rows in clusters.values()]
    return Alpha(
        len(several),
        _bootstrap(len(units), len(units), lambda chosen: _alpha(units, chosen, "ordinal"), seed),
        _bootstrap(len(units), len(units), lambda chosen: _alpha(units, chosen, "nominal"), seed),
    )


def _alpha(units: Sequence[np.ndarray], chosen: np.ndarray, level: Literal["ordinal", "nominal"]) -> float:
    counts = np.concatenate([units[i] for i in chosen])
    if (counts.sum(0) > 0).sum() < 2:  # everybody always said the same: there is no chance to compare with
        return math.nan
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement=level))


def uplifts(labels: Sequence[Label], cases: dict[str, str], worth: Worth, seed: int = 0) -> list[Uplift]:
    """Per person: their labels with assistance against those without."""
    return [_uplift(name, labels, cases, worth, seed) for name in sorted({label.labeler for label in labels})]


def _uplift(name: str, labels: Sequence[Label], cases: dict[str, str], worth: Worth, seed: int) -> Uplift:
    own = [label for label in labels if label.labeler == name]
    order = {case: i for i, case in enumerate(sorted({cases[label.question] for label in own}))}
    sums, counts = np.zeros((2, len(order))), np.zeros((2, len(order)))  # (unassisted or assisted, cases)
    for label in own:
        if label.preference is not None and (value := worth(label)) is not None:
            at = int(label.assisted), order[cases[label.question]]
            sums[at] += value
            counts[at] += 1

    def mean(arm: int) -> Callable[[np.ndarray], float]:
        return lambda chosen: _ratio(sums[arm, chosen].sum(), counts[arm, chosen].sum())

    judged = [int((row > 0).sum()) for row in counts]  # cases
    both = _bootstrap(len(order), min(judged), lambda chosen: mean(1)(chosen) - mean(0)(chosen), seed)
    arms = [
        _arm(
            [label for label in own if label.assisted == bool(arm)],
            _bootstrap(len(order), judged[arm], mean(arm), seed).of(counts[arm].sum()),
        )
        for arm in (0, 1)
    ]
    return Uplift(name, assisted=arms[1], unassisted=arms[0], difference=both)


def _arm(labels: Sequence[Label], worth: Estimate) -> TrialArm:
    given = [label for label in labels if label.preference is not None]
    return TrialArm(
        n=len(given),
        skipped=len(labels) - len(given),
        ties=sum(label.preference == 0.5 for label in given),
        seconds=float(np.median([label.seconds for label in given])) if given else math.nan,
        worth=worth,
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _bootstrap(n: int, cases: int, statistic: Callable[[np.ndarray], float], seed: int) -> Estimate:
    """`statistic` of the indices of n clusters, and its percentile interval over resampled clusters, if those that say
    something (`cases`; of a difference, on the side that has fewer) are enough."""
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    value = statistic(np.arange(n))
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan)
    if cases < ENOUGH:
        return Estimate(value, math.nan, math.nan, cases=cases)
    rng = np.random.default_rng(seed)
    resampled = np.array([statistic(rng.integers(n, size=n)) for _ in range(RESAMPLES)])
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Estimate(value, float(low), float(high), cases=cases)


def with_others(labels: Sequence[Label]) -> Worth:
    """How far a label agrees with the others' labels of the same pair: 1 the same side, 0.5 one tie, 0 opposite."""
    by_question: dict[str, list[Label]] = {}
    for label in labels:
        if label.preference is not None:
            by_question.setdefault(label.question, []).append(label)

    def worth(label: Label) -> float | None:
        assert label.preference is not None
        own = side(label.preference)
        others = [o.preference for o in by_question[label.question] if o.labeler != label.labeler]
        agreeing = [1 - abs(own - side(other)) for other in others if other is not None]
        return sum(agreeing) / len(agreeing) if agreeing else None

    return worth


@dataclass(frozen=True)
class AgreementReport:
    """How far people agree, and what the assistance did for each of them."""

    judged: Mapping[str, int]
    """Labeler -> pairs judged, skips left out."""
    alpha: Alpha
    people: list[Uplift]
    """Only those who were asked about pairs with assistance."""
    withdrawn_late: int
    controls: Mapping[str, OwnControls] = field(default_factory=dict)
    """Labeler -> how they judged gold questions, and pairs shown twice."""

    def lines(self) -> list[str]:
        """In words, for a page or a terminal."""
        out = [f"{name}: {n} judged" for name, n in sorted(self.judged.items())]
        out += [line for name, own in sorted(self.controls.items()) for line in own.lines(name)]
        for one in self.people:
            out.append(f"{one.labeler}, pairs with assistance to be seen:")
            for title, arm in (("shown", one.assisted), ("not shown", one.unassisted)):
                if arm.n or arm.skipped:
                    out.append(
                        f"  {title}: {arm.n} judged, {arm.ties} ties, {arm.skipped} skipped, "
                        f"median {arm.seconds:.1f} s, agreement with others {arm.worth}"
                    )
            if not math.isnan(one.difference.value):
                out.append(f"  uplift (agreement with others, assistance shown minus not shown): {one.difference}")
        if self.alpha.pairs:
            out.append(
                f"agreement between people over {self.alpha.pairs} pairs, Krippendorff's alpha: "
                f"ordinal {self.alpha.ordinal}, nominal {self.alpha.nominal}"
            )
        else:
            out.append(
                "no pair was judged by two people, so neither agreement nor an uplift in it can be told; "
                "train with --overlap 2 for that"
            )
        if self.withdrawn_late:
            out.append(f"{self.withdrawn_late} judgements were taken back after training had used them")
        return out


def report(labels: Labels, labeler: str | None = None) -> AgreementReport:
    """The report on a run's labels; with `labeler`, on this person (their agreement is with everybody)."""
    given = labels.labels()
    cases = labels.cases()
    drawn = [one for one in labels.labels(drawn=True) if labeler in (None, one.labeler)]
    judged = Counter(one.labeler for one in given if labeler in (None, one.labeler) and one.preference is not None)
    lifts = uplifts(drawn, cases, with_others(given))
    own = {name: one for name, one in labels.controlled().items() if labeler in (None, name)}
    return AgreementReport(judged, alpha(given, cases), lifts, labels.withdrawn_late(), own)
