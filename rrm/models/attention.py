"""Attention that transformers' own kernels are slow at: decoding of groups, and short packed rows in bfloat16.

Decoding keeps each case's keys and values once, however many outcomes it has:

    scores of a row   [ query . keys of its case | query . keys of its own tokens ]

Queries of one case are multiplied with its keys together, so a case's cache is read once per token and not once
per outcome (bifurcated attention: Athiwaratkun et al. 2024, arXiv 2403.08845). The numbers are those of ordinary
attention over both. transformers calls it through its attention interface; a model that does not go through that
interface gets the joined keys instead: slower, and the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import DynamicLayer

from rrm.models.head import WIDENS
from rrm.models.strips import attend_in_strips

NAME = "rrm_grouped"
"""The decoding attention's name in transformers' interface."""
PACKED = "rrm_packed"
"""The packed rows'."""
SPANS = "rrm_spans"
"""The same of packed rows on a GPU, without a mask (`rrm.models.spans`)."""
SHORT = 768
"""Longest row whose attention weights are written out: they are kept for the backward pass, length * length of them
per head and layer."""
LONG = 2048
"""Shortest packed row that a GPU's flex attention is given instead of a dense mask (`rrm.models.visibility`), where
`rrm.models.spans` cannot be: a sliding window, segments that see a part of their case. Chosen by the mask's size, 8 MB
in bfloat16, and not by a measurement."""


@dataclass(frozen=True)
class Layout:
    """Which case each decoded row belongs to."""

    case: Tensor  # (rows,) index into the prefixes
    slots: Tensor  # (cases, most) rows of each case, filled up with any row
    place: Tensor | None  # (rows,) where each row is in the flattened `slots`; None: rows are the slots in order
    pad: Tensor | None  # (cases, 1, 1, prefix) additive float: where prefixes are padded; None: nowhere

    @staticmethod
    def of(case: Tensor, pad: Tensor | None) -> Layout:
        """`case`: (rows,) in ascending order, each case at least once."""
        counts = torch.bincount(case)
        start = counts.cumsum(0) - counts
        rows = torch.arange(len(case), device=case.device)
        offset = rows - start[case]
        most = int(counts.max())
        if bool((counts == most).all()):
            return Layout(case, rows.view(-1, most), None, pad)
        place = case * most + offset
        slots = torch.zeros(len(counts) * most, dtype=torch.long, device=case.device).scatter(0, place, rows)
        return Layout(case, slots.view(-1, most), place, pad)

    def gather(self, x: Tensor) -> Tensor:
        """(rows, kv, g, k) -> (cases, kv, most * g, k): the rows of each case side by side."""
        cases, most = self.slots.shape
        x = x.view(cases, most, *x.shape[1:]) if self.place is None else x[self.slots]
        return x.transpose(1, 2).flatten(2, 3)

    def scatter(self, x: Tensor, g: int) -> Tensor:
        """The inverse of `gather`."""
        cases, kv, _, k = x.shape
        x = x.view(cases, kv, -1, g, k).transpose(1, 2).flatten(0, 1)
        return x if self.place is None else x[self.place]


@dataclass(frozen=True)
class Steps:
    """Where decoding is, in tensors: what a recorded step (`rrm.models.replay`) reads and Python's numbers cannot tell
    it. All layers share one."""

    column: Tensor  # (1,) int64: where the next token's keys and values go
    unseen: Tensor  # (1, 1, 1, room) additive float32: -inf in the columns that are not written yet


class GroupLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's cache: the prefixes' keys and values, and, once `branch` was called, those of each row's tokens."""

    layout: Layout | None = None
    steps: Steps | None = None
    """If set: a token goes where these say, and attention is given the whole room."""

    def branch(self, layout: Layout, room: int, joined: bool) -> None:
        """Keep what the prefill left as the prefixes, and make room for `room` tokens after them.

        `joined`: `update` gives prefix and tokens in one tensor, for models that do their own attention.
        """
        assert self.keys is not None and self.values is not None
        # Scores in float32, also of a bfloat16 model: they go through an exponential. A processor's products come out
        # in the precision that went in; a GPU's need not (`_product`).
        widen = not joined and not (self.keys.is_cuda and WIDENS)
        keys, values = (self.keys.float(), self.values.float()) if widen else (self.keys, self.values)
        self.prefix_k, self.prefix_v = keys.contiguous(), values.contiguous()
        _, heads, self.width, d = keys.shape
        rows = len(layout.case)
        # Values may be narrower than keys (multi-head latent attention).
        self.k, self.v = keys.new_zeros(rows, heads, room, d), values.new_zeros(rows, heads, room, values.shape[-1])
        self.used, self.layout, self.joined = 0, layout, joined

    def select(self, rows: Tensor, cases: Tensor, layout: Layout) -> None:
        """Keep only these rows and prefixes, which `layout` describes."""
        self.k, self.v = self.k[rows], self.v[rows]
        if len(cases) < len(self.prefix_k):
            self.prefix_k, self.prefix_v = self.prefix_k[cases], self.prefix_v[cases]
        self.layout = layout

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take in new keys and values; returns those that attention sees, as a transformers cache layer does."""
        if self.layout is None:  # the prefill, in one piece or after what all prefixes begin with
            if self.is_initialized:
                assert self.keys is not None and self.values is not None
                key_states = torch.cat([self.keys.expand(len(key_states), -1, -1, -1), key_states], 2)
                value_states = torch.cat([self.values.expand(len(value_states), -1, -1, -1), value_states], 2)
            self.keys, self.values, self.is_initialized = key_states, value_states, True
            return key_states, value_states
        if self.steps is not None:
            self.k.index_copy_(2, self.steps.column, key_states.to(self.k.dtype))
            self.v.index_copy_(2, self.steps.column, value_states.to(self.v.dtype))
            keys, values = self.k[:], self.v[:]  # views, which can be marked
        else:
            end = self.used + key_states.shape[-2]
            self.k[:, :, self.used : end] = key_states
            self.v[:, :, self.used : end] = value_states
            self.used = end
            keys, values = self.k[:, :, :end], self.v[:, :, :end]
        if self.joined:
            case = self.layout.case
            return torch.cat([self.prefix_k[case], keys], 2), torch.cat([self.prefix_v[case], values], 2)
        keys._group = self  # type: ignore[attr-defined]  # how `attend` finds the prefixes
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens so far, the prefix included."""
        return super().get_seq_length() if self.layout is None else self.width + self.used


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One token of each row attends to its case and to its own tokens.

    query: (rows, heads, 1, d); key: (rows, kv heads, tokens, d), value: (rows, kv heads, tokens, values' d), as
    `GroupLayer.update` gave them. sliding_window: how many tokens it sees, itself included; prefixes end together, so
    what it no longer sees are columns. softcap, s_aux: see `_weights`. Returns (rows, 1, heads, values' d).
    """
    layer: GroupLayer = key._group  # type: ignore[attr-defined]
    layout, width = layer.layout, layer.width
    assert layout is not None
    rows, heads, _, d = query.shape
    g = heads // key.shape[1]
    scale = d**-0.5 if scaling is None else scaling
    q = query.reshape(rows, key.shape[1], g, d).to(key.dtype)
    if key.dtype == torch.float32 or math.frexp(scale)[0] == 0.5:  # exact, then, also in bfloat16
        q, scale = q * scale, 1.0  # which are fewer than the scores
    prefix_k, prefix_v, pad = layer.prefix_k, layer.prefix_v, layout.pad
    if sliding_window is not None and width + key.shape[2] > sliding_window:
        past = width + key.shape[2] - sliding_window  # columns that are too far away
        prefix_k, prefix_v = prefix_k[:, :, past:], prefix_v[:, :, past:]
        pad = None if pad is None else pad[..., past:]
        key, value = key[:, :, max(0, past - width) :], value[:, :, max(0, past - width) :]
        width = max(0, width - past)
    scores = _cap(_product(q, key.transpose(2, 3), scale), softcap)
    if layer.steps is not None:
        scores = scores + layer.steps.unseen
    if width:
        prefix = _product(layout.gather(q), prefix_k.transpose(2, 3), scale)  # (cases, kv, most * g, width)
        prefix = _cap(prefix, softcap)
        prefix = prefix if pad is None else prefix + pad
        scores = torch.cat([layout.scatter(prefix, g), scores], -1)  # (rows, kv, g, width + tokens)
    weights = _weights(scores, None if s_aux is None else s_aux.view(1, -1, g, 1)).to(value.dtype)
    out = _product(weights[..., width:], value)
    if width:
        out = layout.scatter(_product(layout.gather(weights[..., :width]), prefix_v), g) + out
    return out.reshape(rows, 1, heads, -1).to(query.dtype).contiguous(), None  # some models view it


def _product(a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
    """(..., m, k) @ (..., k, n) * scale, in float32; of bfloat16 only on a GPU, which adds up in float32 anyway."""
    if a.dtype == torch.float32:
        return a @ b if scale == 1.0 else (a @ b) * scale
    shape = (*a.shape[:-1], b.shape[-1])
    out = torch.bmm(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), out_dtype=torch.float32).view(shape)
    return out if scale == 1.0 else out.mul_(scale)


def _cap(scores: Tensor, softcap: float | None) -> Tensor:
    """Scores that approach `softcap` and never pass it (Gemma 2)."""
    return scores if softcap is None else softcap * (scores / softcap).tanh()


def _weights(scores: Tensor, sink: Tensor | None) -> Tensor:
    """(..., keys) attention weights in float32. sink: a score, of the same dimensions, of nothing at all, which takes
    its share of the attention (gpt-oss)."""
    if sink is None:
        return scores.softmax(-1, dtype=torch.float32)
    sink = sink.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sink], -1).softmax(-1, dtype=torch.float32)[..., :-1]


def attend_packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Packed rows attend as their mask says, by two plain products: the processor's fused kernel, which saves memory,
    takes twice as long in bfloat16. Where nothing else is to be done with the scores, in strips (`rrm.models.strips`).

    query: (rows, heads, length, d); key: (rows, kv heads, length, d), value: (rows, kv heads, length, values' d). The
    mask has the window in it. Returns (rows, length, heads, values' d).
    """
    rows, heads, length, d = query.shape
    g = heads // key.shape[1]
    assert attention_mask is not None
    here = attention_mask.device.type == "cpu" and attention_mask.shape[1] == 1
    if here and softcap is None and s_aux is None:
        return attend_in_strips(query, key, value, attention_mask, d**-0.5 if scaling is None else scaling), None
    q = query * (d**-0.5 if scaling is None else scaling)
    key, value = (x[:, :, None].expand(-1, -1, g, -1, -1).reshape(rows, heads, length, -1) for x in (key, value))
    scores = _cap(q @ key.transpose(2, 3), softcap) + attention_mask
    weights = scores.softmax(-1) if s_aux is None else _weights(scores, s_aux.view(1, -1, 1, 1)).to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionInterface.register(PACKED, attend_packed)


@contextmanager
def _through(config: Any, name: str, on: bool) -> Iterator[None]:
    before = config._attn_implementation
    if on:
        config._attn_implementation = name
    try:
        yield
    finally:
        if on:
            config._attn_implementation = before


def grouped(config: Any, on: bool) -> AbstractContextManager[None]:
    """Within it, a model with this config decodes through `attend` (if `on`)."""
    return _through(config, NAME, on)


def materialized(config: Any, on: bool) -> AbstractContextManager[None]:
    """Within it, a model with this config runs packed rows through `attend_packed` (if `on`)."""
    return _through(config, PACKED, on)


def eagerly(config: Any, on: bool) -> AbstractContextManager[None]:
    """Within it, a model with this config attends as transformers writes it out (if `on`)."""
    return _through(config, "eager", on)


def flexible(config: Any) -> AbstractContextManager[None]:
    """Within it, a model with this config runs packed rows through transformers' flex attention."""
    return _through(config, "flex_attention", True)


def spanning(config: Any) -> AbstractContextManager[None]:
    """Within it, a model with this config runs packed rows through `rrm.models.spans`."""
    return _through(config, SPANS, True)


def branch(layers: Sequence[GroupLayer], n: int, pad: Tensor, room: int, joined: bool) -> Layout:
    """`n` rows after each prefix, in order. `pad`: (cases, width) bool, where the prefixes are padded."""
    case = torch.arange(len(pad), device=pad.device).repeat_interleave(n)
    gaps = None
    if bool(pad.any()):
        gaps = torch.zeros(pad.shape, device=pad.device).masked_fill_(pad, -torch.inf)[:, None, None]
    layout = Layout.of(case, gaps)
    for layer in layers:
        layer.branch(layout, room, joined)
    return layout


def drop(layers: Sequence[GroupLayer], layout: Layout, keep: Tensor) -> Layout:
    """Keep only the rows `keep` (ascending), and the cases that still have one."""
    cases, case = torch.unique(layout.case[keep], return_inverse=True)
    after = Layout.of(case, None if layout.pad is None else layout.pad[cases])
    for layer in layers:
        layer.select(keep, cases, after)
    return after
