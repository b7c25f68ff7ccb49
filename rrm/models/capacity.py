"""How much a device takes at once: the sizes of passes, of the decoding cache and of the logits.

On a processor these are constants: larger passes fall out of its caches, and gain nothing. A GPU wants all the work
that its memory holds, so there they come from what is free once the weights are loaded. What is free is rounded down
to a power of two before it is shared out: the last bits of a number depend on what shares its pass, and a few
megabytes more or less must not change them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from rrm.core.errors import ConfigError

GIB = 1 << 30
KEPT = 40
"""Numbers of activations per hidden unit and layer that the backward pass of a token keeps, about."""
MEMORY = "RRM_MEMORY"
"""The environment variable that says how many GiB of a GPU passes may take, instead of what is free."""


@dataclass(frozen=True)
class Capacity:
    """Sizes of what is computed at once."""

    training: int
    """Cells (rows * length) of a pass whose gradient is wanted."""
    reading: int
    """Cells of a pass without."""
    keeping: int
    """Cells of the largest pass that keeps all of its activations for the backward pass: of larger ones (a single row
    that cannot be cut) the layers are computed again there (`rrm.models.recomputing`)."""
    logits: int
    """Logits (tokens * vocabulary); more come in parts, and again in the backward pass."""
    cache: int
    """Bytes of keys and values of the sequences decoded at once."""
    rows: int
    """Sequences decoded at once."""


def on_processor(token: int, host: int | None) -> Capacity:
    """token: bytes of activations that the backward pass keeps of a token. Activations stay below some 2.4 GB, or, of a
    row that cannot be cut, below a quarter of the bytes that `host` has."""
    # For 135 M parameters: 868 cells in float32, where 1024 gained 7 percent over 512, and 2048 4; 1736 in bfloat16,
    # where 1700 gained 7 over 1085. Without a gradient, passes larger than 4096 were slower for tiny models.
    training = max(512, min(4096, int(2.4e9 / token)))
    keeping = 1 << 40 if host is None else max(training, (1 << max(1, host).bit_length() - 1) // 4 // token)
    return Capacity(training, 4096, keeping, 1 << 24, GIB, 512)


def on_gpu(token: int, free: int) -> Capacity:
    """`free`: bytes. Half of them for activations, half for keys and values; passes and decoding do not coincide, but
    torch keeps what one has freed in pieces that the other cannot always use."""
    most = 1 << max(1, free).bit_length() - 1
    training = max(512, min(1 << 16, most // 2 // token))
    # Logits come with three or four copies of themselves (the softmax, its gradient, the sampler's cumulative sum).
    logits = max(1 << 24, min(1 << 30, most // 8 // 16))
    reading = max(4096, min(1 << 17, 4 * training))
    return Capacity(training, reading, most // 2 // token, logits, max(GIB // 4, most // 2), 4096)


def capacity_of(
    device: torch.device, layers: int, d: int, itemsize: int, free: int | None, host: int | None = None
) -> Capacity:
    """Of a model on a device. itemsize: bytes of a number of its activations; `free`: bytes, from `free_memory`; host:
    bytes of memory that a processor can still get, where that is known."""
    token = activations(layers, d, itemsize)
    return on_processor(token, host) if free is None else on_gpu(token, free)


def activations(layers: int, d: int, itemsize: int) -> int:
    """Bytes of a token's activations that the backward pass keeps, about."""
    return layers * d * itemsize * KEPT


def free_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that are free, or what RRM_MEMORY says of them; None for a processor.

    Raises `ConfigError` if RRM_MEMORY is no number above 0.
    """
    if device.type != "cuda":
        return None
    asked = asked_memory()
    if asked is None:
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has reserved and not handed out is free as well.
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return asked


def asked_memory() -> int | None:
    """Bytes that RRM_MEMORY gives to passes; None if it says nothing. Raises `ConfigError` if it is no number above 0.
    """
    asked = os.environ.get(MEMORY)
    if asked is None:
        return None
    try:
        bytes_ = int(float(asked) * GIB)
    except (ValueError, OverflowError):
        bytes_ = 0
    if bytes_ <= 0:
        raise ConfigError(f"{MEMORY} is {asked!r}; give the GiB of a GPU's memory that passes may take, such as 20")
    return bytes_
