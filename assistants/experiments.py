"""Were the experiments done right: do the totals follow from the data?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.papers import critique
from rrm.worlds.papers.locating import locate_chains


def experiments(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic totals every series again; where its total differs, the experiment is wrong."""
    return Task(
        "experiments",
        instruction="Which answer says rightly which totals follow from the data?",
        frame=critique.frame_experiments,
        facts=critique.facts_chains("experiments"),
        findings=critique.findings_chains,
        locate=locate_chains,
        assistants=tuple(assistants),
        covers=("experiments",),
        aspects=("experiments",),
        difficulty=6,
        settings=settings or Settings(max_tokens=32, rounds=1, cases=96, steps=12),
    )
