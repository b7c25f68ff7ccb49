"""Are the proofs correct: does every step follow?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.papers import critique
from rrm.worlds.papers.locating import locate_chains


def proofs(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic derives every step's result again; where it differs, the step is wrong."""
    return Task(
        "proofs",
        instruction="Which answer says rightly which steps of the proof hold?",
        frame=critique.frame_proofs,
        facts=critique.facts_chains("proofs"),
        findings=critique.findings_chains,
        locate=locate_chains,
        assistants=tuple(assistants),
        covers=("proofs",),
        aspects=("proofs",),
        difficulty=8,
        settings=settings or Settings(max_tokens=48, rounds=1, cases=96, steps=12),
    )
