"""Where an error of somebody's own code arose: in the file that its author can open."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm import Assistant, BoundedUser, Case, Malformed, Outcome, Report, TaskError
from rrm.command.cli import app
from rrm.command.trees import load_task
from rrm.core.blame import own_place, place_of
from rrm.core.border import BorderError, told
from rrm.core.judgements import Event, Pair
from rrm.core.records import Finding
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import consult
from rrm.core.validation import plant
from rrm.loop.judging import put
from rrm.loop.state import _said_by
from rrm.view.live import Live
from tests import toy

OWN = '''import functools
import statistics


def inner(texts):
    return statistics.mean(texts)


def named():
    return nobody


@functools.cache
def cached():
    return named()


class Judge:
    name = "mine"

    def judge(self, task, pair):
        return named()

    def recall(self, task, judgement):
        pass


def watch(node, event):
    if event.phase == "sample":
        named()
'''
LINE = 10


def module(folder: Path, text: str = OWN, name: str = "own_file") -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


def raised(call: Any, *given: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        call(*given)
    return caught.value


def test_it_is_the_innermost_line_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = module(tmp_path)
    assert place_of(raised(own.cached)) == f"{tmp_path}/own_file.py, line {LINE}"
    assert place_of(raised(own.inner, [])) == f"{tmp_path}/own_file.py, line 6", "not the library's, which is deeper"
    monkeypatch.chdir(tmp_path)
    assert place_of(raised(own.named)) == f"own_file.py, line {LINE}", "as it would be typed"


def test_what_happened_in_ours_alone_has_no_place() -> None:
    error = raised(BoundedUser, "no settings")
    assert error.__traceback__ is not None and place_of(error)
    error.__traceback__ = error.__traceback__.tb_next  # without this file's frame
    while error.__traceback__ is not None and "tests" in error.__traceback__.tb_frame.f_code.co_filename:
        error.__traceback__ = error.__traceback__.tb_next
    assert own_place(error) == place_of(error) == ""


def test_a_syntax_error_is_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neighbor_of_own.py").write_text("x = 1\ny = = 2\n")
    (tmp_path / "mine.py").write_text("import neighbor_of_own\n")
    with pytest.raises(TaskError, match=r"mine\.py: it cannot be imported: Syntax.*\(neighbor_of_own\.py, line 2\)$"):
        load_task("./mine.py")
    (tmp_path / "neighbor_of_own.py").write_text("x = 1\ny = z\n")
    with pytest.raises(TaskError, match=r"mine\.py \(neighbor_of_own\.py, line 2\): it cannot be imported: NameError"):
        load_task("./mine.py")


@pytest.mark.parametrize("name", ["facts", "frame", "findings", "surface", "locate", "drawing", "divide"])
def test_a_trees_functions_say_it(name: str, tmp_path: Path) -> None:
    own = module(tmp_path)
    task = toy.sub("a", **{name: lambda *given: own.named()})
    call = {"facts": task.facts_of, "frame": task.framed, "findings": task.findings_of, "surface": task.surface_of,
            "locate": task.located, "drawing": lambda c, o: task.pictured(c, o, ()), "divide": task.divided}[name]
    with pytest.raises(BorderError, match=rf"{name} of 'a' raised NameError: .*own_file\.py, line {LINE}\)"):
        call(Case("x"), Outcome("w1 w2"))


def test_tools_say_it_and_may_abstain(tmp_path: Path) -> None:
    own = module(tmp_path)

    class Tool:
        name, instruction, version = "mine", "Is it?", "1"

        def __call__(self, case: Case, outcome: Outcome) -> Report:
            own.named()
            return Report((Finding("even", True),))

    assert isinstance(tool_assistant(Tool()), Assistant)
    with pytest.raises(BorderError, match=rf"the tool 'mine' raised NameError: .*own_file\.py, line {LINE}\)"):
        consult(Tool(), Case("x"), Outcome("y"))


def test_users_and_watchers_say_it(tmp_path: Path) -> None:
    own = module(tmp_path)
    pair = Pair("toy", Case("x"), Outcome("w1"), Outcome("w2"))
    with pytest.raises(BorderError, match=rf"the user 'mine' \(pair \w+\) raised NameError: .*line {LINE}\)"):
        put(own.Judge(), plant(toy.task()), pair, 0, 0, "", lambda *kept: None)
    event = Event("toy", 0, "sample")
    with (
        pytest.raises(BorderError, match=rf"the watcher 'watch' \(sample of toy\) raised NameError: .*line {LINE}\)"),
        _said_by(own.watch, event),
    ):
        own.watch(None, event)
    with pytest.raises(BrokenPipeError), _said_by(Live(toy.task()), event):  # ours ends as a command does
        raise BrokenPipeError


def test_the_command_says_how_to_see_more_where_there_is_more(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(tmp_path / "gone.py")])
    assert done.exit_code == 2 and "--debug" not in done.output, "nothing of theirs ran"
    (tmp_path / "broken.py").write_text("1 / 0\n")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "broken.py")])
    assert done.exit_code == 2 and "--debug shows the traceback" in done.output


def test_what_is_no_mistake_passes_with_a_note(tmp_path: Path) -> None:
    own = module(tmp_path, "class Stop(Exception):\n    pass\n\n\ndef stop():\n    raise Stop\n", "own_stop")
    with pytest.raises(own.Stop) as caught, told("the watcher 'stop'"):
        own.stop()
    assert "own_stop.py, line 6" in caught.value.__notes__[0]
    with pytest.raises(Malformed), told("facts"):
        raise Malformed("no form")
