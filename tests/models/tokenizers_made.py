"""Tokenizers of the kinds that people use, trained on the spot: SentencePiece with a blank before a text (Llama 2,
Zephyr) or only before the first (Mistral), without (Gemma), and byte-level ones (GPT-2, Qwen); with their templates."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The better one is A", "The better one is B", "Is this claim right?\nYes, it is.", "  two  blanks\n\n and a line",
    "Answer: yes", "Answer: no", "x = 12 + 30", "the cat sat on the mat", "if a > b: return a", "naïve, Übung",
] * 20  # fmt: skip
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
QWEN += r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def sentencepiece(specials: list[str], normalizer: Any, pre: Any, template: str, marked: bool = True) -> Any:
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer is not None:
        inner.normalizer = normalizer
    if pre is not None:
        inner.pre_tokenizer = pre
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    known = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)]]
    inner.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=700, special_tokens=known, initial_alphabet=list("▁AB\n"), show_progress=False))  # fmt: skip
    state = json.loads(inner.to_str())  # bytes are tokens like others
    state["added_tokens"] = [one for one in state["added_tokens"] if not one["content"].startswith("<0x")]
    inner = Tokenizer.from_str(json.dumps(state))
    inner.add_tokens([AddedToken(text, special=marked, normalized=False) for text in specials])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    out = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    out.chat_template = template or None
    return out


def bytelevel(specials: list[str], eos: str, template: str, pattern: str = "", marked: bool = True) -> Any:
    inner = Tokenizer(models.BPE())
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    inner.pre_tokenizer = pre_tokenizers.Sequence([*split, byte])
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False))  # fmt: skip
    inner.add_tokens([AddedToken(text, special=marked, normalized=False) for text in specials])
    out = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, pad_token="<|endoftext|>")
    out.chat_template = template or None
    return out


def _unknown(tokenizer: Any) -> Any:
    """With a token for what it does not know, which a tokenizer of bytes never writes: end-of-text."""
    tokenizer.unk_token = "<|endoftext|>"
    return tokenizer


def _prepended() -> Any:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


MADE = {
    "llama2": lambda: sentencepiece([], _prepended(), None, LLAMA2),
    "zephyr": lambda: sentencepiece([], _prepended(), None, ZEPHYR),
    "llama2 without a template": lambda: sentencepiece([], _prepended(), None, ""),
    "mistral": lambda: sentencepiece(
        ["[INST]", "[/INST]"], None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), MISTRAL
    ),
    "gemma": lambda: sentencepiece(
        ["<start_of_turn>", "<end_of_turn>"], normalizers.Replace(" ", "▁"), None, GEMMA
    ),
    "gpt2": lambda: bytelevel([], "<|endoftext|>", ""),
    "gpt2, as saved": lambda: _unknown(bytelevel([], "<|endoftext|>", "")),
    "smollm": lambda: _unknown(bytelevel(["<|im_start|>", "<|im_end|>"], "<|im_end|>", CHATML)),
    "qwen": lambda: bytelevel(["<|im_start|>", "<|im_end|>"], "<|im_end|>", CHATML, QWEN),
    "qwen, unmarked": lambda: bytelevel(
        ["<|im_start|>", "<|im_end|>", "<think>"], "<|endoftext|>", CHATML, QWEN, False
    ),
}  # fmt: skip


@cache
def made(name: str) -> Any:
    """One of `MADE`."""
    return MADE[name]()
