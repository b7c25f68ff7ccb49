"""Published pairs and labels of steps, scored by a node: each judge is counted as its rule says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rrm import Case, Finding, Group, Outcome, Settings
from rrm.core.errors import ContextError
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.sources import source
from rrm.measure.scored import FIRST, LAST_STEP, LENGTH, NODE, NONE_WRONG, Published, score_file
from rrm.models.reward import EnsembleScores, TextRewardModel
from tests.imports.test_steps import prm
from tests.label.reviews import lines, stored
from tests.text import tiny


class Shorter(TextRewardModel):
    """Prefers what is shorter; of steps, the answer that the test calls right."""

    right: str = ""

    def score(self, groups: Sequence[Group]) -> list[EnsembleScores]:
        rows = [torch.tensor([self._worth(o.text) for o in group.outcomes]) for group in groups]
        return [EnsembleScores(row, torch.zeros(len(row)), row[:, None]) for row in rows]

    def _worth(self, text: str) -> float:
        return float(self.right in text) if self.right else -float(len(text))


@pytest.fixture(scope="module")
def shorter() -> Shorter:
    backbone = tiny.backbone()
    return Shorter(backbone, backbone.frozen("judge"), Settings(heads=1, surprise=False, findings=False))


ROWS = [
    {"input": f"Question {i}?", "output_1": "yes" * (1 + i % 3), "output_2": "no" * (1 + i % 2),
     "label": 1 + (i % 5 == 0)}
    for i in range(12)
]  # fmt: skip


def of(found: Published, part: int = 0) -> dict[str, float]:
    return {line.name: line.right["mean"] for line in found.parts[part].lines}


def scored(judge: TextRewardModel, folder: Path, rows: Sequence[dict[str, Any]], **more: Any) -> Published:
    return score_file(judge, source(lines(folder / "rows.jsonl", list(rows))), **more)


def test_every_judge_is_right_as_often_as_its_rule_says(shorter: Shorter, tmp_path: Path) -> None:
    found = of(scored(shorter, tmp_path, ROWS))
    longer = [0.5 if (n := len(r["output_1"]) - len(r["output_2"])) == 0 else float((n > 0) == (r["label"] == 1))
              for r in ROWS]  # fmt: skip
    assert found[LENGTH] == pytest.approx(sum(longer) / 12) and found[NODE] == pytest.approx(1 - found[LENGTH])
    assert found[FIRST] == pytest.approx(sum(row["label"] == 1 for row in ROWS) / 12)


def test_what_stands_first_changes_nothing_but_the_first(shorter: Shorter, tmp_path: Path) -> None:
    turned = [{**r, "output_1": r["output_2"], "output_2": r["output_1"], "label": 3 - r["label"]} for r in ROWS]
    one, other = (of(scored(shorter, tmp_path, rows)) for rows in (ROWS, turned))
    assert one.pop(FIRST) == pytest.approx(1 - other.pop(FIRST)) and one == pytest.approx(other)


def test_chosen_and_rejected_have_no_order_and_subsets_are_told_apart(shorter: Shorter, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Q{i}", "chosen": "yes" * (1 + i), "rejected": "no", "subset": "hard" if i % 4 == 0 else "easy"}
        for i in range(8)
    ]  # fmt: skip
    found = scored(shorter, tmp_path, rows)
    assert FIRST not in of(found) and [part.name for part in found.parts] == ["all", "easy", "hard"]
    assert [part.pairs for part in found.parts] == [8, 6, 2] and of(found)[LENGTH] == 1.0 == 1 - of(found)[NODE]
    several = [{"prompt": "Q", "chosen": ["good"], "rejected": ["worse one", "bad", "the worst"]}]
    found = scored(shorter, tmp_path, several)
    assert (found.parts[0].pairs, found.parts[0].cases) == (3, 1)
    assert of(found)[NODE] == pytest.approx(2 / 3)


class Counts:
    """Calls every "no" wrong."""

    name, instruction, version = "counts", "Does it say no?", "1"

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        said = [Finding(f"word{i}", holds=False) for i in range(outcome.text.count("no"))]
        return Report(tuple(said) or (Finding("words", holds=True),))


def test_an_assistant_alone_is_a_judge(shorter: Shorter, tmp_path: Path) -> None:
    found = of(scored(shorter, tmp_path, ROWS, helpers=(tool_assistant(Counts()),)))
    assert found["counts alone"] == found[FIRST], "only what stands second here says no"


def process(label: int, i: int = 0) -> dict[str, Any]:
    steps = [f"{i} + 2 = {i + 2}", f"{i} * 3 = 99", "so it ends"]
    return {"id": f"gsm8k-{i}", "generator": "x", "problem": f"Q{i}", "steps": steps, "label": label,
            "final_answer_correct": label < 0}  # fmt: skip


def test_of_steps_the_best_of_all_answers_is_held_against_the_label(shorter: Shorter, tmp_path: Path) -> None:
    rows = [process(1, 1), process(-1, 2), process(1, 3), process(2, 4)]
    judge = Shorter(shorter.backbone, shorter.fork, shorter.settings)
    judge.right = "99"
    found = scored(judge, tmp_path, rows)
    assert of(found)[NODE] == 0.5 and of(found)[NONE_WRONG] == of(found)[LAST_STEP] == 0.25
    assert found.f1[NODE]["mean"] == found.f1[NONE_WRONG]["mean"] == 0.0  # each finds one kind only
    judge.right = "yes"
    both = scored(judge, tmp_path, rows[1:2])
    assert of(both)[NODE] == 1.0 and not both.f1, "of one kind alone there is no mean of two"
    assert scored(judge, tmp_path, [prm(1, 1, 1, reason="solution")]).what == "steps"


def test_f1_is_the_mean_of_both_kinds(shorter: Shorter, tmp_path: Path) -> None:
    found = scored(shorter, tmp_path, [process(-1, 2), process(-1, 3), process(1, 1)])
    assert of(found)[NODE] == pytest.approx(2 / 3), "yes is the shortest answer"
    assert found.f1[NODE]["mean"] == 0.0 and found.f1[FIRST]["mean"] == 0.0


def test_what_cannot_be_scored_is_counted_or_said(shorter: Shorter, tmp_path: Path) -> None:
    long = {**ROWS[0], "input": "word " * 3000}
    tie = {"prompt": "Q", "chosen": "a", "rejected": "b", "preference": 0.5}
    assert scored(shorter, tmp_path, [*ROWS, long]).left == {"too long for the model": 1}
    with pytest.raises(ExchangeError, match="1: nobody preferred either"):
        scored(shorter, tmp_path, [tie])


class Talks:
    """Says more than a model can read of what has an x, and cannot read what has a y."""

    name, instruction, version = "talks", "What is there to say?", "1"

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        if "y" in outcome.text:
            raise ContextError("it has a y")
        return Report(tuple(Finding(f"fact{i}", holds=False) for i in range(2000 if "x" in outcome.text else 1)))


def test_what_is_too_long_with_assistance_is_left_out_and_the_others_are_scored(
    shorter: Shorter, tmp_path: Path
) -> None:
    rows = [{"prompt": f"Q{i}", "chosen": "good", "rejected": bad} for i, bad in enumerate(["no", "x", "bad", "y"])]
    found = scored(shorter, tmp_path, rows, helpers=(tool_assistant(Talks()),))
    assert found.left == {"too long for the model, with what assistants say": 1, "too long for an assistant": 1}
    assert found.parts[0].pairs == 2


def test_llmbar_and_processbench_are_imported_too(tmp_path: Path) -> None:
    load(lines(tmp_path / "a.jsonl", ROWS), tmp_path / "run", "answer")
    kept = stored(tmp_path / "run", "answer")
    right = {(r["input"], r[f"output_{r['label']}"]) for r in ROWS if r["output_1"] != r["output_2"]}
    assert {(c.case.prompt, (c.a if c.preference == 1 else c.b).text) for c in kept} == right
    load(lines(tmp_path / "b.jsonl", [process(1), process(-1, 5)]), tmp_path / "run", "critic")
    chosen = {(c.a if c.preference == 1 else c.b).text for c in stored(tmp_path / "run", "critic")}
    assert chosen == {'no, "0 * 3 = 99"', "yes"}
    with pytest.raises(ExchangeError, match="not the number of a step"):
        load(lines(tmp_path / "c.jsonl", [{**process(1), "label": True}]), tmp_path / "other", "critic")
