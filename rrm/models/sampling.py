"""Sampling outcomes: each case is computed once, its cache shared, and finished rows are dropped.

Randomness belongs to the outcome, not to the batch: outcome i of a case reads its own stream of uniform
numbers, named by the case's key and i, and turns the t-th of them into its t-th token by inverting the
distribution function. What else is in the batch, or in which order, changes nothing but last bits.

What all cases of a batch begin with (instructions, worked examples) is computed once, too, where that was seen to be
exact (`Engine.shares`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import Cache

from rrm.core.errors import ModelError
from rrm.core.seeding import generator
from rrm.models.attention import GroupLayer, branch, drop, grouped
from rrm.models.capacity import Capacity
from rrm.models.form import Guide
from rrm.models.head import WIDENS
from rrm.models.interface import PolicyModel
from rrm.models.packing import FREE
from rrm.models.prepacked import LaidOut
from rrm.models.replay import FEWEST, ReplayedSteps, records

Sampled = tuple[tuple[int, ...], tuple[float, ...], bool]
"""Token ids including end-of-text if reached, their log-probabilities in nats, and whether it was reached."""



class Sampler(Protocol):
    """Samples in the place of `sample`: an engine elsewhere (`rrm.models.vllm_sampler`)."""

    def __call__(
        self, fork: Any, prefixes: Sequence[Sequence[int]], n: int, max_tokens: int, temperature: float,
        keys: Sequence[str], ends: Collection[int], greedy: bool = False, forms: Sequence[str] = (),
    ) -> list[list[Sampled]]:  # fmt: skip
        """See `sample`."""


SHARED = 64
"""Fewest tokens that all prefixes begin with for which these are computed once: instructions and worked examples."""
COMPACT = {"cpu": 0.25, "cuda": 0.5}
"""Drop the finished rows when they are at least this share of the batch: dropping copies the cache, and on a GPU the
step has to be recorded again."""
LOOK = {"cpu": 1, "cuda": 16}
"""How many steps are taken between looks at what has finished: on a GPU a look waits for all that was launched."""

PREFILL = 4
"""So many times `Capacity.reading` cells are read before decoding: nothing of them is kept but keys and values."""
BLOCK = 128
"""Tokens of a block of the vocabulary, on a GPU."""


def sample(
    fork: PolicyModel,
    prefixes: Sequence[Sequence[int]],
    n: int,
    max_tokens: int,
    temperature: float,
    keys: Sequence[str],
    ends: Collection[int],
    greedy: bool = False,
    forms: Sequence[str] = (),
) -> list[list[Sampled]]:
    """`n` continuations of each prefix.

    Parameters
    ----------
    prefixes: token ids, each non-empty.
    temperature: divides the logits before sampling. The log-probabilities kept are the policy's own, at
        temperature 1, because that is the distribution a policy gradient differentiates.
    keys: one per prefix; outcome i of a prefix draws from the stream named (key, i).
    ends: the token ids any of which ends a continuation; empty: all have `max_tokens`.
    greedy: take the most likely token; `temperature` and `keys` then do not matter.
    forms: one per prefix, or none: the regular expressions that its outcomes are held to ("": free). The policy's
        own distribution is then the model's, given the form.
    """
    if len(keys) != len(prefixes):
        raise ValueError(f"{len(prefixes)} prefixes but {len(keys)} keys; give one key per prefix")
    if not prefixes:
        return []
    longest = max(map(len, prefixes))
    fork.backbone.check_length(longest + max_tokens)
    order = sorted(range(len(prefixes)), key=lambda i: len(prefixes[i]))
    backbone, most = fork.backbone, fork.backbone.capacity
    there = backbone.device.type == "cuda"
    per_token = token_bytes(backbone.engine.kept, backbone.precision.dtype.itemsize, there and WIDENS)
    cases = cases_at_once(most, per_token, longest, n, max_tokens, backbone.vocabulary if there else None)
    draws = 1 if greedy else n  # greedy outcomes of one case are all the same
    out: list[list[Sampled]] = [[] for _ in prefixes]
    with torch.inference_mode(), LaidOut(fork, min(cases, len(order)) * draws, max_tokens) as laid_out:
        for start in range(0, len(order), cases):
            part = order[start : start + cases]
            streams = None
            if not greedy:
                named = [generator("sample", keys[i], j) for i in part for j in range(n)]
                streams = torch.stack([torch.rand(max_tokens, generator=g) for g in named])
            some = [prefixes[i] for i in part]
            named_forms = [forms[i] if forms else "" for i in part for _ in range(draws)]
            guides = [fork.backbone.forms.guide(form) if form else None for form in named_forms]
            found = _decode(fork, some, draws, max_tokens, temperature, streams, ends, guides, laid_out)
            for place, i in enumerate(part):
                out[i] = found[place * draws : (place + 1) * draws] * (n // draws)
    return out


def token_bytes(kept: int, itemsize: int, low: bool) -> int:
    """Bytes that a token takes in the cache while decoding: `kept` numbers (see there), in the weights' precision
    (`itemsize`) where products of it are added up in float32 (`low`), else in float32."""
    return kept * (itemsize if low else 4)


def cases_at_once(
    most: Capacity, per_token: int, longest: int, n: int, max_tokens: int, vocabulary: int | None
) -> int:
    """How many cases are decoded together.

    Parameters
    ----------
    per_token: bytes, from `token_bytes`. longest: tokens of the longest prefix. n: continuations of each.
    vocabulary: on a GPU, which is also bounded by what it computes at once: the cases in one pass, and the logits of
        all rows; None on a processor.
    """
    cases = min(most.rows // n, most.cache // (per_token * (longest + n * max_tokens)))
    if vocabulary is not None:
        cases = min(cases, PREFILL * most.reading // longest, most.logits // vocabulary // n)
    return max(1, cases)


def _decode(
    fork: PolicyModel,
    prefixes: Sequence[Sequence[int]],
    n: int,
    max_tokens: int,
    temperature: float,
    streams: Tensor | None,
    ends: Collection[int],
    guides: Sequence[Guide | None],
    laid_out: LaidOut,
) -> list[Sampled]:
    """`n` continuations of each prefix, flat. `streams`: (rows, max_tokens) uniforms, or None for greedy."""
    backbone = fork.backbone
    cache = Cache(layer_class_to_replicate=GroupLayer)
    config = fork.network.config.get_text_config()  # type: ignore[union-attr, operator]
    hidden, pad = _prefill(fork, prefixes, cache)
    layers = _layers(cache)
    device = hidden.device
    pad, streams = pad.to(device), None if streams is None else streams.to(device)
    layout = branch(layers, n, pad, max_tokens, joined=not backbone.engine.groups)
    hidden = hidden.repeat_interleave(n, 0)  # (rows, d)
    position = (~pad).sum(1, keepdim=True).repeat_interleave(n, 0)  # (rows, 1)

    tokens = torch.zeros((len(hidden), max_tokens), dtype=torch.long).to(device)
    logprobs = torch.zeros(len(hidden), max_tokens, device=device)
    live = torch.arange(len(hidden), device=device)
    done = torch.zeros(len(hidden), dtype=torch.bool, device=device)
    length = torch.full((len(hidden),), max_tokens).to(device)
    stops = torch.tensor([*ends], dtype=torch.long).to(device)
    guided = any(guide is not None for guide in guides)
    broken = torch.zeros((), dtype=torch.bool, device=device)
    look, compact = LOOK.get(device.type, 1), COMPACT.get(device.type, COMPACT["cpu"])
    recorded: ReplayedSteps | None = None
    for t in range(max_tokens):
        laid_out.before(t)
        guiding = [guides[row] for row in live.tolist()] if guided else []
        logits = fork.logits_at(hidden, _allowed(guiding))
        drawn, chances = _choose(logits, None if streams is None else streams[:, t], temperature)
        token = drawn.clamp(max=logits.shape[1] - 1)
        broken |= (chances.isnan() | (drawn >= logits.shape[1])).any()  # a sum of NaN points past the vocabulary
        tokens[live, t] = token
        logprobs[live, t] = chances
        over = (token[:, None] == stops).any(1) & ~done
        length[live] = torch.where(over, t + 1, length[live])
        done |= over
        last = t + 1 == max_tokens
        if guided or last or t % look == look - 1:
            if bool(broken):
                raise ModelError(
                    f"{backbone.name!r} gives logits that are no numbers: its weights are broken; load others"
                )
            for guide, chosen in zip(guiding, token.tolist() if guiding else (), strict=True):
                if guide is not None and not guide.take(chosen):  # nothing else was allowed
                    raise ModelError(f"the tokens of {backbone.name!r} cannot write the form {guide.form!r}")
            finished = int(done.sum())
            if last or finished == len(live):
                break
            if finished >= compact * len(live):
                if recorded is not None:
                    recorded.close()
                    recorded = None
                keep = (~done).nonzero()[:, 0]
                live, token, done, position = live[keep], token[keep], done[keep], position[keep]
                streams = None if streams is None else streams[keep]
                layout = drop(layers, layout, keep)
        if recorded is None and max_tokens - t > FEWEST and records(fork):
            recorded = ReplayedSteps(fork, cache, layers, len(live), t)
        if recorded is not None:
            hidden = recorded.step(token, position)
        else:
            mask = None  # the grouped attention masks padding itself
            if not backbone.engine.groups and layout.pad is not None:
                mask = torch.nn.functional.pad(layout.pad[layout.case], (0, t + 1))
            with fork.exclusive(), grouped(config, backbone.engine.groups):
                hidden = fork.run(token[:, None], position, mask, cache)[:, -1]
        position = position + 1
    return _collect(tokens.cpu(), logprobs.cpu(), length.cpu(), frozenset(ends))


def kept(fork: PolicyModel) -> int:
    """How many numbers a token leaves in the cache: its keys and values in all layers."""
    cache = Cache(layer_class_to_replicate=GroupLayer)
    with torch.inference_mode():
        _prefill(fork, [[0]], cache)
    found = [x for layer in _layers(cache) for x in (layer.keys, layer.values) if x is not None]
    return sum(x.numel() for x in found)


def _layers(cache: Cache) -> list[GroupLayer]:
    return cast("list[GroupLayer]", cache.layers)


def _prefill(fork: PolicyModel, prefixes: Sequence[Sequence[int]], cache: Cache) -> tuple[Tensor, Tensor]:
    """Run the prefixes: what they all begin with once, if that is much, and what follows padded on the left so that all
    end together.

    Returns the last hidden states (cases, d) and where the padding is (cases, width) bool.
    """
    shared = _shared(prefixes) if fork.backbone.engine.shares else 0
    if shared:
        fork.run(torch.tensor([prefixes[0][:shared]]), torch.arange(shared)[None], None, cache)
    width = max(map(len, prefixes)) - shared
    gaps = torch.tensor([width - len(p) + shared for p in prefixes])
    ids = torch.tensor([[0] * (width - len(p) + shared) + list(p[shared:]) for p in prefixes])
    column = torch.arange(width)
    pad = column < gaps[:, None]
    positions = shared + (column - gaps[:, None]).clamp_(min=0)
    mask = None
    if shared or pad.any():
        allowed = (column[:, None] >= column) & ~pad[:, None, :]
        allowed |= torch.eye(width, dtype=torch.bool)  # padding sees itself, or its softmax would be 0/0
        allowed = torch.cat([allowed.new_ones(len(prefixes), width, shared), allowed], 2)
        mask = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)[:, None]
    hidden = fork.run(ids, positions, mask, cache)[:, -1]
    return hidden, torch.cat([pad.new_zeros(len(prefixes), shared), pad], 1)


def _shared(prefixes: Sequence[Sequence[int]]) -> int:
    """How many tokens all prefixes begin with, if that pays; at least one is left of each."""
    rows = [tuple(prefix) for prefix in prefixes]
    first, last = min(rows), max(rows)  # what these two share, all do
    most = min(map(len, prefixes)) - 1
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), most)
    return min(same, most) if len(prefixes) > 1 and min(same, most) >= SHARED else 0


def _choose(logits: Tensor, uniform: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """(rows,) tokens from (rows, vocabulary) logits, the likeliest, or by inverting the distribution function; and
    their log-probabilities at temperature 1. A token past the vocabulary: the logits are no numbers."""
    width = logits.shape[1]
    if logits.is_cuda and uniform is not None and temperature == 1.0 and width % BLOCK == 0:
        return _choose_in_blocks(logits, uniform)
    logp = logits.log_softmax(-1)
    if uniform is None:
        token = logp.argmax(-1)
    else:
        probs = logp.exp() if temperature == 1.0 else (logp / temperature).softmax(-1)
        token = _invert(probs, uniform)
    return token, logp.gather(1, token.clamp(max=width - 1)[:, None])[:, 0]


def _choose_in_blocks(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The same, by the sums of blocks of the vocabulary first, and then within one block: a running sum over a whole
    vocabulary takes a GPU as long as all else that is done with the logits."""
    rows, width = logits.shape
    probs = logits.softmax(-1)
    parts = probs.view(rows, -1, BLOCK)
    sums = parts.sum(-1)
    before = sums.cumsum(-1)
    level = uniform * (before[:, -1] * (1 - 1e-6))
    block = torch.searchsorted(before, level[:, None], right=True)[:, 0]
    inside = block.clamp(max=sums.shape[1] - 1)
    here = parts[torch.arange(rows, device=logits.device), inside]  # (rows, BLOCK)
    below = before.gather(1, inside[:, None])[:, 0] - sums.gather(1, inside[:, None])[:, 0]
    token = inside * BLOCK + _invert(here, ((level - below) / here.sum(-1)).clamp(0, 1))
    token = torch.where(block < sums.shape[1], token, width)
    return token, probs.gather(1, token.clamp(max=width - 1)[:, None])[:, 0].log()


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """(rows,) where the running sum of weights (rows, n) passes a share (rows,) of it all."""
    cdf = weights.cumsum(-1)
    # Just below the total, so that rounding never lands past the last token that has any probability.
    level = uniform[:, None] * (cdf[:, -1:] * (1 - 1e-6))
    return torch.searchsorted(cdf, level, right=True)[:, 0]


def _allowed(guides: Sequence[Guide | None]) -> Tensor | None:
    """(rows,) the mask of what may come next in each row; None if none is held to a form."""
    return torch.tensor([FREE if guide is None else guide.allowed() for guide in guides]) if guides else None


def _collect(tokens: Tensor, logprobs: Tensor, length: Tensor, ends: Collection[int]) -> list[Sampled]:
    """Cut each row after its first end."""
    out: list[Sampled] = []
    for row, values, end in zip(tokens.tolist(), logprobs.tolist(), length.tolist(), strict=True):
        out.append((tuple(row[:end]), tuple(values[:end]), row[end - 1] in ends))
    return out
