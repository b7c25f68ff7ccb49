"""Is the claim new, or is it known already?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.papers import critique


def novelty(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic names the known idea that the title repeats, or none."""
    return Task(
        "novelty",
        instruction="Which answer says rightly whether the title repeats a known idea, and which one?",
        frame=critique.frame_novelty,
        facts=critique.facts_novelty,
        findings=critique.findings_novelty,
        assistants=tuple(assistants),
        covers=("novelty",),
        aspects=("novelty",),
        difficulty=4,
        settings=settings or Settings(max_tokens=12, cases=192, outcomes=6, lr=2e-4, batch=48, steps=16),
    )
