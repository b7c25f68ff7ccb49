"""Does the chip take the power that is claimed, and does it stay cool enough?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.chip import critique


def heat(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic works out power and temperature again; where they differ, the claim is wrong."""
    return Task(
        "heat",
        instruction="Which answer says rightly whether power and temperature are as claimed, and the chip cool enough?",
        frame=critique.frame_heat,
        facts=critique.verdicts(critique.findings_heat),
        findings=critique.findings_heat,
        locate=critique.locate_heat,
        assistants=tuple(assistants),
        covers=("heat",),
        aspects=("heat",),
        difficulty=4,
        settings=settings or Settings(max_tokens=16, rounds=1, cases=96, steps=12),
    )
