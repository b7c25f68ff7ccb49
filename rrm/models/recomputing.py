"""Layers that keep nothing of a pass but what they were given, and are computed again in the backward pass.

Memory then grows by one number for each hidden unit and layer of a token, instead of some forty; the price is one more
forward pass, about a third of the time (Chen et al. 2016, arXiv 1604.06174). The numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

Again = Callable[[], AbstractContextManager[None]]


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The network's layers as transformers marks them; none for an architecture that marks none."""
    found: list[nn.Module] = []

    def look(module: nn.Module) -> None:
        if isinstance(module, GradientCheckpointingLayer):
            found.append(module)
        else:
            for child in module.children():
                look(child)

    look(network)
    return found


@contextmanager
def recomputed(network: nn.Module, again: Again) -> Iterator[None]:
    """Within it, a pass through `network` keeps what its layers were given, and nothing else of them.

    again: what a layer is computed again in. The backward pass comes when whatever holds during the first pass is over,
        such as that an adapter is on; and, on a GPU, in another thread.
    """
    layers = layers_of(network)
    for layer in layers:
        layer.forward = partial(_kept_out, layer.forward, again)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again


def _kept_out(forward: Callable[..., Any], again: Again, *args: Any, **more: Any) -> Any:
    return checkpoint(
        forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), again()),
        **more,
    )  # fmt: skip
