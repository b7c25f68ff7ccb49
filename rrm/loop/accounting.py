"""What a node's agent did while it learned, counted where it acts: what was acted out cannot be taken back.

Kept as metrics of the phase `ACTED`, a step for each of `STAGES`. A round that is done again after an interruption does
the same again, which is counted once.
"""

from __future__ import annotations

from rrm.core.parties import ACTED, STAGES, Accountable
from rrm.loop.state import NodeState


def count(node: NodeState, stage: str) -> None:
    """Keep what a node's agent did since this was last called, if it counts."""
    if not isinstance(node.agent, Accountable) or not (found := dict(node.agent.acted())):
        return
    node.journal.log(node.task.path, node.round, ACTED, STAGES.index(stage), found)
