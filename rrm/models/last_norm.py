"""The last normalization of a language model: what it makes sure of, whatever the tokens are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rrm.models.fork import Fork


@dataclass(frozen=True)
class LastNorm:
    """Final hidden states are gain * z + offset with |z|^2 <= d: each (d,), float32, on the CPU."""

    gain: Tensor
    offset: Tensor


def final_norm(fork: Fork) -> LastNorm | None:
    """Of the fork's network: the RMSNorm or LayerNorm whose output its final hidden states are, found by running it
    once. None where they are the output of something else."""
    outputs: list[tuple[nn.Module, Tensor]] = []

    def heard(module: nn.Module, given: object, out: object) -> None:
        if isinstance(out, Tensor):
            outputs.append((module, out))

    norms = [module for module in fork.network.modules() if "norm" in type(module).__name__.lower()]
    hooks = [module.register_forward_hook(heard) for module in norms]
    try:
        with torch.no_grad():
            hidden = fork.run(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long), None)
    finally:
        for hook in hooks:
            hook.remove()
    last = next((module for module, out in reversed(outputs) if torch.equal(out.float(), hidden)), None)
    weight = getattr(last, "weight", None)
    if last is None or not isinstance(weight, Tensor) or weight.dim() != 1:
        return None
    gain = weight.detach().float().cpu()
    bias = getattr(last, "bias", None)
    offset = torch.zeros_like(gain) if bias is None else bias.detach().float().cpu()
    if isinstance(last, nn.LayerNorm):
        return LastNorm(gain, offset)
    return _scaled(last, gain, offset)


def _scaled(last: nn.Module, gain: Tensor, offset: Tensor) -> LastNorm | None:
    """Of an RMSNorm, some of which multiply by the weight and some by 1 + weight: seen by what it makes of ones. None
    for one that does neither."""
    weight = next(last.parameters())
    with torch.no_grad():
        made = last(torch.ones(1, 1, len(gain), dtype=weight.dtype, device=weight.device)).float().cpu()[0, 0] - offset
    for one in (gain, 1 + gain):
        if torch.allclose(made, one, rtol=1e-2, atol=1e-2):
            return LastNorm(one, offset)
    return None
