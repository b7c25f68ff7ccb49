"""Critics of chains of operations in the papers world: do the totals of experiments, and the steps of proofs, hold?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant, Frame
from rrm.worlds.papers import critique
from rrm.worlds.papers.locating import locate_chains


def experiments(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic totals every series again; where its total differs, the experiment is wrong."""
    instruction = "Which answer says rightly which totals follow from the data?"
    return _critic("experiments", instruction, critique.frame_experiments, 6, 32, assistants, settings)


def proofs(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic derives every step's result again; where it differs, the step is wrong."""
    instruction = "Which answer says rightly which steps of the proof hold?"
    return _critic("proofs", instruction, critique.frame_proofs, 8, 48, assistants, settings)


def _critic(
    name: str, instruction: str, frame: Frame, difficulty: float, max_tokens: int,
    assistants: Sequence[Task | Assistant], settings: Settings | None,
) -> Task:  # fmt: skip
    """A critic of every chain of a paper's section `name`, which is also the aspect that it covers."""
    return Task(
        name,
        instruction=instruction,
        frame=frame,
        facts=critique.facts_chains(name),
        findings=critique.findings_chains,
        locate=locate_chains,
        assistants=tuple(assistants),
        covers=(name,),
        aspects=(name,),
        difficulty=difficulty,
        settings=settings or Settings(max_tokens=max_tokens, rounds=1, cases=96, steps=12),
    )
