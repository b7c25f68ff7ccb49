"""Trees by name, file or module: `rrm check paper`, `rrm check ./mine.py`, `rrm check my_package.tree`.

Names are the entry points of the group `rrm.trees`: the package's own trees, and those of any distribution that adds to
it. What has a slash or ends in .py is a file; anything else is a name if there is one, else a module. So `paper` never
means the paper.py of the current folder: that is paper.py, or ./paper.py.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from rrm.core.blame import place_of
from rrm.core.errors import TaskError
from rrm.core.neighbors import NEIGHBORS
from rrm.core.settings import SettingError
from rrm.core.spelling import nearest
from rrm.core.task import Task
from rrm.core.version import NAME

GROUP = "rrm.trees"


@dataclass(frozen=True)
class NamedTree:
    """A tree that a distribution brings. Of several of one name, ours counts, else the first that is found."""

    name: str
    distribution: str
    """Its name and version."""
    entry: EntryPoint

    def load(self) -> Task:
        """The task. Raises `TaskError` if it cannot be imported, or is neither a task nor a function that makes one."""
        found = called(self.entry.value, self.entry.load)
        if callable(found) and not isinstance(found, Task):
            found = called(self.entry.value, found)
        if isinstance(found, Task):
            return found
        raise TaskError(
            f"the tree {self.name!r} of {self.distribution} ({self.entry.value}) is a {type(found).__name__}, not a "
            "Task; let its entry point name a Task, or a function without arguments that returns one"
        )


def named_trees() -> dict[str, NamedTree]:
    """The trees there are by name, in order."""
    found: dict[str, NamedTree] = {}
    for one in _advertised():
        found.setdefault(one.name, one)
    return found


def tried() -> Iterator[tuple[NamedTree, Task | TaskError]]:
    """Every tree that any distribution names, loaded, or why it cannot be: its own fault, or its name is taken."""
    first = named_trees()
    for one in _advertised():
        try:
            if one != first[one.name]:
                raise TaskError(f"{first[one.name].distribution} has a tree of this name, and comes first")
            yield one, one.load()
        except TaskError as error:
            yield one, error


def _advertised() -> list[NamedTree]:
    """By name; of several of one name ours first, then in the order of the path."""
    found = [
        NamedTree(entry.name, f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "?", entry)
        for entry in entry_points(group=GROUP)
    ]
    return sorted(found, key=lambda one: (one.name, one.entry.dist is None or one.entry.dist.name != NAME))


def load_task(tree: str) -> Task:
    """The task of a name ("paper"), a Python file that defines `task` ("./mine.py"), or a module that does.

    A file may import what lies in its folder, and in that folder's parent; a module, what lies in the current folder.
    Both come after everything that is installed. Raises `TaskError` if there is no such tree, if it fails, or has no
    `task`.
    """
    path = Path(tree)
    if path.suffix == ".py" or "/" in tree or len(path.parts) > 1:
        return _task_of(tree, _from_file(path))
    if (named := named_trees().get(tree)) is not None:
        return named.load()
    return _task_of(tree, _from_name(tree), _beside(tree))


def _task_of(tree: str, module: ModuleType, hint: str = "") -> Task:
    task = getattr(module, "task", None)
    if isinstance(task, Task):
        return task
    trees = {name: value for name, value in vars(module).items() if isinstance(value, Task)}
    mend = f"`task = {_root_among(trees)}` would do" if trees else "end it with `task = Task(...)`"
    found = "it defines no `task`" if task is None else f"its `task` is a {type(task).__name__}, not a Task"
    raise TaskError(f"{tree}: {found}; {mend}{hint}")


def _root_among(trees: Mapping[str, Task]) -> str:
    """The name of what is most likely meant: nobody's assistant, with cases, with assistants; then the last."""
    below = [id(sub) for task in trees.values() for sub in task.subtasks]

    def rank(name: str) -> tuple[bool, bool, bool]:
        task = trees[name]
        return id(task) not in below, task.cases is not None, bool(task.assistants)

    return max(reversed(list(trees)), key=rank)


def of_file(path: Path) -> ModuleType:
    """The module of a file, which may be that of a tree that was loaded: then it is not run once more, so that what it
    defines is one thing. Raises `TaskError`."""
    loaded = [name for name, file in NEIGHBORS.files.items() if file == str(path.resolve()) and name in sys.modules]
    return sys.modules[loaded[-1]] if loaded and path.is_file() else _from_file(path, "defines who judges")


def _from_file(path: Path, what: str = "defines `task`") -> ModuleType:
    """The module of a file, under a name that collides with nothing; one of a package, in a package of such a name."""
    if not path.is_file():
        raise TaskError(_no_file(path, what))
    path = path.resolve()
    NEIGHBORS.show(path.parent, path.parent.parent)
    own = f"rrm_tree_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]}"
    within = path.with_name("__init__.py")
    if not within.is_file():
        return _execute(f"{own}_{path.stem}", path)
    if path == within or own not in sys.modules:
        package = _execute(own, within, [str(path.parent)])
        if path == within:
            return package
    return _execute(f"{own}.{path.stem}", path)


def _no_file(path: Path, wanted: str) -> str:
    what = "is a folder" if path.is_dir() else "no such file"
    if path.stem in named_trees():  # tasks/paper.py, where there is no checkout
        near = f"; did you mean the tree {path.stem!r}?"
    else:
        beside = path if path.is_dir() else path.parent
        near = nearest(str(path), (str(other) for other in beside.glob("*.py") if other.name != "__init__.py"))
    names = ", or a name: `rrm trees` lists them" if "`task`" in wanted else ""
    return f"{path}: {what}{near}; give a Python file that {wanted}{names}"


def _execute(name: str, path: Path, within: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=within)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path}: not a Python file; give one that ends in .py")
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        called(str(path), lambda: loader.exec_module(module))
    except TaskError as error:
        del sys.modules[name]
        raise TaskError(f"{error}{_hidden(error.__cause__, path.parent)}") from error.__cause__
    NEIGHBORS.files[name] = str(path)  # for other processes
    return module


def _hidden(error: BaseException | None, folder: Path) -> str:
    """What to do about a neighbor that was not found because something installed has its name."""
    name = error.name.partition(".")[0] if isinstance(error, ImportError) and error.name else None
    where = getattr(sys.modules.get(name or ""), "__file__", None)
    here = next((one for one in (f"{name}.py", f"{name}/__init__.py") if (folder / one).is_file()), None)
    if name is None or where is None or here is None or Path(where) == folder / here:
        return ""
    return (
        f"\n{name!r} is {where} there, not {folder / here}: what is installed comes first. Give yours another name, or "
        f"put an empty __init__.py into its folder and say `from . import {name}`."
    )


def _from_name(name: str) -> ModuleType:
    NEIGHBORS.show(Path.cwd())
    try:
        return called(name, lambda: importlib.import_module(name))
    except TaskError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            known = named_trees()
            raise TaskError(
                f"{name}: no such tree or module{nearest(name, known)}{_beside(name)}\n"
                f"Give a name ({', '.join(known)}; `rrm trees` says more), a Python file that defines `task` "
                "(./mine.py), or a module that does."
            ) from error
        raise


def _beside(name: str) -> str:
    """A hint, if the current folder has a file that may have been meant."""
    file = Path(name.replace(".", "/") + ".py")
    return f"; for the file give {file if len(file.parts) > 1 else f'./{file}'}" if file.is_file() else ""


Loaded = TypeVar("Loaded")


def called(what: str, load: Callable[[], Loaded], failed: str = "it cannot be imported") -> Loaded:
    """Run a tree's own code, which may raise anything; a failure says which line of the file led to it."""
    try:
        return load()
    except BaseException as error:
        if isinstance(error, SettingError) and error.where:
            raise TaskError(str(error)) from error
        if not isinstance(error, KeyboardInterrupt):
            file, _, line = place_of(error).rpartition(", line ")
            own = Path(file).name == Path(what).name
            said = isinstance(error, SyntaxError) or not line  # by itself, or not known
            beside = "" if said else f" ({file}, line {line})"
            at = f", line {line}" if own and line else beside
            raise TaskError(f"{what}{at}: {failed}: {type(error).__name__}: {error}") from error
        raise
