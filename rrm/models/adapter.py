"""A LoRA layer (Hu et al. 2021, arXiv 2106.09685) computed as one operation.

    y = x W' + b + scaling * (x A') B'

PEFT's own layer casts, scales and adds in passes of their own over everything that a linear layer gives; on a
processor they cost as much as the products that they serve. Here the products add up in place. The base weights are
frozen, in float32, bfloat16, or in codes; A and B stay float32 and are rounded for each pass: they are small.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from rrm.models.quantizing import QuantizedLinear

FEW = 64
"""With fewer tokens than this (decoding) it is cheaper to widen them than to round A and B."""


def _weight(base: nn.Linear, dtype: torch.dtype) -> Tensor:
    """(out, in) the base's weight; of codes (`rrm.models.quantizing`) made for this pass."""
    return base.widened(dtype) if isinstance(base, QuantizedLinear) else base.weight


def _adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, low_a: Tensor, low_b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(..., out) what the layer gives; and (tokens, in) what it was given, (tokens, rank) what A made of it."""
    flat = x.reshape(-1, x.shape[-1])
    down = flat @ low_a.T
    # Falcon adds to what a layer gives in place, which autograd allows on a tensor, but not on a view made here.
    y = x.new_empty(*x.shape[:-1], len(weight))
    flat_y = y.view(-1, len(weight))
    if _there(x) and _joins(len(flat), x.shape[-1], len(weight)):
        _into(torch.cat([flat, down], 1), torch.cat([weight, low_b], 1), bias, flat_y)
    else:
        _into(flat, weight, bias, flat_y)
        flat_y.addmm_(down, low_b.T)  # in place: to add to another tensor would copy it first
    return y, flat, down


def _there(x: Tensor) -> bool:
    """Whether it is on a GPU."""
    return x.is_cuda


def _into(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor) -> None:
    """y = x W' + b, where y is."""
    if bias is None:
        torch.mm(x, weight.T, out=y)
    else:
        torch.addmm(bias, x, weight.T, out=y)


def _joins(tokens: int, narrow: int, wide: int) -> bool:
    """Whether a GPU computes [x, x A'] [W, B]' faster than it adds (x A') B' to x W': what goes in, and the weight, are
    copied, and what comes out, which is wider, is not read and written once more."""
    return tokens * (wide - narrow) > wide * narrow


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Linear, a: Tensor, b: Tensor, scaling: float) -> Any:
        low_a, low_b = a.to(x.dtype), (b * scaling).to(x.dtype)
        y, flat, down = _adapted(x, _weight(base, x.dtype), base.bias, low_a, low_b)
        ctx.save_for_backward(flat, low_a, low_b, down)
        ctx.base, ctx.scaling, ctx.shape = base, scaling, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        flat, low_a, low_b, down = ctx.saved_tensors
        g = grads[0].reshape(-1, grads[0].shape[-1])
        g_down = g @ low_b  # (tokens, rank)
        to_x = None
        if ctx.needs_input_grad[0]:
            weight = _weight(ctx.base, g.dtype)
            if _there(g) and _joins(len(g), *weight.shape):
                to_x = (torch.cat([g, g_down], 1) @ torch.cat([weight, low_a])).view(ctx.shape)
            else:
                to_x = (g @ weight).addmm_(g_down, low_a).view(ctx.shape)
        to_a = g_down.T @ flat
        to_b = g.T @ down if _there(g) else (down.T @ g).T  # the same, and faster on a processor
        return to_x, None, to_a.float(), to_b.float() * ctx.scaling, None


class AdaptedLinear(Linear):
    """PEFT's adapter of a linear layer, without dropout; saved, merged and switched as PEFT does."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., in) -> (..., out), by the one adapter that is on."""
        name = self.on
        if name is None:
            out: Tensor = self.base_layer(x)
            return out
        base: Any = self.base_layer
        a: Any = self.lora_A[name].weight
        b: Any = self.lora_B[name].weight
        if not torch.is_grad_enabled() and x.shape[:-1].numel() < FEW and x.dtype != torch.float32:
            few: Tensor = base(x)
            if x.device.type != "cpu":  # where a step may be recorded, nothing may be kept from within it
                return few.add_(self.lora_B[name](self.lora_A[name](x.float())).mul_(self.scaling[name]))
            low_a, low_b = self.rounded(name, torch.float32)
            return few.add_((x.reshape(-1, x.shape[-1]).float() @ low_a.T @ low_b.T).view_as(few))
        if not torch.is_grad_enabled():
            out = _adapted(x, _weight(base, x.dtype), base.bias, *self.rounded(name, x.dtype))[0]
            return out
        adapted: Tensor = _Adapted.apply(x, base, a, b, self.scaling[name])  # type: ignore[no-untyped-call]
        return adapted

    @property
    def on(self) -> str | None:
        """The adapter that is on here; None: the base computes by itself."""
        name = self.active_adapters[0]
        return None if self.disable_adapters or self.merged or name not in self.lora_A else name

    def rounded(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(rank, in) A and (out, rank) scaled B in the precision of a pass; those that were used last are kept while
        they do not change, since decoding asks for them at every token."""
        a: Any = self.lora_A[name].weight
        b: Any = self.lora_B[name].weight
        stamp = (name, dtype, a._version, b._version)
        kept: tuple[Any, Tensor, Tensor] | None = vars(self).get("_low")
        if kept is None or kept[0] != stamp or kept[1].device != a.device:
            kept = (stamp, a.to(dtype), (b * self.scaling[name]).to(dtype))
            vars(self)["_low"] = kept
        return kept[1], kept[2]
