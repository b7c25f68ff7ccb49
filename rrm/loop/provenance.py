"""What a run is made of besides what was set: the code, and what a tree says of its tasks. Kept with the run, compared
with nothing: it is for whoever asks later (`rrm certify`)."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rrm.core.parties import Maker
from rrm.core.task import Assistant, Task

PACKAGES = ("rrm", "rrm_assistants", "rrm_tasks")


def origins_of(task: Task, maker: Maker) -> dict[str, Any]:
    """`tasks`: path -> aspects, what it covers of its parent's, who assists; `code`: package, or another file that a
    task's functions are in -> SHA-256; `model`: SHA-256 of the weights and of the tokenizer that everything starts
    from, of a maker that says them (`identity`), and the version of the library that wrote the latter down."""
    tasks = {
        node.path: {
            "aspects": list(node.aspects), "covers": list(node.covers), "unacceptable": list(node.unacceptable),
            "difficulty": node.difficulty,
            "assistants": [(a.task if isinstance(a, Assistant) else a).path for a in node.assistants],
        }
        for node in task.walk()
    }  # fmt: skip
    found: dict[str, Any] = {"tasks": tasks, "code": code_digests(task)}
    identity: Mapping[str, str] | None = getattr(maker, "identity", None)
    if identity is None:
        return found
    return found | {"model": {**identity, "tokenizers": version("tokenizers")} if identity else {}}


def code_digests(task: Task) -> dict[str, str]:
    """Name -> SHA-256 of the source files: of our packages, and of other files in which a task's functions are."""
    others = {file for node in task.walk() for file in _files(node)}
    own = {name: digest for name in PACKAGES if (digest := package_digest(name))}
    folders = tuple(str(folder) for name in own for folder in _folders(name))
    own |= {
        Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for file in sorted(others) if not str(Path(file).resolve()).startswith(folders)
    }  # fmt: skip
    return own


@cache
def package_digest(name: str) -> str:
    """SHA-256 of a package's source files and their names; empty where it is not installed."""
    files = sorted((path.relative_to(folder).as_posix(), path) for folder in _folders(name)
                   for path in folder.rglob("*.py"))  # fmt: skip
    whole = hashlib.sha256()
    for name_, path in files:
        whole.update(f"{name_} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest() if files else ""


def _folders(name: str) -> list[Path]:
    spec = find_spec(name)
    return [Path(one).resolve() for one in (spec.submodule_search_locations or ())] if spec else []


def _files(task: Task) -> Iterable[str]:
    """Where a task's functions are written."""
    for value in vars(task).values():
        module = inspect.getmodule(value) if inspect.isfunction(value) else None
        module = module or sys.modules.get(getattr(value, "__module__", None) or "")
        if (file := getattr(module, "__file__", None)) and file.endswith(".py") and Path(file).is_file():
            yield file
