"""One command at a time trains in a folder; the next is told who does, and whoever dies holds nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm import BoundedUser, train
from rrm.command.cli import app
from rrm.core.errors import RunError
from rrm.core.parallel import World
from rrm.loop.lock import locked
from tests import toy

ROOT = Path(__file__).parent.parent
HOLD = """
import sys
from pathlib import Path
from rrm.core.errors import RunError
from rrm.core.errors import RunError
from rrm.core.parallel import World
from rrm.loop.lock import locked
try:
    with locked(Path(sys.argv[1]), World()):
        print("held", flush=True)
        sys.stdin.read()
except RunError as error:
    print(error, flush=True)
"""


@contextmanager
def process(folder: Path, *extra: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that takes the lock, if it can, until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder), *extra]
    one = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield one
    finally:
        one.kill()
        one.communicate()


def line(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline().strip()


@pytest.mark.timeout(120)
def test_of_two_processes_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with process(tmp_path / "run", "--token=abc") as first:
        assert line(first) == "held"
        with process(tmp_path / "run") as second:
            told = line(second)
        assert f"process {first.pid} on " in told and "since 20" in told and "--out" in told
        assert "abc" not in told and "abc" not in (tmp_path / "run" / "lock.json").read_text()
        with pytest.raises(RunError, match=f"trained by process {first.pid} on"):
            train(toy.task(), BoundedUser(), "embedded", tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()  # nothing was begun


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["killed", "ended"])
def test_a_lock_ends_with_its_holder(tmp_path: Path, end: str) -> None:
    with process(tmp_path) as first:
        assert line(first) == "held"
        if end == "killed":
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            assert json.loads((tmp_path / "lock.json").read_text())["pid"] == first.pid  # it could not clean up
        else:
            first.communicate("")
            assert not (tmp_path / "lock.json").exists()
        with process(tmp_path) as second:
            assert line(second) == "held"
            assert json.loads((tmp_path / "lock.json").read_text())["pid"] == second.pid


@pytest.mark.timeout(120)
def test_who_died_is_not_named_as_the_holder(tmp_path: Path) -> None:
    with process(tmp_path) as first:
        assert line(first) == "held"
        os.kill(first.pid, signal.SIGKILL)
    dead = (tmp_path / "lock.json").read_text()
    with process(tmp_path) as second:
        assert line(second) == "held"
        (tmp_path / "lock.json").write_text(dead)  # as in the moment before the new one has written its own
        with pytest.raises(RunError, match="does not say who"), locked(tmp_path, World()):
            pass


def test_an_error_releases_it(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path, World()):
            assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
            raise ZeroDivisionError
        assert not (tmp_path / "lock.json").exists()


def test_training_holds_it_from_the_first_event_to_the_last(tmp_path: Path) -> None:
    seen: list[bool] = []
    train(
        toy.task(), BoundedUser(), "embedded", tmp_path / "run",
        watch=[lambda node, event: seen.append((tmp_path / "run" / "lock.json").exists())],
    )  # fmt: skip
    assert seen and all(seen)
    assert not (tmp_path / "run" / "lock.json").exists()


@pytest.mark.parametrize("what", ["nothing at all", "{}", '{"pid": "x"}', "[1]"])
def test_who_says_nonsense_still_holds_it(tmp_path: Path, what: str) -> None:
    with locked(tmp_path, World()):
        (tmp_path / "lock.json").write_text(what)
        with pytest.raises(RunError, match="does not say who"), locked(tmp_path, World()):
            pass


def test_only_the_main_process_of_several_takes_it(tmp_path: Path) -> None:
    class Second(World):
        def once(self, work: object) -> object:  # type: ignore[override]
            return None

    with locked(tmp_path, World()), locked(tmp_path, Second(1, 2)):
        pass


def test_whoever_reads_needs_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(toy.task(), BoundedUser(), "embedded", folder)
    with locked(folder, World()):
        assert CliRunner().invoke(app, ["inspect", str(folder)]).exit_code == 0


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"), locked(tmp_path / "file" / "run", World()):
        pass


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "nodes" / "toy" / ".agent.safetensors.12345.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    (tmp_path / ".mine.part").write_text("somebody's export")
    with locked(tmp_path, World()):
        assert not left.exists() and (tmp_path / ".mine.part").exists()


@pytest.mark.timeout(120)
def test_two_processes_that_write_one_file_leave_one_whole_version(tmp_path: Path) -> None:
    write = (
        "import sys\nfrom pathlib import Path\nfrom rrm.store.files import write_atomically\n"
        "for _ in range(50): write_atomically(Path(sys.argv[1]), sys.argv[2].encode() * 100000)"
    )
    target = tmp_path / "file"
    both = [subprocess.Popen([sys.executable, "-c", write, str(target), letter], cwd=ROOT) for letter in "ab"]
    try:
        while any(one.poll() is None for one in both):
            if target.exists():
                assert len(set(target.read_bytes())) == 1 and target.stat().st_size == 100000
    finally:
        for one in both:
            one.kill()
    assert [one.wait() for one in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
