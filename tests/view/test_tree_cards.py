"""What a node's card says: from what was recorded, counted among the newest, and nothing where there is no record."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from pathlib import Path

from rrm.core.judgements import Pair
from rrm.core.records import Case, Outcome
from rrm.labels.questions import side
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.view.reading import Reader
from rrm.view.tree_cards import NEWEST, Card, cards_of
from tests.view import synthetic


def test_a_card_says_what_was_recorded_and_nothing_else(tmp_path: Path) -> None:
    made = [synthetic.comparison(i, preference=float(i % 4 > 0), a=f"left {i}", b=f"right {i}") for i in range(20)]
    run = synthetic.make(tmp_path / "run", made)
    with Reader(run) as opened:
        found = cards_of(opened)
    assert found["paper"] == Card(), "neither truth, nor audit, nor a round that ended"
    assert found["paper/proofs"].silent == "0% of 40 answers" and found["paper/data"].silent == "100% of 40 answers"
    assert found["paper/proofs/steps"].silent == "", "no comparison of its parent is recorded"
    with closing(Store(run / "run.db")) as store:
        for round, kept in enumerate((1.0, 0.0, None, None)):
            store.checkpoint("paper", round, "agent", "x", "1")
            if kept is not None:
                store.log("paper", round, "accept", 0, {"kept": kept, "preferred": 0.5, "comparisons": 8})
        store.log("paper", 3, "improve", 9, {"undone": 1.0})
        compared = store.compared("paper")
    synthetic.true(run, compared)
    right = of = 0.0
    score = {outcome: n * 7 % 10 for n, (_, outcome, _) in enumerate(compared)}
    with Reader(run) as opened:
        for a, b, preference in opened.rows("SELECT a, b, preference FROM comparisons"):
            of += score[a] != score[b]
            right += (score[a] - score[b]) * (preference - 0.5) > 0
        found = cards_of(opened)
    assert found["paper"] == Card(f"with the truth {right / of:.2f}, n {of:.0f}", "", "1 kept, 2 undone, 1 not asked")
    known = {"mean": 0.75, "low": 0.5, "high": 1.0, "n": 12}
    (run.parent / "report.json").write_text(json.dumps({"run": {"agreement": known}}))
    with Reader(run) as opened:
        assert cards_of(opened)["paper"].agreement == "with the truth 0.75, n 12", "of fresh outcomes"


def test_gain_is_that_of_the_newest_weights(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [synthetic.comparison(0)])
    with closing(Store(run / "run.db")) as store:
        store.checkpoint("paper", 0, "reward", "x", "1")
        audit = run / "trust" / "paper" / "audits" / "gain.json"
        audit.parent.mkdir(parents=True)
        gain = {"value": 0.125, "low": -0.03, "high": 0.28, "n": 16, "cases": 16}
        for body, said in (
            ({"weights": {"reward": "1"}, "found": {"gain": gain}}, "+0.12 [-0.03, +0.28], n 16"),
            ({"weights": {"reward": "0"}, "found": {"gain": gain}}, ""),
            ({"weights": {"reward": "1"}, "found": {"gain": {"not_known": "no assistant helps here"}}}, ""),
            ({"weights": {"reward": "1"}, "found": None}, ""), ([], ""),
        ):  # fmt: skip
            audit.write_text(json.dumps(body))
            with Reader(run) as opened:
                assert cards_of(opened)["paper"].gain == said


def test_of_many_the_newest_are_counted_and_said_to_be(tmp_path: Path) -> None:
    run = synthetic.bulk(tmp_path / "run", NEWEST + 1, 0)
    with Reader(run) as opened:
        assert cards_of(opened, 60)["paper/data"].silent == f"100% of the newest {2 * NEWEST} answers"
        late = cards_of(opened, 0)["paper/data"].silent
        assert late == "100% of the newest 2 answers", "time was up after one"


def test_people_agree_on_what_several_judged(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    pairs = [Pair("paper", Case(f"case {i}"), Outcome("left"), Outcome("right")) for i in range(9)]
    sides: dict[str, set[float]] = {}
    with closing(Labels(run)) as labels:
        asked = labels.ask("paper", 0, "Which?", pairs, 2, 0.0)
        for question in asked[1:]:
            for who in "xy":
                labels.answer(str(uuid.uuid4()), question, who, "first")  # which of the two that is was drawn
        labels.answer(str(uuid.uuid4()), asked[0], "x", "tie")
        for label in labels.labels():
            sides.setdefault(label.question, set()).add(side(label.preference or 0.0))
    same = sum(len(sides[question]) == 1 for question in asked[1:])
    assert 0 < same < 8
    with Reader(run) as opened:
        assert cards_of(opened)["paper"].agreement == f"of people in {same}/8 pairs"
