"""How an answer ranks among its assistant's answers: said as that, of reward models that know something, or hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.view.accuracy import RANKS
from rrm.view.web.label import as_shown, known_of
from tests.label.material import pair
from tests.label.test_human import terminal


def queue(folder: Path, right: int, of: int, n: int = 2) -> Labels:
    """Pairs to label, in a run whose assistants predict `right` of `of` held-out comparisons."""
    assistants = sorted({one.assistant for one in pair(0).assistance_a})
    tree = {path: {"settings": {}, "instruction": ""} for path in (*assistants, assistants[0].split("/")[0])}
    (folder / "config.json").write_text(json.dumps({"tree": tree}))
    store = Store(folder / "run.db")
    for path in assistants:
        held = {"n": 30.0, "n_holdout": of, "holdout_right": right, "holdout_decided": of, "holdout_pairs": 0.0}
        store.log(path, 0, "fit", 0, held)
    store.close()
    labels = Labels(folder)
    labels.ask("t", 0, "Which?", [pair(i) for i in range(n)], 1, 0.0)
    return labels


@pytest.mark.parametrize(("right", "of", "shown"), [(9, 12, True), (6, 12, False), (3, 12, False), (7, 7, False)])
def test_only_of_a_model_that_predicts_held_out_judgements(tmp_path: Path, right: int, of: int, shown: bool) -> None:
    labels = queue(tmp_path, right, of)
    (question, *_) = labels.claim("ann", 1)
    sent = as_shown(question, "ann", known_of(tmp_path))
    ranks = [answer["confidence"] for side in sent["sides"] for answer in side["answers"]]
    assert any(rank is not None for rank in ranks) is shown
    assert all(a["confidence"] is None for s in as_shown(question, "ann")["sides"] for a in s["answers"])
    labels.release("ann")
    said = terminal(tmp_path, "1")
    assert ("ranks at 75%" in said) is shown and ("no chance that it" in said) is shown
    assert "confidence" not in said


def test_the_terminal_hides_ranks_and_remembers_that(tmp_path: Path) -> None:
    labels = queue(tmp_path, 12, 12)
    said = terminal(tmp_path, "c", "h", "h", "1", "2")
    first, rest = said.split("ranks are hidden")
    assert "ranks at 75%" in first and "ranks at" not in rest, "the next pair shows none, either"
    assert len(labels.labels()) == 2
    assert "c hide or show ranks" in first and RANKS.startswith("how an answer ranks")
