"""Outcomes in pictures: kept with the question, stepped through by keys, and never ahead of what a person may see."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from rrm import Malformed
from rrm.core.border import BorderError
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Assistance, Case, Outcome
from rrm.core.task import Picture
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.users.human import HumanUser
from rrm.view.web.app import create_app
from rrm.view.web.label import as_shown
from rrm.worlds.games import Game, King, Nim, Pile, case_of, line, positions
from rrm.worlds.games.drawing import pictures
from rrm.worlds.games.game import after
from rrm_tasks.moves import moves
from tests import toy
from tests.games.test_world import replied
from tests.label.material import pair
from tests.label.test_human import human, terminal
from tests.test_old_runs import FIXTURES
from tests.view import synthetic


def played(a: Sequence[str] = ("take 3", "take 1"), b: Sequence[str] = ("take 2", "take 3", "take 1")) -> Pair:
    """Two moves in a pile of 9, each the first of a line, and the replies to them that follow it."""
    case = case_of(Pile(9), (9,))
    one, two = Outcome(a[0]), Outcome(b[0])
    return Pair("moves", case, one, two, replied(case, one, [*a[1:]]), replied(case, two, [*b[1:]]))


def queue(folder: Path, unassisted: float = 0.0, *pairs: Pair) -> Labels:
    Store(folder / "run.db").close()
    human(unassisted=unassisted).expect(moves(), 0, pairs or [played()], folder)
    return Labels(folder)


@pytest.mark.parametrize("game", [Pile(), Nim(), King(7)], ids=str)
def test_there_is_a_picture_for_the_case_and_one_for_each_position_of_the_line(game: Game) -> None:
    rng = random.Random(0)
    for position in rng.choices(positions(game), k=30):
        case, there, written = case_of(game, position), position, []
        while (steps := after(game, there)) and len(written) < 5:
            written.append(rng.choice(list(steps)))
            there = steps[written[-1]]
        outcome, replies = Outcome(written[0]), written[1:]
        said = replied(case, outcome, replies)
        found, led = pictures(case, outcome, said), line(case, outcome, said)
        assert [one.text for one in found] == [game.drawn(one) for one in (position, *led)]
        assert len(found) == len(written) + 1 and found[0].caption == "before the move"
        assert all(f": {move}" in one.caption for move, one in zip(written, found[1:], strict=True))
        assert pictures(case, outcome, ()) == found[:2] or not replies
        assert ("has won" in found[-1].caption) == (not after(game, there))


def test_what_is_no_move_and_what_is_no_reply_are_not_played() -> None:
    case = case_of(Pile(9), (9,))
    found = pictures(case, Outcome("take\n9"), ())
    assert [one.caption for one in found] == ["before the move", "no legal move: take 9"]
    assert found[0].text == found[1].text
    said = replied(case, Outcome("take 1"), ["take 1"])
    wrong = replace(said[0], answers=(replace(said[0].answers[0], outcome=Outcome("take 7")),))
    assert len(pictures(case, Outcome("take 1"), [wrong])) == 2


def test_a_tasks_drawing_is_checked_where_it_enters() -> None:
    case, outcome = Case("c"), Outcome("o")

    def malformed(case: Case, outcome: Outcome, assistance: Sequence[Assistance]) -> list[Picture]:
        raise Malformed("no form")

    assert toy.task().pictured(case, outcome, ()) == toy.task(drawing=malformed).pictured(case, outcome, ()) == ()
    for wrong in (lambda *given: ["text"], lambda *given: 1 / 0, lambda *given: [Picture("\ud800", "")]):
        with pytest.raises(BorderError, match="drawing of 'toy'"):
            toy.task(drawing=wrong).pictured(case, outcome, ())


def test_a_drawing_changes_nothing_of_what_decides_a_run() -> None:
    from rrm.loop.training import describe
    from rrm.models.backbone import Backbone

    drawn, plain = (
        describe(replace(moves(levels=0), **change), HumanUser(), Backbone.load("embedded"), 0)
        for change in ({}, {"drawing": toy.task().drawing})
    )
    assert drawn == plain


def test_a_question_keeps_its_pictures_and_one_without_is_kept_as_before(tmp_path: Path) -> None:
    (question,) = queue(tmp_path).claim("ann")
    one = question.pair
    assert one == played()
    assert [list(side) for side in question.pictures(True)] == [
        pictures(one.case, one.a, one.assistance_a), pictures(one.case, one.b, one.assistance_b)
    ]  # fmt: skip
    assert [len(side) for side in question.pictures(True)] == [3, 4]
    assert [len(side) for side in question.pictures(False)] == [2, 2] and question.opening == 1
    plain = tmp_path / "plain"
    plain.mkdir()
    Labels(plain).ask("t", 0, "Which?", [pair(0)], 1, 0.0)
    (body,) = sqlite3.connect(plain / "labels.db").execute("SELECT body FROM questions").fetchone()
    assert body == TypeAdapter(Pair).dump_json(pair(0)).decode()
    (question,) = Labels(plain).claim("ann")
    assert question.pictures(True) == ((), ()) and question.opening == 0


def test_the_keys_step_through_both_lines_and_end_at_their_ends(tmp_path: Path) -> None:
    labels = queue(tmp_path)
    swapped = labels.claim("ann")[0].swapped("ann")
    shown = terminal(tmp_path, ".", ".", ".", ",", ",", ",", ",", "1")
    rows = [re.findall(r"(\d) of [34]: ", row) for row in shown.splitlines()]
    steps = [[int(n) for n in row] for row in rows if len(row) == 2]
    expected = [[2, 2], [3, 3], [3, 4], [3, 4], [3, 3], [2, 2], [1, 1], [1, 1]]
    assert steps == [pair[::-1] if swapped else pair for pair in expected]
    for caption in ("before the move", "the move: take 3", "the opponent replies: take 1", "the mover replies: take 1"):
        assert caption in shown
    assert "6 left, take 1 to 3" in shown and len(labels.labels()) == 1


def test_the_pictures_stand_one_above_the_other_where_they_are_too_wide(tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    wide = [Picture("wide", "x" * 70)]
    Labels(tmp_path).ask("t", 0, "Which?", [pair(0)], 1, 0.0, draw=lambda case, outcome, said: wide)
    shown = terminal(tmp_path, "1")
    assert shown.count("x" * 70) == 2 and not any(row.count("x" * 70) == 2 for row in shown.splitlines())


def test_withheld_assistance_is_in_no_picture(tmp_path: Path) -> None:
    labels = queue(tmp_path, 1.0)
    (question,) = labels.claim("ann")
    sent = as_shown(question, "ann")
    assert all(side["pictures"]["shown"] == side["pictures"]["alone"] for side in sent["sides"])
    assert [len(side["pictures"]["shown"]) for side in sent["sides"]] == [2, 2] and "replies" not in json.dumps(sent)
    shown = terminal(tmp_path, ".", ".", "h", ".", "1")
    assert "the move: take 3" in shown and "replies" not in shown
    assert not labels.labels()[0].assisted


def test_hidden_assistance_is_in_no_picture_until_it_is_shown(tmp_path: Path) -> None:
    labels = queue(tmp_path, 0.0, played(), played(("take 1", "take 2"), ("take 3", "take 2")))
    before, after = terminal(tmp_path, "h", ".", ".", "q").split("assistance hidden")
    assert "replies" not in after and "2 of 2: the move" in before + after
    assert "replies" in terminal(tmp_path, "h", "h", ".", "1", "1")
    assert all(label.looked for label in labels.labels())


def test_the_page_gets_both_sides_as_this_person_sees_them_and_as_text(tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    labels = Labels(tmp_path)

    def draw(case: Case, outcome: Outcome, said: Sequence[Assistance]) -> list[Picture]:
        return [Picture(f"{outcome.text}\x1b", "<b>\u202e"), *[Picture("replies", "")] * len(said)]

    labels.ask("t", 0, "Which?", [pair(0)], 1, 0.0, draw=draw)
    (question,) = labels.claim("ann")
    sent = as_shown(question, "ann")
    for side, outcome in zip(sent["sides"], ("BA" if question.swapped("ann") else "AB"), strict=True):
        assert side["pictures"]["alone"] == [{"caption": f"outcome 0 {outcome}␛", "text": "<b>‹202E›"}]
        assert len(side["pictures"]["shown"]) == 3
    assert sent["opening"] == 0
    terminal(tmp_path, ".", "1")


def test_questions_of_before_there_were_pictures_are_asked(tmp_path: Path) -> None:
    old = Path(shutil.copytree(FIXTURES / "labels_of_0_1_0", tmp_path / "run"))
    labels = Labels(old)
    Store(old / "run.db").close()
    (question,) = labels.claim("ada", 1)
    assert question.pictures(True) == ((), ())
    assert all(side["pictures"] == {"alone": [], "shown": []} for side in as_shown(question, "ada")["sides"])
    shown = terminal(old, ".", "1")
    assert "A drawn" not in shown and "B drawn" not in shown


def test_a_comparisons_page_has_the_pictures_that_its_judge_saw(tmp_path: Path) -> None:
    some = [played(), played(("take 1", "take 2"), ("take 3", "take 2"))]
    judged = [Comparison(one, Judgement(1.0, assisted=i == 0), 0, "human(ann)") for i, one in enumerate(some)]
    run = synthetic.make(tmp_path / "run", [*judged, synthetic.comparison(0)])
    app = create_app([run])
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        client.get("/", params={"token": app.state.access.token})
        assert "<figure" not in client.get("/r/run/c/1").text, "nobody was asked"
        queue(run, 0.5, *some)
        first, second, other = (client.get(f"/r/run/c/{seq}").text for seq in (1, 2, 3))
        assert first.count("<figure") == 3 + 4 and "the opponent replies: take 1" in first
        assert second.count("<figure") == 2 + 2 and "replies:" not in second and "the move: take 1" in second
        assert other.count("<figure") == 0
