"""How well an assistant finds the first wrong step of a solution, by people's labels.

    python scripts/step_labels.py --model SMOLLM2 --data FOLDER --cache FOLDER

Real text: BIG-Bench-Mistake (Tyen et al. 2023), a model's steps and which of them people said is the first that is
wrong. An arm is a set of columns of features of each step: where it stands, what a frozen trunk reads at its end (its
hidden state, and how surprising its tokens are), what a tool says of it that computes it again. Heads are fitted to
comparisons of steps with a reference of value 0: up to the first mistake, those before it are better, it is worse. So a
head's score is the log-odds that a step is right if all before it are, and the chances that each is the first mistake,
or that none is, follow. (The steps after the first mistake are not labeled, and left out.)

A quarter of the traces is for tuning: the tools were written looking at them; they are never scored and always trained
on. The others are scored in cross-validation, folds made of whole traces; --seeds reshuffles them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from frozen import cell, folds, heads, is_tuning, over, read, trunk
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rrm.core.records import digest
from rrm.core.tools import consult
from rrm.measure.stats import Interval, auc, interval
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm_tasks.big_bench_mistake import SHOWN, TOOLS, TRACES, Trace, case_of, outcome_of

PLACES = 16
"""Steps counted one by one from either end; further ones are counted as the last of these."""


@dataclass(frozen=True)
class Steps:
    """The steps of one trace that people were shown."""

    place: Tensor  # (steps, 2 * PLACES) one-hot: which from the beginning, which from the end
    said: Tensor  # (steps, 2) one-hot: the tool calls it wrong, the tool calls it right; zeros: nothing
    read: Tensor  # (steps, d + SURPRISE); (steps, 0) without a trunk
    mistake: int | None  # index among these steps
    tuning: bool

    @property
    def labeled(self) -> int:
        """How many steps have a label: all up to the first mistake."""
        return len(self.place) if self.mistake is None else self.mistake + 1

    @property
    def first_called_wrong(self) -> int | None:
        """The first step that the tool calls wrong, None if it calls none so."""
        wrong = self.said[:, 0].nonzero()[:, 0].tolist()
        return wrong[0] if wrong else None


def reads(task: str, backbone: Backbone, traces: Sequence[Trace], cache: Path, minutes: float) -> list[Tensor]:
    """What the trunk reads at the end of each step: per trace (steps, d + SURPRISE), as far as it gets in `minutes`."""
    cases = []
    for trace in traces:
        tokens = [backbone.encode(f"{step}\n") for step in trace.steps]
        ends = torch.tensor([len(one) for one in tokens]).cumsum(0).tolist()
        spans = list(zip([0, *ends], ends, strict=False))
        cases.append((PrefixGroup(backbone.render(case_of(task, trace).prompt), [sum(tokens, ())]), [spans]))
    return [rows for (rows,) in read(backbone, cases, cache, minutes)]


def steps_of(task: str, traces: Sequence[Trace], read_: Sequence[Tensor]) -> list[Steps]:
    """The steps of the traces that were read."""
    shown, out = SHOWN[task], []
    for trace, rows in zip(traces, read_, strict=False):
        n = len(trace.steps)
        place = torch.zeros(n, 2 * PLACES)
        said = torch.zeros(n, 2)
        for i in range(n):
            place[i, min(i, PLACES - 1)] = place[i, PLACES + min(n - 1 - i, PLACES - 1)] = 1.0
        for finding in consult(TOOLS[task], case_of(task, trace), outcome_of(trace)).findings:
            said[int(finding.fact.removeprefix("step")) - 1, int(finding.holds)] = 1.0
        mistake = None if trace.mistake_index is None else trace.mistake_index - shown
        out.append(Steps(place[shown:], said[shown:], rows[shown:], mistake, is_tuning(trace.input)))
    return out


ARMS = {
    "position": ("place",),
    "trunk": ("read",),
    "position, trunk": ("place", "read"),
    "tool": ("said",),
    "position, tool": ("place", "said"),
    "position, trunk, tool": ("place", "read", "said"),
}


def columns(steps: Sequence[Steps], arm: str) -> list[Tensor]:
    """Per trace (steps, features)."""
    return [torch.cat([getattr(one, name) for name in ARMS[arm]], 1) for one in steps]


def fitted(features: Sequence[Tensor], steps: Sequence[Steps], train: Tensor) -> tuple[Tensor, Tensor]:
    """(features,) a head, and (features,) the means to take away first; the last feature is a constant 1, whose weight
    says how likely a step is right that is like the others."""
    rows = torch.cat([features[i][: steps[i].labeled] for i in train.tolist()])
    mean = rows.mean(0)
    right = torch.cat([torch.arange(steps[i].labeled) != _index(steps[i].mistake) for i in train.tolist()])
    trace = torch.cat([torch.full((steps[i].labeled,), i) for i in train.tolist()])
    whole = torch.cat([torch.cat([rows - mean, torch.ones(len(rows), 1)], 1), torch.zeros(1, rows.shape[1] + 1)])
    step, reference = torch.arange(len(rows)), torch.full((len(rows),), len(rows))
    return heads(whole, step, reference, right.float(), trace), mean


def _index(mistake: int | None) -> int:
    return -1 if mistake is None else mistake


def locate(logit: Tensor) -> int | None:
    """The likeliest first mistake, or None for none, from each step's log-odds of being right if all before it are."""
    right = torch.nn.functional.logsigmoid(logit)
    before = torch.cat([torch.zeros(1), right.cumsum(0)])
    chance = torch.cat([before[:-1] + torch.nn.functional.logsigmoid(-logit), before[-1:]])  # the last: none
    best = int(chance.argmax())
    return None if best == len(logit) else best


@dataclass(frozen=True)
class Scored:
    """What one arm made of the scored traces, with one seed: in the order of the traces."""

    found: list[bool]  # it named the first mistake, or rightly none
    logit: list[Tensor]  # (labeled steps,)
    calls: list[float]  # log-odds that the trace has no mistake at all


def crossed(features: Sequence[Tensor], steps: Sequence[Steps], seed: int, number: int) -> Scored:
    """Heads fitted to other traces, on every trace that is not for tuning."""
    out: dict[int, tuple[bool, Tensor, float]] = {}
    for train, test in folds([one.tuning for one in steps], seed, number):
        head, mean = fitted(features, steps, train)
        for i in test.tolist():
            logit = (features[i] - mean) @ head[:-1] + head[-1]
            none = float(torch.nn.functional.logsigmoid(logit).sum())
            out[i] = (locate(logit) == steps[i].mistake, logit[: steps[i].labeled], none)
    kept = [out[i] for i in sorted(out)]
    return Scored([k[0] for k in kept], [k[1] for k in kept], [k[2] for k in kept])


def step_auc(scores: Sequence[Tensor], steps: Sequence[Steps]) -> float:
    """The chance that a first wrong step scores below a step before a mistake, over all traces."""
    good: list[float] = []
    bad: list[float] = []
    for score, one in zip(scores, steps, strict=True):
        for i, value in enumerate(score.tolist()):
            (bad if i == one.mistake else good).append(value)
    return auc(good, bad)


def auc_interval(seeds: Sequence[Sequence[Tensor]], steps: Sequence[Steps], resamples: int = 200) -> Interval:
    """Mean over seeds of `step_auc`, with a 95 % interval by resampling whole traces, the same in every seed."""
    rng = torch.Generator().manual_seed(0)
    drawn = [torch.randint(len(steps), (len(steps),), generator=rng).tolist() for _ in range(resamples)]

    def of(chosen: Sequence[int]) -> float:
        own = [steps[i] for i in chosen]
        return sum(step_auc([scores[i] for i in chosen], own) for scores in seeds) / len(seeds)

    values = torch.tensor([of(chosen) for chosen in drawn]).sort().values
    low, high = values[int(0.025 * resamples)], values[int(0.975 * resamples) - 1]
    return {"mean": of(range(len(steps))), "low": float(low), "high": float(high), "n": len(steps)}


def measure(task: str, steps: Sequence[Steps], seeds: int, number: int, console: Console) -> None:
    """Fit and print."""
    scored = [one for one in steps if not one.tuning]
    labels = [one.mistake for one in steps]
    console.print(
        f"{task}: {len(steps)} traces, {len(scored)} scored; {sum(one.mistake is None for one in scored)} without a "
        f"mistake; {sum(one.labeled for one in scored)} labeled steps"
    )
    table = Table("arm", "names the first mistake, or none", "AUC, step", "AUC, any mistake")
    most = max(set(labels), key=labels.count)
    row = interval([[float(one.mistake == most)] for one in scored])
    table.add_row(
        f"base rate: always {'none' if most is None else f'step {most + SHOWN[task] + 1}'}", cell(row), "0.500"
    )  # fmt: skip
    for arm in ARMS:
        if "read" in ARMS[arm] and not steps[0].read.shape[1]:
            continue
        features = columns(steps, arm)
        by_seed = [crossed(features, steps, seed, number) for seed in range(seeds)]
        located = over([[[float(hit)] for hit in one.found] for one in by_seed])
        whole = [
            auc(*([c for c, s in zip(one.calls, scored, strict=True) if (s.mistake is None) == none]
                  for none in (True, False)))
            for one in by_seed
        ]  # fmt: skip
        table.add_row(
            arm, cell(located), cell(auc_interval([one.logit for one in by_seed], scored)),
            f"{sum(whole) / len(whole):.3f}",
        )  # fmt: skip
    rule = interval([[float(one.first_called_wrong == one.mistake)] for one in scored])
    table.add_row("tool alone: the first step it calls wrong", cell(rule))
    console.print(table)


def main() -> None:
    """Read features, fit the arms and print a table per task; if --minutes run out first, say how far it came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a causal language model: folder or name; without it, the arms that need none")
    parser.add_argument("--data", type=Path, help="the folder of the data; default $RRM_DATA, or the published files")
    parser.add_argument("--cache", type=Path, default=Path("runs/step_labels"), help="folder for features")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop reading then; go on the next time")
    parser.add_argument("--tasks", nargs="+", choices=[*TRACES], default=[*TRACES])
    parser.add_argument("--traces", type=int, help="take only so many of each task")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    backbone = trunk(args.model, args.precision) if args.model else None
    console = Console(width=150)
    for task in args.tasks:
        traces = sorted(TRACES[task].read(args.data), key=lambda trace: digest("order", trace.input))[: args.traces]
        if backbone is None:
            read_ = [torch.zeros(len(trace.steps), 0) for trace in traces]
        else:
            read_ = reads(task, backbone, traces, args.cache, args.minutes)
        if len(read_) < len(traces):
            console.print(f"{task}: read {len(read_)} of {len(traces)} traces: run it again to go on")
            continue
        measure(task, steps_of(task, traces, read_), args.seeds, args.folds, console)


if __name__ == "__main__":
    main()
