"""Weights and architectures: which they are, and whether they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rrm.core.errors import ModelError


def hash_tensors(tensors: Iterable[tuple[str, Tensor]], *more: str) -> str:
    """16 hex digits of the SHA-256 over names, shapes and bytes."""
    sha = hashlib.sha256("/".join(more).encode())
    for name, tensor in tensors:
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def check_keys(what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Raise `ModelError` unless a state has exactly the expected keys."""
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    if missing or unexpected:
        raise ModelError(
            f"{what} do not fit: missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]} "
            f"({len(missing)} and {len(unexpected)} keys); load one of the same model, adapters and heads"
        )


def window(name: str, config: Any) -> int | None:
    """The sliding window of a model's attention in tokens, None if it has none.

    No longer than its window, a sequence is attended to in full, so such a model can be used up to there. Raises
    `ModelError` for any other kind of attention (chunked, linear, recurrent layers): outcomes could not share their
    case's pass.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"{name!r} has layers of other kinds than causal attention ({', '.join(sorted(kinds))}), so outcomes "
            "cannot share their case's pass; use a model with full or sliding attention"
        )
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if slides else None
