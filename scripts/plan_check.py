"""How far `rrm plan` is from a run: trains small trees here, counts what is computed, and prints both sides.

    python scripts/plan_check.py
    python scripts/plan_check.py --tree small
    python scripts/plan_check.py --passes smollm2            # one pass of each kind, of a model with adapters

Counts are planned twice: as `rrm plan` gives them (upper bounds: every outcome of full length, no answer given twice),
and with the lengths that the run turned out to have. Time is planned with the latter, for this processor and one
thread; what the run took is the processor's time, so that others' work on the machine does not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from rrm import BoundedUser, Settings, Task, train
from rrm.core.records import Case, Group
from rrm.core.validation import check
from rrm.learning.text_maker import TextLearner, TextMaker, TextPolicy
from rrm.loop.costs import Costs, plan
from rrm.loop.planning import Extent, NodeWork, Pass, extents, is_frozen, works
from rrm.models.backbone import Backbone
from rrm.models.device_spec import DeviceSpec
from rrm.models.fork import Fork
from rrm.models.model_shape import ModelShape
from rrm.models.packing import Packed, PrefixGroup, pack
from rrm.models.precision import Precision
from rrm.models.sampling import sample
from rrm_assistants import proofs, steps, writing
from rrm_tasks.paper import paper

SMALL = Settings(
    rounds=2, cases=8, outcomes=3, comparisons=12, steps=2, batch=4, group=4, reward_epochs=2, frame_cases=4, lr=3e-4,
    accept=4, max_kl=1e9,
)  # fmt: skip
"""Of the trees here; without a limit of KL, so that every step is taken."""


@dataclass
class Count:
    """What a run computed at one node, as its policy and its forks saw it."""

    own: int = 0
    """Outcomes of its own: to be judged, framed, improved on, accepted."""
    answers: int = 0
    """Outcomes as an assistant."""
    tokens: int = 0
    """Of both."""
    prompts: Counter[str] = field(default_factory=Counter)


@dataclass
class Tally:
    """What a run computed."""

    nodes: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    read: int = 0
    """Tokens of outcomes in passes without a gradient."""
    trained: int = 0
    """Tokens of outcomes in passes with one."""
    judgements: dict[str, int] = field(default_factory=Counter)
    seconds: float = 0.0

    def watch(self, node: Any, event: Any) -> None:
        """See `rrm.core.parties.Watch`: judgements, as the run says them."""
        if event.phase == "done":
            self.judgements[event.task] = len(node.comparisons)


class CountingPolicy(TextPolicy):
    """Counts what it samples."""

    count: Count

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """See `TextAgent`."""
        groups = super().sample(cases, n, key, temperature, greedy)
        outcomes = sum(len(group.outcomes) for group in groups)
        if key.endswith(" drafts"):
            self.count.answers += outcomes
        else:
            self.count.own += outcomes
        self.count.tokens += sum(len(o.tokens) for group in groups for o in group.outcomes)
        for case in cases:
            self.count.prompts[str(len(self.backbone.render(case.prompt)))] += 1
        return groups


class CountingMaker(TextMaker):
    """Makes policies that count, and counts what their forks read and train on."""

    def __init__(self, backbone: Backbone, tally: Tally) -> None:
        super().__init__(backbone)
        self.tally = tally
        self._watch(backbone.start)

    def _watch(self, fork: Fork) -> None:
        real = fork.hidden

        def hidden(packed: Packed) -> torch.Tensor:
            tokens = int(packed.lengths.sum())
            if torch.is_grad_enabled() and fork.trainable:
                self.tally.trained += tokens
            else:
                self.tally.read += tokens
            return real(packed)

        fork.hidden = hidden  # type: ignore[method-assign]

    def policy(self, task: Task, seed: int) -> TextPolicy:
        """See `Maker`."""
        made = super().policy(task, seed)
        counting = CountingPolicy(self.backbone, made.fork, made.max_tokens)
        counting.count = self.tally.nodes[task.path]
        self._watch(made.fork)
        return counting

    def reward(self, task: Task, seed: int) -> TextLearner:
        """See `Maker`."""
        made = super().reward(task, seed)
        self._watch(made.fork)
        return made


def run(task: Task, backbone: Backbone, out: Path) -> Tally:
    """Train a tree, and count."""
    tally = Tally()
    began = time.process_time()
    train(task, BoundedUser(), CountingMaker(backbone, tally), out, watch=[tally.watch])
    tally.seconds = time.process_time() - began
    return tally


def passes(name: str, device: DeviceSpec) -> None:
    """One pass of each kind with an adapter: planned, and taken (the better of two)."""
    backbone = Backbone.load(name, device="cpu", adapters="lora")
    if device.itemsize == 2:
        backbone.precision = Precision("bfloat16", "bfloat16")
    fork = backbone.fork("check")
    costs = Costs(ModelShape.of(name), device)
    text = list(range(300, 556))
    group = PrefixGroup(text[:128], [text[128 + 8 * i : 160 + 8 * i] for i in range(8)])

    def train_() -> None:
        for packed in pack([group] * 4, d=backbone.d, budget=backbone.budget(True)):
            fork.token_logprobs(packed).sum().backward()  # type: ignore[no-untyped-call]

    def read() -> None:
        with torch.no_grad():
            fork.logprobs([group] * 4)

    prompts = [text[i : i + 128] for i in range(4)]
    work: dict[str, Callable[[], object]] = {
        "sample": lambda: sample(fork, prompts, 8, 32, 1.0, list("abcd"), ()), "read": read, "train": train_,
    }  # fmt: skip
    print(f"### {name}\n\n| 4 cases of 128 tokens, 8 outcomes of 32 | planned, s | taken, s |\n| --- | --- | --- |")
    for kind, do in work.items():
        taken = []
        for _ in range(2):
            began = time.process_time()
            do()
            taken.append(time.process_time() - began)
        one = Pass("", "improve", cast("Literal['sample', 'read', 'train']", kind), 4, 8, 128, 32)
        print(f"| {kind} | {costs.seconds(one):.2f} | {min(taken):.2f} |", flush=True)


def seen(found: Mapping[str, Extent], tally: Tally) -> dict[str, Extent]:
    """The same with the lengths that a run had."""
    out = {}
    for path, extent in found.items():
        count = tally.nodes[path]
        cases = sum(count.prompts.values())
        prompt = round(sum(int(n) * times for n, times in count.prompts.items()) / max(1, cases)) or extent.prompt
        outcome = round(count.tokens / max(1, count.own + count.answers)) or extent.outcome
        out[path] = replace(extent, prompt=prompt, outcome=outcome)
    return out


def planned(work: Sequence[NodeWork]) -> dict[str, tuple[int, int]]:
    """Path -> outcomes of its own, and as an assistant."""
    own: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for one in work:
        for each in one.passes:
            if each.kind == "sample":
                (answers if "answers" in each.purpose else own)[each.by] += each.outcomes
    return {one.task.path: (own[one.task.path], answers[one.task.path]) for one in work}


def small_paper() -> Task:
    """A paper with writing, and with proofs, which has steps: four nodes, one with a trained reward model."""
    critic = replace(writing(), settings=SMALL.model_copy(update={"max_tokens": 16}))
    leaf = steps(settings=SMALL.model_copy(update={"max_tokens": 32, "reward_trunk": "trained"}))
    deep = replace(proofs(assistants=[leaf]), settings=SMALL.model_copy(update={"max_tokens": 48}))
    root = paper(settings=SMALL.model_copy(update={"max_tokens": 96, "refresh": 1}))
    return replace(root, assistants=(critic, deep))


def large_paper() -> Task:
    """The same with four times as much at each node."""
    more = {"cases": 24, "outcomes": 4, "comparisons": 60, "steps": 6, "batch": 8, "group": 8}

    def grown(task: Task) -> Task:
        subs = tuple(grown(sub) for sub in task.assistants if isinstance(sub, Task))
        return replace(task, settings=task.settings.model_copy(update=more), assistants=subs)

    return grown(small_paper())


TREES = {"small": small_paper, "large": large_paper}


def main() -> None:
    """Train, count, plan, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", action="append", choices=list(TREES), help="only this one; may be repeated")
    parser.add_argument("--model", default="embedded", help="a model that can write papers (default embedded)")
    parser.add_argument("--passes", metavar="MODEL", help="only time single passes of this model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = DeviceSpec.of("cpu")
    print(f"{device}\n", file=sys.stderr)
    if args.passes:
        passes(args.passes, device)
        return
    shape = ModelShape.of(args.model)
    for name in args.tree or TREES:
        task = check(TREES[name]())
        backbone = Backbone.load(args.model, device="cpu")
        with tempfile.TemporaryDirectory() as out:
            tally = run(task, backbone, Path(out) / "run")
        show(name, task, tally, shape, device, backbone)


def show(name: str, task: Task, tally: Tally, shape: ModelShape, device: DeviceSpec, backbone: Backbone) -> None:
    """One tree's table, in Markdown."""
    bound = extents(task, lambda prompt: len(backbone.render(prompt)))
    real = seen(bound, tally)
    print(f"### {name}\n\n| | planned, a bound | planned with the run's lengths | run |\n| --- | --- | --- | --- |")
    first, then = (works(task, found, True) for found in (bound, real))
    for work, again in zip(first, then, strict=True):
        path = work.task.path
        (own, answers), count = planned(first)[path], tally.nodes[path]
        print(f"| {path}: outcomes of its own | {own} | | {count.own} |")
        print(f"| {path}: answers | {answers} | | {count.answers} |")
        print(f"| {path}: judgements | {work.judgements} | | {tally.judgements[path]} |")
        assert again.judgements == work.judgements
    most, exact = plan(task, shape, device, bound), plan(task, shape, device, real)
    written = sum(count.tokens for count in tally.nodes.values())
    for what, values in (
        ("tokens sampled", [sum(n.sampled for n in p.nodes) for p in (most, exact)] + [written]),
        ("tokens read", [sum(n.read for n in p.nodes) for p in (most, exact)] + [tally.read]),
        ("tokens trained on", [sum(n.trained for n in p.nodes) for p in (most, exact)] + [tally.trained]),
    ):
        print(f"| {what} | {values[0]:,} | {values[1]:,} | {values[2]:,} |")
    print(f"| seconds, one thread | {most.seconds:.1f} | {exact.seconds:.1f} | {tally.seconds:.1f} |\n", flush=True)
    frozen = [is_frozen(work.task.settings, True) for work in first]
    held = sum(node.weights for node in exact.nodes)
    print(f"Forks: {held:,} bytes planned; {frozen.count(False)} of {len(frozen)} reward models are trained.\n")


if __name__ == "__main__":
    main()
