"""The tree of a run: tools are below whom they assist, and are told from what was trained elsewhere."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from rrm import BoundedUser, tool_assistant
from rrm.core.validation import plant
from rrm.loop.provenance import origins_of
from rrm.loop.training import describe
from rrm.trust.gathering import not_shown_of
from rrm.trust.reported import run_told
from rrm.trust.reporting import report
from rrm.view.guide import asked_below
from rrm.view.inspect import show_tree
from rrm.view.nodes import nodes_of
from rrm.view.reading import Reader
from rrm.view.web.tree_pages import live_values
from tests import toy
from tests.test_resume import tiny
from tests.tools.fake import Word
from tests.view import synthetic


def config() -> dict[str, Any]:
    """Of a tree with a tool, and a subtask with another one."""
    below = toy.sub(assistants=(tool_assistant(Word(), ["form"]),))
    tree = plant(toy.task(assistants=(below, tool_assistant(Word("w5"), ["form"], name="five"))))
    maker = tiny()
    told = describe(tree, BoundedUser(), maker, 0)
    return {**told, "about": origins_of(tree, maker)}


def test_a_tool_is_below_whom_it_assists_and_is_one() -> None:
    nodes = nodes_of(config())
    assert {path: (one.parent, one.depth, one.tool) for path, one in nodes.items()} == {
        "toy": (None, 0, False), "toy/sub": ("toy", 1, False), "word": ("toy/sub", 2, True), "five": ("toy", 1, True),
    }  # fmt: skip
    assert next(iter(nodes)) == "toy" and [*nodes].index("word") > [*nodes].index("toy/sub")


def test_what_was_trained_before_is_no_tool_whatever_tools_it_has() -> None:
    told = config()
    told["finished"]["word"] = "another"
    one = nodes_of(told)["word"]
    assert one.finished == "another" and not one.tool and one.parent == "toy/sub"
    assert not any(one.tool for one in nodes_of({**told, "finished": {}}).values())


def test_older_runs_do_not_say_whom_it_assists_and_a_circle_ends() -> None:
    told = config()
    del told["about"]
    nodes = nodes_of(told)
    assert next(iter(nodes)) == "toy" and nodes["word"].parent is None and nodes["word"].tool
    tasks = {"a": {"assistants": ["b"]}, "b": {"assistants": ["a"]}}
    circle = {"tree": {"a": {}, "b": {}}, "finished": {"a": "1", "b": "1"}, "about": {"tasks": tasks}}
    assert {*nodes_of(circle)} == {"a", "b"}


def made(folder: Path) -> Path:
    synthetic.make(folder, [synthetic.comparison(0, task="toy")])
    (folder / "config.json").write_text(json.dumps(config()))
    return folder


def test_a_tool_is_called_one_wherever_the_tree_is_shown(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    with Reader(folder) as run:
        out = io.StringIO()
        show_tree(run, Console(file=out, width=200))
        rows = [row.split() for row in out.getvalue().splitlines()]
        assert ["word", "tool"] in rows and "elsewhere" not in out.getvalue()
        values = live_values(run)
        assert values["word:state"] == "tool" and values["word:round"] == ""
        assert values["toy:below"] == "1 node below, 0 finished; 2 tools" and values["toy/sub:below"] == "1 tool"
        assert [one.name for one in asked_below(run, "toy")] == ["sub", "word", "five"]
    told = run_told(folder)
    assert told.nodes["word"].view.tool
    text = report([folder], tmp_path / "report", "rrm report").markdown.read_text()
    assert "(2 of them tools)" in text and "trained in another run" not in text and "A tool (version" in text
    figures = next(line for line in text.splitlines() if line.startswith("| figure |"))
    assert "word" not in figures and "toy/sub" in figures


def test_what_certificates_do_not_show_is_as_before_of_tools(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    told = run_told(folder).nodes["toy"]
    with Reader(folder) as run:
        parts = {"design": told.design, "testing": told.testing, **told.chapters}
        lines = not_shown_of(run, run.nodes["toy"], parts)
    assert not any("five" in line for line in lines), "old certificates are derived again word by word"
