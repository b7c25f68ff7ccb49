"""A model's sizes from its configuration alone, without its weights: for planning what it will cost.

The network is made on torch's meta device, where tensors have shapes and no numbers: 70 B parameters take a second and
no memory. So its parameters, its adapters and what a token leaves in the cache are counted on the architecture itself,
by the functions that training makes them with, and no formula of sizes stands here.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from rrm.core.errors import ModelError
from rrm.models.adapters import adapted
from rrm.models.architecture import Architecture
from rrm.models.backbone import way
from rrm.models.fetching import SOURCES, fetched, resolve
from rrm.models.folders import Blaming, read_configuration

LOADED = 4
"""Bytes of a weight while a model is loaded: float32, rounded later, unless it was saved in bfloat16 and that was asked
for (`Backbone.load`)."""

Row = tuple[str, int, int, int, int, int, int, int, bool, int]
_SIZES: dict[str, Row] = {
    # kind, hidden, intermediate, layers, heads, kv heads, width of a head, vocabulary, tied, longest sequence
    "smollm2": ("llama", 576, 1536, 30, 9, 3, 64, 49_152, True, 8192),
    "qwen-0.5b": ("qwen2", 896, 4864, 24, 14, 2, 64, 151_936, True, 32_768),
    "qwen-1.5b": ("qwen2", 1536, 8960, 28, 12, 2, 128, 151_936, True, 32_768),
    "qwen3-0.6b": ("qwen3", 1024, 3072, 28, 16, 8, 128, 151_936, True, 40_960),
    "qwen3-1.7b": ("qwen3", 2048, 6144, 28, 16, 8, 128, 151_936, True, 40_960),
    "qwen3-4b": ("qwen3", 2560, 9728, 36, 32, 8, 128, 151_936, True, 40_960),
    "qwen3-8b": ("qwen3", 4096, 12_288, 36, 32, 8, 128, 151_936, False, 40_960),
    "qwen3-14b": ("qwen3", 5120, 17_408, 40, 40, 8, 128, 151_936, False, 40_960),
    "qwen3-32b": ("qwen3", 5120, 25_600, 64, 64, 8, 128, 151_936, False, 40_960),
    "llama-8b": ("llama", 4096, 14_336, 32, 32, 8, 128, 128_256, False, 131_072),
    "llama-70b": ("llama", 8192, 28_672, 80, 64, 8, 128, 128_256, False, 131_072),
}
PUBLISHED = tuple(_SIZES)
"""Names whose sizes are known without a file: those of the config.json of SmolLM2-135M, Qwen2.5(-Coder) 0.5B and 1.5B,
Qwen3, and Llama 3.1 8B and 70B."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a causal language model. See `ModelShape.of`."""

    name: str
    parameters: int
    linear: int
    """Parameters that every token is multiplied with, without the output embedding. Of a mixture of experts all: an
    upper bound."""
    head: int
    """Parameters of the output embedding."""
    layers: int
    d: int
    attention: int
    """Width of all query heads together."""
    vocabulary: int
    limit: int
    """Longest sequence in tokens."""
    kept: int
    """Numbers that a token leaves in the cache."""
    way: Literal["full", "lora"]
    """How forks of it are trained: as copies, or by adapters."""
    fork: int
    """Trained numbers of a fork: an adapter's, or all."""
    saved: int = LOADED
    """Bytes of a weight in its files."""

    @staticmethod
    def of(name: str) -> ModelShape:
        """From a name that `rrm.models.backbone.Backbone.load` takes, or one of `PUBLISHED`; no weights are read.

        Raises `ModelError` if there is no such model, or if it is of a kind that cannot be trained.
        """
        config = _config(name)
        what, mend = f"cannot plan with {name!r}", "give another model"
        from transformers import AutoModelForCausalLM

        with Blaming(what, mend), torch.device("meta"), torch.random.fork_rng(devices=[]):
            made: Any = AutoModelForCausalLM
            model = made.from_config(config, trust_remote_code=False).eval()
        return ModelShape._read(name, model)

    @staticmethod
    def _read(name: str, model: Any) -> ModelShape:
        read = Architecture.of(name, model)
        config = model.config.get_text_config()
        parameters = sum(p.numel() for p in model.parameters())
        output = sum(p.numel() for p in model.get_output_embeddings().parameters())
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        table = model.get_input_embeddings().weight.numel()
        heads = getattr(config, "num_attention_heads", 1)
        wide = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        how, kept = way(parameters), _kept(name, model, config)
        with Blaming(f"{name!r} cannot be adapted", "use another model"):
            fork = parameters if how == "full" else _adapter(model)
        return ModelShape(
            name, parameters, parameters - table - (0 if tied else output), output, read.layers, read.d, wide,
            read.vocabulary, read.limit, kept, how, fork, 2 if config.dtype == torch.bfloat16 else LOADED,
        )  # fmt: skip


def _config(name: str) -> Any:
    from transformers import AutoConfig

    published = name in _SIZES and not (name in SOURCES and fetched(SOURCES[name])) and not Path(name).exists()
    if not published:
        try:
            where, local, mend = resolve(name)
            return read_configuration(where, local, f"cannot plan with {name!r}", mend)
        except ModelError as error:
            near = difflib.get_close_matches(name.lower(), PUBLISHED, n=1)
            hint = f"did you mean {near[0]!r}? " if near and not Path(name).exists() else ""
            raise ModelError(f"{error}. {hint}Of these the sizes are known: {', '.join(PUBLISHED)}") from error
    kind, d, intermediate, layers, heads, kv, head, vocabulary, tied, limit = _SIZES[name]
    sizes: Mapping[str, Any] = {
        "hidden_size": d, "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "head_dim": head, "vocab_size": vocabulary, "tie_word_embeddings": tied,
        "max_position_embeddings": limit, "dtype": "bfloat16",  # as all of them were published
    }  # fmt: skip
    return AutoConfig.for_model(kind, **sizes)


def _kept(name: str, model: Any, config: Any) -> int:
    """What a pass over one token leaves in transformers' own cache."""
    from transformers import DynamicCache

    cache: Any = DynamicCache(config=config)
    with Blaming(f"cannot plan with {name!r}: it keeps nothing of a token", "use another model"), torch.no_grad():
        token = torch.zeros(1, 1, dtype=torch.long, device="meta")
        model.base_model(input_ids=token, past_key_values=cache, use_cache=True)
    found = [x for layer in cache.layers for x in (layer.keys, layer.values) if x is not None]
    return sum(x.numel() for x in found)


def _adapter(model: Any) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own, of names and of what transformers deprecates
        wrapped = adapted(model, "fork1")
    return sum(p.numel() for name, p in wrapped.named_parameters() if ".fork1." in name)
