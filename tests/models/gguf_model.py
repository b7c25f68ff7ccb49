"""A tiny Llama as GGUF, with a byte-level vocabulary of the SmolLM kind: what `rrm model fetch` converts, small."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from rrm.models.fetching import ModelSource

D, LAYERS, HEADS, KV, INNER = 32, 2, 4, 2, 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_gguf(path: Path) -> None:
    """Random weights; a vocabulary of the specials, the bytes, and the merge of two line breaks."""
    from gguf import GGUFWriter, TokenType

    letters = sorted(ByteLevel.alphabet())
    tokens = [*SPECIAL, *letters, "ĊĊ"]
    writer = GGUFWriter(str(path), "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(D)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(D // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(letters) + 1))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(0, 0.2, shape).astype(np.float32))

    tensor("token_embd.weight", len(tokens), D)
    writer.add_tensor("output_norm.weight", np.ones(D, np.float32))
    for i in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{norm}.weight", np.ones(D, np.float32))
        kv = D * KV // HEADS
        for name, rows, columns in (
            ("attn_q", D, D), ("attn_k", kv, D), ("attn_v", kv, D), ("attn_output", D, D),
            ("ffn_gate", INNER, D), ("ffn_up", INNER, D), ("ffn_down", D, INNER),
        ):  # fmt: skip
            tensor(f"blk.{i}.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def source_of(path: Path) -> ModelSource:
    """The source that names this very file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelSource("small", "a tiny model", "no-such-wheel", "1.0", f"inside/{path.name}", digest)
