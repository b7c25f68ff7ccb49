"""sympy and z3 as a tool: proved, refuted by an exact counterexample, or undecided; never evaluated, never stuck."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rrm import Case, Outcome
from rrm.core.tools import consult

REASON = "sympy and z3-solver are needed; pip install -e '.[tools]'"
pytest.importorskip("sympy", reason=REASON)
pytest.importorskip("z3", reason=REASON)

from rrm_assistants.tools.algebra import Algebra, proof_lines  # noqa: E402
from rrm_assistants.tools.statements import Words, statement  # noqa: E402

TOOL = Algebra()


def verdicts(*lines: str, tool: Algebra = TOOL) -> list[bool | None]:
    """Per line: holds, fails, or no verdict."""
    report = consult(tool, Case("q"), Outcome("Proof:\n" + "\n".join(lines)))
    found = {f.fact: f.holds for f in report.findings}
    return [found.get(f"step{i}") for i in range(1, len(lines) + 1)]


@pytest.mark.parametrize(
    "line",
    [
        "(n + 1)^2 - n^2 = 2n + 1", "1. a^2 - b^2 = (a - b)(a + b)", "0.1 + 0.2 = 0.3", "2^(n+1) = 2*2^n",
        "7 < 8 <= 8", "sin(x)^2 + cos(x)^2 = 1", "Step 2: x^2 + y^2 >= 2xy.", "If a > b and b > c, then a > c",
        "n² + n + 41 > 0", "Since x > 2, x^2 > 4", "x > 2 implies x^2 > 4", "x = 3 => 2x = 6", "sqrt(16) = 4",
        "(3 + 5) / 2 = 4", "n(n+1) - n(n-1) = 2n", "Thus 2x + 3x = 5x (by adding)", "abs(-3) = 3", "1/x + 1/x = 2/x",
    ],
)  # fmt: skip
def test_what_holds_is_proved(line):
    assert verdicts(line) == [True]


@pytest.mark.parametrize(
    "line",
    [
        "(x + 1)^2 = x^2 + 1", "x^2 > 4 implies x > 2", "2 + 2 = 5", "n^2 > n", "sqrt(x^2) = x",
        "a > b implies a^2 > b^2",
        "If a*b = 0, then a = 0", "0.1 + 0.2 = 0.30001", "7 < 8 < 8", "2^n = n^2", "x/y = y/x",
    ],
)  # fmt: skip
def test_what_fails_is_refuted(line):
    assert verdicts(line) == [False]


def test_a_refutation_shows_where():
    report = consult(TOOL, Case("q"), Outcome("Proof: (x+1)^2 = x^2 + 1"))
    assert report.findings[0].note == '"(x+1)^2 = x^2 + 1": it fails at x = 1'


def test_steps_may_use_what_was_assumed_and_shown():
    assert verdicts("Let n = 2k.", "n^2 = 4k^2", "n^2 = 2(2k^2)", "n^2 = 3k^2") == [None, True, True, False]
    assert verdicts("n^2 = 4k^2") == [False]
    assert verdicts("Assume x > 1", "x^2 > 1", "x^2 > x") == [None, True, True]


def test_a_step_that_fails_is_not_built_upon():
    assert verdicts("Assume x > 0", "x > 1", "x > 1") == [None, False, False]


def test_from_a_contradiction_nothing_is_concluded():
    assert verdicts("Assume x = 1", "Assume x = 2", "x = 3") == [None, None, None]


@pytest.mark.parametrize("text", ["", "No proof here.", "Proof:", "Proof:\nThis is clear.\nQED", "Proof: none"])
def test_no_formula_is_no_verdict(text):
    report = consult(TOOL, Case("q"), Outcome(text))
    assert not report.findings and report.abstained


@pytest.mark.parametrize(
    "line",
    [
        "__import__('os').system('touch HERE') = 1", "().__class__ = 1", "open('HERE', 'w') = 1", "(lambda: 1)() = 1",
        "[x for x in (1,)] = 1", "x.y = 1", "'a' = 'a'", "True = 1", "f'{x}' = 1", "exec(1) = 1", "x[0] = 1",
        "sqrt(1, 2) = 1", "sqrt(x=1) = 1", "print(1) = 1", "(x := 1) = 1", "\x00 = 1",
        "x = " + "(" * 200 + "1" + ")" * 200,
        "x = " + "1+" * 2000 + "1", "-" * 200 + "1 = 1", "= =", "x = " + "9" * 290,
    ],
    ids=lambda line: line[:24],
)  # fmt: skip
def test_malicious_formulas_are_words(line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    if "9999" not in line:
        with pytest.raises(Words):
            statement(line)
    assert verdicts(line, "1 + 1 = 3")[1] is False
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "9^9^9^9 = 1", "factorial(99999999) = 1", "2^(2^(2^(2^n))) = n", "(x+y+z)^64 = (x-y)^64 + 1",
        "x^7 + y^7 = z^7 + 5 implies x*y*z > x - y^5", "exp(exp(exp(9999))) = 1",
    ],
)  # fmt: skip
def test_what_would_take_for_ever_does_not_hide_the_next_step(line):
    began = time.monotonic()
    assert verdicts(line, "1 + 1 = 3", tool=Algebra(seconds=0.5))[1] is False
    assert time.monotonic() - began < 30


def test_where_a_proof_ends():
    text = "Title: x = 1\n**Proof:** a = a\n- b = b\n\nc = c\nConclusion: d = d"
    assert proof_lines(text) == ["a = a", "- b = b", "c = c"]
    assert len(proof_lines("Proof:\n" + "x = x\n" * 99)) == 20
