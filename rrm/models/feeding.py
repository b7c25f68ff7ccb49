"""Which linear layers of a network are given one and the same input: their products can be one product.

Queries, keys and values are made of the same numbers, and so are a gate and what it gates; which layers these are is
called otherwise in each architecture. So a pass over two tokens is watched once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from rrm.models.adapters import has_adapters
from rrm.models.attention import GroupLayer
from rrm.models.interface import PolicyModel

KEPT = "_fed_alike"
"""Where a network keeps what was found: its layers stay what they are, adapted or not."""

Names = tuple[str, ...]


def fed_alike(fork: PolicyModel) -> tuple[Names, ...]:
    """The names of the linear layers in a fork's trunk that are called with their input and nothing else, each once;
    those that are called one after the other with the same tensor are together."""
    found: tuple[Names, ...] | None = getattr(fork.network, KEPT, None)
    if found is None:
        found = _watched(fork.backbone.start if fork.network is fork.backbone.model else fork)
        setattr(fork.network, KEPT, found)
    return found


def linear_layers(module: nn.Module, under: str = "") -> dict[str, nn.Module]:
    """Name -> layer; an adapted layer as the adapter around it, without its parts: a tree's adapters are many."""
    out: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        if type(child) is nn.Linear or has_adapters(child):
            out[under + name] = child
        else:
            out.update(linear_layers(child, f"{under}{name}."))
    return out


def is_adapted(layer: nn.Module) -> bool:
    """Whether its adapters are computed here (`rrm.models.adapter.AdaptedLinear`), and not by PEFT's own code."""
    return has_adapters(layer) and hasattr(layer, "rounded")


def _watched(fork: PolicyModel) -> tuple[Names, ...]:
    calls: list[tuple[str, Tensor, int]] = []
    odd: set[str] = set()

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
                calls.append((name, args[0], args[0]._version))
            else:
                odd.add(name)

        return hook

    layers = linear_layers(fork.network)
    hooks = [module.register_forward_pre_hook(watch(name), with_kwargs=True) for name, module in layers.items()]
    try:
        with torch.inference_mode(False), torch.no_grad():  # inference would not count what is written in place
            cache = Cache(layer_class_to_replicate=GroupLayer)  # as decoding has: a pass without may be compiled
            fork.run(torch.tensor([[0, 0]]), torch.tensor([[0, 1]]), None, cache)
    finally:
        for hook in hooks:
            hook.remove()

    times = Counter(name for name, _, _ in calls)
    groups: dict[str, list[str]] = {}  # by the first of them
    first, given = "", (torch.empty(0), 0)
    for name, x, version in calls:
        if times[name] > 1 or name in odd:
            first = ""
            groups[name] = [name]
        elif first and given[0] is x and given[1] == version:
            groups[first].append(name)
        else:
            first, given = name, (x, version)
            groups[name] = [name]
    return tuple(tuple(group) for name, group in groups.items() if name not in odd)
