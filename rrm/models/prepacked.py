"""Frozen weights laid out once for all steps of decoding, as a processor's products want them.

oneDNN multiplies blocks, and lays a plain weight out in blocks at every call. For a pass over hundreds of tokens that
is nothing; for a step of a few rows it takes longer than the product: decoding 8 rows of a model of 135 M parameters,
half of the time. So decoding lays the weights out before its first step, which costs about as much as six steps gain,
and forgets them after its last: they take the memory of the weights once more.

What else a step of a few rows waits for is the number of its operations. Layers that are given the same input
(`rrm.models.feeding`) are one product, and their adapters a part of it:

    [y1 | y2] = [x | x A1' | x A2'] [W1 B1 0 ; W2 0 B2]'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from rrm.models.feeding import fed_alike, is_adapted, linear_layers
from rrm.models.interface import PolicyModel

STEPS = 12
"""Fewest tokens for which it pays."""
SMALLEST = 1 << 24
"""Bytes of weights below which products do not wait for memory: then it pays for the sake of adapters only."""
LARGEST = 1 << 30
"""Bytes of the weights of the largest model that has room for two of them, whatever the machine: the last bits of a
product may depend on the layout, and must not depend on what else fills the memory."""


@contextmanager
def laid_out(fork: PolicyModel, rows: int, steps: int) -> Iterator[None]:
    """Within it, the frozen layers of a fork's network, in bfloat16 on a processor, multiply by weights laid out for so
    many rows, where a gradient is not wanted; everything else is as ever.

    rows: a hint; any number can be multiplied. steps: how many tokens are to be decoded.
    """
    backbone = fork.backbone
    fits = backbone.device.type == "cpu" and backbone.convoy is None and steps >= STEPS
    groups: list[list[nn.Module]] = []
    if fits:
        with fork.exclusive():  # which adapter is on counts
            groups = _groups(fork)
    patched: list[nn.Module] = []
    try:
        for group in groups:
            laid = _Laid(group, rows)
            for place, layer in enumerate(group):
                layer.forward = partial(laid.forward, place)
                patched.append(layer)
        yield
    finally:
        for layer in patched:
            vars(layer).pop("forward", None)  # the class's own again


def is_prepacked(layer: nn.Module) -> bool:
    """Whether a layer's weights are laid out."""
    return "forward" in vars(layer)


def _groups(fork: PolicyModel) -> list[list[nn.Module]]:
    """The layers that are laid out, those together that are given the same input; and the head."""
    layers = {name: layer for name, layer in linear_layers(fork.network).items() if _fits(layer)}
    size = sum(_base(layer).weight.nbytes for layer in layers.values())
    adapted = any(_adapter(layer) is not None for layer in layers.values())
    if size > LARGEST or not (adapted or size >= SMALLEST):
        return []
    found: list[list[nn.Module]] = []
    for names in fed_alike(fork):
        fitting = [layers[name] for name in names if name in layers]
        for dtype in {_base(layer).weight.dtype: None for layer in fitting}:
            found.append([layer for layer in fitting if _base(layer).weight.dtype == dtype])
    head: Any = fork.network.get_output_embeddings()  # type: ignore[operator]
    return [*found, [head]] if any(layer is head for layer in layers.values()) else found


def _fits(layer: nn.Module) -> bool:
    base = _base(layer)
    return (
        type(base) is nn.Linear and base.weight.device.type == "cpu" and not base.weight.requires_grad
        and not is_prepacked(layer)  # another thread is decoding
        and not (is_adapted(layer) and layer.merged)
        and lays_out(base.weight.dtype)
    )  # fmt: skip


def _base(layer: nn.Module) -> nn.Linear:
    base: nn.Linear = layer.base_layer if is_adapted(layer) else layer  # type: ignore[assignment]
    return base


def _adapter(layer: nn.Module) -> str | None:
    """The adapter that is on in a layer."""
    return layer.on if is_adapted(layer) else None  # type: ignore[return-value]


class _Laid:
    """Layers that are given the same input, as one product; computed when the first of them is called."""

    def __init__(self, layers: Sequence[nn.Module], rows: int) -> None:
        self.layers, self.adapters = layers, [_adapter(layer) for layer in layers]
        bases = [_base(layer) for layer in layers]
        self.sizes = [len(base.weight) for base in bases]
        low = [
            layer.rounded(name, base.weight.dtype) if name is not None else None  # type: ignore[operator]
            for layer, base, name in zip(layers, bases, self.adapters, strict=True)
        ]
        narrow = bases[0].in_features
        weight = bases[0].weight.new_zeros(sum(self.sizes), narrow + sum(len(one[0]) for one in low if one))
        at, column = 0, narrow
        for base, size, one in zip(bases, self.sizes, low, strict=True):
            weight[at : at + size, :narrow] = base.weight.detach()
            if one:
                weight[at : at + size, column : column + len(one[0])] = one[1].detach()
                column += len(one[0])
            at += size
        down = [one[0].detach() for one in low if one]
        self.down = torch.ops.mkldnn._reorder_linear_weight(torch.cat(down), rows) if down else None  # (ranks, in)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        self.bias = None
        if any(base.bias is not None for base in bases):
            each = [weight.new_zeros(len(base.weight)) if base.bias is None else base.bias.detach() for base in bases]
            self.bias = torch.cat(each)
        self.given: Tensor | None = None
        self.parts: list[Tensor | None] = []

    def forward(self, place: int, x: Tensor) -> Tensor:
        """(..., in) -> (..., out) of one of the layers."""
        layer = self.layers[place]
        if torch.is_grad_enabled() or _adapter(layer) != self.adapters[place]:  # another thread's fork
            plain: Tensor = type(layer).forward(layer, x)
            return plain
        if self.given is not x or self.parts[place] is None:
            self.given, self.parts = x, [*self._product(x)]
        part, self.parts[place] = self.parts[place], None
        if not any(one is not None for one in self.parts):
            self.given = None  # a prefill's activations are large
        assert part is not None
        return part

    def _product(self, x: Tensor) -> Sequence[Tensor]:
        multiplied = torch.ops.mkldnn._linear_pointwise
        whole = x if self.down is None else torch.cat([x, multiplied(x, self.down, None, "none", [], "")], -1)
        out: Tensor = multiplied(whole, self.weight, self.bias, "none", [], "")
        return torch.split(out, self.sizes, -1) if len(self.sizes) > 1 else (out,)


@cache
def lays_out(dtype: torch.dtype) -> bool:
    """Whether this torch, on this processor, can for weights of that type, and gives what the plain product gives."""
    ops = torch.ops.mkldnn
    if dtype not in (torch.float32, torch.bfloat16) or not torch._C._has_mkldnn:
        return False
    if dtype == torch.bfloat16 and not ops._is_mkldnn_bf16_supported():
        return False
    if not (hasattr(ops, "_reorder_linear_weight") and hasattr(ops, "_linear_pointwise")):
        return False
    x, weight = torch.linspace(-1, 1, 5 * 48).view(5, 48).to(dtype), torch.linspace(-3, 3, 32 * 48).view(32, 48)
    layer = nn.Linear(48, 32).requires_grad_(False)
    layer.weight.data, layer.bias.data = weight.to(dtype), torch.ones(32).to(dtype)
    near = 0.02 if dtype == torch.bfloat16 else 1e-4
    with torch.no_grad():
        try:
            found = _Laid([layer], 5).forward(0, x)
        except (RuntimeError, TypeError):  # its arguments are no promise
            return False
        return torch.allclose(found, layer(x), rtol=near, atol=near)
