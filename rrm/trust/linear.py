"""An ensemble of linear heads in exact arithmetic: what its weights say, where its features can be, and whether more of
one feature can ever raise the reward.

A float32 is a whole number over a power of two, so weights are rational numbers, and what is said here is said of real
numbers without rounding. The model itself computes in float32, where two scores that are nearly equal may come out the
other way round: no statement is about that.

Notation: head h gives s_h = clamp((w_h x - shift_h) / scale) within +-limit; the reward is mean(s) - caution * std(s).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

Numbers = tuple[Fraction, ...]
BITS = 64
"""Roots are rounded up at this binary place."""
MOST = 10
"""Heads of which all sets can be looked at."""
TRIES = 400
"""Places at which a counterexample is looked for."""


def exactly(values: Any) -> Numbers:
    """Numbers of a one-dimensional array as fractions."""
    return tuple(Fraction(float(value)) for value in values)


@dataclass(frozen=True)
class LinearHeads:
    """The heads. `scale` None: it learned nothing, and every score is 0."""

    weight: tuple[Numbers, ...]
    """(heads, features)"""
    shift: Numbers
    scale: Fraction | None
    limit: Fraction
    caution: Fraction = Fraction(0)

    @classmethod
    def of(cls, state: Mapping[str, Any], limit: float, caution: float) -> LinearHeads:
        """Of a reward model's weights: heads.weight (heads, features), norm.shift (heads,) and norm.scale ()."""
        scale = float(state["norm.scale"])
        return cls(
            tuple(exactly(row) for row in state["heads.weight"]), exactly(state["norm.shift"]),
            Fraction(scale) if math.isfinite(scale) else None, Fraction(limit), Fraction(caution),
        )  # fmt: skip

    def raw(self, x: Sequence[Fraction]) -> Numbers:
        """(heads,) scores before the limit."""
        if self.scale is None:
            return (Fraction(0),) * len(self.weight)
        return tuple(
            (sum((w * v for w, v in zip(row, x, strict=True) if v), Fraction(0)) - shift) / self.scale
            for row, shift in zip(self.weight, self.shift, strict=True)
        )

    def clamped(self, raw: Sequence[Fraction]) -> Numbers:
        """Within the limit."""
        return tuple(max(-self.limit, min(self.limit, one)) for one in raw)

    def slope(self, direction: Mapping[int, Fraction]) -> Numbers:
        """(heads,) how fast a score grows along a direction (feature -> amount), while it is within the limit."""
        if self.scale is None:
            return (Fraction(0),) * len(self.weight)
        return tuple(sum((row[i] * a for i, a in direction.items()), Fraction(0)) / self.scale for row in self.weight)


@dataclass(frozen=True)
class Ranges:
    """Where features can be.

    The first ones are a hidden state after the model's last normalization, y = gain * z + offset with
    |z|^2 <= how many there are: true of RMSNorm and of LayerNorm, whatever the tokens (Zhang and Sennrich 2019, arXiv
    1910.07467; Ba et al. 2016, arXiv 1607.06450). Each of the others is between its two numbers.
    """

    hidden: int
    gain: Numbers | None
    """None: not known, so the hidden state may be anything."""
    offset: Numbers | None
    beside: tuple[tuple[Fraction, Fraction] | None, ...]
    """None: no bound."""

    def reach(self, row: Sequence[Fraction]) -> tuple[Fraction, Fraction] | None:
        """The least and the most of `row` times the features, rounded outwards; None: no bound."""
        low = high = Fraction(0)
        own = row[: self.hidden]
        if any(own):
            if self.gain is None or self.offset is None:
                return None
            middle = sum((w * b for w, b in zip(own, self.offset, strict=True)), Fraction(0))
            square = sum(((w * g) ** 2 for w, g in zip(own, self.gain, strict=True)), Fraction(0))
            radius = root_above(self.hidden * square)
            low, high = middle - radius, middle + radius
        for w, between in zip(row[self.hidden :], self.beside, strict=True):
            if not w:
                continue
            if between is None:
                return None
            ends = (w * between[0], w * between[1])
            low, high = low + min(ends), high + max(ends)
        return low, high

    def inside(self, x: Sequence[Fraction]) -> bool | None:
        """Whether features are within their ranges; None: that is not known of the hidden state."""
        for value, between in zip(x[self.hidden :], self.beside, strict=True):
            if between is not None and not between[0] <= value <= between[1]:
                return False
        if self.gain is None or self.offset is None:
            return None
        total = Fraction(0)
        for value, gain, offset in zip(x[: self.hidden], self.gain, self.offset, strict=True):
            if gain == 0:
                if value != offset:
                    return False
                continue
            total += ((value - offset) / gain) ** 2
        return total <= self.hidden


# --- roots -------------------------------------------------------------------------------------------


def root_above(x: Fraction) -> Fraction:
    """No less than the square root, and hardly more."""
    shifted = (x.numerator << 2 * BITS) // x.denominator + 1
    return Fraction(math.isqrt(shifted) + 1, 1 << BITS) if x else Fraction(0)


def exceeds(a: Fraction, p: Fraction, q: Fraction) -> bool:
    """Whether a + sqrt(p) > sqrt(q), exactly; p and q are at least 0."""
    if a < 0:
        left = p - q - a * a  # sqrt(p) > sqrt(q) + |a|
        return left > 0 and left * left > 4 * a * a * q
    right = q - a * a - p  # 2 a sqrt(p) > right
    return 4 * a * a * p > right * right if right >= 0 else True


def variance(values: Sequence[Fraction]) -> Fraction:
    """Of the population."""
    mean = sum(values, Fraction(0)) / len(values)
    return sum(((value - mean) ** 2 for value in values), Fraction(0)) / len(values)


def rises(before: Sequence[Fraction], after: Sequence[Fraction], caution: Fraction) -> bool:
    """Whether mean - caution * std is more after than before, exactly; of clamped scores."""
    more = (sum(after, Fraction(0)) - sum(before, Fraction(0))) / len(before)
    c = caution * caution
    return exceeds(more, c * variance(before), c * variance(after))


# --- can more of a feature raise it? -----------------------------------------------------------------


def can_rise(slope: Sequence[Fraction], caution: Fraction) -> bool:
    """Whether mean - caution * std can grow along a direction while these heads' scores move by `slope` each.

    d/dt (mean - c std) = mean(v) - c cov(s, v) / std(s) <= mean(v) + c std(v) by Cauchy and Schwarz, with equality
    where the scores differ from their mean as v does, with the opposite sign. So it is at most 0 everywhere if and only
    if mean(v) <= 0 and mean(v)^2 >= c^2 var(v), which rationals decide.
    """
    mean = sum(slope, Fraction(0)) / len(slope)
    return mean > 0 or mean * mean < caution * caution * variance(slope)


def limited(heads: LinearHeads, ranges: Ranges) -> tuple[bool, ...]:
    """Per head whether its score may be at the limit somewhere in the ranges."""
    if heads.scale is None:
        return (False,) * len(heads.weight)
    found = []
    for row, shift in zip(heads.weight, heads.shift, strict=True):
        reach = ranges.reach(row)
        found.append(
            reach is None
            or (reach[1] - shift) / heads.scale >= heads.limit
            or (reach[0] - shift) / heads.scale <= -heads.limit
        )
    return tuple(found)


def moving(slope: Sequence[Fraction], at_limit: Sequence[bool]) -> Iterator[Numbers]:
    """What the scores may move by: the slope, and the slope with heads standing still that may be at the limit."""
    choices = [((v, Fraction(0)) if may else (v,)) for v, may in zip(slope, at_limit, strict=True)]
    return itertools.product(*choices)


def never_rises(slope: Sequence[Fraction], at_limit: Sequence[bool], caution: Fraction) -> bool:
    """Whether the reward cannot grow along a direction anywhere in the ranges, the limit included. Between the places
    where a head meets its limit the reward is smooth, and it is continuous, so a slope of at most 0 on each piece is
    enough. False: this does not show it (for a mean alone: on some piece, which the ranges may not have, it grows)."""
    if len(slope) > MOST and caution and any(at_limit):
        return False
    if not caution:  # the worst: all that fall stand still
        return sum((v for v, may in zip(slope, at_limit, strict=True) if v > 0 or not may), Fraction(0)) <= 0
    return not any(can_rise(v, caution) for v in moving(slope, at_limit))


# --- counterexamples ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rise:
    """Two places that differ in one direction only, of which the second, with more of it, has the larger reward."""

    features: Numbers
    amount: Fraction
    before: Numbers
    after: Numbers
    """Clamped scores."""
    inside: bool | None
    """See `Ranges.inside`; of both places."""


@dataclass(frozen=True)
class Wanted:
    """Scores from which a step may raise the reward."""

    scores: tuple[float | None, ...]
    """Before the limit; None: any."""
    level: bool = False
    """Whether all of them may be higher or lower alike."""


def wanted(
    slope: Sequence[Fraction], amount: Fraction, limit: Fraction, at_limit: Sequence[bool], caution: Fraction
) -> Iterator[Wanted]:
    """Where to look, the likeliest first."""
    v, far = [float(one * amount) for one in slope], float(limit)
    mean = sum(v) / len(v)
    if not caution:
        yield Wanted((None,) * len(v))
    yield Wanted(tuple(-(one - mean) for one in v) if caution else tuple(-one / 2 for one in v), level=True)
    falling = [h for h, one in enumerate(v) if one < 0 and at_limit[h]]
    if len(falling) > MOST:
        return
    sides = sorted(itertools.product((0.0, 1.0, -1.0), repeat=min(len(falling), MOST // 2)), key=lambda s: s.count(0.0))
    for signs in sides:
        still = {
            h: far + 1 - v[h] if sign > 0 else -far - 1 for h, sign in zip(falling, signs, strict=False) if sign
        }  # fmt: skip
        if not still:
            continue
        level = sum(max(-far, min(far, one)) for one in still.values()) / len(v)
        yield Wanted(tuple(still.get(h) for h in range(len(v))))
        for place in (0.0, level, far / 2, -far / 2):
            yield Wanted(tuple(still.get(h, place - v[h]) for h in range(len(v))))


def find_rise(
    heads: LinearHeads, ranges: Ranges, direction: Mapping[int, Fraction], amount: Fraction, caution: Fraction,
    more: Sequence[Sequence[float]] = (), within_limit: bool = False,
) -> Rise | None:  # fmt: skip
    """A place in the ranges from which `amount` along the direction raises the reward, looked for, and then checked
    exactly; else one outside of them; None: none was found.

    more: scores to try, too (of a solver). within_limit: no head may be at its limit, before or after.
    """
    slope, may = heads.slope(direction), limited(heads, ranges)
    elsewhere: Rise | None = None
    given = [Wanted(tuple(scores), level) for scores in more for level in (True, False)]
    for scores in itertools.islice((*given, *wanted(slope, amount, heads.limit, may, caution)), TRIES):
        x = placed(heads, ranges, scores, frozenset(direction))
        if x is None:
            continue
        moved = tuple(value + amount * direction.get(i, Fraction(0)) for i, value in enumerate(x))
        raw = (heads.raw(x), heads.raw(moved))
        if within_limit and any(abs(one) > heads.limit for side in raw for one in side):
            continue
        before, after = (heads.clamped(side) for side in raw)
        if not rises(before, after, caution):
            continue
        both = (ranges.inside(x), ranges.inside(moved))
        found = Rise(x, amount, before, after, False if False in both else None if None in both else True)
        if found.inside or ranges.gain is None:  # of which no place is known to be inside
            return found
        elsewhere = elsewhere or found
    return elsewhere


def placed(
    heads: LinearHeads, ranges: Ranges, wanted: Wanted, zero: frozenset[int] = frozenset()
) -> Numbers | None:
    """Features at which the heads give about these scores, with as little as it takes in a hidden state of the length
    that the last normalization makes, and of the others as near as possible to the middle of their ranges (0 where
    there is none, and for `zero`). Float32 values, as fractions. None: there are none, or every score is 0."""
    import numpy as np  # late: the rest needs none

    if heads.scale is None or not ranges.hidden:
        return None
    d, scale = ranges.hidden, float(heads.scale)
    known = [h for h, score in enumerate(wanted.scores) if score is not None]
    weight = np.array([[float(w) for w in heads.weight[h]] for h in known]).reshape(len(known), len(heads.weight[0]))
    gain = np.array([float(g) for g in ranges.gain or (Fraction(1),) * d])
    offset = np.array([float(b) for b in ranges.offset or (Fraction(0),) * d])
    between = [one if one is not None and d + i not in zero else None for i, one in enumerate(ranges.beside)]
    middle = np.array([0.0 if one is None else float(sum(one) / 2) for one in between])
    half = np.array([0.0 if one is None else float((one[1] - one[0]) / 2) for one in between])
    # One more, free, for all scores alike. What moves the others to their ends costs as much as the whole hidden state.
    level = np.full((len(known), 1), 1e3 * scale if wanted.level else 0.0)
    a = np.concatenate([weight[:, :d] * gain, weight[:, d:] * half / math.sqrt(d), level], 1)
    target = np.array([float(wanted.scores[h] or 0.0) * scale + float(heads.shift[h]) for h in known])
    target -= weight[:, :d] @ offset + weight[:, d:] @ middle
    found = np.linalg.lstsq(a, target, rcond=None)[0] if known else np.zeros(a.shape[1])
    if not np.allclose(a @ found, target, rtol=1e-6, atol=1e-6 * scale):
        return None
    z, beside = found[:d], middle + half * found[d:-1] / math.sqrt(d)
    room = d * (1 - 1e-5) - z @ z  # a normalized state has about this length, no less
    if ranges.gain is not None and room > 0:
        unseen = np.array([[float(w) for w in row[:d]] for row in heads.weight]) * gain
        free = np.cos(np.arange(d) * 1.7 + 0.3) * (gain != 0)
        free -= np.linalg.lstsq(unseen, unseen @ free, rcond=None)[0]  # what no head sees
        if (length := free @ free) > 1e-9:
            near = z @ free / length
            z = z + free * (np.sqrt(near * near + room / length) - near)
    x = np.concatenate([gain * z + offset, beside]).astype(np.float32)
    return tuple(Fraction(float(value)) for value in x)


# --- bounds ------------------------------------------------------------------------------------------


def bounds(heads: LinearHeads, ranges: Ranges) -> tuple[Fraction, Fraction, Literal["weights", "limit"]]:
    """No mean of the heads' scores is less or more, anywhere in the ranges; and what says so: the weights, or for some
    head no more than the limit."""
    if heads.scale is None:
        return Fraction(0), Fraction(0), "weights"
    low = high = Fraction(0)
    by: Literal["weights", "limit"] = "weights"
    for row, shift in zip(heads.weight, heads.shift, strict=True):
        reach = ranges.reach(row)
        ends = (-heads.limit, heads.limit)
        if reach is not None:
            ends = ((reach[0] - shift) / heads.scale, (reach[1] - shift) / heads.scale)
        if reach is None or ends[0] < -heads.limit or ends[1] > heads.limit:
            by = "limit"
        a, b = heads.clamped(ends)
        low, high = low + a, high + b
    return low / len(heads.weight), high / len(heads.weight), by


def least_cautious(heads: LinearHeads) -> Fraction:
    """No mean - caution * std is less, whatever the features are: it is concave in the scores, so that it is least at a
    corner, with k heads at one limit and the rest at the other. Rounded down."""
    n = len(heads.weight)
    if heads.scale is None:
        return Fraction(0)
    corners = []
    for k in range(n + 1):
        scores = [heads.limit] * k + [-heads.limit] * (n - k)
        corners.append(sum(scores, Fraction(0)) / n - heads.caution * root_above(variance(scores)))
    return min(corners)
