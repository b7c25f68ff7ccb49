"""Run a computation that nobody vouches for, in a process of its own, with limits; see `jail.py` for its walls.

What holds everywhere: the language "arithmetic" reaches no file, network or process; wall time and output are limited
from outside. What is asked of the kernel, and holds where `guards()` says so: no network, no files, no keys, no
processes, and limits of CPU time and memory. The language "python" needs all of these and is refused without them. None
of this is a virtual machine: a fault in the kernel or in Python is a hole in the wall.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from rrm.core.border import plain

JAIL = Path(__file__).with_name("jail.py")


@dataclass(frozen=True)
class Limits:
    """What a computation may use."""

    cpu: int = 2
    """CPU seconds."""
    wall: float = 10.0
    """Seconds by the clock; far more than `cpu`, as the machine may have other work."""
    memory: int = 256 << 20
    """Bytes of address space, Python's own 30 MB or so included."""
    output: int = 20_000
    """Bytes printed."""


@dataclass(frozen=True)
class Ran:
    """What became of a computation."""

    output: str
    fault: str = ""
    """Why it did not end well; empty if it did."""


def run(code: str, limits: Limits = Limits(), language: Literal["arithmetic", "python"] = "arithmetic") -> Ran:
    """Run the computation to its end or to a limit. Never raises because of what the code does."""
    with tempfile.TemporaryDirectory(prefix="rrm-") as root:
        os.chmod(root, 0o755)  # an empty root to live in, for whoever we become
        asked = {"code": code, "language": language, "root": root, "cpu": limits.cpu, "memory": limits.memory,
                 "parent": os.getpid()}  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(JAIL)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=root, env={"PYTHONHASHSEED": "0"}, start_new_session=True, close_fds=True,
        )  # fmt: skip
        try:
            return _watch(process, json.dumps(asked).encode(), limits)
        finally:
            _kill(process)


def _watch(process: subprocess.Popen[bytes], payload: bytes, limits: Limits) -> Ran:
    assert process.stdin and process.stdout and process.stderr
    deadline = time.monotonic() + limits.wall
    kept = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as ready:
        os.set_blocking(process.stdin.fileno(), False)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        for pipe in kept:
            ready.register(pipe, selectors.EVENT_READ)
        while ready.get_map():
            left = deadline - time.monotonic()
            events = ready.select(left) if left > 0 else []
            if not events:
                return Ran(_text(kept[process.stdout], limits), f"it takes more than {limits.wall:g} seconds")
            for key, _ in events:
                if key.fileobj is process.stdin:
                    try:
                        payload = payload[os.write(process.stdin.fileno(), payload) :]
                    except BrokenPipeError:
                        payload = b""
                    if not payload:
                        ready.unregister(process.stdin)
                        process.stdin.close()
                    continue
                pipe = process.stdout if key.fileobj is process.stdout else process.stderr
                chunk = os.read(pipe.fileno(), 1 << 16)
                if not chunk:
                    ready.unregister(pipe)
                kept[pipe] += chunk
                if len(kept[pipe]) > limits.output:
                    return Ran(_text(kept[process.stdout], limits), f"it prints more than {limits.output} bytes")
    try:
        code = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return Ran(_text(kept[process.stdout], limits), f"it takes more than {limits.wall:g} seconds")
    return Ran(_text(kept[process.stdout], limits), _fault(code, kept[process.stderr].decode(errors="replace"), limits))


def _fault(code: int, said: str, limits: Limits) -> str:
    """Why it did not end well, of any exit code (0 to 255) and any signal (negative); empty for 0."""
    if -code in (signal.SIGXCPU, signal.SIGKILL):
        return f"it takes more than {limits.cpu} CPU seconds"
    if code < 0:
        known = [one.name for one in signal.Signals if one == -code]
        return f"it was ended by {known[0] if known else f'the signal {-code}'}"
    lines = said.strip().splitlines()
    return plain(lines[-1]) if lines and code else f"exit code {code}" if code else ""


def _text(output: bytes, limits: Limits) -> str:
    return output[: limits.output].decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all it started: its group; and, by the kernel, its process namespace."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@cache
def guards() -> dict[str, bool]:
    """Which walls this machine's kernel gives: user, network, files, processes, capabilities, keys, cpu, memory."""
    ran = run("probe")
    return dict(json.loads(ran.output)) if not ran.fault else {}
