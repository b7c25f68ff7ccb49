"""What the processes run: `torchrun --nproc_per_node 2 -m tests.parallel.worker WHAT OUT`.

Each asserts from inside that there are as many as the test started (the variable PROCESSES).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed

from rrm import BoundedUser, RRMError, train
from rrm.core import parallel
from rrm.core.parallel import World, join
from rrm.core.records import Case, Group
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import best_of_n, dpo, rloo
from rrm.learning.fitting import fit_reward
from rrm.models.agent import TextAgent, reference_logprobs
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel, trunk
from tests import mini
from tests.models.conftest import network, tokenizer
from tests.models.test_reward import groups_of, pairs

CASES = tuple(Case(f"w{i} w{i + 1}" + " w5" * (i % 3)) for i in range(3, 14))
SETTINGS = Settings(steps=3, batch=5, group=4, max_tokens=6, lr=1e-3, reward_lr=1e-3, heads=2, reward_batch=5)
IMPROVERS = {"rloo": rloo.improve, "dpo": dpo.improve, "best_of_n": best_of_n.improve}


def prefer_short(groups: Sequence[Group]) -> list[Tensor]:
    return [torch.tensor([len(o.tokens) + 0.1 * i for i, o in enumerate(g.outcomes)]).neg() for g in groups]


def pieces(world: World) -> dict[str, Tensor]:
    """Everything that is dealt out, on tiny random models, by name. The numbers of items are odd on purpose."""
    found: dict[str, Tensor] = {}
    for adapters in ("full", "lora"):
        backbone = Backbone("tiny", network(), tokenizer(), adapters)  # type: ignore[arg-type]
        backbone.world = world
        agent = TextAgent(backbone, backbone.fork("agent"), 6)
        groups = agent.sample(CASES, 3, "key")
        found[f"{adapters} tokens"] = torch.tensor([t for g in groups for o in g.outcomes for t in (*o.tokens, -1)])
        found[f"{adapters} kept logprobs"] = torch.tensor([v for g in groups for o in g.outcomes for v in o.logprobs])
        reference = reference_logprobs(backbone, groups)
        found[f"{adapters} reference"] = torch.cat([value for row in reference for value in row])
        for part in agent.microbatches(groups):
            (part.sums() * torch.arange(1.0, 34)[part.outcomes]).sum().backward()
        world.add_up(agent.fork.parameters(), 0)
        found |= {f"{adapters} gradient {n}": p.grad for n, p in agent.fork.trainable.items() if p.grad is not None}
        for name, improve in IMPROVERS.items():
            agent = TextAgent(backbone, backbone.fork(name), 6)
            improve(agent, prefer_short, Pool(CASES), SETTINGS, "key", lambda step, metrics: None)
            found |= {f"{adapters} {name} {key}": value for key, value in agent.state().items()}
        for how in ("trained", "frozen"):
            reward = TextRewardModel(backbone, trunk(backbone, how, how), SETTINGS)  # type: ignore[arg-type]
            report = fit_reward(reward, pairs(13), SETTINGS, "fit")
            found[f"{adapters} {how} loss"] = torch.tensor([report.train_loss, report.disagreement])
            with backbone.remember():
                scores = reward.score(groups_of(pairs(13)))
                found[f"{adapters} {how} scores"] = torch.cat([score.heads for score in scores])
                again = reference_logprobs(backbone, groups_of(pairs(13)))
                found[f"{adapters} {how} passed on"] = torch.cat([value for row in again for value in row])
    return {name: value.clone() for name, value in found.items()}


def compute(out: Path) -> None:
    world = join()
    save_file(pieces(world), out / f"{world.rank}.safetensors")


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
    (out / f"{world.rank}.done").touch()


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


def hello(out: Path) -> None:
    (out / f"{join().rank}.done").touch()


def tree(out: Path) -> None:
    mini.run(out)


def patient(out: Path) -> None:
    """The main process waits for its user longer than the processes have patience for one another's computing."""
    world = join()
    assert world.once(lambda: time.sleep(8) or world.rank) == 0
    message = caught(lambda: world.each([1, 2], lambda some: time.sleep(8 * (1 - world.rank)) or some))
    assert "was silent for 0:00:05" in message, message
    (out / f"{world.rank}.done").touch()


def broken(out: Path) -> None:
    """A task's function that has a bug on one process; the other waits for it."""
    world = join()
    if world.rank == 1:
        raise KeyError("a bug in process 1")
    world.each([1, 2], lambda some: some)


def differing(out: Path) -> None:
    """Processes that were given different settings."""
    task = mini.tree()
    train(task, BoundedUser(attention=6 + 2 * join().rank), "embedded", out)


def main(what: str, out: Path) -> None:
    torch.set_num_threads(1)
    if what == "patient":
        parallel.PATIENCE = timedelta(seconds=5)
    expected = int(os.environ["PROCESSES"])
    world = join()
    assert world.size == expected, f"{world.size} processes, not {expected}"
    if expected > 1:
        assert distributed.get_world_size() == expected and distributed.get_rank() == world.rank
    {f.__name__: f for f in (hello, compute, exchange, tree, patient, broken, differing)}[what](out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
