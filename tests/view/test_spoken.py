"""What was said of single outcomes is shown as text, by whom, and of which; runs of before have none."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rrm.core.judgements import Comparison
from rrm.core.records import Outcome
from rrm.core.remarks import Remark, Remarked
from rrm.store import links
from rrm.store.store import Store
from rrm.view.inspect import show_node
from rrm.view.reading import Reader
from tests.view import synthetic
from tests.view.hostile import MARK, TEXTS
from tests.view.test_pages import open_app, plain

BOTH = TEXTS["script"] + TEXTS["handler"] + TEXTS["closing tags"] + TEXTS["ansi"] + TEXTS["bidi"] + TEXTS["rich"]


def said(text: str = "so it is", better: str = "another") -> Comparison:
    one = synthetic.comparison(0)
    a = (Remark("rating", 4.0, 7, by="ann"), Remark("correction", better=Outcome(better), by="ann"))
    b = (Remark("unacceptable", 0.0), Remark("approval", 0.0, text="why not"), Remark("note", text=text))
    return replace(one, judgement=replace(one.judgement, remarks_a=a, remarks_b=b))


def terminal(folder: Path) -> str:
    out = StringIO()
    with Reader(folder) as run:
        show_node(run, "paper", Console(file=out, width=160, force_terminal=True, color_system="standard"))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # its own colors


def test_each_side_s_remarks_are_shown_on_its_side_and_counted(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", [said(), synthetic.comparison(1)])
    store = Store(folder / "run.db")
    alone = Remarked("paper", synthetic.comparison(2).case, Outcome("x"), Remark("demonstration"), "eve")
    store.bring_remarks([(alone, [])])
    store.close()
    with open_app(folder) as client:
        text = plain(client.get("/r/run/c/1").text)
        a, _, b = text.partition("What was said of B alone")
        assert "ann : rated 4 of 7" in a and "should be another" in a and "What was said of A alone" in a
        assert "looked at, and not unacceptable" in b and "not approved why not" in b and "so it is" in b
        assert "said of A alone" not in plain(client.get("/r/run/c/2").text)
        counts = "1 ratings, 1 approvals, 1 marks, 1 corrections, 1 demonstrations, 1 notes"
        assert counts in plain(client.get("/r/run/node/paper").text)
    shown = terminal(folder)
    assert "rated 4 of 7" in shown and "should be: another" in shown and counts in shown


def test_hostile_words_are_text(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", [said(BOTH, BOTH + "!")])
    with open_app(folder) as client:
        page = client.get("/r/run/c/1").text
        assert page.count("&lt;script&gt;") == 2 and f"<script>document.title='{MARK}'" not in page
        assert not {"\x1b", "\x07", "\u202e"} & {*page} and "<img src=x" not in page
    shown = terminal(folder)
    assert "\x1b]" not in shown and "\x1b[2J" not in shown and "\u202e" not in shown and "[bold red]x" in shown


@pytest.mark.parametrize("superseded", [False, True])
def test_what_was_taken_back_and_what_older_runs_lack_is_not_shown(tmp_path: Path, superseded: bool) -> None:
    folder = synthetic.make(tmp_path / "run", [said()])
    db = sqlite3.connect(folder / "run.db")
    links.add_functions(db)
    if superseded:
        names = [name for _, name, *_ in db.execute("PRAGMA table_info(remarks)") if name not in ("seq", "supersedes")]
        values = ", ".join("''" if name == "kind" else name for name in names)
        db.execute(f"INSERT INTO remarks ({', '.join(names)}, supersedes) SELECT {values}, seq FROM remarks")
    else:
        db.execute("DROP TABLE remarks")
    db.commit()
    db.close()
    with open_app(folder) as client:
        for path in ("/r/run/c/1", "/r/run/node/paper"):
            page = client.get(path)
            assert page.status_code == 200 and "rated 4" not in page.text and "single outcomes" not in page.text
    assert "rated 4" not in terminal(folder)
