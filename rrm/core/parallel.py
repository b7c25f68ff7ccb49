"""Several processes, one run: who computes what, and how the others come to know it.

Every process runs the same program, in step, on the same data; nothing is handed out from a center. Three things
differ from a run of one process:

    each        the cases of a computation are dealt out, and every process is given all the results
    add_up      the gradients of a large batch, whose groups were dealt out, are summed
    once        what only one may do (ask the user, read and write the run's folder) the main process does, and tells

So all processes decide alike, and hold the same weights. Start them with torchrun or accelerate's launcher. accelerate
connects them and sums gradients, where they are: over NCCL on GPUs, over gloo on processors. What it has no word for
stands here (docs/two-processes.md says what, and why).
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from rrm.core.errors import RRMError

if TYPE_CHECKING:
    from torch import nn  # the command line wants to know who it is before torch is there

X = TypeVar("X")
Y = TypeVar("Y")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others' part of a computation before it gives up."""
DAYS = timedelta(days=365)
"""How long it waits for what the main process does alone: a person may be judging. (Whoever *ends* is noticed at once.)
"""


class ProcessError(RRMError):
    """Something went wrong in one process of a run; raised in the others, which cannot go on without it."""


def started() -> tuple[int, int]:
    """This process's number (0: the main one) and how many there are, as whoever started it says."""
    number = _told(["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"], 0)
    return number, _told(["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"], 1)


def place() -> tuple[int, int]:
    """The same on this machine."""
    number = _told(["LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"], 0)
    return number, _told(["LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"], 1)


def _told(names: Sequence[str], default: int) -> int:
    """The first of these variables that is set: torchrun's, or kinds of mpirun's."""
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


@cache
def join() -> World:
    """The world of this process: all that torchrun, accelerate or mpirun started together, or this one alone."""
    number, size = started()
    if size < 2:
        if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
            warnings.warn(
                "accelerate was told to start several processes and started one (with --cpu it does, silently); "
                "training goes on in this one. For N processes: torchrun --nproc_per_node N ..., or accelerate launch "
                "--multi_gpu --num_processes N ..., which asks for no GPU",
                stacklevel=2,
            )
        return World()
    import torch
    from accelerate import PartialState
    from torch import distributed

    here, beside = place()
    for name, value in {"RANK": number, "WORLD_SIZE": size, "LOCAL_RANK": here, "LOCAL_WORLD_SIZE": beside}.items():
        os.environ.setdefault(name, str(value))  # mpirun has other names for them; accelerate looks for these on GPUs
    if torch.cuda.is_available() and torch.cuda.device_count() >= beside:  # NCCL takes a GPU for each process
        state = PartialState(backend="cuda:nccl,cpu:gloo", timeout=PATIENCE)
    else:
        state = PartialState(cpu=True, backend="gloo", timeout=PATIENCE)
    groups = [distributed.new_group(backend="gloo", timeout=timeout) for timeout in (PATIENCE, DAYS)]
    atexit.register(leave)
    return World(state.process_index, state.num_processes, *groups)


def leave() -> None:
    """Take the connections down while the interpreter still runs.

    Gloo's threads that outlive it abort the process, after its work is done ("terminate called without an active
    exception"), and torchrun then reports a failure and kills the others.
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def nothing() -> None:
    """What a process does by itself while it waits."""


class World:
    """The processes of a run, as one of them sees it. `World()` is a process alone: all work is its own.

    Attributes
    ----------
    rank, size: this process's number, and how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1, computing: Any = None, waiting: Any = None) -> None:
        self.rank, self.size = rank, size
        self._computing, self._waiting = computing, waiting  # torch.distributed's groups: two kinds of patience
        self._apart = size == 1
        self.idle: Callable[[], None] = nothing
        """Called before this process waits for the others; a model whose layers are shared out sets it."""

    @property
    def main(self) -> bool:
        """Whether this is the process that asks the user and writes."""
        return self.rank == 0

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Within it this process works by itself, whatever the others do: nothing is dealt out."""
        outer, self._apart = self._apart, True
        try:
            yield
        finally:
            self._apart = outer

    def share(self, n: int) -> range:
        """Which of `n` things are this process's."""
        return range(n) if self._apart else range(self.rank, n, self.size)

    def once(self, work: Callable[[], Y]) -> Y:
        """What `work` returns in the main process, in all of them; an `RRMError` there is an error in all of them."""
        if self._apart:
            return work()
        from torch import distributed

        told: list[Any] = [None, None]
        failure: RRMError | None = None
        if self.main:
            try:
                with self.apart():
                    told[0] = work()
            except RRMError as error:
                failure, told[1] = error, str(error)
        self._wait_idle(failure)
        with explained():
            distributed.broadcast_object_list(told, src=0, group=self._waiting)
        if failure is not None:
            raise failure
        if told[1] is not None:
            raise ProcessError(told[1])
        result: Y = told[0]
        return result

    def each(self, items: Sequence[X], work: Callable[[Sequence[X]], Sequence[Y]]) -> list[Y]:
        """One result for each item, in order. `work` makes those of this process's share; all processes get all.

        All processes must come here with the same items. Raises `ProcessError` in all of them if `work` raises an
        `RRMError` in one, or if they do not come with equally many.
        """
        if self._apart:
            return list(work(items))
        from torch import distributed

        mine = self.share(len(items))
        done: Sequence[Y] = []
        failure: RRMError | None = None
        try:
            with self.apart():
                done = work([items[i] for i in mine]) if len(mine) else []
        except RRMError as error:
            failure = error
        self._wait_idle(failure)
        everyone: list[Any] = [None] * self.size
        with explained():
            said = (len(items), list(done), None if failure is None else str(failure))
            distributed.all_gather_object(everyone, said, group=self._computing)
        for number, (_, _, message) in enumerate(everyone):
            if message is not None:
                raise ProcessError(f"process {number} of {self.size}: {message}") from failure
        if {count for count, _, _ in everyone} != {len(items)}:
            raise ProcessError(
                f"the processes are out of step: they came with {[count for count, _, _ in everyone]} items. Something "
                "that decides what is computed differs between them: a task's functions must be deterministic, and "
                "what only one process does belongs into `World.once` or `World.apart`."
            )
        out: list[Y] = [None] * len(items)  # type: ignore[list-item]
        for number, (_, part, _) in enumerate(everyone):
            out[number :: self.size] = part
        return out

    def _wait_idle(self, failure: RRMError | None) -> None:
        """Be idle; if that cannot be, because work ended in the middle of a pass, by the error that ended it."""
        try:
            self.idle()
        except RRMError as error:
            raise (failure or error) from error

    def add_up(self, parameters: Sequence[nn.Parameter], number: float) -> float:
        """Sum the parameters' gradients, and a number, over the processes; a gradient that is not there counts as 0.

        The gradients are summed where they are, in one exchange for each device, in float32.
        """
        if self._apart:
            return number
        import torch
        from accelerate.utils import reduce
        from torch import distributed

        self.idle()
        # First over gloo, which notices at once whoever has ended: NCCL would wait for them.
        total = torch.tensor(float(number), dtype=torch.float64)
        with explained():
            distributed.all_reduce(total, group=self._computing)
        there: dict[torch.device, list[nn.Parameter]] = {}
        for p in parameters:
            there.setdefault(p.device, []).append(p)
        for device, some in there.items():
            parts = [torch.zeros(p.numel(), device=device) if p.grad is None else p.grad.flatten() for p in some]
            with explained():
                flat: torch.Tensor = reduce(torch.cat([part.float() for part in parts]), "sum")
            for p, part in zip(some, torch.split(flat, [p.numel() for p in some]), strict=True):
                p.grad = part.view_as(p).to(p.dtype)
        return total.item()


@contextmanager
def explained() -> Iterator[None]:
    """torch says that a connection closed; what it means is that somebody is gone."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError(
            f"another process of this run has ended, or was silent for {PATIENCE} ({error}); what it said of it stands "
            "above. Nothing judged is lost: the same command goes on, with any number of processes."
        ) from error
