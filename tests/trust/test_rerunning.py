"""Weights follow from judgements, or they do not."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch

from rrm import BoundedUser, Task, train
from rrm.core.errors import RunError
from rrm.trust.rerunning import rerun
from tests import toy
from tests.test_resume import tiny


def tree() -> Task:
    several = toy.SMALL.model_copy(update={"rounds": 2, "comparisons": 6, "accept": 2})
    subs = (toy.sub("one", settings=several, assistants=(toy.sub("deep"),)), toy.sub("two"))
    return toy.task(assistants=subs, settings=several)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    train(tree(), BoundedUser(attention=4), tiny(), tmp_path / "run", seed=3)
    return tmp_path / "run"


def test_a_node_trained_again_has_the_same_bits_and_with_another_judgement_has_not(run: Path) -> None:
    for node in ("toy/one/deep", "toy/one", "toy"):
        again = rerun(run, node, tree(), tiny())
        assert again.holds and not again.near and not again.other and not again.moved, str(again)
        assert "the same to the bit" in str(again)
    with closing(sqlite3.connect(run / "run.db", isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE comparisons SET preference = 1 - preference WHERE task = 'toy/one' AND preference != 0.5")
        db.execute("UPDATE comparisons SET preference = 1.0 WHERE task = 'toy/one' AND preference = 0.5")
    assert rerun(run, "toy/one/deep", tree(), tiny()).holds
    again = rerun(run, "toy/one", tree(), tiny())
    assert again.holds is False and "other weights come out" in str(again)


def test_on_another_machine_what_differs_is_not_called_changed(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["about"]["processor"] = "another"
    (run / "config.json").write_text(json.dumps(config))
    again = rerun(run, "toy/two", tree(), tiny())
    assert again.holds and "not another" in str(again)
    with closing(sqlite3.connect(run / "run.db", isolation_level=None)) as db:
        db.execute("DROP TRIGGER comparisons_no_delete")
        db.execute("DROP TRIGGER comparisons_delete_linked")
        db.execute("DELETE FROM comparisons WHERE task = 'toy/two'")
    again = rerun(run, "toy/two", tree(), tiny())
    assert again.holds is None and "nobody judged" in str(again)


def test_another_tree_or_model_is_refused(run: Path) -> None:
    with pytest.raises(RunError, match="give the tree that was trained"):
        rerun(run, "toy/two", toy.task(assistants=(toy.sub("two"),)), tiny())
    with pytest.raises(RunError, match="other weights than it has here"):
        rerun(run, "toy/two", tree(), "embedded")
    with pytest.raises(RunError, match="no node 'toy/three'"):
        rerun(run, "toy/three", tree(), tiny())
