"""Who sees whom in a packed row: dense, in blocks, and through flex attention."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from rrm.core.errors import Notice
from rrm.models import fork as forks
from rrm.models.attention import attend_packed
from rrm.models.backbone import Backbone
from rrm.models.flexing import CLOSE, attends, difference
from rrm.models.fusing import Fusion
from rrm.models.packing import PrefixGroup
from rrm.models.visibility import BLOCK, Visibility
from tests.models.conftest import network, tokenizer

CPU = torch.device("cpu")


def rows_of(seed: int, length: int, rows: int = 2) -> Visibility:
    """Rows of a case and segments of random sizes, each behind some of the case, and padding."""
    draw = random.Random(seed)
    owner, sees = [], []
    for _ in range(rows):
        case = draw.randint(1, length // 2)
        who, how = [0] * case, [case] * case
        for number in range(1, draw.randint(2, 9)):
            size = draw.randint(1, length // 4)
            who += [number] * size
            how += [draw.randint(1, case)] * size
        owner.append((who + [-1] * length)[:length])
        sees.append((how + [case] * length)[:length])
    return Visibility(torch.tensor(owner), torch.tensor(sees))


def spelled_out(block_mask: Any, length: int) -> Tensor:
    """(rows, length, length) bool: what a block mask lets through, block by block and by its rule."""
    rows = block_mask.kv_num_blocks.shape[0]
    found = torch.zeros(rows, length, length, dtype=torch.bool)
    for counts, listed, whole in (
        (block_mask.kv_num_blocks, block_mask.kv_indices, False),
        (block_mask.full_kv_num_blocks, block_mask.full_kv_indices, True),
    ):
        for row in range(rows):
            for q in range(counts.shape[-1]):
                for k in listed[row, 0, q, : counts[row, 0, q]].tolist():
                    at = slice(q * BLOCK, (q + 1) * BLOCK), slice(k * BLOCK, min((k + 1) * BLOCK, length))
                    query, key = (torch.arange(length)[one] for one in at)
                    seen = block_mask.mask_mod(torch.tensor(row), torch.tensor(0), query[:, None], key[None])
                    found[row][at] = True if whole else seen
    return found


@pytest.mark.parametrize("length", [1, 5, 127, 128, 129, 300, 517])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_show_what_the_dense_mask_shows(seed: int, length: int) -> None:
    rows = rows_of(seed, max(length, 4)) if length > 1 else Visibility(torch.zeros(1, 1), torch.ones(1, 1))
    length = rows.owner.shape[1]
    assert torch.equal(spelled_out(rows.blocks(CPU), length), rows.dense()[:, 0] == 0)


def test_blocks_of_a_layer_with_a_window() -> None:
    rows, window = rows_of(1, 400), 90
    positions = torch.randint(0, 300, (2, 400), generator=torch.Generator().manual_seed(0))
    near = positions[:, :, None] - positions[:, None, :] < window
    assert torch.equal(spelled_out(rows.blocks(CPU, positions, window), 400), (rows.dense()[:, 0] == 0) & near)


def test_what_nobody_sees_is_not_computed() -> None:
    """Eight segments of four blocks each, behind a case of four: the dense mask has 36 * 36 blocks."""
    owner = torch.arange(9).repeat_interleave(4 * BLOCK)[None]
    blocks = rows_of(0, 4).__class__(owner, torch.full_like(owner, 4 * BLOCK)).blocks(CPU)
    computed = int(blocks.kv_num_blocks.sum() + blocks.full_kv_num_blocks.sum())
    assert computed == 9 * 10 + 8 * 16  # each a triangle of its own, and the segments the case


@pytest.mark.parametrize("seed", range(3))
def test_flex_attention_attends_as_the_dense_mask_says(seed: int) -> None:
    rows = rows_of(seed, 290)
    draw = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, heads, 290, 16, generator=draw) for heads in (4, 2, 2))
    found = flex_attention(query, key, value, block_mask=rows.blocks(CPU), enable_gqa=True)
    right = scaled_dot_product_attention(query, key, value, attn_mask=rows.dense(), enable_gqa=True)
    assert torch.allclose(found, right, atol=2e-6)


def differentiable(query: Tensor, key: Tensor, value: Tensor, block_mask: Any = None, **kwargs: Any) -> Tensor:
    """What flex attention computes, by plain products: torch's own has no backward pass on a processor."""
    seen = spelled_out(block_mask, query.shape[2])[:, None]
    mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    return attend_packed(torch.nn.Module(), query, key, value, mask, kwargs["scale"])[0].transpose(1, 2)


@pytest.fixture
def flexing(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A model on a processor whose packed rows go through flex attention's place in transformers."""
    monkeypatch.setattr("transformers.integrations.flex_attention.compile_friendly_flex_attention", differentiable)
    monkeypatch.setattr(forks, "LONG", 1)
    monkeypatch.setattr(Fusion, "attends", lambda self, backbone, how: how == "flex")
    return Backbone("tiny", network(), tokenizer(), "lora")


def losses(backbone: Backbone, groups: list[PrefixGroup]) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities under an adapter, and the adapter's gradients of their sum."""
    fork = backbone.fork("agent")
    found = torch.cat([torch.cat(parts) for parts in fork.logprobs(groups, width=8)])
    found.sum().backward()  # type: ignore[no-untyped-call]
    return found.detach(), [p.grad.clone() for p in fork.parameters() if p.grad is not None]


def test_a_model_trains_through_flex_attention_as_with_dense_masks(
    flexing: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [5 + i % 40 for i in range(60)]
    groups = [
        PrefixGroup(ids[:30], [ids[:7], ids[3:12], ids[20:23]], at=[30, 12, 5]), PrefixGroup(ids[9:20], [ids[1:9]] * 4)
    ]  # fmt: skip
    calls: list[int] = []
    blocks = Visibility.blocks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Visibility, "blocks", lambda self, *more: (calls.append(1), blocks(self, *more))[1])
        found, slopes = losses(flexing, groups)
    assert calls, "no row went through it"
    monkeypatch.setattr(Fusion, "attends", lambda self, backbone, how: False)
    right, known = losses(flexing, groups)
    assert torch.allclose(found, right, atol=1e-5)
    off = [((a - b).norm() / b.norm()).item() for a, b in zip(slopes, known, strict=True) if b.norm() > 0]
    assert len(off) > 4 and max(off) < 1e-5


def test_it_is_used_only_where_it_was_seen_to_be_right(flexing: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference(flexing) < 1e-3 and attends(flexing, "flex")

    def blind(query: Tensor, key: Tensor, value: Tensor, block_mask: Any = None, **kwargs: Any) -> Tensor:
        causal = torch.full((1, 1, query.shape[2], query.shape[2]), -torch.inf).triu_(1)
        return attend_packed(torch.nn.Module(), query, key, value, causal, kwargs["scale"])[0].transpose(1, 2)

    monkeypatch.setattr("transformers.integrations.flex_attention.compile_friendly_flex_attention", blind)
    assert difference(flexing) > CLOSE
    with pytest.warns(Notice, match="off by 1"):
        assert not attends(flexing, "flex")


def test_a_device_that_refuses_it_keeps_dense_masks() -> None:
    """This processor: flex attention has no backward pass on it."""
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    assert not backbone.flexes
    with pytest.warns(Notice, match="cannot be used with .tiny. on cpu"):
        assert not attends(backbone, "flex")
