"""Numbers on their way to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """x on a device. A GPU is sent it from pinned memory: a copy from any other waits until the GPU has done all that
    it was given before, and until then nothing further can be launched."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
