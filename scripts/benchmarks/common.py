"""What the cases share: the model, the shapes, how two sides are timed, and the record of what came out."""

from __future__ import annotations

import gc
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import rrm.models.precision
from rrm.core.seeding import generator
from rrm.models.adapters import RANK
from rrm.models.backbone import Backbone
from rrm.models.probing import probe

LORA = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear", "lora_dropout": 0.0}
"""The adapters of both sides."""
LR, KL = 1e-5, 0.05
"""Learning rate and price of KL, of both sides: small, so that repeated steps stay alike."""
Precision = Literal["float32", "bfloat16"]
"""What the frozen weights are kept in, on both sides; adapters, logits' softmax and losses are float32."""


class BenchError(Exception):
    """A benchmark cannot be run; says how to mend it."""


@dataclass(frozen=True)
class Shape:
    """`cases` cases of `case` tokens, each with `outcomes` outcomes of `outcome` tokens."""

    case: int
    outcomes: int
    outcome: int
    cases: int = 1

    def __str__(self) -> str:
        cases = f"{self.cases} cases" if self.cases > 1 else "case"
        return f"{cases} of {self.case} tokens, {self.outcomes} outcomes of {self.outcome}"


@dataclass(frozen=True)
class Options:
    """How to run. `tiny` replaces the model and the shapes by small ones: to see that it works, not how fast."""

    quick: bool = False
    tiny: bool = False
    runs: int = 3
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def shape(self, case: int, outcomes: int, outcome: int) -> Shape:
        """This shape; if `tiny`, with a sixteenth of the case, half of the outcomes, an eighth of their length."""
        return Shape(case // 16, outcomes // 2, outcome // 8) if self.tiny else Shape(case, outcomes, outcome)


@dataclass(frozen=True)
class Result:
    """What a case found: keys of `ratios`, `limit` and `memory` as they stand in the JSON.

    raw: measurement -> side -> what every run gave, in `unit`. A ratio is that of the medians.
    """

    unit: str
    raw: Mapping[str, Mapping[str, Sequence[float]]]
    ratios: Mapping[str, float] = field(default_factory=dict)
    limit: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, in JSON's terms."""


Tell = Callable[[str], None]
"""Shows progress."""


# --- the model -----------------------------------------------------------------------------------------


def config(tiny: bool) -> LlamaConfig:
    """SmolLM2-135M's shape (30 layers of 576, grouped-query attention, tied embeddings), or a tiny one."""
    size = (
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 2048}
        if tiny
        else {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
              "num_key_value_heads": 3, "vocab_size": 49152}
    )  # fmt: skip
    return LlamaConfig(
        **size, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=2, pad_token_id=2, attn_implementation="sdpa",
    )  # fmt: skip


def network(tiny: bool, which: Precision = "float32", layers: int | None = None) -> LlamaForCausalLM:
    """A model with random weights, the same at every call. Speed does not depend on what it has learned."""
    shape = config(tiny)
    shape.num_hidden_layers = layers or shape.num_hidden_layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return in_precision(LlamaForCausalLM(shape).eval(), which)


def in_precision(model: Any, which: Precision) -> Any:
    """Its parameters rounded; its buffers as they are, as `from_pretrained(dtype=...)` leaves them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, which))
    return model


def tokenizer(tiny: bool) -> PreTrainedTokenizerFast:
    """One word per token: w3, w4, ..."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, config(tiny).vocab_size)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def backbone(options: Options) -> Backbone:
    """Our side's model, in the precision that the engine's own probe chooses; forks are adapters, also if tiny."""
    model = Backbone("bench", network(options.tiny), tokenizer(options.tiny), adapters="lora")
    which = chosen(model) if options.precision == "auto" else options.precision
    model.precision = rrm.models.precision.Precision(which, which)
    return model


def chosen(model: Backbone) -> Precision:
    """The probe's answer, asked once per process: it depends on the machine."""
    if "rrm" not in _CHOSEN:
        _CHOSEN["rrm"] = probe(model)[0].weights
    return _CHOSEN["rrm"]


_CHOSEN: dict[str, Precision] = {}


def word_ids(n: int, tiny: bool, *name: object) -> tuple[int, ...]:
    """`n` random ids of words; the same name gives the same ids."""
    ids = torch.randint(3, config(tiny).vocab_size, (n,), generator=generator("bench", *map(str, name)))
    return tuple(ids.tolist())


def text_of(ids: Sequence[int]) -> str:
    """The words of these ids: the inverse of `tokenizer`."""
    return " ".join(f"w{i}" for i in ids)


def hash_reward(text: str) -> float:
    """A reward that costs nothing and tells outcomes apart: in [0, 1), by the text's hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


# --- timing --------------------------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(
    name: str, sides: Mapping[str, Callable[[], float]], runs: int, tell: Tell, warm: bool = False
) -> dict[str, list[float]]:
    """Run the sides in turn, A/B/A/B, after one run of each that does not count unless they are `warm`.

    A side returns what its run took (or reached), so that it can leave out what is not the work.
    """
    found: dict[str, list[float]] = {side: [] for side in sides}
    for run in range(int(warm), runs + 1):
        for side, work in sides.items():
            gc.collect()
            value = work()
            tell(f"{name}: {side} {value:.2f}{'' if run else ' (warm-up)'}")
            if run:
                found[side].append(value)
    return found


def times_faster(raw: Mapping[str, Sequence[float]], ours: str = "rrm", peer: str | None = None) -> float:
    """Median of the peer's seconds over the median of ours."""
    peer = peer or next(side for side in raw if side != ours)
    return statistics.median(raw[peer]) / statistics.median(raw[ours])
