"""A LoRA layer (Hu et al. 2021, arXiv 2106.09685) computed as one operation.

    y = x W' + b + scaling * (x A') B'

PEFT's own layer casts, scales and adds in passes of their own over everything that a linear layer gives; on a
processor they cost as much as the products that they serve. Here the products add up in place. The base weights are
frozen, in float32 or bfloat16; A and B stay float32 and are rounded for each pass: they are small.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

FEW = 64
"""With fewer tokens than this (decoding) it is cheaper to widen them than to round A and B."""


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        low_a, low_b = a.to(x.dtype), (b * scaling).to(x.dtype)
        down = flat @ low_a.T  # (tokens, rank)
        # Falcon adds to what a layer gives in place, which autograd allows on a tensor, but not on a view made here.
        y = x.new_empty(*x.shape[:-1], len(weight))
        torch.addmm(nn.functional.linear(flat, weight, bias), down, low_b.T, out=y.view(-1, len(weight)))
        ctx.save_for_backward(flat, weight, low_a, low_b, down)
        ctx.scaling, ctx.shape = scaling, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        flat, weight, low_a, low_b, down = ctx.saved_tensors
        g = grads[0].reshape(-1, grads[0].shape[-1])
        g_down = g @ low_b  # (tokens, rank)
        to_x = torch.addmm(g @ weight, g_down, low_a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        to_a, to_b = g_down.T @ flat, (g.T @ down).float() * ctx.scaling
        return to_x, None, None, to_a.float(), to_b, None


class AdaptedLinear(Linear):
    """PEFT's adapter of a linear layer, without dropout; saved, merged and switched as PEFT does."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., in) -> (..., out), by the one adapter that is on."""
        name = self.active_adapters[0]
        if self.disable_adapters or self.merged or name not in self.lora_A:
            out: Tensor = self.base_layer(x)
            return out
        a, b, base = self.lora_A[name].weight, self.lora_B[name].weight, self.base_layer
        if not torch.is_grad_enabled() and x.shape[:-1].numel() < FEW and x.dtype != torch.float32:
            few: Tensor = base(x).add_(self.lora_B[name](self.lora_A[name](x.float())).mul_(self.scaling[name]))
            return few
        adapted: Tensor = _Adapted.apply(x, base.weight, base.bias, a, b, self.scaling[name])  # type: ignore[no-untyped-call]
        return adapted
