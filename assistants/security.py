"""Does the chip keep one domain's secrets from another? Not asked where there is no attacker."""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.chip import critique


def security(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic says how many bits a prime and probe tells; where it differs, the claim is wrong."""
    return Task(
        "security",
        instruction="Which answer says rightly whether the chip leaks what is claimed, and little enough?",
        frame=critique.frame_security,
        facts=critique.verdicts(critique.findings_security),
        findings=critique.findings_security,
        locate=critique.locate_security,
        assistants=tuple(assistants),
        covers=("security",),
        aspects=("security",),
        difficulty=6,
        settings=settings or Settings(max_tokens=8, rounds=1, cases=96, steps=12),
    )
