"""Assistants trained on narrow cases, put to work on longer and harder ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from rrm.core.records import Group, Outcome, digest
from rrm.core.task import Assistant, Forgetful, Task
from rrm.measure.arms import HeldOut, differing
from rrm.measure.experiment import Result, Summary, agreement, bounded, error_bars, lift, packed, shown
from rrm.measure.experiments.sandwich import error_rates
from rrm.measure.oversight import judged
from rrm.measure.roots import with_difficulty
from rrm.measure.stage import Material, Stage
from rrm.measure.stats import clipped, of_numbers
from rrm.models.agent import TextAgent
from rrm.worlds.papers.brief import Brief
from rrm.worlds.papers.corpus import Corpus
from rrm.worlds.papers.paper import write

QUESTION = (
    "Assistants trained at one difficulty judge longer and harder outcomes: does their help carry over, by kind and "
    "size of the change? And does a tree's carry over better than one flat critic's?"
)
ARMS = ("alone", "flat critic", "assisted")
HARDER: dict[str, tuple[int, ...]] = {
    "steps": (6, 8),
    "parts": (4, 5),
    "data": (4, 5),
    "known": (3, 4),
    "series": (3,),
}
"""Fields of the cases' difficulty, and the values tried, one at a time."""


def run(stage: Stage) -> Result:
    """Per difficulty: verdicts alone, with one flat critic and with the tree; the share of answers not readable."""
    found: dict[str, Any] = {}
    critic, helpers = ([longer(helper) for helper in some] for some in (stage.critic, stage.helpers))
    for name, task in tasks(stage.task, stage.quick).items():
        alone = Material(*(written(stage, task, f"{what} {name} {stage.seed}", n) for what, n in sizes(stage)))
        assisted = alone.assisted(helpers)
        every = [group.seen(i) for group in assisted.held.groups for i in range(len(group.outcomes))]
        answers = [answer for side in every for top in side for a in top.tree() for answer in a.answers]
        found[name] = {
            "alone": packed(judged(task, stage.user(), alone)),
            "flat critic": packed(judged(task, stage.user(), alone.assisted(critic))),
            "assisted": packed(judged(task, stage.user(), assisted)),
            "claims": error_rates(task, assisted.held),
            "unreadable": sum(bool(answer.unreadable) for answer in answers) / max(1, len(answers)),
        }
    return found


def sizes(stage: Stage) -> tuple[tuple[str, int], tuple[str, int]]:
    """Held-out and practice cases: half as many as elsewhere, at each of many difficulties."""
    return ("held out", 4 if stage.quick else stage.pairs // 2), (
        "practice",
        2 if stage.quick else stage.practice // 2,
    )


def tasks(task: Task, quick: bool) -> dict[str, Task]:
    """The task as it was trained, and with each harder kind of case."""
    found = {"as trained": with_difficulty(task)}
    difficulty = getattr(task.cases, "difficulty", None)
    for field, values in list(HARDER.items())[: 1 if quick else None]:
        for value in values:
            if (before := getattr(difficulty, field, None)) is not None and value > before:
                found[f"{field} {before} -> {value}"] = with_difficulty(task, **{field: value})
    return found


def written(stage: Stage, task: Task, key: str, n: int) -> HeldOut:
    """Pairs of papers by the hurried people of the corpus: the starting agent cannot write papers longer than those
    it was pretrained on (nearly none parses), so the difficulty of writing would hide that of judging."""
    assert task.cases is not None
    groups = []
    for case in task.cases.draw(n, key):
        corpus, brief = Corpus(random.Random(digest("transfer", key, case.id))), Brief.of(case)
        groups.append(Group(case, tuple(Outcome(write(brief, corpus.paper(brief))) for _ in range(4))))
    return differing(task, groups)


def longer(helper: Assistant) -> Assistant:
    """The same assistant, allowed answers three times as long: longer questions have longer answers."""
    agent = helper.agent
    assert isinstance(agent, TextAgent)
    agent = TextAgent(agent.backbone, agent.fork, 3 * agent.max_tokens)
    return Assistant(helper.task, agent, helper.reward, tuple(longer(sub) for sub in helper.helpers), Forgetful())


def summarize(results: Sequence[Result]) -> Summary:
    """A row per difficulty: alone, with a flat critic, assisted; the lift, and the tree less the critic."""
    rows: list[dict[str, Any]] = []
    for name in results[0]:
        alone, critic, assisted = ([r[name][arm] for r in results] for arm in ARMS)
        row: dict[str, Any] = {"cases": name} | {arm: agreement([r[name][arm] for r in results]) for arm in ARMS}
        hidden = bounded(row["alone"])
        row["lift"] = hidden or lift(assisted, alone)
        row["assisted less flat critic"] = lift(assisted, critic)
        for error in ("false negatives", "false positives"):
            rates = [r[name]["claims"][error] for r in results if r[name]["claims"][error] is not None]
            row[f"claims: {error}"] = clipped(of_numbers(rates))
        row["answers unreadable"] = clipped(of_numbers([r[name]["unreadable"] for r in results]))
        rows.append(row)
    better = [row["cases"] for row in rows if row["assisted less flat critic"]["low"] > 0]
    worse = [row["cases"] for row in rows if row["assisted less flat critic"]["high"] < 0]
    measured = [row for row in rows if not isinstance(row["lift"], str)]
    lost = [row["cases"] for row in measured if row["lift"]["low"] <= 0]
    notes = [
        "No lift that can be told from 0: " + (", ".join(lost) or "nowhere") + ".",
        "Lift as trained: " + next((shown(row["lift"]) for row in rows if row["cases"] == "as trained"), "") + ".",
        f"The tree better than the flat critic: {', '.join(better) or 'nowhere'}; worse: "
        f"{', '.join(worse) or 'nowhere'}.",
    ]
    limits = [
        "The papers are those of hurried people (the corpus the model was pretrained on), at every difficulty. An "
        "unreadable answer counts as N/A.",
        "The user's attention is the same throughout, and a harder case has more to check.",
        "The flat critic was trained on the questions, and with the budget, of all the tree's nodes together.",
        "claims: of all that any assistant says, false negatives (of the facts that do not hold, the share said to "
        "hold) and false positives (of those that hold, the share called wrong).",
    ]

    def draw(axes: Any) -> None:
        for n, arm in enumerate(ARMS):
            found = [row[arm] for row in rows]
            axes.barh([i + n * 0.27 for i in range(len(rows))], [f["mean"] for f in found], height=0.27,
                      xerr=error_bars(found), label=arm)  # fmt: skip
        axes.set_yticks([i + 0.27 for i in range(len(rows))], [row["cases"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0.4, 1)
        axes.set_xlabel("user agrees with the truth")
        axes.legend()

    return Summary(rows, notes, draw, limits=limits)
