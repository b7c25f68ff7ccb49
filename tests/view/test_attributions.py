"""What moved a judgement, on the comparison's page and in the terminal: bars with their numbers; no markup acts."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from rrm.store.store import Store
from rrm.view.attributions import file_of
from rrm.view.inspect import show_node
from rrm.view.reading import Reader
from tests.view import synthetic
from tests.view.test_pages import open_app, plain

BAD = "<b>\x1b[2J</b>"


def explained(folder: Path) -> Path:
    one = synthetic.comparison(0)
    run = synthetic.make(folder, [one, synthetic.comparison(1)])
    store = Store(run / "run.db")
    store.checkpoint("paper", 9, "reward", "nodes/paper/9/reward.safetensors", "abc")
    store.close()
    parts = {"what it reads": -0.25, "findings of paper/proofs": 1.0}
    pieces = [
        {"kind": "words", "by": "", "a": "left", "b": BAD, "worth": -0.25, "facts": ["step1"]},
        {"kind": "said", "by": "paper/proofs", "a": "", "b": "", "worth": 1.0, "facts": []},
        {"kind": "words", "by": "", "a": "x", "b": "y", "worth": 0.001, "facts": []},
    ]
    body = [{"weights": "abc"}, {"pair": one.id, "parts": parts, "pieces": pieces}]
    file_of(run, "paper").parent.mkdir(parents=True)
    file_of(run, "paper").write_text("\n".join(map(json.dumps, body)) + "\n")
    return run


def test_a_page_shows_the_parts(tmp_path: Path) -> None:
    with open_app(explained(tmp_path / "run")) as client:
        text = client.get("/r/run/c/1").text
        assert 'data-state="yes" y="1.5" height="7" x="100.0" width="98.0"' in text
        assert 'data-state="no" y="1.5" height="7" x="75.5" width="24.5"' in text and "<b>" + "\x1b" not in text
        said = plain(text)
        assert "by the newest reward model: +0.75 standard deviations" in said
        assert "what it reads −0.25" in said and "findings of paper/proofs +1.00" in said
        assert "+1.00 what paper/proofs said" in said and "−0.25 left" in said and "step1" in said
        assert "What moved the reward model" not in client.get("/r/run/c/2").text, "nothing was kept of it"


def test_the_terminal_shows_the_parts(tmp_path: Path) -> None:
    out = io.StringIO()
    with Reader(explained(tmp_path / "run")) as run:
        show_node(run, "paper", Console(file=out, width=160))
    text = out.getvalue()
    assert text.count("what moved the reward model: A less B is +0.75") == 1
    assert "-0.25           ▇▇▇│" in text and "+1.00              │▇▇▇▇▇▇▇▇▇▇▇▇" in text
