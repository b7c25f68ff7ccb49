"""One flat critic for everything: the alternative to a tree. One agent learns to answer the questions of all of a
task's assistants, with nobody's help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rrm.core.errors import Malformed
from rrm.core.records import Case, Outcome
from rrm.core.task import Task

ASKS = "critic asks"
"""A key in a case's data: the name of the assistant whose question it is."""


def critic(task: Task) -> Task:
    """A subtask that asks one agent what all of the task's assistants would be asked.

    Its budget of cases, comparisons and policy steps is that of all the nodes below `task` together; its other
    settings are the largest subtask's.
    """
    subs = {sub.name: sub for sub in task.subtasks}

    def frame(case: Case, outcome: Outcome) -> Sequence[Case]:
        found = []
        for name, sub in subs.items():
            try:
                asked = sub.frame(case, outcome) if sub.frame else ()
            except Malformed:
                continue
            found += [replace(one, data={**one.data, ASKS: name}) for one in asked]
        return found

    def of(part: str) -> Callable[[Case, Outcome], Any]:
        return lambda case, outcome: getattr(subs[case.data[ASKS]], part)(case, outcome)

    below = [node.settings for sub in task.subtasks for node in sub.walk()]
    most = max((sub.settings for sub in subs.values()), key=lambda s: s.max_tokens)
    rounds = max(s.rounds for s in below)
    budget = {
        "rounds": rounds,
        "cases": sum(s.cases * s.rounds for s in below) // rounds,
        "comparisons": sum(s.comparisons * s.rounds for s in below) // rounds,
        "steps": sum(s.steps * s.rounds for s in below) // rounds,
    }
    return Task(
        "critic",
        instruction="Which answer says rightly what is wrong?",
        frame=frame,
        facts=of("facts"),
        findings=of("findings"),
        surface=of("surface"),
        covers=tuple(dict.fromkeys(aspect for sub in subs.values() for aspect in sub.covers)),
        settings=most.model_copy(update=budget),
    )
