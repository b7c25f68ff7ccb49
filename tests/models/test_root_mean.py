"""Norms as one operation: what they give, what their gradient is, and which norms are such."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.root_mean import norms_of, one_operation
from tests.models.conftest import network, tokenizer


def norm_of(kind: type[nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    norm = kind(24, eps=1e-5)
    norm.weight.data = torch.randn(24, generator=torch.Generator().manual_seed(1))
    return norm.to(dtype).requires_grad_(False)


@pytest.mark.parametrize("dtype, off", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_it_has_the_value_and_the_gradient_of_the_plain_norm(dtype: torch.dtype, off: float) -> None:
    norm = norm_of(LlamaRMSNorm, dtype)
    found = norms_of(norm)
    assert [module for module, _ in found] == [norm]
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
    slope = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(3)).to(dtype)
    right = norm(x)
    with one_operation(found):
        value = norm(x)
        assert type(value.grad_fn).__name__ == "_RootMeanBackward"
        assert torch.equal(norm(x.detach()), right)  # the plain way
    torch.testing.assert_close(value, right, atol=off, rtol=off)
    gradients = [torch.autograd.grad(out, x, slope)[0] for out in (value, right)]
    torch.testing.assert_close(*gradients, atol=off, rtol=off)
    assert "forward" not in vars(norm)


def test_others_of_the_name_are_left_alone() -> None:
    class CenteredRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))

    norms = nn.ModuleList([norm_of(GemmaRMSNorm), norm_of(CenteredRMSNorm), LlamaRMSNorm(24)])  # the last is trained
    assert norms_of(norms) == []


def test_an_adapter_has_the_same_gradient() -> None:
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    fork = backbone.fork("agent")
    assert len(fork._norms) == 2 * backbone.layers + 1 and backbone.start._norms == []
    found = []
    for norms in (fork._norms, []):
        fork.__dict__["_norms"] = norms
        fork.logprobs([PrefixGroup([5, 6, 7], [[8, 9], [10]])])[0][0].sum().backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in fork.parameters() if p.grad is not None])
        for parameter in fork.parameters():
            parameter.grad = None
    assert len(found[0]) == len(fork.parameters())
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
