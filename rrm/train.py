"""`rrm.train`: a tree, a user and a model in; the finished root assistant and its run folder out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rrm.assistance import Assistant
from rrm.check import check
from rrm.task import Task
from rrm.user import User

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone
    from rrm.run import Watch


@runtime_checkable
class Recording(Protocol):
    """A user, or a finished assistant's agent, that keeps records of its own in the run's folder."""

    def record(self, folder: Path) -> None: ...


def train(
    task: Task,
    user: User,
    model: str | Backbone = "embedded",
    out: str | Path = "runs/run",
    seed: int = 0,
    watch: Sequence[Watch] = (),
) -> Assistant:
    """Train a task tree from the leaves up. The same call again resumes an interrupted run.

    Where torchrun started several processes, all of them make this call, share its work, and return the same.

    Parameters
    ----------
    task: the root; its tree is checked first (`TaskError` names everything wrong).
    user: who judges, at every node.
    model: "embedded", a folder, a hub name, or a loaded backbone.
    out: the run folder. A folder of a run with other settings is refused (`RunError`).
    seed: decides everything random.
    watch: called with (node, event) as things happen, in the main process; see `rrm.run.Event`.
    """
    from rrm.models.backbone import Backbone  # late: torch takes seconds, and `rrm view` does without it
    from rrm.models.precision import limit_threads
    from rrm.parallel import join
    from rrm.recursion import solve
    from rrm.run import Run

    task = check(task)
    assert task.cases is not None  # checked
    limit_threads()
    backbone = model if isinstance(model, Backbone) else Backbone.load(model)
    backbone.world = join()
    run = Run(out, backbone, seed, watch)
    cases = {"cases": [case.id for case in task.cases.draw(4, "about")]}  # others, if a prompt or a difficulty changed
    run.configure(describe(task, user, backbone, seed) | cases)
    for part in (user, *(a.agent for n in task.walk() for a in _finished(n.assistants))):
        if isinstance(part, Recording):
            part.record(run.out)
    return solve(task, task.cases, user, run)


def _finished(assistants: Iterable[Task | Assistant]) -> Iterator[Assistant]:
    """Those that were finished elsewhere, and their own assistants."""
    for one in assistants:
        if isinstance(one, Assistant):
            yield one
            yield from _finished(one.helpers)


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
