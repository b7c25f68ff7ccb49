"""Other people's architectures, made small from their configurations with random weights: each either scores, samples
and trains exactly as if nothing were packed, or is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from rrm.core.errors import ModelError
from rrm.core.records import Case, Group, Outcome
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.sampling import sample
from tests.models.conftest import VOCABULARY, tokenizer

SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=VOCABULARY, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=2,
)  # fmt: skip
NO_WINDOW = SHAPE | {"sliding_window": None}
GEMMA = SHAPE | {"head_dim": 8, "query_pre_attn_scalar": 8}
CONFIGS: dict[str, Any] = {
    "gpt2": lambda: tf.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=256, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**{k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}),
    "qwen2": lambda: tf.Qwen2Config(**SHAPE),
    "qwen3": lambda: tf.Qwen3Config(**SHAPE, head_dim=8),
    "gemma": lambda: tf.GemmaConfig(**SHAPE, head_dim=8),
    "mistral": lambda: tf.MistralConfig(**NO_WINDOW),
    "phi3": lambda: tf.Phi3Config(**NO_WINDOW),
    "olmo2": lambda: tf.Olmo2Config(**SHAPE),
}
WINDOWED: dict[str, Any] = {
    "mistral": lambda: tf.MistralConfig(**SHAPE, sliding_window=16),
    "gemma3": lambda: tf.Gemma3TextConfig(**GEMMA, sliding_window=16),
    "phi3": lambda: tf.Phi3Config(**SHAPE, sliding_window=16),
}


def backbone(config: Any, adapters: Any = "lora") -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        for p in model.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=0.2)
    return Backbone(config.model_type, model, tokenizer(), adapters)


def plain(b: Backbone, prefix: list[int], ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities by transformers' own forward pass of one sequence."""
    logits = b.model(input_ids=torch.tensor([[*prefix, *ids]])).logits[0].log_softmax(-1)
    return logits[len(prefix) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0]


def exact(b: Backbone) -> None:
    """Packed scores and sampled log-probabilities are those of plain passes, for prefixes of two lengths."""
    prefixes, segments = [[3, 9, 4, 17, 6], [8, 5]], [(11, 4, 30, 2), (5,), (7, 7, 2)]
    with torch.no_grad():
        packed = b.start.logprobs([PrefixGroup(p, segments) for p in prefixes])
        for prefix, row in zip(prefixes, packed, strict=True):
            for segment, value in zip(segments, row, strict=True):
                torch.testing.assert_close(value, plain(b, prefix, segment), atol=1e-4, rtol=1e-4)
        found = sample(b.start, prefixes, 3, 6, 1.0, ["a", "b"], ())
        for prefix, row in zip(prefixes, found, strict=True):
            for tokens, kept, _ in row:
                torch.testing.assert_close(torch.tensor(kept), plain(b, prefix, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_scores_and_samples_exactly(name: str) -> None:
    exact(backbone(CONFIGS[name]()))


@pytest.mark.parametrize("adapters", ["lora", "full"])
@pytest.mark.parametrize("name", CONFIGS)
def test_it_trains(name: str, adapters: str) -> None:
    b = backbone(CONFIGS[name](), adapters)
    agent = TextAgent(b, b.fork("agent"), 8)
    groups = [Group(Case("w5 w6"), (Outcome("w7 w8"), Outcome("w9")))]
    optimizer, values = torch.optim.AdamW(agent.fork.parameters(), lr=1e-2), []
    for _ in range(4):
        for part in agent.microbatches(groups):
            loss = -part.logprobs.mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.1, values


@pytest.mark.parametrize("name", WINDOWED)
def test_a_sliding_window_is_the_limit(name: str) -> None:
    """Within its window, sliding attention is full attention: exact up to there, and refused beyond."""
    b = backbone(WINDOWED[name]())
    assert b.limit == 16
    exact(b)
    with torch.no_grad():
        (value,) = b.start.logprobs([PrefixGroup([3, 4, 5], [tuple(range(5, 18))])])[0]
        torch.testing.assert_close(value, plain(b, [3, 4, 5], tuple(range(5, 18))), atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match=r"17 tokens exceeds .*16"):
        b.start.logprobs([PrefixGroup([3, 4, 5], [tuple(range(5, 19))])])


def test_what_would_give_wrong_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="chunked_attention"):
        backbone(tf.Qwen2Config(**SHAPE, layer_types=["chunked_attention", "full_attention"]))
    with pytest.raises(ModelError, match="scales or caps its logits"):
        backbone(tf.GraniteConfig(**SHAPE, logits_scaling=4.0))
    tf.Gemma2ForCausalLM(tf.Gemma2Config(**GEMMA)).save_pretrained(tmp_path)  # soft-capped attention
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="scaled_dot_product_attention"):
        Backbone.load(str(tmp_path))
    with pytest.raises(ModelError, match="linear_attention"):
        backbone(tf.Qwen3NextConfig(**SHAPE))
