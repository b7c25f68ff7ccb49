"""From the command line to a tree's and a user's settings: set them by name.

An assignment is `NODE.KEY=VALUE`. NODE is a node's path ("paper/proofs"), the end of one ("proofs",
"proofs/steps"), a pattern ("paper/*"; "*" is every node), or "user". Later assignments win. Everything
unknown is an error that says what there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rrm.core.errors import ConfigError
from rrm.core.settings import SettingError
from rrm.core.spelling import nearest
from rrm.core.task import Task
from rrm.core.validation import plant

Model = TypeVar("Model", bound=BaseModel)


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
                f"no node {one.target!r} in this tree{nearest(one.target, trainable)}\nIts nodes:\n  "
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


def variables(assignments: Sequence[str]) -> dict[str, object]:
    """Variables for a chat template, such as "enable_thinking=false": JSON, or else a text. Raises `ConfigError`."""
    found: dict[str, object] = {}
    for one in assignments:
        key, equals, text = one.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--template {one}: give NAME=VALUE, such as enable_thinking=false")
        try:
            found[key] = json.loads(text)
        except json.JSONDecodeError:
            found[key] = text
    return found


def with_values(model: Model, values: Mapping[str, str], where: str) -> Model:
    """The model with values given as text; validated as a whole. Raises `ConfigError` naming `where`."""
    kind = type(model)
    for key in values:
        if key not in kind.model_fields:
            near = nearest(key, kind.model_fields)
            raise ConfigError(f"{where}: no setting {key!r}{near}\nIts settings:\n{listing(kind)}")
    try:
        read = {key: json.loads(text) if text[:1] in ("{", "[") else text for key, text in values.items()}
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: {error.doc!r} is not JSON ({error})") from error
    try:
        return kind.model_validate({**model.model_dump(exclude_unset=True), **read})
    except (ValidationError, SettingError) as error:
        faults = []
        for fault in (error.found if isinstance(error, SettingError) else error).errors():
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
