"""A model whose layers are shared out among two processes: what each of them runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from rrm import BoundedUser, Task, train
from rrm.core.errors import ModelError
from rrm.core.parallel import World
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.recomputing import layers_of, recomputed
from rrm.models.sampling import sample
from tests import mini
from tests.parallel.pieces import CASES, shared

GROUPS = [PrefixGroup([3, 4, 5], [[6, 7], [8, 9, 10]]), PrefixGroup([13, 4, 5], [[6, 17], [8, 9, 10]])]


@contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """Which layers are gathered within it, in order. Gradients never are: nothing that is shared out has one."""
    from torch.distributed.fsdp._fully_shard import _fsdp_param_group as fsdp

    owner = {id(p): i for i, layer in enumerate(layers_of(model)) for p in layer.parameters()}
    seen: list[int] = []
    gather = fsdp.foreach_all_gather

    def noted(params: Any, *rest: Any, **more: Any) -> Any:
        seen.append(owner[id(params[0].sharded_param)])
        return gather(params, *rest, **more)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a frozen layer's gradient was summed")

    with mock.patch.object(fsdp, "foreach_all_gather", noted), mock.patch.object(fsdp, "foreach_reduce", refused):
        yield seen


def together(world: World) -> None:
    """Whatever the others do, all come through, and with the right numbers."""
    backbone = shared("lora")
    convoy, fork = backbone.convoy, backbone.fork("agent")
    assert convoy is not None
    for parameter in fork.parameters():
        with torch.no_grad():
            parameter += 0.01
    mine, all_of_it = convoy.bytes()
    whole = [p for n, p in backbone.model.named_parameters() if "layers" not in n]
    assert 0.45 < mine / all_of_it < 0.55 and whole and not any(hasattr(p, "placements") for p in whole)

    def loss() -> torch.Tensor:
        return sum((row.sum() for group in fork.logprobs(GROUPS, width=1) for row in group), torch.zeros(()))

    def slope(value: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(value, fork.parameters()))

    with counted(backbone.model) as seen:
        first = loss()
        assert seen == [0, 1] * 1, seen
        right = slope(first)
        assert seen == [0, 1, 1, 0], seen
    with counted(backbone.model) as seen:  # two passes, and then the gradients of both, the later pass's first
        twice = loss() + loss()
        for kept, one in zip(right, slope(twice), strict=True):
            torch.testing.assert_close(one, 2 * kept)
        assert seen == [0, 1, 0, 1, 1, 0, 1, 0], seen
    with counted(backbone.model) as seen:
        with recomputed(backbone.model, fork.exclusive):
            again = loss()
        assert all(torch.equal(a, b) for a, b in zip(slope(again), right, strict=True))
        assert seen == [0, 1, 1, 0], seen  # gathered once for being computed again and for its gradient

    # Nobody computes as much as the others.
    alone = sample(fork, [[3, 4, 5]], 2, 5, 1.0, ["key"], ())  # by all, in step
    agent = TextAgent(backbone, fork, 6)
    for cases in (CASES[:3], CASES[:1], ()):
        groups = agent.sample(cases, 3, "key")
        assert [g.case for g in groups] == list(cases)
    assert world.once(lambda: sample(fork, [[3, 4, 5]], 2, 5, 1.0, ["key"], ())) == alone
    if world.main:
        with world.apart():
            assert sample(fork, [[3, 4, 5]], 2, 5, 1.0, ["key"], ()) == alone  # a watcher
    assert world.once(lambda: world.rank) == 0

    # One wants a gradient while the other still samples; one has two gradients, and the other none.
    if world.main:
        found = slope(loss())
    else:
        drawn = [sample(fork, [[3, 4, 5]], 2, 5, 1.0, ["key"], ()) for _ in range(3)]
        assert drawn == [alone] * 3
        found = right
    for parameter, one in zip(fork.parameters(), found, strict=True):
        parameter.grad = one
    assert world.add_up(fork.parameters(), 1) == 2
    for parameter, kept in zip(fork.parameters(), right, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, 2 * kept)
        parameter.grad = None
    if world.main:
        slope(loss()), slope(loss())
    assert world.each([1, 2, 3], lambda some: [len(some)] * len(some)) == [2, 1, 2]
    refusals(backbone)


def halved() -> None:
    """In bfloat16 a model that is shared out computes what a whole one does, and says the same of its weights."""
    found = []
    for shard in (False, True):
        backbone = Backbone.load("embedded", "lora", precision="bfloat16", shard=shard)
        backbone.precision = Precision("bfloat16", "bfloat16")  # as a run sets it
        fork = backbone.fork("agent")
        with torch.no_grad():
            for parameter in fork.parameters():
                parameter += 0.01
        rows = [row for group in fork.logprobs(GROUPS) for row in group]
        slopes = torch.autograd.grad(torch.cat(rows).sum(), fork.parameters())
        found.append((backbone.fingerprint, backbone.size, backbone.limit, rows, slopes))
        layer = next(p for n, p in backbone.model.named_parameters() if "layers" in n and "lora_" not in n)
        assert layer.dtype == torch.bfloat16 and hasattr(layer, "placements") == shard
        assert backbone.origin is not None and backbone.origin["shard"] == shard
    (*named, rows, slopes), (*others, shared_rows, shared_slopes) = found
    assert named == others
    torch.testing.assert_close(shared_rows, rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared_slopes, slopes, rtol=1e-4, atol=1e-5)


def refusals(backbone: Backbone) -> None:
    """What a model that is shared out does not do, it says."""
    for trial, said in (
        (lambda: backbone.start.merged(), "load the model without shard"),
        (lambda: setattr(backbone, "precision", Precision("bfloat16")), "load it with precision='bfloat16'"),
        (lambda: Backbone.load("embedded", "lora", shard=True), "a process has one of them"),
        (lambda: Backbone.load("embedded", "full", shard=True), "adapters='lora'"),
        (lambda: Backbone.load("embedded", "lora", precision="nf4", shard=True), "precision='bfloat16'"),
        (lambda: Backbone.load("embedded", "lora", compile=True, shard=True), "without compile"),
    ):
        try:
            trial()
        except ModelError as error:
            assert said in str(error), (said, error)
        else:
            raise AssertionError(said)


def run(out: Path, shard: bool) -> None:
    """A root and one assistant, of adapters. Few outcomes: for each of their tokens all layers are gathered anew."""
    torch.set_num_threads(1)
    tree = mini.tree()
    writing, whole = (
        replace(task, settings=task.settings.model_copy(update={"steps": 1, "accept": 0}))
        for task in (tree.assistants[0], tree)
        if isinstance(task, Task)
    )
    backbone = Backbone.load("embedded", "lora", shard=shard)
    train(replace(whole, assistants=(writing,)), BoundedUser(), backbone, out)
