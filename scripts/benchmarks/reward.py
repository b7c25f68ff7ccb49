"""reward_fit*: comparisons learned per second, against TRL's RewardTrainer, which trains adapters for one epoch.

`reward_fit` is what each side does by default on a CPU: ours solves for heads on a frozen trunk, to convergence.
`reward_fit_lora`, its steps and `reward_fit_groups` are the same job on both sides: adapters.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import trl_side
from benchmarks.common import (
    LR,
    Options,
    Result,
    Shape,
    Tell,
    alternate,
    backbone,
    hash_reward,
    text_of,
    tokenizer,
    word_ids,
)  # fmt: skip
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Case, Outcome
from rrm.core.settings import Settings
from rrm.learning.fitting import fit_reward
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel, trunk

EPOCHS = 2
"""Passes over the comparisons in one of our fits (rrm's default): the last scoring pass is shared by them."""
PAIRS = 4
"""Pairs in a step of TRL."""
TRAINED = {"reward_trunk": "trained", "heads": 1, "surprise": False, "reward_epochs": EPOCHS}
"""As RewardTrainer with adapters: one head, no surprise features."""
DEFAULT = {"reward_trunk": "auto"}
"""As this framework does by default: for such a model on a CPU a frozen trunk, four heads, surprise features."""


@dataclass(frozen=True)
class Fit:
    """Ours: `cases` cases with `outcomes` outcomes each, all pairs of a case compared; the trunk trained or frozen.
    steps: only the time of the training steps counts, as of TRL's, and not that of scoring all outcomes afterwards."""

    name: str
    cases: int
    outcomes: int
    settings: Mapping[str, Any]
    steps: bool = False

    @property
    def frozen(self) -> bool:
        """Whether it is fitted as by default, which freezes the trunk of such a model on a CPU."""
        return self.settings is DEFAULT


FITS = (
    Fit("reward_fit", 4, 2, DEFAULT),
    Fit("reward_fit_lora", 4, 2, TRAINED),
    Fit("reward_fit_lora_steps", 4, 2, TRAINED, steps=True),
    Fit("reward_fit_groups", 1, 8, TRAINED),
)


def run(options: Options, tell: Tell) -> Result:
    """TRL trains adapters; ours does what it does by default, and then the same as TRL."""
    trl_side.require_trl()
    fits = FITS[: 2 if options.tiny else 1] if options.quick else FITS
    settings: dict[str, Any] = {}
    sides = {}
    for fit in fits:
        sides[fit.name], settings[fit.name] = _ours(fit, options)
    with tempfile.TemporaryDirectory() as out:
        sides["trl"], settings["trl"] = _peer(options, Path(out), tell)
        times = alternate("reward_fit", sides, options.runs, tell, warm=options.quick)
    raw = {fit.name: {"rrm": times[fit.name], "trl": times["trl"]} for fit in fits}
    notes = [
        "The time of ours is that of the whole `fit_reward`, with the scoring pass over all outcomes that sets the "
        "normalization; of TRL's, that of its training steps alone. `reward_fit_lora_steps` is `reward_fit_lora` up to "
        "its last step: the same job, timed as TRL's is.",
        f"TRL computes every comparison by itself, whatever its case, so its step of {PAIRS} comparisons, timed in "
        "turn with all of ours, stands beside each of them.",
        "`reward_fit` does not compare equal jobs but each side's default on a CPU: ours computes features of a "
        "frozen trunk once, without a backward pass, and solves for its heads to convergence; TRL trains LoRA adapters "
        "for one epoch. A comparison counts once on both sides.",
        "`reward_fit_lora`, its steps and `reward_fit_groups` are the same job on both sides, LoRA adapters; "
        f"a comparison counts once per epoch ({EPOCHS} of ours, 1 of TRL's).",
    ]
    ratios = {what: statistics.median(by["rrm"]) / statistics.median(by["trl"]) for what, by in raw.items()}
    return Result("comparisons per second", raw, ratios=ratios, settings=settings, notes=notes)


def run_compiled(options: Options, tell: Tell) -> Result:
    """`--compile` (torch.compile) against our passes as they are, in the steps of the same fit; compiled first."""
    fit = FITS[2]
    sides, settings = {}, {}
    for side, compiled in (("rrm", False), ("compiled", True)):
        model = backbone(options)
        model.compile = compiled
        sides[side], settings[side] = _ours(fit, options, model)
    began = time.perf_counter()
    sides["compiled"]()
    first = time.perf_counter() - began
    tell(f"compiled: the first fit took {first:.0f} s")
    times = alternate("compiled", sides, options.runs, tell)
    ratio = statistics.median(times["compiled"]) / statistics.median(times["rrm"])
    return Result(
        "comparisons per second", {"compiled": times}, ratios={"compiled": ratio}, settings=settings,
        notes=[f"The first compiled fit, which counts nowhere else, took {first:.0f} s."],
    )  # fmt: skip


def _shape(fit: Fit, options: Options) -> Shape:
    shape = options.shape(384, 8, 16)
    return Shape(shape.case, fit.outcomes, shape.outcome, fit.cases)


def _ours(fit: Fit, options: Options, model: Backbone | None = None) -> tuple[Callable[[], float], dict[str, Any]]:
    """A fit from nothing, in comparisons per second, and its settings."""
    comparisons = _comparisons(_shape(fit, options), options)
    model = model or backbone(options)
    how = Settings(**fit.settings, reward_batch=fit.cases, reward_lr=LR, holdout=0)
    trained = None if fit.frozen else trunk(model, "reward", how.reward_trunk)

    def work() -> float:
        reward = TextRewardModel(model, trained or trunk(model, "reward", how.reward_trunk), how)  # nothing kept
        steps: list[float] = []
        began = time.perf_counter()
        fit_reward(reward, comparisons, how, "bench", lambda step, total: steps.append(time.perf_counter()))
        took = (steps[-1] if fit.steps else time.perf_counter()) - began
        return (1 if fit.frozen else EPOCHS) * len(comparisons) / took

    return work, {
        "shape": f"{_shape(fit, options)}; {len(comparisons)} comparisons",
        "weights": model.precision.weights, **how.model_dump(include=set(_REPORTED)),
    }  # fmt: skip


def _peer(options: Options, out: Path, tell: Tell) -> tuple[Callable[[], float], dict[str, Any]]:
    """A step of TRL's RewardTrainer on the comparisons of the first fit, and its settings."""
    shape, best = _shape(FITS[0], options), trl_side.best(options, tell)
    pairs = [_ids(c, options) for c in _comparisons(shape, options)[:PAIRS]]
    trainer, clock = trl_side.reward_trainer(
        trl_side.classifier(options.tiny, best.precision), tokenizer(options.tiny), pairs, best, out,
        peft_config=trl_side.lora("SEQ_CLS"),
    )  # fmt: skip

    def work() -> float:
        trainer.train()
        return len(pairs) / clock.steps[-1]

    return work, {
        "trainer": "RewardTrainer", "weights": best.precision, **trl_side.COMMON,
        **best.settings(2 * len(pairs), shape.case + shape.outcome + 1, per=2),
    }  # fmt: skip


_REPORTED = ("reward_trunk", "heads", "surprise", "reward_epochs", "reward_batch", "reward_lr", "holdout")


def _comparisons(shape: Shape, options: Options) -> list[Comparison]:
    """All pairs of each case, judged by the hash of the texts."""
    out = []
    for i in range(shape.cases):
        case = Case(text_of(word_ids(shape.case, options.tiny, "reward case", i)))
        outcomes = []
        for j in range(shape.outcomes):
            ids = word_ids(shape.outcome, options.tiny, "reward outcome", i, j)
            outcomes.append(Outcome(text_of(ids), ids))
        for a, b in itertools.combinations(outcomes, 2):
            judgement = Judgement(float(hash_reward(a.text) > hash_reward(b.text)))
            out.append(Comparison(Pair("bench", case, a, b), judgement, 0, "hash"))
    return out


def _ids(comparison: Comparison, options: Options) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(chosen, rejected) as RewardTrainer reads them: case, outcome, end-of-text, as our reward model does."""
    tokens = tokenizer(options.tiny)
    case = tuple(tokens(comparison.case.prompt)["input_ids"])
    a, b = ((*case, *o.tokens, tokens.eos_token_id) for o in (comparison.a, comparison.b))
    return (a, b) if comparison.preference else (b, a)
