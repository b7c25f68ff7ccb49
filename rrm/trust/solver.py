"""The same question put to z3 (de Moura and Bjorner 2008), which knows nothing of how `rrm.trust.linear` decides it.

Each question has a context of its own: in one that is shared, what z3 finds hangs on what it was asked before.

Each head's score is a real number between what it can be at all, together with the others free: more than the features
allow. So what z3 finds impossible is impossible, and what it finds possible must be traced back to features.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import Any, Literal

from rrm.core.errors import ConfigError
from rrm.core.extras import bring
from rrm.trust.linear import moving

SECONDS = 5.0
"""z3 may take so long for one question."""
MISSING = f"z3 is not installed; {bring('tools')}"


@dataclass(frozen=True)
class Searched:
    """What z3 says of the question whether the reward can rise."""

    can: bool | None
    """None: it did not find out in time."""
    scores: tuple[float, ...] = ()
    """From which it rises, before the limit."""
    amount: Fraction = Fraction(0)


def there() -> bool:
    """Whether z3 can be asked."""
    return find_spec("z3") is not None


def search_rise(
    slope: Sequence[Fraction], reach: Sequence[tuple[Fraction, Fraction] | None], amount: Fraction, caution: Fraction,
    limit: Fraction | None, whole: bool = False, seconds: float = SECONDS,
) -> Searched:  # fmt: skip
    """Whether there are scores from which a step of at most `amount` (exactly that, if `whole`) raises mean - caution *
    std.

    Parameters
    ----------
    slope: per head, of its score along the step.
    reach: per head between what its score is before the limit, before and after the step; None: anything.
    limit: where scores end; None: nowhere (while no head is at its limit). Without z3 it raises `ConfigError`.
    """
    if not there():
        raise ConfigError(MISSING)
    import z3  # late: it takes a third of a second

    n, own = len(slope), z3.Context()
    solver: Any = z3.Solver(ctx=own) if not caution else z3.Tactic("qfnra-nlsat", ctx=own).solver()
    solver.set("timeout", int(seconds * 1000))
    step = z3.Real("step", own)
    before = [z3.Real(f"s{h}", own) for h in range(n)]
    after = [s + _value(own, v) * step for s, v in zip(before, slope, strict=True)]
    solver.add(step > 0, step == _value(own, amount) if whole else step <= _value(own, amount))
    for s, t, between in zip(before, after, reach, strict=True):
        for one in (s, t) if between is not None else ():
            assert between is not None
            solver.add(one >= _value(own, between[0]), one <= _value(own, between[1]))
    first, second = ([_clamped(one, limit) for one in side] for side in (before, after))
    gained = z3.Sum(second) - z3.Sum(first)
    if caution:
        roots = []
        for name, side in (("p", first), ("q", second)):
            root = z3.Real(name, own)  # n * std
            scored = [z3.Real(f"{name}{h}", own) for h in range(n)]
            solver.add(*(a == b for a, b in zip(scored, side, strict=True)))
            total = z3.Sum(scored)
            solver.add(root >= 0, root * root == n * z3.Sum([a * a for a in scored]) - total * total)
            roots.append(root)
        gained = gained - _value(own, caution) * (roots[1] - roots[0])
    solver.add(gained > 0)
    said: Literal["sat", "unsat", "unknown"] = str(solver.check())  # type: ignore[assignment]
    if said != "sat":
        return Searched(False if said == "unsat" else None)
    model = solver.model()
    scores = tuple(float(_fraction(model.eval(s, model_completion=True))) for s in before)
    return Searched(True, scores, _fraction(model.eval(step, model_completion=True)))


def search_slope(
    slope: Sequence[Fraction], may: Sequence[bool], caution: Fraction, seconds: float = SECONDS
) -> Searched:
    """Whether mean - caution * std can grow at all along a step, for some way in which scores differ, with any of the
    heads at their limits that may be there. Scores that it gives are such a way.

    The growth is mean(v) - caution * cov(u, v), u being the scores' differences from their mean over their standard
    deviation: numbers of mean 0 and mean square 1 (or less, where scores are alike and a step sets them apart).
    Raises `ConfigError` if z3 is not installed.
    """
    if not there():
        raise ConfigError(MISSING)
    import z3

    n, until = len(slope), time.monotonic() + seconds
    for v in moving(slope, may):
        own = z3.Context()
        u = [z3.Real(f"u{h}", own) for h in range(n)]
        solver: Any = z3.Tactic("qfnra-nlsat", ctx=own).solver()
        solver.set("timeout", max(1, int((until - time.monotonic()) * 1000)))
        grown = z3.Sum([_value(own, one) - _value(own, caution * one) * a for a, one in zip(u, v, strict=True)])
        solver.add(z3.Sum(u) == 0, z3.Sum([a * a for a in u]) <= n, grown > 0)
        said = str(solver.check())
        if said == "unknown":
            return Searched(None)
        if said == "sat":
            model = solver.model()
            size = max(1.0, 2 * max(abs(float(one)) for one in v))
            scores = tuple(size * float(_fraction(model.eval(a, model_completion=True))) for a in u)
            return Searched(True, scores)
    return Searched(False)


def _value(own: Any, x: Fraction) -> Any:
    import z3

    return z3.RealVal(f"{x.numerator}/{x.denominator}", own)


def _clamped(x: Any, limit: Fraction | None) -> Any:
    import z3

    if limit is None:
        return x
    low, high = _value(x.ctx, -limit), _value(x.ctx, limit)
    return z3.If(x > high, high, z3.If(x < low, low, x))


def _fraction(value: Any) -> Fraction:
    """Of a rational, or of an algebraic number about as much."""
    if hasattr(value, "approx"):
        value = value.approx(20)
    return Fraction(value.numerator_as_long(), value.denominator_as_long())
