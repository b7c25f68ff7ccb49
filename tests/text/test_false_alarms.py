"""How often tools call right work wrong: the bounds that docs/results/false_alarms.md publishes, held."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

import false_alarms
from false_alarms import WORD_PROBLEMS, rates, traces, wilson, worked, written_by_models

from rrm_assistants.equalities import Equalities
from rrm_assistants.sorting import Sorting
from tests.text.material import published

MOST = 0.03
"""Of worked solutions, a tool may call this share wrong."""
AT_LEAST = {"answered": 0.2586, "follows": 0.0823, "arithmetic": 0.0480}
"""The share called wrong among models' wrong solutions less that among their right ones, without marks, before the
tools learned to keep silent (then 0.395, 0.133 and 0.005 of the worked ones were called wrong)."""


@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("tool", WORD_PROBLEMS, ids=lambda tool: tool.name)
def test_few_worked_solutions_are_called_wrong(tool, marks: bool) -> None:
    """The first 150 of either half; the whole in the slow test."""
    for half in (True, False):
        found = rates(tool, islice(worked(published(), marks, half), 150))
        assert found.texts == 150 and found.share <= 0.04 and found.silent <= 25


@pytest.mark.slow
@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("tool", WORD_PROBLEMS, ids=lambda tool: tool.name)
def test_right_solutions_pass_and_wrong_ones_are_found(tool, marks: bool) -> None:
    own = rates(tool, worked(published(), marks))
    right, wrong = (rates(tool, written_by_models(published(), marks, one)) for one in (True, False))
    assert own.texts == 1319 and own.share <= MOST
    assert wrong.share - right.share >= AT_LEAST[tool.name]


def test_a_tool_says_nothing_of_another_kind_of_text() -> None:
    """Nothing at all, of any: a sorter is no reader of sums, nor the other way around."""
    for mistaken in (True, False):
        sums, sorts = (list(traces(published(), task, mistaken)) for task in ("multistep_arithmetic", "word_sorting"))
        for tool, texts in ((Sorting(), sums), (Equalities(), sorts), *((tool, sorts) for tool in WORD_PROBLEMS)):
            found = rates(tool, texts)
            assert found.silent == found.texts, tool.name
    of_problems = rates(Sorting(), worked(published(), True))
    assert of_problems.silent == of_problems.texts == 1319


@pytest.mark.parametrize("marks", [True, False])
def test_equalities_hold_where_units_stand_between(marks: bool) -> None:
    assert rates(Equalities(), islice(worked(published(), marks), 400)).wrong == 0


def test_wilsons_interval() -> None:
    """Values of R's prop.test(correct=FALSE)."""
    assert [round(end, 4) for end in wilson(0, 10)] == [0.0, 0.2775]
    assert [round(end, 4) for end in wilson(5, 10)] == [0.2366, 0.7634]
    low, high = wilson(27, 1319)
    assert low < 27 / 1319 < high


def test_what_is_taken_apart_can_be_put_together() -> None:
    """The rule that makes tokenized texts for the table, on a text that has all it changes."""
    from rrm import Case, Outcome
    from rrm_assistants.tools.grammar import detokenized, tokenized

    plain = "He doesn't know (or say) what it's for, or whether they'd go. Is it so? Yes: it is!"
    ((_, outcome),) = false_alarms.apart([(Case("q"), Outcome(plain))])
    assert "does n't" in outcome.text and tokenized(outcome.text) and detokenized(outcome.text) == plain
