"""How a worked solution is read: its lines, the answer it ends with, and the numbers a question gives."""

from __future__ import annotations

import re
from fractions import Fraction

from rrm.core.errors import Abstain
from rrm.core.records import Case, Outcome
from rrm_assistants.expressions import NUMBER, numbers
from rrm_assistants.reading import foreign

_ANSWER = re.compile(rf"^(?:A:|####|The answer is)[ \t]*[$]?(-?(?:{NUMBER}))", re.MULTILINE)

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_PARTS = {
    "half": 2, "halves": 2, "halved": 2, "third": 3, "fourth": 4, "quarter": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_MEANT = {
    "twice": [2], "double": [2], "thrice": [3], "triple": [3], "quadruple": [4], "pair": [2], "couple": [2],
    "both": [2], "dozen": [12], "hundred": [100], "thousand": [1000], "million": [1000000], "once": [1], "second": [2],
    "week": [7, 5, 2, 52], "day": [24, 7, 30], "hour": [60, 24], "minute": [60], "month": [12, 30, 4, 31, 28],
    "year": [12, 52, 365, 366],
    "feet": [12, 3], "foot": [12, 3], "yard": [3], "inch": [12], "pound": [16], "ounce": [16], "mile": [5280],
    "kilometer": [1000], "meter": [100, 1000], "gallon": [4, 128], "quart": [4], "liter": [1000], "kg": [1000],
    "cent": [100], "dime": [10], "nickel": [5, 20], "penny": [1, 100], "pennies": [1, 100], "quarters": [25, 4],
    "quarter": [25, 4], "average": [2], "century": [100], "centuries": [100],
    "decade": [10], "morning": [12], "side": [4], "square": [4], "triangle": [3], "rectangle": [2, 4],
    "rectangular": [2, 4], "perimeter": [2, 4], "forth": [2], "round": [2], "way": [2], "back": [2], "fence": [2, 4],
    "finger": [10, 5], "nail": [10, 5], "toe": [10, 5], "leg": [2, 4, 6, 8], "eye": [2], "wheel": [2, 3, 4],
    "dice": [6], "die": [6], "cube": [6, 8], "weekday": [5], "weekend": [2], "daily": [7, 30], "weekly": [7, 4, 52],
    "monthly": [12], "yearly": [12], "annual": [12], "january": [31], "march": [31], "may": [31], "july": [31],
    "august": [31], "october": [31], "december": [31], "april": [30], "june": [30], "september": [30],
    "november": [30], "february": [28, 29], "kilogram": [1000], "gram": [1000], "km": [1000], "cm": [100],
    "percentage": [100], "fortnight": [14, 2], "season": [4, 3], "inches": [12],
}  # fmt: skip
"""Numbers that a word stands for, or that its unit is converted with."""


LONGEST = 20_000
"""Characters of a solution that are read."""
LINES = 200
"""Lines of a solution that are read; the tools compare the numbers of each with those of every other."""


WORDS = 5
"""So many words of English have one of the following among them."""
_ENGLISH = frozenset(
    ["the", "a", "of", "and", "to", "is", "are", "has", "have", "how", "he", "she", "it", "they", "his", "her", "each"]
)


def question_of(case: Case) -> str:
    """The question alone, where the case keeps it beside a prompt that also says how to answer."""
    return str(case.data.get("question", case.prompt))


def solved(case: Case, outcome: Outcome) -> tuple[str, str]:
    """The question and the solution. Raises `Abstain` if the solution is too long to read."""
    if len(outcome.text) > LONGEST:
        raise Abstain(f"it is longer than {LONGEST} characters")
    if outcome.text.count("\n") >= LINES:
        raise Abstain(f"it has more than {LINES} lines")
    return question_of(case), outcome.text


def traced(case: Case, outcome: Outcome) -> tuple[str, str]:
    """As `solved`, for tools that trace numbers. Raises `Abstain` if some are written otherwise than here, or the
    question is in another language: then what looks like another number may be the same."""
    question, text = solved(case, outcome)
    odd = next((odd for line in lines(text) if (odd := foreign(line))), "")
    if why := unread(question) or (f"{odd!r} is not read here" if odd else ""):
        raise Abstain(why)
    return question, text


def unread(question: str) -> str:
    """Why the numbers of a question cannot be traced: they are written otherwise, or it is in another language; "" if
    they can."""
    if odd := foreign(question):
        return f"{odd!r} is not read here"
    words = re.findall(r"[^\W\d_]+", question.lower())
    return "the question is in another language" if len(words) >= WORDS and not _ENGLISH & set(words) else ""


def lines(text: str) -> list[str]:
    """The lines of a solution, empty ones left out, without the one that gives the answer."""
    return [line for line in text.splitlines() if line.strip() and not _ANSWER.match(line)]


def answer(text: str) -> Fraction | None:
    """The number a solution ends with ("A: 18", "#### 18"); None without one."""
    found = [one for one in _ANSWER.findall(text) if numbers(one)]
    return None if not found else numbers(found[-1])[0] * (-1 if found[-1].startswith("-") else 1)


def given(text: str) -> dict[Fraction, set[Fraction]]:
    """Each number that a text gives, in figures or words, and the forms in which a computation may use it: 20 % is 20,
    0.2, 0.8, 1.2, 80 and 120; three quarters is 3 and 4 and 0.75."""
    found: dict[Fraction, set[Fraction]] = {}
    for match in re.finditer(rf"(?P<n>{NUMBER})\s*(?P<percent>%|percent)?(?:\s*/\s*(?P<of>\d{1,9}))?", text):
        if not (written := numbers(match["n"])):  # too long
            continue
        n = written[0]
        forms = found.setdefault(n, {n})
        if match["percent"]:
            forms |= {n / 100, 1 - n / 100, 1 + n / 100, 100 - n, 100 + n, Fraction(100)}
        if match["of"] and int(match["of"]):
            of = int(match["of"])
            forms |= {n / of, 1 - n / of, 1 + n / of, Fraction(of), of - n, of + n}
    words = re.findall(r"[a-z]+", text.lower())
    before = ""
    for word, following in zip(words, [*words[1:], ""], strict=False):  # a text may have no words
        value = _TENS.get(word, _ONES.index(word) if word in _ONES else None)
        tens, before = before in _TENS, word
        if value is None or (tens and word in _ONES[1:10]):  # "thirty-five" was counted with "thirty"
            continue
        if word in _TENS and following in _ONES[1:10]:
            value += _ONES.index(following)
        forms = found.setdefault(Fraction(value), {Fraction(value)})
        if part := _PARTS.get(following, _PARTS.get(following.removesuffix("s"), 0)):
            share = Fraction(value, part)
            forms |= {share, 1 - share, Fraction(part), Fraction(part - value)}
    return found


def implied(text: str) -> set[Fraction]:
    """Numbers that words and units of a text stand for, which a computation may use but need not."""
    forms = {Fraction(1)}
    for word in re.findall(r"[a-z]+", text.lower()):
        stem = word.removesuffix("s")
        for known in {word, stem}:
            forms |= {Fraction(n) for n in _MEANT.get(known, ())}
            if part := _PARTS.get(known):
                share = Fraction(1, part)
                forms |= {Fraction(part), share, 1 - share, 1 + share, Fraction(part + 1)}
    if "%" in text or "percent" in text:
        forms |= {Fraction(100), Fraction(1, 100)}
    return forms
