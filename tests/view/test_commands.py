"""`rrm inspect` and `rrm view`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from tests.view import synthetic


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return synthetic.make(tmp_path / "run", [synthetic.comparison(i, preference=i / 2) for i in range(3)])


def test_inspect(run: Path) -> None:
    tree = CliRunner().invoke(app, ["inspect", str(run)])
    assert tree.exit_code == 0 and "proofs" in tree.output
    node = CliRunner().invoke(app, ["inspect", str(run), "paper", "--show", "tie", "--limit", "1"])
    assert node.exit_code == 0 and "comparison 2" in node.output and "comparison 1" not in node.output


def test_a_static_copy(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    done = CliRunner().invoke(app, ["view", str(run), "--export", str(out)])
    assert done.exit_code == 0, done.output
    assert (out / "index.html").exists() and (out / "r/run/c/3/index.html").exists()
    again = CliRunner().invoke(app, ["view", str(run), "--export", str(out)])
    assert again.exit_code == 2 and "not an empty folder" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["inspect", "{out}/none"], "no run there"),
        (["inspect", "{run}", "nothing"], "no node 'nothing'"),
        (["inspect", "{run}", "paper", "--show", "best"], "no such filter"),
        (["view", "{out}"], "no run there"),
        (["view", "{run}", "--host", "0.0.0.0"], "set --token"),
        (["view", "{run}", "--host", "0.0.0.0", "--token", "short"], "16 characters"),
    ],
)
def test_what_they_refuse(run: Path, tmp_path: Path, arguments: list[str], why: str) -> None:
    (tmp_path / "out").mkdir()
    given = [one.format(run=run, out=tmp_path / "out") for one in arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 2 and why in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_inspect_lists_the_runs_of_a_folder_and_says_what_to_type(tmp_path: Path) -> None:
    for name in ("a", "b", "deep/c"):
        synthetic.make(tmp_path / "runs" / name, [synthetic.comparison(0)])
    told = CliRunner().invoke(app, ["inspect", str(tmp_path / "runs")])
    assert told.exit_code == 2
    lines = [line.strip() for line in told.stderr.splitlines()]
    assert [str(tmp_path / "runs" / name) in lines for name in ("a", "b", "deep/c")] == [True] * 3
    command = lines[-1].partition("Give one of them: rrm ")[2].partition(";")[0].split()
    assert CliRunner().invoke(app, command).exit_code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    none = CliRunner().invoke(app, ["inspect", str(empty)])
    assert none.exit_code == 2 and "no run there" in none.stderr


@pytest.mark.parametrize("who", ["bounded(attention=6)", "model(embedded)"])
def test_nobody_can_judge_where_nobody_is_asked(run: Path, who: str) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"user": {"name": who}}))
    told = CliRunner().invoke(app, ["label", str(run), "--as", "ada", "--tty"])
    assert told.exit_code == 2
    assert f"judged by {who}" in told.stderr and "--user human --out" in told.stderr
    assert not (run / "labels.db").exists()
