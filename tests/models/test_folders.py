"""A model folder is read whole, or refused: whatever is wrong with it, it scores exactly as before or says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from torch.serialization import save as old_format  # what others wrote; rrm itself never does

from rrm.core.errors import ModelError
from rrm.models.backbone import Backbone
from rrm.models.folders import check_finite, said
from tests.models.conftest import VOCABULARY, tokenizer
from tests.models.spoiled import CONFIGS, CORRUPTIONS, PLAIN, SHAPE, edit, model, refused, saved, scores, settings


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(tmp_path / "llama", CONFIGS["llama"]())


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
            old_format(made.state_dict(), folder / "pytorch_model.bin")
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


@pytest.mark.parametrize("junk", ["", "{", "[1]", "garbage"])
def test_a_broken_generation_config_is_refused(llama: Path, junk: str) -> None:
    """transformers passes over it, and the tokens that it says the model ends with."""
    (llama / "generation_config.json").write_text(junk)
    refused(llama, "generation_config.json")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_a_cut_file_is_refused(llama: Path, file: str) -> None:
    if file.endswith(".bin"):
        old_format(load_file(llama / "model.safetensors"), llama / file)
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
                   dict(rope_parameters={"rope_type": "nosuch"}), dict(architectures=3)):  # fmt: skip
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


def test_a_long_error_is_cut(tmp_path: Path) -> None:
    assert len(said(ValueError("x " * 5000))) < 420 and said(KeyError()) == "KeyError"
