"""Is flex attention right here? Asked of a model on its device before the first long row goes through it.

Its kernels are compiled for the device, the sizes of the heads and the precision at hand, and some of these they refuse
or have had wrong. So a packed row goes both ways, through it and with a dense mask, forwards and backwards.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from rrm.core.errors import Notice
from rrm.core.seeding import generator
from rrm.models.architecture import RAW
from rrm.models.attention import flexible
from rrm.models.interface import SharedModel
from rrm.models.packing import Packed, PrefixGroup, pack

CLOSE = 0.25
"""Of the difference that a wrong mask makes, as much as rounding may."""


def flex_attends(backbone: SharedModel) -> bool:
    """Whether flex attention gives the hidden states and the gradients that a dense mask gives; if not, it warns."""
    try:
        off = difference(backbone)
    except (*RAW, OSError) as error:  # what compilers raise (torch's are RuntimeErrors): the dense mask needs none
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    else:
        if off <= CLOSE:
            return True
        said = f"its numbers are off by {off:.2g} of what a wrong mask does"
    warnings.warn(
        f"flex attention cannot be used with {backbone.name!r} on {backbone.device} ({said}): long cases are computed "
        "with dense masks, which take memory by the square of their length",
        Notice, stacklevel=2,
    )  # fmt: skip
    return False


def difference(backbone: SharedModel) -> float:
    """How far flex attention is from the dense mask, as a share of how far plain causal attention is: the larger of
    that of hidden states and that of gradients."""
    real = backbone.forms.real
    ids = [real[(3 + 7 * i) % len(real)] for i in range(380)]
    segments = [ids[150:240], ids[240:315], ids[315:]]  # borders within blocks of 128, and off them
    packed = pack([PrefixGroup(ids[:150], segments)], d=backbone.d, width=3)[0]
    right, wrong, found = (_passed(backbone, packed, how) for how in ("dense", "causal", "flex"))
    apart = (
        ((flex - dense).norm() / (causal - dense).norm()).item()
        for dense, causal, flex in zip(right, wrong, found, strict=True)
    )
    return max(off if off == off else float("inf") for off in apart)


def _passed(backbone: SharedModel, packed: Packed, how: str) -> tuple[Tensor, Tensor]:
    """Final hidden states of a row, and the gradient of a random sum of them with respect to its embeddings."""
    device, visibility = backbone.device, packed.visibility
    assert visibility is not None
    network: Any = backbone.start.network
    masks: Any
    if how == "flex":
        masks = backbone.architecture.blocks(visibility, packed.positions, device)
    else:
        dense = visibility.dense(device)
        if how == "causal":
            dense = torch.full_like(dense, -torch.inf).triu_(1)
        masks = backbone.architecture.masks(dense.to(backbone.precision.dtype), packed.positions)
    through = flexible(network.config.get_text_config()) if how == "flex" else nullcontext()
    with torch.enable_grad(), backbone.start.exclusive(), through:
        given = network.get_input_embeddings()(packed.ids.to(device)).detach().requires_grad_()
        out = network.base_model(
            inputs_embeds=given, attention_mask=masks, position_ids=packed.positions.to(device), use_cache=False
        ).last_hidden_state.float()
        mix = torch.randn(out.shape, generator=generator("flex")).to(device)
        (slope,) = torch.autograd.grad((out * mix).sum(), given)
    return out.detach(), slope.float()
