"""From GGUF to a folder of `save_pretrained`, once; whoever loads the folder afterwards needs no gguf.

transformers reads weights, vocabulary and template. What it does not take over, or takes over otherwise than the model
was trained with, is set right here: the rule that splits a text into words, Unicode's normal form, rows of the
vocabulary that stand for nothing, and the tokens at which the model stops. Then the folder is read again, and must give
what was written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrm.core.errors import ModelError
from rrm.models.chat import stops_of
from rrm.models.folders import Blaming, read_model
from rrm.models.identity import Header
from rrm.models.real_models import EXTRA, ModelSource
from rrm.models.weights import hash_tensors

CONTROL, UNUSED = 3, 5
"""Types of tokens in GGUF: one that is no text, and one that fills up a vocabulary and stands for nothing."""
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Qwen 2 and 2.5 split a text into words: each digit is one."""
SAID = "Is 17 prime?\n\n1. Say  why, it's for a friend: 3.14, naïve (nai\u0308ve), 你好 🙂.\t\r\n  DON'T\n\n\n<a>"
"""A text on which tokenizers differ: digits, blanks, contractions, another script, a letter in two characters."""


def convert(source: ModelSource, gguf: Path, header: Header, into: Path) -> None:
    """Write a GGUF model, whose header was read, as a folder of `save_pretrained`, its weights as the source says, in
    float32 or bfloat16.

    The folder is read again. Raises `ModelError`: it cannot be read, or is not what was written: every weight, the
    logits of a conversation, token ids, chat template, the tokens that end an outcome.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[source.weights]
    what, mend = f"transformers cannot read {gguf}", f"install gguf again: {EXTRA}"
    with Blaming(what, mend):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = read_model(
        AutoModelForCausalLM, str(gguf.parent), what, mend, gguf_file=gguf.name, dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
    )  # fmt: skip
    mend_tokenizer(tokenizer, header.words)
    if source.stops:
        config = model.config
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=config.bos_token_id, pad_token_id=config.pad_token_id,
            eos_token_id=_ids(tokenizer, source.stops, gguf),
        )  # fmt: skip
    # The weights are plain numbers by now, but transformers still refuses to save what bears these marks.
    for marked, mark in (
        (model, "hf_quantizer"), (model, "is_quantized"), (model, "quantization_method"),
        (model.config, "quantization_config"), (model.config, "_is_quantized"),
    ):  # fmt: skip
        if mark in vars(marked):
            delattr(marked, mark)
    with Blaming(f"cannot write {into}", "make room there and make it writable, or set RRM_CACHE to another folder"):
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)
        readable = (into / "config.json").stat().st_mode  # safetensors makes files for their owner only
        (into / "model.safetensors").chmod(readable)
    before = Written.of(model, tokenizer)
    del model  # two of them need not be in memory at once
    what = f"the copy of {gguf.name} cannot be read"
    again = read_model(AutoModelForCausalLM, str(into), what, "update transformers", local_files_only=True, dtype=dtype)
    with Blaming(what, "update transformers"):
        same = AutoTokenizer.from_pretrained(into, local_files_only=True)
    differs = differences(before, Written.of(again, same))
    if differs:
        raise ModelError(f"the copy of {gguf.name} differs from it in {', '.join(differs)}; update transformers")


def mend_tokenizer(tokenizer: Any, words: Mapping[str, Any]) -> None:
    """Make a tokenizer that transformers read from GGUF the one that the model was trained with.

    transformers reads vocabulary and merges, but not always which rule splits a text into words: it takes GPT-2's for
    SmolLM, and a blank line before a digit then becomes two tokens where the model has learned one. For Qwen it leaves
    out that texts come in normal form C. And llama.cpp fills a vocabulary up to the embedding's rows with tokens of no
    meaning ("[PAD151665]"), which upstream's tokenizer does not have: taken for words, they could be sampled.

    words: what the file says of its tokenizer; see `Header.words`. Raises `ModelError` if a token that the file says is
    no text is a word to transformers.
    """
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

    rule, inner = words.get("tokenizer.ggml.pre"), tokenizer.backend_tokenizer
    if rule == "smollm":
        digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    elif rule == "qwen2":
        inner.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated")
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    kinds, tokens = words.get("tokenizer.ggml.token_type", []), words.get("tokenizer.ggml.tokens", [])
    unused = {token for token, kind in zip(tokens, kinds, strict=False) if kind == UNUSED}
    if unused:
        body = json.loads(inner.to_str())
        body["model"]["vocab"] = {token: n for token, n in body["model"]["vocab"].items() if token not in unused}
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(body))
    tokenizer.chat_template = words.get("tokenizer.chat_template", tokenizer.chat_template)
    added = tokenizer.added_tokens_decoder
    lost = [
        token for n, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind == CONTROL and not (n in added and added[n].special and added[n].content == token)
    ]  # fmt: skip
    if lost:
        raise ModelError(f"transformers does not take {', '.join(lost[:4])} for special tokens; update transformers")


def _ids(tokenizer: Any, tokens: Sequence[str], gguf: Path) -> list[int]:
    known = tokenizer.get_vocab()
    if lost := [token for token in tokens if token not in known]:
        raise ModelError(f"{gguf}: its vocabulary lacks {', '.join(lost)}, at which the model has to stop")
    return [known[token] for token in tokens]


@dataclass(frozen=True)
class Written:
    """What a model folder has to give back."""

    weights: dict[str, str]  # name -> hash of type and numbers
    logits: Tensor  # (1, tokens, vocabulary), of a conversation
    rest: dict[str, Any]

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Written:
        """Of a model and its tokenizer in memory."""
        turns = [{"role": "user", "content": SAID}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        state = model.eval().state_dict()
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        return cls(
            {name: hash_tensors([(name, one)], str(one.dtype)) for name, one in sorted(state.items())}, logits,
            {
                "token ids": ids,
                "the text of token ids": tokenizer.decode(ids),
                "vocabulary": hash(frozenset(tokenizer.get_vocab().items())),
                "added tokens": {n: str(token) for n, token in sorted(tokenizer.added_tokens_decoder.items())},
                "chat template": tokenizer.chat_template,
                "special tokens": tokenizer.special_tokens_map,
                "the tokens that end an outcome": stops_of(model, tokenizer),
                "whether input and output share an embedding": tied,
            },
        )  # fmt: skip


def differences(one: Written, two: Written) -> list[str]:
    """In what a saved and reloaded model is not what was saved: at most five weights, and whatever else."""
    names = sorted({*one.weights, *two.weights})
    out = [name for name in names if one.weights.get(name) != two.weights.get(name)][:5]
    if not torch.equal(one.logits, two.logits):
        out.append("logits")
    return out + [what for what in one.rest if one.rest[what] != two.rest[what]]
