"""Texts that a form allows, made up from the regular expression alone: what a model held to it might write.

Of Python's parse tree of the expression, which is walked with a generator of random numbers. Sampling is held to forms
by llguidance, whose expressions are Rust's: what Python cannot read, or reads otherwise, gives no text.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator, Sequence
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LONGEST = 4000
"""Most characters of a text that is made up."""
MORE = 3
"""How many times more than it must what may be repeated is, at most."""
TRIES = 8
"""A text that turns out not to match (an expression may look around) is made up again, so often for each wanted."""
ANY = "abcdefghij klmnopqrstuvwxyz ABCXYZ 0123456789 .,"
CLASSES = {"CATEGORY_DIGIT": "0123456789", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "abcxyzABCXYZ0123456789_"}


class NoSample(ValueError):
    """The expression has something in it of which no text is made up; says what."""


def texts_of_form(form: str, n: int, seed: int) -> list[str]:
    """Up to `n` different texts that the whole form matches; fewer if it allows fewer, or hardly any was found.

    Raises `NoSample` if no text was found: Python cannot read the expression, or none of its texts is short.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sets that may mean something else one day
        try:
            tree, whole = parser.parse(form), re.compile(form)
        except (re.error, OverflowError, RecursionError) as error:
            raise NoSample(f"Python reads no such expression ({error})") from error
    found: dict[str, None] = {}
    generator, why = random.Random(seed), f"none of {n * TRIES} texts made up from it matches"
    for _ in range(n * TRIES):
        try:
            text = _Walk(generator).text(tree)
        except NoSample as error:
            why = str(error)
            continue
        if whole.fullmatch(text):
            found[text] = None
        if len(found) == n:
            break
    if not found:
        raise NoSample(why)
    return list(found)


class _Walk:
    """One text in the making: what groups matched, and how much room is left."""

    def __init__(self, generator: random.Random) -> None:
        self.random, self.groups = generator, dict[int, str]()
        self.left, self.steps = LONGEST, LONGEST * 4

    def text(self, nodes: Any) -> str:
        self.steps -= 1
        if self.steps < 0:  # what is empty may be repeated without end
            raise NoSample("it repeats too much within repeats")
        return "".join(self._one(str(op), value) for op, value in nodes)

    def _one(self, op: str, value: Any) -> str:
        match op:
            case "LITERAL":
                return self._written(chr(value))
            case "NOT_LITERAL":
                return self._written(self._among(one for one in ANY if one != chr(value)))
            case "ANY":
                return self._written(self._among(ANY))
            case "IN":
                return self._written(self._among(_members(value)))
            case "BRANCH":
                return self.text(self.random.choice(value[1]))
            case "SUBPATTERN":
                group, _, _, inner = value
                text = self.text(inner)
                if group is not None:
                    self.groups[group] = text
                return text
            case "GROUPREF":
                return self._written(self.groups.get(value, ""))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = value
                times = self.random.randint(least, min(int(most), least + MORE))
                return "".join(self.text(inner) for _ in range(times))
            case "ATOMIC_GROUP":
                return self.text(value)
            case "AT" | "ASSERT" | "ASSERT_NOT":  # whether it holds is seen when all is written
                return ""
            case _:
                raise NoSample(f"it has {op.lower()} in it")

    def _written(self, text: str) -> str:
        self.left -= len(text)
        if self.left < 0:
            raise NoSample(f"its texts are longer than {LONGEST} characters")
        return text

    def _among(self, characters: Iterator[str] | str) -> str:
        some = list(characters)
        if not some:
            raise NoSample("it has a set of characters in it of which none is common")
        return self.random.choice(some)


def _members(parts: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """Characters of a set: of one that leaves some out, common ones that it does not."""
    if parts and str(parts[0][0]) == "NEGATE":
        yield from (one for one in ANY if not any(_within(one, part) for part in parts[1:]))
        return
    for op, value in parts:
        match str(op):
            case "LITERAL":
                yield chr(value)
            case "RANGE":
                yield from map(chr, range(value[0], min(value[1], value[0] + 127) + 1))
            case "CATEGORY":
                yield from (one for one in (*ANY, *CLASSES.get(str(value), "")) if _within(one, (op, value)))


def _within(one: str, part: tuple[Any, Any]) -> bool:
    """Whether a character is of a part of a set."""
    op, value = part
    match str(op):
        case "LITERAL":
            return bool(ord(one) == value)
        case "RANGE":
            return bool(value[0] <= ord(one) <= value[1])
        case _:
            kind = str(value).replace("_NOT", "")
            inside = {"CATEGORY_DIGIT": one.isdigit(), "CATEGORY_SPACE": one.isspace()}.get(
                kind, one.isalnum() or one == "_"
            )
            return bool(inside != ("_NOT" in str(value)))
