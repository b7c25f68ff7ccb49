"""Does each step follow: do the numbers it computes with come from the question or from earlier steps?

A tool, and a weak one: a step can use the right numbers in a wrong way, and a number may be known without being given.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report, version_of
from rrm_assistants.expressions import equations, numbers
from rrm_assistants.solution import given, implied, lines, question_of, results

CLOSE = Fraction(1, 1000)
"""Relative difference at which a number still counts as an earlier one, which was rounded."""


@dataclass(frozen=True)
class Follows:
    """Finds `step<line>`: whether line `line` (from 1) computes with numbers that are known there."""

    name = "follows"
    instruction = "Looks for numbers that come from nowhere."

    @property
    def version(self) -> str:
        """A hash of the class and its settings; new code alone does not change it."""
        return version_of(self)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        found = unknown(question_of(case), outcome.text)
        if not found:
            raise Abstain("no computation in it")
        return Report(
            tuple(
                Finding(f"step{n}", not odd, note=f"{', '.join(map(written, odd))} from nowhere" if odd else "")
                for n, odd in found.items()
            )
        )


def unknown(question: str, text: str) -> dict[int, list[Fraction]]:
    """Line number (from 1) -> numbers in its computations that neither the question nor an earlier result gives; lines
    without computations left out."""
    known = set().union(*given(question).values()) | implied(question)
    found: dict[int, list[Fraction]] = {}
    for n, line in enumerate(lines(text), 1):
        meant = implied(line)
        for equation in equations(line):
            odd = [x for x in numbers(equation.left) if not _close(x, known | meant)]
            found[n] = list(dict.fromkeys([*found.get(n, []), *odd]))
            known |= set(numbers(equation.right)[:1])
        known |= set(results(line))
    return found


def _close(x: Fraction, known: set[Fraction]) -> bool:
    return x in known or any(abs(x - other) <= CLOSE * abs(other) for other in known)


def written(x: Fraction) -> str:
    """A number as people write it."""
    return str(x.numerator) if x.denominator == 1 else f"{float(x):g}"


def follows() -> Assistant:
    """The tool as a finished assistant."""
    return tool_assistant(Follows(), covers=("steps",), difficulty=3)
