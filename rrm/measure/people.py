"""Whether the assistance makes a person's judgements truer, where the world has a truth."""

from __future__ import annotations

from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.labels.agreement import Uplift, side, uplifts
from rrm.labels.questions import Label
from rrm.labels.queue import Labels
from rrm.measure.oracle import true_score


def true_uplifts(task: Task, labels: Labels) -> list[Uplift]:
    """Per person: the share of their labels on the truly better side, with and without assistance.

    `task` is the root of the tree the labels were given for. A tie counts half; pairs that are truly tied
    count nothing.
    """
    tasks = {node.path: node for node in plant(task).walk()}
    given = labels.labels(drawn=True)
    questions = labels.questions([label.question for label in given])

    def worth(label: Label) -> float | None:
        asked = questions[label.question]
        a, b = (true_score(tasks[asked.task], asked.pair.case, one) for one in (asked.pair.a, asked.pair.b))
        if abs(a - b) < 1e-9 or label.preference is None:
            return None
        return 1 - abs(float(a > b) - side(label.preference))

    return uplifts(given, labels.cases(), worth)
