"""policy_step_*: one RLOO step, sampling and update, against TRL's RLOOTrainer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import trl_side
from benchmarks.common import (
    KL,
    LR,
    Options,
    Result,
    Shape,
    Tell,
    alternate,
    backbone,
    hash_reward,
    network,
    text_of,
    times_faster,
    tokenizer,
    word_ids,
)  # fmt: skip
from rrm.core.records import Case, Group
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import rloo
from rrm.models.agent import TextAgent

SHAPES = {"policy_step_assistance": (384, 8, 16), "policy_step_writing": (64, 8, 128)}


def run(name: str, options: Options, tell: Tell) -> Result:
    """One step of a group on both sides: the same model, adapters, lengths, reward and price of KL."""
    trl_side.require_trl()
    shape = options.shape(*SHAPES[name])
    prompts = [text_of(word_ids(shape.case, options.tiny, name, i)) for i in range(4)]
    ours = Ours(shape, prompts, options)
    best = trl_side.best(options, tell)
    with tempfile.TemporaryDirectory() as out:
        trainer, clock = trl_side.rloo_trainer(
            network(options.tiny, best.precision), tokenizer(options.tiny), prompts, shape, best, Path(out),
            peft_config=trl_side.lora("CAUSAL_LM"),
        )  # fmt: skip

        def peer() -> float:
            trainer.train()
            return clock.steps[-1]

        raw = alternate(name, {"rrm": ours.step, "trl": peer}, options.runs, tell, warm=True)  # by the probes
    settings = {
        "shape": str(shape),
        "rrm": {"weights": ours.precision, "engine": "rrm.learning.rloo.improve, one step, optimizer made anew"},
        "trl": {
            "trainer": "RLOOTrainer", **trl_side.COMMON, **best.settings(shape.outcomes, shape.case + shape.outcome),
            "weights": best.precision, "beta": KL, "use_vllm": False,
        },
    }  # fmt: skip
    return Result("seconds", {name: raw}, ratios={name: times_faster(raw)}, settings=settings)


class Ours:
    """Our side: an agent, and steps on it."""

    def __init__(self, shape: Shape, prompts: Sequence[str], options: Options) -> None:
        self.shape = shape
        model = backbone(options)
        self.precision = model.precision.weights
        self.agent = TextAgent(model, model.fork("agent"), shape.outcome)
        self.cases = Pool(tuple(Case(prompt) for prompt in prompts))
        self.settings = Settings(steps=1, batch=shape.cases, group=shape.outcomes, lr=LR, kl=KL, max_kl=1e9)
        self.done = 0

    def step(self) -> float:
        """Seconds of one step whose outcomes all have full length.

        End-of-text has the probability of any other token here. A step in which it came up did less work than
        the other side, so it is run again.
        """
        while True:
            lengths: set[int] = set()

            def judge(groups: Sequence[Group], lengths: set[int] = lengths) -> list[torch.Tensor]:
                lengths.update(len(o.tokens) for g in groups for o in g.outcomes)
                return [torch.tensor([hash_reward(o.text) for o in g.outcomes]) for g in groups]

            self.done += 1
            began = time.perf_counter()
            rloo.improve(self.agent, judge, self.cases, self.settings, f"step {self.done}", lambda step, metrics: None)
            took = time.perf_counter() - began
            if lengths == {self.shape.outcome}:
                return took
