"""One decoding step, recorded once and replayed for every further token: CUDA graphs.

A step of a small model is hundreds of short kernels, and on a GPU it waits for Python to launch them: 24 layers take
Python longer than the card. A recording is launched in one piece. What changes from step to step (the tokens, their
positions, the column of the cache that they go to) is read from tensors that stay where they are; the room for all
columns is there from the beginning, and those not written yet are hidden from attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from rrm.models.attention import GroupLayer, Steps, grouped
from rrm.models.interface import PolicyModel

FEWEST = 12
"""Tokens that are still to come for which a recording pays: it takes about as long as three steps."""


def records(fork: PolicyModel) -> bool:
    """Whether a model's steps can be recorded: on a GPU, with the grouped attention, and without windows, which would
    be cut out of the cache by Python's numbers."""
    backbone = fork.backbone
    return backbone.device.type == "cuda" and backbone.engine.groups and backbone.architecture.window is None


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

    def step(self, token: Tensor, position: Tensor) -> Tensor:
        """(rows, d) the hidden states after a token (rows,) each, at positions (rows, 1)."""
        self.token.copy_(token[:, None])
        self.position.copy_(position)
        self.steps.unseen.index_fill_(3, self.steps.column, 0.0)
        if self.graph is None and self._taken:  # the first step went as usual, and so has set up all libraries
            self.graph = self._record()
        if self.graph is None:
            hidden = self._run()
        else:
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
