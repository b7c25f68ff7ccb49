"""Whole runs in two processes: records, interruptions, errors, and the command line."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import mini
from tests.parallel.launch import WORKER, Two, both, finish, run, start
from tests.test_resume import contents

pytestmark = pytest.mark.slow  # every test starts processes
ENTRY = ["-m", "rrm"]
SMALL = "from tests import toy\ntask = toy.task(assistants=(toy.sub(),))\n"


def rows(out: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(out / "run.db")
    try:
        return db.execute(query).fetchall()
    except sqlite3.OperationalError:  # not made yet
        return []
    finally:
        db.close()


def judgements(out: Path) -> list[tuple[object, ...]]:
    return rows(out, "SELECT task, round, position, pair, preference, checks, attention FROM comparisons ORDER BY seq")


NODES = ("paper/writing", "paper/proofs/steps", "paper/proofs", "paper")


def asked(out: Path, node: str) -> list[tuple[object, ...]]:
    """What was judged at a node, and how. (A pair's own name has the versions of its assistants in it: hashes of
    weights, whose last bits are others with another number of processes.)"""
    return rows(
        out,
        "SELECT c.round, c.position, c.case_id, json_extract(a.body, '$.text'), json_extract(b.body, '$.text'),"
        " c.preference, c.attention"
        " FROM comparisons c JOIN blobs a ON a.id = c.a JOIN blobs b ON b.id = c.b"
        f" WHERE c.task = '{node}' ORDER BY c.seq",
    )


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("single") / "run"
    mini.run(out)
    return out


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("double") / "run"
    code, _, err = both(*WORKER, "tree", out)
    assert code == 0, err
    return out


def alike(out: Path, other: Path, nodes: Sequence[str]) -> None:
    """The same comparisons, and metrics within a hundredth: of all but a fifth, because a last bit may turn a sampled
    token (about once in a million), after which a node's samples are others. All rounds were done at all nodes."""
    found, expected = contents(out), contents(other)
    assert [row[:3] for row in found["weights"]] == [row[:3] for row in expected["weights"]]
    for node in nodes:
        judged, wanted = asked(out, node), asked(other, node)
        assert len(wanted) >= 2 * mini.SMALL.comparisons
        assert len(set(judged) & set(wanted)) >= 0.8 * max(len(judged), len(wanted)), node
        numbers, those = ({r[:5]: r[5] for r in c["metrics"] if r[0] == node} for c in (found, expected))
        close = [name in numbers and numbers[name] == pytest.approx(those[name], rel=1e-2, abs=1e-3) for name in those]
        assert sum(close) >= 0.8 * len(close), node


def kill_when(process: Two, out: Path, query: str, at_least: int) -> None:
    while process.poll() is None and not ((out / "run.db").exists() and len(rows(out, query)) >= at_least):
        time.sleep(0.05)
    process.kill()
    process.finish()


def test_a_tree_in_two_processes(single: Path, double: Path) -> None:
    """At every node, also at those that have assistants: no random stream is named by a hash of weights."""
    alike(double, single, NODES)
    assert '"processes": 2' in (double / "config.json").read_text()
    assert '"processes": 1' in (single / "config.json").read_text()


def test_a_tree_of_a_model_that_is_shared_out(tmp_path: Path) -> None:
    """It decides as the same two processes do when each has the whole model."""
    for what in ("adapted", "split"):
        code, _, err = both(*WORKER, what, tmp_path / what)
        assert code == 0, err
    alike(tmp_path / "split", tmp_path / "adapted", (NODES[0], NODES[-1]))


def test_two_killed_and_resumed_by_two_and_by_one(double: Path, tmp_path: Path) -> None:
    out, total = tmp_path / "run", len(judgements(double))
    process = Two(*WORKER, "tree", out)
    kill_when(process, out, "SELECT 1 FROM comparisons", total * 2 // 3)
    before = judgements(out)
    assert total * 2 // 3 <= len(before) < total
    shutil.copytree(out, tmp_path / "by one")
    code, _, err = both(*WORKER, "tree", out)
    assert code == 0, err
    expected, found = contents(double), contents(out)
    assert {name: found[name] == rows for name, rows in expected.items()} == dict.fromkeys(expected, True)  # the bits
    mini.run(tmp_path / "by one")
    assert judgements(tmp_path / "by one")[: len(before)] == before
    alike(tmp_path / "by one", double, NODES)


def test_a_bug_in_one_process_ends_all(tmp_path: Path) -> None:
    began = time.monotonic()
    code, _, err = run(*WORKER, "broken", tmp_path)
    assert code != 0 and "KeyError: 'a bug in process 1'" in err
    assert time.monotonic() - began < 120


def test_the_main_process_may_take_its_time(tmp_path: Path) -> None:
    code, _, err = both(*WORKER, "patient", tmp_path)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"0.done", "1.done"}


def test_processes_with_different_settings_are_refused(tmp_path: Path) -> None:
    code, _, err = both(*WORKER, "differing", tmp_path / "run")
    assert code != 0 and "process 1 was started with other settings" in err
    assert judgements(tmp_path / "run") == []


ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
BY_TORCHRUN = ["--multi_gpu", "--num_machines", "1", "--main_process_port", "0", "--num_processes", "2"]
"""Of accelerate's launcher: it then calls torchrun, and looks for no GPU."""


def test_accelerate_starts_two_processes(tmp_path: Path) -> None:
    """Without a GPU, too; the assertion inside counts them."""
    code, _, err = run(*WORKER, "sums", tmp_path, launcher=[*ACCELERATE, *BY_TORCHRUN])
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"0.done", "1.done"}


@pytest.mark.parametrize("processes", [2, 1])
def test_accelerate_told_of_a_cpu_starts_one_process(tmp_path: Path, processes: int) -> None:
    """Asked for two, it starts one, and the assertion inside sees it. We say so."""
    launcher = [*ACCELERATE, "--cpu", "--num_processes", str(processes)]
    code, _, err = run(*WORKER, "hello", tmp_path, processes=processes, launcher=launcher)
    assert (code == 0) == (processes == 1)
    assert ("1 processes, not 2" in err) == (processes == 2)
    assert ("accelerate was told to start several processes and started one" in err) == (processes == 2)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A tree, and a tiny random model."""
    from tests.models.conftest import network, tokenizer

    tree, model = tmp_path / "tree.py", tmp_path / "model"
    tree.write_text(SMALL)
    network().save_pretrained(model)
    tokenizer().save_pretrained(model)
    return tree, model


def test_the_command_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    tree, model = files
    command = [*ENTRY, "train", tree, "--model", model, "--out", tmp_path / "run"]
    code, out, err = run(*command)
    assert code == 0, err
    assert out.count("Finished") == 1 and out.count("toy/sub round 1/1: sampling") == 1, out  # one process speaks
    assert len(judgements(tmp_path / "run")) == 6
    code, out, err = both(*command, "--set", "*.steps=1")
    assert code != 0 and err.count("error: ") - err.count("process 1: error: ") >= 1 and "other settings" in err


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to send")
def test_sigterm_ends_all_and_says_how_to_go_on(files: tuple[Path, Path], tmp_path: Path) -> None:
    """As Ctrl-C does, and by the same way: torchrun passes on which it was."""
    tree, model = files
    out = tmp_path / "run"
    process = start(*ENTRY, "train", tree, "--model", model, "--out", out, "--set", "*.steps=3000")
    deadline = time.monotonic() + 200
    while len(judgements(out) if (out / "run.db").exists() else []) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    try:
        code, _, err = finish(process, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("still running a minute after SIGTERM")
    assert code != 0
    assert err.count("Stopped. Nothing judged is lost.") == 1
    assert err.count("next: torchrun --nproc_per_node 2 -m rrm train") == 1
