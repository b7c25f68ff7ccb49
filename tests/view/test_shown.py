"""An outcome that is data without a text is shown: in lists, on the pages, in the terminal, in assistants' answers."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

from rrm.core.judgements import Comparison
from rrm.core.records import Case, Group, Outcome
from rrm.core.task import Task
from rrm.measure.roles import Look
from rrm.view import comparisons as judged
from rrm.view import lists
from rrm.view.reading import Reader
from tests.view import synthetic
from tests.view.test_inspect import shown
from tests.view.test_pages import open_app

LEFT = Outcome("", data={"move": "hebe den Arm, ü", "torque": [1, 2.5]})
RIGHT = Outcome("", data={"move": "halt\x1b[2J", "torque": []})
SAID = Outcome("", data={"warns": "too fast"})


def moves() -> Comparison:
    """Two moves of a robot, and an assistant who answers in data too."""
    one = synthetic.comparison(0)
    pair = replace(one.pair, a=LEFT, b=RIGHT)
    (proofs, data) = pair.assistance_a
    spoken = replace(proofs, answers=(replace(proofs.answers[0], outcome=SAID),))
    return replace(one, pair=replace(pair, assistance_a=(spoken, data)))


def test_it_reads_as_it_is_rendered(tmp_path: Path) -> None:
    with Reader(synthetic.make(tmp_path / "run", [moves(), synthetic.comparison(1, a="")])) as run:
        c = judged.comparison(run, 1)
        assert c is not None
        assert (c.a.text, c.b.text, c.a.cut) == (LEFT.shown, RIGHT.shown, False)
        assert c.a.answers[0].text == SAID.shown and c.a.answers[0].below[0].text == "wrong"
        assert judged.whole(run, c.a.blob) == LEFT.shown
        assert judged.start(run, c.a.blob, 9) == (LEFT.shown[:9], True)
        lines = lists.find(run, "paper").lines
        assert lines[0].a == LEFT.shown and (lines[1].a, lines[1].b) == ("", "right")
        for text, found in (("HEBE", [1]), ('"torque": [', [1]), ("right", [2]), ("nowhere", [])):
            assert [one.seq for one in lists.find(run, "paper", lists.Query(text=text)).lines] == found, text


def test_a_long_one_is_cut(tmp_path: Path) -> None:
    long = Outcome("", data={"path": list(range(20_000))})
    one = replace(synthetic.comparison(0), pair=replace(synthetic.comparison(0).pair, a=long))
    with Reader(synthetic.make(tmp_path / "run", [one])) as run:
        c = judged.comparison(run, 1)
        assert c is not None and c.a.cut and c.a.text == long.shown[: judged.SHOWN]
        assert judged.whole(run, c.a.blob) == long.shown


def test_the_terminal_shows_it(tmp_path: Path) -> None:
    with Reader(synthetic.make(tmp_path / "run", [moves()])) as run:
        text = shown(run, "paper")
    assert "hebe den Arm, ü" in text and '"torque"' in text and "too fast" in text
    assert "\x1b" not in text and r"halt\u001b[2J" in text


def test_the_pages_show_it(tmp_path: Path) -> None:
    with open_app(synthetic.make(tmp_path / "run", [moves()])) as client:
        for path in ("/r/run/c/1", "/r/run/list/paper", "/r/run/node/paper", "/r/run/c/1/a/0.0"):
            page = html.unescape(client.get(path).text)
            assert "hebe den Arm, ü" in page and "\x1b" not in page, path
        assert "too fast" in client.get("/r/run/c/1").text and "too fast" in client.get("/r/run/c/1/a/0.0").text
        with Reader(tmp_path / "run") as run:
            c = judged.comparison(run, 1)
        assert c is not None and client.get(f"/r/run/text/{c.a.blob}").text == LEFT.shown


def test_different_data_under_no_text_counts_as_different() -> None:
    task = Task("root", "Which is better?", facts=lambda case, outcome: [])
    groups = [Group(Case("Move."), outcomes) for outcomes in ((LEFT, RIGHT), (LEFT, LEFT))]
    assert Look(task, groups, [""] * 4, 0.0, 0.0).different == 0.75
