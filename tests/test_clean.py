"""Whatever a file, a model or a server has put into a message: on the terminal and in logs it does not act."""

from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rrm.core import errors
from rrm.core.clean import HIDDEN, visible
from rrm.view.clean_console import CleanConsole
from tests.layout import ROOT

ESCAPES = "\x1b[31m\x1b]0;pwn\x07\x9b1m\u202eevil\u2066\u200b\x08"
ACTS = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\x08")
ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RRMError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_our_errors_say_it_without_doing_it(kind: type[errors.RRMError]) -> None:
    error = kind(f"line\n\t{ESCAPES}")
    assert "line\n\t" in str(error) and not HIDDEN.search(str(error))
    assert str(error) == visible(f"line\n\t{ESCAPES}")
    assert not HIDDEN.search("".join(traceback.format_exception(error)))


@given(st.text(st.characters(codec=None), max_size=40))
def test_nothing_but_text_reaches_the_terminal(text: str) -> None:
    table = Table(title=text[:5])
    table.add_column("x")
    table.add_row(Text(text))
    out = io.StringIO()
    console = CleanConsole(file=out, width=60)
    for one in (Text(text), table, Panel(Text(text))):
        console.print(one)
    assert not HIDDEN.search(out.getvalue())


TREE = """
import warnings
warnings.warn("careful \\x1b[31m\\u202e")
{end}
"""


@pytest.mark.parametrize(
    "end, said",
    [
        ("raise ValueError('no \\x1b]0;pwn\\x07\\u202e\\u2066\\u200b')", "ValueError: no ␛]0;pwn"),
        ("class Odd(Exception):\n    pass\nraise Odd('no \\x1b[2J\\x9b')", "Odd: no ␛[2J"),
        ("from rrm.core.errors import TaskError\nraise TaskError('no \\x1b[2J')", "TaskError: no ␛[2J"),
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_tree_s_own_words_do_not_act(tmp_path: Path, end: str, said: str, debug: list[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(TREE.format(end=end), encoding="utf-8")
    for command in (["check", str(path)], ["train", str(path), "--out", str(tmp_path / "run")]):
        done = subprocess.run(
            [sys.executable, "-m", "rrm", *command, *debug], capture_output=True, timeout=120, cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        out = (done.stdout + done.stderr).decode()
        assert done.returncode and said in out and "careful ␛[31m" in out
        assert not any(sign in out for sign in ACTS)


def test_a_folder_s_name_does_not_act(tmp_path: Path) -> None:
    folder = tmp_path / "run\x1b]0;pwn\x07"
    folder.mkdir()
    for command in ("inspect", "label", "export"):
        more = ["-o", str(folder / "x.jsonl")] if command == "export" else []
        done = subprocess.run(
            [sys.executable, "-m", "rrm", command, str(folder), *more], capture_output=True, timeout=120, cwd=ROOT
        )
        assert done.returncode and b"\x1b" not in done.stdout + done.stderr, (command, done)
