"""Tables: rows are checked, and every way to them gives the same; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from rrm.worlds.tables import DataError, Table
from rrm_tasks.big_bench_mistake import TRACES
from rrm_tasks.gsm8k import PROBLEMS, SOLUTIONS, Problem
from tests.text.material import published, solved, trace, write

ROWS = [{"question": f"How many are {n} and {n}?", "answer": f"#### {2 * n}", "more": n} for n in range(3)]


def test_a_file_its_folder_and_the_variable_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / PROBLEMS.file, ROWS)
    monkeypatch.setenv("RRM_DATA", str(tmp_path))
    assert PROBLEMS.read(file) == PROBLEMS.read(tmp_path) == PROBLEMS.read()
    assert PROBLEMS.read()[1] == Problem(question="How many are 1 and 1?", answer="#### 2")


def test_without_a_path_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RRM_DATA", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    file = write(tmp_path / "rows.jsonl", ROWS)
    by_url = Table("x.jsonl", file.as_uri(), Problem)
    by_datasets = Table("x.jsonl", {"path": "json", "data_files": str(file), "split": "train"}, Problem)
    assert by_url.read() == by_datasets.read() == PROBLEMS.read(file)


def test_what_cannot_be_fetched_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RRM_DATA", raising=False)
    with pytest.raises(DataError, match="set RRM_DATA"):
        Table("x.jsonl", (tmp_path / "nothing.jsonl").as_uri(), Problem).read()


def test_the_wrong_row_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [ROWS[0], {"question": "and?"}])
    with pytest.raises(DataError, match=r"rows\.jsonl, row 2.*answer"):
        PROBLEMS.read(file)
    file.write_text('{"question"\n')
    with pytest.raises(DataError, match="line 1: not JSON"):
        PROBLEMS.read(file)
    file.write_text("")
    with pytest.raises(DataError, match="no rows"):
        PROBLEMS.read(file)
    with pytest.raises(DataError, match="cannot read"):
        PROBLEMS.read(tmp_path / "none.jsonl")


def test_solutions_are_gathered_by_their_models(tmp_path: Path) -> None:
    (row,) = SOLUTIONS.read(write(tmp_path / "s.jsonl", [solved(4)]))
    assert len(row.solutions) == 4 and sum(s.is_correct for s in row.solutions.values()) == 2


def test_a_mistake_is_a_step_or_none(tmp_path: Path) -> None:
    table = TRACES["multistep_arithmetic"]
    file = write(tmp_path / "t.jsonl", [trace(1, 2), trace(1, None)])
    assert [t.mistake_index for t in table.read(file)] == [2, None]
    with pytest.raises(DataError, match="mistake_index"):
        table.read(write(tmp_path / "t.jsonl", [trace(1, 2) | {"mistake_index": -1}]))


def test_the_published_tables() -> None:
    folder = published()
    rows = SOLUTIONS.read(folder)
    right = [[s.is_correct for s in row.solutions.values()] for row in rows]
    assert len(rows) == len(PROBLEMS.read(folder)) == 1319
    assert sum(sum(one) * (len(one) - sum(one)) for one in right) == 2429  # pairs of a right and a wrong one
    for task, table in TRACES.items():
        traces = table.read(folder)
        assert len(traces) == 300, task
        assert all(t.mistake_index is None or 0 < t.mistake_index < len(t.steps) for t in traces)
