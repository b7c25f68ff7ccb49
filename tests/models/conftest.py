"""Tiny random models: big enough to be wrong in every interesting way, small enough for seconds."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrm.core.records import Group
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone

VOCABULARY = 40


def limited(monkeypatch: pytest.MonkeyPatch, **changes: int) -> None:
    """Every model computes as on a device that takes other sizes at once; `changes` of `Capacity`."""
    real = Backbone.capacity.fget
    assert real is not None
    monkeypatch.setattr(Backbone, "capacity", property(lambda self: replace(real(self), **changes)))


def tokenizer(chat: bool = False, bos: bool = False) -> PreTrainedTokenizerFast:
    """Words `w3`.. and specials; padding is the end-of-text token, as in many small models."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        from tokenizers.processors import TemplateProcessing

        inner.post_processor = TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    out = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    if chat:
        out.chat_template = (
            "{{ bos_token }}{% for m in messages %} w3 {{ m['content'] }} {% endfor %}"
            "{% if add_generation_prompt %} w4 {% endif %}"
        )
    return out


def network(
    kv: int = 2, seed: int = 0, spread: float = 1.0, hidden: int = 32, layers: int = 2
) -> LlamaForCausalLM:
    """A small Llama with 4 query heads; `spread` scales the weights, so that its predictions differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=hidden, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=kv, vocab_size=VOCABULARY, max_position_embeddings=256,
            initializer_range=0.2 * spread, bos_token_id=1, eos_token_id=2, pad_token_id=2,
            tie_word_embeddings=True, attn_implementation="sdpa",
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()


def four_steps(agent: TextAgent, groups: Sequence[Group]) -> list[float]:
    """The losses of four steps towards the outcomes of groups."""
    optimizer, losses = torch.optim.AdamW(agent.fork.parameters(), lr=1e-2), []
    for _ in range(4):
        for part in agent.microbatches(groups):
            loss = -part.logprobs.mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.fixture
def tiny() -> Callable[..., Backbone]:
    """A factory of backbones."""

    def make(
        adapters: str = "full", kv: int = 2, seed: int = 0, chat: bool = False, bos: bool = False
    ) -> Backbone:
        return Backbone("tiny", network(kv, seed), tokenizer(chat, bos), adapters)  # type: ignore[arg-type]

    return make
