"""`rrm measure uplift`: a person's judgements with and without assistance, against the truth of the tree's world."""

from __future__ import annotations

import json
from pathlib import Path

from rrm.core.judgements import Pair
from rrm.core.records import Outcome
from rrm.labels.queue import Labels
from rrm.measure.oracle import true_score
from rrm.store.store import Store
from rrm.worlds.games import King, case_of, positions
from rrm.worlds.games.game import after
from rrm_tasks.moves import moves
from tests.games.test_world import replied
from tests.label.test_agreement import judge
from tests.label.test_human import cli, human

GAME, TREE = King(12), moves(King(12))


def pairs() -> list[Pair]:
    """Every position's first two moves, a reply to each."""
    found = []
    for position in positions(GAME):
        steps = after(GAME, position)
        if len(steps) > 2 and all(after(GAME, there) for there in steps.values()):
            case, some = case_of(GAME, position), [Outcome(move) for move in [*steps][1:]]
            said = [replied(case, one, [next(iter(after(GAME, steps[one.text])))]) for one in some]
            found.append(Pair("moves", case, some[0], some[1], said[0], said[1]))
    return found


def judged(folder: Path, unassisted: float = 0.5, n: int | None = None) -> Labels:
    """ann is right with the assistance and wrong without; ben always says tie."""
    Store(folder / "run.db").close()
    user, labels = human(unassisted=unassisted, overlap=2), Labels(folder)
    user.expect(TREE, 0, pairs()[:n], folder)
    for question in [labels.question(id) for id in labels.cases()]:
        one = question.pair
        truth = true_score(TREE, one.case, one.a) > true_score(TREE, one.case, one.b)
        judge(labels, question, "ann", truth == question.assisted("ann"))
        judge(labels, question, "ben", None)
    return labels


def measured(folder: Path, *words: str) -> tuple[int, str]:
    return cli("measure", "uplift", str(folder), "--out", str(folder / "out"), *words)


def test_the_uplift_of_scripted_people_is_what_was_scripted(tmp_path: Path) -> None:
    judged(tmp_path)
    code, said = measured(tmp_path, "--tree", "moves")  # the game is in the cases: another of the same kind will do
    assert code == 0 and "ann: uplift, shown minus not shown: 1.00 [1.00, 1.00]" in said
    assert "ben: uplift, shown minus not shown: 0.00 [0.00, 0.00]" in said
    found = json.loads((tmp_path / "out/uplift/summary.json").read_text())["people"]
    ann = next(one for one in found if one["labeler"] == "ann")
    assert (ann["assisted"]["worth"]["value"], ann["unassisted"]["worth"]["value"]) == (1.0, 0.0)
    one = pairs()
    decided = [true_score(TREE, p.case, p.a) != true_score(TREE, p.case, p.b) for p in one]
    assert ann["assisted"]["worth"]["n"] + ann["unassisted"]["worth"]["n"] == sum(decided) < len(one)
    assert ann["assisted"]["n"] + ann["unassisted"]["n"] == len(one)


def test_who_saw_all_assistance_has_no_uplift_and_no_interval(tmp_path: Path) -> None:
    judged(tmp_path, 0.0, 6)
    code, said = measured(tmp_path, "--tree", "moves", "--node", "moves")
    assert code == 0 and "ann: uplift, shown minus not shown: –" in said
    assert "| ann | not shown | 0 | 0 | 0 | | – | 0 |" in said


def test_what_cannot_be_measured_says_why(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for folder, words, match in (
        (tmp_path, (), "Give --tree"),
        (tmp_path / "none", ("--tree", "moves"), "no labels.db"),
        (tmp_path, ("--tree", "paper"), "labels at 'moves', which the tree 'paper' lacks"),
        (tmp_path, ("--tree", "moves", "--node", "moves/reply"), "nobody judged a pair at 'moves/reply'"),
    ):
        if folder == tmp_path and not (tmp_path / "labels.db").exists():
            judged(tmp_path, n=6)
        code, said = measured(folder, *words)
        assert code == 2 and match in said, (words, said)
    assert "uplift RUN" in cli("measure")[1]
