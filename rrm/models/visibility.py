"""Which tokens of a packed row see which: as a dense mask, or in blocks, for a GPU's flex attention.

A dense mask has a number for each two tokens of a row, 0.13 GB in bfloat16 at 8,192 tokens, and attention computes what
it hides as well. Flex attention (Dong et al. 2024, arXiv 2412.05496) is told of each block of 128 by 128 whether
anything in it is seen, and by a rule what: memory grows by the number of blocks, and what is hidden costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Tokens of a block's side, as flex attention's kernels want them."""
PADDING = -1
"""The owner of what is no token."""


@dataclass(frozen=True)
class Visibility:
    """Packed rows' tokens, by whom each belongs to."""

    owner: Tensor  # (rows, length) 0: the case, 1 and more: its segments, -1: padding
    sees: Tensor  # (rows, length) so many of the case's tokens

    def dense(self, device: torch.device | None = None) -> Tensor:
        """(rows, 1, length, length) additive float mask, made on a device.

        Float and not bool: the CPU kernel would convert a bool mask again in every layer. Padding attends to
        earlier padding and the prefix: it is never read, and must only stay finite.
        """
        owner, sees = (self.owner, self.sees) if device is None else (self.owner.to(device), self.sees.to(device))
        length = owner.shape[1]
        key, query = owner[:, None, :], owner[:, :, None]
        allowed = ((key == 0) & (torch.arange(length, device=owner.device) < sees[:, :, None])) | (key == query)
        allowed &= torch.ones(length, length, dtype=torch.bool, device=owner.device).tril_()
        return torch.zeros(allowed.shape, device=owner.device).masked_fill_(~allowed, -torch.inf)[:, None]

    def blocks(self, device: torch.device, positions: Tensor | None = None, window: int | None = None) -> Any:
        """The same as flex attention's `BlockMask` (rows, 1, length, length), without ever making the dense one.

        positions: (rows, length), of a layer that sees `window` positions, its own included.
        """
        rows, length = self.owner.shape
        spare = -length % BLOCK  # a kernel asks of whole blocks
        owner, sees = (
            torch.nn.functional.pad(one, (0, spare), value=fill).to(device)
            for one, fill in ((self.owner, PADDING), (self.sees, 0))
        )
        at = None if positions is None else torch.nn.functional.pad(positions, (0, spare)).to(device)

        def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            case = (owner[row, key] == 0) & (key < sees[row, query])
            found = (query >= key) & (case | (owner[row, key] == owner[row, query]))
            if at is None or window is None:
                return found
            return found & (at[row, query] - at[row, key] < window)

        return _block_mask(seen, rows, length, device)


def _block_mask(seen: Any, rows: int, length: int, device: torch.device) -> Any:
    """The blocks in which something, and those in which everything is seen, found a strip of queries at a time."""
    from torch.nn.attention.flex_attention import BlockMask

    row = torch.arange(rows, device=device)[:, None, None]
    key = torch.arange(-(-length // BLOCK) * BLOCK, device=device)
    some, whole = [], []
    for start in range(0, length, BLOCK):
        query = torch.arange(start, start + BLOCK, device=device)[None, :, None]
        strip = seen(row, row, query, key[None, None]).expand(rows, BLOCK, len(key))
        cells = strip.reshape(rows, BLOCK, -1, BLOCK).transpose(1, 2).flatten(2)  # (rows, blocks of keys, cells)
        some.append(cells.any(-1))
        whole.append(cells.all(-1))
    full = torch.stack(whole, 1)  # (rows, blocks of queries, blocks of keys)
    part = torch.stack(some, 1) & ~full
    return BlockMask.from_kv_blocks(
        *_listed(part), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=seen, seq_lengths=(length, length)
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, q, k) bool -> how many of each q's are true, and which, those first; for all heads alike."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]
