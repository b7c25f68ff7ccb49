"""A reward model as a sequence classifier gives the same scores, at the same token, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rrm import Case, Group, Outcome, Settings
from rrm.core.errors import ModelError, RunError
from rrm.exchange.reward_export import Exported, export_reward, write_reward
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel, trunk

GROUPS = [
    Group(Case(f"w{i} w{i + 1} w9"), (Outcome(f"w{i + 4}"), Outcome(f"w{i + 7} w{i + 2} w{i + 11}")))
    for i in range(3, 9)
]


def reward(backbone: Backbone, how: str = "trained", **settings: object) -> TextRewardModel:
    """Fitted, as far as it can tell, with heads and offsets that differ."""
    chosen = Settings(**({"surprise": False, "findings": False, "heads": 3} | settings))  # type: ignore[arg-type]
    model = TextRewardModel(backbone, trunk(backbone, "r", how), chosen)  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.fork.parameters():  # as if it had been trained
            parameter += 0.02 * torch.randn_like(parameter)
    model.normalize(torch.randn(9, 3) * 2 + torch.tensor([1.0, -3.0, 0.5]))
    return model


def texts(folder: Path) -> tuple[list[str], Path]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [
        [{"role": "user", "content": g.case.prompt}, {"role": "assistant", "content": o.text}]
        for g in GROUPS for o in g.outcomes
    ]  # fmt: skip
    return [tokenizer.apply_chat_template(turn, tokenize=False) for turn in turns], folder


def logits(folder: Path, side: str = "right") -> torch.Tensor:
    """As a stranger would compute them: the folder's own template and tokenizer, padded, in one batch."""
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        texts(folder)[0], add_special_tokens=False, padding=True, padding_side=side, return_tensors="pt"
    )
    with torch.no_grad():
        found: torch.Tensor = model.eval()(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0]
    return found


def scores(model: TextRewardModel) -> torch.Tensor:
    return torch.cat([score.mean for score in model.score(GROUPS)])


def close(folder: Path, wanted: torch.Tensor, done: Exported) -> None:
    assert wanted.std() > 0.05  # there is something to be right about
    for side in ("right", "left"):
        assert torch.allclose(logits(folder, side) + done.offset, wanted, atol=1e-4), side


@pytest.mark.parametrize("how", ["full", "lora", "frozen"])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_scores_are_equal(tiny: Callable[..., Backbone], tmp_path: Path, how: str, chat: bool, bos: bool) -> None:
    """With padding that equals end-of-text in the tokenizer that it came with, padded left and right."""
    backbone = tiny("lora" if how == "lora" else "full", chat=chat, bos=bos)
    assert backbone.tokenizer.pad_token_id == backbone.eos_id
    model = reward(backbone, "frozen" if how == "frozen" else "trained")
    wanted = scores(model)
    done = write_reward(model, "t", GROUPS, tmp_path / "out")
    assert done.error < 1e-4 and done.tried == done.same_text == 2 * len(GROUPS)
    close(tmp_path / "out", wanted, done)
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert saved.config.pad_token_id != backbone.eos_id
    assert saved.config.rrm["offset"] == pytest.approx(done.offset)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"{done.offset:.6g}" in readme and "end-of-text twice" in readme


def test_without_another_special_token_padding_gets_one_of_its_own(
    tiny: Callable[..., Backbone], tmp_path: Path
) -> None:
    backbone = tiny()
    backbone.tokenizer.unk_token = backbone.tokenizer.bos_token = None
    model = reward(backbone)
    wanted = scores(model)
    done = write_reward(model, "t", GROUPS, tmp_path / "out")
    assert done.pad == "<|pad|>"
    close(tmp_path / "out", wanted, done)


@pytest.mark.parametrize(("settings", "named"), [({"surprise": True}, "surprise"), ({"findings": True}, "findings")])
def test_what_is_not_text_is_refused_and_nothing_is_written(
    tiny: Callable[..., Backbone], tmp_path: Path, settings: dict[str, bool], named: str
) -> None:
    backbone = tiny()
    chosen = Settings(**({"surprise": False, "findings": False} | settings))  # type: ignore[arg-type]
    model = TextRewardModel(backbone, trunk(backbone, "r", "frozen"), chosen, assistants=2)
    with pytest.raises(ModelError, match=rf"{named} beside it.*--refit.*t\.{named}=false"):
        write_reward(model, "t", GROUPS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_as_it_is(tiny: Callable[..., Backbone], tmp_path: Path) -> None:
    """A run's own, too; and of an export that breaks off nothing stays."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.db").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        export_reward(run, "t", run)
    with pytest.raises(RunError, match="is there already"):
        write_reward(reward(tiny()), "t", GROUPS, run)
    with pytest.raises(TypeError):
        write_reward(reward(tiny()), "t", GROUPS, tmp_path / "out", card=(1, 2))  # type: ignore[arg-type]
    assert [one.name for one in tmp_path.iterdir()] == ["run"] and [one.name for one in run.iterdir()] == ["run.db"]
