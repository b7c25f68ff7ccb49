"""What goes through kernels, and what does not. Plain functions stand for the kernels, which need a GPU (or Triton's
interpreter: `test_kernels.py`)."""

from __future__ import annotations

import copy
import threading
import types
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

import rrm.models
from rrm.core.errors import Notice
from rrm.models import fusing
from rrm.models.adapters import adapted
from rrm.models.backbone import Backbone
from rrm.models.flexing import attends, difference
from rrm.models.packing import PrefixGroup, pack
from rrm.models.repeating import repeatable
from rrm.models.spans import attend_spans
from rrm.models.triton_check import available
from tests.models.conftest import network, tokenizer
from tests.models.test_spans import backwards, forwards

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZES: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50, "head_dim": 8,
}  # fmt: skip


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    return torch.nn.functional.silu(gate) * up


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos[:, None] + torch.cat([-x[..., half:], x[..., :half]], -1) * sin[:, None]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the kernels that ran."""
    names: set[str] = set()

    def counted(function: Any, *args: Any) -> Any:
        names.add(function.__name__)
        return function(*args)

    made = types.SimpleNamespace(**{f.__name__: partial(counted, f) for f in (normed, gated, rotated)})
    monkeypatch.setattr(rrm.models, "kernels", made, raising=False)
    monkeypatch.setattr(fusing, "_there", lambda x: True)
    monkeypatch.setattr(fusing, "available", lambda device: True)
    return names


def made(config: Any, kind: Any) -> Any:
    torch.manual_seed(0)
    model = kind(config(**SIZES)).eval().requires_grad_(False)
    for p in model.parameters():
        if p.dim() == 1:
            p.add_(0.1 * torch.randn_like(p))
    adapted(model, "one")
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data.normal_(std=0.1)
    return model


def passed(model: Any, turned: Any = None) -> list[Tensor]:
    """Logits, and an adapter's gradients."""
    draw = torch.Generator().manual_seed(1)
    ids, mix = torch.randint(3, 50, (2, 9), generator=draw), torch.randn(2, 9, 50, generator=draw)
    with fusing.turning(turned):
        logits = model(input_ids=ids, use_cache=False).logits
        (logits * mix).sum().backward()
    grads = [p.grad.clone() for name, p in model.named_parameters() if "lora_B" in name]
    model.zero_grad()
    return [logits.detach(), *grads]


def same(found: list[Tensor], right: list[Tensor]) -> None:
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "kind", "parts"),
    [
        (LlamaConfig, LlamaForCausalLM, {"normed", "gated", "rotated"}),
        (Qwen3Config, Qwen3ForCausalLM, {"normed", "gated", "rotated"}),
        (Gemma2Config, Gemma2ForCausalLM, {"rotated"}),  # its norms add one to their weights, its gate is a GELU
    ],
)
def test_parts_are_replaced_where_they_are_the_same(config: Any, kind: Any, parts: set[str], called: set[str]) -> None:
    model = made(config, kind)
    right = passed(model)
    turned = fusing.fuse(model, CPU, torch.float32)
    called.clear()
    same(passed(model, turned), right)
    assert called == parts
    again = copy.deepcopy(model)
    same(passed(again, turned), right)
    for p in again.parameters():  # it computes with its own weights
        if p.dim() == 1:
            p.data.mul_(2)
    assert not torch.allclose(passed(again)[0], right[0], atol=1e-2)
    called.clear()
    fusing.unfuse(model)
    same(passed(model), right)
    assert not called


@pytest.mark.parametrize("most", [0.05, 7.0])
def test_one_gate_that_clamps_keeps_its_own_code(most: float, called: set[str]) -> None:
    model = made(LlamaConfig, LlamaForCausalLM)

    class Clamping(type(model.model.layers[1].mlp)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.down_proj(self.act_fn(self.gate_proj(x).clamp(max=most)) * self.up_proj(x))
            return found

    model.model.layers[1].mlp.__class__ = Clamping
    fusing.fuse(model, CPU, torch.float32)
    assert ["forward" in vars(layer.mlp) for layer in model.model.layers] == [True, False]


def test_gradients_are_tried_outside_inference_mode(called: set[str]) -> None:
    """Whatever asks first: sampling asks in inference mode, where nothing has a gradient."""
    backbone = Backbone("tiny", network(), tokenizer(), "lora", verified=False)
    with torch.inference_mode():
        assert backbone.turned is not None


def test_a_network_that_is_compiled_computes_by_its_own_code(called: set[str]) -> None:
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    assert backbone.turned is not None and any("forward" in vars(module) for module in backbone.model.modules())
    backbone.compile = True
    assert backbone.turned is None
    assert not any("forward" in vars(module) for module in backbone.model.modules())


def test_without_a_gpu_nothing_is_fused() -> None:
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    assert not available(CPU) and backbone.turned is None
    assert not any("forward" in vars(module) for module in backbone.model.modules())


def test_each_thread_turns_by_its_own(called: set[str]) -> None:
    """Two networks of one file, whose passes begin and end crosswise."""
    model = made(LlamaConfig, LlamaForCausalLM)
    turned = fusing.fuse(model, CPU, torch.float32)
    file = fusing._file(model)
    entered, left = threading.Event(), threading.Event()
    found: list[bool] = []

    def other() -> None:
        with fusing.turning(None):
            entered.set()
            left.wait()
            called.clear()
            file.apply_rotary_pos_emb(*[torch.randn(1, 2, 3, 8)] * 2, *[torch.randn(1, 3, 8)] * 2)  # type: ignore
            found.append("rotated" in called)

    thread = threading.Thread(target=other)
    with fusing.turning(turned):
        thread.start()
        entered.wait()
    left.set()
    thread.join()
    assert found == [False] and getattr(fusing._HERE, "turned", None) is None


def test_repeatable_passes_overlap() -> None:
    before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    first, second = repeatable(CUDA), repeatable(CUDA)
    with warnings.catch_warnings():
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.are_deterministic_algorithms_enabled()
        second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory == before  # type: ignore[attr-defined]
    with repeatable(CPU), repeatable(CUDA, on=False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_segments_that_need_a_mask_are_batched_by_themselves() -> None:
    ids = list(range(5, 35))
    groups = [PrefixGroup(ids, [ids[:9]] * 4, at=[30, 12, 5, 5] if i == 1 else []) for i in range(3)]
    batches = pack(groups, d=32, masked=False)
    assert sorted(sorted({*b.group.tolist()}) for b in batches) == [[0, 2], [1]]


def test_flash_attention_refuses_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.models.spans.forwards", forwards)
    monkeypatch.setattr("rrm.models.spans.backwards", backwards)
    config = Gemma2Config(
        **SIZES | {"vocab_size": 40}, attn_logit_softcapping=1.0, layer_types=["full_attention"] * 2,
        max_position_embeddings=256,
    )  # fmt: skip
    backbone = Backbone("capped", Gemma2ForCausalLM(config).eval(), tokenizer(), "lora")
    with pytest.warns(Notice, match="no softcap"):
        assert not attends(backbone, "spans")
    wide, narrow = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 4, 6)
    with pytest.raises(ValueError, match="keys' width"):
        attend_spans(torch.nn.Module(), wide, wide, narrow, None)


def test_no_row_is_tried_beyond_a_models_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that would leave it unusable."""
    monkeypatch.setattr("rrm.models.spans.forwards", forwards)
    monkeypatch.setattr("rrm.models.spans.backwards", backwards)
    tried: list[int] = []

    def noted(*args: Any, **kwargs: Any) -> Any:
        packed = pack(*args, **kwargs)
        tried.extend(one.longest for one in packed)
        return packed

    monkeypatch.setattr("rrm.models.flexing.pack", noted)
    for limit, longest in ((256, [240]), (200, [200]), (100, [])):
        model = network()
        model.config.max_position_embeddings = limit
        backbone = Backbone("short", model, tokenizer(), "lora")
        tried.clear()
        assert (difference(backbone, "spans") < 1e-3) is bool(longest) and tried == longest
