"""Is there room for a model, on disk and in memory? Asked before anything is downloaded."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from rrm.core.errors import ModelError


def check_disk(needed: int, folder: Path, what: str) -> None:
    """Raise `ModelError` if fewer bytes are free where `folder` is, or will be: how many, and where."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{what} needs {size(needed)} on disk at {folder} while it is made, and {size(free)} are free; make room, "
            "or set RRM_CACHE to a folder on another disk"
        )


def memory_hint(needed: int, what: str, available: int | None) -> str:
    """What to say if fewer bytes of memory are available than it takes; empty if there are enough, or nobody knows."""
    if available is None or available >= needed:
        return ""
    return (
        f"converting {what} takes {size(needed)} of memory, and {size(available)} are available: it may be slow, or be "
        "killed. Nothing is lost then; close other programs and run the same command again"
    )


def available_memory(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process can still get; None where the system does not say."""
    known = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(one for one in proc.read_text().splitlines() if one.startswith("MemAvailable:"))
        known.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # "max" is no number
        most = int((cgroup / "memory.max").read_text())
        known.append(max(0, most - int((cgroup / "memory.current").read_text())))
    return min(known, default=None)


def size(count: int) -> str:
    """A number of bytes as people say it: 85 MB, 1.27 GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6)) if count else 0} MB"
