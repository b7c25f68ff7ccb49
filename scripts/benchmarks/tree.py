"""tree: what a synthetic tree costs against its depth and breadth, and against trainers run node after node."""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from scipy.stats import linregress
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from benchmarks import trl_side
from benchmarks.common import KL, Options, Result, Shape, Tell, alternate, hash_reward, times_faster
from rrm import BoundedUser, Case, Fact, Finding, Outcome, Pool, Sealed, Settings, Task, train
from rrm.measure.memory import peak
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.fetching import EMBEDDED
from rrm.models.fork import Fork

SIZES = Settings(
    rounds=1, cases=6, frame_cases=0, outcomes=4, comparisons=12, max_tokens=16, drafts=2, heads=1, surprise=False,
    reward_epochs=1, reward_batch=6, holdout=0, steps=2, batch=2, group=4, lr=1e-5, kl=KL, max_kl=1e9, accept=0,
)  # fmt: skip
"""Every node's: small, so that what is measured is the recursion and not the model."""
CASES = Pool(tuple(Case(f"case {i} of a trivial world", {"n": i}) for i in range(8)))


# --- a trivial world: what is true of an outcome depends on its hash ---------------------------------------


def facts(case: Case, outcome: Outcome) -> Sequence[Fact]:
    """Four facts, so that the user cannot check all of them and findings move it."""
    bits = int(hash_reward(outcome.text) * 16)
    return [Fact(f"bit{i}", "form", Sealed(bool(bits >> i & 1))) for i in range(4)]


def frame(case: Case, outcome: Outcome) -> Sequence[Case]:
    """One question about every outcome, whatever it says."""
    return [Case(f"about {outcome.text[:120]}", {"of": outcome.id})]


def findings(case: Case, outcome: Outcome) -> Sequence[Finding]:
    """A verdict on bit0 that the answer's own hash decides: no better than chance."""
    return [Finding("bit0", hash_reward(outcome.text) < 0.5)]


def tree_of(depth: int, breadth: int) -> Task:
    """`depth` levels of nodes, each node but the lowest with `breadth` assistants."""

    def node(name: str, level: int) -> Task:
        subs = [node(f"n{i}", level + 1) for i in range(breadth)] if level < depth else []
        below: dict[str, Any] = (
            {"cases": CASES} if level == 1 else {"frame": frame, "findings": findings, "covers": ("form",)}
        )
        return Task(name, instruction="Which is better?", facts=facts, assistants=tuple(subs), settings=SIZES, **below)

    return node("root", 1)


def nodes_of(depth: int, breadth: int) -> int:
    """How many nodes `tree_of` has."""
    return sum(breadth**level for level in range(depth))


# --- one tree, in a process of its own -------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What training a tree took."""

    depth: int
    breadth: int
    nodes: int
    seconds: list[float]
    passes: int
    """Forward passes of the model."""
    asked: int
    """Cases that agents were asked to produce outcomes for: own cases and questions of parents alike."""
    peak_mb: float
    """Peak resident memory of the process after the first run."""


def cost(depth: int, breadth: int, runs: int, threads: int) -> Cost:
    """Train the tree `runs` times after training a single node once (not counted)."""
    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    model = Backbone.load("embedded")
    taken: list[float] = []
    passes = asked = 0
    most = 0.0

    def counted(original: Callable[..., Any], count: Callable[[Any], None]) -> Callable[..., Any]:
        def call(self: Any, first: Any, *args: Any, **kwargs: Any) -> Any:
            count(first)
            return original(self, first, *args, **kwargs)

        return call

    def one_pass(ids: Any) -> None:
        nonlocal passes
        passes += 1

    def some_cases(cases: Sequence[Case]) -> None:
        nonlocal asked
        asked += len(cases)

    _grow(1, 1, model)
    with (
        mock.patch.object(Fork, "run", counted(Fork.run, one_pass)),
        mock.patch.object(TextAgent, "sample", counted(TextAgent.sample, some_cases)),
    ):
        for _ in range(runs):
            taken.append(_grow(depth, breadth, model))
            most = peak()  # of the process, so of other cases too unless this one runs alone
    return Cost(depth, breadth, nodes_of(depth, breadth), taken, passes // runs, asked // runs, most)


def _grow(depth: int, breadth: int, model: Backbone) -> float:
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        train(tree_of(depth, breadth), BoundedUser(attention=4), model, out)
        return time.perf_counter() - began


# --- the plain pipeline ----------------------------------------------------------------------------------


def pipeline(depth: int, breadth: int, best: trl_side.Best) -> float:
    """Train as many nodes one after the other with transformers and TRL as a user would; seconds.

    Every node: sample outcomes of its cases, judge pairs by the hash, RewardTrainer, then RLOOTrainer against that
    reward model, all fully fine-tuned from the embedded model. A node's outcomes become its children's cases.
    Nothing examines anything: assistance, its questions and its store are left out, in the pipeline's favor.
    """
    began = time.perf_counter()
    level = [[case.prompt for case in CASES.cases[: SIZES.cases]]]
    for _ in range(depth):
        level = [made for prompts in level for made in [_plain_node(prompts, best)] * breadth]
    return time.perf_counter() - began


def _plain_node(prompts: Sequence[str], best: trl_side.Best) -> list[str]:
    tokens = AutoTokenizer.from_pretrained(EMBEDDED, local_files_only=True)
    shape = Shape(0, SIZES.group, SIZES.max_tokens, SIZES.batch)
    where = str(EMBEDDED)
    policy = AutoModelForCausalLM.from_pretrained(where, local_files_only=True, dtype=torch.float32).eval()
    inputs = tokens(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    with torch.inference_mode():
        out = policy.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True, top_k=0,
            max_new_tokens=SIZES.max_tokens, num_return_sequences=SIZES.outcomes, pad_token_id=tokens.eos_token_id,
        )  # fmt: skip
    completions = tokens.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    pairs = []
    for i, prompt in enumerate(prompts):
        row = completions[i * SIZES.outcomes : (i + 1) * SIZES.outcomes]
        for a, b in itertools.combinations(sorted(row, key=hash_reward), 2):
            ids = [tokens(f"{prompt} {text}")["input_ids"] + [tokens.eos_token_id] for text in (b, a)]
            pairs.append((ids[0], ids[1]))
    with tempfile.TemporaryDirectory() as folder:
        scorer = AutoModelForSequenceClassification.from_pretrained(
            where, local_files_only=True, num_labels=1, dtype=torch.float32
        )
        scorer.config.pad_token_id = tokens.eos_token_id
        trainer, _ = trl_side.reward_trainer(scorer, tokens, pairs[: SIZES.comparisons], best, Path(folder))
        trainer.train()
        trainer, _ = trl_side.rloo_trainer(
            where, tokens, prompts, shape, best, Path(folder), reward_funcs=scorer.eval(),
            reward_processing_classes=tokens, args={"max_steps": SIZES.steps, "generation_kwargs": {}},
        )  # fmt: skip
        trainer.train()
    return [f"about {text[:120]}" for text in completions[:: SIZES.outcomes]]


# --- the case --------------------------------------------------------------------------------------------


def run(options: Options, tell: Tell) -> Result:
    """Depths at breadth 2 and breadths at depth 3, fitted by a line; and one tree against the pipeline."""
    trl_side.require_trl()
    small = options.quick or options.tiny
    shapes = [(1, 2), (2, 2), (3, 2)] if small else [(d, 2) for d in range(1, 5)] + [(3, b) for b in (1, 3, 4)]
    costs = []
    for depth, breadth in shapes:
        spawn = multiprocessing.get_context("spawn")  # nothing of this process in the memory that is reported
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            runs = options.runs if nodes_of(depth, breadth) <= 3 else 1
            one = pool.submit(cost, depth, breadth, runs, torch.get_num_threads()).result()
        costs.append(one)
        tell(
            f"tree: depth {depth}, breadth {breadth}: {one.nodes} nodes, {statistics.median(one.seconds):.2f} s, "
            f"{one.passes} passes, {one.asked} cases asked, {one.peak_mb:.0f} MB"
        )
    nodes = [one.nodes for one in costs]
    fits = {
        "seconds": _line(nodes, [statistics.median(one.seconds) for one in costs]),
        **_at_depth_three(costs),
        "passes": _line(nodes, [one.passes for one in costs]),
        "asked": _line(nodes, [one.asked for one in costs]),
        "peak_mb": _line(nodes, [one.peak_mb for one in costs]),
    }
    depth, breadth = (2, 2) if small else (3, 2)
    # The embedded model is too small for bfloat16 or for small micro-batches to pay.
    best = trl_side.Best("float32", 1 << 20)
    model = Backbone.load("embedded")
    sides = {"rrm": lambda: _grow(depth, breadth, model), "trl": lambda: pipeline(depth, breadth, best)}
    raw = {f"depth {depth}, breadth {breadth}": alternate("tree", sides, options.runs, tell)}
    (against,) = raw.values()
    raw |= {f"depth {one.depth}, breadth {one.breadth} alone": {"rrm": one.seconds} for one in costs}
    return Result(
        "seconds",
        raw,
        ratios={"tree": times_faster(against)},
        settings={
            "node": SIZES.model_dump(include=set(_REPORTED)),
            "trl": trl_side.COMMON | {"precision": best.precision},
        },
        notes=[
            "Trees of more than 3 nodes ran once. A node in training asks its assistants, and each of them its own, so "
            "its passes grow with the size of its subtree. Summed over the tree that is the number of nodes times their"
            " mean depth: linear in nodes at one depth, somewhat more as trees get deeper, never breadth to the power "
            "of depth per node. The cases asked grow alike; memory with the weights of the nodes.",
            "Seconds are mostly decoding: a model this small waits for the interpreter, not for products. The store "
            "takes some 2 percent.",
            "Both sides start from the embedded model and fine-tune all of it, on the same numbers of cases, outcomes, "
            "comparisons and steps. The pipeline's nodes are not assisted, which is in its favor.",
            *(
                f"{what}: {fit['intercept']:.3g} + {fit['slope']:.3g} per node, R2 {fit['r2']:.4f}"
                for what, fit in fits.items()
            ),
        ],
        details={"trees": [asdict(one) for one in costs], "fit": fits},
    )


_REPORTED = (
    "rounds", "cases", "outcomes", "comparisons", "max_tokens", "drafts", "heads", "surprise", "reward_epochs",
    "steps", "batch", "group",
)  # fmt: skip


def _at_depth_three(costs: Sequence[Cost]) -> dict[str, dict[str, float]]:
    """Seconds against nodes among trees of one depth, which differ in breadth only."""
    same = [one for one in costs if one.depth == 3]
    if len(same) < 3:
        return {}
    found = _line([one.nodes for one in same], [statistics.median(one.seconds) for one in same])
    return {"seconds, depth 3": found}


def _line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    fit = linregress(x, y)
    return {"intercept": float(fit.intercept), "slope": float(fit.slope), "r2": float(fit.rvalue**2)}
