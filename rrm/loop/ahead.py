"""Nodes side by side: whatever of a tree is ready is trained by workers, and the recursion finds it finished.

`rrm.loop.recursion` stays as it is. Before it descends into a node's subtasks, `Ahead` has them trained elsewhere, all
at once, from the leaves up:

    frame X      its first outcomes, from which its subtasks' cases are made   (if it has such subtasks)
    train X      when all below it are finished; they are restored from the journal

Each is a job (`rrm.loop.job.Job`), its own task's; what it reads and writes is the journal of this process, which alone
has the run's folder, the user and the watchers (`Desk`). So a lost worker is a rerun of its job, and when the jobs are
done the recursion resumes what is already there.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

from rrm.core.errors import Notice, RunError, at_node
from rrm.core.judgements import Comparison, Event, Pair
from rrm.core.parties import Concurrent, Expectant, User
from rrm.core.protocols import Agent, Cases
from rrm.core.records import Spans, digest
from rrm.core.task import Pool, Task
from rrm.loop import judging
from rrm.loop.away import Message
from rrm.loop.job import Job
from rrm.loop.lasting import finished
from rrm.loop.recursion import Framed
from rrm.loop.run import Run


@dataclass(frozen=True)
class Letter:
    """Messages of a worker that waits for the answer to the last of them."""

    number: int
    path: str
    """Of the node that it trains."""
    messages: Sequence[Message]


@dataclass(frozen=True)
class Done:
    """A job that was done, and, of one that only framed, the cases of its task's subtasks."""

    job: Job
    cases: tuple[Pool | None, ...] | None = None


class Workers(Protocol):
    """Processes that do jobs, each when there is room, and again if whoever did it is lost."""

    def start(self, job: Job, frame: bool) -> None:
        """Do a job when there is room: train its task, or only make its subtasks' cases (`frame`)."""

    def wait(self) -> tuple[list[Letter], list[Done]]:
        """What has come; nothing after a second without. Raises what a job raised, and `RunError` for one whose worker
        was lost too often."""

    def answer(self, letter: Letter, answer: object) -> None:
        """The answer to a letter's last message; from any thread."""

    def stop(self) -> None:
        """End all that is under way."""


# --- what workers ask --------------------------------------------------------------------------------


class Desk:
    """Serves workers: the user, the journal and the watchers of a run. All of it may be asked again, by a rerun.

    Judging may take days: it is done in threads of its own, one after the other, or, by users who say so
    (`Concurrent`), at once.
    """

    def __init__(self, run: Run, user: User, answer: Callable[[Letter, object], None]) -> None:
        self._run, self._user, self._answer = run, user, answer
        self._tasks: dict[str, Task] = {}
        self._kept: dict[tuple[str, int], dict[str, Comparison]] = {}
        self._one = nullcontext() if isinstance(user, Concurrent) and user.concurrent else threading.Lock()
        self._failed: list[tuple[str, BaseException]] = []
        self._seen: set[str] = set()
        self.closed = False
        journal = run.store
        self._simple: Mapping[str, Callable[..., object]] = {
            "get": journal.get, "comparisons": journal.comparisons, "metrics": journal.metrics,
            "remarks": journal.remarks, "checkpoints": journal.checkpoints,
            "sampled": journal.sampled, "origins": journal.origins,
            "read": journal.body, "keep": journal.keep_body, "keep_sampled": journal.keep_sampled, "put": journal.put,
            "log": journal.log, "score": journal.score, "event": self._event, "warn": self._warn, "end": lambda: None,
        }  # fmt: skip
        self._slow: Mapping[str, Callable[..., object]] = {"judge": self._judge, "expect": self._expect}

    def welcome(self, task: Task) -> None:
        """A node will be trained by a worker: the user is told what was judged there before, once."""
        self._tasks[task.path] = task
        if task.path in self._run.told:
            return
        self._run.told.add(task.path)
        for comparison in self._run.store.comparisons(task.path):
            self._user.recall(task, comparison.judgement)

    def serve(self, letter: Letter) -> None:
        """Do what the messages say, and answer the last: now, or when the user has judged."""
        answer: object = None
        for what, given in letter.messages:
            if what in self._slow:
                thread = threading.Thread(target=self._serve_slowly, args=(letter, what, given), daemon=True)
                thread.start()
                return  # it was the last
            answer = self._simple[what](*given)
        self._answer(letter, answer)

    def raise_failures(self) -> None:
        """Raise what a user raised in its thread, in the name of the node that asked."""
        if self._failed:
            path, error = self._failed[0]
            with at_node(path):
                raise error

    def _serve_slowly(self, letter: Letter, what: str, given: tuple[Any, ...]) -> None:
        caught = _Caught()
        answer: object = None
        with caught:
            answer = self._slow[what](*given)
        if caught.error is not None:
            self._failed.append((letter.path, caught.error))
        elif not self.closed:
            self._answer(letter, answer)

    def _judge(self, path: str, pair: Pair, round: int, position: int, purpose: str) -> Comparison:
        with self._one:
            if (path, round) not in self._kept:
                self._kept[path, round] = {one.pair.id: one for one in self._run.store.comparisons(path, round)}
            kept = self._kept[path, round]
            if pair.id not in kept:  # else a worker was lost after it asked
                task = self._tasks[path]
                kept[pair.id] = judging.put(self._user, task, pair, round, position, purpose, self._keep)
            return kept[pair.id]

    def _keep(self, comparison: Comparison, position: int, spans: tuple[Spans, Spans]) -> None:
        if self.closed:  # a person's answer came after the run had ended here; it is in labels.db, for the next
            raise RunError(f"{comparison.pair.task}: the run has ended")
        self._run.store.add(comparison, position, spans)

    def _expect(self, path: str, round: int, pairs: Sequence[Pair]) -> None:
        with self._one:
            if isinstance(self._user, Expectant):
                self._user.expect(self._tasks[path], round, pairs, self._run.store.folder)

    def _event(self, event: Event) -> None:
        if event.phase == "open":
            if event.task in self._seen:
                return  # by another job, or another attempt
            self._seen.add(event.task)
        node = FarNode(self._run, self._tasks[event.task], event.round)
        for watch in self._run.watch:
            watch(node, event)

    def _warn(self, text: str) -> None:
        warnings.warn(text, Notice, stacklevel=2)


class _Caught(AbstractContextManager["_Caught"]):
    """What is raised within, to be raised elsewhere."""

    error: BaseException | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return error is not None


class FarNode:
    """A node that trains in another process, as watchers here see it (`Watched`)."""

    cases: Cases | None = None

    def __init__(self, run: Run, task: Task, round: int) -> None:
        self._run, self.task, self.round = run, task, round

    @property
    def comparisons(self) -> list[Comparison]:
        """All so far."""
        return self._run.store.comparisons(self.task.path)

    @property
    def agent(self) -> Agent:
        """Raises `RunError`: it is elsewhere."""
        raise RunError(
            f"a watcher looks at the agent of {self.task.path}, which trains in another process; let it look at events "
            "only, or train without `on`"
        )

    def key(self, *parts: object) -> str:
        """See `NodeState.key`."""
        return digest(self._run.seed, self.task.path, self.round, *map(str, parts))

    def emit(self, phase: str, step: int = 0, of: int = 0, **metrics: float) -> None:
        """Keep metrics, and tell all watchers."""
        if metrics:
            self._run.store.log(self.task.path, self.round, phase, step, metrics)
        for watch in self._run.watch:
            watch(self, Event(self.task.path, self.round, phase, step, of, metrics))

    def history(self) -> list[tuple[int, str, int, str, float]]:
        """See `NodeState.history`."""
        return [row[1:] for row in self._run.store.metrics(self.task.path)]


# --- which job is when -------------------------------------------------------------------------------


@dataclass
class _Branch:
    """A node on its way: what is still to be finished below it."""

    job: Job
    above: _Branch | None
    open: int = 0


class Ahead:
    """Has the subtasks of a node trained by workers, which are made when there is something to do for the first time.
    """

    def __init__(self, workers: Callable[[], Workers]) -> None:
        self._make = workers
        self._workers: Workers | None = None
        self._did: set[tuple[str, int]] = set()  # (path, extra): one that stops early looks unfinished

    def __call__(self, run: Run, task: Task, cases: Mapping[str, Cases], user: User, extra: int) -> None:
        """Train a task's subtasks on these cases (by path), and all below them, as far as they are not; `extra` rounds
        more than their own."""
        todo = [
            sub for path, sub in _subtasks(task).items()
            if (path, extra) not in self._did and not finished(run.store, sub, extra)
        ]  # fmt: skip
        if not todo:
            return
        jobs = [Job(sub, _as_data(cases[sub.path]), run.seed, extra=extra, decided=run.decided) for sub in todo]
        if self._workers is None:
            self._workers = self._make()
        desk = Desk(run, user, self._workers.answer)
        for node in (node for sub in todo for node in _trained(sub)):
            desk.welcome(node)
        try:
            self._work([_Branch(job, None) for job in jobs], desk, run, self._workers)
        finally:
            desk.closed = True
            self._workers.stop()
        self._did |= {(sub.path, extra) for sub in todo}
        for node in (node for sub in todo for node in _trained(sub)):
            self._did.add((node.path, 0))
            run.catch_up(node.path)

    def _work(self, roots: Sequence[_Branch], desk: Desk, run: Run, workers: Workers) -> None:
        branches: dict[str, _Branch] = {}

        def begin(branch: _Branch) -> None:
            task = branch.job.task
            branches[task.path] = branch
            below = _below(task, run)
            if any(sub.cases is None for sub in below.values()):
                workers.start(branch.job, frame=True)
            else:
                descend(branch, [None] * len(_subtasks(task)))

        def descend(branch: _Branch, framed: Sequence[Pool | None]) -> None:
            below = _below(branch.job.task, run)
            branch.open = len(below)
            if not below:
                workers.start(branch.job, frame=False)
            for (path, sub), pool in zip(_subtasks(branch.job.task).items(), framed, strict=True):
                own = pool if sub.cases is None else sub.cases
                if path in below and own is not None:
                    begin(_Branch(replace(branch.job, task=sub, cases=own, extra=0), branch))

        for branch in roots:
            begin(branch)
        left = len(roots)
        while left:
            letters, done = workers.wait()
            desk.raise_failures()
            for letter in letters:
                with at_node(letter.path):
                    desk.serve(letter)
            for one in done:
                branch = branches[one.job.task.path]
                if one.cases is not None:
                    descend(branch, one.cases)
                    continue
                above = branch.above
                if above is None:
                    left -= 1
                    continue
                above.open -= 1
                if not above.open:
                    workers.start(above.job, frame=False)


def _as_data(cases: Cases) -> Cases:
    return cases.pool() if isinstance(cases, Framed) else cases


def _subtasks(task: Task) -> dict[str, Task]:
    """Path -> subtask, of those that are not finished assistants."""
    return {sub.path: sub for sub in task.assistants if isinstance(sub, Task)}


def _trained(task: Task) -> list[Task]:
    """The node and those below it that are to be trained."""
    return [task, *(node for sub in _subtasks(task).values() for node in _trained(sub))]


def _below(task: Task, run: Run) -> dict[str, Task]:
    """The node's subtasks that still have rounds to do."""
    return {path: sub for path, sub in _subtasks(task).items() if not finished(run.store, sub)}
