"""Is the answer an answer to the question? A tool with six questions, each a heuristic that can be wrong.

stated  the answer is what the last computation gave
givens  every quantity that the question gives was used
used    every result was used further on, or is the answer
sizes   on the way nothing is below zero, in pieces that cannot be, or runs to many decimals
asked   the last line speaks of what was asked for; what is left was found by taking away
whole   how many: a whole number, and none below zero

Where it cannot tell, it says nothing on that question: of lines without an equation that it can read, of solutions that
calculate with letters, of a number that the text mentions but does not calculate with. What it may call wrong was
settled on one half of GSM8K's test questions (`docs/results/false_alarms.md`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report
from rrm_assistants import expressions, question, reading, solution
from rrm_assistants.expressions import numbers
from rrm_assistants.follows import written
from rrm_assistants.question import needs, quantities
from rrm_assistants.reading import Equation, algebra, bare, equations
from rrm_assistants.solution import answer, given, lines, traced
from rrm_assistants.versions import version_with_code

_MONEY = re.compile(r"how much (?:money|(?:does|did) .* (?:cost|make|earn|spend|pay|owe))|dollars")
_PRICE = re.compile(r"dollar|[$]|how much (?:money|(?:does|did|will) .*(?:cost|pay|earn|spend|make|owe|save))")
_LEFT = re.compile(r"\b(?:left|remain|still need|still has|still have)")
_PIECES = re.compile(
    r"\.\d|/|half|quarter|third|fourth|%|[$]|percent|average|fraction|dozen|cent|speed|hour|minute|second|day|week|month"
    r"|year|pound|ounce|gram|kilo|liter|gallon|cup|mile|meter|feet|inch"
)
"""Words of questions in which something may come in pieces."""
_ROUNDED = re.compile(
    r"round|whole|about|approx|nearest|full|complete|at least|enough|only|have to|must|up to|down to", re.IGNORECASE
)
_STOP = re.compile(
    r"\b(?:do|does|did|is|are|was|were|will|would|can|could|should|has|have|had|must|in|of|per|each|he|she|they|it|there)\b"
)
DECIMALS = 5
"""So many are no measure of anything in a story: they come from a division that should not have been made."""


@dataclass(frozen=True)
class Answered:
    """Finds those of `stated`, `givens`, `used`, `sizes`, `asked` and `whole` that can be told; see the module."""

    name = "answered"
    instruction = "Looks whether the answer is an answer to this question, and uses what it gives."

    @property
    def version(self) -> str:
        """A hash of the code that decides its reports."""
        return version_with_code(self, expressions, question, reading, solution)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        question, text = traced(case, outcome)
        if answer(text) is None:
            raise Abstain("no answer at its end")
        findings = tuple(judged(question, text))
        if not findings:
            raise Abstain("nothing in it that could be read")
        return Report(findings)


def judged(question: str, text: str) -> Iterator[Finding]:
    """What can be said of an answer's form. `text` has an answer."""
    said, steps = answer(text), lines(text)
    assert said is not None
    computed = [[one for one in equations(line) if one.computes] for line in steps]
    if computed and any(computed) and not any(algebra(line) for line in steps):
        if found := stated(abs(said), steps[-1]):
            yield found
        yield from _givens(question, steps, computed)
        yield from _used(abs(said), steps, computed)
        yield from _sizes(question, said, [one for line in computed for one in line], text)
        yield from _asked_for(question, steps, [one for line in computed for one in line])
    if re.search(r"how many", _asked(question)):
        whole = said.denominator == 1 and said >= 0
        yield Finding("whole", whole, note="" if whole else f"{written(said)} is no number of things")


Computed = list[list[Equation]]
"""Per line of a solution, the equations in it that compute."""


def stated(said: Fraction, step: str) -> Finding | None:
    """Of the last step, if it can be read; "$0.50" may be given as 50, and 2.2 boxes as 3 by whoever says why."""
    computed = [one for one in equations(step) if one.computes]
    last = {x for one in computed for x in numbers(one.right)[:1]}
    if said in last:
        return Finding("stated", True)
    if not last:
        return None
    near = any(x % 1 and abs(said - x) < 1 for x in last)
    if near and not said % 1 and not _ROUNDED.search(step):
        return Finding("stated", False, note=f"{written(said)} is rounded, and the last step does not say so")
    if not near:
        prose = step
        for one in sorted(computed, key=lambda one: -one.span[0]):
            prose = f"{prose[: one.span[0]]} {prose[one.span[1] :]}"
        named = last | set(numbers(bare(prose))) | set(given(bare(prose)))
        if not {said, said / 100, said * 100} & named:
            return Finding("stated", False, note=f"{written(said)} is not what the last step gives")
    return None


def _givens(question: str, steps: list[str], computed: Computed) -> Iterator[Finding]:
    operands = {x for line in computed for one in line for x in numbers(one.left)}
    named = {x for line in steps for text in (bare(line),) for x in (*numbers(text), *given(text))} | operands
    named |= {x for line in computed for one in line for x in numbers(one.right)}
    wanted_ = quantities(question)
    left = [what if isinstance(what, str) else written(what) for what, forms in needs(question) if not forms & named]
    if left:
        yield Finding("givens", False, note=f"{', '.join(left)} not used")
    elif wanted_ and all(one.forms & operands for one in wanted_):
        yield Finding("givens", True)


def _used(said: Fraction, steps: list[str], computed: Computed) -> Iterator[Finding]:
    """Of each line's last result but the last's; a rounded one, its share or its cents are uses of it. And whether a
    sum is made twice, as if it had not been made."""
    places = [n for n, line in enumerate(computed) if line and numbers(line[-1].right)]
    idle = []
    for n in places[:-1]:
        result = numbers(computed[n][-1].right)[0]
        later = {x for line in steps[n + 1 :] for x in numbers(bare(line))} | {said}
        later |= {x for line in computed[n + 1 :] for one in line for x in (*numbers(one.left), *numbers(one.right))}
        forms = {result, result / 100, result * 100, 1 - result / 100, 1 + result / 100, 100 - result, 100 + result}
        near = any(abs(result - x) <= x / 50 or (result % 1 and abs(result - x) < 1) for x in later)
        if not forms & later and not near:
            idle.append(result)
    sums = [re.sub(r"[\s$]", "", computed[n][-1].left) for n in places]
    twice = next((one for n, one in enumerate(sums) if one in sums[:n] and not re.search(r"[*/x×÷]", one)), "")
    note = f"{', '.join(map(written, idle))} not used further on" if idle else f"{twice} twice" if twice else ""
    if places[1:]:
        yield Finding("used", not note, note=note)


def _sizes(question: str, said: Fraction, computed: list[Equation], text: str) -> Iterator[Finding]:
    asked, odd = _asked(question), ""
    results = [one.right.strip() for one in computed if numbers(one.right)]
    things = "how many" in asked and not _PIECES.search(question.lower())
    if below := next((one for one in results if one.startswith("-")), ""):
        odd = f"{below} is below zero"
    elif long := re.search(rf"\d*\.\d{{{DECIMALS},}}", "\n".join(map(bare, text.splitlines()))):
        odd = f"{long[0]} runs to {len(long[0].partition('.')[2])} decimals"
    elif things and (piece := next((one for one in results if numbers(one)[0] % 1), "")):
        odd = f"{piece} is no number of things"
    elif said == 0 or (_PRICE.search(asked) and said * 100 % 1):
        odd = f"{written(said)} is no amount"
    yield Finding("sizes", not odd, note=odd)


def _asked_for(question: str, steps: list[str], computed: list[Equation]) -> Iterator[Finding]:
    what = wanted(question)
    if _LEFT.search(_asked(question)) and not any(sign in one.left[1:] for one in computed for sign in "-–−"):
        yield Finding("asked", False, note="nothing is taken away, and what is left was asked for")
    elif what and any(word in steps[-1].lower() for word in what):
        yield Finding("asked", True)


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
    return tool_assistant(Answered(), covers=("answer", "relevance"), difficulty=3)
