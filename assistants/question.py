"""The quantities that a question gives, and in which forms a solution may use them; what is no quantity (a date, a
grade, "2 x 4", "three-piece") or need not be used ("at least 80", "starts with $200") is left out or marked so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rrm_assistants.expressions import NUMBER, numbers

SMALL = 3
"""Whole numbers up to this often count what is listed one by one ("her 3 kids"), and are then never calculated with."""
LISTED = 10
"""Up to this, a number in a question's first sentence often only sets the scene ("a class of 10")."""
_LABEL_AFTER = re.compile(
    r"(?:st|nd|rd|th)\b|:\d\d|-?\s?(?:year|month|week|day)s?[- ]old"
    r"|\s{0,3}(?:am|pm|a\.m|p\.m)\b|\s{0,3}x\s{0,3}\d|['’]s|-[a-z]|\"",
    re.IGNORECASE,
)
_LABEL_BEFORE = re.compile(
    r"(?:\d:|\d\s?x\s?|#|No\. |[A-Za-z])$|(?:grade|age|year|in|level|chapter|room|day|week|number|at) $", re.IGNORECASE
)
_BOUND = re.compile(
    r"\b(?:over|under|above|below|at least|at most|every|up to|minimum of|maximum of|starts? with|started with|has|have"
    r"|budget of|only)\s+\$?$", re.IGNORECASE,
)  # fmt: skip
_TIME = re.compile(r"[- ]{0,3}(?:hour|minute|day|week|month|year)", re.IGNORECASE)
_QUANTITY = re.compile(rf"(?P<n>{NUMBER})(?P<percent>\s*(?:%|percent))?(?:\s*/\s*(?P<of>\d{1,9}))?(?P<thousand>k\b)?")
_UNITS = (
    (re.compile(r"\s*dozen"), (Fraction(12),)),
    (re.compile(r"[- ]*(?:hours?|minutes?|hr|min)", re.IGNORECASE), (Fraction(60), Fraction(1, 60))),
    (re.compile(r"[- ]*weeks?", re.IGNORECASE), (Fraction(7), Fraction(5))),
    (re.compile(r"[- ]*years?", re.IGNORECASE), (Fraction(12), Fraction(52), Fraction(365))),
)
"""What a number is multiplied by before it is used, if its unit is changed."""
WORDS = (
    (re.compile(r"\b(?:twice|double)\b"), "twice", frozenset(map(Fraction, (2, 200)))),
    (re.compile(r"\bhalf\b"), "half", frozenset((Fraction(2), Fraction(1, 2), Fraction(50)))),
    (re.compile(r"quarter"), "a quarter", frozenset(map(Fraction, ("4", "1/4", "25", "75", "3/4")))),
    (re.compile(r"hour.*minute|minute.*hour"), "minutes of an hour",
     frozenset(map(Fraction, ("60", "30", "120", "90", "1/2", "15")))),
    (re.compile(r"(?:month|week|day).*\b(?:(?:a|per|each|one|every) year|yearly|annual)[^.?!]*\?", re.DOTALL), "a year",
     frozenset(map(Fraction, ("12", "52", "365", "4", "3", "2")))),
)  # fmt: skip
"""Words that a calculation cannot do without, and the numbers one of which it then has."""


@dataclass(frozen=True)
class Quantity:
    """A number that a question gives in figures.

    forms: what it may be used as: itself, in cents, in minutes, 1 - 20 %, 3 of 4.
    needed: whether a solution that uses it nowhere has left something out; else it may have been right to.
    """

    value: Fraction
    forms: frozenset[Fraction]
    needed: bool


def quantities(question: str) -> list[Quantity]:
    """Those of a question, in their order; without 0 and 1."""
    found = []
    for match in _QUANTITY.finditer(question):
        before, after = question[: match.start()], question[match.end() :]
        written = numbers(match["n"])
        if not written:  # too long
            continue
        n = written[0] * (1000 if match["thousand"] else 1)
        if n in (0, 1) or _LABEL_AFTER.match(after) or _LABEL_BEFORE.search(before):
            continue
        forms = {n, n / 100, n * 100}
        if match["percent"]:
            forms |= {1 - n / 100, 1 + n / 100, 100 - n, 100 + n}
        if match["of"] and int(match["of"]):
            of = Fraction(match["of"])
            forms |= {n / of, 1 - n / of, 1 + n / of, of, of - n, of + n}
        elif n <= 10:
            forms |= {n + 1, n - 1}  # himself too, or without him
        forms |= {n * factor for unit, factors in _UNITS if unit.match(after) for factor in factors}
        counts = n.denominator == 1 and n <= SMALL
        sure = bool(match["percent"] or match["of"]) or before.endswith("$") or not counts
        scene = n <= LISTED and not re.search(r"[.?!]\s", before)
        needed = sure and not scene and not _BOUND.search(before) and not _TIME.match(after)
        found.append(Quantity(n, frozenset(forms), needed))
    return found


def needs(question: str) -> list[tuple[Fraction | str, frozenset[Fraction]]]:
    """What a solution cannot do without: quantities that are needed, and words; each with the forms that do for it."""
    lowered = question.lower()
    words = [(what, forms) for word, what, forms in WORDS if word.search(lowered)]
    return [*((one.value, one.forms) for one in quantities(question) if one.needed), *words]
