"""An exported agent is the agent: as transformers and PEFT load it, it says the same with the same chances."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline
from typer.testing import CliRunner

from rrm import BoundedUser, Case, Group, Outcome, train
from rrm.command.cli import app
from rrm.core.errors import ModelError
from rrm.exchange import agent_export
from rrm.exchange.agent_export import ExportedAgent, NoAdapter, template_of, write_agent
from rrm.loop.reopen import agent_of
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision
from rrm.trust import handing_out
from tests import toy
from tests.models.conftest import network, tokenizer

GROUPS = [
    Group(Case(f"w{i} w{i + 1} w9"), (Outcome(f"w{i + 4}"), Outcome(f"w{i + 7} w{i + 2} w{i + 11}")))
    for i in range(3, 9)
]


def start(folder: Path, **how: bool) -> Path:
    network().save_pretrained(folder)
    tokenizer(**how).save_pretrained(folder)
    return folder


def trained(backbone: Backbone) -> TextAgent:
    agent = TextAgent(backbone, backbone.fork("a"), 6)
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.fork.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=drawn)
    return agent


def card(done: ExportedAgent) -> str:
    return f"# {done.node}\n"


def stranger(folder: Path, merged: bool) -> Any:
    """As whoever was given the folder loads it, with nothing of ours."""
    if merged:
        return AutoModelForCausalLM.from_pretrained(folder).eval()
    from peft import AutoPeftModelForCausalLM

    return AutoPeftModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("how, merged, chat", [("full", True, False), ("lora", True, True), ("lora", False, False)])
def test_log_probabilities_are_equal(tmp_path: Path, how: str, merged: bool, chat: bool) -> None:
    base = start(tmp_path / "base", chat=chat, bos=not chat)
    agent = trained(Backbone.load(str(base), how))  # type: ignore[arg-type]
    backbone = agent.backbone
    wanted, before = agent.logprobs(GROUPS), backbone.start.logprobs(agent_export.prefix_groups(backbone, GROUPS))
    assert max(float((a - b).abs().max()) for x, y in zip(wanted, before, strict=True)
               for a, b in zip(x, y, strict=True)) > 0.05  # there is something to be right about  # fmt: skip
    done = write_agent(agent, "t", GROUPS, tmp_path / "out", card, merged)
    assert done.error < 1e-5 and done.tried == 12 and done.same_text == done.prompts == 6
    model, read = stranger(tmp_path / "out", merged), AutoTokenizer.from_pretrained(tmp_path / "out")
    for group, values in zip(GROUPS, wanted, strict=True):
        turns = [{"role": "user", "content": group.case.prompt}]
        prefix = read.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        for outcome, value in zip(group.outcomes, values, strict=True):
            ids = [*read(outcome.text, add_special_tokens=False)["input_ids"], read.eos_token_id]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prefix, *ids]])).logits[0, len(prefix) - 1 : -1]
            found = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            assert torch.allclose(found, value, atol=1e-4)
    settings = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (settings.temperature, settings.top_p, settings.top_k, settings.max_new_tokens) == (1.0, 1.0, 0, 6)
    assert settings.eos_token_id == sorted(backbone.ends)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_of_a_run_in_bfloat16_the_whole_model_is_in_float32(tmp_path: Path) -> None:
    """Rounded again it would lose what was trained."""
    backbone = Backbone.load(str(start(tmp_path / "base")), "lora")
    backbone.precision = Precision("bfloat16", "bfloat16")
    agent = trained(backbone)
    done = write_agent(agent, "t", GROUPS, tmp_path / "out", card, True)
    assert done.error < 1e-4 < done.rounding < 0.05 and "the run computed in bfloat16" in done.summary(tmp_path)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


def test_the_options_of_a_run_are_in_the_template(tmp_path: Path) -> None:
    read = tokenizer(chat=True)
    read.chat_template = "{% if think %}w5 {% endif %}" + read.chat_template
    backbone = Backbone("tiny", network(), read, "full", {"think": True})
    done = write_agent(trained(backbone), "t", GROUPS, tmp_path / "out", card, True)
    assert done.same_text == done.prompts and "think = true" in template_of(backbone)
    turns = [{"role": "user", "content": "w8"}]
    given = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(turns, add_generation_prompt=True)
    assert tuple(given["input_ids"] if hasattr(given, "keys") else given) == backbone.render("w8")


def test_what_cannot_be_exported_right_is_refused_and_nothing_is_left(
    tiny: Callable[..., Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoAdapter, match=r"no PEFT adapter of it\. Export the whole model: --merged"):
        write_agent(trained(tiny()), "t", GROUPS, tmp_path / "out", card)
    monkeypatch.setattr(agent_export, "_reloaded", lambda *given: network(seed=5))
    with pytest.raises(ModelError, match=r"differ from the agent's by .* nothing was written"):
        write_agent(trained(tiny()), "t", GROUPS, tmp_path / "out", card, True)
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tiny model has adapters."""
    folder = tmp_path_factory.mktemp("agents")
    plain = toy.SMALL.model_copy(update={"surprise": False, "findings": False})
    backbone = Backbone.load(str(start(folder / "base")), "lora")
    train(toy.task(assistants=(toy.sub(settings=plain),)), BoundedUser(), backbone, folder / "run", command="rrm t")
    return folder / "run"


def rrm(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "300"})


def test_a_runs_agent_is_asked_by_others_and_its_card_says_who_judged(run: Path, tmp_path: Path) -> None:
    done = rrm("export", run, "--agent", "toy", "--merged", "-o", tmp_path / "agent")
    assert done.exit_code == 0, done.output
    agent = agent_of(run, "toy")
    (group,) = agent.sample([Case("w3 w4")], 1, "k", greedy=True)
    ask = pipeline("text-generation", model=str(tmp_path / "agent"))
    said = ask([{"role": "user", "content": "w3 w4"}], do_sample=False)[0]["generated_text"][-1]
    assert said["role"] == "assistant" and said["content"].split() == group.outcomes[0].text.split()
    text = (tmp_path / "agent" / "README.md").read_text()
    for wanted in ("SIMULATED", "judged-by-simulated", "| rrm t |", "## Not shown", "look it up", "at most 4 tokens"):
        assert wanted in text
    again = rrm("export", run, "--agent", "toy", "--merged", "-o", tmp_path / "agent")
    assert again.exit_code == 2 and "is there already" in again.stderr


def test_a_whole_tree_goes_out_with_an_index(run: Path, tmp_path: Path) -> None:
    done = rrm("export", run, "--tree", "--base", "lab/base", "-o", tmp_path / "tree")
    assert done.exit_code == 0, done.output
    index = json.loads((tmp_path / "tree" / "index.json").read_text())
    assert [one["node"] for one in index["nodes"]] == ["toy", "toy/sub"]
    for one in index["nodes"]:
        adapter = json.loads((tmp_path / "tree" / one["agent"] / "adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == "lab/base"
    root, sub = index["nodes"]
    assert not root["reward"] and "--refit" in root["why"][0] and sub["reward"] == "toy~sub/reward-model"
    card = (tmp_path / "tree" / sub["reward"] / "README.md").read_text()
    assert card.startswith("---\n") and "SIMULATED" in card and "rrm's score = logit" in card
    page = (tmp_path / "tree" / "README.md").read_text()
    assert "SIMULATED" in page and "toy\\~sub" not in page and "| toy/sub |" in page
    both = rrm("export", run, "--tree", "--agent", "toy", "-o", tmp_path / "x")
    assert both.exit_code == 2 and "give one of them" in both.stderr
    again = rrm("export", run, "--tree", "-o", tmp_path / "tree")
    assert again.exit_code == 2 and "is there already" in again.stderr


def test_a_tree_that_breaks_off_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(handing_out, "export_agent", full)
    with pytest.raises(OSError, match="no space"):
        handing_out.hand_out_tree(run, tmp_path / "tree")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "said"),
    [("toy/sub --agent toy", "NODE: of comparisons, not of --agent"), ("--ties --reward-model toy", "--ties"),
     ("--messages --as remarks --tree", "--messages, --as"), ("--format parquet --tree", "--format"),
     ("--node toy --tree", "NODE"), ("--refit --agent toy", "--refit goes with"), ("--refit", "--refit goes with"),
     ("--base x", "--base goes with")],
)  # fmt: skip
def test_an_option_that_cannot_apply_is_refused(tmp_path: Path, words: str, said: str) -> None:
    done = rrm("export", tmp_path, *words.split(), "-o", tmp_path / "out")
    assert done.exit_code == 2 and said in done.stderr and not (tmp_path / "out").exists()
