"""Does every computation come out as it is written? A tool: it computes again."""

from __future__ import annotations

from dataclasses import dataclass

from rrm.core.errors import Abstain, Malformed
from rrm.core.records import Case, Finding, Outcome
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report
from rrm_assistants import expressions, reading, solution
from rrm_assistants.reading import equations
from rrm_assistants.solution import lines, solved
from rrm_assistants.versions import version_with_code


@dataclass(frozen=True)
class Arithmetic:
    """Finds `calc<line>`: whether what line `line` (from 1) computes comes out as stated there."""

    name = "arithmetic"
    instruction = "Computes again what the solution computes."

    @property
    def version(self) -> str:
        """A hash of the code that decides its reports."""
        return version_with_code(self, expressions, reading, solution)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        found = computed(solved(case, outcome)[1])
        if not found:
            raise Abstain("no computation in it")
        return Report(tuple(Finding(f"calc{n}", not wrong, note=wrong) for n, wrong in found.items()))


def computed(text: str) -> dict[int, str]:
    """Line number (from 1) -> what comes out otherwise there, "" if nothing does; lines without arithmetic left out."""
    found: dict[int, str] = {}
    for n, line in enumerate(lines(text), 1):
        for equation in equations(line):
            try:
                holds = equation.holds
            except Malformed:
                continue
            if holds:
                found.setdefault(n, "")
            elif not found.get(n):
                found[n] = f"{equation.left} is not {equation.right}"
    return found


def arithmetic() -> Assistant:
    """The tool as a finished assistant."""
    return tool_assistant(Arithmetic(), covers=("arithmetic",), difficulty=2)
