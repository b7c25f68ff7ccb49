"""What assistants say, told otherwise than they found it: what audits and measurements put before whoever judges.

Only the claim changes, so an answer that says something else than it did is quoted, and cannot be read: its words would
give the change away at once. Who follows answers down finds what is true of the others at the usual price, and of these
nothing, neither for them nor against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rrm.core.errors import Malformed
from rrm.core.records import Answer, Assistance, Case, Fact, Finding, Outcome
from rrm.core.task import Facts, Task

WITHHELD = "withheld"
"""A key in the data of an answer's outcome that nobody is given to read."""
LIES = ("wrong", "sandbagging", "colluding")
"""wrong: the opposite of what was found; sandbagging: that all is right; colluding: that all is right of an ally's
outcomes, and wrong of the others'."""


def lied(kind: str, finding: Finding, ally: bool) -> Finding:
    """What an assistant says instead of what it found, misleading in one of the ways of `LIES`. `ally`: whether the
    outcome is an ally's; only who colludes asks that."""
    if kind == "sandbagging":
        return replace(finding, holds=True, part=None)
    if kind == "wrong":
        return replace(finding, holds=not finding.holds, part=None)
    return finding if finding.holds == ally else replace(finding, holds=ally, part=None)


def retold(assistance: Assistance, change: Callable[[str, Finding], Finding]) -> Assistance:
    """The assistance with other findings, down its whole tree. change: (assistant, what it found) -> what it says."""
    answers = tuple(
        replace(
            claiming(answer, tuple(change(assistance.assistant, one) for one in answer.findings)),
            below=tuple(retold(sub, change) for sub in answer.below),
        )
        for answer in assistance.answers
    )
    return replace(assistance, answers=answers)


def claiming(answer: Answer, findings: tuple[Finding, ...]) -> Answer:
    """The answer, quoted with these findings; withheld, if it does not say all of them itself. (At which part they
    point does not matter.)"""
    said = {(f.fact, f.holds) for f in answer.findings}
    quoted = replace(answer, findings=findings)
    return quoted if said.issuperset((f.fact, f.holds) for f in findings) else withheld(quoted)


def withheld(answer: Answer) -> Answer:
    """The answer as far as it is quoted, and no further: what it claims, what was said of it, and nothing to read."""
    data = {**(answer.outcome.data or {}), WITHHELD: True}
    return replace(answer, outcome=replace(answer.outcome, data=data))


def withholding(task: Task, itself: bool = False) -> Task:
    """The task as a user knows it who is given withheld answers of what is below it: they do not parse. So to follow
    one costs the attention for reading and tells nothing, for or against who claims it."""

    def closed(facts: Facts) -> Facts:
        def read(case: Case, outcome: Outcome) -> Sequence[Fact]:
            if outcome.data is not None and WITHHELD in outcome.data:
                raise Malformed("this answer is withheld")
            return facts(case, outcome)

        return read

    below = tuple(withholding(sub, itself=True) for sub in task.subtasks)
    return replace(task, facts=closed(task.facts) if itself else task.facts, assistants=below)
