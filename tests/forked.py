"""Programs in processes of their own that need not import torch and transformers for six seconds each.

They are forked from a process that has imported these, and holds nothing else: none of the tests' state. Each then
runs its module or script as `python -m MODULE` or `python SCRIPT` would, and is killed like any other. What is about
starting itself (launchers, imports, installed commands) needs `subprocess`.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO

ROOT = Path(__file__).parent.parent
IMPORTED = (
    "torch", "torch.distributed.tensor", "torch._dynamo", "transformers", "transformers.modeling_utils",
    "transformers.generation.utils", "transformers.models.llama.modeling_llama", "accelerate", "peft.peft_model",
    "peft.tuners.lora.model", "rrm.loop.training", "rrm.models.backbone", "rrm.models.agent", "rrm.command.cli",
    "rrm.learning.text_maker", "rrm_tasks.paper",
)  # fmt: skip
"""What most of them need; more would be imported where it is needed."""
NUMBER = struct.Struct("i")


class Forked:
    """What `subprocess.Popen([sys.executable, *command], text=True, start_new_session=True)` is.

    command: "-m" and a module, or a script; then its arguments.
    stderr: `PIPE`, `DEVNULL` or `STDOUT`, of `subprocess`. stdout is always a pipe.
    server: which of the processes forks it. Those of one server have one seed of Python's hashes.
    """

    def __init__(
        self, command: Sequence[object], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None, stderr: int = PIPE,
        server: int = 0,
    ) -> None:  # fmt: skip
        self.args = [str(part) for part in command]
        asked = {"command": self.args, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        read, out = os.pipe()
        self.stdout: IO[str] = open(read)  # noqa: SIM115
        self.stderr: IO[str] | None = None
        if stderr == PIPE:
            read, err = os.pipe()
            self.stderr = open(read)  # noqa: SIM115
        else:
            err = os.open(os.devnull, os.O_WRONLY) if stderr == DEVNULL else os.dup(out)
        self._status, status = os.pipe()
        socket.send_fds(server_of(server), [json.dumps(asked).encode()], [out, err, status])
        for one in (out, err, status):
            os.close(one)
        self.returncode: int | None = None
        self._said: dict[int, str] = {}
        self._readers: list[threading.Thread] = []
        self.pid = self._number()

    def _number(self) -> int:
        told = os.read(self._status, NUMBER.size)
        assert told, f"who was to fork {self.args} is gone"
        return int(NUMBER.unpack(told)[0])

    def _ended(self, seconds: float | None) -> bool:
        """Whether it has, or does within so many seconds."""
        told = select.poll()
        told.register(self._status, select.POLLIN)
        return bool(told.poll(None if seconds is None else seconds * 1000))

    def poll(self) -> int | None:
        if self.returncode is None and self._ended(0):
            self.returncode = self._number()
            os.close(self._status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that is left to be read of both streams. Raises `TimeoutExpired`, after which it may be called again."""

        def read(number: int, stream: IO[str]) -> None:
            with stream:
                self._said[number] = stream.read()

        if not self._readers:
            streams = [(i, one) for i, one in enumerate((self.stdout, self.stderr)) if one is not None]
            self._readers = [threading.Thread(target=read, args=each, daemon=True) for each in streams]
            for one in self._readers:
                one.start()
        until = None if timeout is None else time.monotonic() + timeout
        for one in self._readers:
            one.join(None if until is None else max(0.0, until - time.monotonic()))
            if one.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if until is None else max(0.0, until - time.monotonic()))
        return self._said.get(0, ""), self._said.get(1, "")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[object], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run([sys.executable, *command], capture_output=True, text=True)` does."""
    process = Forked(command, cwd=cwd, env=env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


@cache
def server_of(number: int) -> socket.socket:
    """Where to ask; it is not waited for until something is asked. Its process ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", f"from tests.forked import serve; serve({theirs.fileno()})"]
    subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, pass_fds=[theirs.fileno()],
        start_new_session=True,
    )  # fmt: skip
    theirs.close()
    atexit.register(ours.close)
    return ours


def on_path(folder: Path) -> int:
    """Write a command `rrm` into the folder, which a shell may have ahead in its PATH. It is forked, too, if the shell
    and what it starts inherit the descriptor that is returned."""
    there = server_of(0).fileno()
    command = folder / "rrm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{Path(__file__).resolve()}" {there} -m rrm "$@"\n')
    command.chmod(0o755)
    return there


def _ask(there: int, command: Sequence[str]) -> int:
    """Have a program forked with the streams of this process. Its exit code."""
    asked = {"command": command, "cwd": os.getcwd(), "env": dict(os.environ)}
    read, status = os.pipe()
    socket.send_fds(socket.socket(fileno=there), [json.dumps(asked).encode()], [1, 2, status])
    os.close(status)
    _, code = (NUMBER.unpack(os.read(read, NUMBER.size))[0] for _ in range(2))
    return int(code) if code >= 0 else 128 - code


# --- in the process that forks -----------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Fork whatever is asked for, until nobody is there to ask."""
    for name in IMPORTED:
        import_module(name)
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever waits for the programs ends without being waited for
    while True:
        message, found, *_ = socket.recv_fds(control, 1 << 20, 3)
        if not message:
            return
        out, err, status = found
        if os.fork() == 0:
            control.close()
            _watch(json.loads(message), out, err, status)
        for one in found:
            os.close(one)


def _watch(asked: dict[str, object], out: int, err: int, status: int) -> None:
    """Fork the program, and say its number and, later, how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _become(asked, out, err)
    os.close(out)
    os.close(err)
    try:
        os.write(status, NUMBER.pack(pid))
        os.write(status, NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    finally:  # nobody may be there any more to be told
        os._exit(0)


def _become(asked: dict[str, object], out: int, err: int) -> None:
    """Run the program, and end as Python does."""
    command, cwd, env = asked["command"], asked["cwd"], asked["env"]
    assert isinstance(command, list) and isinstance(cwd, str) and isinstance(env, dict)
    code = 1
    try:
        os.setsid()
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        for one, number in ((out, 1), (err, 2)):
            os.dup2(one, number)
            os.close(one)
        assert hasattr(sys.stdout, "reconfigure")
        sys.stdout.reconfigure(line_buffering=True)
        code = _main(command, cwd)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _main(command: list[str], cwd: str) -> int:
    """The exit code."""
    module = command[0] == "-m"
    sys.argv = command[1:] if module else command
    ahead = [*os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:1] = [cwd if module else str(Path(command[0]).resolve().parent), *filter(None, ahead)]
    try:
        if module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise  # and end with 1
    return 0


if __name__ == "__main__":
    sys.exit(_ask(int(sys.argv[1]), sys.argv[2:]))
