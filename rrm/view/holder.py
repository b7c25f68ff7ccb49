"""Whether somebody trains in a run's folder right now, by its lock (`rrm.loop.lock`)."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path


def held(folder: Path) -> bool | None:
    """True: by a process that lives. False: by nobody, as it ended or was killed. None: that cannot be told, as the run
    is of an older rrm, or its process on another machine."""
    said = None
    for name in ("lock.json", "lock"):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):
            continue
        break
    if said is None:
        return False if (folder / "lock").exists() else None  # it stays, and is locked by whoever trains
    try:
        pid, host = int(said["pid"]), str(said["host"])
    except (KeyError, TypeError, ValueError):
        return None
    if host != socket.gethostname() or os.name != "posix" or pid <= 0:
        return None
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True
