"""Packed rows on a GPU by flash attention, twice: each case and each outcome by itself, and outcomes over their case.

    row            [ case | outcome 1 | outcome 2 | ... ]
    first pass       each of them causally, as if it were alone
    second pass      outcomes' queries over their case's keys, all of them

What one query got from both passes is joined by how much each weighs, which their log-sum-exps say. So nothing that is
hidden is computed, and no mask is made: memory grows with a row's length and not with its square. Backwards each pass
is given what was joined and its log-sum-exp, which makes its gradients those of the whole (as in ring attention: Liu et
al. 2023, arXiv 2310.01889). The kernels are FlashAttention-2's with sequences of any length (Dao 2023, arXiv
2307.08691), as torch has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from rrm.models.attention import SPANS
from rrm.models.sending import sent
from rrm.models.triton_check import available
from rrm.models.visibility import Visibility


@dataclass(frozen=True)
class Sequences:
    """Sequences for one call: where they begin, cumulative, and how long the longest is."""

    q: Tensor  # (sequences + 1,) int32
    k: Tensor  # (sequences + 1,) int32
    most_q: int
    most_k: int
    causal: bool


@dataclass(frozen=True)
class Spans:
    """Which of the tokens of packed rows, one row after the other, belong together."""

    own: Sequences
    over: Sequences
    outcomes: Tensor  # (n,) int64: the outcomes' tokens
    cases: Tensor  # (m,) int64: the cases' tokens
    among_outcomes: Tensor  # (tokens,) int64: where a token is in `outcomes`; n: nowhere
    among_cases: Tensor  # (tokens,) int64: where it is in `cases`; m: nowhere

    @staticmethod
    def of(visibility: Visibility, device: torch.device) -> Spans | None:
        """None if some outcome does not see its whole case."""
        owner, length = visibility.owner, visibility.owner.shape[1]
        case, outcome = owner == 0, owner > 0
        sizes = case.sum(1)
        if bool((visibility.sees != sizes[:, None])[outcome].any()) or not bool(outcome.any(1).all()):
            return None
        flat = owner.flatten()
        first = torch.ones_like(flat, dtype=torch.bool)
        first[1:] = flat[1:] != flat[:-1]
        first[::length] = True
        starts = torch.cat([first.nonzero()[:, 0], torch.tensor([len(flat)])])
        longest = int(starts.diff().max())
        queries = outcome.sum(1)
        tokens, cases = outcome.flatten().nonzero()[:, 0], case.flatten().nonzero()[:, 0]
        whole, q, k = (sent(_cumulative(counts), device) for counts in (starts.diff(), queries, sizes))
        own = Sequences(whole, whole, longest, longest, True)
        over = Sequences(q, k, int(queries.max()), int(sizes.max()), False)
        rest = (tokens, cases, _places(len(flat), tokens), _places(len(flat), cases))
        return Spans(own, over, *(sent(one, device) for one in rest))


def _cumulative(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)


def _places(tokens: int, some: Tensor) -> Tensor:
    return torch.full((tokens,), len(some)).scatter(0, some, torch.arange(len(some)))


def forwards(q: Tensor, k: Tensor, v: Tensor, some: Sequences, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(tokens, heads, d) and (heads, tokens) log-sum-exp; and two tensors that the backward pass wants to see again."""
    out, lse, seed, unused, _ = torch.ops.aten._flash_attention_forward(
        q, k, v, some.q, some.k, some.most_q, some.most_k, 0.0, some.causal, False, scale=scale
    )
    return out, lse, seed, unused


def backwards(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, some: Sequences, scale: float,
    rest: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of q, k and v, if `out` and `lse` are those over all keys."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
        slope, q, k, v, out, lse, some.q, some.k, some.most_q, some.most_k, 0.0, some.causal, *rest, scale=scale
    )
    return found


def _spread(x: Tensor, places: Tensor) -> Tensor:
    """(n, heads, d) -> (tokens, heads, d), zero where a token has no place."""
    return torch.cat([x, x.new_zeros(1, *x.shape[1:])])[places]


def _added(x: Tensor, some: Tensor, places: Tensor) -> Tensor:
    if available(x.device):
        from rrm.models import kernels

        return kernels.added(x, some, places)
    return x + _spread(some, places)


def _joined(own: Tensor, lse: Tensor, over: Tensor, weight: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """See `rrm.models.kernels.joined`."""
    if available(own.device):
        from rrm.models import kernels

        return kernels.joined(own, lse.contiguous(), over, weight.contiguous(), places)
    weight = torch.cat([weight, weight.new_full((len(weight), 1), -torch.inf)], 1)[:, places]  # (heads, tokens)
    whole = torch.logaddexp(lse, weight)
    kept, more = ((part - whole).exp().T[..., None] for part in (lse, weight))
    return (own * kept + _spread(over, places) * more).to(own.dtype), whole


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, spans: Spans, scale: float) -> Tensor:
        out, lse, *rest = forwards(q, k, v, spans.own, scale)
        some, keys, values = q[spans.outcomes], k[spans.cases], v[spans.cases]
        over, weight, *rest_over = forwards(some, keys, values, spans.over, scale)
        out, joined = _joined(out, lse, over, weight, spans.among_outcomes)
        ctx.save_for_backward(q, k, v, some, keys, values, out, joined, *rest, *rest_over)
        ctx.spans, ctx.scale = spans, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, some, keys, values, out, joined, *rest = ctx.saved_tensors
        spans, scale, slope = ctx.spans, ctx.scale, grads[0].contiguous()
        to_q, to_k, to_v = backwards(slope, q, k, v, out, joined, spans.own, scale, tuple(rest[:2]))
        there = joined[:, spans.outcomes].contiguous()
        over_q, over_k, over_v = backwards(
            slope[spans.outcomes], some, keys, values, out[spans.outcomes], there, spans.over, scale, tuple(rest[2:])
        )
        to_q = _added(to_q, over_q, spans.among_outcomes)
        to_k, to_v = (_added(x, more, spans.among_cases) for x, more in ((to_k, over_k), (to_v, over_v)))
        return to_q, to_k, to_v, None, None


def attend_spans(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, softcap: float | None = None, s_aux: Tensor | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """query: (rows, heads, length, d); key, value: (rows, kv heads, length, d). The mask is one of `marked`. Returns
    (rows, length, heads, d). Raises `ValueError` for what its kernels do not know: caps on scores, sinks, values of
    another width than keys."""
    if softcap is not None or s_aux is not None or value.shape[-1] != key.shape[-1]:
        raise ValueError("flash attention knows no softcap, no sinks, and values of the keys' width only")
    spans: Spans = attention_mask._spans  # type: ignore[union-attr]
    rows, heads, length, d = query.shape
    flat = (x.transpose(1, 2).reshape(rows * length, -1, d) for x in (query, key, value))
    out: Tensor = _Attended.apply(*flat, spans, d**-0.5 if scaling is None else scaling)  # type: ignore[no-untyped-call]
    return out.view(rows, length, heads, d), None


AttentionInterface.register(SPANS, attend_spans)


def marked(spans: Spans) -> Tensor:
    """What takes the place of a mask: transformers hands on any tensor of four dimensions as it is."""
    mask = torch.zeros(1, 1, 1, 1, device=spans.outcomes.device)
    mask._spans = spans  # type: ignore[attr-defined]
    return mask

