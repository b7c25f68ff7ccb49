"""Does an architecture do what the engine needs of it? Asked with a few tokens whenever a model is loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from rrm.core.errors import ModelError
from rrm.models.interface import SharedModel
from rrm.models.packing import PrefixGroup, pack
from rrm.models.sampling import sample


def verify_packing(backbone: SharedModel) -> None:
    """Compare packed with plain log-probabilities on a few tokens: an architecture that ignores a 4-D mask or
    the positions would otherwise give wrong numbers silently."""

    def some(start: int, n: int) -> list[int]:
        real = backbone.forms.real
        return [real[(start + 7 * i) % len(real)] for i in range(n)]

    def plain(ids: list[int], n: int) -> Tensor:
        row = torch.tensor([ids]).to(backbone.device)
        logits = backbone.model(input_ids=row, use_cache=False).logits[0].float().cpu()
        logp = backbone.forms.restrict(logits, None).log_softmax(-1)
        found: Tensor = logp[-n - 1 : -1].gather(1, torch.tensor(ids[-n:])[:, None])[:, 0]
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


def decodes_in_groups(backbone: SharedModel) -> bool:
    """Whether the architecture decodes rightly through `rrm.models.attention`: compared with packed
    log-probabilities on a few tokens. If not, `sample` joins the cache's parts for it."""
    if not getattr(backbone.model, "_supports_attention_backend", False):
        return False
    real = backbone.forms.real
    prefixes = [[real[(3 + 7 * i) % len(real)] for i in range(length)] for length in (3, 5)]
    backbone.groups_attention = True
    try:
        found = sample(backbone.start, prefixes, 2, 3, 1.0, ["a", "b"], ())
    except (AttributeError, TypeError, RuntimeError):  # its attention is not called with the cache's keys
        return False
    groups = [PrefixGroup(p, [tokens for tokens, _, _ in row]) for p, row in zip(prefixes, found, strict=True)]
    with torch.no_grad():
        again = backbone.start.logprobs(groups)
    pairs = zip((kept for row in found for _, kept, _ in row), (v for row in again for v in row), strict=True)
    return all(bool((torch.tensor(kept) - value).abs().max() < 1e-3) for kept, value in pairs)
