"""Whether the assistance makes a person's judgements truer, where the world has a truth."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rrm.core.errors import RRMError
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.labels.agreement import ENOUGH, TrialArm, Uplift, uplifts
from rrm.labels.questions import Label, side
from rrm.labels.queue import Labels
from rrm.measure.experiment import without_nan
from rrm.measure.oracle import true_score
from rrm.store.files import write_atomically

NAME = "uplift"
QUESTION = "Do people judge more truly with the assistance than without?"


def true_uplifts(task: Task, labels: Labels, node: str | None = None) -> list[Uplift]:
    """Per person: the share of their labels on the truly better side, with and without assistance.

    `task` is the root of the tree the labels were given for; `node`: labels at this one only. A tie counts half; pairs
    that are truly tied count nothing. Raises `RRMError` if the labels are of another tree.
    """
    tasks = {one.path: one for one in plant(task).walk()}
    drawn = labels.labels(drawn=True)
    questions = labels.questions([label.question for label in drawn])
    given = [label for label in drawn if node in (None, questions[label.question].task)]
    strange = sorted({questions[one.question].task for one in given} - tasks.keys())
    if strange:
        raise RRMError(f"{labels.path} has labels at {strange[0]!r}, which the tree {task.name!r} lacks; give its own")

    def worth(label: Label) -> float | None:
        asked = questions[label.question]
        a, b = (true_score(tasks[asked.task], asked.pair.case, one) for one in (asked.pair.a, asked.pair.b))
        if abs(a - b) < 1e-9 or label.preference is None:
            return None
        return 1 - abs(float(a > b) - side(label.preference))

    return uplifts(given, labels.cases(), worth)


def document(found: Sequence[Uplift], where: str, command: str) -> str:
    """The uplifts as a page of markdown."""
    rows = ["| who | assistance | judged | ties | skipped | median | truly better | of |", f"|{' --- |' * 8}"]
    for one in found:
        rows += [_row(one.labeler, "shown", one.assisted), _row(one.labeler, "not shown", one.unassisted)]
    lines = [f"- {one.labeler}: uplift, shown minus not shown: {one.difference}" for one in found]
    notes = [
        "- `truly better`: the share of judgements on the side that the truth prefers, a tie counting half; `of`: how "
        "many there are of pairs that are not truly tied.",
        "- A draw decides whether assistance is shown; a person who hid it counts as shown.",
        f"- Intervals are of 95 %, over cases, one person at a time; with fewer than {ENOUGH} cases there are none.",
    ]
    parts = [f"# {NAME}", QUESTION, f"    {command}", f"People's judgements in `{where}`, where there was assistance."]
    return "\n\n".join([*parts, "\n".join(rows), "\n".join(lines + notes)]) + "\n"


def _row(name: str, shown: str, arm: TrialArm) -> str:
    median = "" if math.isnan(arm.seconds) else f"{arm.seconds:.1f} s"
    return f"| {name} | {shown} | {arm.n} | {arm.ties} | {arm.skipped} | {median} | {arm.worth} | {arm.worth.n} |"


def measure(folder: Path, task: Task, node: str | None, out: Path, command: str) -> Path:
    """Measure a run's labels, and write OUT/uplift/{summary.json, report.md}. Returns the page's path.

    Raises `RRMError` if nobody judged a pair on which there was assistance.
    """
    if not (folder / "labels.db").exists():
        raise RRMError(f"{folder} has no labels.db: no person judged there. Give the folder of a run with --user human")
    labels = Labels(folder)
    try:
        found = true_uplifts(task, labels, node)
    finally:
        labels.close()
    if not found:
        at = f"at {node!r}" if node else "there"
        raise RRMError(f"{folder}: nobody judged a pair {at} on which there was assistance")
    page = out / NAME / "report.md"
    record = without_nan({
        "experiment": NAME, "question": QUESTION, "simulated": False, "command": command, "source": str(folder),
        "node": node, "people": [asdict(one) for one in found],
    })  # fmt: skip
    write_atomically(page.with_name("summary.json"), json.dumps(record, indent=1).encode() + b"\n")
    write_atomically(page, document(found, str(folder), command).encode())
    return page
