"""What a planning agent does for real: a few outcomes a round, of which it learns the model that all others are played
in (Leike et al. 2018, section 5.6); the share `settings.explore` of them with the weights that it began with.

They are kept as outcomes are that nobody could sample again: what really happened is a fact of the run, whatever
becomes of the weights, and a resumed run learns the same model.
"""

from __future__ import annotations

from rrm.core import border
from rrm.core.parties import Imagining
from rrm.core.protocols import Cases
from rrm.core.records import Case, Group
from rrm.loop.accounting import count
from rrm.loop.state import NodeState

LIVE = "live"


def live(node: NodeState, cases: Cases) -> None:
    """Once in each round, before the agent does anything else in it."""
    agent = node.agent
    if not isinstance(agent, Imagining) or not agent.lives or node.lived_in == node.round:
        return
    agent.imagine(())
    kept = node.journal.sampled(node.task.path, node.round, LIVE)
    if kept is None:
        drawn = border.drawn(
            lambda: cases.draw(agent.lives, node.key("live cases")), f"cases of {node.task.path!r}", agent.lives
        )
        away = int(node.task.settings.explore * len(drawn))
        kept = _played(node, drawn[away:])
        if away:
            with node.as_it_started():  # else a model learns nothing any more of what the agent once gave up
                kept += _played(node, drawn[:away])
        count(node, LIVE)
        node.journal.keep_sampled(node.task.path, node.round, LIVE, kept)
    node.lived += kept
    node.lived_in = node.round
    agent.imagine(node.lived)


def _played(node: NodeState, drawn: list[Case]) -> list[Group]:
    found = node.agent.sample(drawn, 1, node.key(LIVE), node.task.settings.temperature)
    return border.sampled(found, drawn, 1, f"{node.task.path}: the agent's sample(n=1)")


def lived(node: NodeState) -> list[Group]:
    """What it did for real in the rounds that are behind it."""
    kept = (node.journal.sampled(node.task.path, round, LIVE) for round in range(node.round))
    return [group for groups in kept if groups is not None for group in groups]


def end(node: NodeState) -> None:
    """It has learned: from now on it acts."""
    if isinstance(node.agent, Imagining):
        node.agent.imagine(())
        node.lived_in = -1
