"""Frozen weights laid out once for all steps of decoding, as a processor's products want them.

oneDNN multiplies blocks, and lays a plain weight out in blocks at every call. For a pass over hundreds of tokens that
is nothing; for a step of a few rows it takes longer than the product: decoding 8 rows of a model of 135 M parameters,
half of the time. So decoding lays the weights out once it has taken some steps, which costs about as much as six steps
gain, and forgets them after its last: they take the memory of the weights once more.

What else a step of a few rows waits for is the number of its operations. Layers that are given the same input
(`rrm.models.feeding`) are one product, and their adapters a part of it:

    [y1 | y2] = [x | x A1' | x A2'] [W1 B1 0 ; W2 0 B2]'
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from rrm.models.attention import GroupLayer
from rrm.models.feeding import fed_alike, is_adapted, linear_layers
from rrm.models.interface import PolicyModel

BEGIN = 4
"""Steps that are taken before: outcomes may end, and then it would never have paid."""
STEPS = 8
"""Fewest steps still to come for which it pays."""
SMALLEST = 1 << 24
"""Bytes of the weights of the smallest model whose products wait for memory."""
LARGEST = 1 << 30
"""Bytes of the weights of the largest model that has room for two of them, whatever the machine: the last bits of a
product may depend on the layout, and must not depend on what else fills the memory."""
NEAR = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""How far from the layers' own code hidden states may be, as a share of their length."""
TRIED = "_tried_laid_out"
"""Where a network keeps in which precisions it was tried, and whether it was right."""


class LaidOut:
    """A context in which decoding on a processor lays out the frozen layers of a fork's network; they are their own
    again after it. Where a gradient is wanted, of several tokens of a row, and with other adapters they are all the
    while.

    rows: of a step; a hint, any number can be multiplied. steps: how many tokens are to be decoded.
    """

    def __init__(self, fork: PolicyModel, rows: int, steps: int) -> None:
        backbone = fork.backbone
        # A model that is copied for each fork must not be copied with layers that are laid out.
        fits = backbone.device.type == "cpu" and backbone.convoy is None and backbone.adapters == "lora"
        self._waits = fits and steps >= BEGIN + STEPS
        self._fork, self._rows = fork, rows
        self._laid: list[nn.Module] = []

    def __enter__(self) -> LaidOut:
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._laid:
            vars(layer).pop("forward", None)  # the class's own again
        self._laid = []

    def before(self, step: int) -> None:
        """Before a step of decoding, counted from 0."""
        if self._waits and step >= BEGIN:
            self._waits = False
            if groups := _groups(self._fork):
                self._lay_out(groups)

    def _lay_out(self, groups: Sequence[Sequence[nn.Module]]) -> None:
        tried = vars(self._fork.network).setdefault(TRIED, {})
        precision = self._fork.backbone.precision
        right = None if precision in tried else _hidden(self._fork)
        with self._fork.exclusive():  # which adapter is on counts
            for group in groups:
                laid = _Laid(group, self._rows)
                for place, layer in enumerate(group):
                    layer.forward = partial(laid.forward, place)
                    self._laid.append(layer)
        if right is not None:
            away = (_hidden(self._fork) - right).norm() / right.norm()
            tried[precision] = bool(away <= NEAR[precision.dtype])
        if not tried[precision]:
            self.__exit__()


def _hidden(fork: PolicyModel) -> Tensor:
    """(d,) of a first token, by a step like one of decoding."""
    cache = Cache(layer_class_to_replicate=GroupLayer)
    with torch.inference_mode():
        return fork.run(torch.tensor([[0]]), torch.tensor([[0]]), None, cache)[0, 0]


def is_prepacked(layer: nn.Module) -> bool:
    """Whether a layer's weights are laid out."""
    return "forward" in vars(layer)


def _groups(fork: PolicyModel) -> list[list[nn.Module]]:
    """The layers that are laid out, those together that are given the same input; and the head."""
    layers = {name: layer for name, layer in linear_layers(fork.network).items() if _fits(layer)}
    if not SMALLEST <= sum(_base(layer).weight.nbytes for layer in layers.values()) <= LARGEST:
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


def _version(layer: Any, adapter: str | None) -> tuple[int, int] | None:
    """Which changes with an adapter's weights."""
    if adapter is None:
        return None
    return layer.lora_A[adapter].weight._version, layer.lora_B[adapter].weight._version


class _Laid:
    """Layers that are given the same input, as one product; computed when the first of them is called."""

    def __init__(self, layers: Sequence[nn.Module], rows: int) -> None:
        self.layers, self.adapters = layers, [_adapter(layer) for layer in layers]
        self.versions = [_version(layer, name) for layer, name in zip(layers, self.adapters, strict=True)]
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
        several = x.dim() > 2 and x.shape[-2] > 1  # a prefill: its cache would keep a part, and with it the whole
        if several or torch.is_grad_enabled():
            return self._plain(place, x)
        if self.given is not x or self.parts[place] is None:
            if not self._computes(place):
                return self._plain(place, x)
            self.given, self.parts = x, [*self._product(x)]
        part, self.parts[place] = self.parts[place], None
        if not any(one is not None for one in self.parts):
            self.given = None
        assert part is not None
        return part

    def _plain(self, place: int, x: Tensor) -> Tensor:
        layer = self.layers[place]
        out: Tensor = type(layer).forward(layer, x)
        return out

    def _computes(self, place: int) -> bool:
        """Whether a layer is as it was when it was laid out: another thread may have turned on or changed an adapter.
        """
        layer, name = self.layers[place], self.adapters[place]
        return _adapter(layer) == name and _version(layer, name) == self.versions[place]

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
    layer = nn.Linear(48, 32, device="meta").to_empty(device="cpu").requires_grad_(False)  # nothing is drawn
    layer.weight.data, layer.bias.data = weight.to(dtype), torch.ones(32).to(dtype)
    near = 0.02 if dtype == torch.bfloat16 else 1e-4
    with torch.no_grad():
        try:
            found = _Laid([layer], 5).forward(0, x)
        except (RuntimeError, TypeError):  # its arguments are no promise
            return False
        return torch.allclose(found, layer(x), rtol=near, atol=near)
