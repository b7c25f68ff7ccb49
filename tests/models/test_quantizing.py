"""Frozen weights in 8 or 4 bits, under adapters that train."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

from rrm.core.errors import ModelError
from rrm.learning.text_maker import TextMaker
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.quantizing import QuantizedLinear, numbers, quantize
from rrm.models.sampling import sample
from tests.models.conftest import VOCABULARY, tokenizer

GROUP = PrefixGroup([3, 4, 5], [[6, 7, 8], [9, 10]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with layers of a few blocks."""
    where = tmp_path_factory.mktemp("model")
    config = tf.LlamaConfig(
        hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=VOCABULARY, max_position_embeddings=256, initializer_range=0.1, bos_token_id=1, eos_token_id=2,
        pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    tf.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(where)
    tokenizer().save_pretrained(where)
    return str(where)


def layers(backbone: Backbone) -> list[QuantizedLinear]:
    return [m for m in backbone.model.modules() if isinstance(m, QuantizedLinear)]


def pushed(backbone: Backbone) -> Any:
    """A fork away from the start, where an adapter does nothing."""
    fork = backbone.fork("one")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in fork.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return fork


def seen(fork: Any) -> list[torch.Tensor]:
    scored = fork.logprobs([GROUP])[0]
    grads = torch.autograd.grad(torch.cat(scored).sum(), fork.parameters())
    drawn = sample(fork, [[3, 4]], 2, 4, 1.0, ["k"], ())[0]
    return [*scored, *grads, *(torch.tensor(one[1]) for one in drawn)]


@pytest.mark.parametrize(("kind", "near", "share"), [("int8", 0.15, 0.6), ("nf4", 1.0, 0.4)])
def test_it_is_near_what_it_was_and_small(folder: str, kind: Any, near: float, share: float) -> None:
    whole, coded = Backbone.load(folder, "lora", precision="bfloat16"), Backbone.load(folder, "lora", precision=kind)
    assert coded.precision == Precision(kind) and coded.fingerprint == whole.fingerprint and coded.size == whole.size
    assert len(layers(coded)) == 14 and not layers(whole)
    linear = [m for m in whole.model.modules() if type(m) is nn.Linear and m.out_features != VOCABULARY]
    bytes_ = [
        sum(t.numel() * t.element_size() for m in group for t in (*m.parameters(), *m.buffers()))
        for group in (layers(coded), linear)
    ]
    assert bytes_[0] < share * bytes_[1]
    a, b = (torch.cat(one.fork("one").logprobs([GROUP])[0]) for one in (whole, coded))
    assert 0 < (a - b).abs().max() < near


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_it_computes_what_its_codes_say_forward_and_backward(folder: str, kind: Any) -> None:
    """As a model in bfloat16 whose weights are those."""
    coded, plain = Backbone.load(folder, "lora", precision=kind), Backbone.load(folder, "lora", precision="bfloat16")
    said = {n: m.widened(torch.bfloat16) for n, m in coded.model.named_modules() if isinstance(m, QuantizedLinear)}
    with torch.no_grad():
        for name, weight in said.items():
            plain.model.get_submodule(name).weight.copy_(weight)
    found = [seen(pushed(one)) for one in (coded, plain)]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_loaded_so_or_put_so_it_is_the_same(folder: str) -> None:
    one = Backbone.load(folder, "lora", precision="nf4")
    two, three = Backbone.load(folder, "lora"), Backbone.load(folder, "lora", precision="bfloat16")
    two.precision = three.precision = Precision("nf4")
    for a, b, c in zip(*(seen(pushed(one)) for one in (one, two, three)), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert one.fingerprint == two.fingerprint and one.engine == two.engine
    with pytest.raises(ModelError, match="were rounded to nf4; load the model again for float32"):
        two.precision = Precision()


def test_a_run_goes_on_as_it_began(folder: str) -> None:
    decided = TextMaker(Backbone.load(folder, "lora", precision="int8")).decide(None)
    assert decided["precision"]["weights"] == "int8"
    again = Backbone.load(folder, "lora")
    TextMaker(again).decide(decided)
    assert again.precision.weights == "int8" and layers(again)


def test_nothing_is_merged_into_codes(folder: str) -> None:
    fork = Backbone.load(folder, "lora", precision="nf4").fork("one")
    with pytest.raises(ModelError, match="load the model in bfloat16"):
        fork.merged()


def test_what_is_fully_fine_tuned_or_has_no_such_layers(folder: str, tmp_path: Path) -> None:
    tiny = Backbone.load(folder, precision="nf4")  # "auto": a full copy for each fork
    with pytest.raises(ModelError, match="fully fine-tuned"):
        TextMaker(tiny).decide(None)
    gpt = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match="no plain linear layers"):
        quantize(gpt, "nf4")


def test_without_bitsandbytes_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *more: Any) -> Any:
        if name.startswith("bitsandbytes"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(ModelError, match=r"pip install -e '.\[quantized\]'"):
        QuantizedLinear(nn.Linear(64, 64), "nf4")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_layer_of_any_size_keeps_its_shape_and_counts(kind: Any) -> None:
    for shape in ((64, 64), (30, 17), (1, 5), (256, 3)):
        layer = nn.Linear(*shape)
        coded = QuantizedLinear(layer, kind)
        assert coded.widened(torch.float32).shape == layer.weight.shape
        assert numbers(nn.Sequential(coded)) == shape[0] * shape[1] + shape[1]
        x = torch.randn(2, shape[0], requires_grad=True)
        (found,) = torch.autograd.grad(coded(x).sum(), x)
        torch.testing.assert_close(found, coded.widened(torch.float32).sum(0).expand(2, -1))
