"""What a starting model is named by: the same however it is loaded, another if any of it is."""

from __future__ import annotations

import pytest
import torch

from rrm.models import weights
from rrm.models.chat import Chat
from rrm.models.weights import hash_tensors, sha256_of
from tests.test_resume import tiny


def test_weights_are_named_by_name_shape_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    some = [("a", torch.randn(5, 7).bfloat16()), ("b", torch.randn(3))]
    whole = sha256_of(some, wide=True)
    assert whole == sha256_of([(name, one.float()) for name, one in some], wide=True) != sha256_of(some)
    assert len(whole) == 64 and hash_tensors(some) == sha256_of(some)[:16]
    monkeypatch.setattr(weights, "AT_ONCE", 4)
    assert sha256_of(some, wide=True) == whole, "in pieces of any size"
    (name, first), second = some
    turned = first.clone()
    turned[4, 6] = torch.nextafter(turned[4, 6].float(), torch.tensor(9.0)).bfloat16() + 0.125
    others = [[("c", first), second], [(name, first.reshape(7, 5)), second], [(name, turned), second], [second]]
    assert len({whole, *(sha256_of(one, wide=True) for one in others)}) == 5


def test_a_tokenizer_is_named_by_all_that_it_is_and_not_by_its_last_call() -> None:
    backbone = tiny()
    tokenizer, before = backbone.tokenizer, backbone.identity
    assert before["weights"][:16] == backbone.fingerprint and len(before["tokenizer"]) == 64
    tokenizer(["w1", "w1 w2 w3"], padding=True, truncation=True, max_length=2)
    assert Chat("tiny", tokenizer).sha256() == before["tokenizer"]
    tokenizer.add_tokens(["another"])
    assert Chat("tiny", tokenizer).sha256() != before["tokenizer"]
