"""Does every written-out equality hold: "A = (-9 - 5) = -14"? A tool: it computes both sides of each sign.

Of a step `step<n>` (from 1) it says whether all its equalities hold, given what earlier steps said the names in it are
worth; steps without any are left out, and so are equalities that are part of something else: with units, powers, signs
of money, letters other than such names. It does not ask whether the step was called for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from rrm.core.errors import Abstain, Malformed
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report
from rrm_assistants import expressions
from rrm_assistants.expressions import value
from rrm_assistants.versions import version_with_code

_CHAIN = re.compile(r"(?:[-+*/()\s=]|\d++(?:\.\d++)?|(?<![A-Za-z])[A-Z](?![A-Za-z'’]))+")


BESIDE = 40
"""Characters on either side of a chain that are looked at."""
_WITHIN_BEFORE = re.compile(r"[\w$€£%^>√×÷−–.,'’]$")
_SIGN_BEFORE = re.compile(
    r"(?:\b[xX]|[×÷−–]|\b(?:times|plus|minus|by|of|and|twice|half|than|less|more)|[-+*/]\s*[A-Za-z][A-Za-z ]*)[\s(]*$"
)
_WITHIN_AFTER = re.compile(r"[\w$€£%^<²³½×÷−]|[.,]\d")
_UNIT_AFTER = re.compile(r"\s{0,3}(?:[%^<×÷−$]|[a-z]{1,20}(?:\s{1,3}[a-z]{1,20}){0,3}\s{0,3}[-+*/=])")


@dataclass(frozen=True)
class Equalities:
    """Finds `step<n>` for the lines of an outcome."""

    name = "equalities"
    instruction = "Computes both sides of every equality."

    @property
    def version(self) -> str:
        """A hash of the code that decides its reports."""
        return version_with_code(self, expressions)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        found = broken(outcome.text.splitlines())
        if not found:
            raise Abstain("no equality in it")
        return Report(tuple(Finding(f"step{n}", not wrong, note=wrong) for n, wrong in found.items()))


def broken(steps: list[str]) -> dict[int, str]:
    """Step number (from 1) -> the first equality in it that does not hold, "" if all do; steps without any left out."""
    found: dict[int, str] = {}
    worth: dict[str, Fraction] = {}
    for n, step in enumerate(steps, 1):
        for match in _CHAIN.finditer(step):
            parts = [part.strip() for part in match[0].split("=")]
            if len(parts) < 2 or not all(parts) or _cut(step, *match.span()):
                continue
            wrong = _chain(parts, worth)
            if wrong is not None and not found.get(n):
                found[n] = wrong
    return found


def _cut(step: str, start: int, end: int) -> bool:
    """Whether what stands beside a chain belongs to it, so that the chain alone is not what was written."""
    before, chain, after = step[max(0, start - BESIDE) : start], step[start:end], step[end : end + BESIDE]
    if (_WITHIN_AFTER.match(after) and chain[-1:].strip()) or _UNIT_AFTER.match(after):
        return True
    if (_WITHIN_BEFORE.search(before) and chain[:1].strip()) or _SIGN_BEFORE.search(before):
        return True
    return chain.lstrip()[:1] in "-+*/)=" and before.rstrip()[-1:] not in ("", ":", ",", ".")


def _chain(parts: list[str], worth: dict[str, Fraction]) -> str | None:
    """What is wrong in a chain of equalities, "" if nothing, None if it cannot be computed. A name at its beginning is
    worth, from then on, what the chain ends with."""
    defines = re.fullmatch(r"[A-Z]", parts[0])
    before = worth.get(parts[0]) if defines else None
    values = [_value(part, worth) for part in parts[1:]] if defines else [_value(part, worth) for part in parts]
    written = parts[1:] if defines else parts
    known = [(text, v) for text, v in zip(written, values, strict=True) if v is not None]
    if not known:
        return None
    if defines:
        worth[parts[0]] = known[-1][1]
        if before is not None and before != known[0][1]:
            return f"{parts[0]} was {float(before):g}, not {known[0][0]}"
    for (left, a), (right, b) in pairwise(known):
        if a != b:
            return f"{left} is {float(a):g}, not {right}"
    return "" if len(known) > 1 or before is not None else None


def _value(text: str, worth: Mapping[str, Fraction]) -> Fraction | None:
    """What a part is worth; a parenthesis too many at an end, which people do not mind, is left out."""
    for attempt in (text, text + ")", "(" + text):
        try:
            return value(attempt, worth)
        except Malformed:
            continue
    return None
