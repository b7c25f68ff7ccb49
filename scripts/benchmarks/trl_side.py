"""TRL's side: its trainers with the settings that are best for it here. TRL is an extra, never a dependency.

    pip install -e '.[bench]'
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback

from benchmarks.common import (
    KL,
    LORA,
    LR,
    BenchError,
    Options,
    Precision,
    Shape,
    Tell,
    hash_reward,
    in_precision,
    seconds,
)
from benchmarks.common import network as make_network

COMMON: dict[str, Any] = {
    "use_cpu": True,
    "gradient_checkpointing": False,  # TRL's default is to checkpoint: slower, and memory is not short here
    "max_steps": 1,
    "learning_rate": LR,
    "lr_scheduler_type": "constant",
    "logging_strategy": "no",
    "report_to": "none",
    "save_strategy": "no",
    "eval_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "disable_dropout": True,
}
"""Settings of both trainers; logging, saving and progress are off."""


def require_trl() -> Any:
    """The module; raises `BenchError` if it is not installed."""
    try:
        import trl
    except ImportError as error:
        raise BenchError(
            f"TRL cannot be imported ({error}); install it with: pip install -e '.[bench]', or run the cases that "
            "do without it: --case sampling --case limit --case memory"
        ) from error
    return trl


class Clock(TrainerCallback):
    """Seconds of the training steps alone: sampling, forward, backward and update, without the set-up."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Called by transformers' `Trainer`, as `on_step_end` is."""
        self.began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Adds the step's seconds to `steps`."""
        self.steps.append(time.perf_counter() - self.began)


@dataclass(frozen=True)
class Best:
    """What is fastest for TRL on this machine."""

    precision: Precision
    tokens: int
    """Of a micro-batch: larger ones fall out of the processor's caches."""

    def rows(self, total: int, length: int) -> int:
        """Rows of a micro-batch: the largest even part of `total` that has at most `tokens` tokens, or 2."""
        fitting = [n for n in range(2, total + 1, 2) if total % n == 0 and n * length <= self.tokens]
        return max(fitting, default=min(2, total))

    def settings(self, total: int, length: int, per: int = 1) -> dict[str, Any]:
        """Settings for a batch of `total` rows, `per` of them to an example."""
        rows = self.rows(total, length)
        return {
            "bf16": False,  # no autocast: where bfloat16 is faster, the frozen weights are bfloat16 outright
            "per_device_train_batch_size": rows // per,
            "gradient_accumulation_steps": total // rows,
        }


LAYERS = 12
"""Of the network by which TRL's fastest settings are found."""


@cache
def best(options: Options, tell: Tell) -> Best:
    """By a forward and backward pass as its trainers make it, in micro-batches of 2 to 8 rows of 400 tokens, through
    12 layers: with 4 both precisions took as long, and bfloat16 is a fifth faster of 12 and of all 30. Once per
    process."""
    length = 24 if options.tiny else 400
    adapters = LoraConfig(task_type="CAUSAL_LM", **LORA)
    asked: list[Precision] = ["float32", "bfloat16"] if options.precision == "auto" else [options.precision]
    networks = {which: get_peft_model(make_network(options.tiny, which, LAYERS), adapters) for which in asked}

    def per_row(rows: int, which: Precision) -> float:
        model = networks[which]
        ids = torch.randint(3, model.config.vocab_size, (rows, length))

        def work() -> None:
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=16).logits
            logits.float().log_softmax(-1).mean().backward()

        taken = min(seconds(work) for _ in range(2 if options.quick else 3)) / rows
        tell(f"TRL: {rows} rows of {length}, {which}, forward and backward: {taken:.2f} s a row")
        return taken

    small = {which: per_row(2, which) for which in asked}
    which = min(small, key=lambda one: small[one])
    taken = {2: small[which]} | {rows: per_row(rows, which) for rows in (4, 8)}
    return Best(which, length * min(taken, key=lambda rows: taken[rows]))


def rloo_trainer(
    model: Any,
    tokens: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    shape: Shape,
    best: Best,
    out: Path,
    **changes: Any,
) -> tuple[Any, Clock]:
    """An RLOOTrainer whose step is `shape`; outcomes have that length exactly."""
    trl = require_trl()
    settings = COMMON | best.settings(shape.cases * shape.outcomes, shape.case + shape.outcome) | {
        "num_generations": shape.outcomes,
        "max_completion_length": shape.outcome,
        "generation_kwargs": {"min_new_tokens": shape.outcome, "use_cache": True},
        "beta": KL,
        "temperature": 1.0,
    }
    reward: dict[str, Any] = {"reward_funcs": _hash_rewards}
    clock = Clock()
    trainer = trl.RLOOTrainer(
        model=model,
        args=trl.RLOOConfig(output_dir=str(out), **(settings | changes.pop("args", {}))),
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=tokens,
        callbacks=[clock],
        **(reward | changes),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, clock


def _hash_rewards(completions: Sequence[str], **kwargs: Any) -> list[float]:
    return [hash_reward(text) for text in completions]


def reward_trainer(
    model: Any,
    tokens: PreTrainedTokenizerFast,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    best: Best,
    out: Path,
    **changes: Any,
) -> tuple[Any, Clock]:
    """A RewardTrainer on pairs of (chosen, rejected) token ids, one step for all of them."""
    trl = require_trl()
    data = {"chosen_ids": [list(a) for a, _ in pairs], "rejected_ids": [list(b) for _, b in pairs]}
    length = max(len(ids) for pair in pairs for ids in pair)
    settings = COMMON | best.settings(2 * len(pairs), length, per=2)
    clock = Clock()
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(output_dir=str(out), **(settings | changes.pop("args", {}))),
        train_dataset=Dataset.from_dict(data),
        processing_class=tokens,
        callbacks=[clock],
        **changes,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, clock


def lora(task: str) -> LoraConfig:
    """The adapter TRL's trainers are given: as ours; a reward model's head is trained beside it."""
    return LoraConfig(task_type=task, modules_to_save=["score"] if task == "SEQ_CLS" else None, **LORA)


def classifier(tiny: bool, which: Precision) -> LlamaForSequenceClassification:
    """The benchmark's model with a scalar head instead of the language model's."""
    causal = make_network(tiny)
    causal.config.num_labels = 1
    model = LlamaForSequenceClassification(causal.config)
    model.model.load_state_dict(causal.model.state_dict())
    return in_precision(model.eval(), which)
