"""Labels of steps: a critic's answers compared, of which the one that agrees with the label is preferred."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm.core.records import Case, Outcome
from rrm.core.verdicts import quotes, read
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import steps
from rrm.exchange.imports.columns import LeftOut
from rrm.exchange.imports.loading import load
from rrm_assistants.text import critic
from tests.label.reviews import lines, stored

STEPS = ["2 + 2 = 4", "4 * 3 = 13", "13 - 1 = 12"]


def prm(*ratings: int | None, reason: str = "found_error") -> dict[str, Any]:
    """A row of PRM800K whose steps were rated so."""
    said = [
        {
            "completions": [{"text": step, "rating": rating, "flagged": False}],
            "human_completion": None,
            "chosen_completion": None if rating == -1 else 0,
        }
        for step, rating in zip(STEPS, ratings, strict=False)
    ]
    question = {
        "problem": "Q",
        "ground_truth_solution": "...",
        "ground_truth_answer": "SECRET",
        "pre_generated_steps": STEPS,
    }
    return {
        "labeler": "x",
        "timestamp": "t",
        "generation": 9,
        "is_quality_control_question": False,
        "question": question,
        "label": {"steps": said, "total_time": 9, "finish_reason": reason},
    }


def shepherd(signs: str) -> dict[str, Any]:
    text = [f"Step {i}: {step}" for i, step in enumerate(STEPS, 1)]
    return {
        "input": "Q " + "\n".join(f"{one} ки" for one in text),
        "task": "GSM8K",
        "label": "Q " + "\n".join(f"{one} {sign}" for one, sign in zip(text, signs, strict=True)),
    }


ROWS = {
    "BIG-Bench-Mistake": {"input": "Q", "steps": STEPS, "target": "SECRET", "answer": "12", "mistake_index": 1},
    "PRM800K": prm(1, -1),
    "Math-Shepherd": shepherd("+--"),
    "TRL": {"prompt": "Q", "completions": STEPS, "labels": [True, False, True]},
}
RIGHT = {
    "BIG-Bench-Mistake": ROWS["BIG-Bench-Mistake"] | {"mistake_index": None},
    "PRM800K": prm(1, 0, 1, reason="solution"),
    "Math-Shepherd": shepherd("+++"),
    "TRL": ROWS["TRL"] | {"labels": [True] * 3},
}


@pytest.mark.parametrize("name", ROWS)
def test_the_answer_that_names_the_labeled_step_is_preferred(tmp_path: Path, name: str) -> None:
    for run, row, n in (("wrong", ROWS[name], 2), ("right", RIGHT[name], 1)):
        done = load(lines(tmp_path / "in.jsonl", [row]), tmp_path / run, "answer/steps")
        assert done.format == "steps" and done.added == n
    prefix = {"Math-Shepherd": ("Step 1: ", "Step 2: ")}.get(name, ("", ""))
    wrong, others = f'no, "{prefix[1]}4 * 3 = 13"', []
    for one in [*stored(tmp_path / "wrong"), *stored(tmp_path / "right")]:
        better, worse = (one.a.text, one.b.text) if one.preference else (one.b.text, one.a.text)
        others.append((better, worse))
        assert one.case.data["prompt"] == "Q" and one.pair.task == "answer/steps"
    assert set(others[:2]) == {(wrong, "yes"), (wrong, f'no, "{prefix[0]}2 + 2 = 4"')}
    assert others[2][0] == "yes" and others[2][1].startswith("no, ")


@pytest.mark.parametrize("name", ROWS)
def test_the_truth_is_in_the_preference_and_nowhere_else(tmp_path: Path, name: str) -> None:
    """Of a row with a mistake and the same without one only the answers and who is preferred differ."""
    wrong, right = (steps.comparisons_of(rows[name], "n", "f")[0].case for rows in (ROWS, RIGHT))
    if name != "PRM800K":  # whose steps after the first wrong one nobody wrote
        assert wrong == right
    load(lines(tmp_path / "in.jsonl", [ROWS[name]]), tmp_path / "run", "n")
    found = stored(tmp_path / "run")
    kept = json.dumps([[c.case.prompt, dict(c.case.data), c.a.text, c.b.text, c.judgement.note] for c in found])
    assert "SECRET" not in kept and "mistake" not in kept and "rating" not in kept


def test_the_case_and_the_answers_are_those_of_a_critic() -> None:
    labeled = steps.Labeled("Q", tuple(STEPS), 1)
    node = critic("steps", {"steps": steps.QUESTION})
    assert node.frame is not None
    assert node.frame(Case("Q"), Outcome("\n".join(STEPS))) == [steps.case_of(labeled)]
    for one in steps.comparisons_of(ROWS["TRL"], "n", "f"):
        for outcome in (one.a, one.b):
            assert re.fullmatch(one.case.form, outcome.text)
            (finding,) = read(outcome.text, ["steps"])
            assert finding.holds == (outcome.text == "yes")


@given(st.lists(st.text('ab "\n=1', min_size=1, max_size=90), min_size=1, max_size=5), st.data())
def test_an_answer_names_one_step_and_no_other(written: list[str], data: st.DataObject) -> None:
    mistake = data.draw(st.one_of(st.none(), st.integers(0, len(written) - 1)))
    row = {"input": "Q", "steps": written, "mistake_index": mistake}
    try:
        found = steps.comparisons_of(row, "n", "f")
    except LeftOut:
        return
    for one in found:
        better, worse = (one.a.text, one.b.text) if one.preference else (one.b.text, one.a.text)
        for answer in (better, worse):
            assert re.fullmatch(one.case.form, answer)
        named = [
            [i for i, step in enumerate(written) if " ".join(q.split()) in " ".join(step.split())]
            for q in quotes(better)
        ]
        assert named == ([] if mistake is None else [[mistake]])


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (ROWS["BIG-Bench-Mistake"] | {"mistake_index": 3}, "step 3 is called wrong, of 3"),
        (ROWS["BIG-Bench-Mistake"] | {"mistake_index": "1"}, "not the number of a step"),
        (ROWS["TRL"] | {"labels": [True]}, "not true or false for each of 3"),
        (ROWS["TRL"] | {"labels": ["+", "-", "+"]}, "not true or false"),
        (ROWS["Math-Shepherd"] | {"label": "nothing"}, "label is not the input"),
        (prm(1, 1, reason="give_up"), "nobody labeled it to the end"),
        (prm(1, None, 1, reason="solution"), "nobody rated one of its steps"),
        (prm(None, -1), "nobody rated one of its steps"),
        (ROWS["TRL"] | {"completions": [], "labels": []}, "without steps"),
        (ROWS["BIG-Bench-Mistake"] | {"steps": ["x = 1", "x = 1"]}, "no words of its own"),
        (ROWS["BIG-Bench-Mistake"] | {"steps": ["x" * 2500, "y" * 2500]}, "4000 characters"),
        ({"prompt": "Q"}, "no labels of steps"),
    ],
)
def test_labels_that_name_no_step_are_errors_or_left_out(row: dict[str, Any], match: str) -> None:
    with pytest.raises(ExchangeError, match=match):
        steps.comparisons_of(row, "n", "f")
