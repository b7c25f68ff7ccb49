"""Workers that are threads, for tests of what the driver does with workers; and what two runs have in common."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from rrm import Assistant, Task
from rrm.core.errors import RRMError
from rrm.core.parties import Maker, User, Watch
from rrm.core.validation import plant
from rrm.loop.ahead import Ahead, Done, Letter
from rrm.loop.away import AwayExpectant, AwayJournal, Link, Message, watching
from rrm.loop.job import Job, carry_out, frame
from rrm.loop.recursion import solve
from rrm.loop.run import Run
from tests.test_resume import contents


def content(out: Path) -> dict[str, Any]:
    """What a run recorded. Nodes that train side by side are written in another order; each node's own is the same."""
    found: dict[str, Any] = contents(out)
    judged = found.pop("judgements")
    found["judgements"] = {task: [row for row in judged if row[0] == task] for task in sorted({r[0] for r in judged})}
    found["files"] = {
        path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))
    }
    return found


class Gone(BaseException):
    """As if the worker's process had been killed."""


_MAKING = threading.Lock()
"""A made-up network is drawn from torch's one random stream, which processes have each for themselves."""


class InThreads:
    """Each job in a thread of its own, with a maker of its own; what a letter says is a copy.

    dies: whether the worker is gone instead of sending its n-th letter (of all workers').
    """

    def __init__(self, make: Callable[[], Maker], name: str, dies: Callable[[int, str], bool] = lambda n, path: False):
        self._make, self._name, self._dies = make, name, dies
        self._come: queue.Queue[Any] = queue.Queue()
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[object]] = {}
        self.lost: list[str] = []
        self.started: list[tuple[str, bool]] = []
        self.stopped = 0
        self._ended = False

    def start(self, job: Job, frame: bool) -> None:
        self.started.append((job.task.path, frame))
        threading.Thread(target=self._run, args=(job, frame), daemon=True).start()

    def _run(self, job: Job, framing: bool) -> None:
        path = job.task.path

        def send(messages: list[Message]) -> Any:
            number = next(self._numbers)
            if self._ended or self._dies(number, path):
                raise Gone
            answer = self._answers[number] = queue.Queue()
            self._come.put(Letter(number, path, deepcopy(messages)))
            return answer.get()

        link = Link(send, clock=lambda: 0.0)
        try:
            do = frame if framing else carry_out
            with _MAKING:
                maker, user = self._make(), AwayExpectant(link, self._name)
            found = do(job, maker, user, AwayJournal(link, "elsewhere"), [watching(link)])
            link.ask("end")
            self._come.put(Done(job, found if framing else None))
        except Gone:
            if not self._ended:
                self.lost.append(path)
                self.start(job, framing)
        except RRMError as error:
            self._come.put(error)

    def wait(self) -> tuple[list[Letter], list[Done]]:
        try:
            one = self._come.get(timeout=0.05)
        except queue.Empty:
            return [], []
        if isinstance(one, RRMError):
            raise one
        return ([one], []) if isinstance(one, Letter) else ([], [one])

    def answer(self, letter: Letter, answer: object) -> None:
        self._answers[letter.number].put(deepcopy(answer))

    def stop(self) -> None:
        self.stopped += 1


def trained(
    workers: InThreads | None, task: Task, user: User, maker: Maker, out: Path, watch: tuple[Watch, ...] = ()
) -> Assistant:
    """As `rrm.train` does."""
    task = plant(task)
    run = Run(out, maker, 0, watch)
    run.configure({"tree": {}, "user": {"name": user.name}})
    run.executor = None if workers is None else Ahead(lambda: workers)
    assert task.cases is not None
    return solve(task, task.cases, user, run)
