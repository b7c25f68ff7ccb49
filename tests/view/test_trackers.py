"""`--report-to`: what a run did reaches the real clients, offline, and is read back out of their files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rrm import Case, Comparison, Judgement, Outcome, Pair
from rrm.core.errors import ConfigError, RunError
from rrm.core.judgements import Event
from rrm.view.trackers import COLUMNS, LONGEST, Reporting, configuration, tracker_of
from tests import toy

TREE = toy.task(assistants=(toy.sub(),))
CONFIG = configuration(TREE, model="embedded", user="bounded", seed=7)


class Kept:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, float], int, dict[str, int]]] = []
        self.tables: list[tuple[str, list[Any], int]] = []
        self.closed = False

    def metrics(self, values: Mapping[str, float], step: int, own: Mapping[str, int]) -> None:
        self.rows.append((dict(values), step, dict(own)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Any], step: int) -> None:
        assert tuple(columns) == COLUMNS
        self.tables.append((name, list(rows), step))

    def close(self) -> None:
        self.closed = True


def compared(round: int, text: str = "w3 | w4\nw5") -> Comparison:
    pair = Pair("toy", Case("w1"), Outcome(text), Outcome(f"w{round}"))
    return Comparison(pair, Judgement(1.0 if round else None), round, "bounded")


def played(watch: Reporting, rounds: int = 2, first: int = 0) -> None:
    """A run that happens by hand; `first` rounds were done before."""
    rows = [(r, phase, step, "x", float(10 * r + step)) for r in range(first)
            for phase, step in (("fit", 0), ("improve", 0), ("improve", 1))]  # fmt: skip
    node = SimpleNamespace(
        task=SimpleNamespace(path="toy"), round=first, comparisons=[compared(r) for r in range(first)],
        history=lambda: rows,
    )  # fmt: skip
    watch(node, Event("toy", first, "open"))
    for r in range(first, rounds):
        node.round = r
        node.comparisons.append(compared(r))
        watch(node, Event("toy", r, "compare", 1, 2))
        watch(node, Event("toy", r, "fit", metrics={"x": 10.0 * r}))
        for step in range(2):
            watch(node, Event("toy", r, "improve", step, 2, {"x": 10.0 * r + step}))
        watch(node, Event("toy", r, "done"))


def test_a_resumed_run_tells_what_one_without_interruption_does() -> None:
    whole, resumed = Kept(), Kept()
    with Reporting([whole]) as watch:
        played(watch)
    with Reporting([resumed]) as watch:
        played(watch, first=1)
    assert whole.closed and sorted(row["toy/fit/x"] for row, _, _ in whole.rows if "toy/fit/x" in row) == [0.0, 10.0]
    assert [row for row, _, _ in resumed.rows] == [row for row, _, _ in whole.rows]
    assert [own for *_, own in resumed.rows] == [own for *_, own in whole.rows]
    assert [(name, rows) for name, rows, _ in resumed.tables] == [(name, rows) for name, rows, _ in whole.tables]
    steps = [step for _, step, _ in whole.rows]
    assert steps == sorted(set(steps)), "clients want steps that grow"
    assert whole.rows[-1][2]["toy/improve/x"] == 3, "each name counts its own"


def test_the_configuration_is_the_tree() -> None:
    assert json.loads(json.dumps(CONFIG)) == CONFIG and set(CONFIG["tree"]) == {"toy", "toy/sub"}
    assert CONFIG["tree"]["toy"]["assistants"] == ["sub"] and CONFIG["tree"]["toy/sub"]["covers"] == ["form"]
    assert CONFIG["tree"]["toy"]["settings"]["rounds"] == 1 and CONFIG["seed"] == 7


def test_a_long_text_is_cut_and_another_name_is_an_error(tmp_path: Path) -> None:
    kept = Kept()
    with Reporting([kept]) as watch:
        node = SimpleNamespace(task=SimpleNamespace(path="toy"), round=0, comparisons=[compared(0, "w" * 9000)],
                               history=list)  # fmt: skip
        watch(node, Event("toy", 0, "done"))
    assert len(kept.tables[0][1][0][COLUMNS.index("A")]) == LONGEST
    with pytest.raises(ConfigError, match="trackio, wandb, tensorboard"):
        tracker_of("mlflow", tmp_path, {})


def test_a_start_that_is_refused_leaves_what_was_reported(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with Reporting([tracker_of("tensorboard", tmp_path, CONFIG)]) as watch:
        played(watch)

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "tensorboard").iterdir()}

    before = content()
    with pytest.raises(RunError), Reporting([tracker_of("tensorboard", tmp_path, CONFIG)]):
        raise RunError("in use")
    assert before and content() == before


def test_tensorboard_has_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (0, 1):  # the second session tells all again
        with Reporting([tracker_of("tensorboard", tmp_path, CONFIG)]) as watch:
            played(watch, first=first)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("toy/improve/x")] == [(0, 0.0), (1, 1.0), (2, 10.0), (3, 11.0)]
    assert [e.value for e in found.Scalars("toy/fit/x")] == [0.0, 10.0]
    (config, *_) = found.Tensors("config/text_summary")
    assert json.loads(config.tensor_proto.string_val[0].decode().strip("`").removeprefix("json")) == CONFIG
    table = found.Tensors("toy/comparisons/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "w3 \\| w4 w5" in table and len(table.splitlines()) == 3


def test_trackio_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("trackio", minversion="0.40")
    with Reporting([tracker_of("trackio:mine", tmp_path / "run", CONFIG)]) as watch:
        played(watch)
    import sqlite3

    (file,) = (tmp_path / "trackio").glob("mine*.db")
    with sqlite3.connect(file) as db:
        rows = [json.loads(text) for (text,) in db.execute("SELECT metrics FROM metrics ORDER BY step")]
        (config,) = db.execute("SELECT config FROM configs").fetchone()
    assert [row["toy/improve/x"] for row in rows if "toy/improve/x" in row] == [0.0, 1.0, 10.0, 11.0]
    assert sum("toy/comparisons" in row for row in rows) == 2 and json.loads(config)["tree"] == CONFIG["tree"]


def test_wandb_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb = pytest.importorskip("wandb")
    with Reporting([tracker_of("wandb:mine", tmp_path / "run", CONFIG)]) as watch:
        played(watch)
        summary = dict(wandb.run.summary)
        assert wandb.run.config["tree"]["toy/sub"]["covers"] == ["form"]
    assert summary["toy/improve/x"] == 11.0 and summary["toy/comparisons"]["nrows"] == 1
    (offline,) = (tmp_path / "run").glob("wandb/offline-run-*")
    assert [*offline.glob("run-*.wandb")] and len([*offline.rglob("*.table.json")]) == 2
