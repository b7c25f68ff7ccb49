"""A node's comparisons: which pairs the user is asked about, what it says, and whether it prefers an improvement."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from rrm.core import border
from rrm.core.errors import Notice, RRMError
from rrm.core.judgements import ACCEPT, Comparison, Pair, improved_first
from rrm.core.parties import Distant, Expectant, Filming, User
from rrm.core.records import Group, Spans, digest
from rrm.core.task import Assistant, Task, assist
from rrm.loop.foreseeing import foresee
from rrm.loop.state import NodeState

ENOUGH = 8
"""Stop if this many comparisons are all ties or abstentions."""


def choose(node: NodeState, groups: Sequence[Group]) -> list[Pair]:
    """The pairs the user is asked about: by the ensemble's disagreement, or at random (`choose`), first those of whole
    outcomes, then those of parts (`parts`; fewer where parts are alike, and more wholes then). None where all
    outcomes are alike, which raises `RRMError` in the first round: then there is nothing to learn from."""
    s = node.task.settings
    candidates: list[tuple[float, str, Pair]] = []
    active = s.choose == "disagreement" and node.round > 0
    scores = node.scores(groups) if active else None
    for g, group in enumerate(groups):
        for i, j in itertools.combinations(range(len(group.outcomes)), 2):
            if group.outcomes[i].content == group.outcomes[j].content:
                continue
            pair = Pair.of(node.task.path, group, i, j)
            heads = scores[g].heads if scores is not None else None
            doubt = float((heads[i] - heads[j]).std(correction=0)) if heads is not None else 0.0
            candidates.append((-doubt, digest(node.key("choose"), pair.stream), pair))
    candidates.sort(key=lambda row: row[:2])
    if not candidates and node.round == 0:
        warm = "; it began with its assistant's weights: set explore, or begin=start" if s.begin == "assistant" else ""
        raise RRMError(
            f"{node.task.path}: all outcomes sampled in round {node.round} are alike, so there is "
            f"nothing to compare; raise temperature, or use a model that is not certain of one{warm}"
        )
    pairs = [pair for *_, pair in candidates]
    pairs = _numbered(node, pairs) if s.repeat else [*{pair.id: pair for pair in pairs}.values()]
    parts = [pair for pair in pairs if pair.case.id in node.parted][: s.partial]
    wholes = [pair for pair in pairs if pair.case.id not in node.parted][: s.comparisons - len(parts)]
    return [*wholes, *parts]


def _numbered(node: NodeState, pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair with how many times its outcomes, whichever was shown as A, were asked about before, in earlier rounds
    too: another question, whose noise is drawn anew."""
    times = Counter(_asked(comparison.pair) for comparison in node.comparisons)
    numbered = []
    for pair in pairs:
        numbered.append(replace(pair, again=times[_asked(pair)]))
        times[_asked(pair)] += 1
    return numbered


def _asked(pair: Pair) -> tuple[str, ...]:
    return (pair.case.id, *sorted((pair.a.id, pair.b.id)))


def compare(node: NodeState, user: User, pairs: Sequence[Pair]) -> None:
    """The user's judgements of a round's pairs. Raises `RRMError` if it has never preferred anything. Where it did so
    in an earlier round, all outcomes may have become as good as it can see: that is only said."""
    fresh = ask(node, user, pairs)
    preferences = [c.preference for c in fresh]
    if len(fresh) >= ENOUGH and not set(preferences) - {0.5, None}:
        nothing = (
            f"{node.task.path}: in none of {len(fresh)} comparisons of round {node.round} did {user.name} prefer one "
            "outcome"
        )
        rated = any(one.remark.level is not None for c in node.comparisons for one in c.remarks)
        if {c.preference for c in node.comparisons} <= {0.5, None} and not rated:
            raise RRMError(
                f"{nothing}, so there is nothing to learn from. Either the agent's outcomes do not differ in what the "
                "user can see (use a model that can do this role at times, raise temperature or outcomes), or the "
                "user sees too little (more attention, an assistant for this task)."
            )
        warnings.warn(f"{nothing}; in earlier rounds it did. Has it learned what there is?", Notice, stacklevel=2)
    _unsaid(node, user, fresh)
    node.emit(
        "compare",
        step=len(pairs),
        of=len(pairs),
        comparisons=len(node.comparisons),
        ties=preferences.count(0.5),
        abstentions=preferences.count(None),
        attention=sum(c.judgement.attention for c in fresh),
    )


def _unsaid(node: NodeState, user: User, fresh: Sequence[Comparison]) -> None:
    """Say which kinds the user was asked for and never gave: not everyone can give all of them."""
    said = {one.remark.kind for comparison in fresh for one in comparison.remarks}
    lacking = [kind for kind in node.task.settings.asked if kind not in said]
    if lacking and len(fresh) >= ENOUGH:
        warnings.warn(
            f"{node.task.path}: ask={node.task.settings.ask}, and in none of {len(fresh)} comparisons of round "
            f"{node.round} did {user.name} give a {', a '.join(lacking)}; docs/remarks.md says who gives which",
            Notice, stacklevel=2,
        )  # fmt: skip


def ask(node: NodeState, user: User, pairs: Sequence[Pair], purpose: str = "") -> list[Comparison]:
    """Judgements of pairs, kept with their `Comparison.purpose`, whoever of several processes asked for them.

    A pair that was judged before in this round (fresh outcomes may be those of before) is not asked again, and counts
    once, in the reward model's data and in what the user recalls: as it would in a run that resumes after this round.
    """
    judged = node.world.once(lambda: _judge(node, user, pairs, purpose))
    counted = _counted(node)
    fresh = [comparison for comparison in judged if comparison.pair.id not in counted]
    if not node.world.main:
        for comparison in fresh:
            user.recall(node.task, comparison.judgement)
    node.comparisons += fresh
    return judged


def _counted(node: NodeState) -> set[str]:
    """The pairs of this round that are among the node's comparisons."""
    return {comparison.pair.id for comparison in node.comparisons if comparison.round == node.round}


def _judge(node: NodeState, user: User, pairs: Sequence[Pair], purpose: str) -> list[Comparison]:
    """Judgements, each kept as it is given; what was judged before is not asked again."""
    task = node.task
    known = {c.pair.id: c for c in node.journal.comparisons(task.path, node.round)}
    counted = _counted(node)
    judged: list[Comparison] = []
    new = [pair for pair in pairs if pair.id not in known]
    if isinstance(node.agent, Filming):
        node.agent.film(task, new)
    if isinstance(user, Expectant):
        node.emit("compare", of=len(pairs))  # it may be a while until the first is judged
        user.expect(task, node.round, new, node.journal.folder)
    for position, pair in enumerate(pairs):
        if (comparison := known.get(pair.id)) is not None:
            if pair.id not in counted:
                user.recall(task, comparison.judgement)
        else:
            comparison = put(user, task, pair, node.round, position, purpose, node.journal.add)
        judged.append(comparison)
        if position % 16 == 0 or position + 1 == len(pairs):
            node.emit("compare", step=position + 1, of=len(pairs))
    return judged


def put(
    user: User, task: Task, pair: Pair, round: int, position: int, purpose: str,
    keep: Callable[[Comparison, int, tuple[Spans, Spans]], None],
) -> Comparison:  # fmt: skip
    """The user's judgement of a pair, kept as it is given; by the process that has the user, if that is another."""
    if isinstance(user, Distant):
        return user.put(task, pair, round, position, purpose)
    began = time.monotonic()
    where = f"{task.path}: the user {user.name!r} (pair {pair.id})"
    with border.told(where):
        judgement = border.judged(user.judge(task, pair), where)
    seconds = time.monotonic() - began if judgement.seconds is None else judgement.seconds
    comparison = Comparison(pair, judgement, round, judgement.by or user.name, seconds, purpose)
    keep(comparison, position, (task.located(pair.case, pair.a), task.located(pair.case, pair.b)))
    return comparison


def accepted(
    node: NodeState, user: User, helpers: Sequence[Assistant], old: Sequence[Group], new: Sequence[Group]
) -> bool:
    """Whether the user, on fresh outcomes, prefers the improved agent, or does not clearly prefer the old.

    An agent optimized against a reward model that is wrong earns reward and gets worse (over-optimization:
    Gao et al. 2022, arXiv 2210.10760). The user's own judgement of fresh outcomes is no target of the
    optimization, so it can tell. "Clearly": see `stands`. These comparisons are the next round's
    training data too, where they show the reward model what it was wrong about.
    """
    both = [Group(o.case, (*o.outcomes, *n.outcomes)) for o, n in zip(old, new, strict=True)]
    both = assist(helpers, [group for group in both if group.outcomes[0].content != group.outcomes[1].content])
    first: dict[str, bool] = {}
    pairs: dict[str, Pair] = {}
    for group in both:
        turned = improved_first(node.key(), group.case.id)
        pair = Pair.of(node.task.path, group, int(turned), int(not turned))
        pairs[pair.id], first[pair.id] = pair, turned
    judged = ask(node, user, list(pairs.values()), ACCEPT)
    foresee(node, node.round, judged)
    wins = [
        c.preference if first[c.pair.id] else 1 - c.preference for c in judged if c.preference is not None
    ]
    if not wins:
        return True
    kept = stands(wins)
    node.emit("accept", preferred=sum(wins) / len(wins), comparisons=len(wins), kept=float(kept))
    return kept


def stands(wins: Sequence[float]) -> bool:
    """Whether an improvement with these wins (1; 0 lost, 0.5 a tie) is not clearly worse: by more than a standard error
    of as many coin tosses. The observed spread would not do: of one comparison, or of all lost, it is 0."""
    return sum(wins) / len(wins) + 0.5 / math.sqrt(len(wins)) >= 0.5
