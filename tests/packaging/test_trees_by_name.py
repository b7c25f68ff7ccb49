"""Trees by name: what other packages bring, what is wrong with it, and that loading a file hides nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rrm import TaskError
from rrm.command.cli import app
from rrm.command.trees import NEIGHBORS, load_task, named_trees, tried
from rrm.core.task import Task

TREES = """
from tests import toy
made = toy.task("made", instruction="Which is\\nbetter?")
def make(): return made
def lacking(argument): return made
def broken(): raise Odd("no luck")
class Odd(Exception): pass
"""
LISTED = {
    "a_task": "theirs:made", "a_function": "theirs:make", "lacking": "theirs:lacking", "odd": "theirs:broken",
    "number": "theirs:__name__", "gone": "theirs:nothing", "absent": "no_such_package:task", "ends": "theirs_ends:task",
    "paper": "theirs:made",
}  # fmt: skip


def rrm(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's distribution with trees, installed."""
    (tmp_path / "theirs.py").write_text(TREES)
    (tmp_path / "theirs_ends.py").write_text("import sys\nsys.exit(3)\n")
    info = tmp_path / "their_trees-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-trees\nVersion: 2.1\n")
    lines = [f"{name} = {where}" for name, where in LISTED.items()]
    (info / "entry_points.txt").write_text("\n".join(["[rrm.trees]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))  # before ours on the path
    for name in ("theirs", "theirs_ends"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_trees_of_another_distribution_are_loaded_by_name(theirs: Path) -> None:
    assert load_task("a_task").name == load_task("a_function").name == "made"
    assert rrm("check", "a_function").exit_code == 0
    for name, part in [
        ("lacking", "TypeError.*argument"), ("odd", "Odd: no luck"), ("gone", "AttributeError"), ("ends", "SystemExit"),
        ("absent", "no_such_package"), ("number", "'number' of their-trees 2.1 .*is a str, not a Task"),
    ]:  # fmt: skip
        with pytest.raises(TaskError, match=part):
            load_task(name)


def test_the_list_shows_what_cannot_be_loaded_too(theirs: Path) -> None:
    result = rrm("trees")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if "their-trees 2.1" in line}
    assert lines.keys() == LISTED.keys()
    assert "Which is better? (1 nodes)" in lines["a_task"]  # on one line
    for name in ("lacking", "odd", "number", "gone", "absent", "ends"):
        assert "error: " in lines[name]


def test_of_two_trees_of_one_name_ours_counts_and_the_other_is_listed_as_hidden(theirs: Path) -> None:
    assert named_trees()["paper"].distribution.startswith("recursive-reward-modeling ")
    assert load_task("paper").name == "paper"
    ours, other = (found for one, found in tried() if one.name == "paper")
    assert isinstance(ours, Task) and isinstance(other, TaskError)
    assert "recursive-reward-modeling" in str(other) and "comes first" in str(other)


def test_every_tree_of_ours_is_there() -> None:
    ours = {one.name: found for one, found in tried() if one.distribution.startswith("recursive-reward-modeling ")}
    assert ours.keys() >= {"chip", "novel", "paper", "research_paper", "word_problems"}
    assert all(isinstance(found, Task) for found in ours.values())


def test_a_name_is_never_a_file_nor_a_file_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper.py").write_text("from tests import toy\ntask = toy.task()\n")
    (tmp_path / "random.py").write_text("from tests import toy\ntask = toy.task()\n")
    assert load_task("paper").name == "paper"
    assert load_task("paper.py").name == load_task("./paper.py").name == "toy"
    assert load_task("./random.py").name == "toy"
    with pytest.raises(TaskError, match=r"random: it defines no `task`.*for the file give \./random\.py"):
        load_task("random")  # Python's own


@pytest.mark.parametrize(
    ("tree", "part"),
    [
        ("papr", "did you mean 'paper'.*Give a name \\(boat_race, cart_pole, chip, .*\\./mine\\.py"),
        ("no_such_thing", "no such tree or module.*rrm trees"),
        ("trees.mine", "no such tree or module; for the file give trees/mine\\.py"),
        ("trees/paper.py", "no such file; did you mean the tree 'paper'"),
        ("trees/min.py", "no such file; did you mean 'trees/mine.py'"),
        ("trees/", "trees: is a folder"),
    ],
)
def test_what_is_not_there(tree: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trees").mkdir()
    (tmp_path / "trees/mine.py").write_text("")
    monkeypatch.setattr(NEIGHBORS, "folders", [])
    if tree == "trees.mine":  # not a module, where another package has this name
        monkeypatch.setattr(NEIGHBORS, "show", lambda *folders: None)
    result = rrm("check", tree)
    assert result.exit_code == 2 and "Traceback" not in result.output
    with pytest.raises(TaskError, match=f"(?s){part}"):
        load_task(tree)


# --- files -------------------------------------------------------------------------------------------

LOADS = """
import sys
from rrm.command.trees import load_task
before, path = set(sys.modules), list(sys.path)
task = load_task(sys.argv[1])
own = set(sys.modules) - before
assert sys.path == path
import random, colorsys, numpy, rrm_tasks, rrm_assistants
print(task.name, *(module.__file__ for module in (random, colorsys, numpy, rrm_tasks, rrm_assistants)), sep="\\n")
print("of the tree:", *sorted(n for n in own if sys.argv[2] in str(getattr(sys.modules[n], "__file__", ""))))
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], list[str]]:
    """Load a file in a process of its own, and tell what Python's and installed modules are afterwards."""

    def loaded(tree: str) -> list[str]:
        command = [sys.executable, "-P", "-c", LOADS, tree, str(tmp_path)]  # without the current folder, as `rrm`
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return loaded


def test_a_file_finds_its_neighbors_and_they_hide_nothing(load: Callable[[str], list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "trees"
    folder.mkdir()
    for where in (folder, tmp_path):
        for name in ("random", "colorsys", "numpy", "rrm_tasks", "rrm_assistants"):  # two may be installed as editable
            (where / name).mkdir()
            (where / name / "__init__.py").write_text("raise ImportError('this hides what is installed')")
    (folder / "near_by.py").write_text("name = 'near'")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/__init__.py").write_text("number = 7")
    (folder / "random_tree.py").write_text(
        "import colorsys, rrm_assistants, rrm_tasks.paper\n"
        "from near_by import name\nfrom tasks import number\nfrom rrm import Task\n"
        "task = Task(f'{name}{number}', instruction='?', facts=lambda case, outcome: [])\n"
    )
    name, *rest, own = load("trees/random_tree.py")
    assert name == "near7"
    assert not [path for path in rest if path.startswith(str(tmp_path))]
    near, loaded, tasks = own.split()[3:]
    assert (near, tasks) == ("near_by", "tasks") and loaded.startswith("rrm_tree_") and loaded.endswith("_random_tree")


def test_a_file_of_a_package_has_its_package(load: Callable[[str], list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "__init__.py").write_text("BEST = 'best'")
    (folder / "words.py").write_text("from . import BEST\nword = BEST")
    (folder / "paper.py").write_text(
        "from .words import word\nfrom rrm import Task\n"
        "task = Task(word, instruction='?', facts=lambda case, outcome: [])\n"
    )
    name, *_, own = load("tasks/paper.py")
    assert name == "best"
    assert all(one.startswith("rrm_tree_") for one in own.split()[3:])  # `tasks` stays whatever it is
    (folder / "__init__.py").write_text("BEST = 'best'\nfrom .paper import task")
    assert load("tasks/__init__.py")[0] == "best"


def test_a_neighbor_with_the_name_of_something_installed_says_so(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("mine = 1")
    (tmp_path / "tree.py").write_text("from typer import mine\n")
    with pytest.raises(TaskError, match=r"(?s)tree\.py, line 1: .*'typer' is .*what is installed comes first"):
        load_task(str(tmp_path / "tree.py"))
