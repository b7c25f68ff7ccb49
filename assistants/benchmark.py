"""Does the benchmark, run in simulation, give what the designer claims, and is the chip fast enough?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.chip import critique


def benchmark(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic states the mean hits of every program and the time; where they differ, the claim is wrong."""
    return Task(
        "benchmark",
        instruction="Which answer says rightly whether hits and time are as claimed, and the chip fast enough?",
        frame=critique.frame_benchmark,
        facts=critique.verdicts(critique.findings_benchmark),
        findings=critique.findings_benchmark,
        locate=critique.locate_benchmark,
        assistants=tuple(assistants),
        covers=("benchmark",),
        aspects=("benchmark",),
        difficulty=10,
        settings=settings or Settings(max_tokens=32, rounds=1, cases=96, steps=12),
    )
