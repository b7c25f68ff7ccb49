"""Starting several processes, and ending all of them: as a user does, or forked, which is sooner done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.forked import Forked, server_of
from tests.label.serving import free_port

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
WORKER = ["-m", "tests.parallel.worker"]


def start(*command: object, processes: int = 2, launcher: list[str] | None = None) -> subprocess.Popen[str]:
    """Start a module under torchrun (or another launcher), in a process group of its own."""
    before = [*TORCHRUN, str(processes)] if launcher is None else launcher
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PROCESSES": str(processes), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*before, *map(str, command)], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], timeout: float = 500) -> tuple[int, str, str]:
    """Exit code, stdout and stderr. Nothing outlives it."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        end(process)
    return process.returncode, out, err


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGKILL) -> None:
    """Kill the launcher and, one by one, what it started: those have sessions of their own."""
    children = [int(p) for p in descendants(process.pid)]
    for pid in (process.pid, *children):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> list[int]:
    try:
        below = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*below, *(p for b in below for p in descendants(b))]


def run(*command: object, processes: int = 2, launcher: list[str] | None = None) -> tuple[int, str, str]:
    return finish(start(*command, processes=processes, launcher=launcher))


class Two:
    """Two processes that are told of each other what torchrun tells them, without a launcher between. Each is forked
    by a server of its own: as those of torchrun, they have different seeds of Python's hashes."""

    def __init__(self, *command: object) -> None:
        told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
                "OMP_NUM_THREADS": "1", "PROCESSES": "2"}  # fmt: skip
        for i in range(2):
            server_of(i)  # both import at once, so that neither process has to wait for the other
        self.processes = [
            Forked(command, env={**os.environ, **told, "RANK": str(i), "LOCAL_RANK": str(i)}, server=i)
            for i in range(2)
        ]

    def poll(self) -> int | None:
        """An exit code, once one of them has ended with an error, or both have without."""
        codes = [one.poll() for one in self.processes]
        return next(filter(None, codes), None if None in codes else 0)

    def kill(self) -> None:
        for one in self.processes:
            one.kill()

    def finish(self, timeout: float = 500) -> tuple[int, str, str]:
        """As `finish` does of a launcher. When one ends with an error, the other is given a moment to notice."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None and time.monotonic() < until:
            time.sleep(0.02)
        moment = time.monotonic() + 20
        while None in [one.poll() for one in self.processes] and time.monotonic() < moment:
            time.sleep(0.02)
        self.kill()
        said = [one.communicate() for one in self.processes]
        return (-signal.SIGALRM if code is None else code), "".join(out for out, _ in said), "".join(e for _, e in said)


def both(*command: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of both."""
    return Two(*command).finish()
