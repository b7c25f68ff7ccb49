"""Frozen weights laid out once for all steps of decoding, as a processor's products of bfloat16 want them.

oneDNN multiplies blocks, and lays a plain weight out in blocks at every call. For a pass over hundreds of tokens that
is nothing; for a step of a few rows it takes longer than the product: decoding 8 rows of a model of 135 M parameters,
half of the time. So decoding lays the weights out before its first step, which costs about as much as six steps gain,
and forgets them after its last: they take the memory of the weights once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from rrm.models.interface import PolicyModel

STEPS = 12
"""Fewest tokens for which it pays."""
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
    layers = _layers(fork.network) if fits and lays_out() else []
    if sum(layer.weight.nbytes for layer in layers) > LARGEST:
        layers = []
    try:
        for layer in layers:
            blocks = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
            layer.forward = partial(_linear, layer, blocks)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)  # the class's own again


def is_prepacked(layer: nn.Module) -> bool:
    """Whether a layer's weights are laid out."""
    return "forward" in vars(layer)


def _layers(network: nn.Module) -> list[nn.Linear]:
    return [
        module for module in network.modules()
        if type(module) is nn.Linear and module.weight.dtype == torch.bfloat16 and not module.weight.requires_grad
        and not is_prepacked(module)  # another thread is decoding
    ]  # fmt: skip


def _linear(layer: nn.Linear, blocks: Any, x: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return nn.functional.linear(x, layer.weight, layer.bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, blocks, layer.bias, "none", [], "")
    return out


@cache
def lays_out() -> bool:
    """Whether this torch, on this processor, can, and gives what the plain product gives."""
    ops = torch.ops.mkldnn
    if not (torch._C._has_mkldnn and ops._is_mkldnn_bf16_supported()):
        return False
    if not (hasattr(ops, "_reorder_linear_weight") and hasattr(ops, "_linear_pointwise")):
        return False
    x, weight = torch.linspace(-1, 1, 5 * 48).view(5, 48).bfloat16(), torch.linspace(-3, 3, 32 * 48).view(32, 48)
    layer = nn.Linear(48, 32)
    layer.weight.data, layer.bias.data = weight.bfloat16(), torch.ones(32).bfloat16()
    with torch.no_grad():
        try:
            found = _linear(layer, ops._reorder_linear_weight(layer.weight.detach(), 5), x)
        except (RuntimeError, TypeError):  # its arguments are no promise
            return False
        return torch.allclose(found.float(), layer(x).float(), rtol=0.02, atol=0.02)
