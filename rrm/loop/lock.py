"""One command at a time trains in a run's folder: a lock, with who holds it.

    runs/<name>/lock        locked by the operating system, and so free again however its holder ends
    runs/<name>/lock.json   who holds it: pid, host, since, command; gone when it is free

Several processes that torchrun started are one run: the main process holds the lock for all. Whoever only reads a run
(inspect, view), or judges in it (label), needs none.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rrm.core.errors import RunError
from rrm.core.interrupts import interrupts_held
from rrm.core.parallel import World
from rrm.store.files import sweep, write_atomically

SECRET = re.compile(r"((?:key|token|secret|password)\w*=).*", re.IGNORECASE)
"""What a command line should not have had in it; it is not written down."""
PATIENCE = 1.0
"""Seconds in which a holder has said who it is."""


@contextmanager
def locked(folder: Path | str, world: World) -> Iterator[None]:
    """The folder's lock, which is made with the folder. Raises `RunError` at once if somebody else holds it: who, and
    since when."""
    folder = Path(folder)
    lock = FileLock(folder / "lock")
    try:
        world.once(lambda: _take(folder, lock))
        yield
    finally:
        with interrupts_held():
            if lock.is_locked:
                with suppress(OSError):  # a folder that is gone
                    (folder / "lock.json").unlink(missing_ok=True)
                lock.release()


def _take(folder: Path, lock: FileLock) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the run folder {folder} ({error}); use another --out folder") from error
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"{folder} is being trained by {_holder(folder)}. One command at a time trains a run: wait until it ends, "
            "or stop it; for a new run, give another --out folder. To look at it: rrm inspect, rrm view."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise RunError(
            f"cannot lock {folder} ({error}); make it writable, or give an --out folder on a local disk"
        ) from error
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": _command()}
    try:
        sweep(folder)
        write_atomically(folder / "lock.json", json.dumps(me).encode() + b"\n")
    except BaseException:
        lock.release()
        raise


def _command() -> str:
    """As it was typed, more or less; without secrets."""
    program, *rest = sys.argv or [""]
    path = Path(program)
    start = ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name or "python"]
    return shlex.join([*start, *(SECRET.sub(r"\1...", one) for one in rest)])


def _holder(folder: Path) -> str:
    """In words. What lies there may be of the holder before, until the new one has written its own."""
    until = time.monotonic() + PATIENCE
    while True:
        said = _said(folder)
        if said and not _dead(said):
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said["since"]))
            return f"process {said['pid']} on {said['host']}, since {at} ({said['command']})"
        if time.monotonic() > until:
            return "another process, which does not say who it is"
        time.sleep(0.05)


def _said(folder: Path) -> dict[str, Any]:
    """What the holder says of itself; nothing if that cannot be read."""
    try:
        said = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
        return {
            "pid": int(said["pid"]), "host": str(said["host"]), "since": float(said["since"]),
            "command": str(said["command"]),
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _dead(said: dict[str, Any]) -> bool:
    """Whether a process of this machine is no more; of another machine's nothing is known."""
    if said["host"] != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(said["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False  # somebody else's
    return False
