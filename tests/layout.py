"""The code base as its imports show it: for the tests of its layout, and of the picture in docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {"rrm": "rrm", "assistants": "rrm_assistants", "tasks": "rrm_tasks", "scripts": "scripts", "tests": "tests"}
"""Folder -> the package it is imported as."""
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    """A file's module: "rrm.core.task"; a package's own file is the package."""
    folder, *parts = path.relative_to(ROOT).with_suffix("").parts
    dotted = ".".join((FOLDERS[folder], *parts))
    return dotted.removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Everything a file imports, late or for type checking too, with dots: "rrm.core.records.unseal"."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import; name the module in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(dotted: str, *packages: str) -> bool:
    return any(dotted == package or dotted.startswith(f"{package}.") for package in packages)


@cache
def arrows() -> dict[str, set[str]]:
    """Module of rrm -> the modules of rrm that it imports."""
    own = {module(path): path for path in FILES if name(path).startswith("rrm/")}
    found: dict[str, set[str]] = {}
    for one, path in own.items():
        targets = set()
        for dotted in imports(path):
            while dotted and dotted not in own:
                dotted = dotted.rpartition(".")[0]
            targets |= {dotted} - {"", one}
        found[one] = targets
    return found


def room(dotted: str) -> str:
    """The room of a module: "core", "loop"; of `rrm` itself, and of single files under it, its name."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def room_arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports from; without `rrm` itself, which gathers names of all."""
    found: dict[str, set[str]] = {}
    for one, targets in arrows().items():
        if one != "rrm":
            found.setdefault(room(one), set()).update(room(target) for target in targets if target != "rrm")
    return {one: targets - {one} for one, targets in found.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of a graph; empty if it has none."""
    done: set[str] = set()

    def walk(one: str, above: list[str]) -> list[str]:
        if one in above:
            return [*above[above.index(one) :], one]
        if one in done:
            return []
        for target in sorted(graph.get(one, ())):
            if found := walk(target, [*above, one]):
                return found
        done.add(one)
        return []

    return next((found for one in sorted(graph) if (found := walk(one, []))), [])
