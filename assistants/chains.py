"""Critics of chains of operations in the papers world: do the totals of experiments, and the steps of proofs, hold?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.papers import critique
from rrm.worlds.papers.locating import locate_chains
from rrm_assistants.aspect import critic_of


def experiments(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic totals every series again; where its total differs, the experiment is wrong."""
    instruction = "Which answer says rightly which totals follow from the data?"
    frame, facts, findings = critique.frame_experiments, critique.facts_chains("experiments"), critique.findings_chains
    return critic_of(
        "experiments", instruction, frame, facts, findings, locate_chains, 6, 32, assistants, settings
    )


def proofs(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic derives every step's result again; where it differs, the step is wrong."""
    instruction = "Which answer says rightly which steps of the proof hold?"
    frame, facts, findings = critique.frame_proofs, critique.facts_chains("proofs"), critique.findings_chains
    return critic_of(
        "proofs", instruction, frame, facts, findings, locate_chains, 8, 48, assistants, settings
    )
