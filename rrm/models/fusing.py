"""Which parts of a network go through kernels of their own on a GPU (`rrm.models.kernels`): those that were seen to
give what the network's own code gives, forwards and backwards.

Nothing is read off an architecture's name. A norm is tried if it looks like one (a weight and `variance_epsilon`), a
gate if it has three projections and an activation, rotary positions if the attention's file has a function for them;
and what is not the same within rounding stays as it is. Where Triton is missing or refuses, all of it does.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rrm.core.seeding import generator
from rrm.models.architecture import RAW
from rrm.models.flexing import How, attends
from rrm.models.interface import Trunk
from rrm.models.precision import Precision
from rrm.models.triton_check import available

CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 3e-3}
"""How far from a part's own code a kernel may be, as a share of the length of what it gives."""
ROTARY = "apply_rotary_pos_emb"
"""What files of transformers call the function that turns queries and keys."""


def fuse(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Callable[..., Any] | None:
    """Put kernels in the place of a network's norms and gates, of each that was seen to be right on the device in the
    precision of its passes; returns the function that turns queries and keys, if there is one that is."""
    from rrm.models import kernels

    unfuse(network)
    for module in network.modules():
        for looks, run in ((_norms, _norm), (_gates, _gate)):
            # Each is tried: of two of one class, one may clamp or scale what the other does not.
            if looks(module) and _same(module, run, device, dtype):
                module.forward = partial(run, module)
    plain = _turning(network)
    if plain is None:
        return None

    def turned(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1, **more: Any
    ) -> tuple[Tensor, Tensor]:
        usual = unsqueeze_dim == 1 and not more and _there(q) and q.dim() == 4 and cos.dim() == 3
        if usual and q.shape[-1] == k.shape[-1] == cos.shape[-1] and q.dtype == k.dtype and q.shape[2] == cos.shape[1]:
            return kernels.rotated(q, cos, sin), kernels.rotated(k, cos, sin)
        found: tuple[Tensor, Tensor] = plain(q, k, cos, sin, unsqueeze_dim, **more)
        return found

    if not _turns(plain, turned, device, dtype):
        return None
    _dispatch(_file(network))
    return turned


def unfuse(network: nn.Module) -> None:
    """Norms and gates by the network's own code again."""
    for module in network.modules():
        forward = vars(module).get("forward")
        if isinstance(forward, partial) and forward.func in (_norm, _gate):
            del module.forward


class Fusion:
    """Of one backbone: what a GPU does in other ways than the network's own code says, asked again when the precision
    changes."""

    def __init__(self) -> None:
        self._known: tuple[Precision, Callable[..., Any] | None] | None = None
        self._attends: dict[tuple[How, Precision], bool] = {}

    def attends(self, backbone: Trunk, how: How) -> bool:
        """Whether packed rows may go through flash attention by spans, or through flex attention: on a GPU, once it
        gave there what a dense mask gives."""
        plain = backbone.device.type != "cuda" or backbone.compile or backbone.convoy is not None
        if plain or not backbone.engine.groups:
            return False
        if how == "spans" and (backbone.precision.dtype == torch.float32 or backbone.architecture.window is not None):
            return False
        key = (how, backbone.precision)
        if key not in self._attends:
            with torch.inference_mode(False):
                self._attends[key] = attends(backbone, how)
        return self._attends[key]

    def turned(self, backbone: Trunk) -> Callable[..., Any] | None:
        """What turns queries and keys on a GPU, and the network's norms and gates in kernels; None where they are not
        to be had, and for networks that are trained whole, compiled, or shared out among processes."""
        plain = backbone.adapters == "full" or backbone.compile or backbone.convoy is not None
        if plain or not available(backbone.device):
            if self._known is not None:  # it was made before anybody said that it is to be compiled
                unfuse(backbone.model)
                self._known = None
            return None
        if self._known is None or self._known[0] != backbone.precision:
            with torch.inference_mode(False):  # it may be asked while something is sampled, and tries gradients
                self._known = (backbone.precision, fuse(backbone.model, backbone.device, backbone.precision.dtype))
        return self._known[1]


def _there(x: Tensor) -> bool:
    """Whether it is where kernels run; what was fused may be moved to a processor later, and works there as before."""
    return x.is_cuda


_HERE = threading.local()
"""What turns queries and keys in this thread's pass: several networks of one file may compute at a time."""


@contextmanager
def turning(turned: Callable[..., Any] | None) -> Iterator[None]:
    """Within it, this thread turns queries and keys by this function, or by the network's own if it is None."""
    before = getattr(_HERE, "turned", None)
    _HERE.turned = turned
    try:
        yield
    finally:
        _HERE.turned = before


def _dispatch(file: types.ModuleType) -> None:
    """Have a file of transformers ask which function turns, once and for good."""
    plain = getattr(file, ROTARY)
    if hasattr(plain, "plain"):
        return

    def dispatched(*args: Any, **kwargs: Any) -> Any:
        return (getattr(_HERE, "turned", None) or plain)(*args, **kwargs)

    dispatched.plain = plain  # type: ignore[attr-defined]
    setattr(file, ROTARY, dispatched)


def _file(network: nn.Module) -> types.ModuleType:
    return sys.modules[type(network).__module__]


def _turning(network: nn.Module) -> Callable[..., Any] | None:
    found = getattr(_file(network), ROTARY, None)
    return getattr(found, "plain", found) if callable(found) else None


def _norms(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 1 and hasattr(module, "variance_epsilon")


def _norm(self: Any, hidden_states: Tensor, *more: Any, **named: Any) -> Tensor:
    from rrm.models import kernels

    usual = not more and not named and _there(hidden_states) and not self.weight.requires_grad
    if usual and hidden_states.dtype == self.weight.dtype:
        return kernels.normed(hidden_states, self.weight, self.variance_epsilon)
    found: Tensor = type(self).forward(self, hidden_states, *more, **named)
    return found


def _gates(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))


def _gate(self: Any, x: Tensor, *more: Any, **named: Any) -> Tensor:
    from rrm.models import kernels

    if more or named or not _there(x):
        plain: Tensor = type(self).forward(self, x, *more, **named)
        return plain
    found: Tensor = self.down_proj(kernels.gated(self.gate_proj(x), self.up_proj(x)))
    return found


def _same(module: Any, run: Callable[..., Tensor], device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `run` gives what the module's own code gives, and the gradient of its input: of numbers as they come, and
    of some so large that a clamp would show."""
    width = len(module.weight) if run is _norm else getattr(module.gate_proj, "in_features", 0)
    if not width or dtype not in CLOSE:
        return False
    x, mix = (torch.randn(5, 3, width, generator=generator("fusing", name)).to(device, dtype) for name in ("x", "mix"))
    try:
        return all(
            _close(found, right, dtype)
            for size in (3, 3000)
            for right, found in zip(
                *(_passed(partial(part, module), size * x, mix) for part in (type(module).forward, run)), strict=True
            )
        )
    except (*RAW, OSError):
        return False


def _passed(part: Callable[[Tensor], Tensor], x: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        given = x.clone().requires_grad_()
        out = part(given)
        (slope,) = torch.autograd.grad((out * mix).float().sum(), given)
    return out.detach(), slope


def _turns(right: Callable[..., Any], turned: Callable[..., Any], device: torch.device, dtype: torch.dtype) -> bool:
    """Whether queries and keys come out alike, and their gradients."""
    if dtype not in CLOSE:
        return False

    def drawn(name: str, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator("fusing", name)).to(device, dtype)

    q, k = drawn("q", 2, 7, 4, 32).transpose(1, 2), drawn("k", 2, 7, 2, 32).transpose(1, 2)
    cos, sin = drawn("cos", 2, 7, 32), drawn("sin", 2, 7, 32)
    found = []
    try:
        for function in (right, turned):
            with torch.enable_grad():
                one, other = q.detach().requires_grad_(), k.detach().requires_grad_()
                out = function(one, other, cos, sin)
                loss = sum((part * part).float().sum() for part in out)
                slopes = torch.autograd.grad(loss, (one, other))
            found.append([*(part.detach() for part in out), *slopes])
    except (*RAW, OSError):
        return False
    return all(_close(b, a, dtype) for a, b in zip(*found, strict=True))


def _close(found: Tensor, right: Tensor, dtype: torch.dtype) -> bool:
    if found.shape != right.shape or found.dtype != right.dtype:
        return False
    return bool((found.float() - right.float()).norm() <= CLOSE[dtype] * right.float().norm())
