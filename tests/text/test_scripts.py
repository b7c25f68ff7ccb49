"""The two measurements on real text run, on made rows and a model that can do nothing: what they count is right."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

import frozen  # noqa: E402
import step_labels  # noqa: E402
import word_problems  # noqa: E402

from tests import forked  # noqa: E402
from tests.text.material import solved, trace, write  # noqa: E402


def run(script: str, out: Path, *arguments: str) -> str:
    where = {"PYTHONPATH": str(ROOT), "HOME": str(out), "OMP_NUM_THREADS": "1"}
    given = (f"scripts/{script}", "--model", "embedded", "--precision", "float32", *arguments)
    done = forked.run(given, env=os.environ | where)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_folds_score_every_case_once_and_never_one_for_tuning() -> None:
    tuning = [n % 4 == 0 for n in range(40)]
    seen: list[int] = []
    for train, test in frozen.folds(tuning, 0, 5):
        assert not set(train.tolist()) & set(test.tolist())
        assert {n for n in range(40) if tuning[n]} <= set(train.tolist())
        seen += test.tolist()
    assert sorted(seen) == [n for n in range(40) if not tuning[n]]
    assert frozen.folds(tuning, 0, 5)[0][1].tolist() != frozen.folds(tuning, 1, 5)[0][1].tolist()


def test_who_only_knows_the_writer_gets_a_half_when_writers_are_balanced() -> None:
    writers = [("a", "b")] * 7 + [("b", "a")] * 2 + [("a", "c")] * 3 + [("c", "a")]
    weight = word_problems.balance(writers)
    liked = {"a": 2.0, "b": 1.0, "c": 0.0}
    right = torch.tensor([float(liked[r] > liked[w]) for r, w in writers])
    assert right.mean() > 0.7
    torch.testing.assert_close((weight * right).sum() / weight.sum(), torch.tensor(0.5))
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))


def test_the_likeliest_first_mistake() -> None:
    def of(*right: float) -> int | None:
        return step_labels.locate(torch.logit(torch.tensor(right)))

    assert of(0.9, 0.1, 0.1) == 1  # .9 * .9 against .1, .9 * .1 * .9 and .9 * .1 * .1
    assert of(0.9, 0.9, 0.9) is None and of(0.4, 0.9) == 0
    assert of(0.6, 0.6, 0.6) == 0  # 0.4, 0.24, 0.144 and, that none is wrong, 0.216


@pytest.mark.slow
def test_word_problems_from_made_rows(tmp_path: Path) -> None:
    """All wrong solutions of the made rows use a number from nowhere, which a tool sees."""
    file = write(tmp_path / "made.jsonl", [solved(n) for n in range(3, 43)])
    arguments = ("--data", str(file), "--cache", str(tmp_path / "cache"), "--seeds", "2", "--folds", "2")
    assert "run it again" in run("word_problems.py", tmp_path, *arguments, "--minutes", "0")
    said = run("word_problems.py", tmp_path, *arguments)
    assert "40 questions, 160 pairs" in said
    rows = {line.split("│")[1].strip(): line.split("│")[2:] for line in said.splitlines() if line.startswith("│")}
    assert rows["assistance alone, the fewer faults"][0].strip() == "1.000 [1.000, 1.000]"
    assert 0.4 < float(rows["which model wrote it"][1].split()[0]) < 0.6  # balanced; each fold's head is another
    assert run("word_problems.py", tmp_path, *arguments) == said  # from the cache, the same


@pytest.mark.slow
def test_step_labels_from_made_rows(tmp_path: Path) -> None:
    rows = [trace(n, (None, 1, 2)[n % 3]) for n in range(1, 61)]
    write(tmp_path / "big-bench-mistake" / "multistep_arithmetic.jsonl", rows)
    arguments = ("--tasks", "multistep_arithmetic", "--data", str(tmp_path), "--cache", str(tmp_path / "cache"))
    said = run("step_labels.py", tmp_path, *arguments, "--seeds", "2", "--folds", "2")
    found = {line.split("│")[1].strip(): line.split("│")[2:] for line in said.splitlines() if line.startswith("│")}
    assert found["tool alone: the first step it calls wrong"][0].strip() == "1.000 [1.000, 1.000]"
    assert float(found["tool"][0].split()[0]) > 0.9 > float(found["position"][0].split()[0])


def test_step_labels_needs_known_tasks() -> None:
    with pytest.raises(SystemExit):
        sys.argv = ["step_labels.py", "--model", "x", "--tasks", "juggling"]
        step_labels.main()


def test_more_seeds_of_the_same_cases_make_nothing_surer() -> None:
    hits = [[[float(n % 3 == 0)] for n in range(60)]]
    one, five = frozen.over(hits), frozen.over(hits * 5)
    assert one == five and one["low"] < 1 / 3 < one["high"]
