"""Passes that are too large to keep: layers are computed again, with the same numbers and as the same fork."""

import pytest
import torch

from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup, pack
from rrm.models.recomputing import layers_of
from tests.models.conftest import limited, network, tokenizer

CASE = [3 + i % 37 for i in range(120)]
GROUP = PrefixGroup(CASE, [[2, 5, 9] * 4, [3, 7] * 5])


def made(adapters: str, keeping: int) -> Backbone:
    """With a device of its own size."""
    with pytest.MonkeyPatch.context() as patch:
        limited(patch, keeping=keeping)
        shown = Backbone.capacity
    backbone = Backbone("tiny", network(2), tokenizer(), adapters)
    backbone.__class__ = type("Sized", (Backbone,), {"capacity": shown})
    return backbone


def moved(fork, seed: int = 0):
    """Away from the start, where an adapter does nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in fork.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return fork


def pieces(fork, budget: int = 4096):
    return pack([GROUP], d=fork.backbone.d, budget=budget)


def gradients(fork) -> list[torch.Tensor]:
    loss = sum(fork.token_logprobs(part).sum() for part in pieces(fork))
    return list(torch.autograd.grad(loss, fork.parameters(), allow_unused=True))


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_the_gradient_is_the_same_to_the_bit(adapters):
    kept, again = (gradients(moved(made(adapters, size).fork("one"))) for size in (1 << 40, 0))
    assert len(kept) == len(again) and any(one is not None and one.abs().sum() > 0 for one in kept)
    for one, other in zip(kept, again, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))


def test_layers_are_computed_again_as_the_fork_that_they_were_computed_as():
    backbone = made("lora", 0)
    one, other = moved(backbone.fork("one"), 1), moved(backbone.fork("other"), 2)
    alone = gradients(one)
    loss = sum(one.token_logprobs(part).sum() for part in pieces(one))
    with torch.no_grad():
        for part in pieces(other):
            other.token_logprobs(part)  # another adapter is on when the backward pass begins
    found = torch.autograd.grad(loss, one.parameters(), allow_unused=True)
    assert all(a is None or torch.equal(a, b) for a, b in zip(alone, found, strict=True))
    assert not any("forward" in vars(layer) for layer in layers_of(backbone.model)), "the layers are as they were"


def kept_bytes(fork) -> int:
    """Of tensors that wait for the backward pass, each storage once."""
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in fork.network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (part,) = pieces(fork)
        hidden = fork.hidden(part)
    assert hidden.requires_grad
    return sum(size for where, size in storages.items() if where not in own)


def test_little_is_kept():
    kept, again = (kept_bytes(made("lora", size).fork("one")) for size in (1 << 40, 0))
    assert again < kept / 4


def test_nothing_is_computed_again_where_no_gradient_is_wanted_or_the_pass_is_small():
    backbone = made("lora", 4096)
    fork = backbone.fork("one")
    calls = []
    for layer in layers_of(backbone.model):
        layer.register_forward_hook(lambda *_: calls.append(1))
    gradients(fork)
    few = len(calls)
    assert few == len(layers_of(backbone.model)) > 1
    backbone = made("lora", 0)
    with torch.no_grad():
        for part in pieces(backbone.fork("two")):
            assert not backbone.start.hidden(part).requires_grad
