"""The output embedding in bfloat16: what decides is exact, and the rest is near."""

import copy

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM

from rrm.core.errors import ModelError
from rrm.models.backbone import Backbone
from rrm.models.head import TOP, chosen_logprobs, pays, rough, sharpened
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.sampling import sample
from rrm.models.slopes import sloped_logprobs
from tests.models.conftest import VOCABULARY, limited, network, tokenizer


def head_of(vocabulary=400, d=32, bias=False):
    torch.manual_seed(0)
    head = nn.Linear(d, vocabulary, bias=bias).requires_grad_(False)
    with torch.no_grad():
        head.weight.mul_(8)
    return head.to(torch.bfloat16), copy.deepcopy(head).float()


@pytest.mark.parametrize("bias", [False, True])
def test_the_largest_logits_are_exact_and_log_probabilities_near(bias):
    head, exact = head_of(bias=bias)
    hidden = torch.randn(9, 32)
    right, coarse = exact(hidden), rough(head, hidden)
    found = sharpened(head, hidden, coarse)
    top = right.topk(TOP // 2).indices
    torch.testing.assert_close(found.gather(1, top), right.gather(1, top), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), right.argmax(1))
    off = (found.log_softmax(1) - right.log_softmax(1)).gather(1, top).abs().max()
    assert off < 2e-3 < (coarse.log_softmax(1) - right.log_softmax(1)).gather(1, top).abs().max()


def test_what_may_not_come_stays_out_and_what_may_is_exact():
    """The largest of those that may come, not of all."""
    head, exact = head_of()
    hidden, barred = torch.randn(5, 32), torch.arange(400) >= 40
    found = sharpened(head, hidden, rough(head, hidden).masked_fill(barred, -torch.inf))
    assert bool((found[:, 40:] == -torch.inf).all())
    torch.testing.assert_close(found[:, :40], exact(hidden)[:, :40], atol=1e-5, rtol=1e-5)
    assert bool(found.log_softmax(1)[:, :40].isfinite().all())


def test_the_gradient_is_that_of_the_exact_logits():
    head, exact = head_of()
    grads = []
    for which in (lambda x: sharpened(head, x, rough(head, x)), exact):
        hidden = torch.randn(6, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        nn.functional.cross_entropy(which(hidden), torch.arange(6) * 50).backward()
        grads.append(hidden.grad)
    torch.testing.assert_close(*grads, atol=0.01 * grads[1].abs().max().item(), rtol=0.02)


def test_a_position_does_not_depend_on_the_others():
    head, _ = head_of()
    hidden = torch.randn(7, 32)
    together = sharpened(head, hidden, rough(head, hidden))
    alone = torch.cat([sharpened(head, one, rough(head, one)) for one in hidden.split(1)])
    torch.testing.assert_close(together.topk(TOP).values, alone.topk(TOP).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together, alone, atol=0.05, rtol=0.02)


def test_it_is_used_only_where_it_pays(monkeypatch):
    """A small vocabulary keeps its float32 embedding, and a run that began with one goes on with it."""
    assert not pays(nn.Linear(8, 100)) and pays(nn.Linear(8, 20_000))
    small = Backbone("tiny", network(), tokenizer(), "lora")
    small.precision = Precision("bfloat16", "bfloat16")
    assert small.precision == Precision("bfloat16")
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    versions = set()
    for head in ("float32", "bfloat16"):
        b = Backbone("tiny", network(), tokenizer(), "lora")
        b.precision = Precision("bfloat16", head)
        assert b.precision.head == head
        assert b.model.get_output_embeddings().weight.dtype == getattr(torch, head)
        versions.add(b.start.version)
        with pytest.raises(ModelError, match="load the model again"):
            b.precision = Precision()
    assert len(versions) == 2  # scores of the one are not those of the other


def test_sampled_and_scored_are_the_same_policy(monkeypatch):
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    b = Backbone("tiny", network(), tokenizer(), "lora")
    b.precision = Precision("bfloat16", "bfloat16")
    fork = b.fork("agent")
    tokens, kept, _ = sample(fork, [[5, 6]], 1, 6, 1.0, ["k"], ())[0][0]
    again = fork.logprobs([PrefixGroup([5, 6], [tokens])])[0][0]
    torch.testing.assert_close(torch.tensor(kept), again.detach(), atol=0.1, rtol=0.05)
    again.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in fork.parameters())


def test_float32_weights_have_a_float32_head(monkeypatch):
    """Else two precisions would bear one version. And what took effect may be asked for again."""
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    b = Backbone("tiny", network(), tokenizer(), "lora")
    before = b.start.version
    b.precision = Precision("float32", "bfloat16")
    assert b.precision == Precision() and b.start.version == before
    monkeypatch.setattr("rrm.models.head.WIDE", 100)
    for _ in range(2):
        b.precision = Precision("bfloat16", "bfloat16")
    assert b.precision == Precision("bfloat16")


def test_a_head_that_does_more_than_multiply_stays_float32(monkeypatch):
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    config = Gemma2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=VOCABULARY, max_position_embeddings=64, sliding_window=16, initializer_range=0.2,
        final_logit_softcapping=3.0, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma2ForCausalLM(config)
    b = Backbone("capped", model, tokenizer(), "lora")
    b.precision = Precision("bfloat16", "bfloat16")
    assert b.engine.head and b.precision == Precision("bfloat16")
    assert b.model.get_output_embeddings().weight.dtype == torch.float32
    assert float(b.start.logits_at(torch.randn(4, 32)).abs().max()) <= 3.0


def test_in_parts_it_is_the_same_and_no_part_takes_more_weights_than_logits(monkeypatch):
    """The weights of the exact ones are many, where a model is wide and its vocabulary is not."""
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    b = Backbone("tiny", network(), tokenizer(), "lora")
    b.precision = Precision("bfloat16", "bfloat16")
    fork, asked = b.fork("agent"), []
    real = fork._logprobs
    monkeypatch.setattr(fork, "_logprobs", lambda hidden, *more: asked.append(len(hidden)) or real(hidden, *more))
    found = []
    for most in (1 << 24, 2 * TOP * b.d):
        limited(monkeypatch, logits=most)
        hidden = torch.randn(9, b.d, generator=torch.Generator().manual_seed(2)).requires_grad_()
        value = fork.logprobs_at(hidden, torch.arange(9) + 3)
        value.sum().backward()
        found.append((value.detach(), hidden.grad))
    assert asked[0] == 9 and {*asked[1:]} == {2, 1}
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-4, rtol=1e-3)


def test_it_repeats_bit_for_bit_and_a_form_leaves_few(monkeypatch):
    """Also where fewer may come than are computed exactly; and where nothing may, nothing becomes a NaN."""
    monkeypatch.setattr("rrm.models.head.WIDE", 16)
    monkeypatch.setattr("rrm.models.head.TOP", 8)
    found = []
    for _ in range(2):
        b = Backbone("tiny", network(), tokenizer(), "lora")
        b.precision = Precision("bfloat16", "bfloat16")
        found.append(sample(b.start, [[5, 6], [7]], 3, 6, 1.0, ["k", "l"], ()))
        hidden = torch.randn(3, b.d, generator=torch.Generator().manual_seed(2))
        found.append(b.start.logprobs_at(hidden, torch.tensor([3, 4, 5])).tolist())
    assert found[:2] == found[2:]
    head, exact = head_of()
    hidden = torch.randn(3, 32).requires_grad_()
    barred = torch.arange(400) >= torch.tensor([[0], [2], [400]])
    logits = sharpened(head, hidden, rough(head, hidden).masked_fill(barred, -torch.inf))
    assert torch.equal(logits == -torch.inf, barred) and not bool(logits.isnan().any())
    torch.testing.assert_close(logits[1, :2], exact(hidden)[1, :2], atol=1e-5, rtol=1e-5)
    logits[1:].log_softmax(1)[:, 0].sum().backward()
    assert bool(hidden.grad.isfinite().all())


def test_chosen_log_probabilities_have_the_value_and_the_gradient_of_autograd():
    """The way of a GPU (`rrm.models.head._Chosen`), by a processor's products of bfloat16."""
    generator = torch.Generator().manual_seed(3)
    head = torch.nn.Linear(24, 60, bias=False)
    head.weight.data = torch.randn(60, 24, generator=generator).bfloat16()
    targets = torch.randint(0, 50, (30,), generator=generator)
    targets[4] = 55

    def restrict(logits):
        fill = torch.Tensor.masked_fill if logits.requires_grad else torch.Tensor.masked_fill_
        return fill(logits, torch.arange(60) >= 50, -torch.inf)

    found = []
    for way in ("autograd", "chosen"):
        hidden = torch.randn(30, 24, generator=torch.Generator().manual_seed(4)).bfloat16().float().requires_grad_()
        if way == "chosen":
            value = chosen_logprobs(head, hidden, targets, restrict)
        else:
            value = restrict(rough(head, hidden)).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        value[targets < 50].mul(torch.linspace(-1, 1, 29)).sum().backward()
        found.append((value.detach(), hidden.grad))
    (one, grad), (two, other) = found
    torch.testing.assert_close(one, two)
    assert (two == -torch.inf).nonzero().tolist() == [[4]]
    torch.testing.assert_close(grad, other, rtol=2e-2, atol=2e-2)  # bfloat16's products, in two orders


@pytest.mark.parametrize("bias", [False, True])
def test_slopes_that_are_found_at_once_are_those_of_the_exact_logits(bias):
    """Of targets among the exact logits and among the rest, and of one that may not come, which moves nothing."""
    head, exact = head_of(bias=bias)
    targets = torch.arange(12) * 30
    found = []
    for way in ("slopes", "autograd", "exact"):
        hidden = torch.randn(12, 32, generator=torch.Generator().manual_seed(4)).requires_grad_()

        def restrict(logits):
            return logits.masked_fill(torch.arange(400) == 330, -torch.inf)

        if way == "slopes":
            value = sloped_logprobs(head, hidden, targets, restrict)
        else:
            logits = exact(hidden) if way == "exact" else sharpened(head, hidden, restrict(rough(head, hidden)))
            value = restrict(logits).log_softmax(1).gather(1, targets[:, None])[:, 0]
        value[:11].mul(torch.linspace(-1, 1, 11)).sum().backward()
        found.append((value.detach(), hidden.grad))
    (slopes, by_slopes), (same, _), (_, right) = found
    torch.testing.assert_close(slopes, same, atol=1e-5, rtol=1e-5)
    assert slopes[11] == -torch.inf
    torch.testing.assert_close(by_slopes, right, atol=0.01 * right.abs().max().item(), rtol=0.02)
