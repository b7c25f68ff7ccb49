"""Attention in strips gives what plain attention gives, and computes no more than it has to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rrm.models.packing import PrefixGroup, pack
from rrm.models.strips import SIDE, attend_in_strips, strips_of


def mask_of(case: int, outcomes: int, length: int, rows: int = 2) -> Tensor:
    """Of packed rows whose outcomes differ in length."""
    groups = [PrefixGroup([1] * case, [[2] * (length - n - i) for n in range(outcomes)]) for i in range(rows)]
    (packed,) = pack(groups, d=576, width=outcomes)
    assert packed.visibility is not None
    return packed.visibility.dense()


def plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """By torch's own."""
    out = scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=True)
    return out.transpose(1, 2)


@pytest.mark.parametrize("case, outcomes, length", [(3, 2, 4), (70, 3, 50), (64, 4, 64), (150, 2, 20), (10, 9, 30)])
def test_it_is_plain_attention(case: int, outcomes: int, length: int) -> None:
    mask = mask_of(case, outcomes, length)
    draw = torch.Generator().manual_seed(case)
    given = [
        torch.randn(2, mask.shape[-1], heads, wide, generator=draw).transpose(1, 2).requires_grad_()
        for heads, wide in ((6, 8), (2, 8), (2, 5))
    ]
    slope = torch.randn(2, mask.shape[-1], 6, 5, generator=draw)
    found, right = (attend(*given, mask, 0.4) for attend in (attend_in_strips, plain))
    assert torch.allclose(found, right, atol=2e-6)
    for one, other in zip(*(torch.autograd.grad(out, given, slope) for out in (found, right)), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_what_nobody_sees_is_not_computed() -> None:
    """Four outcomes of two blocks each, behind a case of one: the dense mask has 9 * 9 blocks."""
    strips = strips_of(mask_of(SIDE, 4, 2 * SIDE + 1, 1)[..., : 9 * SIDE, : 9 * SIDE])
    cells = sum((last - first) * (stop - start) for first, last, ranges, _ in strips for start, stop in ranges)
    assert cells < 0.4 * (9 * SIDE) ** 2
