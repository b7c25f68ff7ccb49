"""Does an architecture do what the engine needs of it? Asked whenever a model is loaded.

Twice: of a small copy with random weights, spread so that a mistake shows, and beyond its window, which a real model's
would be too long for (`rrm.models.miniature`); and of the model itself, with a few tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rrm.core.errors import ModelError
from rrm.models.architecture import RAW, Architecture
from rrm.models.interface import SharedModel
from rrm.models.miniature import BORDER, small_copy, tokenizer
from rrm.models.packing import PrefixGroup
from rrm.models.sampling import SHARED, kept, sample

TOLERANCE = 2e-5
"""Largest difference in nats on a small copy, and as a share of the log-probability where that is beyond 1 nat."""
OWN = 1e-3
"""Largest difference in nats with a real model's own weights: float32 rounds more in a large one."""
ROUGH = 0.25
"""The same of one that was loaded in bfloat16, whose 8 bits hide less than that; its small copy is in float32."""


@dataclass(frozen=True)
class Probe:
    """What is compared: every segment after every prefix, and `rows` samples of `tokens` tokens after each."""

    prefixes: tuple[int, ...]
    segments: tuple[int, ...]
    rows: int
    tokens: int
    shared: int = 0
    """Tokens that all prefixes begin with, before those; of samples only."""


WITHIN = Probe((3, 2), (3, 2, 1), 2, 4)
"""Shorter than a small copy's window."""
BEYOND = Probe((5, 11), (13, 4, 9), 3, 14)
FAR = Probe((BORDER + 4, 9), (5, 13), 2, 8)
ITSELF = Probe((5, 3), (4, 3), 2, 3)
"""Of a model with its own weights."""
ALIKE = Probe((5, 2), (1,), 2, 3, shared=SHARED)
"""Of prefixes that begin alike."""


@dataclass(frozen=True)
class Engine:
    """How a model has to be asked to be exact."""

    head: bool
    """Logits by the model's own head: it does more than multiply with the output embedding (scales, caps)."""
    groups: bool
    """Decoding by `rrm.models.attention`; else with joined caches."""
    windows: bool
    """Exact beyond its window."""
    shares: bool = False
    """What all prefixes of a batch begin with may be computed once."""
    kept: int = 1
    """Numbers that a token leaves in the cache."""


def ids(backbone: SharedModel, start: int, n: int) -> list[int]:
    """Some token ids that the tokenizer knows."""
    real = backbone.forms.real
    return [real[(start + 7 * i) % len(real)] for i in range(n)]


def plain(backbone: SharedModel, prefix: Sequence[int], tokens: Sequence[int]) -> Tensor:
    """(tokens,) log-probabilities by transformers' own pass of one sequence."""
    row = torch.tensor([[*prefix, *tokens]]).to(backbone.device)
    with torch.no_grad():
        logits = backbone.model(input_ids=row, use_cache=False).logits[0].float().cpu()
    logp = backbone.forms.restrict(logits, None).log_softmax(-1)[len(prefix) - 1 : -1]
    return logp.gather(1, torch.tensor(list(tokens))[:, None])[:, 0]


def error(values: Tensor, right: Tensor) -> float:
    """Largest difference, divided by the right value where that is above 1 nat; infinite if any is no number."""
    off = ((values - right).abs() / right.abs().clamp(min=1.0)).max().item()
    return off if off == off else float("inf")


def packed(backbone: SharedModel, probe: Probe) -> float:
    """Error of outcomes that share their case's pass."""
    prefixes = [ids(backbone, 3 + n, n) for n in probe.prefixes]
    segments = [ids(backbone, 11 + 2 * n, n) for n in probe.segments]
    with torch.no_grad():
        groups = [PrefixGroup(p, segments) for p in prefixes]
        found = backbone.start.logprobs(groups, width=len(segments))
    pairs = [(p, s, v) for p, row in zip(prefixes, found, strict=True) for s, v in zip(segments, row, strict=True)]
    return max(error(v, plain(backbone, p, s)) for p, s, v in pairs)


def sampled(backbone: SharedModel, probe: Probe) -> float:
    """Error of log-probabilities that were kept while sampling."""
    prefixes = [[*ids(backbone, 5, probe.shared), *ids(backbone, 3 + n, n)] for n in probe.prefixes]
    keys = [str(n) for n in probe.prefixes]
    found = sample(backbone.start, prefixes, probe.rows, probe.tokens, 1.0, keys, ())
    rows = [(p, tokens, kept) for p, row in zip(prefixes, found, strict=True) for tokens, kept, _ in row]
    return max(error(torch.tensor(kept), plain(backbone, p, tokens)) for p, tokens, kept in rows)


def verify(backbone: SharedModel) -> Engine:
    """How to ask a model so that it is exact, after it was seen to be. Raises `ModelError` if it cannot be."""
    small = _in_small(backbone)
    first = small or Engine(_own_head(backbone), _backend(backbone), False)
    window = backbone.architecture.window
    probe = WITHIN if window and not first.windows else ITSELF
    backbone.engine = first
    rounded = backbone.precision.dtype != torch.float32
    own = ROUGH if rounded else OWN
    off = _attempt(packed, backbone, probe)
    if not off.error < own:
        raise _refusal(backbone.name, "share its pass", off)
    if small is None and rounded:
        raise ModelError(
            f"{backbone.name!r} cannot be checked in bfloat16: no small copy of its architecture can be made; load it "
            "without precision='bfloat16'"
        )
    if small is None and not _shows(backbone, probe):
        raise ModelError(
            f"{backbone.name!r} cannot be checked: no small copy of its architecture can be made, and its own weights "
            "are too small for a mistake to show; load trained weights, or use another model"
        )
    for engine in (first, replace(first, groups=False)):
        backbone.engine = engine
        off = _attempt(sampled, backbone, probe)
        if off.error < own:
            shares = engine.shares and _fits(backbone, ALIKE) and _attempt(sampled, backbone, ALIKE).error < own
            backbone.engine = replace(engine, shares=False)
            return replace(engine, shares=shares, kept=kept(backbone.start))
    raise _refusal(backbone.name, "are sampled together", off)


class _Open(Architecture):
    """A mistake: outcomes see those before them in their row."""

    def masks(self, mask: Tensor | None, positions: Tensor) -> Any:
        return None if mask is None else torch.full_like(mask, -torch.inf).triu_(1)


def _shows(backbone: SharedModel, probe: Probe) -> bool:
    """Whether a mistake would show in a model's own weights."""
    right = backbone.architecture
    backbone.architecture = _Open(**vars(right))
    try:
        return _attempt(packed, backbone, probe).error > 10 * OWN
    finally:
        backbone.architecture = right


@dataclass(frozen=True)
class _Off:
    error: float
    said: str = ""


def _attempt(measure: Any, backbone: SharedModel, probe: Probe) -> _Off:
    try:
        return _Off(measure(backbone, probe))
    except ModelError:
        raise
    except RAW as raised:
        return _Off(float("inf"), f"{type(raised).__name__}: {raised}")


def _refusal(name: str, when: str, off: _Off) -> ModelError:
    how = f"it raises {off.said}" if off.said else f"they differ by {off.error:.3g} nats"
    return ModelError(
        f"{name!r} gives other log-probabilities when a case's outcomes {when} ({how}): it does not go by 4-D masks "
        "and positions; use another model"
    )


_KNOWN: dict[tuple[Any, ...], Engine | ModelError | None] = {}
"""What small copies showed, by the model's class and configuration: models of one kind are often loaded again."""


def _in_small(backbone: SharedModel) -> Engine | None:
    """What a small copy shows; None if none can be made. Raises `ModelError` if it is not exact."""
    config = backbone.model.config
    said = json.dumps(config.to_dict(), sort_keys=True, default=str)
    key = (type(backbone.model), _backend(backbone), config._attn_implementation, said)
    if key not in _KNOWN:
        try:
            _KNOWN[key] = _examine(backbone)
        except ModelError as refused:
            _KNOWN[key] = refused
    found = _KNOWN[key]
    if isinstance(found, ModelError):
        raise ModelError(str(found).replace("'a small copy'", repr(backbone.name)))
    return found


def _examine(backbone: SharedModel) -> Engine | None:
    try:
        model = small_copy(type(backbone.model), backbone.model.config)
        make: Any = type(backbone)
        small: SharedModel = make("a small copy", model, tokenizer(), "full", verified=False)
        plain(small, ids(small, 3, 12), [5])
    except (*RAW, ModelError):
        return None
    return examine(small, _backend(backbone))


def examine(small: SharedModel, grouped: bool = True) -> Engine:
    """How a small copy is asked so that it is exact within `TOLERANCE`. Raises `ModelError` if it cannot be.

    `grouped`: decode in groups where that is possible.
    """
    head = _own_head(small)
    window = small.architecture.window
    probes = [WITHIN] if window else [WITHIN, BEYOND, FAR]
    further = [BEYOND, FAR] if window else []

    def worst(measure: Any, some: Sequence[Probe]) -> _Off:
        fits = (p for p in some if _fits(small, p))
        return max((_attempt(measure, small, p) for p in fits), key=lambda off: off.error, default=_Off(0.0))

    small.engine = Engine(head, False, True)
    off = worst(packed, probes)
    if not off.error <= TOLERANCE:
        raise _refusal(small.name, "share its pass", off)
    windows = worst(packed, further).error <= TOLERANCE
    exact: list[Engine] = []
    for groups in (True, False):
        if groups and not (grouped and _backend(small)):
            continue
        small.engine = Engine(head, groups, windows)
        off = worst(sampled, probes)
        if off.error <= TOLERANCE:
            found = replace(small.engine, windows=windows and worst(sampled, further).error <= TOLERANCE)
            exact.append(replace(found, shares=_alike(small)))
            if exact[-1].windows or not windows:
                break
    if not exact:
        raise _refusal(small.name, "are sampled together", off)
    return max(exact, key=lambda engine: (engine.windows, engine.groups))


def _fits(backbone: SharedModel, probe: Probe) -> bool:
    return probe.shared + max(probe.prefixes) + max(*probe.segments, probe.tokens) <= backbone.limit


def _alike(small: SharedModel) -> bool:
    """Whether prefixes that begin alike may share that pass. A sliding layer counts columns, between which there would
    be padding."""
    if small.architecture.window or not _fits(small, ALIKE):
        return False
    small.engine = replace(small.engine, shares=True)
    return _attempt(sampled, small, ALIKE).error <= TOLERANCE


def _backend(backbone: SharedModel) -> bool:
    return bool(getattr(backbone.model, "_supports_attention_backend", False))


def _own_head(backbone: SharedModel) -> bool:
    """Whether the model's head does more than multiply with the output embedding."""
    row = torch.tensor([ids(backbone, 3, 5)]).to(backbone.device)
    position = torch.arange(5)[None]
    with torch.no_grad():
        try:
            right = backbone.forms.restrict(backbone.model(input_ids=row, use_cache=False).logits[0].float(), None)
            backbone.engine = Engine(False, False, False)
            found = backbone.start.logits_at(backbone.start.run(row.cpu(), position, None)[0])
        except RAW as raised:
            raise _refusal(backbone.name, "share its pass", _Off(0.0, f"{type(raised).__name__}: {raised}")) from raised
    return found.shape != right.shape or not torch.allclose(found, right, rtol=1e-5, atol=1e-5)
