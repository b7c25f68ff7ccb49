"""The arms of a comparison, trained side by side, and what each reached against the exact truth.

`unassisted`: the user alone. `one-level`: assistants without assistants of their own. `recursive`: the whole
tree. `oracle`: labels from the truth, the reward model seeing what it sees in `recursive`: the ceiling.
An assistant that is the same in two arms is trained once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rrm.core.errors import Malformed
from rrm.core.judgements import Pair
from rrm.core.parties import User, Watch
from rrm.core.protocols import Cases
from rrm.core.records import Case, Group
from rrm.core.task import Assistant, Task, assist
from rrm.loop.recursion import frame_all
from rrm.loop.training import train
from rrm.measure.oracle import OracleUser, aspects, score, true_score
from rrm.measure.stats import interval
from rrm.measure.users import acquainted, finished_in
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.store.store import Store

ARMS = ("unassisted", "one-level", "recursive", "oracle")


@dataclass(frozen=True)
class Arm:
    """A trained arm: its finished root, and its user with what it learned of its assistants."""

    name: str
    root: Assistant
    user: User


@dataclass(frozen=True)
class HeldOut:
    """Held-out groups of the starting agent, the same for every arm, and the pairs that truly differ."""

    groups: list[Group]
    pairs: list[tuple[int, int, int]]
    """(group, first outcome's index, second outcome's index); which is the better: see `truth`."""
    truth: list[float]
    """1.0 where the first of the pair is truly better, else 0.0."""

    @cached_property
    def case(self) -> list[int]:
        """Per group, a number of its case: what is judged of one case is one cluster, and a finite supply of cases
        gives the same one again."""
        places: dict[str, int] = {}
        return [places.setdefault(group.case.id, len(places)) for group in self.groups]


def train_arms(
    task: Task,
    user: Callable[[], User],
    backbone: Backbone,
    out: Path,
    seed: int,
    watch: Callable[[str, Task], Watch] | None = None,
    names: Sequence[str] = ARMS,
) -> dict[str, Arm]:
    """Train the arms, `recursive` first: the others take over from it what is the same there."""
    arms: dict[str, Arm] = {}

    def run(name: str, tree: Task, judge: User) -> None:
        watching = [watch(name, tree)] if watch else []
        judge = acquainted(judge, [*finished_in(tree)])
        root = train(tree, judge, backbone, out / name, seed, watching)
        arms[name] = Arm(name, root, judge)

    run("recursive", task, user())
    finished = arms["recursive"].root
    if "one-level" in names:
        shallow = tuple(without_assistants(sub, finished) for sub in task.assistants)
        run("one-level", replace(task, assistants=shallow), user())
    if "unassisted" in names:
        run("unassisted", replace(task, assistants=()), user())
    if "oracle" in names:
        run("oracle", replace(task, assistants=finished.helpers), OracleUser())
    return {name: arms[name] for name in ARMS if name in arms}


def without_assistants(sub: Task | Assistant, finished: Assistant) -> Task | Assistant:
    """The subtask alone; the finished one where it had no assistants anyway."""
    if isinstance(sub, Assistant) or not sub.assistants:
        name = sub.task.name if isinstance(sub, Assistant) else sub.name
        return next(helper for helper in finished.helpers if helper.task.name == name)
    return replace(sub, assistants=())


def held_out(
    task: Task, backbone: Backbone, cases: Sequence[Case], key: str, outcomes: int = 4, per_case: int = 4
) -> HeldOut:
    """Groups of the untrained agent on these cases; up to `per_case` truly differing pairs of each."""
    return differing(task, start_agent(task, backbone).sample(cases, outcomes, key=key), per_case)


def differing(task: Task, groups: Sequence[Group], per_case: int = 4) -> HeldOut:
    """The groups, with up to `per_case` pairs of each whose true scores differ."""
    pairs, truth = [], []
    for g, group in enumerate(groups):
        scores = [true_score(task, group.case, outcome) for outcome in group.outcomes]
        apart = [
            (i, j) for i, j in itertools.combinations(range(len(scores)), 2)
            if abs(scores[i] - scores[j]) > 1e-9 and min(scores[i], scores[j]) >= 0  # form is no judgement
        ]  # fmt: skip
        for i, j in apart[:per_case]:
            pairs.append((g, i, j))
            truth.append(float(scores[i] > scores[j]))
    return HeldOut(list(groups), pairs, truth)


def start_agent(task: Task, backbone: Backbone) -> TextAgent:
    """The untrained agent of a task."""
    return TextAgent(backbone, backbone.start, task.settings.max_tokens)


def agreement(arm: Arm, held: HeldOut) -> dict[str, Any]:
    """How often the arm's user, with the arm's assistance, prefers the truly better; a tie counts half. Who can follow
    answers down reads those of the arm's own assistants."""
    task = replace(arm.root.task, assistants=arm.root.helpers)
    groups = assist(arm.root.helpers, held.groups)
    by_case: dict[int, list[float]] = {}
    for (g, i, j), truth in zip(held.pairs, held.truth, strict=True):
        preference = arm.user.judge(task, Pair.of(task.path, groups[g], i, j)).preference
        if preference is not None:
            by_case.setdefault(held.case[g], []).append(1 - abs(truth - preference))
    return dict(interval(list(by_case.values())))


def quality(task: Task, groups: Sequence[Group]) -> dict[str, Any]:
    """True score of outcomes, overall and per aspect, with intervals; what does not parse scores 0."""
    scores: list[list[float]] = []
    by_aspect: dict[str, list[list[float]]] = {aspect: [] for aspect in task.aspects}
    malformed = surface = total = 0.0
    for group in groups:
        row: list[float] = []
        rows: dict[str, list[float]] = {aspect: [] for aspect in task.aspects}
        for outcome in group.outcomes:
            total += 1
            surface += task.surface(group.case, outcome).get("confident", 0.0)
            try:
                facts = task.facts(group.case, outcome)
            except Malformed:
                malformed += 1
                row.append(0.0)
                continue
            row.append(score(facts))
            for aspect, share in aspects(facts).items():
                rows.setdefault(aspect, []).append(share)
        scores.append(row)
        for aspect, values in rows.items():
            by_aspect.setdefault(aspect, []).append(values)
    return {
        "score": dict(interval(scores)),
        "aspects": {aspect: dict(interval(values)) for aspect, values in by_aspect.items()},
        "malformed": malformed / total,
        "confident": surface / total,
    }


def node_quality(
    root: Assistant, backbone: Backbone, groups: Sequence[Group], seed: int = 0
) -> dict[str, Any]:
    """Per node below the root: the true share of right facts in its answers, before and after training."""
    found: dict[str, Any] = {}
    for helper in root.helpers:
        cases = frame_all(helper.task, groups)[:200]
        if not cases:
            continue
        start = start_agent(helper.task, backbone).sample(cases, 1, key=f"start {seed}")
        trained = helper.agent.sample(cases, 1, key=f"trained {seed}")
        found[helper.task.path] = {
            "start": quality(helper.task, start)["score"],
            "trained": quality(helper.task, trained)["score"],
            **reward_quality(helper),
        }
        found |= node_quality(helper, backbone, trained, seed)
    return found


def compare_arms(
    arms: Mapping[str, Arm], backbone: Backbone, cases: Cases, n: int, seed: int = 0
) -> dict[str, Any]:
    """The report: agreement, true score and aspects per arm; the start; every node."""
    task = next(iter(arms.values())).root.task
    held = held_out(task, backbone, cases.draw(n, "agreement"), f"held out {seed}")
    report: dict[str, Any] = {}
    test = cases.draw(n, "score")
    for name, arm in arms.items():
        trained = arm.root.agent.sample(test, 2, key=f"score {seed}")
        report[name] = {"agreement": agreement(arm, held), **quality(task, trained)}
    report["start"] = quality(task, start_agent(task, backbone).sample(test, 2, key=f"score {seed}"))
    some = held.groups[: max(1, n // 3)]
    report["nodes"] = {}
    for name, arm in arms.items():
        below = node_quality(arm.root, backbone, some, seed) if name in ("one-level", "recursive") else {}
        root = {"start": report["start"]["score"], "trained": report[name]["score"], **reward_quality(arm.root)}
        report["nodes"][name] = below | {task.path: root}
    return report


def reward_quality(node: Assistant) -> dict[str, float]:
    """In how many held-out comparisons, and of how many, the node's reward model predicted the user after its last fit;
    and their share."""
    if not isinstance(node.memo, Store):
        return {}
    fits = {name: value for *_, name, value in node.memo.metrics(node.task.path, "fit")}  # the last round's
    names = {"reward_model": "holdout_accuracy", "held_out_right": "holdout_right", "held_out": "holdout_decided"}
    return {name: fits[kept] for name, kept in names.items() if kept in fits} if "holdout_accuracy" in fits else {}
