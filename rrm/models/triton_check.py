"""Whether kernels of Triton (`rrm.models.kernels`) run on a device."""

from __future__ import annotations

import warnings
from functools import cache

import torch

from rrm.core.errors import Notice
from rrm.core.seeding import generator
from rrm.models.architecture import RAW


@cache
def available(device: torch.device) -> bool:
    """Whether kernels run there: a GPU with Triton, which was seen to add up a row of logits."""
    if device.type != "cuda":
        return False
    try:
        from rrm.models import kernels

        logits = torch.randn(3, 5000, generator=generator("fusing")).to(device)
        logits[:, 7:4500] = -torch.inf
        whole, found = kernels.chances(logits, torch.float32)
        assert found is not None
        right = torch.allclose(found, logits.softmax(1), atol=1e-6) and torch.allclose(whole, logits.logsumexp(1))
    except (*RAW, OSError) as error:
        right = False
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    else:
        said = "their numbers are wrong there"
    if not right:
        warnings.warn(
            f"kernels of Triton cannot be used on {device} ({said}): everything goes on without them, more slowly; "
            "Triton needs a C compiler",
            Notice, stacklevel=2,
        )  # fmt: skip
    return right
