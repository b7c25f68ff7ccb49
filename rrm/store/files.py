"""Files that are whole or not there, and are what they were when they were written."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from rrm.core.errors import RunError


def file_name(node: str) -> str:
    """A node's path as the name of a file: no two nodes have the same."""
    return node.replace("%", "%25").replace("~", "%7E").replace("/", "~")


def read_checked(path: Path, sha256: str) -> bytes:
    """A file's content. Raises `RunError` if it is not what was saved."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} is recorded in run.db but cannot be read ({error}); restore it from a copy") from error
    if hashlib.sha256(body).hexdigest() != sha256:
        raise RunError(f"{path} is not the file that was saved (its hash differs); restore it from a copy")
    return body


def write_atomically(path: Path, body: bytes) -> None:
    """Either the whole file is there, on disk, or none of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")  # no other process's
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        if os.name == "posix":  # the new name, too, must be on disk before run.db speaks of it
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path} ({error}); nothing judged is lost: make room and run again") from error


def refuse_existing(folder: Path) -> None:
    """Raises `RunError` if something of this name is there, a link that leads nowhere too."""
    if folder.exists() or folder.is_symlink():
        raise RunError(f"{folder} is there already; name another folder, or remove it")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """What is written into the folder that this yields, still to be made and of the same name, is `folder` if all went
    well, and gone if not. Raises `RunError` if `folder` is there already, before or after, or cannot be made."""
    refuse_existing(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        above = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise RunError(f"cannot write {folder} ({error})") from error
    part = above / folder.name
    try:
        yield part
        refuse_existing(folder)  # POSIX would rename onto an empty one
        part.rename(folder)
    finally:
        shutil.rmtree(above, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left half done. Only for whoever is alone in writing here."""
    for path in folder.rglob(".*.part"):
        if re.search(r"\.\d+\.part$", path.name):
            with suppress(OSError):
                path.unlink(missing_ok=True)
