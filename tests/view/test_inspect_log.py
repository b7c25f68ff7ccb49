"""`rrm export --format inspect`, opened with Inspect itself: the comparisons are samples, the tree is spans."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm import Answer, Assistance, Case, Comparison, Finding, Judgement, Outcome, Pair
from rrm.command.cli import app
from rrm.core.judgements import Margin
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.inspect_log import export_inspect
from rrm.store.store import Store

BELOW = Assistance("toy/sub/deep", "v", (Answer(Case("deep?"), Outcome("yes"), (), None, unreadable="mumbled"),))
SAID = Assistance(
    "toy/sub", "v", (Answer(Case("sub?"), Outcome("no"), (Finding("even", False, note="odd"),), 0.7, (BELOW,)),)
)


def compared(i: int, preference: float | None) -> Comparison:
    pair = Pair("toy", Case(f"case {i}"), Outcome(f"a{i}"), Outcome(f"b{i}"), (SAID,), ())
    return Comparison(pair, Judgement(preference, note="so"), 0, "bounded")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"tree": {"toy/sub/deep": {}, "toy/sub": {}, "toy": {"instruction": "Which?"}}, "model": {"name": "embedded"}}'
    )
    given = [compared(i, preference) for i, preference in enumerate((1.0, 0.0, 0.5, None, 1.0))]
    store = Store(folder / "run.db")
    for i, one in enumerate(given):
        store.add(one, i)
    store.score("toy", 0, [Margin(one.id, 1.0, 0.1, heldout=i < 2) for i, one in enumerate(given)])
    store.close()
    return folder


def test_what_is_no_log_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"ends in \.eval"):
        export_inspect(run, tmp_path / "x.jsonl")
    with pytest.raises(ExchangeError, match="no comparisons at 'toy/sub'"):
        export_inspect(run, tmp_path / "x.eval", "toy/sub")


def test_a_run_of_before_scores_were_kept_is_read(run: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(run / "run.db")) as db:
        db.execute("DROP TABLE scores")
    with pytest.raises(ExchangeError, match="no comparisons at 'toy/sub'"):
        export_inspect(run, tmp_path / "x.eval", "toy/sub")


def test_inspect_reads_it(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    from inspect_ai.event import event_tree
    from inspect_ai.log import read_eval_log

    file = tmp_path / "logs" / "toy.eval"
    done = CliRunner().invoke(app, ["export", str(run), "-o", str(file), "--format", "inspect"])
    assert done.exit_code == 0 and "5 comparisons" in done.output, done.output
    log = read_eval_log(str(file))
    assert (log.status, log.eval.task, log.eval.model) == ("success", "toy", "rrm/embedded")
    assert [sample.target for sample in log.samples] == ["A", "B", "tie", "abstained", "A"]
    assert {s.name: (s.metrics["accuracy"].value, s.scored_samples) for s in log.results.scores} == {
        "agrees": (pytest.approx(2 / 3), 3), "agrees_held_out": (0.5, 2),
    }  # fmt: skip
    assert "case 0" in log.samples[0].input and "a0" in log.samples[0].input
    a, b = event_tree(log.samples[0].events)
    assert [named(a), named(b)] == [("outcome A", [("toy/sub", [("toy/sub/deep", [])])]), ("outcome B", [])]
    info = [event.data for event in log.samples[0].events if event.event == "info" and event.source == "sub"]
    assert info[0]["findings"] == [{"fact": "even", "part": None, "holds": False, "note": "odd"}]
    assert info[0]["confidence"] == 0.7


def named(span: Any) -> tuple[str, list[Any]]:
    return span.name, [named(one) for one in span.children if hasattr(one, "children")]
