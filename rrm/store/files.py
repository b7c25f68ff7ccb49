"""Files that are whole or not there, and are what they were when they were written."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from rrm.core.errors import RunError
from rrm.core.interrupts import interrupts_held


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
    write_together({path: body})


def write_together(bodies: Mapping[Path, bytes]) -> None:
    """Either all these files are there, whole and on disk, or all that was there before: no full disk and no Ctrl-C
    leaves some of either, but a kill or a loss of power while they are given their names can."""
    part = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in bodies}  # no other process's
    named, path = False, Path()
    try:
        for path, body in bodies.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with part[path].open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        named = True
        for path, temporary in part.items():
            temporary.replace(path)
        for folder in {path.parent for path in bodies} if os.name == "posix" else ():
            _on_disk(folder)  # the new name, too, must be there before run.db speaks of it
    except OSError as error:
        _removed(part.values())
        raise RunError(f"cannot write {path} ({error}); nothing judged is lost: make room and run again") from error
    except BaseException:  # Ctrl-C: none, or the rest as well
        for path, temporary in part.items() if named else ():
            if temporary.exists():
                temporary.replace(path)
        _removed(part.values())
        raise


def _on_disk(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _removed(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


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
        with interrupts_held():  # a second Ctrl-C must not leave it there
            shutil.rmtree(above, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left half done. Only for whoever is alone in writing here."""
    for path in folder.rglob(".*.part"):
        if re.search(r"\.\d+\.part$", path.name):
            with suppress(OSError):
                path.unlink(missing_ok=True)
