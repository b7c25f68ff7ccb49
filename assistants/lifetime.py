"""Does the chip last as long as is claimed, and long enough?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.chip import critique


def lifetime(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic works out the years again (Black's equation); where they differ, the claim is wrong."""
    return Task(
        "lifetime",
        instruction="Which answer says rightly whether the chip lasts as long as claimed, and long enough?",
        frame=critique.frame_lifetime,
        facts=critique.verdicts(critique.findings_lifetime),
        findings=critique.findings_lifetime,
        locate=critique.locate_lifetime,
        assistants=tuple(assistants),
        covers=("lifetime",),
        aspects=("lifetime",),
        difficulty=4,
        settings=settings or Settings(max_tokens=8, rounds=1, cases=96, steps=12),
    )
