"""Settings from the command line: who they reach, and what is said of those that reach nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrm import BoundedUser, RRMError, Task, TaskError
from rrm.command.configuration import Assignment, configure, configure_user, split
from rrm.command.trees import load_task
from rrm.core.errors import ConfigError
from tests import toy


def tree() -> Task:
    return toy.task(
        assistants=(
            toy.sub("proofs", assistants=(toy.sub("steps"),)),
            toy.sub("data", assistants=(toy.sub("steps"),)),
        )
    )


def lrs(task: Task) -> dict[str, float]:
    return {node.path: node.settings.lr for node in task.walk()}


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        ("toy", {"toy"}),
        ("toy/proofs", {"toy/proofs"}),
        ("proofs", {"toy/proofs"}),
        ("steps", {"toy/proofs/steps", "toy/data/steps"}),
        ("data/steps", {"toy/data/steps"}),
        ("toy/*", {"toy/proofs", "toy/proofs/steps", "toy/data", "toy/data/steps"}),
        ("*", {"toy", "toy/proofs", "toy/proofs/steps", "toy/data", "toy/data/steps"}),
    ],
)
def test_a_target_reaches_its_nodes(target: str, reached: set[str]) -> None:
    before = tree()
    after = configure(before, [f"{target}.lr=1e-5"])
    assert {path for path, lr in lrs(after).items() if lr == 1e-5} == reached
    assert 1e-5 not in lrs(before).values()  # nothing changed in place


def test_later_assignments_win_and_other_settings_stay() -> None:
    after = configure(tree(), ["*.steps=4", "toy.steps=5", "toy.surprise=false", "toy.improver=dpo"])
    assert after.settings == toy.SMALL.model_copy(update={"steps": 5, "surprise": False, "improver": "dpo"})
    assert {node.settings.steps for node in after.walk()} == {4, 5}


def test_values_are_validated_by_the_settings() -> None:
    for text, part in [
        ("toy.lr=-1", "greater than 0"),
        ("toy.rounds=many", "toy.rounds=many"),
        ("toy.rounds=1.5", "toy.rounds=1.5"),
        ("toy.improver=ppo", "'rloo'"),
        ("toy.lr=", "toy.lr="),
        ("toy.lr={", "not JSON"),
    ]:
        with pytest.raises(ConfigError, match=part):
            configure(tree(), [text])


def test_an_unknown_node_lists_what_is_near_and_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        configure(tree(), ["prof.lr=1"])
    assert "did you mean 'toy/proofs'" in str(caught.value)
    for path in lrs(tree()):
        assert path in str(caught.value)


def test_an_unknown_key_lists_what_is_near_and_every_key_with_its_documentation() -> None:
    with pytest.raises(ConfigError) as caught:
        configure(tree(), ["toy.stepz=1"])
    assert "did you mean 'steps'" in str(caught.value)
    for key, field in type(toy.SMALL).model_fields.items():
        assert key in str(caught.value)
        assert field.description and " ".join(field.description.split()) in str(caught.value)


@pytest.mark.parametrize("text", ["", "toy", "toy.lr", "lr=1", ".lr=1", "toy.=1", "=1"])
def test_what_is_not_an_assignment(text: str) -> None:
    with pytest.raises(ConfigError, match=r"NODE\.KEY=VALUE"):
        Assignment.parse(text)


def test_a_value_may_hold_anything() -> None:
    assert Assignment.parse("a/b.c= x.y=z ") == Assignment("a/b", "c", "x.y=z")


def test_user_settings() -> None:
    for_nodes, for_user = split(["user.attention=8", "*.lr=1", 'user.biases={"length": 0.5}'])
    assert for_nodes == ["*.lr=1"]
    user = configure_user(BoundedUser(seed=3), for_user)
    assert (user.attention, user.biases, user.seed) == (8, {"length": 0.5}, 3)
    with pytest.raises(ConfigError, match="did you mean 'attention'"):
        configure_user(BoundedUser(), ["user.atention=8"])
    with pytest.raises(ConfigError, match=r"user\.attention=-1"):
        configure_user(BoundedUser(), ["user.attention=-1"])


def write(folder: Path, text: str, name: str = "tree.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


GOOD = "from tests import toy\ntask = toy.task()\n"


def test_load_a_file_a_module_and_the_neighbours_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))  # restores sys.path afterwards
    assert load_task(write(tmp_path, GOOD)).name == "toy"
    assert load_task("tasks.paper").name == load_task("tasks/paper.py").name == "paper"
    (tmp_path / "neighbours_of_it").mkdir()
    (tmp_path / "neighbours_of_it" / "__init__.py").write_text(GOOD)
    (tmp_path / "trees").mkdir()
    assert load_task(write(tmp_path / "trees", "from neighbours_of_it import task\n")).name == "toy"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x = 1\n", "defines no `task`"),
        (GOOD.replace("task =", "tree ="), "`task = tree` would do"),
        ("task = 3\n", "is a int, not a Task"),
        ("\nimport nowhere_to_be_found\n", r"tree\.py, line 2: .*ModuleNotFoundError.*nowhere_to_be_found"),
        ("\n\ntask = 1 / 0\n", r"tree\.py, line 3: .*ZeroDivisionError"),
        ("task = (\n", r"tree\.py, line 1: .*SyntaxError"),
        ("from rrm import Settings\nSettings(stepz=1)\n", r"line 2(.|\n)*stepz"),
    ],
)
def test_files_that_do_not_load(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(TaskError, match=part) as caught:
        load_task(write(tmp_path, text))
    assert isinstance(caught.value, RRMError)


def test_a_missing_file_or_module(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "paper.py")
    with pytest.raises(TaskError, match=r"no such file; did you mean .*paper\.py"):
        load_task(str(tmp_path / "papr.py"))
    for name in ("no_such_module_here", "tasks.no_such_tree"):
        with pytest.raises(TaskError, match="no such tree or module"):
            load_task(name)
