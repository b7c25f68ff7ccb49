"""Named random streams: every draw comes from a generator named by what it is for, never the global one.

Two runs that ask for `generator("sample", node, round, case)` get the same bits whatever else ran before,
so a resumed run repeats an uninterrupted one, and the order of evaluation does not matter.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def seed_of(*parts: Any) -> int:
    """A 63-bit seed from JSON-able parts: the first 8 bytes of the SHA-256 of their JSON."""
    payload = json.dumps(parts, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(payload).digest()[:8], "big") >> 1


def generator(*parts: Any) -> torch.Generator:
    """A CPU generator seeded by `seed_of(*parts)`."""
    import torch  # late: looking at a run needs seeds, and no torch

    return torch.Generator().manual_seed(seed_of(*parts))
