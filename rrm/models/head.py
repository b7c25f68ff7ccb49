"""The output embedding in bfloat16, and exact where it matters.

A large vocabulary makes the output embedding the dearest product of a small model: of 0.5 B parameters with 152,000
tokens, decoding 32 rows, it took longer in float32 than all layers in bfloat16. A product in bfloat16 is four times as
fast, but gives logits of 8 bits: some hundredths of a nat off. So the few that decide are computed again in float32,
from the same weights: the `TOP` largest, among those that may come. What is left to the rough ones is the tail of the
sum over all tokens, where errors are weighed by the little probability that is there, and mostly cancel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TOP = 64
"""Logits of each position that are exact."""
WIDENS = hasattr(torch.ops.aten.mm, "dtype")
"""Whether this torch can add up products of bfloat16 in float32 and give that (2.8 or newer)."""
WIDE = 16_384
"""Fewest tokens of a vocabulary for which it pays."""


class _Rough(torch.autograd.Function):
    """x W' in bfloat16, both ways; W is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        if widens(x):
            logits = torch.mm(x.to(weight.dtype), weight.T, out_dtype=torch.float32)
            return logits if bias is None else logits.add_(bias)
        return nn.functional.linear(x.to(weight.dtype), weight, bias).float()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (weight,) = ctx.saved_tensors
        return (grads[0].to(weight.dtype) @ weight).float(), None, None


def rough(head: nn.Linear, hidden: Tensor) -> Tensor:
    """(tokens, vocabulary) logits in float32, of the precision of bfloat16. hidden: (tokens, d), float32."""
    logits: Tensor = _Rough.apply(hidden, head.weight, head.bias)  # type: ignore[no-untyped-call]
    return logits


def widens(hidden: Tensor) -> bool:
    """Whether a product of bfloat16 comes out in float32, as it was added up, which a GPU does at no price: `rough`
    logits are then exact, since the trunk gives its hidden states in bfloat16."""
    return hidden.is_cuda and WIDENS


def sharpened(head: nn.Linear, hidden: Tensor, logits: Tensor) -> Tensor:
    """The logits with the `TOP` largest of each position computed in float32; what is -inf stays so.

    Parameters
    ----------
    hidden: (tokens, d), float32.
    logits: (tokens, vocabulary), from `rough`, maybe restricted.
    """
    values, top = logits.detach().topk(min(TOP, logits.shape[1]))
    exact = torch.einsum("td,tkd->tk", hidden, head.weight[top].float())
    if head.bias is not None:
        exact = exact + head.bias[top].float()
    return logits.scatter(1, top, exact.masked_fill(values == -torch.inf, -torch.inf))


def pays(output: nn.Module) -> bool:
    """Whether a model's output embedding is a plain one of a large vocabulary."""
    return type(output) is nn.Linear and output.out_features >= WIDE
