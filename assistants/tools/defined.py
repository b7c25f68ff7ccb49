"""Where a term is defined, in the real numbers: read off its syntax, before anything simplifies it. x/x is one term and
1 another, and so is 0*(1/0).

A condition is a disjunction, (term, comparison with 0) each; a term is defined where all its conditions hold. The empty
disjunction holds nowhere that can be shown: of factorials of what is perhaps no whole number.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

INTEGERS = "ijkmn"
"""Variables with these letters are whole numbers; all others are real."""

Condition = tuple[tuple[ast.expr, type[ast.cmpop]], ...]


def conditions(relations: Iterable[ast.Compare]) -> list[Condition]:
    """All that must hold for the terms of relations to be defined, inner terms first."""
    return [one for r in relations for term in (r.left, *r.comparators) for one in _of(term)]


def _of(node: ast.expr) -> Iterator[Condition]:
    match node:
        case ast.UnaryOp(operand=inner):
            yield from _of(inner)
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            yield from _of(inner)
            yield from _call(name, inner)
        case ast.BinOp(left=left, op=op, right=right):
            yield from _of(left)
            yield from _of(right)
            if isinstance(op, ast.Div):
                yield ((right, ast.NotEq),)
            elif isinstance(op, ast.Pow):
                yield from _power(left, right)


def _call(name: str, inner: ast.expr) -> Iterator[Condition]:
    if name == "sqrt":
        yield ((inner, ast.GtE),)
    elif name == "log":
        yield ((inner, ast.Gt),)
    elif name == "factorial":
        yield ((inner, ast.GtE),) if whole(inner) else ()
    elif name == "tan" and not rational(inner):  # its poles are irrational
        yield ((ast.Call(ast.Name("cos"), [inner], []), ast.NotEq),)


def _power(base: ast.expr, exponent: ast.expr) -> Iterator[Condition]:
    """0 has positive powers only (0**0 is left undefined), and what is negative whole ones only."""
    if not whole(exponent):
        yield ((base, ast.GtE),)
    if not (isinstance(exponent, ast.Constant) and exponent.value > 0):
        yield ((base, ast.NotEq), (exponent, ast.Gt))


def whole(node: ast.expr) -> bool:
    """Whether a term is a whole number wherever it is defined, by its form."""
    match node:
        case ast.Constant(value=number):
            return isinstance(number, int) or number.is_integer()
        case ast.Name(id=name):
            return name[0] in INTEGERS
        case ast.UnaryOp(operand=inner):
            return whole(inner)
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            return name == "factorial" or (name == "abs" and whole(inner))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int())):
            return whole(left)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
            return whole(left) and whole(right)
    return False


def rational(node: ast.expr) -> bool:
    """Whether a term is a rational number wherever it is defined, by its form."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            return rational(left) and rational(right)
        case ast.UnaryOp(operand=inner):
            return rational(inner)
    return isinstance(node, ast.Constant) or whole(node)
