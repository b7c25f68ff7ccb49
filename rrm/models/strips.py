"""Attention of packed rows in strips of queries, each with the keys that it sees and no others.

A packed row hides much: what comes later, and other outcomes. Its mask is the same in all heads and all layers, so it
is looked at once in blocks, and of the blocks in which nothing is seen no score is computed, neither forward nor
backward. Heads that share keys are multiplied with them together, which spares copies of the keys and sums over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SIDE = 64
"""Queries of a strip, and keys of a block."""

Strip = tuple[int, int, tuple[tuple[int, int], ...], Tensor]
"""The first query and the one after the last; the keys that any of them sees, as ranges; the mask there, additive,
(rows, 1, 1, queries, keys)."""


def strips_of(mask: Tensor) -> list[Strip]:
    """Of an additive mask (rows, 1, length, length). Layers are given one and the same, which keeps what was found."""
    known: list[Strip] | None = getattr(mask, "_strips", None)
    if known is None:
        known = mask._strips = _strips(mask)  # type: ignore[attr-defined]
    return known


def _strips(mask: Tensor) -> list[Strip]:
    length = mask.shape[-1]
    count, spare = -(-length // SIDE), -length % SIDE
    seen = torch.nn.functional.pad((mask[:, 0] > -torch.inf).any(0), (0, spare, 0, spare))
    blocks = seen.view(count, SIDE, count, SIDE).any(3).any(1).tolist()
    out: list[Strip] = []
    for number, row in enumerate(blocks):
        ranges: list[tuple[int, int]] = []
        for start, stop in ((n * SIDE, min((n + 1) * SIDE, length)) for n in range(count) if row[n]):
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], stop)
            else:
                ranges.append((start, stop))
        first, last = number * SIDE, min((number + 1) * SIDE, length)
        here = _of(mask[:, :, None, first:last], ranges, 4).contiguous()
        out.append((first, last, tuple(ranges), here))
    return out


def _of(x: Tensor, ranges: Sequence[tuple[int, int]], dim: int) -> Tensor:
    """These ranges of a dimension, side by side."""
    parts = [x.narrow(dim, start, stop - start) for start, stop in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


class _InStrips(torch.autograd.Function):
    """softmax(q k' + mask) v; the weights of what is seen are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
        rows, heads, length, d = query.shape
        kv, wide = key.shape[1], value.shape[-1]
        g = heads // kv
        q = query.view(rows, kv, g, length, d)
        k, v = key.reshape(rows * kv, length, d), value.reshape(rows * kv, length, wide)
        out = query.new_empty(rows, length, kv, g, wide)
        kept = [k, v]
        for first, last, ranges, hidden in strips_of(mask):
            own = (q[:, :, :, first:last] * scale).reshape(rows * kv, -1, d)
            scores = torch.bmm(own, _of(k, ranges, 1).transpose(1, 2))
            scores.view(rows, kv, g, last - first, -1).add_(hidden)
            weights = scores.softmax(-1)
            found = torch.bmm(weights, _of(v, ranges, 1)).view(rows, kv, g, last - first, wide)
            out[:, first:last] = found.permute(0, 3, 1, 2, 4)
            kept += [own, weights]
        ctx.save_for_backward(*kept)
        ctx.plan = [strip[:3] for strip in strips_of(mask)]
        ctx.scale, ctx.shape = scale, query.shape
        return out.view(rows, length, heads, wide)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        k, v, *kept = ctx.saved_tensors
        rows, heads, length, d = ctx.shape
        kv, wide = len(k) // rows, v.shape[-1]
        g = heads // kv
        grad = grads[0].view(rows, length, kv, g, wide).permute(0, 2, 3, 1, 4)  # (rows, kv, g, length, wide)
        to_q = k.new_empty(rows, length, kv, g, d)
        to_k, to_v = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for (first, last, ranges), own, weights in zip(ctx.plan, kept[::2], kept[1::2], strict=True):
            given = grad[:, :, :, first:last].reshape(rows * kv, -1, wide)
            to_weights = torch.bmm(given, _of(v, ranges, 1).transpose(1, 2))
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            found = torch.bmm(to_scores, _of(k, ranges, 1)).view(rows, kv, g, last - first, d)
            torch.mul(found.permute(0, 3, 1, 2, 4), ctx.scale, out=to_q[:, first:last])
            at = 0
            here_k, here_v = torch.bmm(to_scores.transpose(1, 2), own), torch.bmm(weights.transpose(1, 2), given)
            for start, stop in ranges:
                to_k[:, start:stop] += here_k[:, at : at + stop - start]
                to_v[:, start:stop] += here_v[:, at : at + stop - start]
                at += stop - start
        shape = (rows, kv, length, -1)
        return to_q.view(rows, length, heads, d).transpose(1, 2), to_k.to(k.dtype).view(shape), \
            to_v.to(v.dtype).view(shape), None, None  # fmt: skip


def attend_in_strips(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """(rows, length, heads, values' d) of query (rows, heads, length, d), key (rows, kv heads, length, d), value (rows,
    kv heads, length, values' d) and an additive mask (rows, 1, length, length) in which every token sees something."""
    out: Tensor = _InStrips.apply(query, key, value, mask, scale)  # type: ignore[no-untyped-call]
    return out
