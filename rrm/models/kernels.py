"""What lies between the products of a layer, each in one kernel for a GPU. Triton comes with torch's CUDA builds.

Eager torch reads and writes every activation several times for a norm, a gate or a rotation; of a policy step of 0.5 B
parameters on an H200 that took longer than the products. A norm's backward pass here gives no gradient of its weight:
that is frozen under adapters. Numbers are float32 within a kernel and rounded where the layer's own code rounds.

Imported late: without a GPU there is no Triton. With TRITON_INTERPRET=1 the kernels run on a processor
(`tests/models/test_kernels.py`).
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Triton reads the functions' own text.

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

VOCABULARY = 4096
"""Logits that are read at once."""
FLAT = 4096
"""Activations of a gate that one program takes."""


def _warps(block: int) -> int:
    return 4 if block <= 2048 else 8 if block <= 8192 else 16


# --- root mean square norms ----------------------------------------------------------------------------


@triton.jit
def _norm_kernel(x_at, w_at, y_at, rstd_at, cols, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    inside = col < cols
    x = tl.load(x_at + row * cols + col, mask=inside, other=0.0)
    wide = x.to(tl.float32)
    rstd = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / cols + eps)
    w = tl.load(w_at + col, mask=inside, other=0.0)
    tl.store(y_at + row * cols + col, (w * (wide * rstd).to(x.dtype)).to(x.dtype), mask=inside)
    tl.store(rstd_at + row, rstd)


@triton.jit
def _norm_slope_kernel(dy_at, x_at, w_at, rstd_at, dx_at, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    inside = col < cols
    at = row * cols + col
    x = tl.load(x_at + at, mask=inside, other=0.0)
    rstd = tl.load(rstd_at + row)
    g = tl.load(dy_at + at, mask=inside, other=0.0).to(tl.float32)
    g *= tl.load(w_at + col, mask=inside, other=0.0).to(tl.float32)
    normed = x.to(tl.float32) * rstd
    dx = rstd * (g - normed * (tl.sum(g * normed, 0) / cols))
    tl.store(dx_at + at, dx.to(x.dtype), mask=inside)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        cols = x.shape[-1]
        rows = x.numel() // cols
        y, rstd = torch.empty_like(x), torch.empty(rows, dtype=torch.float32, device=x.device)
        block = triton.next_power_of_2(cols)
        _norm_kernel[(rows,)](x, weight, y, rstd, cols, eps, BLOCK=block, num_warps=_warps(block))
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, rstd = ctx.saved_tensors
        cols, dx = x.shape[-1], torch.empty_like(x)
        block = triton.next_power_of_2(cols)
        _norm_slope_kernel[(len(rstd),)](
            grads[0].contiguous(), x, weight, rstd, dx, cols, BLOCK=block, num_warps=_warps(block)
        )
        return dx, None, None


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(..., d) divided by the root of its mean square, rounded, and multiplied with a frozen weight (d,) (Zhang and
    Sennrich 2019, arXiv 1910.07467, equation 4)."""
    out: Tensor = _Normed.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


# --- gates ---------------------------------------------------------------------------------------------


@triton.jit
def _gate_kernel(gate_at, up_at, out_at, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    gate = tl.load(gate_at + at, mask=inside, other=0.0)
    up = tl.load(up_at + at, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    opened = (wide * tl.sigmoid(wide)).to(gate.dtype)
    tl.store(out_at + at, opened * up, mask=inside)


@triton.jit
def _gate_slope_kernel(dout_at, gate_at, up_at, dgate_at, dup_at, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    dout = tl.load(dout_at + at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_at + at, mask=inside, other=0.0)
    up = tl.load(up_at + at, mask=inside, other=0.0).to(tl.float32)
    wide = gate.to(tl.float32)
    share = tl.sigmoid(wide)
    tl.store(dgate_at + at, (dout * up * share * (1.0 + wide * (1.0 - share))).to(gate.dtype), mask=inside)
    tl.store(dup_at + at, (dout * wide * share).to(gate.dtype), mask=inside)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        out, count = torch.empty_like(gate), gate.numel()
        _gate_kernel[(triton.cdiv(count, FLAT),)](gate, up, out, count, BLOCK=FLAT, num_warps=8)
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up = ctx.saved_tensors
        to_gate, to_up, count = torch.empty_like(gate), torch.empty_like(up), gate.numel()
        _gate_slope_kernel[(triton.cdiv(count, FLAT),)](
            grads[0].contiguous(), gate, up, to_gate, to_up, count, BLOCK=FLAT, num_warps=8
        )
        return to_gate, to_up


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, of one shape (Shazeer 2020, arXiv 2002.05202, equation 5). What is kept for the backward pass is
    what was given."""
    out: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
    return out


# --- rotary positions ----------------------------------------------------------------------------------


@triton.jit
def _rotate_kernel(
    x_at, y_at, cos_at, sin_at, x_row, x_head, x_token, y_row, y_head, y_token, turn_row, length, heads, half,
    BACK: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    row, token = program // length, program % length
    head, d = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (d < half)
    turn = row * turn_row + token * 2 * half + d
    cos_1 = tl.load(cos_at + turn, mask=d < half, other=0.0).to(tl.float32)
    cos_2 = tl.load(cos_at + turn + half, mask=d < half, other=0.0).to(tl.float32)
    sin_1 = tl.load(sin_at + turn, mask=d < half, other=0.0).to(tl.float32)
    sin_2 = tl.load(sin_at + turn + half, mask=d < half, other=0.0).to(tl.float32)
    at = x_at + row * x_row + head * x_head + token * x_token + d
    x_1 = tl.load(at, mask=inside, other=0.0)
    x_2 = tl.load(at + half, mask=inside, other=0.0).to(tl.float32)
    wide = x_1.to(tl.float32)
    if BACK:
        y_1, y_2 = wide * cos_1 + x_2 * sin_2, x_2 * cos_2 - wide * sin_1
    else:
        y_1, y_2 = wide * cos_1 - x_2 * sin_1, x_2 * cos_2 + wide * sin_2
    to = y_at + row * y_row + head * y_head + token * y_token + d
    tl.store(to, y_1.to(x_1.dtype), mask=inside)
    tl.store(to + half, y_2.to(x_1.dtype), mask=inside)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    rows, heads, length, d = x.shape
    if x.stride(3) != 1:
        x = x.contiguous()
    y = torch.empty_like(x)  # in the order of x: a model's heads lie side by side
    if y.stride(3) != 1:
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    half = d // 2
    _rotate_kernel[(rows * length,)](
        x, y, cos, sin, *x.stride()[:3], *y.stride()[:3], cos.stride(0) if len(cos) > 1 else 0, length, heads, half,
        BACK=back, HEADS=triton.next_power_of_2(heads), HALF=triton.next_power_of_2(half), num_warps=4,
    )  # fmt: skip
    return y


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, False)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, True), None, None


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(rows, heads, length, d) turned by its positions, each half of d against the other (Su et al. 2021, arXiv
    2104.09864, equation 34). cos, sin: (rows or 1, length, d)."""
    out: Tensor = _Rotated.apply(x, cos.contiguous(), sin.contiguous())  # type: ignore[no-untyped-call]
    return out


# --- the distribution over a vocabulary ----------------------------------------------------------------


@triton.jit
def _chances_kernel(
    logits_at, chances_at, whole_at, vocabulary: tl.constexpr, BLOCK: tl.constexpr, WANTED: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    logits_at += row * vocabulary
    col = tl.arange(0, BLOCK)
    top = tl.full((BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, vocabulary, BLOCK):
        x = tl.load(logits_at + start + col, mask=start + col < vocabulary, other=-float("inf"))
        higher = tl.maximum(top, x)
        base = tl.where(higher == -float("inf"), 0.0, higher)  # nothing allowed so far: no difference of infinities
        total = total * tl.exp(top - base) + tl.exp(x - base)
        top = higher
    best = tl.max(top, 0)
    base = tl.where(best == -float("inf"), 0.0, best)
    whole = base + tl.log(tl.sum(total * tl.exp(top - base), 0))
    tl.store(whole_at + row, whole)
    if WANTED:
        chances_at += row * vocabulary
        for start in range(0, vocabulary, BLOCK):
            inside = start + col < vocabulary
            x = tl.load(logits_at + start + col, mask=inside, other=-float("inf"))
            tl.store(chances_at + start + col, tl.exp(x - whole).to(chances_at.dtype.element_ty), mask=inside)


def chances(logits: Tensor, rounded: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
    """(tokens,) the logarithm of the sum of exponentials of logits (tokens, vocabulary), float32; and (tokens,
    vocabulary) their softmax, if `rounded` says in what precision."""
    rows, vocabulary = logits.shape
    whole = torch.empty(rows, dtype=torch.float32, device=logits.device)
    out = None if rounded is None else torch.empty_like(logits, dtype=rounded)
    _chances_kernel[(rows,)](
        logits, logits if out is None else out, whole, vocabulary, BLOCK=VOCABULARY, WANTED=out is not None, num_warps=8
    )
    return whole, out


# --- two passes of attention, joined -------------------------------------------------------------------


@triton.jit
def _join_kernel(
    own_at, over_at, lse_at, weight_at, places_at, out_at, joined_at, tokens, outcomes, width, d: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    place = tl.load(places_at + token)
    there = place < outcomes
    at = tl.arange(0, BLOCK)
    inside, head = at < width, at // d
    a = tl.load(lse_at + head * tokens + token, mask=inside, other=0.0)
    b = tl.load(weight_at + head * outcomes + place, mask=inside & there, other=-float("inf"))
    top = tl.maximum(a, b)
    joined = top + tl.log(tl.exp(a - top) + tl.exp(b - top))
    own = tl.load(own_at + token * width + at, mask=inside, other=0.0)
    over = tl.load(over_at + place * width + at, mask=inside & there, other=0.0).to(tl.float32)
    out = own.to(tl.float32) * tl.exp(a - joined) + over * tl.exp(b - joined)
    tl.store(out_at + token * width + at, out.to(own.dtype), mask=inside)
    tl.store(joined_at + head * tokens + token, joined, mask=inside & (at % d == 0))


def joined(own: Tensor, lse: Tensor, over: Tensor, weight: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """What each token got, and its log-sum-exp, from two passes: own (tokens, heads, d) and lse (heads, tokens) of all;
    over (n, heads, d) and weight (heads, n) of some, where `places` (tokens,) says; n: of none."""
    tokens, heads, d = own.shape
    out, whole = torch.empty_like(own), torch.empty_like(lse)
    block = triton.next_power_of_2(heads * d)
    _join_kernel[(tokens,)](
        own, over, lse, weight, places, out, whole, tokens, len(over), heads * d, d, BLOCK=block,
        num_warps=_warps(block),
    )  # fmt: skip
    return out, whole


@triton.jit
def _add_kernel(x_at, some_at, places_at, outcomes, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    place = tl.load(places_at + token)
    at = tl.arange(0, BLOCK)
    inside = (at < width) & (place < outcomes)
    x = tl.load(x_at + token * width + at, mask=inside, other=0.0)
    some = tl.load(some_at + place * width + at, mask=inside, other=0.0)
    tl.store(x_at + token * width + at, (x.to(tl.float32) + some.to(tl.float32)).to(x.dtype), mask=inside)


def added(x: Tensor, some: Tensor, places: Tensor) -> Tensor:
    """x (tokens, heads, d), to which `some` (n, heads, d) was added where `places` (tokens,) says; n: nothing."""
    x, some = x.contiguous(), some.contiguous()
    width = x[0].numel()
    block = triton.next_power_of_2(width)
    _add_kernel[(len(x),)](x, some, places, len(some), width, BLOCK=block, num_warps=_warps(block))
    return x
