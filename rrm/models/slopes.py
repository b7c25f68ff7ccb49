"""Log-probabilities whose slopes are found with them, so that logits are computed once.

Logits of a large vocabulary are too many to be kept for the backward pass, and to compute them again there is a third
of the head's work. But a token's log-probability hangs on its own hidden state alone, and its slope,

    d log p / d x = W[target] - sum_v p_v W_v,

takes as many numbers as that has. So it is found while the logits are there, and the backward pass multiplies it by
what it is given (as Liger Kernel's fused linear cross-entropy does: Hsu et al. 2024, arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rrm.models.head import TOP, SlopeKept


class _Sloped(SlopeKept):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, restrict: Callable[[Tensor], Tensor]
    ) -> Tensor:
        logits = restrict(nn.functional.linear(x.to(weight.dtype), weight, bias).float())
        values, top = logits.topk(min(TOP, logits.shape[1]))
        rows = weight[top].float()  # (tokens, TOP, d)
        exact = torch.einsum("td,tkd->tk", x, rows)
        if bias is not None:
            exact += bias[top].float()
        logits.scatter_(1, top, exact.masked_fill_(values == -torch.inf, -torch.inf))
        chances = logits.softmax(1)
        best, at = exact.max(1)
        # Of the likeliest, whose chance is never so small that its logarithm would be off.
        whole = best - chances.gather(1, top.gather(1, at[:, None]))[:, 0].log()
        chosen = logits.gather(1, targets[:, None])[:, 0] - whole
        if ctx.needs_input_grad[0]:
            near = chances.gather(1, top)
            rest = chances.scatter_(1, top, 0.0).to(weight.dtype)
            slopes = weight[targets].float().masked_fill_(chosen[:, None] == -torch.inf, 0)
            slopes -= (rest @ weight).float()
            slopes -= torch.einsum("tk,tkd->td", near, rows)
            ctx.save_for_backward(slopes)
        return chosen


def sloped_logprobs(
    head: nn.Linear, hidden: Tensor, targets: Tensor, restrict: Callable[[Tensor], Tensor]
) -> Tensor:
    """(tokens,) log-probabilities of targets (tokens,), given hidden states (tokens, d) in float32, by the logits of
    `rrm.models.head.sharpened` of a frozen head in bfloat16. restrict: sets logits to -inf; called without a gradient.
    """
    found: Tensor = _Sloped.apply(hidden, head.weight, head.bias, targets, restrict)  # type: ignore[no-untyped-call]
    return found
