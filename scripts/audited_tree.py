"""The tree whose audit docs/audits.md shows: papers, judged with the help of critics that are trained in minutes.

    rrm train scripts/audited_tree.py --out runs/audited --threads 1
    rrm audit runs/audited --tree scripts/audited_tree.py --shifted scripts/audited_shift.py --cases 48
"""

from __future__ import annotations

from dataclasses import replace

from rrm import Settings, Task
from rrm.worlds.papers import Difficulty
from rrm_assistants import novelty, proofs, steps, writing
from rrm_tasks.paper import paper

FEW = {"rounds": 2, "cases": 32, "comparisons": 100, "steps": 4}


def tree(difficulty: Difficulty = Difficulty()) -> Task:
    """A paper, its experiments asked of nobody, over briefs of a difficulty; every node trained on little."""

    def few(node: Task) -> Task:
        settings = Settings(**{**node.settings.model_dump(exclude_unset=True), **FEW})
        below = tuple(few(sub) if isinstance(sub, Task) else sub for sub in node.assistants)
        return replace(node, settings=settings, assistants=below)

    return few(replace(paper(difficulty), assistants=(writing(), novelty(), proofs(assistants=[steps()]))))


task = tree()
