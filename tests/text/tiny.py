"""A tiny random model whose words are whole lines: it says what papers, stories and critics say, in any order."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrm.models.backbone import Backbone
from rrm.users.model import ModelUser

LINES = (
    "yes", "no", 'no "the dog"', "N/A", "\n", "The dog run home. ", "She recieve a map, and sails. ",
    "Title: Rest helps.", "Claim: Resting longer lets people do more push-ups.",
    "Computation: (14 + 16 + 18) / 3\nResult: 16", "Computation: (10 + 11 + 12) / 3\nResult: 12",
    "Proof: (n + 1)^2 - n^2 = 2n + 1", "Proof: 2n = n^2", "A", "B",
)  # fmt: skip


def backbone(seed: int = 0) -> Backbone:
    """Byte-level, so that it can be held to a form: it could write anything letter by letter, but hardly ever does."""
    tokens = ["<s>", "</s>", *map(written, LINES)]
    letters = [letter for letter in sorted(pre_tokenizers.ByteLevel.alphabet()) if letter not in tokens]
    words = {token: i for i, token in enumerate([*tokens, *letters])}
    inner = Tokenizer(models.BPE(words, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(words),
            max_position_embeddings=2048, initializer_range=0.08, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            tie_word_embeddings=False, attn_implementation="sdpa",
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        model.lm_head = torch.nn.Linear(32, len(words))
        with torch.no_grad():
            model.lm_head.weight.normal_(0, 0.08)
            model.lm_head.bias.zero_()[len(tokens) :] = -8
        return Backbone("lines", model.eval(), tokenizer, "full")


def written(text: str) -> str:
    """A text in the letters that stand for bytes."""
    ((word, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return word


def user() -> ModelUser:
    return ModelUser(backbone(1), margin=0.0, abstain=0.0)
