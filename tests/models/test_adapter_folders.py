"""An adapter's folder is its base with the adapter merged in, or refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as tf
from peft import IA3Config, LoHaConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file

from rrm.core.errors import ModelError
from rrm.exchange.trl import load_reward
from rrm.models.backbone import Backbone
from tests.models.conftest import VOCABULARY, tokenizer
from tests.models.spoiled import CONFIGS, CORRUPTIONS, GROUPS, SHAPE, drop, edit, refused, saved, scores, settings

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning:transformers")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(tmp_path / "llama", CONFIGS["llama"]())


def adapted(folder: Path, base: Path, config: Any, change: Callable[[Any], None] = lambda base: None) -> torch.Tensor:
    """An adapter of the base, with weights that count; the scores that PEFT itself gives."""
    start = tf.AutoModelForCausalLM.from_pretrained(base)
    change(start)
    config.base_model_name_or_path = str(base)
    made = get_peft_model(start, config).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for p in made.parameters():
            if p.requires_grad:
                p.data += torch.randn(p.shape) * 0.3
    made.save_pretrained(folder)
    out = []
    for segment in GROUPS[0].segments:
        ids = [*GROUPS[0].prefix, *segment]
        with torch.no_grad():
            logits = made(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        out.append(logits[len(GROUPS[0].prefix) - 1 : -1].gather(1, torch.tensor(segment)[:, None])[:, 0])
    return torch.cat(out)


LORA = dict(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "down_proj"])
MERGED: dict[str, Callable[[], Any]] = {
    "lora": lambda: LoraConfig(**LORA),
    "every linear": lambda: LoraConfig(**{**LORA, "target_modules": "all-linear"}),
    "no task": lambda: LoraConfig(**{**LORA, "task_type": None}),
    "dora": lambda: LoraConfig(**LORA, use_dora=True),
    "rslora": lambda: LoraConfig(**LORA, use_rslora=True, lora_alpha=7),
    "ranks of their own": lambda: LoraConfig(**LORA, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 9}),
    "a norm": lambda: LoraConfig(**{**LORA, "target_modules": ["lm_head"]}, modules_to_save=["norm"]),
    "head": lambda: LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "embedding": lambda: LoraConfig(**{**LORA, "target_modules": ["embed_tokens", "lm_head"]}),
    "tokens": lambda: LoraConfig(**LORA, trainable_token_indices=[5, 6, 30]),
    "ia3": lambda: IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"],
                             feedforward_modules=["down_proj"]),
    "pissa": lambda: LoraConfig(**LORA, init_lora_weights="pissa"),
    "olora": lambda: LoraConfig(**LORA, init_lora_weights="olora"),
    "all biases": lambda: LoraConfig(**LORA, bias="all", lora_dropout=0.5),
    "parameters": lambda: LoraConfig(r=2, task_type="CAUSAL_LM", target_parameters=["mlp.up_proj.weight"]),
    "adalora": lambda: peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], total_step=10),
    "oft": lambda: peft.OFTConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=0, oft_block_size=4),
    "vera": lambda: peft.VeraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=4),
    "miss": lambda: peft.MissConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=4),
    "loha": lambda: LoHaConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGED)
def test_an_adapter_folder_is_its_base_with_the_adapter_in_it(name: str, llama: Path, tmp_path: Path) -> None:
    """huggingface/trl#4723: the fine-tuning was lost wherever our own adapters are switched off."""
    theirs = adapted(tmp_path / "sft", llama, MERGED[name]())
    bare = Backbone.load(str(llama), adapters="lora")
    for adapters in ("lora", "full"):
        b = Backbone.load(str(tmp_path / "sft"), adapters=adapters)  # type: ignore[arg-type]
        torch.testing.assert_close(scores(b), theirs, atol=1e-4, rtol=1e-4)
        before = scores(b)
        fork = b.fork("agent")
        with torch.no_grad():
            assert torch.equal(torch.cat(fork.logprobs(GROUPS)[0]), before)
        assert torch.equal(scores(b), before), "the reference is the fine-tuned model"
        fork.close()
        assert torch.equal(scores(b), before)
        assert (before - scores(bare)).abs().max() > 1e-3
        assert b.fingerprint != bare.fingerprint
        assert [n for n, _ in b._weights] == [n for n, _ in bare._weights]
    b.model.save_pretrained(tmp_path / "whole")  # and it is a plain model, as if it had been merged by hand
    b.tokenizer.save_pretrained(tmp_path / "whole")
    again = Backbone.load(str(tmp_path / "whole"))
    assert again.fingerprint == b.fingerprint and torch.equal(scores(again), scores(b))


def test_an_adapter_of_a_resized_base(llama: Path, tmp_path: Path) -> None:
    grow = lambda base: base.resize_token_embeddings(VOCABULARY + 4, mean_resizing=False)  # noqa: E731
    theirs = adapted(tmp_path / "grown", llama, LoraConfig(**LORA), grow)
    longer = tokenizer()
    longer.add_tokens([f"w{VOCABULARY + i}" for i in range(4)])
    longer.save_pretrained(tmp_path / "grown")
    for _ in range(2):  # the new rows are those that were saved, not drawn anew
        b = Backbone.load(str(tmp_path / "grown"))
        assert b.vocabulary == VOCABULARY + 4
        torch.testing.assert_close(scores(b), theirs, atol=1e-4, rtol=1e-4)
    edit(tmp_path / "grown", lambda s: drop(s, "base_model.model.lm_head.weight"), "adapter_model.safetensors")
    refused(tmp_path / "grown", "44 rows", "random")


def test_an_adapter_on_an_adapter_and_its_tokenizer(llama: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    adapted(first, llama, LoraConfig(**LORA))
    b = Backbone.load(str(first))
    b.model.save_pretrained(tmp_path / "merged")
    theirs = adapted(tmp_path / "second", tmp_path / "merged", LoraConfig(**LORA))
    settings(tmp_path / "second", "adapter_config.json", base_model_name_or_path=str(first))
    b = Backbone.load(str(tmp_path / "second"))
    torch.testing.assert_close(scores(b), theirs, atol=1e-4, rtol=1e-4)
    assert len(b.tokenizer) == VOCABULARY  # the base's; its own where it has one
    chat = tokenizer(chat=True)
    chat.save_pretrained(tmp_path / "second")
    assert Backbone.load(str(tmp_path / "second")).tokenizer.chat_template


UNMERGED: dict[str, tuple[Callable[[], Any], str]] = {
    "from a token on": (lambda: LoraConfig(**LORA, alora_invocation_tokens=[5, 6]), "does not support merging"),
    "layers used twice": (lambda: LoraConfig(**LORA, layer_replication=[[0, 2], [1, 2]]), "gives other logits"),
    "a bias where there is none": (lambda: LoraConfig(**LORA, lora_bias=True), "no bias"),
    "a random decomposition": (lambda: LoraConfig(**LORA, init_lora_weights="pissa_niter_4"), "at each load"),
}


@pytest.mark.parametrize("name", UNMERGED)
def test_an_adapter_that_merged_would_be_another_is_refused(name: str, llama: Path, tmp_path: Path) -> None:
    make, word = UNMERGED[name]
    adapted(tmp_path / "a", llama, make())
    refused(tmp_path / "a", "an adapter of", word, "plain LoRA")


@pytest.mark.parametrize("name", ["prompt", "prefix", "classifier"])
def test_an_adapter_that_is_no_change_of_a_language_model_is_refused(name: str, llama: Path, tmp_path: Path) -> None:
    if name == "classifier":
        start = tf.LlamaForSequenceClassification.from_pretrained(llama, num_labels=1)
        config: Any = LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["q_proj"], modules_to_save=["score"])
        config.base_model_name_or_path = str(llama)
        get_peft_model(start, config).save_pretrained(tmp_path / "a")
        refused(tmp_path / "a", "SEQ_CLS", "load_reward")
        return
    kind = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig}[name]
    config = kind(task_type="CAUSAL_LM", num_virtual_tokens=2)
    config.base_model_name_or_path = str(llama)
    get_peft_model(tf.AutoModelForCausalLM.from_pretrained(llama), config).save_pretrained(tmp_path / "a")
    refused(tmp_path / "a", "cannot be merged", {"prompt": "PROMPT_TUNING", "prefix": "PREFIX_TUNING"}[name])


@pytest.mark.parametrize("how", ["drop", "rename", "shorten", "nan", "add"])
def test_whatever_is_corrupted_of_an_adapter_it_is_refused(how: str, llama: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "sft", "adapter_model.safetensors"
    adapted(folder, llama, LoraConfig(**LORA))
    whole = (folder / file).read_bytes()
    for tensor in load_file(folder / file):
        (folder / file).write_bytes(whole)
        edit(folder, lambda state, tensor=tensor: CORRUPTIONS[how](state, tensor), file)
        refused(folder, str(folder))


def test_an_adapter_whose_base_is_not_there_or_not_its_own(llama: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "sft", "adapter_config.json"
    adapted(folder, llama, LoraConfig(**LORA))
    settings(folder, file, base_model_name_or_path=str(tmp_path / "gone"))
    refused(folder, str(tmp_path / "gone"), "not there", "base_model_name_or_path")
    settings(folder, file, base_model_name_or_path="nobody/such-base")
    refused(folder, "an adapter of 'nobody/such-base'", "base_model_name_or_path")
    settings(folder, file, revision="v2")  # transformers would take the newest
    refused(folder, "'nobody/such-base' in revision 'v2'", "fetch that one")
    settings(folder, file, revision=None)
    for none in (None, "", 3):
        settings(folder, file, base_model_name_or_path=none)
        refused(folder, "names no base_model_name_or_path")
    settings(folder, file, base_model_name_or_path=str(folder))
    refused(folder, "is itself")
    wider = saved(tmp_path / "wider", tf.LlamaConfig(**{**SHAPE, "hidden_size": 32}))
    settings(folder, file, base_model_name_or_path=str(wider))
    refused(folder, "size mismatch")
    deeper = saved(tmp_path / "deeper", tf.LlamaConfig(**{**SHAPE, "num_hidden_layers": 3}))
    settings(folder, file, base_model_name_or_path=str(deeper))
    refused(folder, "lacks", "layers.2")
    shallow = saved(tmp_path / "shallow", tf.LlamaConfig(**{**SHAPE, "num_hidden_layers": 1}))
    settings(folder, file, base_model_name_or_path=str(shallow))
    refused(folder, "holds", "layers.1")
    edit(llama, lambda s: drop(s, "lm_head.weight"))
    settings(folder, file, base_model_name_or_path=str(llama))
    refused(folder, "lacks lm_head.weight")


def test_an_adapter_that_is_doubtful_is_refused(llama: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "sft", "adapter_config.json"
    adapted(folder, llama, LoraConfig(**LORA))
    settings(folder, file, new_in_the_next_version=None)
    Backbone.load(str(folder))  # what is off changes nothing
    settings(folder, file, new_in_the_next_version=0.5)
    refused(folder, "new_in_the_next_version", "update peft")
    settings(folder, file, new_in_the_next_version=None, peft_type="NOSUCH")
    refused(folder, "NOSUCH")
    settings(folder, file, peft_type="LORA")
    shutil.copy(llama / "config.json", folder)  # some trainers put it there: still an adapter
    want = scores(Backbone.load(str(folder)))
    shutil.copy(llama / "model.safetensors", folder)
    refused(folder, "both a whole model and an adapter")
    os.remove(folder / "model.safetensors")
    assert torch.equal(scores(Backbone.load(str(folder))), want)
    os.remove(folder / "adapter_model.safetensors")
    refused(folder, "adapter_model")


def test_a_reward_model_s_adapter_is_checked_alike(llama: Path, tmp_path: Path) -> None:
    start = tf.LlamaForSequenceClassification.from_pretrained(llama, num_labels=1)
    start.config.pad_token_id = 2
    config = LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["q_proj"], modules_to_save=["score"])
    config.base_model_name_or_path = str(llama)
    folder, file = tmp_path / "rm", "adapter_model.safetensors"
    get_peft_model(start, config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    load_reward(folder)
    whole = (folder / file).read_bytes()
    for how in ("drop", "nan", "rename"):
        for tensor in load_file(folder / file):
            (folder / file).write_bytes(whole)
            edit(folder, lambda state, tensor=tensor, how=how: CORRUPTIONS[how](state, tensor), file)
            with pytest.raises(ModelError):
                load_reward(folder)
    (folder / file).write_bytes(whole)
    edit(llama, lambda s: drop(s, "model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelError, match="up_proj"):
        load_reward(folder)
