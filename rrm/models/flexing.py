"""Is attention without a dense mask right here? Asked of a model on its device before the first packed row goes through
flex attention, or through flash attention by spans (`rrm.models.spans`).

Kernels are made for a device, sizes of heads and a precision, and some of these they refuse or have had wrong. A model
may also do with its scores what they do not (a softcap, a sink). So a packed row goes both ways, through them and with
a dense mask, forwards and backwards.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from rrm.core.errors import Notice
from rrm.core.seeding import generator
from rrm.models.architecture import RAW
from rrm.models.attention import eagerly, flexible, spanning
from rrm.models.interface import SharedModel
from rrm.models.packing import Packed, PrefixGroup, pack
from rrm.models.repeating import repeatable
from rrm.models.spans import Spans, marked

NAMES = {"flex": "flex attention", "spans": "flash attention"}
OTHERWISE = {
    "flex": "with dense masks, which take memory by the square of their length",
    "spans": "by flex attention or with dense masks, which takes longer",
}
CLOSE = 0.1
"""Of the difference that a wrong mask makes, as much as rounding may; or else `NOISE` times as much as it does between
two ways that are both right: in bfloat16 a deep trunk makes more of last bits."""
NOISE = 2.0
MOST = 0.5
"""With more than this a wrong mask could not be told from rounding."""
LONGEST = 240
"""Positions of the row that is tried."""


How = Literal["flex", "spans"]


def attends(backbone: SharedModel, how: How) -> bool:
    """Whether such attention gives the hidden states and the gradients that a dense mask gives; if not, it warns."""
    try:
        off = difference(backbone, how)
        right = off <= CLOSE or off <= min(MOST, NOISE * difference(backbone, "eager"))
    except torch.OutOfMemoryError:  # says nothing of what it is like with more
        raise
    except (*RAW, OSError) as error:  # what compilers raise (torch's are RuntimeErrors): the dense mask needs none
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    else:
        if right:
            return True
        said = f"its numbers are off by {off:.2g} of what a wrong mask does"
    warnings.warn(
        f"{NAMES[how]} cannot be used with {backbone.name!r} on {backbone.device} ({said}): packed rows are computed "
        f"{OTHERWISE[how]}",
        Notice, stacklevel=2,
    )  # fmt: skip
    return False


def difference(backbone: SharedModel, how: How | Literal["eager"] = "flex") -> float:
    """How far such attention is from the dense mask, as a share of how far plain causal attention is: the larger of
    that of hidden states and that of gradients. "eager": transformers' own, with the dense mask: what is left is
    rounding."""
    real = backbone.forms.real
    ids = [real[(3 + 7 * i) % len(real)] for i in range(380)]
    spare = max(0, LONGEST - backbone.limit)  # beyond a model's positions a GPU is left unusable, not only this trial
    segments = [some[spare:] for some in (ids[150:240], ids[240:315], ids[315:])]  # borders within blocks, and off them
    if not all(segments):
        return float("inf")
    packed = pack([PrefixGroup(ids[:150], segments)], d=backbone.d, width=3)[0]
    right, wrong, found = (_passed(backbone, packed, one) for one in ("dense", "causal", how))
    apart = (
        ((ours - dense).norm() / (causal - dense).norm()).item()
        for dense, causal, ours in zip(right, wrong, found, strict=True)
    )
    return max(off if off == off else float("inf") for off in apart)


def _passed(backbone: SharedModel, packed: Packed, how: str) -> tuple[Tensor, Tensor]:
    """Final hidden states of a row, and the gradient of a random sum of them with respect to its embeddings."""
    device, visibility = backbone.device, packed.visibility
    assert visibility is not None
    network: Any = backbone.start.network
    masks: Any
    config = network.config.get_text_config()
    through: AbstractContextManager[None] = nullcontext()
    if how == "flex":
        masks, through = backbone.architecture.blocks(visibility, packed.positions, device), flexible(config)
    elif how == "spans":
        spans = Spans.of(visibility, device)
        assert spans is not None
        masks, through = marked(spans), spanning(config)
    else:
        dense = visibility.dense(device)
        if how == "causal":
            dense = torch.full_like(dense, -torch.inf).triu_(1)
        masks = backbone.architecture.masks(dense.to(backbone.precision.dtype), packed.positions)
        through = eagerly(config, how == "eager")
    with torch.enable_grad(), backbone.start.exclusive(), through, repeatable(device):
        given = network.get_input_embeddings()(packed.ids.to(device)).detach().requires_grad_()
        out = network.base_model(
            inputs_embeds=given, attention_mask=masks, position_ids=packed.positions.to(device), use_cache=False
        ).last_hidden_state.float()
        mix = torch.randn(out.shape, generator=generator("flex")).to(device)
        (slope,) = torch.autograd.grad((out * mix).sum(), given)
    return out.detach(), slope.float()
