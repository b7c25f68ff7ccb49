"""What a node's agent did while it learned, counted where it acts: what was acted out cannot be taken back.

Kept as metrics of the phase "acted", a step for each of `STAGES`. A round that is done again after an interruption does
the same again, which is counted once.
"""

from __future__ import annotations

from rrm.core.parties import Accountable
from rrm.loop.state import NodeState

ACTED = "acted"
STAGES = ("live", "to frame", "to judge", "adversary", "own steps", "accept before", "accept after")
"""What an agent acts for: a planning one learns of it (`rrm.loop.living`); its assistants' cases are made of it; it is
judged; what an adversary tries, and then does; what the policy tries in its improvement; whether that stands, with the
agent of before and with that of after."""


def count(node: NodeState, stage: str) -> None:
    """Keep what a node's agent did since this was last called, if it counts."""
    if not isinstance(node.agent, Accountable) or not (found := dict(node.agent.acted())):
        return
    node.journal.log(node.task.path, node.round, ACTED, STAGES.index(stage), found)
