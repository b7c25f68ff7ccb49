"""The same numbers to the last bit whenever a pass is repeated on a GPU.

Attention's backward passes add up in whatever order the card's blocks finish, unless torch is asked not to. A run that
is resumed, or a node that is trained again, would then have other weights. It costs attention's backward pass some of
its speed; between products nothing changes. What torch has no such way for it says in a warning, which is about other
operations than those used here.
"""

from __future__ import annotations

import os
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
    if not on or device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        yield
        return
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # nothing here reads what it did not write
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*determinis", UserWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(False)
        settings.fill_uninitialized_memory = filled
