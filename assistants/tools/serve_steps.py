"""Decides the steps of proofs for `algebra.py`, as a script of its own (see `worker.py`): an exact search for
counterexamples, then sympy for identities and z3 for everything else. Terms are trees (`statements.py`); nothing that
was written is ever evaluated as Python or given to sympy's parser, which evaluates too.

A step fails only if exact arithmetic on rational numbers confirms a counterexample. It holds if sympy or z3 prove it.
Else it is undecided.
"""

import ast
import itertools
import math
import random
import sys
from fractions import Fraction
from pathlib import Path

import sympy
import z3

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve
from statements import Statement, Words, statement, variables

INTEGERS = "ijkmn"
"""Variables with these letters are whole numbers; all others are real."""
POINTS = [0, 1, -1, 2, 3, -2, 5, Fraction(1, 2), Fraction(-3, 2), 7, 10]
TRIES = 3000
BITS = 4096
"""Numbers longer than this are not computed with in the search."""


class Beyond(ArithmeticError):
    """The value is not computed: undefined there, irrational, or too long."""


def value(node, at):
    """A term's exact value; raises `Beyond`."""
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.Name):
        return at[node.id]
    if isinstance(node, ast.UnaryOp):
        inner = value(node.operand, at)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call):
        inner = value(node.args[0], at)
        if node.func.id == "abs":
            return abs(inner)
        if node.func.id == "factorial" and inner.denominator == 1 and 0 <= inner <= 30:
            return Fraction(math.factorial(int(inner)))
        if node.func.id == "sqrt" and inner >= 0:
            root = Fraction(math.isqrt(inner.numerator), math.isqrt(inner.denominator))
            if root * root == inner:
                return root
        raise Beyond
    left, right = value(node.left, at), value(node.right, at)
    if isinstance(node.op, ast.Pow):
        if right.denominator != 1 or abs(right) > 64 or (left == 0 and right < 0):
            raise Beyond
        result = left ** int(right)
    elif isinstance(node.op, ast.Div):
        if right == 0:
            raise Beyond
        result = left / right
    elif isinstance(node.op, ast.Mult):
        result = left * right
    else:
        result = left + right if isinstance(node.op, ast.Add) else left - right
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > BITS:
        raise Beyond
    return result


def true_at(relation, at):
    """Whether a relation is true where its variables have these values; raises `Beyond`."""
    terms = [value(term, at) for term in (relation.left, *relation.comparators)]
    return all(_compare(op, a, b) for op, a, b in zip(relation.ops, terms, terms[1:], strict=False))


def _compare(op, a, b):
    return {
        ast.Eq: lambda: a == b, ast.NotEq: lambda: a != b, ast.Lt: lambda: a < b, ast.LtE: lambda: a <= b,
        ast.Gt: lambda: a > b, ast.GtE: lambda: a >= b,
    }[type(op)]()  # fmt: skip


def refutes(at, premises, conclusion):
    """Whether the premises are true here and the conclusion is not, all of them being defined."""
    try:
        return all(true_at(p, at) for p in premises) and not all([true_at(c, at) for c in conclusion])
    except Beyond:
        return False


def search(premises, conclusion, names):
    """A counterexample among small numbers, or None."""
    domains = [[p for p in POINTS if name[0] not in INTEGERS or Fraction(p).denominator == 1] for name in names]
    points = itertools.product(*domains)
    if len(POINTS) ** len(names) > TRIES:
        rng = random.Random(0)
        points = (tuple(rng.choice(domain) for domain in domains) for _ in range(TRIES))
    for point in points:
        at = {name: Fraction(p) for name, p in zip(names, point, strict=True)}
        if refutes(at, premises, conclusion):
            return at
    return None


def identity(relation):
    """Whether sympy simplifies every equation of the relation to 0 = 0."""
    if not all(isinstance(op, ast.Eq) for op in relation.ops):
        return False
    terms = [to_sympy(term) for term in (relation.left, *relation.comparators)]
    return all(sympy.simplify(a - b) == 0 for a, b in itertools.pairwise(terms))


def to_sympy(node):
    """A term of sympy's; raises `Beyond` for a number that sympy would be long in computing."""
    if isinstance(node, ast.Constant):
        return sympy.Rational(str(node.value))
    if isinstance(node, ast.Name):
        return sympy.Symbol(node.id, real=True, integer=node.id[0] in INTEGERS or None)
    if isinstance(node, ast.UnaryOp):
        inner = to_sympy(node.operand)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call):
        if node.func.id == "factorial" and isinstance(node.args[0], ast.Constant) and node.args[0].value > 1000:
            raise Beyond
        return getattr(sympy, {"abs": "Abs"}.get(node.func.id, node.func.id))(to_sympy(node.args[0]))
    left, right = to_sympy(node.left), to_sympy(node.right)
    if isinstance(node.op, ast.Pow):
        if left.is_number and right.is_number and (abs(right) > 10_000 or abs(left) > 10**6):
            raise Beyond  # sympy would compute it at once
        return left**right
    if isinstance(node.op, ast.Div):
        return left / right
    if isinstance(node.op, ast.Mult):
        return left * right
    return left + right if isinstance(node.op, ast.Add) else left - right


def to_z3(node, defined):
    """A z3 term; what must be so for it to be defined is added to `defined`."""
    if isinstance(node, ast.Constant):
        return z3.RealVal(str(node.value))
    if isinstance(node, ast.Name):
        return z3.ToReal(z3.Int(node.id)) if node.id[0] in INTEGERS else z3.Real(node.id)
    if isinstance(node, ast.UnaryOp):
        inner = to_z3(node.operand, defined)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call):
        inner = to_z3(node.args[0], defined)
        if node.func.id == "abs":
            return z3.If(inner >= 0, inner, -inner)
        if node.func.id == "sqrt":
            root = z3.FreshReal("root")
            defined += [inner >= 0, root >= 0, root * root == inner]
            return root
        raise Beyond
    left, right = to_z3(node.left, defined), to_z3(node.right, defined)
    if isinstance(node.op, ast.Pow):
        if not isinstance(node.right, ast.Constant) or node.right.value not in range(9):
            raise Beyond
        power = z3.RealVal(1)
        for _ in range(node.right.value):
            power = power * left
        return power
    if isinstance(node.op, ast.Div):
        defined.append(right != 0)
        return left / right
    if isinstance(node.op, ast.Mult):
        return left * right
    return left + right if isinstance(node.op, ast.Add) else left - right


def prove(premises, conclusion, names, seconds):
    """(proved, a point that z3 believes refutes it, or None)."""
    defined = []

    def relation(r):
        terms = [to_z3(term, defined) for term in (r.left, *r.comparators)]
        return z3.And([_compare(op, a, b) for op, a, b in zip(r.ops, terms, terms[1:], strict=False)])

    solver = z3.Solver()
    solver.set("timeout", int(1000 * seconds))
    solver.set("random_seed", 0)
    solver.add([relation(p) for p in premises])
    solver.add(z3.Not(z3.And([relation(c) for c in conclusion])))
    solver.add(defined)
    answer = solver.check()
    if answer == z3.unsat:
        return True, None
    if answer != z3.sat:
        return False, None
    model, at = solver.model(), {}
    for name in names:
        found = model.eval(z3.Int(name) if name[0] in INTEGERS else z3.Real(name), model_completion=True)
        if not (z3.is_int_value(found) or z3.is_rational_value(found)):
            return False, None  # an irrational point: exact arithmetic cannot confirm it
        at[name] = Fraction(found.as_long()) if z3.is_int_value(found) else Fraction(found.as_fraction())
    return False, at


def decide(step: Statement, known, seconds):
    """("yes" | "no" | "undecided", why) of a step, given what is known from the steps before."""
    premises, conclusion = (*known, *step.premises), step.conclusion
    names = variables((*premises, *conclusion))
    at = search(premises, conclusion, names)
    if at is None:
        try:
            if all(identity(c) for c in conclusion):
                return "yes", "sympy: both sides are the same"
        except Beyond:
            pass
        try:
            proved, at = prove(premises, conclusion, names, seconds)
        except (Beyond, z3.Z3Exception):
            return "undecided", "beyond this tool"
        if proved:
            # what cannot be follows from anything: then the premises are at fault, and nothing was shown
            if premises and prove(premises, NEVER, names, seconds)[0]:
                return "undecided", "what was assumed contradicts itself"
            return "yes", "z3: nothing speaks against it"
        if at is None or not refutes(at, premises, conclusion):
            return "undecided", "neither proved nor refuted"
    shown = ", ".join(f"{name} = {number}" for name, number in at.items() if not name.startswith("root"))
    return "no", f"it fails at {shown}" if shown else "it is false"


NEVER = statement("0 = 1").conclusion


def answer(asked: dict) -> dict:
    """{"line", "known": earlier lines that may be used, "seconds"} -> {"verdict", "why"}."""
    known = [relation for line in asked["known"] for relation in statement(line).conclusion]
    try:
        step = statement(asked["line"])
    except Words as why:
        return {"verdict": "words", "why": str(why), "usable": False}
    if step.assumed:
        return {"verdict": "assumed", "why": "", "usable": True}
    verdict, why = decide(step, known, asked["seconds"])
    # An identity without assumptions is no news to later steps.
    return {"verdict": verdict, "why": why, "usable": verdict == "yes" and bool(known) and not step.premises}


if __name__ == "__main__":
    serve(answer)
