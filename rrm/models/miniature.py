"""A small copy of an architecture, with random weights that are spread enough for a mistake to show.

A real model's own weights need not show it: with the weights that a model starts its training from (of 0.02), outcomes
that see each other differ by less than rounding; and a window of 4096 is not passed by a probe of a few tokens. So what
an architecture does is asked of a copy with the same configuration but for its sizes: two layers or one of each kind,
a width of 32, a window of 8, a border of long-RoPE at 48.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rrm.models.architecture import WINDOWS

WINDOW, BORDER, LIMIT, VOCABULARY = 8, 48, 128, 64
"""Of a small copy: its window, the border of its long-RoPE, its longest sequence, its vocabulary."""
HEAD = 8
"""Width of a head."""
STD = 0.3
"""Of its matrices."""

SIZES: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size"), 32),
    **dict.fromkeys(("dim", "n_embed"), 32),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("dff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "dense_intermediate_size"), 24),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"), LIMIT),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_top_k", "moe_k", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    "head_dim": HEAD, "kv_channels": HEAD, "d_kv": 8,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "qk_head_dim": 12, "v_head_dim": 10,
    "global_head_dim": 8, "swa_head_dim": 8, "swa_v_head_dim": 8, "rotary_dim": 4, "query_pre_attn_scalar": 8,
    "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
}  # fmt: skip
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KEYS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_global_key_value_heads")


def small_copy(kind: Any, config: Any) -> Any:
    """A small model of a transformers class, as a configuration says but for its sizes, with spread random weights.
    Raises whatever the class raises on sizes that it cannot have."""
    small = shrink(config)
    small._attn_implementation = config._attn_implementation
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return spread(kind(small).float())


def tokenizer() -> Any:
    """A tokenizer for small copies, which are only asked with ids: a word for each, the third of which ends a text."""
    inner = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=inner, unk_token="w0", eos_token="w2", pad_token="w2")


def shrink(config: Any) -> Any:
    """The same configuration but for its sizes; raises whatever the configuration's class raises on them."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    had = {name: _value(config.get_text_config(), name) for name in _NAMES}

    def put(name: str, value: Any) -> None:
        with contextlib.suppress(AttributeError):  # one that is computed from others
            setattr(text, name, value)

    heads = next((had[n] for n in HEADS if had.get(n)), None)
    rotated, narrow = had.get("qk_rope_head_dim"), SIZES["qk_rope_head_dim"]
    for name, value in had.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if name in SIZES:
            put(name, narrow if name == "head_dim" and value == rotated else SIZES[name])
        elif name in KEYS and heads:
            put(name, 1 if value == 1 else 2 if value < heads else 4)
    kinds = list(getattr(text, "layer_types", None) or ())
    kept = list(dict.fromkeys(kinds))
    kept += kinds[: max(0, 2 - len(kept))]
    if getattr(text, "num_kv_shared_layers", None):  # the last ones use the others' keys: as many again
        text.num_kv_shared_layers, kept = len(kept), kept * 2
    layers = max(2, len(kept))
    if kinds:
        put("layer_types", kept)
    for name in LAYERS:
        if isinstance(had[name], int):
            put(name, layers)
    below = getattr(text, "mlp_layer_types", None)
    if isinstance(below, list):
        put("mlp_layer_types", (list(dict.fromkeys(below)) * layers)[:layers])
    for name in ("first_k_dense_replace", "num_dense_layers"):
        if getattr(text, name, None):
            put(name, 1)
    for name in WINDOWS:
        if isinstance(getattr(text, name, None), int):
            put(name, WINDOW)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(text, name, None) is not None:
            put(name, 2)
    _ropes(text)
    for name in getattr(small, "sub_configs", {}):  # towers for pictures and sound: not looked at
        part = getattr(small, name, None)
        if part is not None and part is not text:
            for count in (n for n in LAYERS if isinstance(_value(part, n), int)):
                setattr(part, count, 1)
    return small


_NAMES = (*SIZES, *LAYERS, *KEYS)


def _value(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except RuntimeError:  # of a configuration whose layers differ in it
        return None


def _ropes(text: Any) -> None:
    """The border of long-RoPE and its factors, one a frequency."""
    ropes = getattr(text, "rope_parameters", None)
    if not isinstance(ropes, dict):
        return
    for rope in (ropes, *(r for r in ropes.values() if isinstance(r, dict))):
        if "original_max_position_embeddings" in rope:
            rope["original_max_position_embeddings"] = BORDER
        if int(HEAD * rope.get("partial_rotary_factor", 1)) % 2:  # only an even width can turn
            rope["partial_rotary_factor"] = 0.5
        head = _value(text, "head_dim") or text.hidden_size // text.num_attention_heads
        count = int(head * rope.get("partial_rotary_factor", getattr(text, "partial_rotary_factor", None) or 1.0)) // 2
        for name in ("short_factor", "long_factor"):
            if name in rope:
                rope[name] = rope[name][:count]
    if getattr(text, "original_max_position_embeddings", None):
        text.original_max_position_embeddings = BORDER


def spread(model: Any, seed: int = 0) -> Any:
    """Give a model random weights: matrices of standard deviation `STD`, and norms, biases, sinks moved by a third of
    that from where they start. Returns it, for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, p in sorted(model.named_parameters()):
            if p.is_floating_point():
                drawn = torch.randn(p.shape, generator=generator).to(p.device)
                p.copy_(drawn * STD if p.dim() > 1 else p + drawn * (STD / 3))
    return model.eval()
