"""Reward and truth against how far the agent is from where it started (Gao et al. 2022, arXiv 2210.10760)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import special

from rrm.core.judgements import Comparison, Pair
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task, assist
from rrm.learning import rloo
from rrm.learning.fitting import fit_reward
from rrm.learning.losses import best_of_n_kl
from rrm.measure.arms import start_agent
from rrm.measure.experiment import Result, Summary, shown
from rrm.measure.oracle import true_score
from rrm.measure.roots import labeler
from rrm.measure.stage import Labels, Sees, Stage
from rrm.measure.stats import of_numbers
from rrm.measure.users import Noisy
from rrm.models.agent import TextAgent
from rrm.models.reward import EnsembleScores, TextRewardModel, trunk

QUESTION = (
    "How far may an agent be optimized before the truth falls while the reward rises: by whose labels, by which "
    "reading of an ensemble, with how much label noise?"
)
ARMS: dict[str, tuple[Labels, Sees]] = {
    "alone": ("alone", "outcome"),
    "assisted": ("assisted", "outcome"),
    "assisted, seen": ("assisted", "assistance"),
    "oracle": ("oracle", "outcome"),
}
NOISE = (0.0, 0.25)
READINGS = ("one head", "mean", "worst", "mean - std")
ALL_READINGS = ("alone, 0% noise", "assisted, 0% noise")
"""Arms whose optimizer is run once per reading; that of the others reads the mean."""
CASES, SAMPLES, STEPS, BATCH, LABELED = 40, 64, 40, 8, 96


def run(stage: Stage) -> Result:
    """Per arm and noise: best of n by each reading of the ensemble; the optimizer's path by its mean, or by each."""
    task, quick = stage.task, stage.quick
    start = start_agent(task, stage.backbone)
    groups = start.sample(stage.cases.draw(4 if quick else CASES, f"best of n {stage.seed}"),
                          8 if quick else SAMPLES, key=f"best of n {stage.seed}")  # fmt: skip
    truth = [_truth(task, group) for group in groups]
    examined: list[Group] | None = None
    found: dict[str, Any] = {"best of n": {}, "rloo": {}, "fit": {}}
    for (arm, (labels, sees)), noise in itertools.product(ARMS.items(), NOISE):
        name = f"{arm}, {noise:.0%} noise"
        reward, accuracy = fitted(stage, labels, sees, noise)
        if sees == "assistance" and examined is None:
            examined = assist(stage.helpers, groups, quick=True)
        scores = reward.score(examined if sees == "assistance" and examined is not None else groups)
        found["fit"][name] = accuracy
        found["best of n"][name] = {
            reading: best_of_n(
                [constrained(read(s, reading), t, task) for s, t in zip(scores, truth, strict=True)], truth
            )
            for reading in READINGS
        }
        helpers = stage.helpers if sees == "assistance" else ()
        found["rloo"][name] = {
            reading: optimized(stage, reward, helpers, reading)
            for reading in (READINGS if name in ALL_READINGS else ("mean",))
        }
    return found


def _truth(task: Task, group: Group) -> torch.Tensor:
    """(n,) true scores; -1 for outcomes without form."""
    return torch.tensor([true_score(task, group.case, outcome) for outcome in group.outcomes])


def read(scores: EnsembleScores, reading: str) -> torch.Tensor:
    """(n,) the reward, by a reading of the ensemble. One head is the first of it: bootstrap-weighted as all are."""
    if reading == "one head":
        return scores.heads[:, 0]
    if reading == "worst":
        return scores.heads.amin(1)
    return scores.mean - (scores.std if reading == "mean - std" else 0)


def constrained(reward: torch.Tensor, truth: torch.Tensor, task: Task) -> torch.Tensor:
    """The reward with form as a side-constraint, as in training."""
    return torch.where(truth < 0, reward.clamp(max=task.settings.malformed), reward)


def fitted(stage: Stage, labels: Labels, sees: Sees, noise: float) -> tuple[TextRewardModel, float | None]:
    """A reward model fitted to labels of the starting agent's outcomes, the same pairs in every arm."""
    task = stage.task
    settings = task.settings.model_copy(update={"reward_sees": sees})
    if stage.quick:
        settings = settings.model_copy(update={"reward_epochs": 1})
    groups = start_agent(task, stage.backbone).sample(
        stage.cases.draw(6 if stage.quick else LABELED, f"labels {stage.seed}"), 4, key=f"labels {stage.seed}"
    )
    groups = assist(stage.helpers, groups) if labels == "assisted" else groups
    user = labeler(stage, labels)
    user = Noisy(user, noise, stage.seed, (task.path,)) if noise else user
    comparisons = [
        Comparison(pair, user.judge(task, pair), 0, user.name)
        for group in groups for i, j in itertools.combinations(range(4), 2)
        if group.outcomes[i].content != group.outcomes[j].content
        for pair in [Pair.of(task.path, group, i, j)]
    ]  # fmt: skip
    fork = trunk(stage.backbone, f"{task.path} reward", settings.reward_trunk)
    reward = TextRewardModel(stage.backbone, fork, settings, len(stage.helpers) if sees == "assistance" else 0)
    report = fit_reward(reward, comparisons, settings, f"overoptimisation {stage.seed}")
    return reward, report.holdout_accuracy


# --- best of n ---------------------------------------------------------------------------------------


def best_of_n(rewards: Sequence[torch.Tensor], truths: Sequence[torch.Tensor]) -> dict[str, list[float]]:
    """Expected reward and truth of the best of n = 1, 2, 4, ... of the policy's samples, over cases."""
    total = len(rewards[0])
    sizes = [2**k for k in range(total.bit_length()) if 2**k <= total // 2]
    columns: dict[str, list[float]] = {"n": [float(n) for n in sizes], "reward": [], "truth": []}
    for n in sizes:
        pairs = [
            (expected_best(r, r, n), expected_best(r, t.clamp(min=0), n))
            for r, t in zip(rewards, truths, strict=True)
        ]
        columns["reward"].append(float(np.mean([reward for reward, _ in pairs])))
        columns["truth"].append(float(np.mean([truth for _, truth in pairs])))
    return columns


def expected_best(by: torch.Tensor, value: torch.Tensor, n: int) -> float:
    """The mean value of the highest `by` among n of N samples, over all subsets: unbiased for best of n (Nakano et al.
    2021, arXiv 2112.09332, appendix I). The i-th smallest is the best of C(i - 1, n - 1) of C(N, n) subsets. Equal ones
    share their weight."""
    total = len(by)
    order = torch.argsort(by, stable=True)
    weights = special.comb(np.arange(total), n - 1) / special.comb(total, n)
    ranked = by[order]
    _, place = torch.unique_consecutive(ranked, return_inverse=True)
    shared = np.bincount(place.numpy(), weights) / np.bincount(place.numpy())
    return float((shared[place.numpy()] * value[order].double().numpy()).sum())


# --- the policy optimizer ----------------------------------------------------------------------------


def optimized(
    stage: Stage, reward: TextRewardModel, helpers: Sequence[Assistant], reading: str
) -> list[list[float]]:
    """RLOO without a price on KL and without a limit: per step [KL, reward, truth] of that step's samples. The truth
    is looked at, never given to the optimizer."""
    task = stage.task
    settings = task.settings.model_copy(
        update={
            "kl": 0.0, "max_kl": 1e9, "steps": 2 if stage.quick else STEPS, "batch": 2 if stage.quick else BATCH,
            "group": 4 if stage.quick else 8, "lr": Settings().lr, "improver": "rloo",
        }
    )  # fmt: skip
    path: list[list[float]] = []

    def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
        truths = [_truth(task, group) for group in groups]
        shown_to = assist(helpers, groups, quick=True)
        scores = reward.score(shown_to)
        rewards = [constrained(read(s, reading), t, task) for s, t in zip(scores, truths, strict=True)]
        path.append([0.0, torch.cat(rewards).mean().item(), torch.cat(truths).clamp(min=0).mean().item()])
        return rewards

    def log(step: int, metrics: Mapping[str, float]) -> None:
        path[step][0] = max(0.0, metrics["kl"])

    agent = TextAgent(stage.backbone, stage.backbone.fork(f"{task.path} overoptimized"), task.settings.max_tokens)
    rloo.improve(agent, judge, stage.cases, settings, f"overoptimisation {stage.seed}", log)
    return path


# --- what it comes to --------------------------------------------------------------------------------


def fit(d: Sequence[float], gain: Sequence[float], form: str) -> tuple[float, float]:
    """(a, b) of Gao et al.'s forms by least squares: best of n, d (a - b d); rl, d (a - b log d)."""
    x = np.array(d)
    y = np.array(gain)[x > 0]
    x = x[x > 0]
    if len(x) < 2:
        return float("nan"), float("nan")
    columns = np.stack([x, -x * x if form == "best of n" else -x * np.log(x)], axis=1)
    a, b = np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(a), float(b)


def peak(d: Sequence[float], truth: Sequence[float]) -> tuple[float, float]:
    """(where the truth is highest, how much of it is lost by the end)."""
    best = int(np.argmax(truth))
    return float(d[best]), float(truth[best] - truth[-1])


def smooth(values: Sequence[float], width: int = 5) -> list[float]:
    """Means of neighbors: a step has 64 samples, and the highest of many noisy steps is not the peak."""
    half = width // 2
    return [float(np.mean(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]


def curve(result: Result, method: str, arm: str, reading: str) -> tuple[list[float], list[float], list[float]]:
    """(d = sqrt(KL), reward, truth) of one seed."""
    if method == "best of n":
        found = result["best of n"][arm][reading]
        return [best_of_n_kl(int(n)) ** 0.5 for n in found["n"]], found["reward"], found["truth"]
    steps = np.array(result["rloo"][arm][reading])
    d = np.maximum.accumulate(np.sqrt(smooth(steps[:, 0].tolist())))
    return d.tolist(), smooth(steps[:, 1].tolist()), smooth(steps[:, 2].tolist())


def summarize(results: Sequence[Result]) -> Summary:
    """A row per method, arm and reading: gains, the peak, the loss after it, and the fit."""
    rows: list[dict[str, Any]] = []
    curves = [("best of n", arm, reading) for arm in results[0]["best of n"] for reading in READINGS]
    curves += [("rl", arm, reading) for arm, paths in results[0]["rloo"].items() for reading in paths]
    for method, arm, reading in curves:
        each = [curve(r, method, arm, reading) for r in results]
        fits = [fit(d, np.subtract(truth, truth[0]).tolist(), method) for d, _, truth in each]
        peaks = [peak(d, truth) for d, _, truth in each]
        rows.append({
            "method": method, "labels": arm, "reading": reading,
            "reward gained": of_numbers([reward[-1] - reward[0] for _, reward, _ in each]),
            "truth gained": of_numbers([truth[-1] - truth[0] for _, _, truth in each]),
            "d at the end": of_numbers([d[-1] for d, *_ in each]),
            "d at the peak": of_numbers([where for where, _ in peaks]),
            "lost after it": of_numbers([lost for _, lost in peaks]),
            "a": of_numbers([a for a, _ in fits]), "b": of_numbers([b for _, b in fits]),
            "reward model right (held out)": of_numbers([r["fit"][arm] for r in results if r["fit"][arm] is not None]),
        })  # fmt: skip
    fallen = [
        f"{row['method']}, {row['labels']}, {row['reading']}" for row in rows if row["truth gained"]["high"] < 0
    ]
    rl = {f"{row['labels']}, {row['reading']}": row["truth gained"] for row in rows if row["method"] == "rl"}
    notes = [
        "Truth at the end below where it began (interval): " + ("; ".join(fallen) or "none") + ".",
        "Truth gained by the optimizer, run without a price on KL: "
        + "; ".join(f"{arm} {shown(value)}" for arm, value in rl.items()) + ".",
    ]
    limits = [
        "d = sqrt(KL to the start) in nats; best of n has log n - (n - 1)/n. Fits of truth gained: d (a - b d) for "
        "best of n, d (a - b log d) for rl. Right (held out): agreement of the reward model with its own, noisy, "
        "labels.",
        "The loss after the peak is of each seed's own highest point, so it is above 0 by chance too.",
        "alone, assisted, oracle: the reward model reads the outcome only, so they differ in labels only. assisted, "
        "seen: it reads the assistance too. One round of labels on the starting agent's outcomes; nothing is labeled "
        "again.",
    ]  # fmt: skip

    def draw(axes: Any) -> None:
        for n, arm in enumerate(ARMS):
            for noise, style in zip(NOISE, ("-", ":"), strict=True):
                each = [curve(r, "rl", f"{arm}, {noise:.0%} noise", "mean") for r in results]
                furthest = min(d[-1] for d, *_ in each)
                grid = np.linspace(0, furthest, 30)
                truths = np.mean([np.interp(grid, d, np.subtract(truth, truth[0])) for d, _, truth in each], axis=0)
                axes.plot(grid, truths, style, color=f"C{n}", label=arm if not noise else None)
        axes.axhline(0, color="gray", linewidth=1)
        axes.set_xlabel("d = sqrt(KL to the start), policy optimization (··· with 25 % label noise)")
        axes.set_ylabel("true score, less that of the start")
        axes.legend()

    def draw_best(axes: Any) -> None:
        for n, reading in enumerate(READINGS):
            for noise, style in zip(NOISE, ("-", ":"), strict=True):
                each = [curve(r, "best of n", f"assisted, {noise:.0%} noise", reading) for r in results]
                truths = np.mean([np.subtract(truth, truth[0]) for *_, truth in each], axis=0)
                axes.plot(each[0][0], truths, style, color=f"C{n}", marker="o", markersize=3,
                          label=reading if not noise else None)  # fmt: skip
        axes.set_xlabel("d = sqrt(KL), best of n, assisted labels (··· with 25 % label noise)")
        axes.set_ylabel("true score, less that of the start")
        axes.legend()

    return Summary(rows, notes, draw, limits=limits, more=(draw_best,))
