"""Written arithmetic: expressions and what they are worth.

Values are exact fractions of what is written. The parser knows numbers, + - * / and parentheses and nothing else: what
a model wrote is read, never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from rrm.core.errors import Malformed

LONGEST = 400
"""Characters of an expression; whatever is longer is no arithmetic that a step should hold."""
DIGITS = 60
"""Characters of a number; Python refuses to read those of some thousands, which no story has."""
PRECISION = Fraction(1, 10**9)
"""Relative difference that is put down to floating point, which the texts' own calculators used."""

_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
}  # fmt: skip


def value(text: str, names: Mapping[str, Fraction] | None = None) -> Fraction:
    """What an expression is worth; `names` gives the values of names in it. "$1,200 x 5%" is 60.

    Raises `Malformed` for anything that is not arithmetic, for an unknown name, and for a division by zero.
    """
    return _worth(parse(text), names or {}, text)


def parse(text: str) -> ast.expr:
    """The tree of an expression of numbers, names, + - * / and parentheses. Raises `Malformed`."""
    if len(text) > LINE:
        raise Malformed(f"{text[:40]!r} is no arithmetic: too long")
    plain = re.sub(r"(?<=\d)[, ](?=\d{3}(?!\d))|[$€£]", "", text)
    plain = re.sub(r"(?<=\s)[xX](?=\s)|(?<=\d)[xX](?=\d)|×", "*", plain).replace("÷", "/").replace("−", "-")
    plain = re.sub(r"(\d+(?:\.\d*)?|\.\d+)\s*%", r"(\1/100)", plain)
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain.strip())
    if not plain or len(plain) > LONGEST:
        raise Malformed(f"{text[:40]!r} is no arithmetic: {'nothing there' if not plain else 'too long'}")
    try:
        return ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"{text[:40]!r} is no arithmetic: {error}") from error


def _worth(node: ast.expr, names: Mapping[str, Fraction], text: str) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Fraction(str(number)) if number == number and abs(number) < 1e300 else _refuse(text, "too large")
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_worth(inner, names, text)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _worth(inner, names, text)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            a, b = _worth(left, names, text), _worth(right, names, text)
            if isinstance(operator, ast.Div) and b == 0:
                return _refuse(text, "it divides by zero")
            return _OPERATORS[type(operator)](a, b)
        case _:
            return _refuse(text, f"{ast.unparse(node)[:40]!r} in it")


def _refuse(text: str, why: str) -> Fraction:
    raise Malformed(f"{text[:40]!r} is no arithmetic: {why}")


def agrees(stated: str, exact: Fraction) -> bool:
    """Whether a written number is a value, to the decimals it is written with, rounded or cut."""
    try:
        said = value(stated)
    except Malformed:
        return False
    if stated.rstrip().endswith("%") and exact == said * 100:  # "10 / 100 * 100 = 10 %"
        return True
    if abs(said - exact) <= abs(exact) * PRECISION:
        return True
    decimals = len(stated.partition(".")[2].rstrip(" %"))
    return decimals > 0 and abs(said - exact) < Fraction(1, 10**decimals)


LINE = 2000
"""Most characters of a line that is looked at: more is nobody's step, and takes long if it was written to."""
NUMBER = r"(?:\d[\d,]*\d|\d)(?: \d{3}(?!\d))*(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(NUMBER)


def numbers(text: str) -> list[Fraction]:
    """The numbers written in figures, in their order, signs left out; none of more than `DIGITS` characters."""
    found = (re.sub("[, ]", "", match[0]) for match in _NUMBER.finditer(text))
    return [Fraction(one) for one in found if len(one) <= DIGITS]
