"""A model folder is read whole, or refused: whatever is wrong with it, it scores exactly as before or says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from peft import IA3Config, LoHaConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from rrm.core.errors import ModelError
from rrm.exchange.trl import load_reward
from rrm.models.backbone import Backbone
from rrm.models.folders import check_finite, said
from rrm.models.packing import PrefixGroup
from tests.models.conftest import VOCABULARY, tokenizer

SHAPE = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    vocab_size=VOCABULARY, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)  # fmt: skip
PLAIN = {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}
GROUPS = [PrefixGroup([5, 6, 7, 30], [[8, 9, 2], [10]])]
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaConfig(**SHAPE),
    "gpt2": lambda: tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=64,
                                  bos_token_id=1, eos_token_id=2),
    "untied neox": lambda: tf.GPTNeoXConfig(**PLAIN),
}  # fmt: skip


def model(config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = tf.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        for p in made.parameters():
            torch.nn.init.normal_(p, mean=float(p.dim() == 1), std=0.3)  # biases and norms count, too
    return made


def saved(folder: Path, config: Any, seed: int = 0) -> Path:
    model(config, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(tmp_path / "llama", CONFIGS["llama"]())


def scores(b: Backbone) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(b.start.logprobs(GROUPS)[0])


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], file: str = "model.safetensors") -> None:
    state = load_file(folder / file)
    change(state)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / file, metadata={"format": "pt"})


def settings(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path | str, *words: str) -> str:
    """It is refused, once and again, with all of these words, and nothing else is raised."""
    with pytest.raises(ModelError) as caught:
        Backbone.load(str(folder))
    text = str(caught.value)
    assert all(word in text for word in words), text
    return text


# --- whole -------------------------------------------------------------------------------------------


def drop(state: dict[str, torch.Tensor], name: str) -> None:
    del state[name]


def rename(state: dict[str, torch.Tensor], name: str) -> None:
    state[name + "_"] = state.pop(name)


def prefix(state: dict[str, torch.Tensor], name: str) -> None:
    state["base." + name] = state.pop(name)


def shorten(state: dict[str, torch.Tensor], name: str) -> None:
    state[name] = state[name][:-1]


def widen(state: dict[str, torch.Tensor], name: str) -> None:
    state[name] = state[name][None]


def spoil(value: float) -> Callable[[dict[str, torch.Tensor], str], None]:
    def change(state: dict[str, torch.Tensor], name: str) -> None:
        state[name].view(-1)[-1] = value

    return change


def add(state: dict[str, torch.Tensor], name: str) -> None:
    """One more of its kind: a layer or a bias that the config does not know of."""
    state[name.replace(".1.", ".2.") if ".1." in name else name + "2"] = state[name].clone()


CORRUPTIONS = {
    "drop": drop, "rename": rename, "prefix": prefix, "shorten": shorten, "widen": widen, "nan": spoil(float("nan")),
    "inf": spoil(float("inf")), "add": add,
}  # fmt: skip


@pytest.mark.parametrize("how", CORRUPTIONS)
@pytest.mark.parametrize("name", CONFIGS)
def test_whatever_tensor_is_corrupted_it_scores_the_same_or_is_refused(name: str, how: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, CONFIGS[name]())
    whole, before = (folder / "model.safetensors").read_bytes(), scores(Backbone.load(str(folder)))
    wrong, same = [], 0
    for tensor in load_file(folder / "model.safetensors"):
        (folder / "model.safetensors").write_bytes(whole)
        edit(folder, lambda state, tensor=tensor: CORRUPTIONS[how](state, tensor))
        try:
            now = scores(Backbone.load(str(folder)))
        except ModelError as error:
            known = (tensor, tensor.replace(".1.", ".2."), tensor.replace("embed_out", "lm_head"))
            if not any(one in str(error) for one in known):
                wrong.append(f"{tensor}: {error}")
            continue
        same += 1
        if not torch.equal(now, before):
            wrong.append(f"{tensor}: loaded, with other scores")
    assert not wrong
    assert not same or (name, how) == ("gpt2", "add"), "a change that changes nothing"  # c_attn.bias2 passes as a mask


def test_an_output_embedding_that_is_tied_need_not_be_stored(tmp_path: Path) -> None:
    """In a .bin both stand; one of them is enough, whichever."""
    tied, states = model(tf.LlamaConfig(**SHAPE, tie_word_embeddings=True)), {}
    state = {k: v.clone() for k, v in tied.state_dict().items()}
    for left_out in ("", "lm_head.weight", "model.embed_tokens.weight"):
        folder = tmp_path / f"without {left_out}"
        tied.config.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        save_file({k: v for k, v in state.items() if k != left_out}, folder / "model.safetensors", {"format": "pt"})
        states[left_out] = scores(Backbone.load(str(folder)))
    assert torch.equal(states[""], states["lm_head.weight"])
    assert torch.equal(states[""], states["model.embed_tokens.weight"])


def test_every_form_of_checkpoint_scores_the_same(llama: Path, tmp_path: Path) -> None:
    made, want = model(CONFIGS["llama"]()), scores(Backbone.load(str(llama)))
    for form in ("shards", "bin"):
        folder = saved(tmp_path / form, CONFIGS["llama"]())
        os.remove(folder / "model.safetensors")
        if form == "shards":
            made.save_pretrained(folder, max_shard_size="4KB")
            assert len([*folder.glob("*.safetensors")]) > 2
        else:
            torch.save(made.state_dict(), folder / "pytorch_model.bin")
        assert torch.equal(scores(Backbone.load(str(folder))), want), form
    for dtype in (torch.float16, torch.bfloat16):
        model(CONFIGS["llama"]()).to(dtype).save_pretrained(tmp_path / "half")
        tokenizer().save_pretrained(tmp_path / "half")
        half = scores(Backbone.load(str(tmp_path / "half")))
        assert half.dtype == torch.float32
        rounded = model(CONFIGS["llama"]())
        for p in rounded.parameters():
            p.data = p.data.to(dtype).float()  # what is lost is lost; no more than that
        assert torch.equal(half, scores(Backbone("half", rounded, tokenizer())))


def test_buffers_that_older_versions_stored_are_no_harm(llama: Path) -> None:
    want = scores(Backbone.load(str(llama)))
    edit(llama, lambda s: s.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert torch.equal(scores(Backbone.load(str(llama))), want)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_a_cut_file_is_refused(llama: Path, file: str) -> None:
    if file.endswith(".bin"):
        torch.save(load_file(llama / "model.safetensors"), llama / file)
        os.remove(llama / "model.safetensors")
    whole = (llama / file).read_bytes()
    for keep in (0, 1, 8, 100, len(whole) // 2, len(whole.rstrip()) - 1):
        (llama / file).write_bytes(whole[:keep])
        refused(llama, str(llama))
    for junk in (b"{}", b"[1]", b"garbage", b"\x80\x04", b"\x00" * 64):
        (llama / file).write_bytes(junk)
        refused(llama, str(llama))
    (llama / file).write_bytes(whole)
    Backbone.load(str(llama))


def test_a_missing_shard_and_a_pointer_are_named(llama: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "shards", CONFIGS["llama"]())
    os.remove(folder / "model.safetensors")
    model(CONFIGS["llama"]()).save_pretrained(folder, max_shard_size="4KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    held = shard.read_bytes()
    shard.unlink()
    refused(folder, shard.name)
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    refused(folder, shard.name, "git lfs pull")
    shard.write_bytes(held)
    Backbone.load(str(folder))


def test_weights_that_are_no_numbers_are_named_wherever_they_come_from(tiny: Any) -> None:
    made = model(CONFIGS["llama"]())
    made.model.layers[1].mlp.up_proj.weight.data[3, 3] = float("nan")
    with pytest.raises(ModelError, match=r"1 of 384 numbers in model\.layers\.1\.mlp\.up_proj\.weight are NaN"):
        Backbone("made here", made, tokenizer())
    for adapters in ("full", "lora"):
        fork = tiny(adapters).fork("agent")
        state = fork.state()
        name = next(iter(state))
        state[name].view(-1)[0] = float("inf")
        with pytest.raises(ModelError, match="NaN or infinite; take an earlier checkpoint"):
            fork.load(state)
    big = torch.full((4, 4), 3e38)  # its sum overflows; its numbers are numbers
    check_finite("x", [("big", big), ("ids", torch.tensor([1]))], "")


# --- the right kind ----------------------------------------------------------------------------------

VISION = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16,
              patch_size=8)  # fmt: skip
SMALL = {**PLAIN, "pad_token_id": 0}
KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "encoder": (lambda: tf.BertForMaskedLM(tf.BertConfig(**SMALL)), "encoder"),
    "encoder-decoder": (
        lambda: tf.T5ForConditionalGeneration(
            tf.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=VOCABULARY)
        ),
        "encoder with a decoder",
    ),
    "bart": (
        lambda: tf.BartForConditionalGeneration(
            tf.BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                          decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=VOCABULARY,
                          pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
                          forced_eos_token_id=None)
        ),
        "encoder with a decoder",
    ),
    "pictures": (
        lambda: tf.Gemma3ForConditionalGeneration(
            tf.Gemma3Config(text_config={**SHAPE, "head_dim": 8, "pad_token_id": 0}, vision_config=VISION,
                            mm_tokens_per_image=4, image_token_index=5, boi_token_index=6, eoi_token_index=7)
        ),
        "more than text",
    ),
    "smolvlm": (
        lambda: tf.SmolVLMForConditionalGeneration(
            tf.SmolVLMConfig(text_config={**SHAPE, "model_type": "llama"}, vision_config=VISION)
        ),
        "more than text",
    ),
    "qwen2-vl": (
        lambda: tf.Qwen2VLForConditionalGeneration(
            tf.Qwen2VLConfig(
                text_config={**SHAPE, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
                vision_config=dict(depth=1, embed_dim=16, hidden_size=16, num_heads=2),
            )
        ),
        "more than text",
    ),
    "classifier": (
        lambda: tf.LlamaForSequenceClassification(tf.LlamaConfig(**SHAPE, num_labels=1)), "load_reward"),
    "tied classifier": (
        lambda: tf.LlamaForSequenceClassification(tf.LlamaConfig(**SHAPE, num_labels=1, tie_word_embeddings=True)),
        "load_reward",
    ),
    "tagger": (lambda: tf.LlamaForTokenClassification(tf.LlamaConfig(**SHAPE)), "classifier"),
    "trunk": (lambda: tf.LlamaModel(tf.LlamaConfig(**SHAPE)), "lm_head.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_model_of_another_kind_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, word = KINDS[name]
    make().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, str(tmp_path), word)


@pytest.mark.parametrize("head", ["score.weight", "v_head.summary.weight"])
def test_a_head_that_would_be_left_out_is_named(llama: Path, head: str) -> None:
    edit(llama, lambda s: s.update({head: torch.zeros(1, 16)}))
    refused(llama, f"holds {head}, for which LlamaForCausalLM has no place")


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "mxfp4", "compressed-tensors"])
def test_quantized_weights_are_refused(llama: Path, method: str) -> None:
    settings(llama, quantization_config={"quant_method": method, "bits": 4})
    refused(llama, "quantized", method, "unquantized")


def test_code_in_a_folder_is_never_run_nor_asked_about(llama: Path, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(str(text)) or "y")
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\n"
    (llama / "modeling_mine.py").write_text(code)
    maps = {"AutoConfig": "modeling_mine.C", "AutoModelForCausalLM": "modeling_mine.M"}
    settings(llama, model_type="mine", auto_map=maps)
    refused(llama, "code of its own", "never run")
    settings(llama, model_type="llama")  # an architecture of transformers: its own code is there, and ours is used
    Backbone.load(str(llama))
    maps = {"AutoTokenizer": ["modeling_mine.T", None]}
    settings(llama, "tokenizer_config.json", tokenizer_class="Mine", auto_map=maps)
    try:
        Backbone.load(str(llama))
    except ModelError as error:
        assert "tokenizer" in str(error)
    assert not ran.exists() and not asked


def test_what_is_no_model_folder_says_what_to_give(llama: Path, tmp_path: Path) -> None:
    refused(llama / "model.safetensors", "it is a file", "the folder that it is in")
    gguf = tmp_path / "g" / "x.gguf"
    gguf.parent.mkdir()
    gguf.write_bytes(b"GGUF")
    refused(gguf, "GGUF", "dequantize=True")
    refused(gguf.parent, "GGUF", "dequantize=True")
    refused(tmp_path, "no config.json", "llama")  # the folders in it
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no config.json")
    for broken in (dict(hidden_size="16"), dict(num_hidden_layers=None), dict(num_attention_heads=0),
                   dict(hidden_act="nosuch"), dict(pad_token_id=9999), dict(vocab_size=-1), dict(torch_dtype="x"),
                   dict(model_type="nosuch"), dict(model_type=None), dict(model_type=["llama"]),
                   dict(rope_parameters={"rope_type": "nosuch"}), dict(architectures="LlamaForCausalLM")):  # fmt: skip
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(llama, folder)
        settings(folder, **broken)
        try:
            Backbone.load(str(folder))
        except ModelError as error:
            assert str(folder) in str(error)
        else:
            assert "architectures" in broken or "torch_dtype" in broken, broken


# --- tokenizers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        lambda: tf.LlamaConfig(**SHAPE), lambda: tf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=VOCABULARY),
        lambda: tf.Qwen2Config(**SHAPE), lambda: tf.GemmaConfig(**{**SHAPE, "pad_token_id": 0}, head_dim=8),
        lambda: tf.GPTNeoXConfig(**PLAIN), lambda: tf.MistralConfig(**SHAPE),
    ],
)  # fmt: skip
def test_a_folder_without_tokenizer_is_refused(config: Callable[[], Any], tmp_path: Path) -> None:
    """transformers makes an empty one for some architectures."""
    model(config()).save_pretrained(tmp_path)
    refused(tmp_path, "tokenizer", "save_pretrained")


def test_a_tokenizer_of_another_size_is_refused_unless_the_embedding_is_padded(tmp_path: Path) -> None:
    for rows in (VOCABULARY - 3, VOCABULARY - 1):
        saved(tmp_path / str(rows), tf.LlamaConfig(**{**SHAPE, "vocab_size": rows}))
        refused(tmp_path / str(rows), f"ids up to {VOCABULARY - 1}", f"{rows} rows", f"{VOCABULARY - rows} tokens")
    b = Backbone.load(str(saved(tmp_path / "padded", tf.LlamaConfig(**{**SHAPE, "vocab_size": 64}))))
    assert b.vocabulary == 64
    saved(tmp_path / "other", tf.LlamaConfig(**{**SHAPE, "vocab_size": 64, "eos_token_id": [2, 50]}))
    refused(tmp_path / "other", "eos_token_id 50", f"end at {VOCABULARY - 1}")


# --- adapters ----------------------------------------------------------------------------------------


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
    "biases": lambda: LoraConfig(**{**LORA, "target_modules": ["lm_head"]}, modules_to_save=["norm"]),
    "head": lambda: LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "embedding": lambda: LoraConfig(**{**LORA, "target_modules": ["embed_tokens", "lm_head"]}),
    "tokens": lambda: LoraConfig(**LORA, trainable_token_indices=[5, 6, 30]),
    "ia3": lambda: IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"],
                             feedforward_modules=["down_proj"]),
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


def test_a_long_error_is_cut(tmp_path: Path) -> None:
    assert len(said(ValueError("x " * 5000))) < 420 and said(KeyError()) == "KeyError"
