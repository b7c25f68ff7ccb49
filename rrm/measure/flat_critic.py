"""One flat critic for everything: the alternative to a tree. One agent learns to answer the questions of all of a
task's assistants, with nobody's help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rrm.core.errors import Malformed
from rrm.core.records import Case, Outcome
from rrm.core.task import Task

ASKS = "critic asks"
"""A key in a case's data: the name of the assistant whose question it is."""


def critic(task: Task) -> Task:
    """A subtask that asks one agent what all of the task's assistants would be asked.

    Its budget of cases, comparisons and policy steps is that of all the nodes below `task` together; its other
    settings are the largest subtask's. It is trained on their own cases if all of them have some, else on those framed
    from the task's outcomes.
    """
    subs = {sub.name: sub for sub in task.subtasks}

    def frame(case: Case, outcome: Outcome) -> Sequence[Case]:
        found = []
        for name, sub in subs.items():
            try:
                asked = sub.frame(case, outcome) if sub.frame else ()
            except Malformed:
                continue
            found += marked(asked, name)
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
        cases=Asked(subs) if all(sub.cases is not None for sub in subs.values()) else None,
        frame=frame,
        facts=of("facts"),
        findings=of("findings"),
        surface=of("surface"),
        covers=tuple(dict.fromkeys(aspect for sub in subs.values() for aspect in sub.covers)),
        settings=most.model_copy(update=budget),
    )


@dataclass(frozen=True)
class Asked:
    """The cases that assistants have of their own, of each equally many, marked with whose question they are."""

    subs: Mapping[str, Task]

    def draw(self, n: int, key: str) -> list[Case]:
        """The first of each, then the second of each, and so on."""
        each = -(-n // len(self.subs))
        drawn = [marked(sub.cases.draw(each, key), name) for name, sub in self.subs.items() if sub.cases is not None]
        return [case for row in zip(*drawn, strict=True) for case in row][:n]


def marked(cases: Sequence[Case], name: str) -> list[Case]:
    """The cases, with whose question they are."""
    return [replace(case, data={**case.data, ASKS: name}) for case in cases]
