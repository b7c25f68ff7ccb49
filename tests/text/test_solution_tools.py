"""The tools for worked solutions: what they compute is right, and what they read is never run."""

from __future__ import annotations

import inspect
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from rrm import Case, Malformed, Outcome
from rrm.core.tools import consult
from rrm_assistants import expressions, versions
from rrm_assistants.answered import Answered
from rrm_assistants.arithmetic import Arithmetic, computed
from rrm_assistants.equalities import Equalities
from rrm_assistants.expressions import agrees, numbers, value
from rrm_assistants.follows import Follows, unknown
from rrm_assistants.reading import equations
from rrm_assistants.solution import answer, given
from rrm_assistants.sorting import Sorting
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
        ("2+3", "5", True), ("2+3", "6", False), ("2 + 3", "6", False), ("4 * 2", "8", True), ("6 * 2 / 3", "4", True),
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
    assert unknown("It has 60.", "61-60=<<61-60=1>>1\n60+1=<<60+1=61>>61") == {1: [61], 2: []}
    assert unknown("It has 6.", "7-6=<<7-6=1>>1\n6+1=<<6+1=7>>7") == {1: None, 2: []}  # six others, and itself


def test_answered_asks_six_questions() -> None:
    assert said(Answered(), RIGHT) == dict.fromkeys(("stated", "givens", "asked", "used", "sizes"), True)
    assert not said(Answered(), RIGHT.replace("A: 14", "A: 7"))["stated"]
    question = QUESTION.replace("4 green", "44 green")
    assert not said(Answered(), "He gets 3 * 2 = $<<3*2=6>>6.\nA: 6", question)["givens"]
    how_many = "There are 5 boys and 2 girls. How many children are there?"
    assert said(Answered(), "5 / 2 = <<5/2=2.5>>2.5 children\nA: 2.5", how_many)["whole"] is False
    assert consult(Answered(), Case(how_many), Outcome("I do not know")).abstained == "no answer at its end"
    idle = "Boys and girls: 5 + 2 = 7\nGirls, twice: 2 * 2 = 4\nSo 5 * 4 = 20\nA: 20"
    assert said(Answered(), idle, how_many)["used"] is False
    assert said(Answered(), "5 + 2 = 7\n2 - 5 = -3\n7 + 3 = 10\nA: 10", how_many)["sizes"] is False
    assert said(Answered(), "5 / 3 = 1.66667\n1.66667 + 2 = 3.66667\nA: 4", how_many)["sizes"] is False
    left = "Tom has 20 pens and gives 5 away. How many pens are left?"
    assert said(Answered(), "20 + 5 = 25 pens\nA: 25", left)["asked"] is False


def test_what_is_mentioned_only_is_neither_used_nor_left_out() -> None:
    question = "Tom has 17 pens and 23 books. How many things has he?"
    assert said(Answered(), "17 + 23 = 40 things\nA: 40", question)["givens"] is True
    assert "givens" not in said(Answered(), "17 pens, and with the 23 books 17 + 20 = 37 things\nA: 37", question)
    assert said(Answered(), "17 + 20 = 37 things\nA: 37", question)["givens"] is False


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("4 pieces/day - 3 pieces/day = 1 piece/day", "4 - 3 = 1"),
        ("75 miles / 15 mph = 5 hours", "75 / 15 = 5"),
        ("In total Max bought 16 snowflake + 19 truck + 10 rose stamps = 45 stamps.", "16 + 19 + 10 = 45"),
        ("Of the 45 people invited – 4 people cannot come = 41 people", "45 - 4 = 41"),
        ("3 yards * (3 feet / 1 yard) = 9 feet", "3 * ( 3 / 1 ) = 9"),
        ("30% * 20 pizzas = 6 pizzas", "30% * 20 = 6"), ("3 balls * $9/ball = $27.", "3 * $9 = 27"),
        ("- 3 + 4 = 7", "3 + 4 = 7"), ("so 10 x (4 - 2) = 20", "10 * ( 4 - 2 ) = 20"),
        ("7.5 pounds - 15 pounds = -7.5 pounds", "7.5 - 15 = -7.5"), ("9 − 4 = 5", "9 - 4 = 5"),
        ("8 ÷ 2 = 4", "8 / 2 = 4"),
    ],
)  # fmt: skip
def test_units_and_words_around_numbers_are_read(line: str, read: str) -> None:
    (one,) = equations(line)
    assert f"{one.left} = {one.right}" == read and one.holds


TOOLS = (Arithmetic(), Follows(), Answered(), Equalities(), Sorting())
UNREAD = [
    "1.234,5 + 1 = 1.236,5", "2^3 + 1 = 10", r"\frac{1}{2} + 1 = 2", "3 1/2 + 2 = 6", "x + 3 = 5", "3x + 4 = 28",
    "2x = 4", "2(3) + 1 = 8", "1'000 + 2 = 1003", "half of 8 + 2 = 6", "20% of 50 + 3 = 13", "the rest + 3 = 9",
    "5 + = 7", "2 + the number of cats + 3 = 9", "2³ + 1 = 9", "５,5 + 1 = 7", "twice 3 + 4 = 10", "3 + 4 = 6 + 1",
    "= 5", "3 + 4 =", "", "Trois et quatre font sept.", "½ + 1 = 3", "√4 + 1 = 9", "12,50 + 1 = 14",
    "9 less 3 + 1 = 7",
]  # fmt: skip


@pytest.mark.parametrize("line", UNREAD)
@pytest.mark.parametrize("tool", [Arithmetic(), Equalities()], ids=lambda tool: tool.name)
def test_what_cannot_be_read_is_not_called_wrong(tool, line: str) -> None:
    assert False not in said(tool, line, "How many?").values()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@pytest.mark.parametrize(
    "text",
    ["", " \n", "A: 5", "It is five.\nA: 5", "Es sind fünf.\nA: 5", "五个\nA: 5", "1.234,5 + 1 = 1.235,5\nA: 5",
     "9" * 5000, "9" * 5000 + " + 1 = 2\nA: 2", "= " * 50, "\x00", "(" * 500, "1 + " * 500, "0/0 = 5", "1/0 = 5\nA: 5"],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
@pytest.mark.parametrize(
    "question", ["", "12", "九 + 三?", "9" * 5000, "1/" + "9" * 5000, "Wie viele Äpfel kauft Tom heute?"]
)
def test_what_cannot_be_read_is_not_vouched_for(tool, text: str, question: str) -> None:
    """Nor does it raise: an exception of a tool stops a run."""
    assert consult(tool, Case(question), Outcome(text)).abstained


@pytest.mark.parametrize("tool", [Follows(), Answered()], ids=lambda tool: tool.name)
def test_questions_in_other_ways_of_writing_are_no_verdict(tool) -> None:
    text = "12 + 1300 = 1312\n1312 * 17 = 22304\nA: 22304"
    for question in (
        "Tom hat zwölf Äpfel und kauft 1300 dazu. Wie viele Äpfel hat er siebzehnmal?",
        "Tom has 12 apples and buys 1.300,00 more, for 17 days. How many apples has he?",
        "Tom has $12$ apples and buys $1.3 \\cdot 10^3$ more for 17 days. How many apples has he?",
    ):
        assert consult(tool, Case(question), Outcome(text)).abstained, question
    assert consult(tool, Case("What is it?"), Outcome("3x + 4 = 10\n3x = 10 - 4 = 6\nA: 2")).abstained


def test_a_step_that_may_know_its_numbers_is_left_out() -> None:
    """5 may have been counted, 48 is in the words before; 977 is from nowhere."""
    question = "Ann, Bob, Cid, Dan and Eve have 10 pens each. How many pens are there?"
    assert said(Follows(), "5 * 10 = 50\nA: 50", question) == {}
    assert said(Follows(), "10 * 10 = 100\nA: 100", question) == {"step1": True}
    assert said(Follows(), "They have forty-eight, which is 48 in all.\n48 * 10 = 480\nA: 480", question) == {}
    assert said(Follows(), "977 * 10 = 9770\nA: 9770", question) == {"step1": False}
    assert said(Follows(), "10 * 10 = 110\nA: 110", question) == {"step1": False}


def test_a_long_text_is_no_verdict_and_takes_no_time() -> None:
    began = time.monotonic()
    for text in ("3 + 4 = 7\n" * 10_000 + "A: 7", "3 + 4 = " * 10_000, "hour " * 30_000, "x" * 10**6):
        for tool in TOOLS:
            consult(tool, Case(QUESTION), Outcome(text))
    for tool in (Follows(), Answered()):
        consult(tool, Case("hour " * 3000), Outcome("3 + 4 = 7\n" * 1500 + "A: 7"))
    assert time.monotonic() - began < 60


def test_a_tools_version_changes_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a run's memory would go on with what the code before said."""
    before = {tool.name: tool.version for tool in TOOLS}
    assert len(set(before.values())) == 5
    real = inspect.getsource
    versions._hash.cache_clear()
    monkeypatch.setattr(inspect, "getsource", lambda one: real(one) + "\nx = 1\n" * (one is expressions))
    after = {tool.name: tool.version for tool in TOOLS}
    versions._hash.cache_clear()
    assert {name for name in before if before[name] == after[name]} == {"sorting"}


def test_the_answer_is_the_last_one_given() -> None:
    assert answer("A: 3\nno,\nA: -1,200") == -1200 and answer("#### 7") == 7
    assert answer("A:\n100: 1") is None and answer("7") is None


def test_a_number_in_words_is_given_once() -> None:
    assert set(given("He has thirty-five and 4 and 20%")) == {35, 4, 20}
