"""Two doors for assistance: the labels, and what the reward model reads. Which of them makes the agent better?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrm.measure.arms import start_agent
from rrm.measure.experiment import Result, Summary, by_case, error_bars, shown
from rrm.measure.roots import grades, root
from rrm.measure.stage import Labels, Sees, Stage
from rrm.measure.stats import Interval, over_seeds

QUESTION = (
    "An agent trained with assistance gets better: because the labels are better, or because the reward model reads "
    "more? Labels with and without assistance, times a reward model that sees it or not."
)
LABELS: tuple[Labels, ...] = ("alone", "assisted", "oracle")
SEES: tuple[Sees, ...] = ("outcome", "assistance")


def run(stage: Stage) -> Result:
    """Per (labels, sees): the true scores of the trained root on the same held-out cases."""
    found: dict[str, Any] = {"start": grades(stage, stage.task, start_agent(stage.task, stage.backbone))}
    for labels in LABELS:
        for sees in SEES:
            usual = labels == "assisted" and sees == stage.task.settings.reward_sees  # other experiments train it too
            node = root(stage, "whole" if usual else f"{labels} {sees}", labels, sees)
            found[f"{labels}, {sees}"] = grades(stage, stage.task, node.agent)  # type: ignore[arg-type]
    return found


def summarize(results: Sequence[Result]) -> Summary:
    """Scores of the cells, the effect of each door, and their interaction."""

    def mean(arm: str, name: str = "score") -> Interval:
        return over_seeds([by_case((case, value) for case, value in r[arm].get(name, ())) for r in results])

    def contrast(*signed: tuple[str, float]) -> Interval:
        """Weighted sum of arms' scores, paired case by case."""
        seeds = []
        for r in results:
            by = [({case: value for case, value in r[arm]["score"]}, weight) for arm, weight in signed]
            seeds.append([[sum(weight * scores[case] for scores, weight in by)] for case in by[0][0]])
        return over_seeds(seeds)

    names = [name for name in results[0]["start"] if name != "score"]
    rows: list[dict[str, Any]] = []
    for arm in results[0]:
        labels, _, sees = arm.partition(", ")
        row = {"labels": labels, "reward model sees": sees, "true score": mean(arm)}
        rows.append(row | {name: mean(arm, name)["mean"] for name in names})
    door = {
        "better labels (assisted less alone, both inputs)": contrast(
            ("assisted, outcome", 0.5),
            ("assisted, assistance", 0.5),
            ("alone, outcome", -0.5),
            ("alone, assistance", -0.5),
        ),
        "better input (assistance less outcome, both labels)": contrast(
            ("assisted, assistance", 0.5),
            ("alone, assistance", 0.5),
            ("assisted, outcome", -0.5),
            ("alone, outcome", -0.5),
        ),
        "interaction": contrast(
            ("assisted, assistance", 1), ("alone, assistance", -1), ("assisted, outcome", -1), ("alone, outcome", 1)
        ),
    }
    notes = [f"{name}: {shown(value)}." for name, value in door.items()]
    limits = [
        "Differences of true score, paired by case and seed. The arms share trained assistants, first-round outcomes "
        "and held-out cases; the user who keeps or refuses an improvement judges as the labels of the arm are given."
    ]

    def draw(axes: Any) -> None:
        for n, sees in enumerate(SEES):
            found = [mean(f"{labels}, {sees}") for labels in LABELS]
            axes.bar([i + n * 0.4 for i in range(len(LABELS))], [f["mean"] for f in found], width=0.4,
                     yerr=error_bars(found), label=f"reward model sees {sees}")  # fmt: skip
        axes.axhline(mean("start")["mean"], color="gray", linewidth=1)
        axes.set_xticks([i + 0.2 for i in range(len(LABELS))], [f"labels: {labels}" for labels in LABELS])
        axes.set_ylabel("true score of the trained agent (gray: before)")
        axes.legend()

    return Summary(rows, notes, draw, dict(door), limits)
