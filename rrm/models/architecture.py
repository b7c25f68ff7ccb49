"""What an architecture is, read off its configuration: sizes, kinds of layers, a window, the longest sequence.

Masks for sliding windows are made here: a window is a distance of positions, not of columns, so that in a packed row an
outcome sees the end of its case as it would without the outcomes between them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast

from rrm.core.errors import ModelError, Notice
from rrm.models.visibility import Visibility

KINDS = {"full_attention", "sliding_attention"}
RAW = (
    AttributeError, TypeError, ValueError, RuntimeError, LookupError, AssertionError, ImportError, ZeroDivisionError,
    StrictDataclassError,
)  # fmt: skip
"""What a foreign architecture may raise where it is asked for something that it was not made for."""
WINDOWS = ("sliding_window", "window_size")
"""What configurations call the length of a window."""


@dataclass(frozen=True)
class Architecture:
    """See `Architecture.of`."""

    d: int
    """Width of the hidden states that the output embedding reads (OPT-350m: not its layers' width)."""
    layers: int
    vocabulary: int
    kinds: tuple[str, ...]
    """The kinds of its layers, as transformers names them; empty: all layers are alike."""
    window: int | None
    """How many tokens a sliding layer's token sees, itself included; None: no layer slides."""
    limit: int
    """Longest sequence in tokens."""
    why: str
    """What sets `limit`, in words."""

    @staticmethod
    def of(name: str, model: Any) -> Architecture:
        """Read a transformers causal language model.

        Raises `ModelError` for one that is laid out as no causal model of text is, and for other layers than full or
        sliding causal attention: outcomes could not share their case's pass.
        """
        try:
            return Architecture._read(name, model)
        except ModelError:
            raise
        except RAW as error:
            raise ModelError(
                f"{name!r} ({type(model).__name__}) is not laid out as a causal language model of text: "
                f"{type(error).__name__}: {error}; use another model"
            ) from error

    @staticmethod
    def _read(name: str, model: Any) -> Architecture:
        config = model.config.get_text_config()
        output = model.get_output_embeddings()
        weight = getattr(output, "weight", None)
        if weight is None or weight.dim() != 2:
            raise ModelError(f"{name!r} ({config.model_type}) has no output embedding to read logits from; use another")
        kinds = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
        if {*kinds} - KINDS:
            raise ModelError(
                f"{name!r} has layers of other kinds than causal attention ({', '.join(sorted({*kinds} - KINDS))}), so "
                "outcomes cannot share their case's pass; use a model with full or sliding attention"
            )
        if alibi(config):
            raise ModelError(
                f"{name!r} counts distances in columns (ALiBi), so outcomes cannot share their case's pass; use a "
                "model with rotary or learned positions"
            )
        limit, why = _limit(config)
        vocabulary, d = weight.shape
        return Architecture(d, config.num_hidden_layers, vocabulary, kinds, _window(config, kinds), limit, why)

    def bounded(self, windows: bool) -> Architecture:
        """The same, and no longer than its window, unless it is exact beyond (`windows`)."""
        if windows or self.window is None or self.window >= self.limit:
            return self
        return replace(self, limit=self.window, why="its window, beyond which it does not go by masks")

    def masks(self, mask: Tensor | None, positions: Tensor) -> Any:
        """What the model takes for a mask (rows, 1, length, keys), additive, of tokens at positions (rows, length): a
        mask for each kind of layer where kinds differ, and windows in those of sliding layers.

        The keys are those of the same tokens, or of one token and all before it, in adjoining columns (decoding).
        """
        if mask is None or mask.dim() != 4 or self.window is None or int(positions.max()) < self.window:
            return mask
        if mask.shape[-1] == positions.shape[-1]:
            near = (positions[:, :, None] - positions[:, None, :] < self.window)[:, None].to(mask.device)
        else:
            near = torch.arange(mask.shape[-1] - 1, -1, -1, device=mask.device) < self.window
        sliding = mask.masked_fill(~near, -torch.inf)
        return {kind: sliding if kind == "sliding_attention" else mask for kind in KINDS} if self.kinds else sliding

    def blocks(self, visibility: Visibility, positions: Tensor, device: torch.device) -> Any:
        """The same of packed rows, in blocks for flex attention."""
        whole = visibility.blocks(device)
        if self.window is None or int(positions.max()) < self.window:
            return whole
        sliding = visibility.blocks(device, positions, self.window)
        return {kind: sliding if kind == "sliding_attention" else whole for kind in KINDS} if self.kinds else sliding


class _Given(BaseModelOutputWithPast):
    """What a trunk gives, of which only the hidden states are wanted: the rest (router logits, attentions) is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def own_head(network: Any, hidden: Tensor) -> Tensor:
    """(tokens, d) -> (tokens, vocabulary) logits by all that a model does between its trunk and its logits (scales,
    caps, another layer): its own forward pass, with these hidden states in the place of what the trunk gives."""
    trunk = network.base_model
    given = _Given(last_hidden_state=hidden[None])
    before = vars(trunk).get("forward")
    trunk.forward = lambda *args, **kwargs: given
    try:
        logits: Tensor = network(input_ids=hidden.new_zeros(1, len(hidden), dtype=torch.long), use_cache=False).logits
    finally:
        del trunk.forward
        if before is not None:
            trunk.forward = before
    return logits[0]


def warn_of_experts(name: str, model: Any) -> None:
    """Say if a model with adapters has experts without one: several in one tensor, and none of those that PEFT knows
    how to adapt (gpt-oss's; it knows Mixtral's, Qwen's and DeepSeek's)."""
    sizes = [(key, p.dim() > 2, p.numel()) for key, p in model.named_parameters() if "lora_" not in key]
    left = sum(size for key, fused, size in sizes if fused and ".base_layer." not in key)
    if left:
        warnings.warn(
            f"adapters leave the experts of {name!r} as they are, {left / sum(n for _, _, n in sizes):.0%} of its "
            "weights, and train the rest; to train them, too, use adapters='full'",
            Notice, stacklevel=4,
        )


def alibi(config: Any) -> bool:
    """Whether attention falls off with the distance of columns (Press et al. 2021, arXiv 2108.12409)."""
    inner = getattr(config, "attn_config", None)
    return config.model_type == "bloom" or bool(getattr(config, "alibi", False) or getattr(inner, "alibi", False))


def _window(config: Any, kinds: tuple[str, ...]) -> int | None:
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    found = [getattr(config, name, None) for name in WINDOWS] if slides else []
    lengths = [length for length in found if isinstance(length, int) and length > 0]
    return min(lengths) if lengths else None


def _limit(config: Any) -> tuple[int, str]:
    """The longest sequence, and what sets it. Long-RoPE turns positions otherwise in a pass that is longer than a
    border: decoding would go on with keys of the short turn, and a short outcome's probability would depend on the
    length of the outcome beside it. So the border is the limit, also where the model could go on."""
    limit = getattr(config, "max_position_embeddings", None) or 1 << 30
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *(r for r in ropes.values() if isinstance(r, dict))):
        border = rope.get("original_max_position_embeddings")
        if rope.get("rope_type") in ("longrope", "dynamic") and border and border < limit:
            return border, f"beyond it, its {rope['rope_type']} positions depend on the length of the pass"
    return limit, "its context"
