"""The decomposition must be exhaustive (Leike et al. 2018, section 3.2): what becomes of an aspect nobody assesses?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rrm.core.errors import RRMError
from rrm.core.validation import faults
from rrm.measure.arms import start_agent
from rrm.measure.experiment import Result, Summary, by_case, shown
from rrm.measure.roots import grades, root
from rrm.measure.stage import Stage
from rrm.measure.stats import Interval, of_numbers, over_seeds

QUESTION = (
    "The assistant of one aspect is left out and the agent is optimized: what becomes of the truth of that aspect, and "
    "of the others, against the whole tree?"
)


def run(stage: Stage) -> Result:
    """The grades of the start, of the whole tree, and of each tree with an aspect left out."""
    task = stage.task
    if len(task.aspects) < 2:
        raise RRMError(
            f"exhaustiveness leaves out the assistant of one of several aspects, and {task.name!r} has "
            f"{len(task.aspects)}; without any assistant it is depth 0 of `rrm measure depth`"
        )
    found: dict[str, Any] = {
        "start": grades(stage, task, start_agent(task, stage.backbone)),
        "whole": grades(stage, task, root(stage, "whole").agent),  # type: ignore[arg-type]
        "without": {},
        "check": {},
    }
    left_out = [aspect for aspect in task.aspects if any(aspect in sub.covers for sub in task.subtasks)]
    if not left_out:
        raise RRMError(f"no assistant of {task.name!r} covers any of its aspects; give assistants covers=(...)")
    for aspect in left_out[:1] if stage.quick else left_out:
        kept = [helper for helper in stage.helpers if aspect not in helper.task.covers]
        node = root(stage, f"without {aspect}", helpers=kept)
        found["without"][aspect] = grades(stage, task, node.agent)  # type: ignore[arg-type]
        tree = replace(task, assistants=tuple(kept))
        found["check"][aspect] = any(aspect in fault.what for fault in faults(tree) if "covers" in fault.what)
    return found


def summarize(results: Sequence[Result]) -> Summary:
    """Per aspect left out: its truth less that under the whole tree, and the mean of the others' differences."""
    aspects = [name for name in results[0]["whole"] if name != "score"]
    rows: list[dict[str, Any]] = []

    def of(arm: Any, name: str) -> Interval:
        return over_seeds([by_case((case, value) for case, value in r.get(name, ())) for r in arm])

    for arm in ("start", "whole"):
        grade = [r[arm] for r in results]
        rows.append({"left out": {"start": "(before training)", "whole": "nothing"}[arm]}
                    | {name: of(grade, name) for name in ("score", *aspects)})  # fmt: skip
    own: dict[str, Interval] = {}
    for aspect in results[0]["without"]:
        grade = [r["without"][aspect] for r in results]
        row: dict[str, Any] = {"left out": aspect} | {name: of(grade, name) for name in ("score", *aspects)}
        changes = [{name: change(r["without"][aspect], r["whole"], name) for name in aspects} for r in results]
        own[aspect] = of_numbers([c[aspect] for c in changes])
        others = of_numbers([float(np.mean([v for name, v in c.items() if name != aspect])) for c in changes])
        relative = of_numbers(
            [c[aspect] - float(np.mean([v for name, v in c.items() if name != aspect])) for c in changes]
        )
        row |= {"its change": own[aspect], "the others' change": others, "its change less theirs": relative}
        rows.append(row)
    fell = [aspect for aspect, value in own.items() if value["high"] < 0]
    named = all(r["check"][aspect] for r in results for aspect in r["check"])
    changed = "; ".join(f"{aspect} {shown(value)}" for aspect, value in own.items())
    notes = [
        "Worse than under the whole tree when its assistant was left out (interval below 0): "
        f"{', '.join(fell) or 'none'}. Changes: {changed}.",
        "`rrm check` " + ("names" if named else "does NOT name") + " the aspect that no assistant covers, in "
        "every such tree.",
    ]  # fmt: skip
    limits = [
        "The other assistants are the same in all arms; only the root is trained again. The user still checks some "
        "facts of the aspect unaided.",
        "Intervals of changes are over seeds (t).",
    ]  # fmt: skip

    def draw(axes: Any) -> None:
        for n, name in enumerate(aspects):
            changes = [of_numbers([change(r["without"][a], r["whole"], name) for r in results]) for a in own]
            axes.bar([i + n / (len(aspects) + 1) for i in range(len(own))], [c["mean"] for c in changes],
                     width=1 / (len(aspects) + 1), label=name)  # fmt: skip
        axes.axhline(0, color="gray", linewidth=1)
        axes.set_xticks([i + 0.3 for i in range(len(own))], [f"without {aspect}" for aspect in own])
        axes.set_ylabel("truth of the aspect, less that under the whole tree")
        axes.legend(fontsize=8, title="truth of")

    return Summary(rows, notes, draw, {"changes": own}, limits)


def change(grade: dict[str, list[list[float]]], whole: dict[str, list[list[float]]], name: str) -> float:
    """Mean of an aspect in one seed's arm less that under the whole tree; NaN if either never parsed."""
    here, there = ([value for _, value in g.get(name, ())] for g in (grade, whole))
    return float(np.mean(here) - np.mean(there)) if here and there else float("nan")
