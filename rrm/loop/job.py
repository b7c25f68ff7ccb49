"""A node's training as a pure function of data, so that who runs it can change.

    (task with its settings, cases, assistants' checkpoints, records so far)  ->  records (weights, judgements, metrics)

`perform` gives the bits that `rrm.train` gives in a run's folder: a retry is a rerun, and only whoever owns the folder
writes to it (`Journal.pour`). What it is given and gives back is data; the task, the user and the maker are what the
program defines, the same in whichever process it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rrm.core.errors import RunError
from rrm.core.parties import Deciding, Expectant, Maker, Naming, User, Watch
from rrm.core.protocols import Cases, Memo
from rrm.core.task import Assistant, Forgetful, Pool, Task
from rrm.core.validation import plant
from rrm.loop.recursion import Framed, solve
from rrm.loop.run import Run
from rrm.store.journal import Journal, MemoryJournal, Records

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A finished assistant as data: with its task and a maker, `restore` makes it again.

    version: of the assistant that was checkpointed. One restored must have the same.
    reward: None for an assistant without a reward model.
    """

    path: str
    version: str
    agent: Mapping[str, Tensor]
    reward: Mapping[str, Tensor] | None
    helpers: tuple[Checkpoint, ...] = ()

    @classmethod
    def of(cls, assistant: Assistant, task: Task) -> Checkpoint:
        """What a finished assistant, and those below it that are tasks of the tree, learned.

        task: its node of the planted tree. What it holds as finished assistants is no part of the checkpoint.
        """
        reward = None if assistant.reward is None else assistant.reward.state()
        pairs = zip(assistant.helpers, task.assistants, strict=True)
        below = tuple(cls.of(helper, sub) for helper, sub in pairs if isinstance(sub, Task))
        return cls(task.path, assistant.version, assistant.agent.state(), reward, below)


def restore(task: Task, saved: Checkpoint, maker: Maker, seed: int, memo: Memo | None = None) -> Assistant:
    """The assistant that was checkpointed. `task` is its node of the planted tree, `seed` the run's.

    Raises `RunError` if it comes out as another than it was: from another model, seed or tree.
    """
    if task.path != saved.path:
        raise RunError(f"the checkpoint is of {saved.path!r}, not of {task.path!r}; give its own task")
    below = {helper.path: helper for helper in saved.helpers}
    lacking = {sub.path for sub in task.assistants if isinstance(sub, Task)} - set(below)
    if lacking:
        raise RunError(f"the checkpoint of {saved.path!r} lacks its assistants {', '.join(sorted(lacking))}")
    memo = Forgetful() if memo is None else memo
    helpers = tuple(
        restore(sub, below[sub.path], maker, seed, memo) if isinstance(sub, Task) else sub for sub in task.assistants
    )
    agent, reward = maker.policy(task, seed), None if saved.reward is None else maker.reward(task, seed)
    agent.load(saved.agent)
    if reward is not None and saved.reward is not None:
        reward.load(saved.reward)
    assistant = Assistant(replace(task, assistants=helpers), agent, reward, helpers, memo)
    if assistant.version != saved.version:
        raise RunError(f"{saved.path}: restored from its checkpoint it is another assistant; use the model of its run")
    return assistant


@dataclass(frozen=True)
class Job:
    """Everything that decides a node's training, and that of the subtasks that are not trained yet.

    task: a node of the planted tree, with its settings.
    cases: its own: a root's, or a `Pool` framed from its parent's outcomes.
    assistants: checkpoints of those of its subtasks that are finished; the others are trained with it.
    extra: rounds beyond the task's own; see `solve`.
    known: records so far, of an attempt that was interrupted; `beside` also holds what its cases and its assistants'
        name (the arrays of their parent's episodes).
    decided: what the maker decided when the run began (`Deciding`; in config.json under about); None: it decides now.
    """

    task: Task
    cases: Cases
    seed: int
    assistants: tuple[Checkpoint, ...] = ()
    extra: int = 0
    known: Records = Records()
    decided: Mapping[str, Any] | None = None


def perform(job: Job, maker: Maker, user: User, watch: Sequence[Watch] = ()) -> Records:
    """Do a job, alone in this process. Returns all its records, the known ones included.

    Raises `RunError` for checkpoints of no subtask, and for a user who needs a run's folder (people do). What outcomes
    name (`Naming`) is found in the known records and comes back with the new ones; what a party records of its own
    (`Recording`) is kept nowhere.
    """
    if isinstance(user, Expectant):
        raise RunError(f"the user {user.name!r} needs a run's folder, which a job has not; use rrm.train")
    if isinstance(maker, Deciding):
        maker.decide(job.decided)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rrm-job-")))
        journal = MemoryJournal(folder)
        stack.callback(journal.close)
        if isinstance(maker, Naming):
            stack.enter_context(maker.beside(folder))
        journal.pour(job.known)
        carry_out(job, maker, user, journal, watch)
        return journal.records()


def carry_out(job: Job, maker: Maker, user: User, journal: Journal, watch: Sequence[Watch] = ()) -> None:
    """Do a job whose records are those of this journal."""
    task = job.task if "/" in job.task.path else plant(job.task)
    finished = {saved.path: saved for saved in job.assistants}
    unknown = set(finished) - {sub.path for sub in task.assistants if isinstance(sub, Task)}
    if unknown:
        raise RunError(f"checkpoints of {', '.join(sorted(unknown))}, which are no subtasks of {task.path!r}")
    subs = tuple(
        restore(sub, finished[sub.path], maker, job.seed, journal)
        if isinstance(sub, Task) and sub.path in finished
        else sub
        for sub in task.assistants
    )
    run = Run(journal.folder, maker, job.seed, watch, journal)
    solve(replace(task, assistants=subs), job.cases, user, run, job.extra)


def frame(job: Job, maker: Maker, user: User, journal: Journal, watch: Sequence[Watch] = ()) -> tuple[Pool | None, ...]:
    """The cases of each subtask that is to be trained, made from the outcomes of the job's task as far as it is
    trained now; None for one that has cases of its own. Raises `RRMError` where there are none."""
    node = Run(journal.folder, maker, job.seed, watch, journal).open(job.task, user)
    subs = [sub for sub in job.task.assistants if isinstance(sub, Task)]
    return tuple(Framed(sub, node, job.cases).pool() if sub.cases is None else None for sub in subs)
