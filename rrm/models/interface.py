"""What sampling and the checks of a model need of it: a backbone and its forks are such (`rrm.models.backbone`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from rrm.core.parallel import World
from rrm.models.architecture import Architecture
from rrm.models.capacity import Capacity
from rrm.models.form import Forms
from rrm.models.packing import Packed, PrefixGroup
from rrm.models.parking import Parking
from rrm.models.precision import Precision
from rrm.models.visibility import Visibility


class SharedModel(Protocol):
    """What all policies over one network share."""

    name: str
    model: Any
    tokenizer: Any
    architecture: Architecture
    engine: Any  # `rrm.models.verification.Engine`, which needs this file
    d: int
    layers: int
    limit: int
    vocabulary: int
    forms: Forms
    adapters: Literal["full", "lora"]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""

    @property
    def precision(self) -> Precision:
        """What the frozen weights are kept in."""

    @property
    def capacity(self) -> Capacity:
        """How much the device takes at once."""

    @property
    def convoy(self) -> Any:
        """Who gathers the layers, if these are shared out among processes (`rrm.models.convoy`)."""

    @property
    def start(self) -> PolicyModel:
        """The starting model."""

    def check_length(self, tokens: int) -> None:
        """Raises `ContextError` if a sequence of so many tokens is too long for the model."""


class Trunk(SharedModel, Protocol):
    """What a fork needs of its backbone."""

    compile: bool
    passing: threading.RLock
    parking: Parking
    world: World

    @property
    def fingerprint(self) -> str:
        """Short hash of the starting weights."""

    @property
    def flexes(self) -> bool:
        """Whether long packed rows go through flex attention."""

    @property
    def spans(self) -> bool:
        """Whether packed rows go through flash attention, whatever their length (`rrm.models.spans`)."""

    @property
    def turned(self) -> Callable[..., Any] | None:
        """What turns queries and keys on a GPU, in the place of the network's own function (`rrm.models.fusing`)."""

    def budget(self, training: bool) -> int:
        """Cells (rows * length) per forward pass."""

    def switch(self, fork: Any) -> None:
        """Make the shared network compute as a fork."""

    def merge(self, adapter: str) -> nn.Module:
        """The whole network with an adapter in it."""

    def release(self, fork: Any) -> None:
        """Free a fork's weights."""


class PolicyModel(Protocol):
    """A policy's passes; `rrm.models.fork.Fork` documents them."""

    network: nn.Module

    @property
    def backbone(self) -> SharedModel:
        """What it shares with others."""

    def parameters(self) -> list[nn.Parameter]:
        """What training changes."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Within it the network computes as this policy, and for nobody else."""

    def run(self, ids: Tensor, positions: Tensor, mask: Tensor | Visibility | None, cache: Any = None) -> Tensor:
        """Final hidden states (rows, length, d)."""

    def logits_at(self, hidden: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(tokens, d) -> (tokens, vocabulary), of what may come."""

    def token_logprobs(self, packed: Packed, hidden: Tensor | None = None) -> Tensor:
        """(tokens,) log-probabilities, in nats."""

    def logprobs(self, groups: Sequence[PrefixGroup], width: int | None = None) -> list[list[Tensor]]:
        """Per group, per segment: (length,) log-probabilities, in nats."""
