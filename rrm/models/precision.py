"""How this machine computes best: the frozen weights in bfloat16 or float32, and how many threads."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from rrm.core.parallel import place

GAIN = 1.1
"""bfloat16 is used where it is at least this many times as fast as float32."""


@dataclass(frozen=True)
class Precision:
    """What the frozen weights are kept in, and the trunk computes in; see `Backbone.precision`."""

    weights: Literal["float32", "bfloat16", "int8", "nf4"] = "float32"
    """int8, nf4: in codes (`rrm.models.quantizing`), computing in bfloat16."""
    head: Literal["float32", "bfloat16"] = "float32"
    """Of the output embedding; bfloat16 only where the weights are. See `rrm.models.head`."""

    @property
    def dtype(self) -> torch.dtype:
        """As torch names it."""
        return torch.float32 if self.weights == "float32" else torch.bfloat16


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors this process may really use: its affinity, and its container's share where one is set."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):  # no cgroup, or an older one
        return count
    return count if quota == "max" else max(1, min(count, math.ceil(int(quota) / int(period))))


def limit_threads() -> None:
    """Do not let torch run more threads than there are processors: they would wait for one another. torch counts
    the machine's processors; a container may have been given fewer, and several processes share them."""
    most = max(1, cores() // place()[1])
    if torch.get_num_threads() > most:
        torch.set_num_threads(most)
