"""Is the answer an answer to the question? A tool with four questions, each a heuristic that can be wrong.

stated  the answer is what the last computation gave
givens  every number that the question gives was used
asked   the last line speaks of what was asked for
whole   how many: a whole number, and none below zero
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report, version_of
from rrm_assistants.expressions import equations, numbers
from rrm_assistants.follows import written
from rrm_assistants.solution import answer, given, lines, question_of, results

_MONEY = re.compile(r"how much (?:money|(?:does|did) .* (?:cost|make|earn|spend|pay|owe))|dollars")
_STOP = re.compile(
    r"\b(?:do|does|did|is|are|was|were|will|would|can|could|should|has|have|had|must|in|of|per|each|he|she|they|it|there)\b"
)


@dataclass(frozen=True)
class Answered:
    """Finds `stated`, `givens` and, where they apply, `asked` and `whole`; see the module."""

    name = "answered"
    instruction = "Looks whether the answer is an answer to this question, and uses what it gives."

    @property
    def version(self) -> str:
        """A hash of the class and its settings; new code alone does not change it."""
        return version_of(self)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        if answer(outcome.text) is None:
            raise Abstain("no answer at its end")
        return Report(tuple(judged(question_of(case), outcome.text)))


def judged(question: str, text: str) -> Iterator[Finding]:
    """What can be said of an answer's form. `text` has an answer."""
    said, steps = answer(text), lines(text)
    assert said is not None
    computed = [result for line in steps for result in results(line)]
    last = results(steps[-1])[-1:] if steps else []
    stated = bool(computed) and abs(said) in [abs(x) for x in (last or computed[-1:])]
    yield Finding("stated", stated, note="" if stated else f"{written(said)} is not what the last step gives")
    used = {x for line in steps for equation in equations(line) for x in numbers(equation.left)}
    left = [n for n, forms in given(question).items() if not forms & used and n not in (0, 1)]
    yield Finding("givens", not left, note=f"{', '.join(map(written, left))} not used" if left else "")
    what = wanted(question)
    if what and steps:
        named = any(word in steps[-1].lower() for word in what)
        yield Finding("asked", named, note="" if named else f"the last line is not about {what[0]}")
    if re.search(r"how many", _asked(question)):
        whole = said.denominator == 1 and said >= 0
        yield Finding("whole", whole, note="" if whole else f"{written(said)} is no number of things")


def _asked(question: str) -> str:
    """The sentence with the question, in small letters."""
    sentences = [s for s in re.split(r"(?<=[.?!])\s+", question.lower()) if "?" in s]
    return sentences[-1] if sentences else question.lower()


def wanted(question: str) -> list[str]:
    """Words one of which an answer should name: of what there are how many, or money; empty if it cannot be told."""
    asked = _asked(question)
    if found := re.search(r"how many (?:more |fewer |less |total |other )?([a-z' -]+)", asked):
        words = re.findall(r"[a-z]{3,}", _STOP.split(found[1])[0])
        return [re.sub(r"(?:ies|es|s|y)$", "", word) for word in words]
    if _MONEY.search(asked):
        return ["$", "dollar", "cent", "money"]
    return []


def answered() -> Assistant:
    """The tool as a finished assistant."""
    return tool_assistant(Answered(), covers=("answer",), difficulty=3)
