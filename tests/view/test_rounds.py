"""What is told of a run afterwards: rounds kept or undone, what decided it, what trained a version, what is known."""

from __future__ import annotations

import io
import random
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from rrm.core.judgements import ACCEPT, Comparison
from rrm.store.store import Store
from rrm.view import comparisons as judged
from rrm.view import lists
from rrm.view.accuracy import ENOUGH, Predicted, counted, nothing_learned
from rrm.view.inspect import show_node, show_tree
from rrm.view.reading import Reader
from rrm.view.rounds import Acceptance, rounds_of
from tests.view import synthetic
from tests.view.test_pages import open_app, plain

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_0_1_0"


def one(i: int, round: int, purpose: str = "", task: str = "paper") -> Comparison:
    return replace(synthetic.comparison(i, task, case=f"case {i}"), round=round, purpose=purpose)


def fit(right: int, of: int, pairs: int = 0, **more: float) -> Mapping[str, float]:
    held = {"holdout_right": right, "holdout_decided": of, "n_holdout": of, "holdout_pairs": pairs}
    return {"n": 30.0, "decided": 30.0, **held, **more}


def made(folder: Path) -> Path:
    """Two rounds: the first improvement kept, the second, of a reward model that learned nothing, undone."""
    synthetic.configure(folder)
    store = Store(folder / "run.db")
    for round, (metrics, accept) in enumerate(
        [(fit(9, 12), {"preferred": 0.75, "comparisons": 4.0, "kept": 1.0}),
         (fit(3, 5, 5, ignorant=1.0, decided=0.0), {"preferred": 0.125, "comparisons": 4.0, "kept": 0.0})]
    ):  # fmt: skip
        for i in range(6):
            store.add(one(10 * round + i, round), i)
        store.log("paper", round, "fit", 0, metrics)
        store.checkpoint("paper", round, "reward", "x", "0")
        store.log("paper", round, "improve", 0, {"reward": 0.0, "kl": 0.0})
        store.log("paper", round, "improve", 1, {"reward": 1.0, "kl": 2.0})
        for i in range(4):
            store.add(one(10 * round + 6 + i, round, ACCEPT), i)
        store.log("paper", round, "accept", 0, accept)
        store.checkpoint("paper", round, "agent", "y", "0")
    store.close()
    return folder


def inspected(folder: Path, node: str = "paper", show: str = "all", limit: int = 30) -> str:
    console = Console(file=io.StringIO(), width=150)
    with Reader(folder) as run, console.capture() as capture:
        show_tree(run, console)
        show_node(run, node, console, show=show, limit=limit)
    return capture.get()


def test_every_round_says_whether_it_was_kept_and_by_how_many(tmp_path: Path) -> None:
    with Reader(made(tmp_path / "run")) as run:
        first, second = rounds_of(run, run.nodes["paper"])
        progress = run.progress(run.nodes["paper"])
    assert first.accepted == Acceptance(True, 3.0, 4) and second.accepted == Acceptance(False, 0.5, 4)
    assert (first.accepted.preferred, first.accepted.before) == ("3/4", "1/4")
    assert (second.accepted.preferred, second.accepted.before) == ("0.5/4", "3.5/4")
    assert (first.comparisons, str(first.accuracy), first.ignorant) == (10, "9/12", "")
    assert "all 30 comparisons it was fitted to are ties" in second.ignorant and str(second.accuracy) == "–"
    assert progress.kept is False and progress.ignorant
    shown = inspected(tmp_path / "run")
    assert "3/4 prefer it: kept" in shown and "0.5/4 prefer it: undone" in shown
    assert "9/12 cases" in shown and "round 2: the reward model has learned nothing" in shown
    assert "1.00 undone" in shown and "nothing learned" in shown


@pytest.mark.parametrize("asked", [False, True])
def test_an_improvement_that_earned_less_is_undone_whatever_the_user_says_of_it(asked: bool, tmp_path: Path) -> None:
    """Both outcomes are then of the agent as it was."""
    folder = made(tmp_path / "run")
    store = Store(folder / "run.db")
    store.log("paper", 2, "improve", 0, {"reward": 1.0})
    store.log("paper", 2, "improve", 4, {"undone": 1.0})
    if asked:
        store.log("paper", 2, "accept", 0, {"preferred": 0.5, "comparisons": 4.0, "kept": 1.0})
    store.close()
    with Reader(folder) as run:
        assert rounds_of(run, run.nodes["paper"])[2].undone
        assert run.progress(run.nodes["paper"]).kept is False
    assert "it earns less: undone" in inspected(folder)
    with open_app(folder) as client:
        assert "it earns less" in plain(client.get("/r/run/node/paper").text)


def test_a_round_that_stands_is_not_called_undone_for_an_earlier_one(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    store = Store(folder / "run.db")
    store.log("paper", 2, "improve", 0, {"reward": 1.0})  # nobody was asked of it, and it earned no less
    store.close()
    with Reader(folder) as run:
        assert run.progress(run.nodes["paper"]).kept is None and run.progress(run.nodes["paper/proofs"]).kept is None


def test_what_decided_is_marked_and_found(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    expected = [*range(7, 11), *range(17, 21)]
    with Reader(folder) as run:
        assert [line.seq for line in lists.find(run, "paper", lists.Query("accept")).lines] == expected
        assert [line.seq for line in lists.find(run, "paper").lines if line.accept] == expected
        marked = [seq for seq in range(1, 21) if (c := judged.comparison(run, seq)) is not None and c.accept]
    assert marked == expected
    assert [c.purpose for c in Store(folder / "run.db").comparisons("paper")] == 2 * (6 * [""] + 4 * [ACCEPT])
    assert inspected(folder, show="accept").count("whether its improvement stands") == 8


def test_runs_of_before_tell_by_the_time_what_decided(tmp_path: Path) -> None:
    folder = made(tmp_path / "run")
    with sqlite3.connect(folder / "run.db") as db:
        for verb in ("insert", "update", "delete"):
            db.execute(f"DROP TRIGGER comparisons_{verb}_linked")
        db.execute("ALTER TABLE comparisons DROP COLUMN purpose")
        db.execute("PRAGMA user_version = 1")
    with Reader(folder) as run:
        found = [line.seq for line in lists.find(run, "paper", lists.Query("accept")).lines]
    assert found == [*range(7, 11), *range(17, 21)]
    with Reader(FIXTURE) as run:
        rounds = rounds_of(run, run.nodes["toy"])
        first = lists.find(run, "toy", lists.Query("accept")).lines
        assert first and all(line.accept and line.round == 0 for line in first)
    assert rounds[0].accepted is not None and rounds[0].accuracy is not None


def test_what_trained_a_version_was_judged_before_it_was_trained(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    synthetic.configure(folder)
    store = Store(folder / "run.db")
    for part in range(5):
        store.add(one(part, 0, task="paper/proofs"), part)
    store.checkpoint("paper/proofs", 0, "reward", "x", "0")
    for part in range(5, 9):
        store.add(one(part, 0, ACCEPT, task="paper/proofs"), part)
    store.checkpoint("paper/proofs", 0, "agent", "x", "0")
    store.add(one(20, 0), 0)  # shows paper/proofs@v1
    store.add(one(9, 1, task="paper/proofs"), 0)
    store.close()
    with Reader(folder) as run:
        until = judged.trained_before(run, "paper", "paper/proofs", "v1")
        assert [line.seq for line in lists.find(run, "paper/proofs", before=until).lines] == [1, 2, 3, 4, 5]
        assert judged.trained_before(run, "paper", "paper/proofs", "v7") == 0
        assert judged.trained_before(run, "paper", "paper/proofs", "v1", "paper/proofs/steps") > 0


def test_the_pages_show_it(tmp_path: Path) -> None:
    with open_app(made(tmp_path / "run")) as client:
        shown = plain(client.get("/r/run/node/paper").text)
        listed = plain(client.get("/r/run/list/paper?show=accept").text)
        assert "whether its improvement stands" in client.get("/r/run/c/7").text
        assert "whether its improvement stands" not in client.get("/r/run/c/6").text
        assert "1.00, undone" in client.get("/r/run").text
    assert "8 of 20 comparisons, 8 on this page" in listed and "1 accept" in listed
    assert "3/4" in shown and "0.5/4" in shown and "undone" in shown and "9/12" in shown


@pytest.mark.parametrize("seed", range(20))
def test_accuracy_is_k_of_n_or_nothing(seed: int) -> None:
    rng = random.Random(seed)
    of = rng.randrange(3 * ENOUGH)
    right = rng.randint(0, of)
    found = Predicted.of_fit(fit(right, of, rng.choice((0, of))))
    assert found is not None
    assert str(found) == counted(found) == (f"{right}/{of}" if of >= ENOUGH else "–")
    assert found.knows == (of >= ENOUGH and right > of - right)
    assert found.share is None or found.share == right / of
    assert counted(None) == "–" and Predicted.of_fit({"accuracy": 0.9, "n": 5.0}) is None
    assert nothing_learned(fit(right, of)) == ""


def test_a_confidence_is_shown_only_of_what_knows(tmp_path: Path) -> None:
    for number, (right, of, shown) in enumerate([(14, 20, True), (10, 20, False), (7, 7, False), (5, 8, True)]):
        folder = tmp_path / str(number)
        synthetic.configure(folder)
        store = Store(folder / "run.db")
        store.add(synthetic.comparison(0), 0)
        store.log("paper/proofs", 0, "fit", 0, fit(right, of))
        store.close()
        with Reader(folder) as run:
            c = judged.comparison(run, 1)
            assert c is not None
            proofs = c.a.answers[0]
            assert (proofs.confidence is not None) is shown and proofs.below[0].confidence is None
        assert ("ranks at 75%" in inspected(folder)) is shown
