"""One thread at a time in a network: a second would compute as the first's fork, without anybody noticing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rrm.core.errors import ModelError


@contextmanager
def alone(lock: threading.RLock, what: str) -> Iterator[None]:
    """Within it this thread has the network. Raises `ModelError` at once, never waits, if another is in it: whoever
    means to use one network from several threads must say in which order."""
    if not lock.acquire(blocking=False):
        raise ModelError(
            f"two threads use one network at once ({what} is the second); let them take turns, or load a backbone for "
            "each"
        )
    try:
        yield
    finally:
        lock.release()
