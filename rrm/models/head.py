"""The output embedding in bfloat16, and exact where it matters.

A large vocabulary makes the output embedding the dearest product of a small model: of 0.5 B parameters with 152,000
tokens, decoding 32 rows, it took longer in float32 than all layers in bfloat16. A product in bfloat16 is four times as
fast, but gives logits of 8 bits: some hundredths of a nat off. So the few that decide are computed again in float32,
from the same weights: the `TOP` largest, among those that may come. What is left to the rough ones is the tail of the
sum over all tokens, where errors are weighed by the little probability that is there, and mostly cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rrm.models.triton_check import available

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
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (weight,) = ctx.saved_tensors
        return (grads[0].to(weight.dtype) @ weight).float(), None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(tokens, vocabulary) in float32, of (tokens, d) and bfloat16 weights."""
    if not widens(x):
        return nn.functional.linear(x.to(weight.dtype), weight, bias).float()
    logits = torch.mm(x.to(weight.dtype), weight.T, out_dtype=torch.float32)
    return logits if bias is None else logits.add_(bias)


class SlopeKept(torch.autograd.Function):
    """Numbers (tokens,) of hidden states (tokens, d), the first argument of five, whose slopes (tokens, d) the forward
    pass has found and saved."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Slopes times what comes back."""
        (slope,) = ctx.saved_tensors
        return grads[0][:, None] * slope, None, None, None, None


class _Chosen(SlopeKept):
    """Log-probabilities of targets, without keeping what is as large as the vocabulary. Their slope in the hidden state
    is (one-hot - softmax) W = W[target] - softmax W, and hangs on nothing that comes later: it is made at once, while
    the logits are there, and the backward pass only scales it. A pass over all logits takes a GPU longer than their
    product; with kernels (`rrm.models.kernels`) there are three."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, restrict: Callable[[Tensor], Tensor]
    ) -> Tensor:
        x = x.to(weight.dtype)
        logits = restrict(_product(x, weight, bias))
        wanted = ctx.needs_input_grad[0]
        if available(logits.device):
            from rrm.models import kernels

            whole, chances = kernels.chances(logits, weight.dtype if wanted else None)
            chosen = logits.gather(1, targets[:, None])[:, 0] - whole
        else:
            logits = logits.log_softmax(1)  # writes what nobody reads, and is still faster than logsumexp
            chosen = logits.gather(1, targets[:, None])[:, 0]
            chances = torch.empty_like(logits, dtype=weight.dtype) if wanted else None
            if chances is not None:
                torch.exp(logits, out=chances)  # rounds as it goes
        if chances is not None:
            own = weight[targets].float().masked_fill_(chosen[:, None] == -torch.inf, 0)  # what may not come stays
            ctx.save_for_backward(own.sub_(_product(chances, weight.T, None)))
        return chosen


def chosen_logprobs(
    head: nn.Linear, hidden: Tensor, targets: Tensor, restrict: Callable[[Tensor], Tensor]
) -> Tensor:
    """(tokens,) log-probabilities of targets (tokens,), given hidden states (tokens, d), by logits in bfloat16's
    products. restrict: sets logits to -inf; called without a gradient."""
    logprobs: Tensor = _Chosen.apply(hidden, head.weight, head.bias, targets, restrict)  # type: ignore[no-untyped-call]
    return logprobs


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
