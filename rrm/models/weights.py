"""Weights and architectures: which they are, and whether they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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
