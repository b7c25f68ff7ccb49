"""The state of optimizers as named tensors, so that it is kept as weights are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rrm.core.errors import RRMError

OPTIMIZER = "optimizer."
"""Names of such tensors begin with it."""
Optimizers = Mapping[str, Optimizer]
"""By name; "" for the only one."""


def moments(optimizers: Optimizers) -> dict[str, Tensor]:
    """A copy of their state: none of an optimizer that made no step."""
    found = {}
    for which, optimizer in optimizers.items():
        for number, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                found[_key(which, f"{number}.{name}")] = torch.as_tensor(value).clone()
    return found


def set_moments(optimizers: Optimizers, kept: Mapping[str, Tensor], who: str) -> None:
    """Give them the state that `moments` was taken of. Raises `RRMError` for what is not theirs, or lacks a part."""
    known: set[str] = set()
    for which, optimizer in optimizers.items():
        whole: dict[str, Any] = optimizer.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        sizes = dict(enumerate(p.shape for group in optimizer.param_groups for p in group["params"]))
        for number, size in sizes.items():
            start = _key(which, f"{number}.")
            own = {key: value for key, value in kept.items() if key.startswith(start)}
            for key, value in own.items():
                if value.dim() and value.shape != size:
                    raise RRMError(f"{who}: {key} is nothing of its optimizer's; it is of another algorithm or network")
                state.setdefault(number, {})[key.removeprefix(start)] = value.clone()
            known |= own.keys()
        if state and (set(state) != set(sizes) or len({frozenset(values) for values in state.values()}) > 1):
            raise RRMError(f"{who}: a part of the optimizer's state is missing; no weight may be made up")
        optimizer.load_state_dict(whole | {"state": state})
    if rest := sorted(set(kept) - known):
        raise RRMError(f"{who}: {rest[0]} is nothing of its optimizer's; it is of another algorithm or network")


def _key(which: str, name: str) -> str:
    return f"{OPTIMIZER}{which}.{name}" if which else f"{OPTIMIZER}{name}"
