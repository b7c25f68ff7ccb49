"""Is evaluating easier than doing, at each node (Leike et al. 2018, assumption 2)? What the node can produce, tell
apart, and say is wrong (Saunders et al. 2022, arXiv 2206.05802)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Group, Outcome
from rrm.core.task import Assistant, Task, assist
from rrm.loop.recursion import frame_all
from rrm.measure.experiment import Result, Summary, by_case, error_bars, shown
from rrm.measure.oracle import is_true, matter, true_score
from rrm.measure.stage import Stage
from rrm.measure.stats import over_seeds, share_over_seeds

QUESTION = (
    "At each node: how often are the facts of its own outcomes right (producing), how often does it tell the better of "
    "two of its outcomes (telling), and how right is what its assistants say is wrong (evaluating)? Is evaluating "
    "easier than doing?"
)
CASES = 80
OUTCOMES = 4


def run(stage: Stage) -> Result:
    """Per node: rows [case, value] of each measure."""
    cases = stage.cases.draw(8 if stage.quick else CASES, f"generator {stage.seed}")
    return dict(nodes(stage, stage.root, cases))


def nodes(stage: Stage, node: Assistant, cases: Sequence[Case]) -> Iterator[tuple[str, Any]]:
    """The node's measures, then those of the nodes below, on questions about this node's outcomes."""
    groups = node.agent.sample(cases, OUTCOMES, key=f"generator {stage.seed}")
    yield node.task.path, measures(node, assist(node.helpers, groups))
    for helper in node.helpers:
        asked = frame_all(helper.task, [Group(g.case, g.outcomes[:1]) for g in groups])[: len(cases)]
        if asked and helper.reward is not None:  # a tool has no reward model to compare with its agent
            yield from nodes(stage, helper, asked)


def measures(node: Assistant, groups: Sequence[Group]) -> dict[str, list[list[float]]]:
    """Each a list of [case, value].

    produces: 1 for a fact of its outcome that is right. tells by likelihood, by reward: 1 if the truly better of two of
    its outcomes has the higher log-probability a token, or reward; a tie counts half. best of n: the true score of the
    one with the highest reward, less the mean. evaluates: 1 for an assistant's finding that is right; accuses: of facts
    that do not hold, 1 if it says so; acquits: of those that hold, 1 if it says so; points: of rightly accused facts
    with parts, 1 if it points at a part that fails. margin: evaluates less produces, of the same facts.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    assert node.reward is not None  # it was trained
    rewards = node.reward.score(groups)
    for g, group in enumerate(groups):
        task = node.task
        scores = [true_score(task, group.case, outcome) for outcome in group.outcomes]
        reward = rewards[g].mean.tolist()
        likely = [sum(o.logprobs) / max(1, len(o.logprobs)) for o in group.outcomes]
        formed = [i for i, score in enumerate(scores) if score >= 0]
        for i, j in itertools.combinations(formed, 2):
            if abs(scores[i] - scores[j]) > 1e-9:
                for name, by in (("tells by likelihood", likely), ("tells by reward", reward)):
                    right = 0.5 if by[i] == by[j] else float((by[i] > by[j]) == (scores[i] > scores[j]))
                    found[name].append([g, right])
        if len(formed) > 1:
            best = max(formed, key=lambda i: reward[i])
            found["best of n"].append([g, scores[best] - sum(scores[i] for i in formed) / len(formed)])
        for i, outcome in enumerate(group.outcomes):
            facts = facts_of(task, group.case, outcome)
            found["produces"] += [[g, float(is_true(fact))] for fact in facts.values()]
            for finding in (f for top in group.seen(i) for a in top.tree() for f in a.findings):
                if (fact := facts.get(finding.fact)) is None:
                    continue
                holds = matter(fact)
                found["evaluates"].append([g, float(finding.holds == holds)])
                found["margin"].append([g, float(finding.holds == holds) - float(is_true(fact))])
                found["acquits" if holds else "accuses"].append([g, float(finding.holds == holds)])
                if not holds and not finding.holds and fact.parts and finding.part is not None:
                    found["points"].append([g, float(not is_true(fact.parts[finding.part]))])
    return found


MEASURES = (
    "produces", "tells by likelihood", "tells by reward", "best of n", "evaluates", "margin", "accuses",
    "acquits", "points",
)  # fmt: skip


def facts_of(task: Task, case: Case, outcome: Outcome) -> dict[str, Fact]:
    """The outcome's facts by name; none if it does not parse."""
    try:
        return {fact.name: fact for fact in task.facts(case, outcome)}
    except Malformed:
        return {}


def summarize(results: Sequence[Result]) -> Summary:
    """A row per node."""
    paths = [path for path in results[0] if all(path in r for r in results)]
    rows: list[dict[str, Any]] = []
    for path in paths:
        row: dict[str, Any] = {"node": path}
        for name in MEASURES:
            over = over_seeds if name in ("best of n", "margin") else share_over_seeds
            row[name] = over([by_case((case, value) for case, value in r[path][name]) for r in results])
        rows.append(row)
    helped = [row for row in rows if row["margin"]["n"]]
    easier = [row["node"] for row in helped if row["margin"]["low"] > 0]
    harder = [row["node"] for row in helped if row["margin"]["high"] < 0]
    notes = [
        "Margin: how much more often assistants are right about a fact of the node's outcome than the node's own "
        "outcome is, on the same facts: evaluating is easier than doing where it is above 0 (interval): "
        f"{listed(easier)}; below 0: {listed(harder)}. "
        + "; ".join(f"{row['node']} {shown(row['margin'])}" for row in helped) + ".",
    ]
    limits = [
        "The nodes without assistants are judged by the user alone, so their evaluation is not measured here.",
        "The root's agent is the untrained one; the others are trained. Their reward models have learned from the "
        "user, and read the assistance if they do in training. A node's questions are about untrained papers.",
        "accuses: of the facts that do not hold, the share an assistant says so of (1 less its false negatives); "
        "acquits: of those that hold, the share it says hold (1 less its false positives).",
        "Tells: of two outcomes of one case that parse and truly differ; 0.5 is chance.",
    ]  # fmt: skip

    def draw(axes: Any) -> None:
        kinds = ("produces", "tells by likelihood", "tells by reward", "evaluates")
        for k, kind in enumerate(kinds):
            rows_of = [(n, row[kind]) for n, row in enumerate(rows) if row[kind]["n"]]
            values = [value for _, value in rows_of]
            axes.barh(
                [n + k / 5 for n, _ in rows_of],
                [v["mean"] for v in values],
                height=0.2,
                xerr=error_bars(values),
                label=kind,
            )
        axes.set_yticks([n + 0.3 for n in range(len(rows))], [row["node"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0.3, 1)
        axes.set_xlabel("share right (telling: 0.5 is chance)")
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)

    return Summary(rows, notes, draw, {"easier": easier, "harder": harder}, limits)


def listed(names: Sequence[str]) -> str:
    """ "a, b", or "none"."""
    return ", ".join(names) or "none"
