"""Which depth is best at equal budget? Deeper is not always better (Engels et al. 2025, arXiv 2504.18530)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task
from rrm.measure.arms import start_agent
from rrm.measure.experiment import Result, Summary, by_case, error_bars, shown
from rrm.measure.roots import grades, labeler, root, with_difficulty
from rrm.measure.stage import Stage, prune
from rrm.measure.stats import over_seeds
from rrm.store.store import Store

QUESTION = (
    "With the same number of judgements and of sampled tokens in all, is the agent better when they go to the root "
    "alone, or to assistants one or more levels deep?"
)
DIFFICULTIES: dict[str, dict[str, int]] = {"as trained": {}, "short proofs": {"steps": 2}}


def run(stage: Stage) -> Result:
    """Per difficulty and depth: true scores of the root, the judgements given and tokens planned in the whole tree. Of
    the difficulties, those that the cases know."""
    found: dict[str, Any] = {}
    for difficulty, changes in list(DIFFICULTIES.items())[: 1 if stage.quick else None]:
        if not all(hasattr(getattr(stage.task.cases, "difficulty", None), name) for name in changes):
            continue  # cases of another world
        here = stage
        if changes:
            folder = stage.out / "trees" / difficulty.replace(" ", "-")
            here = replace(stage, task=with_difficulty(stage.task, **changes), out=folder)
        found[difficulty] = arms(here)
    return found


def arms(stage: Stage) -> dict[str, Any]:
    """The whole tree first: it says how many judgements there are to give."""
    task = stage.task
    found: dict[str, Any] = {"start": {"grades": grades(stage, task, start_agent(task, stage.backbone))}}
    total = 0
    per_round = 1.0
    for levels in range(stage.depth, -1, -1):
        helpers = stage.helpers_at(levels)
        below = sum(map(given, helpers))
        settings = task.settings
        if levels == stage.depth:
            node = root(stage, "whole")
            total = below + given(node, alone=True)
            per_round = given(node, alone=True) / task.settings.rounds
        else:
            settings = leveled(task, levels, total - below, per_round)
            tree = replace(task, assistants=helpers, settings=settings)
            node = stage.train(f"root depth {levels}", tree, labeler(stage))
        planned = tokens(settings) + sum(
            tokens(one.settings) for one in prune(task, levels).walk() if one.path != task.path
        )
        found[f"depth {levels}"] = {
            "grades": grades(stage, task, node.agent),  # type: ignore[arg-type]
            "judgements": below + given(node, alone=True),
            "tokens planned": planned,
        }
    return found


def leveled(task: Task, levels: int, judgements: int, per_round: float) -> Settings:
    """The root's settings with so many judgements in all, at `per_round` of them in a round, in as many rounds as that
    makes; and with the policy steps for which the whole tree's tokens are left."""
    s, tree = task.settings, prune(task, levels)
    rounds = max(1, round(judgements / per_round))
    kept = sum(tokens(one.settings) for one in tree.walk() if one.path != task.path)
    left = sum(tokens(one.settings) for one in task.walk()) - kept
    steps = max(1, round(left / tokens(s.model_copy(update={"rounds": rounds, "steps": 1}))))
    return s.model_copy(update={"rounds": rounds, "steps": steps})


def given(node: Assistant, alone: bool = False) -> int:
    """Judgements that users gave at a node, and at those below it unless `alone`."""
    assert isinstance(node.memo, Store)
    own = len(node.memo.comparisons(node.task.path))
    return own + (0 if alone else sum(map(given, node.helpers)))


def tokens(s: Settings) -> int:
    """Most tokens a node's agent samples to be optimized."""
    return s.rounds * s.steps * s.batch * s.group * s.max_tokens


def summarize(results: Sequence[Result]) -> Summary:
    """A row per difficulty and depth; the best depth, where its interval says so."""
    rows: list[dict[str, Any]] = []
    notes = []
    for difficulty, arms in results[0].items():

        def scores(arm: str, difficulty: str = difficulty) -> list[list[list[float]]]:
            return [by_case((c, v) for c, v in r[difficulty][arm]["grades"]["score"]) for r in results]

        means = {arm: over_seeds(scores(arm)) for arm in arms}
        best = max((arm for arm in arms if arm != "start"), key=lambda arm: means[arm]["mean"])
        for arm in arms:
            less = [[[x - y for x, y in zip(a, b, strict=True)] for a, b in zip(one, two, strict=True)]
                    for one, two in zip(scores(best), scores(arm), strict=True)]  # fmt: skip
            row = {"difficulty": difficulty, "arm": arm, "true score": means[arm]}
            row["best less this"] = over_seeds(less) if arm != best else "(best)"
            if arm != "start":
                row["judgements"] = sum(r[difficulty][arm]["judgements"] for r in results) / len(results)
                row["tokens planned"] = results[0][difficulty][arm]["tokens planned"]
            rows.append(row)
        close = [row["arm"] for row in rows if row["difficulty"] == difficulty and row["arm"] != "start"
                 and not isinstance(row["best less this"], str) and row["best less this"]["low"] <= 0]  # fmt: skip
        notes.append(
            f"{difficulty}: the best is {best}, {shown(means[best])}; not told apart from it: "
            f"{', '.join(close) or 'none'}."
        )
    limits = [
        "Equal budget: what missing nodes would have asked and sampled goes to further rounds of the root. Judgements "
        "are those given; tokens those planned for optimization (a stopped or refused improvement uses fewer). The "
        "tokens of assistance at work are not counted: deeper arms use more.",
    ]
    if len(results[0]) > 1:
        limits.append(
            "The starting model cannot write longer papers than it was pretrained on, so harder than as trained is not "
            "here."
        )

    def draw(axes: Any) -> None:
        for difficulty in results[0]:
            mine = [row for row in rows if row["difficulty"] == difficulty and row["arm"] != "start"]
            found = [row["true score"] for row in mine]
            axes.errorbar([row["arm"] for row in mine], [f["mean"] for f in found], yerr=error_bars(found),
                          label=difficulty, capsize=3)  # fmt: skip
        axes.set_ylabel("true score of the trained agent")
        axes.legend()

    return Summary(rows, notes, draw, limits=limits)
