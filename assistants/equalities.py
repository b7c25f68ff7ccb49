"""Does every written-out equality hold: "A = (-9 - 5) = -14"? A tool: it computes both sides of each sign.

Of a step `step<n>` (from 1) it says whether all its equalities hold, given what earlier steps said the names in it are
worth; steps without any are left out. It does not ask whether the step was called for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from rrm.core.errors import Abstain, Malformed
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report, version_of
from rrm_assistants.expressions import value

_CHAIN = re.compile(r"(?:[-+*/()\s=]|\d++(?:\.\d++)?|(?<![A-Za-z])[A-Z](?![A-Za-z'’]))+")


@dataclass(frozen=True)
class Equalities:
    """Finds `step<n>` for the lines of an outcome."""

    name = "equalities"
    instruction = "Computes both sides of every equality."

    @property
    def version(self) -> str:
        """A hash of the class and its settings; new code alone does not change it."""
        return version_of(self)

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
            if len(parts) < 2 or not all(parts):
                continue
            wrong = _chain(parts, worth)
            if wrong is not None and not found.get(n):
                found[n] = wrong
    return found


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
