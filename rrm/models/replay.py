"""One decoding step, recorded once and replayed for every further token: CUDA graphs.

A step of a small model is hundreds of short kernels, and on a GPU it waits for Python to launch them: 24 layers take
Python longer than the card. A recording is launched in one piece. What changes from step to step (the tokens, their
positions, the column of the cache that they go to) is read from tensors that stay where they are; the room for all
columns is there from the beginning, and those not written yet are hidden from attention.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import Cache

from rrm.core.errors import Notice
from rrm.models.adapters import own_modules
from rrm.models.attention import GroupLayer, Steps, grouped
from rrm.models.interface import PolicyModel

FEWEST = 12
"""Tokens that are still to come for which a recording pays: it takes about as long as three steps."""


_REFUSED: WeakSet[nn.Module] = WeakSet()
"""Networks whose step cannot be recorded: they ask the card for a number on the way."""


def records(fork: PolicyModel) -> bool:
    """Whether a model's steps can be recorded: on a GPU, with the grouped attention, and without windows, which would
    be cut out of the cache by Python's numbers."""
    backbone = fork.backbone
    if backbone.device.type != "cuda" or backbone.convoy is not None or fork.network in _REFUSED:
        return False
    return bool(backbone.engine.groups) and backbone.architecture.window is None


class ReplayedSteps:
    """Steps of the same rows, one token each.

    Parameters
    ----------
    layers: the cache's, after `branch`; their room takes all steps.
    rows: how many are decoded.
    used: how many columns of the room are written.
    """

    def __init__(self, fork: PolicyModel, cache: Cache, layers: Sequence[GroupLayer], rows: int, used: int) -> None:
        self.fork, self.cache, self.layers = fork, cache, layers
        device = fork.backbone.device
        self.token = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.position = torch.zeros_like(self.token)
        room = layers[0].k.shape[2]
        unseen = torch.full((1, 1, 1, room), -torch.inf, device=device)
        unseen[..., :used] = 0
        self.steps = Steps(torch.full((1,), used, device=device), unseen)
        for layer in layers:
            layer.steps = self.steps
        self.graph: Any = None
        self.hidden: Tensor | None = None
        self._taken = 0
        self._held: list[Any] = []

    def step(self, token: Tensor, position: Tensor) -> Tensor:
        """(rows, d) the hidden states after a token (rows,) each, at positions (rows, 1)."""
        card = self.token.device  # not always the process's current one, on which graphs are recorded
        with torch.cuda.device(card) if card.type == "cuda" else nullcontext():
            return self._step(token, position)

    def _step(self, token: Tensor, position: Tensor) -> Tensor:
        self.token.copy_(token[:, None])
        self.position.copy_(position)
        self.steps.unseen.index_fill_(3, self.steps.column, 0.0)
        if self.graph is None and self._taken == 1:  # the first went as usual, and so has set up all libraries
            try:
                self.graph = self._record()
            except RuntimeError as error:
                _REFUSED.add(self.fork.network)
                name = self.fork.backbone.name
                why = f"{name!r} decodes step by step: its step cannot be recorded ({str(error).splitlines()[0]})"
                warnings.warn(why, Notice, stacklevel=2)
        if self.graph is None:
            hidden = self._run()
        else:
            with self.fork.exclusive():
                self.graph.replay()
            assert self.hidden is not None
            hidden = self.hidden
        self._taken += 1
        self.steps.column.add_(1)
        return hidden

    def _record(self) -> Any:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with self.fork.exclusive(), torch.cuda.graph(graph):
            self.hidden = self._run()
        # The recording reads the rounded adapters where they are, and those that it rounds itself; another fork's pass
        # would let go of the former, or have the latter parked (`rrm.models.parking`).
        self._held = [vars(module).get("_low") for module in own_modules(self.fork.network)]
        self._held += [parameter.detach() for parameter in self.fork.parameters()]
        return graph

    def _run(self) -> Tensor:
        config = self.fork.network.config.get_text_config()  # type: ignore[union-attr, operator]
        with self.fork.exclusive(), grouped(config, True):
            return self.fork.run(self.token, self.position, None, self.cache)[:, -1]

    def close(self) -> None:
        """Let go of the recording, and let the layers count their columns again: the rows change."""
        for layer in self.layers:
            layer.steps = None
            layer.used = int(self.steps.column)
        self.graph = self.hidden = None
        self._held = []
