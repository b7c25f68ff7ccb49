"""With TRL itself: our reward models in its trainers, its reward models here, our comparisons as its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs TRL: pip install -e '.[bench]'")

import trl
from datasets import Dataset, load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from rrm import BoundedUser, Case, Group, Outcome, Task, train
from rrm.command.cli import app
from rrm.core.errors import ModelError, RunError
from rrm.exchange.trl import load_reward, reward_func
from rrm.loop.reopen import reward_of
from rrm.models.fetching import EMBEDDED
from rrm.store.store import Store
from rrm_assistants import writing
from rrm_tasks.paper import paper
from tests.mini import SMALL

pytestmark = pytest.mark.slow
PLAIN = {"report_to": [], "use_cpu": True, "bf16": False, "logging_steps": 1, "save_strategy": "no"}
CHAT = (
    "{% for m in messages %}{{ m['content'] }} {% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
)


def tree() -> Task:
    """A paper whose reward model reads text only, with a trunk of its own; writing's is as by default."""
    few = SMALL.model_copy(update={"rounds": 1, "accept": 0, "comparisons": 20})
    helper = replace(writing(), settings=few.model_copy(update={"max_tokens": 16}))
    text = few.model_copy(update={"max_tokens": 96, "surprise": False, "findings": False, "reward_trunk": "trained",
                                  "reward_sees": "outcome"})  # fmt: skip
    return replace(paper(settings=text), assistants=(helper,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trl") / "run"
    train(tree(), BoundedUser(), "embedded", out)
    return out


def groups(run: Path, node: str) -> list[Group]:
    store = Store(run / "run.db")
    try:
        found = store.comparisons(node)
        return [Group(c.case, (Outcome(c.a.text), Outcome(c.b.text))) for c in found][:6]
    finally:
        store.close()


def tokenizer(pad: str | None = None) -> Any:
    made = AutoTokenizer.from_pretrained(EMBEDDED)
    made.chat_template = CHAT
    if pad is not None:
        made.pad_token = pad
    return made


def policy() -> Any:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)


# --- a run's reward model, opened again --------------------------------------------------------------


@pytest.mark.parametrize("node", ["paper", "paper/writing"])
def test_a_reward_model_opened_again_says_what_it_said_in_the_run(run: Path, node: str) -> None:
    """The margins of the comparisons, as they were recorded after the fit."""
    reward = reward_of(run, node)
    store = Store(run / "run.db")
    recorded = dict(store._db.execute("SELECT pair, margin FROM scores WHERE task = ?", (node,)).fetchall())
    comparisons = store.comparisons(node)
    store.close()
    assert comparisons
    for c in comparisons:
        (raw,) = reward.raw_scores([Group(c.case, (c.a, c.b), (c.assistance_a, c.assistance_b))])
        assert float((raw[0] - raw[1]).mean()) == pytest.approx(recorded[c.id], abs=1e-4)


def test_what_is_not_there_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"its nodes: .*paper/writing"):
        reward_of(run, "novelty")
    with pytest.raises(RunError, match="round 7"):
        reward_of(run, "paper", 7)
    with pytest.raises(RunError, match=r"config\.json"):
        reward_of(tmp_path, "paper")


# --- ours in TRL -------------------------------------------------------------------------------------


def test_a_reward_function_gives_our_scores_whatever_the_order(run: Path) -> None:
    reward, func = reward_of(run, "paper/writing"), reward_func(run, "paper/writing")
    some = groups(run, "paper/writing")
    wanted = [
        float(m - reward.settings.caution * s)
        for score in reward.score(some) for m, s in zip(score.mean, score.std, strict=True)
    ]  # fmt: skip
    rows = [(g.case.prompt, o.text) for g in some for o in g.outcomes]
    got = func([p for p, _ in rows][::-1], [t for _, t in rows][::-1])
    assert got[::-1] == pytest.approx(wanted, abs=1e-4)
    messages = func(
        [[{"role": "user", "content": p}] for p, _ in rows], [[{"role": "assistant", "content": t}] for _, t in rows]
    )
    assert messages == pytest.approx(wanted, abs=1e-4)
    assert func.__name__ == "rrm_paper/writing"


def test_a_cut_completion_is_known_as_cut(run: Path) -> None:
    func, backbone = reward_func(run, "paper/writing"), reward_of(run, "paper/writing").backbone
    (group, *_) = groups(run, "paper/writing")
    text = group.outcomes[0].text
    ids = [*backbone.encode(text)]
    cut, whole, unsaid, other = func(
        [group.case.prompt] * 4, [text] * 4, completion_ids=[ids, [*ids, backbone.eos_id], [], [3, 3, 3]]
    )
    assert [unsaid, other] == pytest.approx([whole, whole], abs=1e-4) and abs(whole - cut) > 1e-3


@pytest.mark.parametrize("node", ["paper", "paper/writing"])
def test_rloo_takes_a_step_with_our_reward_function(run: Path, node: str, tmp_path: Path) -> None:
    prompts = [g.case.prompt for g in groups(run, node)][:2]
    heard: list[list[float]] = []
    func = reward_func(run, node)

    def listened(**given: Any) -> list[float]:
        heard.append(func(**given))
        return heard[-1]

    trainer = trl.RLOOTrainer(
        policy(), reward_funcs=listened, processing_class=tokenizer(),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=trl.RLOOConfig(
            str(tmp_path), **PLAIN, max_steps=1, num_generations=2, per_device_train_batch_size=4,
            max_completion_length=16,
        ),
    )  # fmt: skip
    trainer.train()
    assert len(heard) == 1 and len(heard[0]) == 4 and len(set(heard[0])) > 1
    logged = next(row for row in trainer.state.log_history if "reward" in row)
    assert logged["reward"] == pytest.approx(sum(heard[0]) / 4, abs=1e-4)


def test_grpo_takes_a_step_with_an_exported_folder(run: Path, tmp_path: Path) -> None:
    """TRL loads the folder itself, and writes its text by the folder's chat template: the rewards are our scores."""
    out = tmp_path / "rm"
    done = CliRunner().invoke(app, ["export", str(run), "--reward-model", "paper", "-o", str(out)])
    assert done.exit_code == 0, done.output
    offset = json.loads((out / "config.json").read_text())["rrm"]["offset"]
    ours = reward_func(run, "paper", caution=0.0)
    seen: list[tuple[list[Any], list[Any]]] = []

    def listened(prompts: Any, completions: Any, **_: Any) -> list[float]:
        seen.append((prompts, completions))
        return ours(prompts, completions)

    prompts = [[{"role": "user", "content": g.case.prompt}] for g in groups(run, "paper")][:2]
    trainer = trl.GRPOTrainer(
        policy(), reward_funcs=[str(out), listened], processing_class=tokenizer(),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=trl.GRPOConfig(
            str(tmp_path / "o"), **PLAIN, max_steps=1, num_generations=2, per_device_train_batch_size=4,
            max_completion_length=12,
        ),
    )  # fmt: skip
    trainer.train()
    logged = next(row for row in trainer.state.log_history if "reward" in row)
    theirs, mine = logged["rewards/rm/mean"], logged["rewards/listened/mean"]
    assert theirs + offset == pytest.approx(mine, abs=1e-3)
    assert logged["rewards/rm/std"] == pytest.approx(logged["rewards/listened/std"], abs=1e-3) and len(seen) == 1


def test_a_default_reward_model_is_refused_and_fitted_anew(run: Path, tmp_path: Path) -> None:
    command = ["export", str(run), "--reward-model", "paper/writing", "-o", str(tmp_path / "rm")]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "--refit" in refused.output and not (tmp_path / "rm").exists()
    done = CliRunner().invoke(app, [*command, "--refit"])
    assert done.exit_code == 0 and "fitted anew on" in done.output, done.output
    _, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm", output_loading_info=True)
    assert not report["missing_keys"]


# --- TRL's here --------------------------------------------------------------------------------------


def data(run: Path, folder: Path, chat: bool) -> Dataset:
    """Our comparisons, out of the command line's own file."""
    file = folder / "pairs.jsonl"
    assert CliRunner().invoke(app, ["export", str(run), "--node", "paper", "-o", str(file)]).exit_code == 0
    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder / "cache"))
    rows = rows.select_columns(["prompt", "chosen", "rejected"])
    if not chat:
        return rows
    names = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return rows.map(lambda row: {k: [{"role": names[k], "content": v}] for k, v in row.items()})


def trained(rows: Dataset, folder: Path, tokens: Any, **more: Any) -> Any:
    trainer = trl.RewardTrainer(
        str(EMBEDDED), processing_class=tokens, train_dataset=rows,
        args=trl.RewardConfig(
            str(folder), **PLAIN, max_steps=2, per_device_train_batch_size=4, learning_rate=1e-2,
            model_init_kwargs={"dtype": "float32"},
        ),
        **more,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(folder / "rm"))
    return trainer


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("chat", [False, True], ids=["texts", "messages"])
@pytest.mark.parametrize("pad", [None, "<eos>"], ids=["pad", "pad is eos"])
def test_what_trl_trained_on_our_comparisons_scores_here_as_there(
    run: Path, tmp_path: Path, lora: bool, chat: bool, pad: str | None
) -> None:
    rows, tokens = data(run, tmp_path, chat), tokenizer(pad)
    more = {"peft_config": LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear", modules_to_save=["score"])}
    trainer = trained(rows, tmp_path, tokens, **(more if lora else {}))
    reward = load_reward(tmp_path / "rm", chat=chat)
    model = trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    with torch.no_grad():
        theirs = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    plain = data(run, tmp_path, chat=False)
    pairs = [Group(Case(r["prompt"]), (Outcome(r["chosen"]), Outcome(r["rejected"]))) for r in plain.select(range(6))]
    ours = torch.stack([score.mean for score in reward.score(pairs)]).T.reshape(-1)  # chosen, then rejected
    assert theirs.std() > 1e-3 and torch.allclose(ours, theirs, atol=1e-4)
    assert all(float(score.std.abs().max()) == 0 for score in reward.score(pairs))


def misnamed(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["value_head.weight"] = state.pop("score.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def two_labels(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(EMBEDDED, num_labels=2)
    model.save_pretrained(folder)


def one_label(folder: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(EMBEDDED, num_labels=1).save_pretrained(folder)


def no_head(folder: Path) -> None:
    policy().save_pretrained(folder)


def headless_adapter(folder: Path) -> None:
    get_peft_model(policy(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")).save_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ([no_head], r"score\.weight.*random"), ([one_label, misnamed], r"score\.weight.*value_head\.weight"),
        ([two_labels], "one label"), ([headless_adapter], "no trained head"), ([], "no model for sequence"),
    ],
    ids=["a language model", "a misnamed head", "two labels", "an adapter without head", "nothing"],
)  # fmt: skip
def test_a_head_is_never_made_up(tmp_path: Path, make: list[Callable[[Path], None]], said: str) -> None:
    folder = tmp_path / "rm"
    folder.mkdir()
    for step in make:
        step(folder)
    tokenizer().save_pretrained(folder)
    with pytest.raises(ModelError, match=said):
        load_reward(folder)


def test_what_we_exported_loads_as_any_other(run: Path, tmp_path: Path) -> None:
    """There and back: through transformers' format to the same scores."""
    from rrm.exchange.reward_export import export_reward

    done = export_reward(run, "paper", tmp_path / "rm")
    some, back = groups(run, "paper"), load_reward(tmp_path / "rm", chat=True)
    for before, after in zip(reward_of(run, "paper").score(some), back.score(some), strict=True):
        assert torch.allclose(before.mean, after.mean + done.offset, atol=1e-4)
