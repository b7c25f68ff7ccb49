"""Packed rows by flash attention in two passes. Its kernels are on a GPU only: here two plain functions stand for them,
and know no more than they do."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rrm.core.errors import Notice
from rrm.models import spans as module
from rrm.models.backbone import Backbone
from rrm.models.flexing import CLOSE, attends, difference
from rrm.models.fusing import Fusion
from rrm.models.packing import PrefixGroup, pack
from rrm.models.precision import Precision
from rrm.models.spans import Sequences, Spans
from rrm.models.visibility import Visibility
from tests.models.conftest import network, tokenizer
from tests.models.test_visibility import losses

CPU = torch.device("cpu")


def _sequences(some: Sequences) -> list[tuple[slice, slice]]:
    spans = ([slice(*ends) for ends in pairwise(borders.tolist())] for borders in (some.q, some.k))
    found = [*zip(*spans, strict=True)]
    assert max(a.stop - a.start for a, _ in found) == some.most_q
    assert max(b.stop - b.start for _, b in found) == some.most_k
    return found


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    """(heads, queries, keys)"""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    return scores.masked_fill(torch.ones(scores.shape[1:]).triu(1).bool(), -torch.inf) if causal else scores


def forwards(q: Tensor, k: Tensor, v: Tensor, some: Sequences, scale: float) -> tuple[Tensor, ...]:
    out, lse = torch.empty_like(q), q.new_empty(q.shape[1], len(q))
    for a, b in _sequences(some):
        scores = _scores(q[a], k[b], some.causal, scale)
        values = v[b].repeat_interleave(q.shape[1] // v.shape[1], 1)
        out[a] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)
        lse[:, a] = scores.logsumexp(-1)
    return out, lse, q.new_empty(0), q.new_empty(0)


def backwards(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, some: Sequences, scale: float,
    rest: object,
) -> tuple[Tensor, ...]:  # fmt: skip
    """FlashAttention's: weights are exp(score - lse), and their slopes have the row's sum of slope * out taken off."""
    to_q, to_k, to_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    share = q.shape[1] // k.shape[1]
    for a, b in _sequences(some):
        weights = (_scores(q[a], k[b], some.causal, scale) - lse[:, a, None]).exp()
        keys, values = (x[b].repeat_interleave(share, 1) for x in (k, v))
        slopes = torch.einsum("qhd,khd->hqk", slope[a], values) - (slope[a] * out[a]).sum(-1).T[..., None]
        slopes = weights * slopes * scale
        to_q[a] += torch.einsum("hqk,khd->qhd", slopes, keys)
        folded = (len(values), k.shape[1], share, -1)
        to_k[b] += torch.einsum("hqk,qhd->khd", slopes, q[a]).view(folded).sum(2)
        to_v[b] += torch.einsum("hqk,qhd->khd", weights, slope[a]).view(folded).sum(2)
    return to_q, to_k, to_v


@pytest.fixture
def spanned(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A model on a processor whose packed rows go through spans."""
    monkeypatch.setattr(module, "forwards", forwards)
    monkeypatch.setattr(module, "backwards", backwards)
    monkeypatch.setattr(Fusion, "attends", lambda self, backbone, how: how == "spans")
    return Backbone("tiny", network(), tokenizer(), "lora")


def test_a_model_trains_through_spans_as_with_dense_masks(spanned: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [5 + i % 30 for i in range(60)]
    groups = [
        PrefixGroup(ids[:30], [ids[:7], ids[3:12], ids[20:23]]), PrefixGroup(ids[9:20], [ids[1:9]] * 4),
        PrefixGroup(ids[3:5], [ids[7:8], ids[2:40]]),
    ]  # fmt: skip
    made: list[Visibility] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Visibility, "dense", lambda self, *more: made.append(self))
        found, slopes = losses(spanned, groups)
    assert not made, "a row went through a dense mask"
    monkeypatch.setattr(Fusion, "attends", lambda self, backbone, how: False)
    right, known = losses(spanned, groups)
    assert torch.allclose(found, right, atol=1e-5)
    off = [((a - b).norm() / b.norm()).item() for a, b in zip(slopes, known, strict=True) if b.norm() > 0]
    assert len(off) > 4 and max(off) < 1e-5


def test_segments_that_see_a_part_of_their_case_keep_a_mask() -> None:
    group = PrefixGroup(range(5, 15), [[5, 6], [7]], at=[10, 4])
    visibility = pack([group], d=32, width=2)[0].visibility
    assert visibility is not None and Spans.of(visibility, CPU) is None


def test_it_is_used_only_where_it_was_seen_to_be_right(spanned: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference(spanned, "spans") < 1e-3 and attends(spanned, "spans")
    # As if what each pass got were an average of its own keys alone.
    monkeypatch.setattr(torch, "logaddexp", lambda a, b: a)
    assert difference(spanned, "spans") > CLOSE
    with pytest.warns(Notice, match="flash attention cannot be used with .tiny. on cpu"):
        assert not attends(spanned, "spans")


def test_rounding_is_told_from_what_is_wrong(spanned: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 two ways that are both right differ by more, the deeper a network is."""
    backbone = Backbone("tiny", network(layers=4), tokenizer(), "lora")
    backbone.precision = Precision("bfloat16")
    assert CLOSE < difference(backbone, "spans") < 2 * difference(backbone, "eager")
    assert attends(backbone, "spans")
    monkeypatch.setattr(torch, "logaddexp", lambda a, b: a)
    with pytest.warns(Notice, match="flash attention cannot be used with .tiny. on cpu"):
        assert not attends(backbone, "spans")


def test_a_device_without_its_kernels_keeps_dense_masks() -> None:
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    assert not backbone.spans
    with pytest.warns(Notice, match="cannot be used with .tiny. on cpu"):
        assert not attends(backbone, "spans")
