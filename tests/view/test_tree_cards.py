"""What a node's card says: from what was recorded, counted among the newest, and nothing where there is no record."""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rrm.core.judgements import Pair
from rrm.core.parts import CUT
from rrm.core.records import Case, Outcome
from rrm.labels.questions import side
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.store.truths import FILE, Told, TrueOutcome, Truths
from rrm.view import lists, tree_cards
from rrm.view.reading import Reader
from rrm.view.tree_cards import NEWEST, Card, cards_of, newest_of
from rrm.view.truth import attached, rightness
from rrm.view.web.tree_pages import live_values
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


def test_of_many_the_newest_are_counted_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = synthetic.bulk(tmp_path / "run", NEWEST + 1, 0)
    with Reader(run) as opened:
        assert cards_of(opened)["paper/data"].silent == f"100% of the newest {2 * NEWEST} answers"
        again = [cards_of(opened)["paper/data"].silent for _ in range(3)]
        assert len({*again}) == 1, "what a card says hangs on no clock"
        monkeypatch.setattr(tree_cards, "ROWS", 7)
        assert cards_of(opened)["paper/data"].silent == "100% of the newest 14 answers" and newest_of(opened) == 7


def test_no_more_is_read_of_what_was_said_than_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = synthetic.make(tmp_path / "run", [synthetic.comparison(i, said=f"wrong {i}") for i in range(20)])
    with closing(Store(run / "run.db")) as store:
        synthetic.true(run, store.compared("paper"))
    with Reader(run) as opened:
        lengths = [one for (one,) in opened.rows("SELECT length(b.body) FROM comparisons c JOIN blobs b ON"
                                                 " b.id = c.assistance_a ORDER BY c.seq DESC")]  # fmt: skip
        whole = cards_of(opened)
        monkeypatch.setattr(tree_cards, "CHARACTERS", sum(lengths[:3]))
        some = cards_of(opened)
    assert whole["paper/data"].silent == "100% of 40 answers"
    assert some["paper/data"].silent == "100% of the newest 6 answers"
    assert some["paper"].agreement == whole["paper"].agreement != ""


def test_parts_of_outcomes_count_nowhere_by_the_truth(tmp_path: Path) -> None:
    ones = [synthetic.comparison(i, preference=1.0, a=f"left {i}", b=f"right {i}", case=f"{i}") for i in range(52)]
    part = [replace(c, pair=replace(c.pair, case=Case(c.pair.case.prompt, {CUT: {"x": 1}}))) for c in ones[12:]]
    run = synthetic.make(tmp_path / "run", [*ones[:12], *part], [1.0] * 52)
    with closing(Store(run / "run.db")) as store, closing(Truths(run)) as truths:
        truths.begin("code")
        for case, outcome, said in store.compared("paper"):
            side, number = store.record((case, outcome, said))[1].text.split()
            wrong = int(number) >= 12
            told = (Told("paper/proofs", 1, wrong, 1, wrong),)
            truths.put([TrueOutcome("paper", case, outcome, float((side == "left") != wrong), {}, said, told)])
    with Reader(run) as opened:
        told_of = {one.who: (one.share.mean, one.share.n, one.wrong) for one in rightness(opened, "paper", 60) or ()
                   if one.share is not None}  # fmt: skip
        assert told_of["user"] == told_of["reward model"] == (1.0, 12, 0)
        assert told_of["proofs, about what holds"] == told_of["proofs, about what does not hold"] == (1.0, 24, 0)
        assert cards_of(opened)["paper"].agreement == "with the truth 1.00, n 12"
        for show, n in (("user_wrong", 0), ("user_right", 12), ("reward_wrong", 0), ("untrue", 0), ("parts", 40)):
            assert lists.matching(opened, "paper", lists.Query(show), 60) == n, show


def test_files_of_others_break_no_card(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [synthetic.comparison(i, a=f"l {i}", b=f"r {i}") for i in range(20)])
    with closing(Store(run / "run.db")) as store:
        store.checkpoint("paper", 0, "reward", "x", "1")
        synthetic.true(run, store.compared("paper"))
    good, silent = (run / FILE).read_bytes(), "100% of 40 answers"

    def cards() -> dict[str, Card]:
        with Reader(run) as opened:
            live_values(opened)  # what a page, and whoever follows it, is sent
            return cards_of(opened)

    def broken(to: str) -> None:
        (run / FILE).write_bytes(good)
        with closing(sqlite3.connect(run / FILE)) as db, db:
            db.execute(to)

    assert cards()["paper"].agreement
    for to in ("DROP TABLE outcomes", "ALTER TABLE outcomes RENAME COLUMN score TO points"):
        broken(to)
        assert cards()["paper"].agreement == "" and cards()["paper/data"].silent == silent, to
        with Reader(run) as opened:
            assert not attached(opened) and len(lists.find(opened, "paper", lists.Query()).lines) == 20, to
    torn = bytearray(good)
    for at in range(4096, len(torn), 4096):
        torn[at : at + 200] = bytes([255]) * 200
    (run / FILE).write_bytes(torn)
    assert cards()["paper"].agreement == "" and cards()["paper/data"].silent == silent
    (run / FILE).unlink()
    gain = run / "trust" / "paper" / "audits" / "gain.json"
    gain.parent.mkdir(parents=True)
    kept = '{"weights": {"reward": "1"}, "found": {"gain": {"value": %s, "low": 0, "high": 1, "n": %s}}}'
    gain.write_text(kept % ("0.5", "1"))
    assert cards()["paper"].gain == "+0.50 [+0.00, +1.00], n 1"
    huge = "1" + "0" * 400
    for body in ("[" * 100_000, kept % (huge, 1), kept % ("1e999", 1), kept % ("NaN", 1), kept % (1, huge)):
        gain.write_text(body)
        assert cards()["paper"].gain == "", body[:80]
    report = run.parent / "report.json"
    fine = {"mean": 0.5, "low": 0.1, "high": 0.9, "n": 3}
    for changed, said in (
        ({"mean": None}, ""), ({"n": None}, "with the truth 0.50"), ({"n": 3.0}, "with the truth 0.50, n 3"),
        ({"mean": 10**400}, ""), ({"high": float("inf")}, ""), ({"n": "x"}, "with the truth 0.50"),
    ):  # fmt: skip
        report.write_text(json.dumps({"run": {"agreement": fine | changed}}))
        assert cards()["paper"].agreement == said, changed
    report.write_text("[" * 100_000)
    assert cards()["paper"].agreement == ""
    for node in (None, 3, [1], {"start": None, "trained": {"mean": "x"}}):
        report.write_text(json.dumps({"nodes": {"run": {"paper": node}}}))
        assert cards()["paper"].agreement == ""


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
