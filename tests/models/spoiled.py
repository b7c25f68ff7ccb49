"""Tiny model folders, and ways to spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from rrm.core.errors import ModelError
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from tests.models.conftest import VOCABULARY, tokenizer

SHAPE = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    vocab_size=VOCABULARY, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)  # fmt: skip
PLAIN = {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}
GROUPS = [PrefixGroup([5, 6, 7, 30], [[8, 9, 2], [10]])]
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaConfig(**SHAPE),
    "gpt2": lambda: tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=64,
                                  bos_token_id=1, eos_token_id=2),
    "untied neox": lambda: tf.GPTNeoXConfig(**PLAIN),
}  # fmt: skip


def model(config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = tf.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        for p in made.parameters():
            torch.nn.init.normal_(p, mean=float(p.dim() == 1), std=0.3)  # biases and norms count, too
    return made


def saved(folder: Path, config: Any, seed: int = 0) -> Path:
    model(config, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def scores(b: Backbone) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(b.start.logprobs(GROUPS)[0])


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], file: str = "model.safetensors") -> None:
    state = load_file(folder / file)
    change(state)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / file, metadata={"format": "pt"})


def settings(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path | str, *words: str) -> str:
    """It is refused, once and again, with all of these words, and nothing else is raised."""
    with pytest.raises(ModelError) as caught:
        Backbone.load(str(folder))
    text = str(caught.value)
    assert all(word in text for word in words), text
    return text


def drop(state: dict[str, torch.Tensor], name: str) -> None:
    del state[name]


def rename(state: dict[str, torch.Tensor], name: str) -> None:
    state[name + "_"] = state.pop(name)


def prefix(state: dict[str, torch.Tensor], name: str) -> None:
    state["base." + name] = state.pop(name)


def shorten(state: dict[str, torch.Tensor], name: str) -> None:
    state[name] = state[name][:-1]


def widen(state: dict[str, torch.Tensor], name: str) -> None:
    state[name] = state[name][None]


def spoil(value: float) -> Callable[[dict[str, torch.Tensor], str], None]:
    def change(state: dict[str, torch.Tensor], name: str) -> None:
        state[name].view(-1)[-1] = value

    return change


def add(state: dict[str, torch.Tensor], name: str) -> None:
    """One more of its kind: a layer or a bias that the config does not know of."""
    state[name.replace(".1.", ".2.") if ".1." in name else name + "2"] = state[name].clone()


CORRUPTIONS = {
    "drop": drop, "rename": rename, "prefix": prefix, "shorten": shorten, "widen": widen, "nan": spoil(float("nan")),
    "inf": spoil(float("inf")), "add": add,
}  # fmt: skip
