"""What the processes run: `torchrun --nproc_per_node 2 -m tests.parallel.worker WHAT OUT` (or ONE+OTHER).

Each asserts from inside that there are as many as the test started (the variable PROCESSES). What only some of them
need is imported there: transformers costs every process some seconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from rrm import RRMError
from rrm.core import parallel
from rrm.core.parallel import World, join


def compute(out: Path) -> None:
    from safetensors.torch import save_file

    from tests.parallel.pieces import pieces

    world = join()
    save_file(pieces(world), out / f"{world.rank}.safetensors")


def parted(out: Path) -> None:
    """The same of a model whose layers are shared out."""
    from safetensors.torch import save_file

    from tests.parallel.pieces import pieces, shared

    world = join()
    save_file(pieces(world, shared, ["lora"]), out / f"{world.rank}.safetensors")


def convoy(out: Path) -> None:
    """Processes that compute differently much, or nothing, on a model whose layers are shared out."""
    from tests.parallel.sharing import together

    world = join()
    together(world)
    (out / f"{world.rank}.done").touch()


def halved(out: Path) -> None:
    """A model in bfloat16 whose layers are shared out."""
    from tests.parallel.sharing import halved

    halved()
    (out / f"{join().rank}.done").touch()


def deserted(out: Path) -> None:
    """One process of a shared model is killed while the other waits for it."""
    import signal

    from tests.parallel.pieces import shared

    backbone = shared("lora")
    if join().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    message = caught(lambda: join().once(lambda: backbone.start.logprobs([])))
    assert "another process of this run has ended" in message, message
    (out / "noticed").touch()


def exchange(out: Path) -> None:
    """The three ways of working together, and their errors."""
    world = join()
    asked: list[int] = []
    assert world.each(range(7), lambda some: [asked.append(i) or i * i for i in some]) == [i * i for i in range(7)]
    assert asked == [*range(7)][world.rank :: world.size]
    assert world.each([], lambda some: [1 / 0]) == []
    assert world.each([5], lambda some: [world.each(some, lambda all: list(all))]) == [[5]]  # by one, all by itself
    assert world.once(lambda: world.rank) == 0
    assert world.once(lambda: world.each([1, 2], lambda some: [world.rank] * len(some))) == [0, 0]
    with world.apart():
        assert world.each([1, 2], lambda some: [world.rank] * len(some)) == [world.rank] * 2
    for trial, message in (
        (lambda: world.once(lambda: complain(world, 0)), "the main process complains"),
        (lambda: world.each([1, 2], lambda some: [complain(world, 1)] * len(some)), "process 1 of 2: 1 complains"),
        (lambda: world.each([1] * (3 + world.rank), lambda some: some), r"out of step: they came with [3, 4] items"),
    ):
        assert message.replace("the main process", "0") in caught(trial), caught
    (out / f"{world.rank}.exchanged").touch()


def complain(world: World, rank: int) -> int:
    if world.rank == rank:
        raise RRMError(f"{rank} complains")
    return rank


def caught(trial: Callable[[], Any]) -> str:
    try:
        trial()
    except RRMError as error:
        return str(error)
    return "nothing"


def sums(out: Path) -> None:
    """Gradients go by what accelerate connected, and are summed where they are; a missing one counts as 0."""
    import torch
    from accelerate import PartialState
    from torch import distributed, nn

    world, state = join(), PartialState()
    assert (state.process_index, state.num_processes) == (world.rank, world.size)
    assert "gloo" in str(distributed.get_backend()), "processors sum over gloo"
    kinds = (torch.float32, torch.bfloat16, torch.float32)
    first, second, third = (nn.Parameter(torch.zeros(3, 2, dtype=kind)) for kind in kinds)
    first.grad = torch.full((3, 2), 1.0 + world.rank)
    second.grad = torch.full((3, 2), 0.5, dtype=torch.bfloat16)
    if world.rank == 1:
        third.grad = torch.arange(6.0).view(3, 2)
    assert world.add_up([first, second, third], 2**25 + world.rank) == 2**26 + 1  # float32 would lose the 1
    assert torch.equal(first.grad, torch.full((3, 2), 3.0))
    assert second.grad.dtype == torch.bfloat16 and torch.equal(second.grad, torch.ones(3, 2, dtype=torch.bfloat16))
    assert third.grad is not None and torch.equal(third.grad, torch.arange(6.0).view(3, 2))
    with world.apart():
        assert world.add_up([first], 1) == 1 and torch.equal(first.grad, torch.full((3, 2), 3.0))
    assert world.add_up([], 1) == 2
    (out / f"{world.rank}.done").touch()


def hello(out: Path) -> None:
    (out / f"{join().rank}.done").touch()


def tree(out: Path) -> None:
    from tests import mini

    mini.run(out)


def patient(out: Path) -> None:
    """The main process waits for its user longer than the processes have patience for one another's computing."""
    world = join()
    assert world.once(lambda: time.sleep(3) or world.rank) == 0
    message = caught(lambda: world.each([1, 2], lambda some: time.sleep(3 * (1 - world.rank)) or some))
    assert "was silent for 0:00:02" in message, message
    (out / f"{world.rank}.done").touch()


def broken(out: Path) -> None:
    """A task's function that has a bug on one process; the other waits for it."""
    world = join()
    if world.rank == 1:
        raise KeyError("a bug in process 1")
    world.each([1, 2], lambda some: some)


def differing(out: Path) -> None:
    """Processes that were given different settings."""
    from rrm import BoundedUser, train
    from tests import mini

    task = mini.tree()
    train(task, BoundedUser(attention=6 + 2 * join().rank), "embedded", out)


def adapted(out: Path) -> None:
    """A tree of adapters, each process with the whole model."""
    from tests.parallel.sharing import run

    run(out, shard=False)


def split(out: Path) -> None:
    """The same, the model's layers shared out."""
    from tests.parallel.sharing import run

    run(out, shard=True)


ALL = (
    hello, compute, parted, convoy, halved, deserted, exchange, sums, tree, adapted, split, patient, broken, differing,
)  # fmt: skip


def main(what: str, out: Path) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    if what == "patient":
        parallel.PATIENCE = timedelta(seconds=2)
    expected = int(os.environ["PROCESSES"])
    world = join()
    assert world.size == expected, f"{world.size} processes, not {expected}"
    if expected > 1:
        assert distributed.get_world_size() == expected and distributed.get_rank() == world.rank
    for part in what.split("+"):
        {f.__name__: f for f in ALL}[part](out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
