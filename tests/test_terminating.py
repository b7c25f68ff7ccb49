"""SIGTERM: commands end as by Ctrl-C, with 143; and nothing of it where nobody asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rrm.command.terminating import CODE, Terminated, ended_by_sigterm
from tests.forked import Forked
from tests.test_resume import contents

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to send")
TREE = """
import os, time
from rrm.users.bounded import BoundedUser
from tests import toy
task = toy.task(assistants=(toy.sub("sub"),))
asked = []
class Waiting(BoundedUser):
    def judge(self, *given, **more):
        asked.append(1)
        if "WAIT" in os.environ and len(asked) == 4:
            print("now", flush=True)
            time.sleep(300)
        return super().judge(*given, **more)
"""


def sent(times: int = 1) -> None:
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # or it would end the tests
    for _ in range(times):
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def untouched() -> object:
    """Nobody has taken SIGTERM before, nor afterwards."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("swallowed", [False, True])
def test_whatever_ends_by_it_ends_with_143(swallowed: bool) -> None:
    tidied = []
    with pytest.raises(SystemExit) as ended, ended_by_sigterm():
        try:
            sent()
        except KeyboardInterrupt:  # as whoever waits for Ctrl-C does
            sent(3)  # a launcher passes its own on: those disturb nobody
            tidied.append(1)
            if not swallowed:
                raise
        sys.exit(0)
    assert ended.value.code == CODE == 143 and tidied


class Swallowing:
    """Python swallows whatever is raised while it forgets one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_python_swallowed_comes_again(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    others: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: others.append(what.exc_type))
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)) as ended, ended_by_sigterm():
            Swallowing(number)
            for _ in range(200):  # and the work goes on
                time.sleep(0.05)
        assert not others and (number == signal.SIGINT or ended.value.code == 143)  # type: ignore[union-attr]
    finally:
        signal.signal(signal.SIGINT, handler)


def test_who_still_waits_may_send_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended, ended_by_sigterm():
        try:
            sent()
        except Terminated:
            sent()
            monkeypatch.setattr("rrm.command.terminating.AGAIN", 0.0)
            sent()
    assert ended.value.code == 143 and isinstance(ended.value.__context__, Terminated)


LAST = """
import atexit, signal, sys, time
from rrm.command.terminating import ended_by_sigterm, last_word
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(lambda: (signal.raise_signal(signal.SIGINT), signal.raise_signal(signal.SIGTERM)))
with last_word(), ended_by_sigterm():
    print("Finished", flush=True)
    sys.exit(3)
"""


def test_what_comes_after_the_last_word_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LAST], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "Finished\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_says_so_in_a_line(number: int) -> None:
    """Wherever it is: while it imports, and in a command that has no words of its own for it."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "import sys; sys.argv = ['rrm', 'trees']\nimport rrm.__main__, {where}\n"
    code += "def stop(*given, **more):\n    signal.raise_signal({number})\n    import time; time.sleep(30)\n"
    code += "{where}.{what} = stop\nrrm.__main__.main()\n"
    for where, what, line in (
        ("typer.main", "get_command", "Stopped before it began. To begin, give the same command again.\n"),
        ("rrm.command.tree_commands", "tried", "Stopped. To go on, give the same command again.\n"),
    ):
        script = code.format(where=where, what=what, number=int(number))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", line)


def test_other_ends_are_as_they_were() -> None:
    for code in (0, 2, "text"):
        with pytest.raises(SystemExit) as ended, ended_by_sigterm():
            sys.exit(code)
        assert ended.value.code == code and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt) as stopped, ended_by_sigterm():
        raise KeyboardInterrupt
    assert not isinstance(stopped.value, Terminated)


@pytest.mark.parametrize("taken", [signal.SIG_IGN, lambda number, frame: None])
def test_it_is_left_to_whoever_has_it(taken: object) -> None:
    signal.signal(signal.SIGTERM, taken)  # type: ignore[arg-type]
    with ended_by_sigterm():
        assert signal.getsignal(signal.SIGTERM) is taken
        sent()


def test_of_the_main_thread_only() -> None:
    seen = []

    def other() -> None:
        with ended_by_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_child_that_was_forked_dies_of_it() -> None:
    with ended_by_sigterm():
        child = os.fork()
        if child == 0:
            try:
                sent()
                time.sleep(60)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.slow
def test_a_run_that_it_ended_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    from tests.models.conftest import network, tokenizer

    tree, model, out = tmp_path / "tree.py", tmp_path / "model", tmp_path / "run"
    tree.write_text(TREE)
    network().save_pretrained(model)
    tokenizer().save_pretrained(model)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = ["-m", "rrm", "train", tree, "--user", f"{tree}:Waiting", "--model", model, "--threads", "1"]
    command += ["--set", "*.steps=1", "--out"]
    stopped = Forked([*command, out], env=env | {"WAIT": "1"})
    assert stopped.stdout is not None
    assert any(line == "now\n" for line in stopped.stdout), stopped.communicate()[1]
    stopped.terminate()
    errors = stopped.communicate(timeout=100)[1]
    assert stopped.returncode == 143, errors
    assert errors.splitlines()[0] == "Stopped. Nothing judged is lost." and f"--out {out}" in errors.splitlines()[1]
    assert not (out / "lock.json").exists()
    begun = contents(out)
    for folder in (out, tmp_path / "whole"):
        done = Forked([*command, folder], env=env)
        said, errors = done.communicate(timeout=200)
        assert done.returncode == 0 and "Finished" in said, errors
    assert contents(out) == contents(tmp_path / "whole") != begun
