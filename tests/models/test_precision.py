"""bfloat16 weights only where they were measured to help, decided once per run; no more threads than processors."""

import json

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear

from rrm.core.errors import ModelError
from rrm.learning.text_maker import TextMaker
from rrm.loop.run import Run
from rrm.models.adapter import AdaptedLinear
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup, pack
from rrm.models.precision import Precision, cores, limit_threads
from rrm.models.probing import probe
from rrm.models.sampling import sample
from tests.models.conftest import network, tokenizer

GROUP = PrefixGroup([5, 6, 7], [[8, 9, 2], [10, 11]])


def loss_of(fork, width=2):
    (packed,) = pack([GROUP], d=32, width=width)
    return fork.token_logprobs(packed)


def test_bfloat16_is_near_float32(tiny):
    """Where float32 has 1e-4: bfloat16 keeps 8 bits, so a log-probability is right to some hundredths of a nat, packed
    or not, sampled or scored."""
    b = tiny("lora", kv=2)
    fork = b.fork("agent")
    exact = loss_of(fork)
    exact.sum().backward()
    wanted = {name: p.grad.clone() for name, p in fork.trainable.items()}
    greedy = sample(fork, [[5, 6]], 1, 6, 1.0, ["k"], (), greedy=True)[0][0]
    for p in fork.parameters():
        p.grad = None
    b.precision = Precision("bfloat16")
    for width in (1, 2):
        rough = loss_of(fork, width)
        assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
        torch.testing.assert_close(rough.sort().values, exact.sort().values, atol=0.1, rtol=0.05)
    rough.sum().backward()
    assert all(p.grad.dtype == p.dtype == torch.float32 for p in fork.parameters())
    for name, p in fork.trainable.items():
        torch.testing.assert_close(p.grad, wanted[name], atol=0.05 * wanted[name].abs().max().item() + 1e-6, rtol=0.1)
    tokens, kept, _ = sample(fork, [[5, 6]], 1, 6, 1.0, ["k"], (), greedy=True)[0][0]
    assert abs(kept[0] - greedy[1][0]) < 0.1
    with torch.no_grad():
        again = fork.logprobs([PrefixGroup([5, 6], [tokens])])[0][0]
    torch.testing.assert_close(torch.tensor(kept), again, atol=0.1, rtol=0.05)


def test_the_frozen_weights_are_rounded_and_nothing_else(tiny):
    b = tiny("lora")
    fork, before = b.fork("agent"), b.fingerprint
    state, version = fork.state(), fork.version
    b.precision = Precision("bfloat16")
    output = b.model.get_output_embeddings().weight
    for name, p in b.model.named_parameters():
        assert p.dtype == (torch.float32 if "lora_" in name or p is output else torch.bfloat16), name
    later = tiny("lora")
    later.precision = Precision("bfloat16")
    for x, y in zip(state.values(), later.fork("agent").state().values(), strict=True):
        assert torch.equal(x, y) and y.dtype == torch.float32  # an adapter made after rounding starts alike
    assert b.fingerprint == before and fork.version != version  # the same model; its scores are others
    assert torch.equal(loss_of(fork), loss_of(later.fork("agent")))
    with pytest.raises(ModelError, match="load the model again"):
        b.precision = Precision()
    with pytest.raises(ModelError, match="fully fine-tuned"):
        tiny("full").precision = Precision("bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_adapter_computes_what_peft_does(precision):
    torch.manual_seed(0)
    dtype = getattr(torch, precision)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if precision == "float32" else {"atol": 0.06, "rtol": 0.03}
    base = torch.nn.Linear(24, 40, dtype=dtype).requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=8)
    ours, peft = (kind(base, "a", r=4, lora_alpha=8, config=config) for kind in (AdaptedLinear, Linear))
    for layer in (ours, peft):
        layer.lora_A.float(), layer.lora_B.float()
    torch.nn.init.normal_(ours.lora_B["a"].weight)
    peft.load_state_dict(ours.state_dict())
    found = []
    for layer in (ours, peft):
        x = torch.linspace(-1, 1, 2 * 9 * 24, dtype=dtype).view(2, 9, 24).requires_grad_()
        y = layer(x)
        (y.float() ** 2).sum().backward()
        with torch.no_grad():
            alone = layer(x[:, :1])
        torch.testing.assert_close(alone, y[:, :1].detach(), **tolerance)
        found.append((y, x.grad, layer.lora_A["a"].weight.grad, layer.lora_B["a"].weight.grad))
    for one, two in zip(*found, strict=True):
        assert one.dtype == two.dtype
        scale = two.abs().max().item() if precision == "bfloat16" else 1.0
        torch.testing.assert_close(one, two, atol=tolerance["atol"] * max(scale, 1), rtol=tolerance["rtol"])


def test_a_probe_leaves_no_trace(tiny):
    probed, plain = tiny("lora"), tiny("lora")
    _, seconds = probe(probed)
    assert len(seconds) == 4 and min(seconds.values()) > 0 and probed.precision == Precision()
    one, two = probed.fork("agent"), plain.fork("agent")
    for x, y in zip(one.state().values(), two.state().values(), strict=True):
        assert torch.equal(x, y)
    assert torch.equal(loss_of(one), loss_of(two)) and torch.equal(loss_of(probed.start), loss_of(plain.start))
    probed.precision = Precision("bfloat16")
    assert probe(probed) == (Precision("bfloat16"), {}) and probe(tiny("full")) == (Precision(), {})


def test_a_resumed_run_computes_as_it_began(tmp_path, monkeypatch):
    """A probe's answer depends on the moment, so it is asked once."""
    answers = iter([(Precision("bfloat16"), {"training float32": 1.0})])
    monkeypatch.setattr("rrm.learning.text_maker.TINY", 0)
    monkeypatch.setattr("rrm.learning.text_maker.probe", lambda backbone: next(answers))
    first = Backbone("tiny", network(), tokenizer(), "lora")
    Run(tmp_path, TextMaker(first)).configure({"seed": 0, "tree": {}})
    again = Backbone("tiny", network(), tokenizer(), "lora")
    Run(tmp_path, TextMaker(again)).configure({"seed": 0, "tree": {}})
    assert first.precision == again.precision == Precision("bfloat16")
    decided = json.loads((tmp_path / "config.json").read_text())["about"]["decided"]
    assert decided["probe_seconds"] == {"training float32": 1.0}


def test_a_tiny_model_is_not_probed(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr("rrm.learning.text_maker.probe", lambda backbone: pytest.fail("probed"))
    b = tiny()
    Run(tmp_path, TextMaker(b)).configure({"seed": 0, "tree": {}})
    assert b.precision == Precision()


def test_threads_fit_the_container(tmp_path, monkeypatch):
    free = cores(tmp_path)
    for text, want in (("max 100000", free), ("50000 100000", 1), ("150000 100000", min(2, free)), ("9900000 1", free)):
        (tmp_path / "cpu.max").write_text(text)
        assert cores(tmp_path) == want
    set_to = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: free + 3)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    limit_threads()
    assert set_to == [cores()]


@pytest.mark.slow
def test_compiled_passes_give_the_same_numbers(tiny):
    b = tiny()
    fork = b.fork("agent")
    plain = loss_of(fork).detach()
    b.compile = True
    compiled = loss_of(fork)
    compiled.sum().backward()
    torch.testing.assert_close(compiled.detach(), plain, atol=1e-5, rtol=1e-5)


def test_rounded_adapters_are_kept_only_while_they_do_not_change():
    """Of two forks in turn, and of one that is trained, or loaded, between two passes."""
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    backbone.precision = Precision("bfloat16")
    group = PrefixGroup([*range(3, 38)] * 2, [[5, 6, 7], [8, 9]])  # long enough for the products of training

    def value(fork) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat(fork.logprobs([group])[0])

    one, two = backbone.fork("one"), backbone.fork("two")
    at_first, state = value(one), one.state()
    moved = {name: tensor + 0.1 for name, tensor in state.items()}
    two.load(moved)
    assert not torch.equal(value(two), at_first) and torch.equal(value(one), at_first)
    one.load(moved)
    assert torch.equal(value(one), value(two))
    one.load(state)
    assert torch.equal(value(one), at_first)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.1)
    assert torch.equal(value(one), value(two))
