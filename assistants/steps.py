"""Does one composite step hold? It takes the step apart and derives each part again."""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.papers import critique


def steps(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic derives every part of one step; where one differs, the step is wrong."""
    return Task(
        "steps",
        instruction="Which answer derives the parts of the step rightly?",
        frame=critique.frame_steps,
        facts=critique.facts_steps,
        findings=critique.findings_steps,
        assistants=tuple(assistants),
        covers=("proofs", "experiments"),
        aspects=("steps",),
        difficulty=3,
        settings=settings or Settings(max_tokens=32, cases=64, batch=24, steps=12, lr=1e-3),
    )
