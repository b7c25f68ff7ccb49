"""Has a solution to do with the question? Facts of relevance, exact by definition, and cheap to check.

givens  every quantity that the question gives stands in a line with a computation
units   a line with the answer, the last step or the answer's own line names what was asked for
stated  the answer is what the last step gives, or stands in it

A program decides each by its definition here; a solution for which all hold can still be wrong, or nonsense that was
written to please. Whether there is such a fact hangs on the question alone: a question that gives no quantities in
figures, or is in another language, has no `givens`; one that asks for nothing that can be named ("how far") has no
`units`. So no solution can be written that has fewer of them. How often they hold of right solutions, of wrong ones and
of another question's is in `docs/results/false_alarms.md`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rrm import Fact, Sealed
from rrm_assistants.answered import stated, wanted
from rrm_assistants.expressions import numbers
from rrm_assistants.question import needs, quantities
from rrm_assistants.reading import bare, equations
from rrm_assistants.solution import answer, given, lines, unread

ASPECT = "relevance"
_COMPUTES = re.compile(r"[=*/+×÷]|\d\s*[-–−x]\s*[$]?\d")
"""What a line with a computation has in it, be it one that can be read or not."""
_SHORT = {
    "dollar": "$", "cent": "¢", "pound": "lb", "ounce": "oz", "kilogram": "kg", "gram": "g", "liter": "l",
    "milliliter": "ml", "kilometer": "km", "centimeter": "cm", "meter": "m", "percent": "%", "hour": "hr",
    "minute": "min",
}  # fmt: skip
"""Stem of a unit's name -> how it is written in short, beside a number."""


def relevance(question: str, text: str) -> list[Fact]:
    """The facts that the question admits, in the order above. `text` has an answer.

    `givens` costs half as much as there are quantities to look for, rounded up; the others 1.
    """
    cost = {"givens": -(-len(_needed(question)) // 2)}
    return [Fact(name, ASPECT, Sealed(holds), cost=cost.get(name, 1)) for name, holds in held(question, text).items()]


def held(question: str, text: str) -> dict[str, bool]:
    """Name of each fact that the question admits -> whether it holds of the solution."""
    found = {"givens": givens(question, text), "units": units(question, text), "stated": concluded(text)}
    return {name: holds for name, holds in found.items() if holds is not None}


def givens(question: str, text: str) -> bool | None:
    """Whether all that a solution needs of the question (`question.needs`; of one that needs nothing for sure, all its
    quantities) stands, in one of its forms, in a line that has a sign of arithmetic in it; None if the question gives
    nothing, or is not read here."""
    needed = _needed(question)
    if not needed:
        return None
    there: set[Fraction] = set()
    for line in lines(text):
        if _COMPUTES.search(bare(line)):
            there |= {*numbers(bare(line)), *given(bare(line))}
        there |= {x for one in equations(line) if one.computes for x in (*numbers(one.left), *numbers(one.right))}
    return all(forms & there for forms in needed)


def units(question: str, text: str) -> bool | None:
    """Whether what was asked for ("how many pens", money) is named, in full or in short, in a line with the answer, in
    the last step, or where the answer is given; None if the question asks for nothing that can be named."""
    what, said, steps = wanted(question), answer(text), lines(text)
    if not what:
        return None
    own = [line for line in text.splitlines() if line.strip()][-1:]
    ends = steps[-1:] + own
    if said is not None:
        ends += [line for line in steps if abs(said) in {*numbers(bare(line)), *given(bare(line))}]
    return any(_names(line.lower(), word) for line in ends for word in what)


def concluded(text: str) -> bool:
    """Whether the answer is what the last step's computation gives, perhaps rounded or in cents, or stands in that step
    beside it. Without a step, no."""
    said, steps = answer(text), lines(text)
    if said is None or not steps:
        return False
    if (found := stated(abs(said), steps[-1])) is not None:
        return found.holds
    named = {*numbers(bare(steps[-1])), *given(bare(steps[-1]))}
    return bool({abs(said), abs(said) / 100, abs(said) * 100} & named)


def _needed(question: str) -> list[frozenset[Fraction]]:
    """Per thing that a solution should use, the forms that do."""
    if unread(question):
        return []
    return [forms for _, forms in needs(question)] or [one.forms for one in quantities(question)]


def _names(line: str, word: str) -> bool:
    if word in line:
        return True
    short = _SHORT.get(word)
    if short is None:
        return False
    return short in line if not short.isalpha() else re.search(rf"\d\s?{short}s?\b", line) is not None
