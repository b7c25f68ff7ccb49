"""Whose line was it? The place in somebody's own file where an error arose, for a message without a traceback."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import FrameType

OURS = ("rrm", "rrm_assistants")
"""Packages whose frames lead to a mistake more often than they make it."""


def _folders(*names: str) -> tuple[str, ...]:
    """As Python has them, and without links."""
    found = [sysconfig.get_paths()[name] for name in names]
    return (*found, *(str(Path(path).resolve()) for path in found))


_STANDARD = _folders("stdlib", "platstdlib")
_LIBRARIES = (*_STANDARD, *_folders("purelib", "platlib"))


def place_of(error: BaseException) -> str:
    """ "clerk.py, line 191": the innermost frame in a file of somebody's own, which is neither ours nor of what is
    installed; else the innermost in the package that our code called. Empty if all happened in ours."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{_shown(error.filename)}, line {error.lineno}"
    return own_place(error) or _installed(error)


def own_place(error: BaseException) -> str:
    """The same, of files that are not installed only: what their author can open and mend."""
    lines = [(frame, line) for frame, line in _frames(error) if not _file(frame).startswith(_LIBRARIES)]
    return _said([(frame, line) for frame, line in lines if _package(frame) not in OURS])


def at(error: BaseException) -> str:
    """The place in brackets behind what an error says; empty if it is not known."""
    return f" ({found})" if (found := place_of(error)) else ""


def _installed(error: BaseException) -> str:
    """In a package that is installed (a tree that a distribution brings): the first that ours called."""
    found = [(frame, line) for frame, line in _frames(error) if _package(frame) != OURS[0]]
    # Site-packages lie within the standard library's folder.
    found = [one for one in found if not _file(one[0]).startswith(_STANDARD) or "-packages" in _file(one[0])]
    return _said([one for one in found if _package(one[0]) == _package(found[0][0])])


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    """Outermost first, without those of generated code (of data classes, say), which no file has."""
    return [
        (frame, line) for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(("<frozen", "<string"))
    ]  # fmt: skip


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


def _said(frames: list[tuple[FrameType, int]]) -> str:
    return f"{_shown(_file(frames[-1][0]))}, line {frames[-1][1]}" if frames else ""


def _shown(file: str) -> str:
    """From the current folder where it lies in that, as it would be typed."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
