"""The tools for worked solutions: what they compute is right, and what they read is never run."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from rrm import Case, Malformed, Outcome
from rrm.core.tools import consult
from rrm_assistants.answered import Answered
from rrm_assistants.arithmetic import Arithmetic, computed
from rrm_assistants.expressions import agrees, equations, numbers, value
from rrm_assistants.follows import Follows, unknown
from rrm_assistants.solution import answer, given
from tests.text.material import QUESTION, RIGHT, WRONG


def said(tool, text: str, question: str = QUESTION) -> dict[str, bool]:
    return {f.fact: f.holds for f in consult(tool, Case(question), Outcome(text)).findings}


trees = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=6,
)


@drawn(trees)
def test_a_value_is_what_python_computes(text: str) -> None:
    exact = re.sub(r"\d+", r"Fraction(\g<0>)", text)
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(Malformed, match="divides by zero"):
            value(text)
    else:
        assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("$1,200 x 5%", 60), ("400 000 / 2", 200000), ("2 × 3", 6), (".5*4", 2), ("-(3 - 5)", 2), ("1/4*12", 3),
        ("007", 7), ("4 + -6 - 5 * -5", 23),
    ],
)  # fmt: skip
def test_how_people_write_numbers(text: str, worth: int) -> None:
    assert value(text) == worth


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "9**9**9", "x + 1", "", "3 4", "1 if 1 else 2", "'a'*9", "[1]", "True", "1e999", "(" * 300,
        "2x",
    ],
)
def test_what_is_no_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        value(text)


def test_rounding_is_no_mistake_but_another_number_is() -> None:
    assert agrees("0.33", Fraction(1, 3)) and agrees("66.66666666666667", Fraction(200, 3))
    assert agrees("10%", Fraction(10)) and agrees("1,300", Fraction(1300))
    assert not agrees("66", Fraction(200, 3)) and not agrees("0.34999", Fraction(1, 3))
    assert not agrees("some", Fraction(1))


def test_equations_that_are_marked_and_that_are_written_out() -> None:
    line = "He has 2 + 3 = <<2+3=5>>6 and 4*2=8, or 6 birds * 2/3 = 4."
    assert [(e.left, e.right, e.holds) for e in equations(line)] == [
        ("2+3", "5", True), ("2+3", "6", False), ("2 + 3", "6", False), ("4*2", "8", True),
    ]  # fmt: skip
    assert [line[slice(*e.span)] for e in equations(line)][0::3] == ["<<2+3=5>>", "4*2=8"]
    assert numbers("1,200 for 3.5 and .5") == [1200, Fraction(7, 2), Fraction(1, 2)]


def test_arithmetic_says_which_line_comes_out_otherwise() -> None:
    assert computed(RIGHT) == {1: "", 2: ""}
    assert computed(RIGHT.replace("=14>>14", "=15>>15"))[2] == "7*2 is not 15"
    assert said(Arithmetic(), WRONG) == {"calc1": True, "calc2": True}  # the error is one of reasoning
    assert consult(Arithmetic(), Case(""), Outcome("It is so.\nA: 3")).abstained


def test_follows_finds_numbers_from_nowhere() -> None:
    assert said(Follows(), RIGHT) == {"step1": True, "step2": True}
    assert unknown(QUESTION, WRONG) == {1: [], 2: [9]}


@pytest.mark.parametrize(
    ("question", "used"),
    [
        ("20% of them", "0.2 80 120 20 100"), ("three quarters of it", "3 4 0.75 0.25"), ("twenty-five of them", "25"),
        ("1/4 of the eggs", "4 0.25 3"), ("a dozen", "12"), ("twice as many", "2"), ("a week", "7"),
        ("5 dollars", "5 1"),
    ],
)  # fmt: skip
def test_numbers_known_from_words(question: str, used: str) -> None:
    text = "\n".join(f"So {n} + 0 = <<{n}+0={n}>>{n}" for n in used.split())
    assert [odd for odd in unknown(f"0 and {question}", text).values() if odd] == []
    assert unknown(question, "So 977 + 1 = <<977+1=978>>978") == {1: [977]}


def test_a_later_step_may_use_an_earlier_result_only() -> None:
    assert unknown("It has 6.", "6*1=<<6*1=6>>6\n6+1=<<6+1=7>>7\n7-6=<<7-6=1>>1") == {1: [], 2: [], 3: []}
    assert unknown("It has 6.", "7-6=<<7-6=1>>1\n6+1=<<6+1=7>>7") == {1: [7], 2: []}


def test_answered_asks_four_questions() -> None:
    assert said(Answered(), RIGHT) == {"stated": True, "givens": True, "asked": True}
    assert not said(Answered(), RIGHT.replace("A: 14", "A: 7"))["stated"]
    assert not said(Answered(), "He gets 3 * 2 = $<<3*2=6>>6.\nA: 6")["givens"]
    assert not said(Answered(), "There are 3 + 4 = <<3+4=7>>7 apples, times 2 = 14\nA: 14")["asked"]
    how_many = "There are 5 boys and 2 girls. How many children are there?"
    assert said(Answered(), "5 / 2 = <<5/2=2.5>>2.5 children\nA: 2.5", how_many)["whole"] is False
    assert consult(Answered(), Case(how_many), Outcome("I do not know")).abstained == "no answer at its end"


def test_the_answer_is_the_last_one_given() -> None:
    assert answer("A: 3\nno,\nA: -1,200") == -1200 and answer("#### 7") == 7
    assert answer("A:\n100: 1") is None and answer("7") is None


def test_a_number_in_words_is_given_once() -> None:
    assert set(given("He has thirty-five and 4 and 20%")) == {35, 4, 20}
