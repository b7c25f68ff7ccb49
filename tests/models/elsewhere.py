"""A pretended accelerator: tensors that say they are on another device and hold their values on the CPU.

Where a tensor of this device meets one of the CPU, an operation raises, as on a GPU; what a GPU allows is allowed
(numbers, indices and copies between devices). So the engine's handling of devices is tested on a machine without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta:0")
"""torch knows this name without hardware behind it, and its autograd runs it as it runs the CPU. With a number, because
PEFT leaves a further adapter where it is if one is on "meta"."""
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
"""Indices may be on the CPU."""


class Elsewhere(torch.Tensor):
    """A tensor on `DEVICE`; `held` has its values. One whose `data` was set to a tensor of the CPU is there, then."""

    held: torch.Tensor
    home = False
    """Whether it is on the CPU."""

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, real.shape, real.stride(), real.storage_offset(), dtype=real.dtype, layout=real.layout, device=DEVICE
        )
        made.held = real
        return made

    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        return torch.Tensor.data.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        self.home = not is_there(value)
        self.held = value.held if isinstance(value, Elsewhere) else value

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE if is_there(self) else torch.device("cpu")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return run(func, args, dict(kwargs or {}))


def is_there(x: Any) -> bool:
    """Whether a tensor is on `DEVICE`."""
    return isinstance(x, Elsewhere) and not x.home


class Accelerator(TorchDispatchMode):
    """Within it, tensors may be made on `DEVICE`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return run(func, args, dict(kwargs or {}))


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the values, and its results where the operands were or where `device` says."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with Accelerator():  # inference mode does not take these apart by itself
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    away = [x for x in tensors if is_there(x)]
    target = kwargs.get("device")
    if away and func not in COPIES:
        here = [x for x in (tensors[:1] if func in INDEXED else tensors) if not is_there(x) and x.dim()]
        if here or (func in INDEXED and not is_there(tensors[0])):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {DEVICE} and cpu")
    on = bool(away) if target is None else torch.device(target).type == DEVICE.type
    if func is aten.copy_.default:
        on = is_there(args[0])
    if target is not None and on:
        kwargs["device"] = torch.device("cpu")
    args, kwargs = tree_map(lambda x: x.held if isinstance(x, Elsewhere) else x, (args, kwargs))
    out = func(*args, **kwargs)
    if func._schema.name.endswith("_") and isinstance(tensors[0], Elsewhere):  # in place: the same tensor
        return tensors[0] if isinstance(out, torch.Tensor) else out
    if not on:
        return out
    return tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, out)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its parameters and buffers on `DEVICE`, values kept."""
    seen: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in [*module._parameters.items()]:
            if parameter is not None:
                if id(parameter) not in seen:
                    seen[id(parameter)] = torch.nn.Parameter(Elsewhere(parameter.data), parameter.requires_grad)
                module._parameters[name] = seen[id(parameter)]  # tied weights stay tied
        for name, buffer in [*module._buffers.items()]:
            if buffer is not None:
                module._buffers[name] = Elsewhere(buffer)  # type: ignore[assignment]
    return model
