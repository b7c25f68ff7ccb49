"""Frozen weights in 8 or 4 bits: a model of 70 billion parameters in the memory of one GPU, under adapters that train.

int8: blocks of 256 numbers, each in 8 bits of a dynamic code (Dettmers et al. 2021, arXiv 2110.02861). nf4: blocks of
64, each in 4 bits of the quantiles of a normal distribution (Dettmers et al. 2023, arXiv 2305.14314, section 3). Both
by bitsandbytes. A layer is widened to the precision of a pass when it is used, and again in the backward pass: nothing
but its codes is kept. Linear layers only, the output embedding excepted; whatever is trained stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rrm.core.errors import ModelError
from rrm.core.extras import bring

Kind = Literal["int8", "nf4"]
KINDS: tuple[str, ...] = get_args(Kind)
BLOCK = {"int8": 256, "nf4": 64}
BYTES = {"int8": 1 + 4 / 256, "nf4": 1 / 2 + 4 / 64}
"""Of a number of a linear layer, its share of its block's scale included."""


def _library() -> Any:
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise ModelError(
            f"weights of 8 and 4 bits need bitsandbytes; {bring('quantized')}"
        ) from error
    return functional


class QuantizedLinear(nn.Linear):
    """A frozen linear layer whose weight is kept as codes. `weight` is the packed codes, no number of the layer's.

    Raises `ModelError` if bitsandbytes is not there.
    """

    def __init__(self, linear: nn.Linear, kind: Kind, device: torch.device | None = None) -> None:
        nn.Module.__init__(self)
        library = _library()
        self.in_features, self.out_features, self.kind = linear.in_features, linear.out_features, kind
        weight = linear.weight.data.to(device or linear.weight.device, torch.bfloat16)
        if kind == "nf4":
            packed, state = library.quantize_4bit(weight, blocksize=BLOCK[kind], quant_type="nf4")
        else:
            packed, state = library.quantize_blockwise(weight, blocksize=BLOCK[kind])
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias
        self.register_buffer("scales", state.absmax, persistent=False)
        self.register_buffer("code", state.code, persistent=False)

    scales: Tensor
    code: Tensor

    def widened(self, dtype: torch.dtype) -> Tensor:
        """(out, in) the weight as its codes say it."""
        library = _library()
        state = library.QuantState(
            absmax=self.scales, shape=torch.Size((self.out_features, self.in_features)), code=self.code,
            blocksize=BLOCK[self.kind], quant_type=self.kind if self.kind == "nf4" else None, dtype=torch.bfloat16,
        )  # fmt: skip
        widen = library.dequantize_4bit if self.kind == "nf4" else library.dequantize_blockwise
        found: Tensor = widen(self.weight.data, state)
        return found.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        found: Tensor = _Widened.apply(x, self)  # type: ignore[no-untyped-call]
        return found


class _Widened(torch.autograd.Function):
    """A linear layer whose weight is not kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.widened(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] @ ctx.layer.widened(grads[0].dtype), None


def _plain(model: Any) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """(who holds it, its name there, the layer): the frozen linear layers of a model, under adapters or not."""
    head = model.get_output_embeddings()
    for path, module in list(model.named_modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and child is not head and "lora_" not in f"{path}.{name}":
                yield module, name, child


def quantize(model: Any, kind: Kind, device: torch.device | None = None) -> None:
    """Put codes in the place of a model's linear layers, one after the other; on `device`, or where they are.

    Raises `ModelError` if bitsandbytes is not there, or the model has no such layers (GPT-2's are of another kind).
    """
    found = list(_plain(model))
    if not found:
        raise ModelError(f"{type(model).__name__} has no plain linear layers, and cannot be kept in {kind}")
    for holder, name, layer in found:
        setattr(holder, name, QuantizedLinear(layer, kind, device))


def numbers(model: nn.Module) -> int:
    """How many numbers a model has, whatever they are kept in."""
    packed = {id(m.weight): m.in_features * m.out_features for m in model.modules() if isinstance(m, QuantizedLinear)}
    return sum(packed.get(id(p), p.numel()) for p in model.parameters())
