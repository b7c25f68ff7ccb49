"""A stand-in for a model that can design chips: it says what the corpus's hurried people say.

Its texts come from the corpus, everything else (tokens, log-probabilities, gradients, reward models) from a tiny
random network over the world's words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrm import Case, Group, Outcome, Settings, Task
from rrm.core.seeding import seed_of
from rrm.learning.text_maker import TextPolicy
from rrm.models.backbone import Backbone
from rrm.worlds.chip.corpus import Corpus, Errors, vocabulary

SMALL = Settings(
    rounds=1, cases=6, outcomes=3, comparisons=10, steps=2, batch=3, group=3, reward_epochs=1, frame_cases=2, lr=3e-4,
    accept=3, max_tokens=80,
)  # fmt: skip
ASKED = {
    "Design a": "chip", "Simulate this cache phase": "segments", "Simulate this cache .": "benchmark",
    "Compute the heat": "heat", "Compute the lifetime": "lifetime", "Attack": "security",
}  # fmt: skip
"""How a role's prompts begin."""


def backbone() -> Backbone:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary())}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=512
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary()), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=512, pad_token_id=0, eos_token_id=1, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone("stand-in", LlamaForCausalLM(config).eval(), tokenizer)


def role(case: Case) -> str:
    (found,) = [name for start, name in ASKED.items() if case.prompt.startswith(start)]
    return found


class StandIn(TextPolicy):
    """Samples from the corpus; learns as any other agent, though it is not its weights that speak."""

    errors = Errors(critic=0.1)

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        groups = []
        for place, case in enumerate(cases):
            corpus = Corpus(random.Random(seed_of(key, case.id, place)), self.errors)
            texts = [corpus.write(role(case), case) for _ in range(n)]
            ids = [(*self.backbone.encode(text), self.backbone.eos_id) for text in texts]
            groups.append(Group(case, tuple(Outcome(t, i) for t, i in zip(texts, ids, strict=True))))
        if groups:
            logprobs = self.logprobs(groups)
            groups = [
                replace(group, outcomes=tuple(
                    replace(o, logprobs=tuple(map(float, p))) for o, p in zip(group.outcomes, row, strict=True)
                ))
                for group, row in zip(groups, logprobs, strict=True)
            ]  # fmt: skip
        return groups


def employ(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on runs and measurements sample from stand-ins."""
    monkeypatch.setattr("rrm.learning.text_maker.TextPolicy", StandIn)
    monkeypatch.setattr("rrm.measure.arms.TextAgent", StandIn)


def small(task: Task) -> Task:
    """The tree with settings that take seconds."""
    subs = tuple(small(sub) for sub in task.assistants if isinstance(sub, Task))
    return replace(task, assistants=subs, settings=SMALL)
