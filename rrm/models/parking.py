"""Which forks' weights are on the device, and which wait on the host until they are used again.

A tree has two forks a node, and uses few of them at a time: a node's agent and reward model while it is trained, and
those of its assistants. What all take together on a GPU is held to a share of what was free there when the model was
loaded; beyond it the ones that were used least lately are moved to the host, and come back before a pass
(`Fork.exclusive`). They come back as they were, to the bit, and a parameter stays the object that it was: only its
numbers move.

Nothing moves that a graph or an optimizer hangs on. A pass whose gradient is wanted keeps its fork on the device until
its training is over (`Fork.training`), or, if nobody says so, for good.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakSet

import torch
from torch import nn

from rrm.models.room import available_memory

SHARE = 4
"""Forks may take one part in so many of what is free on the device once the model is there."""


def device_room(free: int) -> int:
    """Bytes that forks may take on a device, of those that are free there."""
    return free // SHARE


@dataclass
class Stay:
    """Where a fork's weights are, and why they stay."""

    used: int = 0
    """When it was used last, in uses of any."""
    passes: int = 0
    """That go on."""
    trainings: int = 0
    """That go on; or its network was given away."""
    graph: bool = False
    """Whether there was a pass whose gradient may still be asked for."""
    away: bool = False
    """Whether it is on the host."""


class Parked(Protocol):
    """What is parked: a fork (`rrm.models.fork`)."""

    trainable: dict[str, nn.Parameter]
    stay: Stay


@dataclass(eq=False)
class Parking:
    """The forks of one backbone.

    Attributes
    ----------
    device: where the model computes.
    free: bytes that were free there; None: all stay where they are. Not asked before there are two forks.
    host: bytes that the host has left, where that is known.
    lock: held while numbers move; whoever changes them outside of a training holds it, too.
    """

    device: Callable[[], torch.device]
    free: Callable[[], int | None]
    host: Callable[[], int | None] = available_memory
    lock: threading.RLock = field(default_factory=threading.RLock)
    _forks: WeakSet[Parked] = field(default_factory=WeakSet)
    _uses: int = 0

    def add(self, fork: Parked) -> None:
        """A fork whose weights were just made, on the device."""
        with self.lock:
            self._use(fork)
            self._forks.add(fork)
            self._make_room(fork)

    def bring(self, fork: Parked) -> None:
        """Have a fork's weights on the device, whatever else must leave for it."""
        with self.lock:
            self._use(fork)
            if fork.stay.away:
                self._make_room(fork)
                _move(fork.trainable, self.device())
                fork.stay.away = False

    def enter(self, fork: Parked) -> None:
        """Before a pass: its weights are on the device, and stay there until `leave`."""
        with self.lock:
            self.bring(fork)
            fork.stay.passes += 1
            fork.stay.graph = fork.stay.graph or torch.is_grad_enabled()

    def leave(self, fork: Parked) -> None:
        """After a pass."""
        fork.stay.passes -= 1

    def _use(self, fork: Parked) -> None:
        self._uses += 1
        fork.stay.used = self._uses

    def _make_room(self, fork: Parked) -> None:
        """Park what was used least lately until this fork has its place among the others."""
        others = [one for one in self._forks if one is not fork and one.trainable and not one.stay.away]
        free = self.free() if others and fork.trainable else None
        if free is None:
            return
        over = _bytes(fork) + sum(map(_bytes, others)) - device_room(free)
        for one in sorted(others, key=lambda other: other.stay.used):
            if over <= 0:
                return
            left = self.host()
            if left is not None and left < 2 * _bytes(one):  # a host without memory is worse than a full device
                return
            if not _stays(one):
                _move(one.trainable, torch.device("cpu"))
                one.stay.away = True
                over -= _bytes(one)


def _stays(fork: Parked) -> bool:
    stay = fork.stay
    return bool(stay.passes or stay.trainings or stay.graph) or any(p.grad is not None for p in fork.trainable.values())


def _bytes(fork: Parked) -> int:
    return sum(p.numel() * p.element_size() for p in fork.trainable.values())


def _move(weights: Mapping[str, nn.Parameter], where: torch.device) -> None:
    # A fork may be wanted while something is sampled; tensors of inference mode could never have a gradient.
    with torch.inference_mode(False), torch.no_grad():
        for parameter in weights.values():
            parameter.data = parameter.data.to(where)
