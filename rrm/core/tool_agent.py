"""A tool in an agent's place: a finished assistant whose answers are the tool's reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rrm.core.errors import Malformed, RRMError
from rrm.core.records import Case, Fact, Finding, Group, Outcome
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task
from rrm.core.tools import Tool, consult
from rrm.core.verdicts import parse

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ToolAgent:
    """A tool in an agent's place: its outcomes are the tool's reports. Asked n times, it says the same n times."""

    tool: Tool

    repeatable = False
    """It may answer otherwise if it is asked again (a time limit); its answers are kept by the assistant's memo."""

    @property
    def version(self) -> str:
        """Of the tool, with its name."""
        return f"{self.tool.name} {self.tool.version}"

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """The tool's report on each case, `n` times; nothing in it is random."""
        groups = []
        for case in cases:
            examined = _examined(case)
            groups.append(Group(case, (Outcome(consult(self.tool, *examined).answer),) * n))
        return groups

    def state(self) -> dict[str, torch.Tensor]:
        """Empty: a tool has no weights."""
        return {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Raises `RRMError` unless the state is empty."""
        if state:
            raise RRMError(f"tool {self.tool.name!r} has no weights, but was given {sorted(state)}")


def _examined(case: Case) -> tuple[Case, Outcome]:
    """What the tool is asked about: the case and outcome that `tool_assistant` put into the case of its task."""
    of, data = case.data, case.data.get("outcome data")
    return Case(of["prompt"], of["data"]), Outcome(of["outcome"], data=data)


Examined = Callable[[Case, Outcome], tuple[Case, Outcome] | None]
"""From what an assistant is asked about to what its tool examines; None: nothing, which is N/A."""


def itself(case: Case, outcome: Outcome) -> tuple[Case, Outcome]:
    """The outcome that the assistant is asked about."""
    return case, outcome


def tool_assistant(
    tool: Tool,
    covers: Sequence[str] = (),
    examines: Examined = itself,
    difficulty: float | None = None,
    name: str | None = None,
) -> Assistant:
    """A finished assistant whose answers are the tool's reports.

    Parameters
    ----------
    covers, difficulty, name: of its task, as everywhere; `name` is the tool's by default.
    examines: what the tool is shown; by default the parent's outcome. Below a critic that is not the critic's answer
        but the text that it criticizes: the tool's findings then stand beside the critic's, under the same names.
    """

    def frame(case: Case, outcome: Outcome) -> list[Case]:
        shown = examines(case, outcome)
        if shown is None:
            return []
        what, by = shown
        data = {"prompt": what.prompt, "data": dict(what.data), "outcome": by.text}
        data |= {} if by.data is None else {"outcome data": dict(by.data)}
        return [Case(f"{tool.instruction}\n\n{by.shown}", data | {"tool": tool.name, "version": tool.version})]

    task = Task(
        name or tool.name,
        instruction=tool.instruction,
        facts=_no_facts,
        frame=frame,
        findings=read_report,
        covers=tuple(covers),
        difficulty=difficulty,
        settings=Settings(drafts=1),
        tools=(tool,),
    )
    return Assistant(task, ToolAgent(tool), None)


def read_report(case: Case, outcome: Outcome) -> tuple[Finding, ...]:
    """The findings of a tool's report. An abstention is `Malformed`, with the tool's reason: that makes it N/A."""
    if outcome.text.startswith("N/A: "):
        raise Malformed(outcome.text.splitlines()[0].removeprefix("N/A: "))
    return parse(outcome.text)


def _no_facts(case: Case, outcome: Outcome) -> list[Fact]:
    return []
