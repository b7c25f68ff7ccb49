"""The page on the architecture is true: its rooms are those of the imports, and what it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

import rrm
from tests.layout import FOLDERS, ROOT, room_arrows

ARCHITECTURE = ROOT / "docs" / "architecture.md"
GUIDES = (ARCHITECTURE, ROOT / "CONTRIBUTING.md")
NAMED = re.compile(r"`([\w/.-]+\.py): ([\w.]+)`")
PATH = re.compile(rf"`((?:docs|examples|{'|'.join(FOLDERS)})/[\w/.-]*)`")


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", ARCHITECTURE.read_text(), re.M | re.S)
    assert found, title
    return found[1]


def layers() -> list[list[str]]:
    """The picture's lines, from the top."""
    return [line.split() for line in section("The rooms").splitlines() if line.startswith("    ")]


def table() -> dict[str, set[str]]:
    """Room -> the rooms it imports from, as the table says."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", section("The rooms"), re.M)
    return {room: set(re.findall(r"`(\w+)`", targets)) for room, targets in rows}


def test_the_table_has_the_arrows_of_the_code_and_no_other() -> None:
    arrows = room_arrows()
    assert arrows.pop("__main__") == {"command"}
    assert table() == arrows


def test_every_arrow_of_the_picture_points_down() -> None:
    line = {room: number for number, rooms in enumerate(layers()) for room in rooms}
    assert set(line) == set(table())
    assert not [f"{one} -> {target}" for one, targets in table().items() for target in targets
                if line[one] >= line[target]]  # fmt: skip


@cache
def names(path: Path) -> set[str]:
    """What a file defines at its top, and, as Class.name, what its classes do."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for name in defined(node):
            found.add(name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{name}.{member}" for inner in node.body for member in defined(inner)}
    return found


def defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_what_the_page_names_is_defined_there(page: Path) -> None:
    text = " ".join(page.read_text().split())  # a name may be broken over two lines
    named = NAMED.findall(text)
    assert len(named) > 10
    assert not [f"{path}: {name}" for path, name in named if name not in names(ROOT / path)]
    assert not [path for path in PATH.findall(text) if "NAME" not in path and not (ROOT / path).exists()]


def test_the_way_of_a_comparison_names_every_step() -> None:
    """In the order of the code: the steps of `solve` stand there as it calls them."""
    way = " ".join(section("One comparison's way").split())
    steps = ("train", "solve", "Node.sample", "to_judge", "assist", "choose", "Pair", "User.judge", "Store.add",
             "Learner.fit", "Policy.improve", "accepted", "Node.finish")  # fmt: skip
    at = [way.find(f": {step}`") for step in steps]
    assert -1 not in at and at == sorted(at)


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert not [name for name in rrm.__all__ if not re.search(rf"^::: rrm\.{name}$|`rrm\.{name}`", reference, re.M)]


def test_the_hooks_run_what_make_check_runs() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert recipe and [hook["entry"] for hook in hooks] == [line.strip("\t@") for line in recipe[1].splitlines()]
    assert {hook["language"] for hook in hooks} == {"system"} and {r["repo"] for r in config["repos"]} == {"local"}
