"""What cannot sample or train says so when it is loaded, and the trial leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from peft.tuners.lora.layer import Linear
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rrm.core.errors import ModelError
from rrm.core.records import Case, Group, Outcome
from rrm.core.settings import Settings
from rrm.models import adapter
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup, pack
from rrm.models.precision import Precision
from rrm.models.probing import probe
from rrm.models.reward import TextRewardModel
from rrm.models.sampling import sample
from tests.models.conftest import VOCABULARY, four_steps, network, tokenizer

SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY,
             max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)  # fmt: skip
GROUPS = [PrefixGroup([5, 6, 7], [[8, 9, 2], [10]])]


def made(config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = tf.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        for p in out.parameters():
            torch.nn.init.normal_(p, mean=float(p.dim() == 1), std=0.2)
    return out


def numbers(b: Backbone, fork: Any) -> list[Any]:
    """What a fork says and learns, and what is sampled from it."""
    values = torch.cat(fork.logprobs(GROUPS)[0])
    grads = torch.autograd.grad(values.sum(), fork.parameters())
    return [values.detach(), *grads, torch.tensor(sample(fork, [[3, 4]], 2, 5, 1.0, ["k"], ())[0][0][1])]


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_the_trial_leaves_no_trace(adapters: str, monkeypatch: Any) -> None:
    tried = []
    with monkeypatch.context() as patch:
        patch.setattr("rrm.models.backbone.try_out", lambda fork: None)
        patch.setattr("rrm.models.backbone.Backbone._try_out", lambda self: tried.append(self))
        untried = Backbone("tiny", network(), tokenizer(), adapters)  # type: ignore[arg-type]
    before = torch.random.get_rng_state()
    b = Backbone("tiny", network(), tokenizer(), adapters)  # type: ignore[arg-type]
    assert tried == [untried] and torch.equal(torch.random.get_rng_state(), before)
    assert "fork1" not in b._adapters and b._adapters.on is None
    assert [n for n, _ in b.model.named_modules()] == [n for n, _ in untried.model.named_modules()]
    assert not any(p.requires_grad or p.grad is not None for p in b.model.parameters())
    assert b.fingerprint == untried.fingerprint
    one, two = b.fork("agent"), untried.fork("agent")
    assert one.version == two.version and list(one.trainable) == list(two.trainable)
    for x, y in zip(numbers(b, one), numbers(untried, two), strict=True):
        assert torch.equal(x, y)
    if adapters == "lora":  # amid others, and with none of them on
        one.load({name: value + 0.1 for name, value in one.state().items()})
        want, start = numbers(b, one), b.start.logprobs(GROUPS)
        b._try_out()
        for x, y in zip(numbers(b, one), want, strict=True):
            assert torch.equal(x, y)
        assert torch.equal(b.start.logprobs(GROUPS)[0][0], start[0][0])


def test_a_fork_made_while_none_is_on_computes_as_itself(tiny: Any) -> None:
    """It was marked as on, but computed as the start: PEFT leaves adapters off that were off."""
    b = tiny("lora")
    one = b.fork("one")
    one.load({name: value + 0.1 for name, value in one.state().items()})
    with torch.no_grad():
        want, start = one.logprobs(GROUPS)[0][0], b.start.logprobs(GROUPS)[0][0]
        two = b.fork("two")
        two.load(one.state())
        assert torch.equal(two.logprobs(GROUPS)[0][0], want) and not torch.equal(want, start)
    b.start.logprobs(GROUPS)
    three = b.fork("three")
    torch.cat(three.logprobs(GROUPS)[0]).sum().backward()  # and it learns
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in three.parameters())
    value = torch.cat(two.logprobs(GROUPS)[0]).sum()
    b.fork("four")  # made between another's pass and its gradient
    value.backward()
    assert all(p.grad is not None for p in two.parameters())


@pytest.mark.parametrize("known", [[5], [3, 6, 7, 8], [*range(13, VOCABULARY)]])
def test_the_trial_is_of_tokens_that_there_are(known: list[int]) -> None:
    """What has no token has no probability: a vocabulary with holes was said to have broken weights."""
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 2} | {f"w{i}": i for i in known}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    holes = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")
    for adapters in ("full", "lora"):
        b = Backbone("holes", network(), holes, adapters)  # type: ignore[arg-type]
        assert {*b.forms.real} == {0, 2, *known}


class Broken(LlamaForCausalLM):
    """Fails in one of the ways that architectures fail in."""

    def breaks(self, when: Callable[[], bool], error: Exception | None) -> Broken:
        def hook(module: Any, args: Any, kwargs: Any, out: Any) -> Any:
            if not when():
                return None
            if error is not None:
                raise error
            return out * float("nan")

        self.model.layers[1].mlp.register_forward_hook(
            lambda module, args, out: hook(module, args, {}, out)
        )
        return self


WHEN = {"training": torch.is_grad_enabled, "any pass": lambda: True, "sampling": torch.is_inference_mode_enabled}


@pytest.mark.parametrize("adapters", ["full", "lora"])
@pytest.mark.parametrize("error", [RuntimeError("boom"), NotImplementedError("boom"), TypeError("boom"), None])
@pytest.mark.parametrize("when", WHEN)
def test_what_fails_later_fails_at_once(when: str, error: Exception | None, adapters: str) -> None:
    model = Broken(network().config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.load_state_dict(network().state_dict())
    model.breaks(WHEN[when], error)
    with pytest.raises(ModelError, match=r"'x'.*(use another model|load others)"):
        Backbone("x", model, tokenizer(), adapters)  # type: ignore[arg-type]


BFLOAT16: dict[str, Callable[[], Any]] = {
    "phi": lambda: tf.PhiConfig(**SHAPE, intermediate_size=64),  # a bias in its output embedding
    "opt 350m": lambda: tf.OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False),
    "opt": lambda: tf.OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=32),
    "falcon": lambda: tf.FalconConfig(**SHAPE, multi_query=True, new_decoder_architecture=False),
    "falcon 40b": lambda: tf.FalconConfig(**SHAPE, num_kv_heads=2, new_decoder_architecture=True),
    "gemma": lambda: tf.GemmaConfig(**SHAPE, num_key_value_heads=2, head_dim=8, intermediate_size=64),
    "stablelm": lambda: tf.StableLmConfig(**SHAPE, num_key_value_heads=2, intermediate_size=64),
    "bigcode": lambda: tf.GPTBigCodeConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=64,
                                           bos_token_id=1, eos_token_id=2),
}  # fmt: skip


@pytest.mark.parametrize("name", BFLOAT16)
def test_what_loads_samples_and_trains_in_both_precisions(name: str) -> None:
    """Phi's output embedding has a bias, OPT 350 M's another width than its layers, and Falcon adds in place."""
    b = Backbone(name, made(BFLOAT16[name]()), tokenizer(), "lora")
    outcomes = Outcome("w7 w8"), Outcome("w9")
    groups = [Group(Case("w5 w6"), outcomes), Group(Case("w4"), outcomes)]
    exact = [value.detach() for row in b.start.logprobs(GROUPS) for value in row]
    for precision in ("float32", "bfloat16"):
        b.precision = Precision(precision)  # type: ignore[arg-type]
        agent = TextAgent(b, b.fork("agent"), 4)
        losses = four_steps(agent, groups)
        assert losses[-1] < losses[0] - 0.05, losses
        reward = TextRewardModel(b, b.fork("reward"), Settings(heads=2))
        assert [raw.shape[-1] for raw in reward.raw_scores(groups)] == [2, 2]
        again = [value.detach() for row in b.start.logprobs(GROUPS) for value in row]
        for x, y in zip(exact, again, strict=True):
            torch.testing.assert_close(x, y, atol=1e-6 if precision == "float32" else 0.15, rtol=0.05)


@pytest.mark.parametrize("name", ["falcon", "falcon 40b", "phi"])
def test_a_lora_gradient_is_peft_s(name: str, monkeypatch: Any) -> None:
    """Falcon adds in place to what our one-operation layer gives; the numbers are those of PEFT's own layer."""
    found = []
    for layer in (adapter.AdaptedLinear, Linear):
        with monkeypatch.context() as patch:
            patch.setattr(adapter, "AdaptedLinear", layer)
            b = Backbone(name, made(BFLOAT16[name]()), tokenizer(), "lora")
            fork = b.fork("agent")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(2)
                fork.load({k: v + 0.1 * torch.randn(v.shape) for k, v in fork.state().items()})
            assert any(type(m) is layer for m in b.model.modules())
            (packed,) = pack(GROUPS, d=b.d, width=2)
            fork.token_logprobs(packed).sum().backward()
            found.append({n: p.grad for n, p in fork.trainable.items()})
    for key in found[0]:
        torch.testing.assert_close(found[0][key], found[1][key], atol=1e-4, rtol=1e-4)


def test_a_model_that_fails_in_bfloat16_stays_in_float32(tiny: Any, monkeypatch: Any) -> None:
    """The probe finds it out on two layers, and nothing was rounded."""

    def fails(fork: Any) -> None:
        if fork.backbone.precision != Precision():
            raise ModelError("mat1 and mat2 must have the same dtype")

    b = tiny("lora")
    fork, want = b.fork("agent"), b.start.logprobs(GROUPS)[0][0]
    monkeypatch.setattr("rrm.models.backbone.try_out", fails)
    assert probe(b) == (Precision(), {})
    assert torch.equal(b.start.logprobs(GROUPS)[0][0], want)
    assert torch.equal(fork.logprobs(GROUPS)[0][0], want)
    with pytest.raises(ModelError, match="same dtype"):
        b.precision = Precision("bfloat16")
