"""The tools for written-out steps: they find the step that was spoiled, and no other."""

from __future__ import annotations

import random

import pytest

from rrm import Case, Outcome
from rrm.core.tools import consult
from rrm_assistants.equalities import Equalities, broken
from rrm_assistants.sorting import ORDINALS, Sorting, misplaced
from rrm_tasks.big_bench_mistake import SHOWN, TOOLS, TRACES, case_of, outcome_of
from tests.text.material import published, trace

WORDS = ["beet", "apple", "bean", "carrot", "bear"]
STEPS = [
    'The first letter: "beet": "b" (2). "apple": "a" (1). "bean": "b" (2). "carrot": "c" (3). "bear": "b" (2).',
    'We now have: (1) "apple" < (2) ["beet" ? "bean" ? "bear"] < (3) "carrot".',
    'Now let\'s sort this subpart ["beet" ? "bean" ? "bear"] by looking at their second letters. '
    'The second letter: "beet": "e" (5). "bean": "e" (5). "bear": "e" (5).',
    'We now have: (5) ["beet" ? "bean" ? "bear"] for the subpart.',
    'Now let\'s sort this subpart ["beet" ? "bean" ? "bear"] by looking at their third letters. '
    'The third letter: "beet": "e" (5). "bean": "a" (1). "bear": "a" (1).',
    'We now have: (1) ["bean" ? "bear"] < (5) "beet" for the subpart. '
    'Hence, we have "apple" < ["bean" ? "bear"] < "beet" < "carrot".',
    'Now let\'s sort this subpart ["bean" ? "bear"] by looking at their fourth letters. '
    'The fourth letter: "bean": "n" (14). "bear": "r" (18).',
    'We now have: (14) "bean" < (18) "bear" for the subpart. '
    'Hence, we have "apple" < "bean" < "bear" < "beet" < "carrot".',
    "I have now sorted all the words. The answer is apple bean bear beet carrot",
]  # fmt: skip


def test_a_right_sort_is_called_right() -> None:
    assert misplaced(WORDS, STEPS) == [""] * len(STEPS)


@pytest.mark.parametrize(
    ("step", "old", "new", "why"),
    [
        (0, '"c" (3)', '"c" (4)', '"carrot"'),
        (0, ' "bear": "b" (2).', "", "missing"),
        (1, '(1) "apple" < (2)', '(2) "apple" < (2)', "under (2)"),
        (1, ' ? "bear"]', "]", "missing"),
        (2, "second", "third", '"bean": "e"'),
        (4, '["beet" ? "bean" ? "bear"]', '["bean" ? "bear"]', "among"),
        (5, '"apple" < ["bean" ? "bear"] < "beet"', '"apple" < "beet" < ["bean" ? "bear"]', "before"),
        (7, '"bean" < "bear" < "beet" < "carrot"', '["bean" ? "bear"] < "beet" < "carrot"', "where"),
        (8, "bear beet", "beet bear", "before"),
        (8, " carrot", "", "missing"),
    ],
)
def test_the_first_thing_wrong_is_found_where_it_is(step: int, old: str, new: str, why: str) -> None:
    assert old in STEPS[step]
    spoiled = [*STEPS[:step], STEPS[step].replace(old, new), *STEPS[step + 1 :]]
    found = misplaced(WORDS, spoiled)
    assert found[:step] == [""] * step and why in found[step]


def test_a_group_out_of_its_turn() -> None:
    steps = [
        'The first letter: "ab": "a" (1). "aa": "a" (1). "bb": "b" (2). "ba": "b" (2).',
        'We now have: (1) ["ab" ? "aa"] < (2) ["bb" ? "ba"].',
        'Now let\'s sort this subpart ["bb" ? "ba"]. The second letter: "bb": "b" (2). "ba": "a" (1).',
    ]
    found = misplaced(["ab", "aa", "bb", "ba"], steps)
    assert found[:2] == ["", ""] and "turn" in found[2]


def test_random_sorts_are_called_right_and_their_swaps_wrong() -> None:
    rng = random.Random(0)
    for _ in range(50):
        words = list({"".join(rng.choices("abc", k=4)) for _ in range(6)})
        right = f"The answer is {' '.join(sorted(words))}"
        assert misplaced(words, [right]) == [""]
        i, j = rng.sample(range(len(words)), 2)
        swapped = sorted(words)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        assert misplaced(words, [f"The answer is {' '.join(swapped)}"]) != [""]
    assert len(ORDINALS) == 12


@pytest.mark.parametrize("mistake", [1, 2])
def test_an_equality_that_does_not_hold_is_found_in_its_step(mistake: int) -> None:
    for n in range(1, 9):
        found = broken(trace(n, mistake)["steps"])
        assert [step for step, wrong in found.items() if wrong] == [mistake + 1]
        assert not any(broken(trace(n, None)["steps"]).values())


def test_a_name_is_worth_what_its_step_made_it() -> None:
    assert broken(["where A = (1 + 2).", "Let's calculate A = (1 + 3) = 4."])[2].startswith("A was 3")
    assert broken(["A = (1 + 2) = 3.", "Then B = (A * 2) = 6. So the answer is 6"]) == {1: "", 2: ""}
    assert broken(["It is what it is."]) == {}


def test_reports_name_steps_from_one() -> None:
    report = consult(Equalities(), Case("x"), Outcome("A = (1 + 1) = 2\nB = A + 1 = 4"))
    assert [(f.fact, f.holds) for f in report.findings] == [("step1", True), ("step2", False)]
    report = consult(Sorting(), Case("sort", {"input": " ".join(WORDS)}), Outcome("\n".join(STEPS)))
    assert [(f.fact, f.holds) for f in report.findings] == [(f"step{n}", True) for n in range(1, 10)]


@pytest.mark.parametrize("task", TRACES)
def test_people_mostly_agree_with_the_tools(task: str) -> None:
    """On the traces that the tools were not written looking at, too; the figures are in docs/results/step_labels.md."""
    agree = []
    for one in TRACES[task].read(published()):
        found = consult(TOOLS[task], case_of(task, one), outcome_of(one)).findings
        wrong = [int(f.fact[4:]) - 1 for f in found if not f.holds and int(f.fact[4:]) > SHOWN[task]]
        agree.append((wrong[0] if wrong else None) == one.mistake_index)
    assert len(agree) == 300 and sum(agree) > 240


@pytest.mark.parametrize(
    "text",
    [
        "", "So the answer is 12", "A = (1 + 2) = 3.", "The answer is yes, the beet is red.", "Trions ces mots.",
        'The first letter: "dog": "d" (4). "cat": "c" (3).', 'We now have: (1) "dog" < (2) "cat".',
        "Beet, bean and bear come before carrot.",
    ],
)  # fmt: skip
def test_what_does_not_sort_these_words_is_no_verdict(text: str) -> None:
    assert consult(Sorting(), Case("sort", {"input": " ".join(WORDS)}), Outcome(text)).abstained


@pytest.mark.parametrize("words", ["", "beet", "3 1 2", "( [ ) ]", "Öl Äpfel", "Zebra apple", "(1 + 2) * 3 ="])
def test_what_is_no_list_of_words_is_no_verdict(words: str) -> None:
    """Capitals and other letters are not in the order of their codes."""
    assert consult(Sorting(), Case("sort", {"input": words}), Outcome("\n".join(STEPS))).abstained


def test_a_step_that_is_not_read_is_left_out() -> None:
    text = "\n".join(["Let me see.", *STEPS[:2], "I go on.", *STEPS[2:]])
    found = consult(Sorting(), Case("Sort these words: " + " ".join(WORDS)), Outcome(text)).findings
    assert [f.fact for f in found] == [f"step{n}" for n in range(2, 12) if n != 4] and all(f.holds for f in found)


@pytest.mark.parametrize(
    "step",
    [
        "3 x 5 = 15", "15/.3=50", "20,000/400=50 days", "12 * 1000=12,000", "180 – 124 = 56", "8 times 4 = 32",
        "$5 + 3 = 8", "5% + 3 = 8", "3 apples + 4 = 7", "size 25 + size 5 = 30", "½ + 3 = 3.5", "2^3 = 8",
        "half of 8 = 4", "3x + 4 = 28",
    ],
)  # fmt: skip
def test_a_part_of_something_else_is_no_equality(step: str) -> None:
    assert not any(broken([step]).values())
