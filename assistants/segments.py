"""What does one program's trace give, segment by segment? It takes a benchmark apart."""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.chip import critique


def segments(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic states the hits of every phase of one program; where one differs, the claim is wrong."""
    return Task(
        "segments",
        instruction="Which answer states the hits of the program's phases rightly?",
        frame=critique.frame_segments,
        facts=critique.facts_segments,
        findings=critique.findings_segments,
        locate=critique.locate_segments,
        assistants=tuple(assistants),
        covers=("benchmark",),
        aspects=("segments",),
        difficulty=3,
        settings=settings or Settings(max_tokens=16, cases=64, batch=24, steps=12),
    )
