"""Decoding with weights that were laid out before is decoding, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.prepacked import STEPS, is_prepacked, laid_out, lays_out
from rrm.models.sampling import sample
from tests.models.conftest import network, tokenizer

can = pytest.mark.skipif(not lays_out(), reason="this processor has no products of bfloat16")


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A small model in bfloat16, its head, too."""
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    backbone.precision = Precision("bfloat16", "bfloat16")
    return backbone


@can
def test_it_decodes_the_same_policy(rounded: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an adapter that does something; what was sampled is scored alike in one pass over all."""
    fork = rounded.fork("agent")
    draw = torch.Generator().manual_seed(0)
    for name, parameter in fork.trainable.items():
        if "lora_B" in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    found = sample(fork, [[5, 6], [7]], 3, STEPS, 1.0, ["k", "l"], ())
    assert not any(is_prepacked(module) for module in rounded.model.modules())
    again = fork.logprobs([PrefixGroup(p, [o[0] for o in row]) for p, row in zip([[5, 6], [7]], found, strict=True)])
    for row, scored in zip(found, again, strict=True):
        for (_, kept, _), value in zip(row, scored, strict=True):
            torch.testing.assert_close(torch.tensor(kept), value.detach(), atol=0.1, rtol=0.05)


@can
def test_what_wants_a_gradient_goes_by_the_plain_weights(rounded: Backbone) -> None:
    x = torch.randn(3, rounded.d, dtype=torch.bfloat16, requires_grad=True)
    layer = next(m for m in rounded.model.modules() if type(m) is torch.nn.Linear and m.in_features == rounded.d)
    right = layer(x)
    with laid_out(rounded.start, 3, STEPS):
        assert is_prepacked(layer) and is_prepacked(rounded.model.get_output_embeddings())
        assert layer(x).requires_grad
        with torch.no_grad():
            torch.testing.assert_close(layer(x), right, atol=0.02, rtol=0.02)
        with laid_out(rounded.start, 3, STEPS):  # another thread: it leaves what it did not make
            pass
        assert is_prepacked(layer)
    assert not is_prepacked(layer)


def test_few_steps_large_models_and_float32_keep_theirs(rounded: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(backbone: Backbone, steps: int) -> bool:
        with laid_out(backbone.start, 2, steps):
            return any(is_prepacked(module) for module in backbone.model.modules())

    assert made(rounded, STEPS) == lays_out() and not made(rounded, STEPS - 1)
    assert not made(Backbone("tiny", network(), tokenizer(), "lora"), STEPS)
    monkeypatch.setattr("rrm.models.prepacked.LARGEST", 1000)
    assert not made(rounded, STEPS)
