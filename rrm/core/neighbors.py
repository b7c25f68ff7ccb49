"""Modules that are not on Python's path: a tree's file, by a name that collides with nothing, and what lies beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from rrm.core.errors import TaskError


class Neighbors:
    """Where imports look last of all, so that what lies there hides nothing: neither of the standard library, nor
    installed, nor installed as editable (which is found later than anything on `sys.path`).

    Attributes
    ----------
    folders: where imports look.
    files: module -> its file, for those that were loaded by path (a package's is its __init__.py). What a task says of
        its functions is the name of their module: another process that is shown these finds them.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.files: dict[str, str] = {}

    def show(self, *folders: Path, files: Mapping[str, str] | None = None) -> None:
        """Look in these folders, too, from now on: functions of a tree may import when they are called."""
        self.folders.extend(str(folder) for folder in folders if str(folder) not in self.folders)
        self.files.update(files or {})
        if self not in sys.meta_path:
            sys.meta_path.append(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python's finders do; of what is within a package, its package knows. Raises `TaskError` for a tree's file
        that is not there."""
        if (file := self.files.get(name)) is not None:
            if not Path(file).is_file():
                raise TaskError(f"{file} is not there; let every machine see it at this path, or install it")
            within = [str(Path(file).parent)] if Path(file).name == "__init__.py" else None
            return spec_from_file_location(name, file, submodule_search_locations=within)
        return PathFinder.find_spec(name, self.folders, target) if path is None else None


NEIGHBORS = Neighbors()
