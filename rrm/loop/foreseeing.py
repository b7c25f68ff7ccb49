"""What a round's reward model makes of comparisons that were judged after its fit: is it still right where the agent,
optimized against it, has gone? Kept among the margins of its round, as held out: it was not fitted to them.

Two kinds are judged by people a round ahead of a fit: whether the improvement stands (fresh outcomes of before and
after it), and the next round's. Nothing in training reads this; it costs a forward pass over their outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rrm.core.judgements import Comparison, Margin
from rrm.core.protocols import RewardModel, Scores
from rrm.core.records import Group
from rrm.loop.state import NodeState


def foresee(node: NodeState, round: int, comparisons: Sequence[Comparison]) -> None:
    """Keep the margins of the reward model as it is now, fitted in `round`, on comparisons judged since.

    Those that are too long for it are left out. Of a pair that it was fitted to nothing new is kept.
    """
    find = getattr(node.reward, "too_long", None)
    long = {one.id for one in find(comparisons)} if find is not None and comparisons else set()
    fresh = [one for one in comparisons if one.id not in long]
    if fresh:
        node.journal.score(node.task.path, round, margins(node.reward, node.scores, fresh))


def margins(
    reward: RewardModel, score: Callable[[list[Group]], Sequence[Scores]], comparisons: Sequence[Comparison]
) -> list[Margin]:
    """The reward model's view of each comparison, as its fit gives it of what is held out.

    In nats: a normalized score times `reward.scale`, or the score itself of a reward model that has none.
    """
    scale = float(getattr(reward, "scale", 1.0))
    if not math.isfinite(scale):  # it has learned nothing: all scores are 0
        scale = 0.0
    cases: dict[str, list[Comparison]] = {}
    for one in comparisons:
        cases.setdefault(one.case.id, []).append(one)
    groups = [  # a case is read once, however many of its outcomes were judged
        Group(
            some[0].case,
            tuple(outcome for one in some for outcome in (one.a, one.b)),
            tuple(said for one in some for said in (one.assistance_a, one.assistance_b)),
        )
        for some in cases.values()
    ]
    found = []
    for some, scores in zip(cases.values(), score(groups), strict=True):
        for i, one in enumerate(some):
            margin = (scores.heads[2 * i] - scores.heads[2 * i + 1]) * scale
            found.append(Margin(one.id, float(margin.mean()), float(margin.std(correction=0)), heldout=True))
    return found
