"""A run in the terminal: everything is there, and nothing a model wrote acts on the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from rrm.core.errors import NodeError
from rrm.view.inspect import show_node, show_tree, sparkline
from rrm.view.reading import Reader
from tests.view import synthetic
from tests.view.hostile import LONG_LINE, TEXTS

STYLE = re.compile(r"\x1b\[[\d;]*m")


def shown(run: Reader, node: str | None = None, color: bool = False, limit: int = 50) -> str:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=color, color_system="standard" if color else None)
    if node is None:
        show_tree(run, console)
    else:
        show_node(run, node, console, limit=limit)
    return out.getvalue()


def test_the_tree_and_a_node(tmp_path: Path) -> None:
    with Reader(synthetic.make(tmp_path / "run", [synthetic.comparison(0)], [-0.5])) as run:
        tree = shown(run)
        assert [word for word in ("paper", "proofs", "steps", "data") if word not in tree] == []
        assert "14/20" in tree and "0.00 → 0.75" in tree and "▁▃▆█" in tree
        node = shown(run, "paper")
        assert "A (preferred)" in node and "left" in node and "right" in node
        assert "proofs no step1 ranks at 75%" in node
        assert "  steps no step1.0 ranks at 25%" in node and "data N/A" in node
        assert "reward model: B by 0.50" in node
        assert shown(run, "steps").startswith("paper/proofs/steps")
        with pytest.raises(NodeError, match="no node 'nothing'"):
            shown(run, "nothing")


def test_a_reward_model_that_learned_nothing_prefers_neither(tmp_path: Path) -> None:
    with Reader(synthetic.make(tmp_path / "run", [synthetic.comparison(0)], [0.0])) as run:
        assert "reward model: neither" in shown(run, "paper")


@pytest.mark.parametrize("color", [False, True])
def test_no_text_acts_on_the_terminal(tmp_path: Path, color: bool) -> None:
    made = [
        synthetic.comparison(i, a=text, b=text, case=text, said=text, note=text, user=text)
        for i, text in enumerate([*TEXTS.values(), LONG_LINE])
    ]
    with Reader(synthetic.make(tmp_path / "run", made)) as run:
        text = shown(run, "paper", color)
    assert "[bold red]x[/bold red]" in text, "markup is text"
    assert len(text) < 400_000
    left = STYLE.sub("", text) if color else text
    assert "\x1b" not in left and "\x07" not in left and "\r" not in left
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", left)


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3]) == "▁▃▆█"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline(list(range(1000)))) == 24
