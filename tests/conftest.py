"""Test settings: hypothesis without deadlines (the machines are shared), reproducibly; nothing from a hub; files in
memory."""

import os
import re
import shutil
from pathlib import Path

from hypothesis import settings

# No test needs a hub; asking one for a model that is not there takes 40 s of retries where there is no network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("rrm", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("rrm")

MEMORY = Path("/dev/shm")
ROOM = 8 << 30
"""Bytes. What the tests of one go write is about one GB."""


def in_memory() -> bool:
    """There is room in memory for what the tests write."""
    try:
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        return False
    return available is not None and min(free, int(available[1]) << 10) >= ROOM


# A run waits for the disk some milliseconds at each of its hundreds of commits: a fifth of the time of a small run.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and in_memory():
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)
