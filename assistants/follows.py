"""Does each step follow: do the numbers it computes with come from the question or from earlier steps, and is its
result what they give?

A tool, and a weak one: a step can use the right numbers in a wrong way, and a number may be known without being given.
Of a step whose numbers may be known that way (60 minutes, the result of a step in words) it says nothing, and nothing
of solutions that calculate with letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rrm.core.errors import Abstain, Malformed
from rrm.core.records import Case, Finding, Outcome
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report
from rrm_assistants import expressions, question, reading, solution
from rrm_assistants.expressions import NUMBER, numbers
from rrm_assistants.question import quantities
from rrm_assistants.reading import algebra, bare, equations
from rrm_assistants.solution import given, implied, lines, traced
from rrm_assistants.versions import version_with_code

CLOSE = Fraction(1, 1000)
"""Relative difference at which a number still counts as an earlier one, which was rounded."""
COUNTS = frozenset(map(Fraction, range(2, 6)))
"""Numbers that a step may have from counting what the question lists."""
_SAID = re.compile(rf"=\s*[$]?(?:{NUMBER})|=[^=]*(?==)")


@dataclass(frozen=True)
class Follows:
    """Finds `step<line>`: whether line `line` (from 1) computes with numbers that are known there, and rightly."""

    name = "follows"
    instruction = "Looks for numbers that come from nowhere."

    @property
    def version(self) -> str:
        """A hash of the code that decides its reports."""
        return version_with_code(self, expressions, question, reading, solution)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        question, text = traced(case, outcome)
        if any(algebra(line) for line in lines(text)):
            raise Abstain("it calculates with letters")
        found = unknown(question, text)
        wrong = {n: miscounted(line) for n, line in enumerate(lines(text), 1) if n in found}
        findings = []
        for n, odd in found.items():
            note = f"{', '.join(map(written, odd))} from nowhere" if odd else wrong[n]
            if note or odd is not None:
                findings.append(Finding(f"step{n}", not note, note=note))
        if not findings:
            raise Abstain("no computation in it whose numbers could be traced" if found else "no computation in it")
        return Report(tuple(findings))


def unknown(question: str, text: str) -> dict[int, list[Fraction] | None]:
    """Line number (from 1) -> numbers in its computations that neither the question nor an earlier result gives; None
    where some may be known otherwise; lines without computations left out."""
    known = set().union(*given(question).values(), numbers(question))
    meant = implied(question)
    said = set().union(*(one.forms for one in quantities(question)))  # may be known; also what the text goes on from
    found: dict[int, list[Fraction] | None] = {}
    for n, line in enumerate(lines(text), 1):
        here = meant | implied(line)
        plain = bare(line)
        said |= {x for match in _SAID.findall(plain) for x in numbers(match)}
        maybe = said | COUNTS | set(given(re.sub(NUMBER, " ", plain)))
        computing = [one for one in equations(line) if one.computes]
        odd: list[Fraction] = []
        sure = True
        for equation in computing:
            used = numbers(equation.left)
            odd += [x for x in used if not _close(x, known | here | maybe)]
            sure = sure and all(_close(x, known | here) for x in used)
            known |= set(numbers(equation.right)[:1])
        if computing:
            found[n] = list(dict.fromkeys(odd)) if odd or sure else None
        else:
            said |= set(numbers(plain))
    return found


def miscounted(line: str) -> str:
    """The first computation of a line that comes out otherwise, "" if none does."""
    for equation in equations(line):
        try:
            if not equation.holds:
                return f"{equation.left} is not {equation.right}"
        except Malformed:
            continue
    return ""


def _close(x: Fraction, known: set[Fraction]) -> bool:
    return x in known or any(abs(x - other) <= CLOSE * abs(other) for other in known)


def written(x: Fraction) -> str:
    """A number as people write it."""
    return str(x.numerator) if x.denominator == 1 else f"{float(x):g}"


def follows() -> Assistant:
    """The tool as a finished assistant."""
    return tool_assistant(Follows(), covers=("steps",), difficulty=3)
