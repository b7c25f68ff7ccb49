"""Decides the steps of proofs for `algebra.py`, as a script of its own (see `worker.py`): an exact search for
counterexamples, then sympy for identities and z3 for everything else. Terms are trees (`statements.py`); nothing that
was written is ever evaluated as Python or given to sympy's parser, which evaluates too.

A step fails only if exact arithmetic on rational numbers confirms a counterexample, or if it divides by zero wherever
what was assumed is so. It holds if sympy or z3 prove it, and if all its terms are proved to be defined from what was
assumed: both believe that 0/0 = 0/0. Else it is undecided. So is a step that a counterexample refutes, if a line before
said something of its names that could not be read ("Case 1: x > 0", "n is even"): the point may not be meant there.
"""

import ast
import itertools
import math
import random
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import sympy
import z3

sys.path.insert(0, str(Path(__file__).parent))
from defined import INTEGERS, conditions
from serve import serve
from statements import Statement, Words, mentioned, statement, variables

POINTS = [0, 1, -1, 2, 3, -2, 5, Fraction(1, 2), Fraction(-3, 2), 7, 10]
TRIES = 3000
BITS = 4096
"""Numbers longer than this are not computed with in the search."""


class Beyond(ArithmeticError):
    """The value is not computed: undefined there, irrational, or too long."""


class ByZero(Beyond):
    """There is none: it divides by zero."""


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
        if left == 0 and right < 0:
            raise ByZero
        if right.denominator != 1 or abs(right) > 64 or left == right == 0:
            raise Beyond
        result = left ** int(right)
    elif isinstance(node.op, ast.Div):
        if right == 0:
            raise ByZero
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


def divides_by_zero(at, premises, conclusion):
    """Whether the premises are true here and the conclusion divides by zero."""
    try:
        if not all(true_at(p, at) for p in premises):
            return False
        for relation in conclusion:
            true_at(relation, at)
    except ByZero:
        return True
    except Beyond:
        pass
    return False


def search(premises, conclusion, names, found=refutes):
    """Where, among small numbers, the premises are true and the conclusion is not, or None."""
    domains = [[p for p in POINTS if name[0] not in INTEGERS or Fraction(p).denominator == 1] for name in names]
    points = itertools.product(*domains)
    if len(POINTS) ** len(names) > TRIES:
        rng = random.Random(0)
        points = (tuple(rng.choice(domain) for domain in domains) for _ in range(TRIES))
    for point in points:
        at = {name: Fraction(p) for name, p in zip(names, point, strict=True)}
        if found(at, premises, conclusion):
            return at
    return None


def identity(relation, positive=frozenset()):
    """Whether sympy simplifies every equation of the relation to 0 = 0; names in `positive` are above zero."""
    if not all(isinstance(op, ast.Eq) for op in relation.ops):
        return False
    terms = [to_sympy(term, positive) for term in (relation.left, *relation.comparators)]
    return all(sympy.simplify(a - b) == 0 for a, b in itertools.pairwise(terms))


def to_sympy(node, positive):
    """A term of sympy's; raises `Beyond` for a number that sympy would be long in computing."""
    if isinstance(node, ast.Constant):
        return sympy.Rational(str(node.value))
    if isinstance(node, ast.Name):
        integer = node.id[0] in INTEGERS or None
        return sympy.Symbol(node.id, real=True, integer=integer, positive=node.id in positive or None)
    if isinstance(node, ast.UnaryOp):
        inner = to_sympy(node.operand, positive)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call):
        if node.func.id == "factorial" and isinstance(node.args[0], ast.Constant) and node.args[0].value > 1000:
            raise Beyond
        return getattr(sympy, {"abs": "Abs"}.get(node.func.id, node.func.id))(to_sympy(node.args[0], positive))
    left, right = to_sympy(node.left, positive), to_sympy(node.right, positive)
    if isinstance(node.op, ast.Pow):
        if left.is_number and right.is_number and (abs(right) > 10_000 or abs(left) > 10**6):
            raise Beyond  # sympy would compute it at once
        return left**right
    if isinstance(node.op, ast.Div):
        return left / right
    if isinstance(node.op, ast.Mult):
        return left * right
    return left + right if isinstance(node.op, ast.Add) else left - right


class Terms:
    """Terms as z3 has them, and what is true of them wherever they are defined. z3 divides by zero, with some result;
    of exp, log and so on it knows what is said here and no more."""

    def __init__(self):
        self.true, self.named = [], False
        """`named`: whether some function is but a name to z3."""

    def relation(self, r):
        """A chain of comparisons."""
        terms = [self.term(term) for term in (r.left, *r.comparators)]
        return z3.And([_compare(op, a, b) for op, a, b in zip(r.ops, terms, terms[1:], strict=False)])

    def defined(self, relations):
        """What must be so for the terms of relations to be defined."""
        return [self.condition(one) for one in conditions(relations)]

    def condition(self, one):
        """A disjunction (`defined.Condition`)."""
        return z3.Or([_compare(op(), self.term(term), z3.RealVal(0)) for term, op in one])

    def term(self, node):
        """A term that is what the written one is, wherever that is defined."""
        if isinstance(node, ast.Constant):
            return z3.RealVal(str(node.value))
        if isinstance(node, ast.Name):
            return z3.ToReal(z3.Int(node.id)) if node.id[0] in INTEGERS else z3.Real(node.id)
        if isinstance(node, ast.UnaryOp):
            inner = self.term(node.operand)
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.Call):
            return self._call(node.func.id, self.term(node.args[0]))
        left = self.term(node.left)
        if isinstance(node.op, ast.Pow):
            sign = -1 if isinstance(node.right, ast.UnaryOp) and isinstance(node.right.op, ast.USub) else 1
            exponent = node.right.operand if sign < 0 else node.right
            if isinstance(exponent, ast.Constant) and exponent.value in range(9):
                power = math.prod([left] * int(exponent.value), start=z3.RealVal(1))
                return power if sign > 0 else 1 / power
            return self._function("power", left, self.term(node.right))
        right = self.term(node.right)
        if isinstance(node.op, ast.Div):
            return left / right
        if isinstance(node.op, ast.Mult):
            return left * right
        return left + right if isinstance(node.op, ast.Add) else left - right

    def _function(self, name, *arguments):
        self.named = True
        return z3.Function(name, *[z3.RealSort()] * (len(arguments) + 1))(*arguments)

    def _call(self, name, inner):
        if name == "abs":
            return z3.If(inner >= 0, inner, -inner)
        if name == "sqrt":
            root = z3.FreshReal("root")
            self.true.append(z3.Implies(inner >= 0, z3.And(root >= 0, root * root == inner)))
            return root
        result = self._function(name, inner)
        if name == "exp":
            self.true.append(result > 0)
        elif name == "factorial":
            self.true.append(z3.Implies(inner >= 0, result >= 1))
        elif name in ("sin", "cos", "tan"):
            sin, cos = self._function("sin", inner), self._function("cos", inner)
            self.true.append(sin * sin + cos * cos == 1)
            if name == "tan":
                self.true.append(z3.Implies(cos != 0, result * cos == sin))
        return result


def check(terms, assertions, seconds):
    """(z3.sat, z3.unsat or z3.unknown, the solver)."""
    solver = z3.Solver()
    solver.set("timeout", max(1, int(1000 * seconds)))
    solver.set("random_seed", 0)
    solver.add(assertions)
    solver.add(terms.true)
    return solver.check(), solver


def prove(premises, conclusion, names, seconds):
    """(proved where both are defined, a point that z3 believes refutes it, or None)."""
    terms = Terms()
    assertions = [terms.relation(p) for p in premises]
    assertions += [z3.Not(z3.And([terms.relation(c) for c in conclusion]))]
    assertions += terms.defined((*premises, *conclusion))
    answer, solver = check(terms, assertions, seconds)
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


def undefined(premises, conclusion, seconds):
    """Why the terms of the conclusion are not shown to be defined wherever the premises are true; "" if they are."""
    terms = Terms()
    assumed, own = [terms.relation(p) for p in premises], terms.defined(premises)
    if terms.named and own:  # z3 cannot tell whether they can hold, so that assuming them might assume anything
        if check(terms, [*assumed, z3.Not(z3.And(own))], seconds)[0] != z3.unsat:
            return "what was assumed may be undefined"
    elif own and check(terms, [*assumed, *own], seconds)[0] != z3.sat:
        return "what was assumed may be undefined, or contradict itself"
    if not _holds(premises, needed := conditions(conclusion), seconds):
        for one in needed:
            if not _holds(premises, [one], seconds):
                return f"{_told(one)} was not shown, and else it is undefined"
        return "that it is defined took too long to show"
    return ""


def _holds(premises, needed, seconds):
    """Whether z3 proves the conditions from the premises."""
    terms = Terms()
    given = [*map(terms.relation, premises), *terms.defined(premises)]
    return check(terms, [*given, z3.Not(z3.And([terms.condition(one) for one in needed]))], seconds)[0] == z3.unsat


def _told(condition):
    signs = {ast.NotEq: "is not 0", ast.Gt: "> 0", ast.GtE: ">= 0"}
    told = " or ".join(f"{ast.unparse(term)} {signs[op]}" for term, op in condition)
    return told or "that a factorial is of a whole number"


def nowhere(premises, conclusion, names, seconds):
    """Whether the conclusion divides by zero wherever the premises are true, and they are somewhere."""
    if not conditions(conclusion) or search(premises, conclusion, names, divides_by_zero) is None:
        return False
    terms = Terms()
    together = [*map(terms.relation, premises), *terms.defined((*premises, *conclusion))]
    return check(terms, together, seconds)[0] == z3.unsat


def decide(step: Statement, known, seconds):
    """("yes" | "no" | "undecided", why) of a step, given what is known from the steps before."""
    premises, conclusion = (*known, *step.premises), step.conclusion
    names = variables((*premises, *conclusion))
    at = search(premises, conclusion, names)
    if at is None:
        try:
            if nowhere(premises, conclusion, names, seconds / 4):
                return "no", BY_ZERO
            lacking = undefined(premises, conclusion, seconds / 4)
            how, at = shown(premises, conclusion, names, seconds, simplify=not lacking)
        except (Beyond, z3.Z3Exception):
            return "undecided", "beyond this tool"
        if how:
            # what cannot be follows from anything: then the premises are at fault, and nothing was shown
            if premises and prove(premises, NEVER, names, seconds)[0]:
                return "undecided", "what was assumed contradicts itself"
            return ("undecided", lacking) if lacking else ("yes", how)
        if at is None or not refutes(at, premises, conclusion):
            return "undecided", "neither proved nor refuted"
    where = ", ".join(f"{name} = {number}" for name, number in at.items() if not name.startswith("root"))
    return "no", f"it fails at {where}" if where else "it is false"


def shown(premises, conclusion, names, seconds, simplify):
    """(what proves that the conclusion is true where it is defined, or "", a point that may refute it, or None).

    simplify: whether sympy may, which takes every term for defined.
    """
    positive = frozenset(name for name in names if any(_above_zero(p, name) for p in premises))
    try:
        if simplify and all(identity(c, positive) for c in conclusion):
            return "sympy: both sides are the same", None
    except Beyond:
        pass
    proved, at = prove(premises, conclusion, names, seconds)
    return "z3: nothing speaks against it" if proved else "", at


def _above_zero(relation, name):
    """Whether a relation says that a name is above some number that is not below zero, and just that."""
    low, high = relation.left, relation.comparators[0]
    if len(relation.ops) > 1 or not isinstance(relation.ops[0], (ast.Gt, ast.Lt)):
        return False
    low, high = (high, low) if isinstance(relation.ops[0], ast.Gt) else (low, high)
    return isinstance(high, ast.Name) and high.id == name and isinstance(low, ast.Constant) and low.value >= 0


NEVER = statement("0 = 1").conclusion
BY_ZERO = "it divides by zero"


def together(step, known):
    """The names of a step, and of all that is known of them."""
    names = set(variables((*step.premises, *step.conclusion)))
    while more := {n for r in known if names & {*variables((r,))} for n in variables((r,))} - names:
        names |= more
    return names


def answer(asked: dict) -> dict:
    """{"line", "known": earlier lines that may be used, "void": names that stand for nothing, "unread": names of which
    something was said that could not be read, "seconds"} -> {"verdict", "why", "usable", "void" and "unread": those
    that this line adds}."""
    known = [relation for line in asked["known"] for relation in statement(line).conclusion]
    said = {"usable": False, "void": [], "unread": []}
    try:
        step = statement(asked["line"])
    except Words as why:
        return said | {"verdict": "words", "why": str(why), "unread": sorted(mentioned(asked["line"]))}
    names = variables((*step.premises, *step.conclusion))
    if step.assumed:
        if not nowhere(known, step.conclusion, variables((*known, *step.conclusion)), asked["seconds"]):
            usable = not step.premises
            return said | {"verdict": "assumed", "why": "", "usable": usable,
                           "unread": sorted(step.unread if usable else step.unread.union(names))}  # fmt: skip
        void = [name for name in names if name not in variables(tuple(known))]
        return said | {"verdict": "no", "why": BY_ZERO, "void": void}
    verdict, why = decide(step, known, asked["seconds"])
    if verdict == "yes" and (void := sorted(set(asked["void"]) & set(names))):
        verdict, why = "undecided", f"{', '.join(void)} was set to what divides by zero"
    if verdict == "no" and why != BY_ZERO and (unread := step.unread.union(asked["unread"]) & together(step, known)):
        verdict, why = "undecided", f"not all that is said of {', '.join(sorted(unread))} could be read"
    if verdict == "yes" and any(step.every & {*variables((r,))} for r in known):
        others = [r for r in known if not step.every & {*variables((r,))}]
        if decide(step, others, asked["seconds"])[0] != "yes":
            verdict, why = "undecided", f"of {', '.join(sorted(step.every))} something was assumed: not for all"
    if verdict == "undecided":  # what follows may rest on it
        return said | {"verdict": verdict, "why": why, "unread": sorted(step.unread.union(names))}
    # An identity without assumptions is no news to later steps.
    usable = verdict == "yes" and bool(known)
    if usable and step.premises:  # "x^2 = 9, as x = 3" is, where x = 3 is known
        usable = decide(replace(step, conclusion=step.premises, premises=()), known, asked["seconds"] / 4)[0] == "yes"
    return said | {"verdict": verdict, "why": why, "usable": usable, "unread": sorted(step.unread)}


if __name__ == "__main__":
    serve(answer)
