"""A model that was saved in bfloat16 is loaded as it is, if it is to compute so: the same bits, in half the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rrm import BoundedUser, train
from rrm.core.errors import ConfigError, ModelError
from rrm.learning.text_maker import TextMaker
from rrm.loop.reopen import reward_of
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.models.sampling import sample
from tests import toy
from tests.models.conftest import tokenizer
from tests.models.spoiled import CONFIGS, model


@pytest.fixture(params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A tied output embedding, and one of its own."""
    return written(tmp_path, request.param, torch.bfloat16)


def written(where: Path, kind: str, dtype: torch.dtype) -> str:
    model(CONFIGS[kind]()).to(dtype).save_pretrained(where)
    tokenizer().save_pretrained(where)
    return str(where)


def seen(backbone: Backbone) -> list[torch.Tensor]:
    """Log-probabilities scored and sampled, and a gradient."""
    fork = backbone.fork("one")
    prefix, one, two = [3, 4, 5], [6, 7, 8], [9, 10]
    scored = fork.logprobs([PrefixGroup(prefix, [one, two])])[0]
    grads = torch.autograd.grad(torch.cat(scored).sum(), fork.parameters(), allow_unused=True)
    drawn = sample(fork, [prefix], 2, 4, 1.0, ["k"], ())[0]
    return [*scored, *(one for one in grads if one is not None), *(torch.tensor(one[1]) for one in drawn)]


def held(backbone: Backbone) -> int:
    return sum(p.numel() * p.element_size() for p in backbone.model.parameters())


@pytest.mark.parametrize("head", ["float32", "bfloat16"])
def test_the_same_bits_as_of_float32_that_was_rounded(folder: str, head: str) -> None:
    wide, own = (Backbone.load(folder, "lora", precision=one) for one in ("auto", "bfloat16"))
    whole = held(wide)
    assert held(own) < 0.8 * whole and own.precision == Precision("bfloat16") and wide.precision == Precision()
    assert own.fingerprint == wide.fingerprint and own.engine == wide.engine
    for backbone in (wide, own):
        backbone.precision = Precision("bfloat16", head)  # type: ignore[arg-type]
    for a, b in zip(seen(wide), seen(own), strict=True):
        assert torch.equal(a, b)


def test_what_lost_nothing_can_be_widened_again(folder: str) -> None:
    wide, own = Backbone.load(folder, "lora"), Backbone.load(folder, "lora", precision="bfloat16")
    own.precision = Precision()
    for a, b in zip(seen(wide), seen(own), strict=True):
        assert torch.equal(a, b)
    wide.precision = Precision("bfloat16")
    with pytest.raises(ModelError, match="were rounded"):
        wide.precision = Precision()


def test_what_was_saved_in_float32_is_rounded_after_it_was_read(tmp_path: Path) -> None:
    """Its name is of all of its digits."""
    folder = written(tmp_path, "llama", torch.float32)
    own = Backbone.load(folder, "lora", precision="bfloat16")
    assert own.precision == Precision() and own.fingerprint == Backbone.load(folder).fingerprint
    assert TextMaker(own).decide(None)["precision"]["weights"] == "bfloat16" == own.precision.weights


def test_what_is_asked_for_is_decided_without_a_probe(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.learning.text_maker.probe", lambda backbone: pytest.fail("probed"))
    for asked in ("float32", "bfloat16"):
        backbone = Backbone.load(folder, "lora", precision=asked)  # type: ignore[arg-type]
        maker = TextMaker(backbone)
        decided = maker.decide(None)
        assert decided["precision"]["weights"] == backbone.precision.weights == asked
        again = TextMaker(Backbone.load(folder, "lora"))
        assert maker.computing == f"{asked} on cpu, as asked"
        maker.decide(decided)  # as a run does when it has written it down
        assert maker.computing == f"{asked} on cpu, as asked"
        assert again.decide(decided) == decided and again.backbone.precision == backbone.precision
        other = "float32" if asked == "bfloat16" else "bfloat16"
        with pytest.raises(ConfigError, match=f"computes in {asked}, as was decided when it began, and not in {other}"):
            TextMaker(Backbone.load(folder, "lora", precision=other)).decide(decided)  # type: ignore[arg-type]


def test_what_is_no_precision_or_fully_fine_tuned(folder: str) -> None:
    with pytest.raises(ModelError, match="give auto, float32, bfloat16, int8, nf4"):
        Backbone.load(folder, precision="float16")  # type: ignore[arg-type]
    tiny = Backbone.load(folder, precision="bfloat16")
    assert tiny.precision == Precision() and tiny.model.dtype == torch.float32
    with pytest.raises(ModelError, match="fully fine-tuned"):
        TextMaker(tiny).decide(None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_card_that_is_not_there_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama", torch.bfloat16)
    for precision in ("auto", "bfloat16", "nf4"):
        with pytest.raises(ModelError, match="use device='cpu'"):
            Backbone.load(folder, "lora", device="cuda", precision=precision)  # type: ignore[arg-type]


def test_a_mistake_shows_in_bfloat16_too(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be examined in small, in float32, is not trusted to eight bits."""
    monkeypatch.setattr("rrm.models.verification._in_small", lambda backbone: None)
    with pytest.raises(ModelError, match=r"cannot be checked in bfloat16.*without precision='bfloat16'"):
        Backbone.load(folder, "lora", precision="bfloat16")


def test_a_reward_model_is_opened_again_as_wide_as_its_run_was(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rrm.models.backbone.TINY", 0)  # so that it is adapted, as a model is that is worth halving
    backbone = Backbone.load(folder, precision="bfloat16")
    task = toy.task(settings=toy.SMALL.model_copy(update={"reward_trunk": "trained"}))
    root = train(task, BoundedUser(), backbone, tmp_path / "run")
    again = reward_of(tmp_path / "run", "toy")
    frozen = (p for name, p in again.backbone.model.named_parameters() if "lora_" not in name)
    assert sum(p.numel() * p.element_size() for p in frozen) == held(Backbone.load(folder, precision="bfloat16"))
    groups = root.agent.sample(toy.CASES.draw(3, "some"), 2, "some")
    assert root.reward is not None
    for a, b in zip(root.reward.score(groups), again.score(groups), strict=True):
        assert torch.equal(a.mean, b.mean)
