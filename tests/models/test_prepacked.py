"""Decoding with weights that were laid out before is decoding, and leaves nothing behind."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from rrm.models.backbone import Backbone
from rrm.models.feeding import fed_alike, linear_layers
from rrm.models.fork import Fork
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.prepacked import BEGIN, STEPS, LaidOut, is_prepacked, lays_out
from rrm.models.sampling import sample
from tests.models.conftest import network, tokenizer
from tests.models.test_architectures import CONFIGS, WINDOWED, model

BFLOAT16 = pytest.param("bfloat16", marks=pytest.mark.skipif(
    not lays_out(torch.bfloat16), reason="this processor has no products of bfloat16"
))  # fmt: skip
can = pytest.mark.skipif(not lays_out(torch.float32), reason="this torch cannot lay weights out")
both = pytest.mark.parametrize("weights", ["float32", BFLOAT16])
NEAR = {"float32": 1e-4, "bfloat16": 0.05}
"""Relative error of hidden states, by the precision."""


def small(weights: Any, made: Any = None) -> Backbone:
    """A small model in a precision, its head, too."""
    backbone = Backbone("tiny", made or network(), tokenizer(), "lora")
    backbone.precision = Precision(weights, weights)
    return backbone


def adapted(backbone: Backbone, name: str = "agent") -> Fork:
    """A fork whose adapters do something, in every layer another thing."""
    fork = backbone.fork(name)
    draw = torch.Generator().manual_seed(len(name))
    for key, parameter in fork.trainable.items():
        if "lora_B" in key:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return fork


def hidden(fork: Fork) -> torch.Tensor:
    """Of two rows of four tokens, one after the other, as in decoding."""
    cache, rows = DynamicCache(), torch.tensor([[5, 6, 7, 8], [9, 4, 3, 2]])
    with torch.inference_mode():
        steps = [fork.run(rows[:, t : t + 1], torch.full((2, 1), t), None, cache) for t in range(4)]
    return torch.cat(steps, 1)


@contextmanager
def laid_out(fork: Fork, rows: int = 3) -> Iterator[None]:
    with LaidOut(fork, rows, BEGIN + STEPS) as layout:
        layout.before(BEGIN)
        yield


class Wrong:
    """A product that is not that of the layers."""

    def __init__(self, backbone: Backbone) -> None:
        self.asked, self.width = 0, backbone.d

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.asked += 1
        return [torch.zeros(*x.shape[:-1], self.width)] * 2


def away(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).norm() / right.norm())


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A small model in bfloat16 where there is such a thing, all of whose layers are laid out."""
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    return small("bfloat16" if lays_out(torch.bfloat16) else "float32")


@can
@both
@pytest.mark.parametrize("name", ["llama", "qwen2", "phi", "gpt_neox", "olmo2", "cohere2", "deepseek of narrow values"])
def test_it_computes_what_the_layers_do_also_for_another_fork(
    name: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of adapters that do something, with and without biases, in networks that feed their layers in other ways."""
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    backbone = small(weights, None if name == "llama" else model((CONFIGS | WINDOWED)[name]()))
    fork, other = adapted(backbone), adapted(backbone, "another")
    right, of_other, bare = hidden(fork), hidden(other), hidden(backbone.start)
    assert min(away(right, bare), away(right, of_other)) > 0.3
    with laid_out(fork):
        assert sum(is_prepacked(module) for module in backbone.model.modules()) > 4
        assert away(hidden(fork), right) < NEAR[weights]
        assert max(away(hidden(other), of_other), away(hidden(backbone.start), bare)) < NEAR[weights]
        assert away(hidden(fork), right) < NEAR[weights]
    with laid_out(backbone.start):
        assert away(hidden(backbone.start), bare) < NEAR[weights]
        assert away(hidden(fork), right) < NEAR[weights]
    assert torch.equal(hidden(fork), right)


@can
@both
def test_it_decodes_the_same_policy(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sampled is scored alike in one pass over all; with and without is the same policy."""
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    backbone = small(weights)
    fork = adapted(backbone)
    seen: list[bool] = []
    real = Fork.run
    layer = backbone.model.get_submodule("model.layers.0.mlp.up_proj")
    monkeypatch.setattr(Fork, "run", lambda self, *args: [seen.append(is_prepacked(layer)), real(self, *args)][1])
    found = sample(fork, [[5, 6], [7]], 3, BEGIN + STEPS, 1.0, ["k", "l"], ())
    assert seen == sorted(seen) and sum(seen) == 1 + STEPS - 1  # the trial; after the last token there is no step
    assert not is_prepacked(layer)
    again = fork.logprobs([PrefixGroup(p, [o[0] for o in row]) for p, row in zip([[5, 6], [7]], found, strict=True)])
    atol = 2e-4 if weights == "float32" else 0.1
    for row, scored in zip(found, again, strict=True):
        for (_, kept, _), value in zip(row, scored, strict=True):
            torch.testing.assert_close(torch.tensor(kept), value.detach(), atol=atol, rtol=atol / 2)


@can
def test_adapters_that_change_meanwhile_are_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may train a fork between two steps of decoding."""
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    backbone = small("float32")
    fork = adapted(backbone)
    other = adapted(backbone, "another").state()
    with laid_out(fork):
        before = hidden(fork)
        fork.load(other)
        assert away(hidden(fork), before) > 0.3
        found = hidden(fork)
    assert torch.equal(found, hidden(fork))


@can
def test_a_prefills_cache_keeps_its_own_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    backbone = small("float32")
    fork = adapted(backbone)
    cache = DynamicCache()
    with laid_out(fork), torch.inference_mode():
        fork.run(torch.tensor([[5, 6, 7, 8]]), torch.arange(4)[None], None, cache)
    values: Any = cache.layers[0].values
    assert values.untyped_storage().nbytes() == values.nbytes


@can
def test_layers_that_come_out_wrong_are_not_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    monkeypatch.setattr("rrm.models.prepacked.fed_alike", lambda fork: (  # a wrong pair
        ("model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.q_proj"),
    ))  # fmt: skip
    backbone = small("float32")
    monkeypatch.setattr("rrm.models.prepacked._Laid._computes", lambda self, place: True)
    monkeypatch.setattr("rrm.models.prepacked._Laid._product", wrong := Wrong(backbone))
    fork = adapted(backbone)
    for _ in range(2):
        with laid_out(fork):
            assert not any(is_prepacked(module) for module in backbone.model.modules())
    assert wrong.asked == 2  # at the first trial only


@can
def test_a_model_that_is_copied_for_each_fork_can_be_copied_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    backbone = Backbone("tiny", network(), tokenizer(), "full")
    with laid_out(backbone.start):
        assert away(hidden(backbone.fork("copy")), hidden(backbone.start)) == 0


def test_layers_that_are_given_the_same_are_found() -> None:
    backbone = small("float32")
    names = fed_alike(backbone.start)
    last = [[name.split(".")[-1] for name in group] for group in names]
    assert last == 2 * [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    adapted(backbone)
    assert fed_alike(backbone.start) is names
    assert {name for group in names for name in group} < {*linear_layers(backbone.model)}


@pytest.mark.parametrize("twice", [False, True])
def test_what_is_written_between_two_layers_or_called_twice_stands_alone(
    twice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tensor, but not the same numbers; the same layer, but not the same call."""
    backbone = small("float32")
    layer: Any = backbone.model.get_submodule("model.layers.0.mlp")

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = x + 0
        gate = layer.gate_proj(x)
        gate = layer.gate_proj(x) if twice else gate
        x = x if twice else x.mul_(2)
        return layer.down_proj(layer.act_fn(gate) * layer.up_proj(x))

    layer.forward = forward
    right = hidden(backbone.start)
    groups = [group for group in fed_alike(backbone.start) if "layers.0.mlp" in group[0]]
    assert [len(group) for group in groups] == [1, 1, 1]
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    with laid_out(backbone.start):
        assert is_prepacked(layer.gate_proj) == lays_out(torch.float32)
        assert away(hidden(backbone.start), right) < NEAR["float32"]


@can
def test_nothing_of_a_pass_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch's activations in all layers would be."""
    monkeypatch.setattr("rrm.models.prepacked.SMALLEST", 0)
    backbone = small("float32")
    fork = adapted(backbone)
    given: list[weakref.ref[torch.Tensor]] = []
    with laid_out(fork):
        layers = [module for module in backbone.model.modules() if is_prepacked(module)]
        hooks = [one.register_forward_pre_hook(lambda _, args: given.append(weakref.ref(args[0]))) for one in layers]
        hidden(fork)
        assert len(given) == 4 * (len(layers) - 1)  # all but the head
        assert not any(one() is not None for one in given)
    for hook in hooks:
        hook.remove()


@can
def test_what_wants_a_gradient_goes_by_the_plain_weights(rounded: Backbone) -> None:
    x = torch.randn(3, rounded.d, requires_grad=True).to(rounded.precision.dtype)
    layer = next(m for m in rounded.model.modules() if type(m) is torch.nn.Linear and m.in_features == rounded.d)
    right = layer(x)
    with laid_out(rounded.start):
        assert is_prepacked(layer) and is_prepacked(rounded.model.get_output_embeddings())
        assert layer(x).requires_grad
        with torch.no_grad():
            torch.testing.assert_close(layer(x), right, atol=0.02, rtol=0.02)
        with laid_out(rounded.start):  # another thread: it leaves what it did not make
            pass
        assert is_prepacked(layer)
    assert not is_prepacked(layer)


@can
def test_few_steps_small_and_large_models_keep_theirs(rounded: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(steps: int = BEGIN + STEPS, at: int = BEGIN) -> bool:
        with LaidOut(adapted(rounded), 2, steps) as layout:
            layout.before(at)
            return any(is_prepacked(module) for module in rounded.model.modules())

    assert made() and not made(steps=BEGIN + STEPS - 1) and not made(at=BEGIN - 1)
    monkeypatch.setattr("rrm.models.prepacked.LARGEST", 1000)
    assert not made()
    monkeypatch.undo()
    assert not made()
