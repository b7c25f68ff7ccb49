"""The GPU's kernels, interpreted on a processor where Triton is installed (pip install triton), and on the GPU where
there is one; how adapters are added there; and the head's slopes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rrm.models import adapter
from rrm.models.head import chosen_logprobs

KERNELS = """
import torch
from rrm.models import kernels
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)

def compare(ours, theirs, *given):
    found = []
    for function in (ours, theirs):
        own = [x.clone().requires_grad_() for x in given]
        out = function(*own)
        mix = torch.linspace(-1, 1, out.numel(), device=device).view(out.shape)
        found.append([out.detach(), *torch.autograd.grad((out * mix).sum(), own)])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)

weight = torch.randn(37, device=device)
x = 3 * torch.randn(5, 3, 37, device=device)
compare(lambda x: kernels.normed(x, weight, 1e-5),
        lambda x: weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5), x)
gate, up = torch.randn(2, 3, 1700, device=device).unbind()
compare(kernels.gated, lambda g, u: torch.nn.functional.silu(g) * u, gate, up)
q = torch.randn(2, 7, 3, 10, device=device).transpose(1, 2)
for rows in (1, 2):
    cos, sin = torch.randn(2, rows, 7, 10, device=device).unbind()
    def plain(q):
        half = torch.cat([-q[..., 5:], q[..., :5]], -1)
        return q * cos[:, None] + half * sin[:, None]
    compare(lambda q: kernels.rotated(q, cos, sin), plain, q)
logits = 4 * torch.randn(4, 9001, device=device)
logits[0, 3:8800] = -torch.inf
logits[1, :4200] = -torch.inf
whole, found = kernels.chances(logits, torch.float32)
torch.testing.assert_close(whole, logits.logsumexp(1))
torch.testing.assert_close(found, logits.softmax(1))
assert kernels.chances(logits, None)[1] is None
assert kernels.chances(torch.full_like(logits, -torch.inf), None)[0].eq(-torch.inf).all()
own, over = torch.randn(6, 3, 5, device=device), torch.randn(4, 3, 5, device=device)
places = torch.tensor([4, 2, 0, 4, 3, 1], device=device)
lse, weight = torch.randn(3, 6, device=device), torch.randn(3, 4, device=device)
out, whole = kernels.joined(own, lse, over, weight, places)
spread = torch.cat([over, over.new_zeros(1, 3, 5)])[places]
more = torch.cat([weight, weight.new_full((3, 1), -torch.inf)], 1)[:, places]
torch.testing.assert_close(whole, torch.logaddexp(lse, more))
right = own * (lse - whole).exp().T[..., None] + spread * (more - whole).exp().T[..., None]
torch.testing.assert_close(out, right)
torch.testing.assert_close(kernels.added(own.clone(), over, places), own + spread)
print("all right on", device)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
def test_kernels_give_what_plain_torch_gives() -> None:
    environment = os.environ | ({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"})
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)}, text=True,
        capture_output=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0 and "all right" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(("narrow", "wide"), [(12, 40), (40, 12), (16, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_gpus_way_to_add_an_adapter_is_the_processors(
    narrow: int, wide: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the layer's own product where that is worth it, and in place elsewhere."""
    layer = torch.nn.Linear(narrow, wide, bias=bias).requires_grad_(False)
    a, b, given = torch.randn(3, narrow), torch.randn(wide, 3), torch.randn(4, 30, narrow)
    mix, found, joined = torch.randn(4, 30, wide), [], []
    joins = adapter._joins
    monkeypatch.setattr(adapter, "_joins", lambda *sizes: joined.append(joins(*sizes)) or joined[-1])
    for there in (False, True):
        monkeypatch.setattr(adapter, "_there", lambda x, there=there: there)
        own = [x.clone().requires_grad_() for x in (given, a, b)]
        out = adapter._Adapted.apply(own[0], layer, own[1], own[2], 2.0)
        found.append([out.detach(), *torch.autograd.grad((out * mix).sum(), own)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    assert joined == [wide > narrow, narrow > wide]  # forwards, backwards


def test_a_chosen_tokens_slope_is_autograds() -> None:
    """Made in the forward pass, also where a token may not come."""
    head = torch.nn.Linear(12, 30, bias=False).requires_grad_(False)
    hidden, targets = torch.randn(7, 12), torch.randint(0, 30, (7,))
    barred = torch.zeros(7, 30, dtype=torch.bool)
    barred[:, 5], barred[2, targets[2]] = True, True

    def restrict(logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill(barred, -torch.inf)

    slopes = []
    for how in ("ours", "plain"):
        given = hidden.clone().requires_grad_()
        if how == "ours":
            found = chosen_logprobs(head, given, targets, restrict)
        else:
            found = restrict(head(given)).log_softmax(1).gather(1, targets[:, None])[:, 0]
        kept = found.isfinite()
        assert kept.sum() == 7 - int((barred[torch.arange(7), targets]).sum())
        (found[kept] * torch.arange(1.0, 1 + int(kept.sum()))).sum().backward()
        slopes.append((found.detach(), given.grad))
    torch.testing.assert_close(slopes[0], slopes[1])
    with torch.no_grad():
        torch.testing.assert_close(chosen_logprobs(head, hidden, targets, restrict), slopes[1][0])
