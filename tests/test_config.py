"""A config.json, or a run.db, that is not a run's: every command that opens the run says so, and changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrm import RRMError
from rrm.command.cli import app
from rrm.loop.reopen import reward_of
from rrm.store.config import read_config
from rrm.store.store import Store

FIXTURE = Path(__file__).parent / "fixtures" / "run_of_0_1_0"
OURS = json.loads((FIXTURE / "config.json").read_text())


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


OTHERS: dict[str, bytes | Callable[[Path], None]] = {
    "empty": b"", "blank": b"  \n", "a list": b"[1, 2]", "a number": b"7", "null": b"null", "cut": b'{"tree": {',
    "not UTF-8": b"\xff\xfe{\x00}\x00", "deep": b"[" * 100_000, "no tree": b"{}",
    "a model's": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 9}',
    "another program's": b'{"name": "x", "version": 2, "scripts": {}}', "a tree of files": b'{"tree": ["a", "b"]}',
    "a tree of texts": b'{"tree": {"a": "b"}}', "a folder": folder,
    "odd settings": json.dumps(OURS | {"tree": {"toy": {"settings": 3}}}).encode(),
    "odd rounds": json.dumps(OURS | {"tree": {"toy": {"settings": {"rounds": "x"}}}}).encode(),
    "odd user": json.dumps(OURS | {"user": {"name": 7}}).encode(),
    "odd about": json.dumps(OURS | {"about": {"started": "now"}}).encode(),
}  # fmt: skip


def commands(run: Path, tree: Path) -> list[list[str]]:
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    (run.parent / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return [
        ["inspect", str(run)], ["inspect", str(run), "toy"], ["label", str(run), "--tty", "--as", "Ann"],
        ["view", str(run), "--export", str(run.parent / "pages")],
        ["export", str(run), "-o", str(run.parent / "reward"), "--reward-model", "toy"],
        ["train", str(tree), "--out", str(run), "-q"],
        ["measure", "uplift", str(run)], ["people", str(run)],
        ["import", str(run.parent / "rows.jsonl"), "--out", str(run), "--node", "toy"],
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "tree.py").write_text("from tests.toy import task as make\ntask = make()\n")
    return Path(shutil.copytree(FIXTURE, tmp_path / "run"))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_config_that_is_not_ours_is_a_message(run: Path, kind: str) -> None:
    body = OTHERS[kind]
    if callable(body):
        body(run / "config.json")
    else:
        (run / "config.json").write_bytes(body)
    for command in commands(run, run.parent / "tree.py"):
        done = CliRunner().invoke(app, command)
        if command[0] == "view" and done.exit_code == 0:
            continue  # of many runs it shows those that can be read
        assert done.exit_code == 2 and isinstance(done.exception, SystemExit), (command, done.exception, done.output)
        assert "error: " in done.output and len(done.output) < 1500, (command, done.output)
    with pytest.raises(RRMError):
        reward_of(run, "toy")
    if not callable(body):
        assert (run / "config.json").read_bytes() == body


def test_a_run_without_one_is_new_or_says_so(run: Path) -> None:
    (run / "config.json").unlink()
    assert read_config(run) == {}
    done = CliRunner().invoke(app, ["train", str(run.parent / "tree.py"), "--out", str(run), "-q"])
    assert done.exit_code == 2 and "holds judgements but no config.json" in done.output


@pytest.mark.parametrize("name", ["run.db", "labels.db"])
def test_another_program_s_database_is_left_alone(run: Path, name: str) -> None:
    for path in run.glob(f"{name}*"):
        path.unlink()
    db = sqlite3.connect(run / name)
    db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.commit()
    db.close()
    before = (run / name).read_bytes()
    for command in commands(run, run.parent / "tree.py"):
        if name == "labels.db" and command[0] not in ("label", "measure"):
            continue
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, SystemExit) or done.exit_code == 0, (command, done.exception)
        assert "error: " in done.output or command[0] == "view", (command, done.output)
    if name == "run.db":
        with pytest.raises(RRMError, match="another program's database: it has the tables bookmarks"):
            Store(run / name)
    assert (run / name).read_bytes() == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={key: json_values for key in OURS}))
def test_any_json_is_refused_or_can_be_read(tmp_path_factory: pytest.TempPathFactory, found: dict[str, Any]) -> None:
    """And what is taken for ours has the shapes that everybody relies on."""
    path = tmp_path_factory.mktemp("run")
    for mixed in (found, OURS | found):
        (path / "config.json").write_text(json.dumps(mixed))
        try:
            config = read_config(path)
        except RRMError as error:
            assert str(path) in str(error)
            continue
        assert all(isinstance(node.get("settings", {}), dict) for node in config["tree"].values())
        assert isinstance(config.get("user", {}).get("name", ""), str)
        assert isinstance(float(config.get("about", {}).get("started", 0)), float)
