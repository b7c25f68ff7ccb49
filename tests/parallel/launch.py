"""Starting several processes as a user does, and ending all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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
