"""Weights and architectures: which they are, and whether they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from rrm.core.errors import ModelError

AT_ONCE = 1 << 24
"""Numbers that are widened, and fetched from where they are, at once."""


def hash_tensors(tensors: Iterable[tuple[str, Tensor]], *more: str) -> str:
    """16 hex digits of the SHA-256 over names, shapes and bytes."""
    return sha256_of(tensors, *more)[:16]


def sha256_of(tensors: Iterable[tuple[str, Tensor]], *more: str, wide: bool = False) -> str:
    """The SHA-256 over names, shapes and bytes, tensor after tensor, in pieces: no tensor is copied whole.

    wide: as float32, whatever they are kept in. That is exact of bfloat16 and float16, so a model that was saved in
    these has one digest, however it is loaded.
    """
    sha = hashlib.sha256("/".join(more).encode())
    for name, tensor in tensors:
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        for piece in torch.split(tensor.detach().reshape(-1), AT_ONCE):
            whole = (piece.float() if wide else piece).cpu().contiguous()
            sha.update(whole.view(torch.uint8).numpy().data)
    return sha.hexdigest()


def check_keys(what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Raise `ModelError` unless a state has exactly the expected keys."""
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    if missing or unexpected:
        raise ModelError(
            f"{what} do not fit: missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]} "
            f"({len(missing)} and {len(unexpected)} keys); load one of the same model, adapters and heads"
        )
