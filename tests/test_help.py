"""What a newcomer types first: help with examples that parse, a tree to begin with, runs and nodes by name, sizes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from rrm import Settings, Task
from rrm.command import estimating
from rrm.command.cli import app
from rrm.command.helping import after_training
from rrm.command.naming import node_of, run_folder
from rrm.command.new_command import copied
from rrm.command.trees import NamedTree, load_task
from rrm.command.typed import in_earnest, tree_typed, typed_for
from rrm.core.errors import NodeError
from rrm.core.sizes import MOST, Size, shrunk, sized
from rrm.core.spelling import named_node
from rrm.core.validation import faults
from rrm.measure.rehearsal import rehearse
from rrm.store.store import Store
from rrm.users.bounded import BoundedUser
from tests import toy
from tests.docs.pages import ROOT, blocks
from tests.view import synthetic

STARTERS = ("starter", "passage")
NAMED = ("demo/recursive", "paper", "mine", "letters", "acl", "moves", "by-people", "seed0", "seed1", "seed2")
"""Runs that examples name."""


def rrm(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def commands(group: Any = None, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Words -> command, of all that can be typed."""
    for name, one in (group or get_command(app)).commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*before, name))
        else:
            yield (*before, name), one


@pytest.mark.parametrize(("words", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in commands()])
def test_every_command_has_examples_that_parse(
    words: tuple[str, ...], command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [re.sub(r"\\(\[)", r"\1", line) for line in (command.epilog or "").split("\n\n")[1:]]
    assert lines, f"rrm {' '.join(words)} has no example: @app.command(epilog=examples(...))"
    for line in lines:
        typed = shlex.split(line)
        assert tuple(typed[: len(words) + 1]) == ("rrm", *words), line
        for there in NAMED:
            (tmp_path / "runs" / there).mkdir(parents=True, exist_ok=True)
        (tmp_path / "paper.json").touch()
        command.make_context(words[-1], typed[len(words) + 1 :])


# --- runs and nodes ----------------------------------------------------------------------------------


def test_a_run_is_its_folder_or_that_ones_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic.make(tmp_path / "runs" / "letters", [synthetic.comparison(0)], [0.5])
    assert run_folder("letters") == run_folder("runs/letters") == Path("runs/letters")
    for words in (("inspect", "leters"), ("export", "runs/leters", "-o", "x.jsonl"), ("certify", "leters")):
        done = rrm(*words)
        assert done.exit_code == 2 and "no run there" in done.output and "did you mean 'runs/letters'" in done.output
    assert rrm("inspect", "letters", "steps").output.startswith("paper/proofs/steps")
    assert "rrm inspect runs/letters paper" in rrm("inspect", "letters").output


def test_another_folder_of_its_name_does_not_hide_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic.make(tmp_path / "runs" / "letters", [synthetic.comparison(0)], [0.5])
    (tmp_path / "letters").mkdir()
    assert run_folder("letters") == Path("runs/letters")
    synthetic.make(tmp_path / "letters", [synthetic.comparison(0)], [0.5])
    assert run_folder("letters") == Path("letters")


def test_a_node_is_its_path_or_an_end_of_it(tmp_path: Path) -> None:
    paths = ["paper", "paper/proofs", "paper/proofs/steps", "paper/experiments/steps"]
    for name in ("paper/proofs", "proofs"):
        assert named_node(name, paths, "here") == "paper/proofs"
    assert named_node("proofs/steps", paths, "here") == "paper/proofs/steps"
    with pytest.raises(NodeError, match=r"several nodes 'steps'.*paper/experiments/steps"):
        named_node("steps", paths, "here")
    with pytest.raises(NodeError, match=r"no node 'roofs'; did you mean 'paper/proofs'"):
        named_node("roofs", paths, "here")
    run = synthetic.make(tmp_path / "run", [synthetic.comparison(0)], [0.5])
    assert node_of(run, "steps") == "paper/proofs/steps" and node_of(run, None) is None
    assert node_of(tmp_path / "new", "anything") == "anything"
    words = (("export", run, "prof", "-o", "x.jsonl"), ("inspect", run, "prof"), ("certify", run, "prof"),
             ("bound", run, "prof"), ("measure", "human-labels", run, "prof"), ("explain", run, "prof"))  # fmt: skip
    for one in words:
        done = rrm(*one)
        assert done.exit_code == 2 and "did you mean 'paper/proofs'" in done.output, done.output


# --- settings and sizes ------------------------------------------------------------------------------


def test_settings_are_filtered_by_name_and_text() -> None:
    named = {line.split()[0] for line in rrm("settings", "KL").output.splitlines() if line[:1].isalpha()}
    assert {"kl", "max_kl", "temperature"} <= named and not named & {"heads", "cases", "attention"}
    assert "user." not in rrm("settings", "max_kl").output  # no empty tables
    wrong = rrm("settings", "max_lk")
    assert wrong.exit_code == 2 and "did you mean 'max_kl'" in wrong.stderr


@pytest.mark.parametrize("size", MOST)
def test_a_size_only_makes_smaller(size: Size) -> None:
    settings = Settings(steps=1, cases=999, lr=0.5)
    smaller = shrunk(settings, size)
    for key, most in MOST[size].items():
        assert getattr(smaller, key) == min(most, getattr(settings, key))
    assert smaller.lr == 0.5 and smaller.max_tokens == settings.max_tokens
    assert shrunk(smaller, size) == smaller and not faults(sized(toy.task(settings=smaller), size))
    assert "beta" not in smaller.model_fields_set  # as if nobody had touched it


def test_a_size_reaches_every_node() -> None:
    tree = toy.task(settings=Settings(), assistants=(toy.sub("sub", settings=Settings()),))
    assert {node.settings.steps for node in sized(tree, "smoke").walk()} == {1}
    assert sized(tree, "full") is tree


def test_how_long_a_size_takes_is_called_a_plan_or_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating.os, "getloadavg", lambda: (1e6, 0.0, 0.0))
    tree = load_task("moves")
    planned = estimating._planned(tree, "embedded-games", estimating.SIZES)
    assert planned == sorted(planned) and planned[0][0] < planned[2][0] / 10
    *each, plan, last = estimating.timed(tree, "embedded-games", ("smoke", "full"))
    assert len(each) == 2 and "at most" in each[0] and "not a measurement" in plan
    assert last.startswith("this machine is busy (load 1e+06 on")
    assert [line[:34] for line in estimating.timed(tree, "ppo", ("full",))] == ["How long it takes is not planned w"]
    assert next(iter(estimating.timed(tree, "no/where", ("full",)))).startswith("How long it takes is not known")
    said = [estimating.about(seconds) for seconds in (3, 44, 200, 3 * 3600)]
    assert said == ["under 10 s", "about 40 s", "about 3 min", "about 3 h"]


def test_a_busy_machine_is_named_with_what_is_to_be_expected() -> None:
    assert estimating.busy(1, 7.0, 2) == "this machine is busy (load 7 on 2 cores): expect about 4 times that"
    assert "load 1.3 on 1 core)" in estimating.busy(1, 1.31, 1)
    assert estimating.busy(2, 1.9, 2) == estimating.busy(64, 10.0, 64) == "", "there is a processor for each"


# --- what comes next ---------------------------------------------------------------------------------


def test_after_a_small_size_the_whole_command_is_written_out() -> None:
    typed = ["rrm", "train", "./my tree.py", "--size", "smoke", "--user", "./u.py:Me", "--set", "a.size=2"]
    assert in_earnest(typed) == "rrm train './my tree.py' --user ./u.py:Me --set a.size=2"
    assert in_earnest(["rrm", "train", "t.py", "--size=small", "--out", "a/"]) == "rrm train t.py --out a-full"
    assert in_earnest(["rrm", "train", "t.py", "--out=runs/a"]) == "rrm train t.py --out runs/a-full"


def test_what_can_be_done_with_a_run_is_named(tmp_path: Path) -> None:
    lines = [typed for typed, _ in after_training(Path("runs/x"), "sqlq", "sqlq.py", False, truth=True)]
    assert "rrm measure truth runs/x --tree sqlq.py" in lines
    assert {"rrm report runs/x", "rrm serve runs/x sqlq"} <= {*lines}
    without = [typed for typed, _ in after_training(Path("runs/x"), "sqlq", "sqlq.py", False)]
    assert len(without) == len(lines) - 1 and not any("truth" in line for line in without)
    for line in lines:
        assert tuple(shlex.split(line)[:2])[-1] in {words[0] for words, _ in commands()}


def stopped(folder: Path, command: object) -> Path:
    """A run that was begun with a command and has no judgement."""
    synthetic.configure(folder)
    config = json.loads((folder / "config.json").read_text())
    config["about"] |= {"command": command, "code": {"rrm": "1", "mine.py": "2"}}
    (folder / "config.json").write_text(json.dumps(config))
    Store(folder / "run.db").close()
    (folder / "lock").write_text("")
    return folder


def test_a_stopped_run_says_how_to_go_on(tmp_path: Path) -> None:
    typed = "rrm train --size small ./mine.py --out 'runs/a b'"
    run = stopped(tmp_path, typed)
    assert typed_for(run) == typed and tree_typed(run) == "./mine.py"
    assert f"next: {typed}" in rrm("inspect", run).output
    for words in (("serve", run, "paper"), ("export", run, "--agent", "paper", "-o", tmp_path / "x"),
                  ("score", run, "paper", "nothing.json")):  # fmt: skip
        done = rrm(*words)
        assert done.exit_code == 2 and "its training was stopped" in done.stderr and f"next: {typed}" in done.stderr
    done = rrm("measure", "truth", run)
    assert done.exit_code == 2 and f"next: rrm measure truth {run} --tree ./mine.py" in done.stderr.replace("\n/", " /")


@pytest.mark.parametrize("command", ["rm -rf x", "rrm train t.py; rm x", "rrm inspect x", "rrm train 'a", "", "ls"])
def test_what_is_no_training_of_ours_is_not_proposed(command: str, tmp_path: Path) -> None:
    said = typed_for(stopped(tmp_path, command))
    assert said in ("", "rrm train 't.py;' rm x"), "in a shell it is one command, and ours"
    assert ("go on where" in rrm("inspect", tmp_path).output) == bool(said)


def test_trees_are_listed_without_torch() -> None:
    code = "import sys; from rrm.command.trees import tried; sys.exit(not [*tried()] or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_what_make_is_told_to_make_is_there_and_in_its_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"^    make ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    assert {"env", "demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M) and f'@echo "make {target} ' in makefile


# --- a tree to begin with ----------------------------------------------------------------------------


def named(value: str) -> NamedTree:
    """A tree of ours, whether this environment was installed with it or not."""
    return NamedTree("one", "here 1.0", EntryPoint("one", value, "rrm.trees"))


@pytest.mark.parametrize("module", STARTERS)
def test_a_tree_to_begin_with_has_no_fault(module: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(copied(named(f"rrm_tasks.{module}:task")))
    task = load_task(str(file))
    assert not faults(task) and not rehearse(task, BoundedUser()).faults
    assert all(node.settings.rounds == 1 for node in task.walk())


def test_a_copy_is_of_the_tree_that_was_named() -> None:
    for value, line in (("rrm_tasks.moves:king", "task = king()"), ("rrm_tasks.match:whole", "task = whole()")):
        text = copied(named(value))
        assert text.startswith(f"# A copy of {value.split(':')[0]} of here 1.0") and text.rstrip().endswith(line)
        names: dict[str, Any] = {"__name__": "copy"}
        exec(text, names)
        assert isinstance(names["task"], Task) and names["task"].name == named(value).load().name


def test_new_writes_over_nothing_unless_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    done = rrm("new", file, "--from", "moves")
    assert done.exit_code == 0 and f"rrm check {file}" in done.output and "rrm train" in done.output
    file.write_text("mine")
    again = rrm("new", file, "--from", "moves")
    assert again.exit_code == 2 and "--force" in again.stderr and file.read_text() == "mine"
    (tmp_path / "folder.py").mkdir()
    for more in ((), ("--force",)):
        odd = rrm("new", tmp_path / "folder.py", *more)
        assert odd.exit_code == 2 and ("cannot be written" if more else "is there already") in odd.stderr
    assert rrm("new", file, "--from", "moves", "--force").exit_code == 0 and "Task(" in file.read_text()
    for words, part in ((("new", tmp_path / "mine"), "mine.py"), (("new", file, "--from", "mooves"), "'moves'"),
                        (("new", tmp_path / "no" / "mine.py", "--from", "moves"), "no folder")):  # fmt: skip
        done = rrm(*words)
        assert done.exit_code == 2 and part in done.stderr, done.output


def test_the_page_shows_the_packaged_tree() -> None:
    shown = next(b for b in blocks(ROOT / "docs" / "a-tree-in-words.md") if b.title == "passage.py")
    assert shown.code == (ROOT / "tasks" / "passage.py").read_text()
