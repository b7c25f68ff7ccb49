"""The same numbers to the last bit whenever a pass is repeated on a GPU.

Attention's backward passes add up in whatever order the card's blocks finish, unless torch is asked not to. A run that
is resumed, or a node that is trained again, would then have other weights. It costs attention's backward pass some of
its speed; between products nothing changes. What torch has no such way for it says in a warning, which is about other
operations than those used here.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product runs


@contextmanager
def repeatable(device: torch.device, on: bool = True) -> Iterator[None]:
    """Within it (if `on`), passes with a gradient and backward passes on a GPU give the same bits each time; on a
    processor they do anyway. Decoding does, too, and its recorded steps take none of torch's detours for it."""
    if not on or device.type != "cuda":
        yield
        return
    _INSIDE.enter()
    try:
        yield
    finally:
        _INSIDE.leave()


class _Inside:
    """How many passes are under way, in all threads: torch has one setting for all of them."""

    def __init__(self) -> None:
        self._lock, self._count, self._before = threading.Lock(), 0, (False, True)

    def enter(self) -> None:
        with self._lock:
            if self._count == 0:
                self._before = (torch.are_deterministic_algorithms_enabled(), _settings().fill_uninitialized_memory)
                if not self._before[0]:
                    # Ours, for operations that have no other way; whoever asks for them without us is told.
                    warnings.filterwarnings("ignore", r".{0,200}deterministic", UserWarning)
                    torch.use_deterministic_algorithms(True, warn_only=True)
                    _settings().fill_uninitialized_memory = False  # nothing here reads what it did not write
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0 and not self._before[0]:
                torch.use_deterministic_algorithms(False)
                _settings().fill_uninitialized_memory = self._before[1]


def _settings() -> Any:
    return torch.utils.deterministic


_INSIDE = _Inside()
