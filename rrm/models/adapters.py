"""The LoRA adapters on one network: made and dropped by PEFT, and switched here.

A tree has two a node. PEFT goes through all of them, in every layer, for each that is added or turned on, and freezes
those that are off: autograd would drop the gradients of a graph that was built while they were on. So it is shown only
the one that is added, and which is on is said to the layers directly.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

RANK = 16
"""Rank of the LoRA adapters."""
PARTS = ("lora_A", "lora_B", "lora_dropout")
"""What a layer keeps of each adapter that is a module."""


def adapted(model: Any, adapter: str) -> Any:
    """PEFT's model around this one, with its first LoRA adapter, of this name."""
    from peft import LoraConfig, get_peft_model

    from rrm.models.adapter import AdaptedLinear

    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    config._register_custom_module({nn.Linear: AdaptedLinear})
    return get_peft_model(model, config, adapter_name=adapter)


class Adapters:
    """Those on one network, of which one or none is on.

    Attributes
    ----------
    on: the adapter that is on; None: the network computes as it was loaded.
    """

    def __init__(self) -> None:
        self.on: str | None = None
        self._peft: Any = None
        self._layers: list[Any] = []

    def __contains__(self, adapter: str) -> bool:
        return self._peft is not None and adapter in self._peft.peft_config

    def add(self, model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
        """Add one and turn it on; its parameters by their names in the network, without its own."""
        with _set_aside(self._layers), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # PEFT warns of a second adapter and of Conv1D; both are meant
            if self._peft is None:
                self._peft = adapted(model, adapter)
                self._layers = [module for module in own_modules(model) if has_adapters(module)]
            else:
                self._peft.add_adapter(adapter, copy.deepcopy(next(iter(self._peft.peft_config.values()))))
                self._peft.set_adapter(adapter)
            named = dict(model.named_parameters())
        self.on = "?"  # whatever PEFT thinks: it leaves adapters off that were off
        self.turn_on(adapter)
        return {name.replace(f".{adapter}.", "."): p for name, p in named.items() if f".{adapter}." in name}

    def turn_on(self, adapter: str | None) -> None:
        """Have this one on, or none."""
        if self.on == adapter:
            return
        for layer in self._layers:
            layer._disable_adapters = adapter is None
            if adapter is not None:
                layer._active_adapter = [adapter]
        self.on = adapter

    def merge(self, adapter: str) -> nn.Module:
        """The network with this one in its weights; nothing else of it can be used afterwards."""
        merged: nn.Module = self._peft.merge_and_unload(adapter_names=[adapter])
        return merged

    def drop(self, adapter: str) -> nn.Module | None:
        """Free one; none is on then. The network without adapters, if it was the last."""
        self.turn_on(None)
        if len(self._peft.peft_config) == 1:
            network: nn.Module = self._peft.unload()
            self._peft, self._layers = None, []
            return network
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT says which adapter is next; none is on
            self._peft.delete_adapter(adapter)
        for layer in self._layers:  # it has frozen all but the next
            for part in (layer.lora_A, layer.lora_B):
                part.requires_grad_(True)
        return None


def own_modules(module: nn.Module) -> Iterator[nn.Module]:
    """A network's modules without what is within adapted layers: a tree's adapters are many."""
    yield module
    if not has_adapters(module):
        for child in module.children():
            yield from own_modules(child)


def has_adapters(module: nn.Module) -> bool:
    """Whether it is a layer with adapters around it; said without PEFT, which takes a second to import."""
    return hasattr(module, PARTS[0])


@contextmanager
def _set_aside(layers: list[Any]) -> Iterator[None]:
    """Within it the layers have no adapters; afterwards those of before, and those that were added."""
    parts = [getattr(layer, part)._modules for layer in layers for part in PARTS]
    before = [dict(modules) for modules in parts]
    for modules in parts:
        modules.clear()
    try:
        yield
    finally:
        for modules, old in zip(parts, before, strict=True):
            new = dict(modules)
            modules.clear()
            modules.update(old | new)
