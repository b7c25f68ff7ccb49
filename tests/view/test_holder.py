"""A run that crashed is shown as stopped at once, and one in a long step as training; without a lock, time tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrm.core.parallel import World
from rrm.loop.lock import locked
from rrm.view import reading
from rrm.view.holder import held
from rrm.view.reading import Reader
from tests.view import synthetic


def begun(folder: Path) -> Path:
    """A run that is in the middle of its root's first round."""
    return synthetic.make(folder, [synthetic.comparison(0)])


def states(folder: Path) -> tuple[str, str]:
    with Reader(folder) as run:
        return run.state, run.progress(run.nodes["paper"]).state


def write(folder: Path, name: str = "lock.json", **said: object) -> None:
    here = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": "rrm"}
    (folder / name).write_text(json.dumps(here | said))


def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_that_is_held_trains_however_long_a_step_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(tmp_path / "run")
    monkeypatch.setattr(reading, "RUNNING", 0.0)  # as if its last record were long ago
    assert states(folder)[0] == "stopped"
    with locked(folder, World()):
        assert held(folder) is True and states(folder) == ("training", "comparing")
    assert held(folder) is False and states(folder) == ("stopped", "stopped")


@pytest.mark.parametrize("name", ["lock.json", "lock"])
def test_a_run_whose_process_was_killed_is_stopped_at_once(tmp_path: Path, name: str) -> None:
    folder = begun(tmp_path / "run")
    write(folder, name, pid=dead())
    assert held(folder) is False and states(folder) == ("stopped", "stopped")
    write(folder, name, pid=2**80)
    assert held(folder) is False


def test_where_the_lock_does_not_tell_time_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path / "run")
    elsewhere = [{}, {"host": "elsewhere"}, {"pid": "x"}, {"pid": None}, {"pid": 0}, {"pid": -1}]
    for i, said in enumerate(elsewhere):
        if i:
            write(folder, **said)
        assert held(folder) is None and states(folder) == ("training", "comparing")
    for text in ("[]", "3", '"x"'):
        (folder / "lock.json").write_text(text)
        assert held(folder) is None
    monkeypatch.setattr(reading, "RUNNING", 0.0)
    assert states(folder) == ("stopped", "stopped")


def test_a_lock_that_is_being_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock.json").write_text('{"pid": 1')
    assert held(tmp_path) is False  # nothing to read: as nobody's, until it is there
