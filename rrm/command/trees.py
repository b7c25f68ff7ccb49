"""Trees by name, file or module: `rrm check paper`, `rrm check ./mine.py`, `rrm check my_package.tree`.

Names are the entry points of the group `rrm.trees`: the package's own trees, and those of any distribution that adds to
it. What has a slash or ends in .py is a file; anything else is a name if there is one, else a module.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from rrm.core.errors import RRMError, TaskError
from rrm.core.task import Task
from rrm.core.version import NAME

GROUP = "rrm.trees"
BROKEN = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RRMError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
"""What a tree's file with a mistake in it raises when it is imported."""


@dataclass(frozen=True)
class NamedTree:
    """A tree that a distribution brings. Of several of one name, ours counts, else the first that is found."""

    name: str
    distribution: str
    """Its name and version."""
    entry: EntryPoint

    def load(self) -> Task:
        """The task. Raises `TaskError` if it cannot be imported, or is neither a task nor a function that makes one."""
        found = _running(self.entry.value, self.entry.load)
        if callable(found) and not isinstance(found, Task):
            found = _running(self.entry.value, found)
        if isinstance(found, Task):
            return found
        raise TaskError(
            f"the tree {self.name!r} of {self.distribution} ({self.entry.value}) is a {type(found).__name__}, not a "
            "Task; mend its entry point"
        )


def named_trees() -> dict[str, NamedTree]:
    """The trees there are by name, in order."""
    found: dict[str, NamedTree] = {}
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.dist is None or entry.dist.name != NAME)
    for entry in entries:  # ours first
        where = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "?"
        found.setdefault(entry.name, NamedTree(entry.name, where, entry))
    return dict(sorted(found.items()))


def load_task(tree: str) -> Task:
    """The task of a name ("paper"), a Python file that defines `task` ("./mine.py"), or a module that does.

    A file's folder and that folder's parent become importable, after everything that is installed: its neighbors are
    found, and hide nothing. Raises `TaskError` if there is no such tree, if it fails, or has no `task`.
    """
    path = Path(tree)
    if path.suffix == ".py" or "/" in tree or len(path.parts) > 1:
        return _task_of(tree, _from_file(path))
    if (named := named_trees().get(tree)) is not None:
        return named.load()
    return _task_of(tree, _from_name(tree))


def _task_of(tree: str, module: ModuleType) -> Task:
    task = getattr(module, "task", None)
    if isinstance(task, Task):
        return task
    trees = {name: value for name, value in vars(module).items() if isinstance(value, Task)}
    others = [name for name, value in trees.items() if value.cases is not None] or list(trees)  # a root, if there is
    hint = f"`task = {others[-1]}` would do" if others else "end it with `task = Task(...)`"
    found = "it defines no `task`" if task is None else f"its `task` is a {type(task).__name__}, not a Task"
    raise TaskError(f"{tree}: {found}; {hint}")


def _from_file(path: Path) -> ModuleType:
    """The module of a file, under a name that collides with nothing; one of a package, in a package of such a name."""
    if not path.is_file():
        nearby = sorted(str(other) for other in path.parent.glob("*.py") if other.name != "__init__.py")
        near = nearest(str(path), nearby)
        raise TaskError(f"{path}: no such file{near}; give a Python file that defines `task`, or a name: `rrm trees`")
    path = path.resolve()
    _make_importable(str(path.parent), str(path.parent.parent))
    own = f"rrm_tree_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]}"
    within = path.with_name("__init__.py")
    if within.is_file() and own not in sys.modules:
        _execute(own, within, [str(path.parent)])
    return _execute(f"{own}.{path.stem}" if within.is_file() else f"{own}_{path.stem}", path)


def _execute(name: str, path: Path, within: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=within)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path}: not a Python file; give one that ends in .py")
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        _running(str(path), lambda: loader.exec_module(module))
    except TaskError:
        del sys.modules[name]
        raise
    return module


def _from_name(name: str) -> ModuleType:
    _make_importable("")
    try:
        return _running(name, lambda: importlib.import_module(name))
    except TaskError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            known = named_trees()
            beside = f"; for the file give ./{name}.py" if Path(f"{name}.py").is_file() else ""
            raise TaskError(
                f"{name}: no such tree or module{nearest(name, known)}{beside}\nGive a name ({', '.join(known)}; "
                "`rrm trees` says more), a Python file that defines `task` (./mine.py), or a module that does."
            ) from error
        raise


def _make_importable(*folders: str) -> None:
    """Last on the path, so that nothing of the standard library, nor anything installed, is hidden by what is there."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


Loaded = TypeVar("Loaded")


def _running(what: str, load: Callable[[], Loaded]) -> Loaded:
    """Run the code of a tree's file; a failure says which line of the file led to it."""
    try:
        return load()
    except BROKEN as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).name == Path(what).name]
        line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
        at = f", line {line}" if line else ""
        raise TaskError(f"{what}{at}: it cannot be imported: {type(error).__name__}: {error}") from error


def nearest(name: str, names: Iterable[str]) -> str:
    """Names that may have been meant: "; did you mean ...?", or nothing."""
    by_end = {end: path for path in names for end in (path.rsplit("/", 1)[-1], path)}
    close = difflib.get_close_matches(name, by_end, n=3, cutoff=0.55)
    found = list(dict.fromkeys(by_end[end] for end in close))
    return f"; did you mean {' or '.join(repr(one) for one in found)}?" if found else ""


def described() -> Iterator[tuple[str, str, str]]:
    """(name, what it is, where it is from) of every named tree; one that cannot be loaded says why."""
    for one in named_trees().values():
        try:
            task = one.load()
            nodes = sum(1 for _ in task.walk())
            what = f"{task.instruction} ({nodes} nodes)"
        except TaskError as error:
            what = f"error: {error}"
        yield one.name, what, one.distribution
