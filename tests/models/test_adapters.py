"""Many adapters on one network: each computes as itself, and costs what the first did."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rrm.models.backbone
from rrm.models.backbone import Backbone
from rrm.models.fork import Fork
from tests.models.conftest import network, tokenizer


@pytest.fixture
def backbone() -> Backbone:
    return Backbone("tiny", network(), tokenizer(), "lora")


def different(backbone: Backbone, count: int) -> list[Fork]:
    """Forks whose adapters do something, each another thing."""
    forks = [backbone.fork(f"fork {i}") for i in range(count)]
    for i, fork in enumerate(forks):
        draw = torch.Generator().manual_seed(i)
        for name, parameter in fork.trainable.items():
            if "lora_B" in name:
                parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return forks


def hidden(fork: Fork) -> torch.Tensor:
    return fork.run(torch.tensor([[5, 6, 7]]), torch.arange(3)[None], None)


def calls(work: Callable[[], Any]) -> int:
    """How many functions of Python are called."""
    found = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def test_making_and_switching_cost_the_same_however_many_there_are(backbone: Backbone) -> None:
    few = different(backbone, 3)
    switched = calls(lambda: backbone.switch(few[0]))
    made = calls(lambda: backbone.fork("one more"))
    many = different(backbone, 12)
    assert calls(lambda: backbone.switch(many[3])) <= switched
    assert calls(lambda: backbone.fork("one more")) <= 1.1 * made


def test_each_computes_as_itself_whatever_was_made_or_closed_since(backbone: Backbone) -> None:
    forks = different(backbone, 4)
    with torch.no_grad():
        right = [hidden(fork) for fork in (*forks, backbone.start)]
        assert len({tuple(one.flatten().tolist()) for one in right}) == 5
        later = different(backbone, 2)
        later[0].close()
        forks[1].close()
        for which in (3, 0, 4, 2, 0, 4, 3):
            assert torch.equal(hidden((*forks, backbone.start)[which]), right[which])


def test_a_graph_keeps_its_gradients_whatever_is_made_closed_or_on_since(backbone: Backbone) -> None:
    one, other, third = different(backbone, 3)
    loss = hidden(one).square().mean()
    right = torch.autograd.grad(loss, one.parameters(), retain_graph=True)
    hidden(backbone.start)
    backbone.fork("later")
    third.close()
    hidden(other)
    found = torch.autograd.grad(loss, one.parameters())
    assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert all(p.requires_grad for fork in (one, other) for p in fork.parameters())
    assert any(bool(grad.any()) for grad in torch.autograd.grad(hidden(other).mean(), other.parameters()))


def test_the_last_one_leaves_the_network_as_it_was_loaded(backbone: Backbone) -> None:
    names = [name for name, _ in backbone.model.named_parameters()]
    with torch.no_grad():
        right = hidden(backbone.start)
        forks = different(backbone, 3)
        for fork in forks:
            fork.close()
        assert torch.equal(hidden(backbone.start), right)
        assert [name for name, _ in backbone.model.named_parameters()] == names
        again = different(backbone, 1)[0]
        assert not torch.equal(hidden(again), right) and torch.equal(hidden(backbone.start), right)


def imported(path: Path) -> set[str]:
    """What a file imports when it is itself imported."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_a_model_is_loaded_without_peft() -> None:
    """Which takes a second to import, and tells of kernels that it does not find."""
    root = Path(rrm.models.backbone.__file__).parents[2]
    seen: set[str] = set()
    left = {"rrm", "rrm.models.backbone"}
    while left:
        name = left.pop()
        seen.add(name)
        file = root.joinpath(*name.split("."))
        for path in (file.with_suffix(".py"), file / "__init__.py"):
            if path.is_file():
                left |= {one for one in imported(path) if one not in seen}
    assert {"rrm.models.sampling", "transformers"} <= seen
    assert not [name for name in seen if name.split(".")[0] in ("peft", "bitsandbytes", "ray", "accelerate", "trl")]
