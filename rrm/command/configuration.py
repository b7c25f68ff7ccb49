"""From the command line to a tree and a user: load a tree's file, and set settings by name.

An assignment is `NODE.KEY=VALUE`. NODE is a node's path ("paper/proofs"), the end of one ("proofs",
"proofs/steps"), a pattern ("paper/*"; "*" is every node), or "user". Later assignments win. Everything
unknown is an error that says what there is.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rrm.core.errors import ConfigError, RRMError, TaskError
from rrm.core.task import Task
from rrm.core.validation import plant

Model = TypeVar("Model", bound=BaseModel)
BROKEN = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RRMError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
"""What a tree's file with a mistake in it raises when it is imported."""


# --- settings ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assignment:
    """`target.key=value`, as it was written."""

    target: str
    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """Raises `ConfigError` unless the text is NODE.KEY=VALUE."""
        name, equals, value = text.partition("=")
        target, dot, key = name.strip().rpartition(".")
        if not (equals and dot and target and key):
            raise ConfigError(
                f"--set {text!r}: write NODE.KEY=VALUE, such as paper/proofs.lr=1e-3 or '*.steps=4'"
            )
        return cls(target, key, value.strip())

    def matches(self, path: str) -> bool:
        """Whether the target means the node at this path."""
        return fnmatchcase(path, self.target) or path.endswith(f"/{self.target}")


def split(assignments: Iterable[str]) -> tuple[list[str], list[str]]:
    """(those for nodes, those for the user)."""
    texts = list(assignments)
    for_user = [text for text in texts if Assignment.parse(text).target == "user"]
    return [text for text in texts if text not in for_user], for_user


def configure(task: Task, assignments: Sequence[str]) -> Task:
    """The planted tree with these settings. Raises `ConfigError`; nothing is changed in place."""
    task = plant(task)
    wanted = [Assignment.parse(text) for text in assignments]
    trainable = _trainable(task)
    for one in wanted:
        if not any(one.matches(path) for path in trainable):
            finished = sorted({node.path for node in task.walk()} - set(trainable))
            if any(one.matches(path) for path in finished):
                raise ConfigError(
                    f"{one.target!r} is a finished assistant: its settings are what it was made with"
                )
            raise ConfigError(
                f"no node {one.target!r} in this tree{_near(one.target, trainable)}\nIts nodes:\n  "
                + "\n  ".join([*trainable, "user (who judges)"])
            )
    return _configured(task, wanted)


def _configured(task: Task, wanted: Sequence[Assignment]) -> Task:
    values = {one.key: one.value for one in wanted if one.matches(task.path)}
    return replace(
        task,
        settings=with_values(task.settings, values, task.path) if values else task.settings,
        assistants=tuple(
            _configured(sub, wanted) if isinstance(sub, Task) else sub for sub in task.assistants
        ),
    )


def _trainable(task: Task) -> list[str]:
    """Paths of the nodes to be trained, parents first."""
    below = [path for sub in task.assistants if isinstance(sub, Task) for path in _trainable(sub)]
    return [task.path, *below]


def configure_user(user: Model, assignments: Sequence[str]) -> Model:
    """The user with settings such as "user.attention=8". Raises `ConfigError`."""
    values = {one.key: one.value for one in map(Assignment.parse, assignments)}
    return with_values(user, values, "user") if values else user


def with_values(model: Model, values: Mapping[str, str], where: str) -> Model:
    """The model with values given as text; validated as a whole. Raises `ConfigError` naming `where`."""
    kind = type(model)
    for key in values:
        if key not in kind.model_fields:
            near = _near(key, kind.model_fields)
            raise ConfigError(f"{where}: no setting {key!r}{near}\nIts settings:\n{listing(kind)}")
    try:
        read = {key: json.loads(text) if text[:1] in ("{", "[") else text for key, text in values.items()}
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: {error.doc!r} is not JSON ({error})") from error
    try:
        return kind.model_validate({**model.model_dump(), **read})
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = str(fault["loc"][0]) if fault["loc"] else "settings"
            field = kind.model_fields.get(key)
            shown = values.get(key, "") if field is None or field.repr else "..."  # a secret, put there by mistake
            doc = f" ({_doc(field.description)})" if field is not None and field.description else ""
            faults.append(f"{where}.{key}={shown}: {fault['msg']}{doc}")
        raise ConfigError("\n".join(faults)) from error


def listing(kind: type[BaseModel]) -> str:
    """A model's settings, one a line, with default and documentation."""
    rows = [
        (key, field.get_default(call_default_factory=True), _doc(field.description))
        for key, field in kind.model_fields.items()
        if not callable(field.default)
    ]
    width = max(len(key) for key, _, _ in rows)
    return "\n".join(f"  {key:{width}}  {doc} (default {default})" for key, default, doc in rows)


def _doc(description: str | None) -> str:
    return " ".join((description or "").split())


def _near(name: str, names: Iterable[str]) -> str:
    """Names that may have been meant: "; did you mean ...?", or nothing."""
    by_end = {end: path for path in names for end in (path.rsplit("/", 1)[-1], path)}
    close = difflib.get_close_matches(name, by_end, n=3, cutoff=0.55)
    found = list(dict.fromkeys(by_end[end] for end in close))
    return f"; did you mean {' or '.join(repr(one) for one in found)}?" if found else ""


# --- trees -------------------------------------------------------------------------------------------


def load_task(tree: str) -> Task:
    """The `task` that a Python file ("tasks/paper.py") or module ("tasks.paper") defines.

    A file's folder and that folder's parent are importable while it loads, so `import assistants` finds the
    package beside tasks/. Raises `TaskError` if there is no such file, if it fails, or has no `task`.
    """
    path = Path(tree)
    if path.suffix == ".py" or path.exists() or len(path.parts) > 1:
        module = _from_file(path)
    else:
        module = _from_name(tree)
    task = getattr(module, "task", None)
    if isinstance(task, Task):
        return task
    others = [name for name, value in vars(module).items() if isinstance(value, Task)]
    hint = f"`task = {others[0]}` would do" if others else "end it with `task = Task(...)`"
    found = "it defines no `task`" if task is None else f"its `task` is a {type(task).__name__}, not a Task"
    raise TaskError(f"{tree}: {found}; {hint}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        nearby = sorted(str(other) for other in path.parent.glob("*.py") if other.name != "__init__.py")
        near = _near(str(path), nearby)
        raise TaskError(f"{path}: no such file{near}; give a Python file or module that defines `task`")
    folder = path.resolve().parent
    for place in (folder, folder.parent):
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
    name = f"{folder.name}.{path.stem}" if (folder / "__init__.py").exists() else f"rrm_tree_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path}: not a Python file; give one that ends in .py")
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        _running(str(path), lambda: loader.exec_module(module))
    except TaskError:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _from_name(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    try:
        return _running(name, lambda: importlib.import_module(name))
    except TaskError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise TaskError(f"{name}: no such file or module; give one that defines `task`") from error
        raise


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
