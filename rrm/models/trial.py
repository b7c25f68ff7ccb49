"""Does a model sample and train? Asked with a few tokens when it is loaded, not found out an hour later in a run."""

from __future__ import annotations

import torch

from rrm.core.errors import ModelError
from rrm.models.folders import Blaming
from rrm.models.interface import PolicyModel
from rrm.models.packing import PrefixGroup, pack
from rrm.models.sampling import sample
from rrm.models.verification import ids


def try_out(fork: PolicyModel) -> None:
    """Sample two tokens from a fork, and compute the gradient of a training step; nothing of the fork changes, nor any
    random stream.

    Raises `ModelError` if that fails, or gives numbers that are none. It costs about as much as three passes over a few
    tokens: see docs/bring-your-model.md for milliseconds.
    """
    backbone = fork.backbone
    how = f"{backbone.name!r} ({type(backbone.model).__name__})"
    prefix, one, two = (ids(backbone, start, n) for start, n in ((3, 3), (5, 2), (4, 1)))
    with Blaming(f"{how} cannot sample", "its architecture does not decode as others do: use another model"):
        sample(fork, [prefix], 2, 2, 1.0, ["trial"], ())
    (packed,) = pack([PrefixGroup(prefix, [one, two])], d=backbone.d, width=2)
    with Blaming(f"{how} cannot be trained", "use another model, or load it with adapters='full' or 'lora', the other"):
        loss = -fork.token_logprobs(packed).mean()
        grads = torch.autograd.grad(loss, fork.parameters(), allow_unused=True)
    if not all(bool(value.sum().isfinite()) for value in (loss.detach(), *(g for g in grads if g is not None))):
        raise ModelError(
            f"{how} gives log-probabilities or gradients that are NaN or infinite: its weights are broken, or too "
            "large for its precision; load others, or keep it in float32"
        )
