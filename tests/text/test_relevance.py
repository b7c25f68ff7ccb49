"""Facts of relevance: they hold of right solutions, fail of sums that have nothing to do with the question, and whether
they are there is for the question alone to say."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Group, Outcome, Pair
from rrm.core.tools import consult
from rrm_assistants.answered import Answered
from rrm_assistants.relevance import held, relevance
from rrm_tasks.word_problems import case_of, facts, word_problems
from tests.text.material import published

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from false_alarms import EASY, elsewhere, holding, worked, written_by_models

BREAD = "A baker sells 36 loaves a day for 15 cents each and pays 90 cents for flour. How many cents does he keep?"
BAKED = "He gets 36 * 15 = 540 cents.\nHe keeps 540 - 90 = 450 cents.\nA: 450"
LEAVES = "Tom has 17 pens and gives 23 cents and 5 of them to Ann. How many pens has he left?"


def test_easy_sums_that_ignore_the_question_fail() -> None:
    """What an agent learned to write that was paid for computations that come out (docs/results/text_trees.md)."""
    for cheat in (EASY, "Pens in all: 3 * 4 = 12\nA: 12", "3 * 4 = 12\nA: 12"):
        assert held(BREAD, cheat) == {"givens": False, "units": False, "stated": True}
    assert held(BREAD, BAKED) == {"givens": True, "units": True, "stated": True}
    by_name = {fact.name: fact for fact in facts(case_of(BREAD, BAKED), Outcome(EASY))}
    assert {"givens", "units", "stated"} <= by_name.keys() and "relevance" in word_problems().aspects
    assert {by_name[name].aspect for name in ("givens", "units", "stated")} == {"relevance"}


def test_a_user_with_attention_for_it_prefers_what_has_to_do_with_the_question() -> None:
    """Both have the wrong answer and computations that come out: relevance alone tells them apart."""
    case = case_of(BREAD, BAKED)
    about = "He gets 36 + 15 = 51 cents.\nHe keeps 90 - 51 = 39 cents.\nA: 39"
    user = BoundedUser(attention=12, error=0, spot_checks=0, biases={})
    pair = Pair.of("word_problems", Group(case, (Outcome(EASY), Outcome(about))), 0, 1)
    assert user.judge(word_problems(), pair).preference == 0


@pytest.mark.parametrize(
    ("text", "name", "holds"),
    [
        ("17 - 5 = 12 pens.\nA: 12", "givens", False),  # 23 is left out
        ("17 pens, 23 cents and 5.\nSo 12 pens.\nA: 12", "givens", False),  # named, but nothing is computed
        ("17 + 23 = 40\n40 - 5 = 35 pens.\nA: 35", "givens", True),
        ("17 pens at 0.23 = x\n17 - 5 = 12\nA: 12", "givens", True),  # dollars for cents
        ("17 - 5 = 12\nA: 12", "units", False),
        ("17 - 5 = 12\nA: 12 pens", "units", True),
        ("17 pens are there.\n17 - 5 = 12\nA: 12", "units", False),  # not where the answer is
        ("17 - 5 = 12 pens.\nSo he has some.\nA: 12", "units", True),
        ("17 - 5 = 12 pens\nA: 17", "stated", False),  # an operand is no result
        ("17 - 5 = 12 pens\nA: 12", "stated", True),
        ("17 - 5 = 12 pens\nTwelve are left.\nA: 12", "stated", True),
        ("A: 12", "stated", False),
        ("A: 12", "givens", False),
    ],
)  # fmt: skip
def test_each_fact_by_its_definition(text: str, name: str, holds: bool) -> None:
    assert held(LEAVES, text)[name] is holds


def test_money_may_be_named_by_its_sign_and_units_in_short() -> None:
    assert held("She pays $4 and $5. How many dollars is that?", "4 + 5 = $9\nA: 9")["units"]
    pounds = "It holds 9 pounds and 4 are sold. How many pounds are left?"
    assert held(pounds, "9 - 4 = 5 lbs\nA: 5")["units"] and not held(pounds, "9 - 4 = 5 bulbs\nA: 5")["units"]


@given(st.text(alphabet="0123456789 +-*/=.,$%\nAabepns:", max_size=60))
def test_no_solution_has_fewer_facts_than_another(text: str) -> None:
    """Nobody writes himself out of a fact: the question decides which there are."""
    assert held(LEAVES, text).keys() == held(LEAVES, "A: 1").keys() == {"givens", "units", "stated"}
    assert held("How far is it?", text).keys() == {"stated"}  # no quantity, nothing that could be named
    german = "Tom hat 17 Stifte und gibt Anna davon 5. Wie viele bleiben ihm dann?"
    assert held(german, text).keys() == {"stated"}


def test_what_has_more_to_be_read_costs_more() -> None:
    def price(n: int) -> int:
        question = "It is told at length. " + " ".join(f"There are {10 + i} pens." for i in range(n)) + " How many?"
        return {fact.name: fact.price for fact in relevance(question, "A: 1")}["givens"]

    assert [price(n) for n in (1, 2, 3, 4, 8)] == [1, 1, 2, 2, 4]


@pytest.mark.parametrize("half", [True, False])
def test_they_hold_of_right_solutions_and_not_of_another_questions(half: bool) -> None:
    """The first 200 of either half; the table in docs/results/false_alarms.md is of all."""
    own = list(islice(worked(published(), False, half), 200))
    right = list(islice(written_by_models(published(), False, True, half), 200))
    for texts in (own, right):
        for name, (hold, n) in holding(texts).items():
            assert n >= 100 and hold / n >= 0.94, name
    for texts in (elsewhere(own), [(case, Outcome(EASY)) for case, _ in own]):
        hold, n = holding(texts)["all"]
        assert hold / n <= 0.15


def test_the_tool_that_points_at_them_means_the_same() -> None:
    """A finding of `answered` with a fact's name is about the same matter: it may be silent, and is never wrong."""
    said = 0
    texts = [*islice(worked(published(), True), 200), *islice(written_by_models(published(), True, False), 400)]
    for case, outcome in texts:
        truth = held(case.prompt, outcome.text)
        for finding in consult(Answered(), case, outcome).findings:
            if finding.fact in truth:
                said += 1
                assert truth[finding.fact] == finding.holds, (finding, outcome.text)
    assert said > 600
