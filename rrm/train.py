"""`rrm.train`: a tree, a user and a model in; the finished root assistant and its run folder out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.assistance import Assistant
from rrm.check import check
from rrm.task import Task
from rrm.user import User

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone
    from rrm.run import Watch


def train(
    task: Task,
    user: User,
    model: str | Backbone = "embedded",
    out: str | Path = "runs/run",
    seed: int = 0,
    watch: Sequence[Watch] = (),
) -> Assistant:
    """Train a task tree from the leaves up. The same call again resumes an interrupted run.

    Parameters
    ----------
    task: the root; its tree is checked first (`TaskError` names everything wrong).
    user: who judges, at every node.
    model: "embedded", a folder, a hub name, or a loaded backbone.
    out: the run folder. A folder of a run with other settings is refused (`RunError`).
    seed: decides everything random.
    watch: called with (node, event) as things happen; see `rrm.run.Event`.
    """
    from rrm.models.backbone import Backbone  # late: torch takes seconds, and `rrm view` does without it
    from rrm.models.precision import limit_threads
    from rrm.recursion import solve
    from rrm.run import Run

    task = check(task)
    assert task.cases is not None  # checked
    limit_threads()
    backbone = model if isinstance(model, Backbone) else Backbone.load(model)
    run = Run(out, backbone, seed, watch)
    run.configure(describe(task, user, backbone, seed))
    return solve(task, task.cases, user, run)


def describe(task: Task, user: User, backbone: Backbone, seed: int) -> dict[str, Any]:
    """What decides a run's result, as config.json keeps it."""
    return {
        "tree": {
            node.path: {"settings": node.settings.model_dump(), "instruction": node.instruction}
            | ({"tools": {tool.name: tool.version for tool in node.tools}} if node.tools else {})
            for node in task.walk()
        },
        "finished": {
            a.task.path: a.version for n in task.walk() for a in n.assistants if isinstance(a, Assistant)
        },
        "user": {"name": user.name, **(user.model_dump() if hasattr(user, "model_dump") else {})},
        "model": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "seed": seed,
    }
