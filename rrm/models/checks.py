"""Checks that a model and its weights are what they are taken for: they raise where nonsense would follow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rrm.models.pack import PrefixGroup, pack
from rrm.task import RRMError

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone


class ModelError(RRMError):
    """A model cannot be loaded, or cannot do what is asked of it."""


def hash_tensors(tensors: Iterable[tuple[str, Tensor]], *more: str) -> str:
    """16 hex digits of the SHA-256 over names, shapes and bytes."""
    sha = hashlib.sha256("/".join(more).encode())
    for name, tensor in tensors:
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def check_keys(what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Raise `ModelError` unless a state has exactly the expected keys."""
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    if missing or unexpected:
        raise ModelError(
            f"{what} do not fit: missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]} "
            f"({len(missing)} and {len(unexpected)} keys); load one of the same model, adapters and heads"
        )


def window(name: str, config: Any) -> int | None:
    """The sliding window of a model's attention in tokens, None if it has none.

    No longer than its window, a sequence is attended to in full, so such a model can be used up to there. Raises
    `ModelError` for any other kind of attention (chunked, linear, recurrent layers): outcomes could not share their
    case's pass.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"{name!r} has layers of other kinds than causal attention ({', '.join(sorted(kinds))}), so outcomes "
            "cannot share their case's pass; use a model with full or sliding attention"
        )
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if slides else None


def verify_packing(backbone: Backbone) -> None:
    """Compare packed with plain log-probabilities on a few tokens: an architecture that ignores a 4-D mask or
    the positions would otherwise give wrong numbers silently."""

    def some(start: int, n: int) -> list[int]:
        return [(start + 7 * i) % backbone.vocabulary for i in range(n)]

    def plain(ids: list[int], n: int) -> Tensor:
        row = torch.tensor([ids]).to(backbone.device)
        logits = backbone.model(input_ids=row, use_cache=False).logits[0].float().cpu().log_softmax(-1)
        found: Tensor = logits[-n - 1 : -1].gather(1, torch.tensor(ids[-n:])[:, None])[:, 0]
        return found

    prefix, segments = some(3, 5), [some(11, 4), some(5, 3)]
    (packed,) = pack([PrefixGroup(prefix, segments)], d=backbone.d, width=2)
    with torch.no_grad():
        got = torch.split(backbone.start.token_logprobs(packed), packed.lengths.tolist())
        for i, values in zip(packed.index.tolist(), got, strict=True):
            error = (values - plain(prefix + segments[i], len(segments[i]))).abs().max().item()
            if not error < 1e-3:
                raise ModelError(
                    f"{backbone.name!r} gives other log-probabilities when a case's outcomes share its pass "
                    f"(they differ by {error:.3g} nats): it ignores 4-D masks or positions, or "
                    "scales or caps its logits; use another model"
                )


def decodes_in_groups(backbone: Backbone) -> bool:
    """Whether the architecture decodes rightly through `rrm.models.attention`: compared with packed
    log-probabilities on a few tokens. If not, `sample` joins the cache's parts for it."""
    from rrm.models.sample import sample

    if not getattr(backbone.model, "_supports_attention_backend", False):
        return False
    prefixes = [[(3 + 7 * i) % backbone.vocabulary for i in range(length)] for length in (3, 5)]
    backbone.groups_attention = True
    try:
        found = sample(backbone.start, prefixes, 2, 3, 1.0, ["a", "b"], -1)
    except (AttributeError, TypeError, RuntimeError):  # its attention is not called with the cache's keys
        return False
    groups = [PrefixGroup(p, [tokens for tokens, _, _ in row]) for p, row in zip(prefixes, found, strict=True)]
    with torch.no_grad():
        again = backbone.start.logprobs(groups)
    pairs = zip((kept for row in found for _, kept, _ in row), (v for row in again for v in row), strict=True)
    return all(bool((torch.tensor(kept) - value).abs().max() < 1e-3) for kept, value in pairs)
