"""How wrong a judge at the top of a tree can be, from what was counted at every level: a bound that holds with a stated
confidence.

At a node let E be that the judge's verdict is wrong, and W_c that what assistant c claims of it is wrong. Then

    P(E) <= P(E and no W_c) + sum over c of P(E | W_c) P(W_c)                       (union bound)
    P(W_c) <= P(the judge at c's own node rejects c's claim) + P(its verdict there is wrong)

since a wrong claim is either rejected there, or the verdict that accepts it is wrong. The last term is the same
question one level below, so this recurs down to nodes without assistants. P(E | W_c) is the gain of the edge: at most
1, and less where wrong claims were put in and counted (`rrm measure propagation`). Each of these shares was counted, in
independent trials, and is replaced by its one-sided upper bound (Clopper and Pearson 1934, or Hoeffding 1963) at a
confidence of 1 - delta / m for m shares, so that all hold together with 1 - delta (Bonferroni). Neither how verdicts
and claims hang together nor how large the tree is matters to that; how the trials were drawn does: `ASSUMPTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rrm.core.shares import LEVEL, most

ASSUMPTIONS = (
    "The trials of a share are independent, and drawn as what the bound is used for: other cases, another agent, or an "
    "agent that was optimized against the judge since, are not covered.",
    "Whether a verdict is wrong was seen in the trials, so somebody knew the truth there.",
    "Wrong claims that were put in to count a gain move the judge as those that come by themselves, false alarms and "
    "misses each for themselves; where none were put in the gain is taken to be 1.",
    "An assistant makes at its parent the claims that it makes at its own node.",
)
Upper = Callable[[float, float, float], float]
"""(k, n, confidence) -> an upper bound of the share of which k of n were seen."""


@dataclass(frozen=True)
class Count:
    """What was seen `k` times in `n` independent trials."""

    k: float
    n: float


@dataclass(frozen=True)
class Edge:
    """An assistant of a node."""

    node: Level
    rejected: Count
    """Of its claims, by the judge at its own node."""
    gains: tuple[Count, ...] = ()
    """Verdicts that were wrong where its claim was made wrong, by kind of wrong claim; empty: nobody counted them."""


@dataclass(frozen=True)
class Level:
    """A node, and what is below it."""

    wrong: Count
    """Verdicts that were wrong although every assistant's claim was right; without assistants, that were wrong."""
    edges: tuple[Edge, ...] = ()


def shares(level: Level) -> int:
    """How many shares a bound rests on."""
    return 1 + sum(1 + len(edge.gains) + shares(edge.node) for edge in level.edges)


def bound(level: Level, confidence: float = LEVEL, upper: Upper = most) -> float:
    """No more often is the verdict at this node wrong, with the confidence; 1 if nothing can be said."""
    return _bound(level, 1 - (1 - confidence) / shares(level), upper)


def _bound(level: Level, each: float, upper: Upper) -> float:
    total = upper(level.wrong.k, level.wrong.n, each)
    for edge in level.edges:
        gain = max((upper(one.k, one.n, each) for one in edge.gains), default=1.0)
        total += gain * min(1.0, upper(edge.rejected.k, edge.rejected.n, each) + _bound(edge.node, each, upper))
    return min(1.0, total)


def added(claims: tuple[Count, ...], confidence: float = LEVEL, upper: Upper = most) -> float:
    """No more can wrong claims add to the chance that a verdict is wrong, whatever the judge makes of them: the sum of
    the chances that an assistant's is wrong, counted by themselves."""
    each = 1 - (1 - confidence) / max(1, len(claims))
    return min(1.0, sum(upper(one.k, one.n, each) for one in claims))


def hoeffding(k: float, n: float, confidence: float = LEVEL) -> float:
    """One-sided upper bound of a mean of n independent values between 0 and 1 with the sum k (Hoeffding 1963, theorem
    1): wider than Clopper and Pearson's, and true of other values than 0 and 1, too."""
    return 1.0 if n <= 0 else min(1.0, k / n + math.sqrt(math.log(1 / (1 - confidence)) / (2 * n)))


def levels_of(level: Level) -> Iterator[tuple[int, Level]]:
    """(depth, node) of all, this one first."""
    yield 0, level
    for edge in level.edges:
        for depth, below in levels_of(edge.node):
            yield depth + 1, below
