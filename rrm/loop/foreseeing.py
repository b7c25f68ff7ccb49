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
from rrm.core.records import Assistance, Case, Group, Outcome
from rrm.loop.state import NodeState

Seen = tuple[str, tuple[tuple[str, str, str], ...]]
"""An outcome, and what was said of it: what a reward model may read."""


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
    cases: dict[str, dict[Seen, int]] = {}  # each case is read once, and each of its outcomes, with what was said of it
    shown: dict[str, tuple[Case, list[tuple[Outcome, tuple[Assistance, ...]]]]] = {}
    for one in comparisons:
        known = cases.setdefault(one.case.id, {})
        _, rows = shown.setdefault(one.case.id, (one.case, []))
        for side in ((one.a, one.assistance_a), (one.b, one.assistance_b)):
            if _seen(*side) not in known:
                known[_seen(*side)] = len(rows)
                rows.append(side)
    groups = [Group(case, tuple(o for o, _ in rows), tuple(said for _, said in rows)) for case, rows in shown.values()]
    heads = {group.case.id: scores.heads for group, scores in zip(groups, score(groups), strict=True)}
    found = []
    for one in comparisons:
        known, own = cases[one.case.id], heads[one.case.id]
        a, b = known[_seen(one.a, one.assistance_a)], known[_seen(one.b, one.assistance_b)]
        margin = (own[a] - own[b]) * scale
        found.append(Margin(one.id, float(margin.mean()), float(margin.std(correction=0)), heldout=True))
    return found


def _seen(outcome: Outcome, said: Sequence[Assistance]) -> Seen:
    return outcome.id, tuple((one.assistant, one.version, one.text) for one in said)
