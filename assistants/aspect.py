"""What critics of one aspect in a world with exact truth have in common."""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant, Facts, Findings, Frame, Locate


def critic_of(
    aspect: str, instruction: str, frame: Frame, facts: Facts, findings: Findings, locate: Locate, difficulty: float,
    max_tokens: int, assistants: Sequence[Task | Assistant], settings: Settings | None,
) -> Task:  # fmt: skip
    """A task that has the name of the aspect, and covers it and no other. `max_tokens` counts without `settings`."""
    return Task(
        aspect,
        instruction=instruction,
        frame=frame,
        facts=facts,
        findings=findings,
        locate=locate,
        assistants=tuple(assistants),
        covers=(aspect,),
        aspects=(aspect,),
        difficulty=difficulty,
        settings=settings or Settings(max_tokens=max_tokens, rounds=1, cases=96, steps=12),
    )
