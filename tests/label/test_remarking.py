"""What people say of one outcome: what is asked is offered, and kept of the outcome that they saw, each their own."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from rrm import train
from rrm.core.judgements import Comparison, Pair
from rrm.core.records import Outcome
from rrm.core.remarks import ASKED, Kind, Remark, parse
from rrm.labels.questions import LabelError, Question, combine
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.store.upgrades import LABELS
from rrm.users.human import HumanUser
from rrm.view.web.label import as_shown
from tests import toy
from tests.label.material import pair
from tests.label.serving import Client, Refused, Server
from tests.label.test_human import FEW, human, terminal

EVERYTHING = "rating=7,approval,unacceptable,correction,note"
HOSTILE = "<script>alert(1)</script> \x1b]0;owned\x07\x1b[2J \u202e[bold]x"


def queue(folder: Path, ask: str = EVERYTHING, n: int = 6, overlap: int = 1, text: str = "outcome") -> Labels:
    Store(folder / "run.db").close()
    labels = Labels(folder)
    labels.ask("t", 0, "Which?", [pair(i, text=text) for i in range(n)], overlap, 0.0, ask=ask)
    return labels


def asked(labels: Labels, name: str = "ann", swapped: bool | None = None) -> Question:
    """A question that this person is shown in this order."""
    return next(q for q in labels.claim(name, 20) if swapped in (None, q.swapped(name)))


def answer(labels: Labels, question: Question, first: list[Remark], second: list[Remark], name: str = "ann") -> None:
    labels.answer(str(uuid.uuid4()), question.id, name, "first", remarks=(first, second))


@pytest.mark.parametrize("ask", ["", *ASKED, "rating=3,note", EVERYTHING])
def test_what_is_asked_is_offered_and_nothing_else(tmp_path: Path, ask: str) -> None:
    labels = queue(tmp_path, ask)
    question = asked(labels)
    assert [side["asked"] for side in as_shown(question, "ann")["sides"]] == [parse(ask)] * 2
    every: dict[Kind, Remark] = {
        "rating": Remark("rating", 2.0, parse(ask).get("rating", 5)), "approval": Remark("approval", 1.0),
        "unacceptable": Remark("unacceptable", 1.0), "correction": Remark("correction", better=Outcome("w")),
        "note": Remark("note", text="so"),
    }  # fmt: skip
    for kind, one in every.items():
        if kind not in parse(ask):
            with pytest.raises(LabelError, match=f"nobody asked for a {kind}"):
                answer(labels, question, [one], [])
    answer(labels, question, [every[kind] for kind in parse(ask)], [])
    (label,) = labels.labels()
    assert {one.kind for one in (*label.remarks_a, *label.remarks_b)} == set(parse(ask))


@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_said_of_the_first_is_kept_with_the_outcome_that_was_shown_first(tmp_path: Path, swapped: bool) -> None:
    labels = queue(tmp_path, "rating", 12)
    question = asked(labels, swapped=swapped)
    answer(labels, question, [Remark("rating", 5.0, 5)], [Remark("rating", 1.0, 5)])
    (label,) = labels.labels()
    best = label.remarks_b if swapped else label.remarks_a
    assert [one.value for one in best] == [5.0]
    judgement = combine(question.pair, [label])
    assert judgement.preference == (0.0 if swapped else 1.0)
    assert judgement.remarks_a[0].value == (1.0 if swapped else 5.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([Remark("rating", 8.0, 7)], "whole number from 1 to 7"),
        ([Remark("rating", 3.0, 5)], "rating of 5 levels; there are 7"),
        ([Remark("approval", 0.5)], "1 for yes"),
        ([Remark("note", text=" ")], "without words"),
        ([Remark("note", text="a"), Remark("note", text="b")], "two remarks of the kind note"),
        ([Remark("correction", better=Outcome(" \n"))], "empty correction"),
        ([Remark("correction", better=Outcome("x", (1,)))], "more than a text"),
        ([Remark("demonstration")], "nobody asked for a demonstration"),
    ],
)
def test_what_means_nothing_is_refused_in_words_and_nothing_kept(
    tmp_path: Path, wrong: list[Remark], says: str
) -> None:
    labels = queue(tmp_path)
    with pytest.raises(LabelError, match=says):
        answer(labels, asked(labels), [], wrong)
    assert not labels.labels()


def test_the_outcome_itself_is_no_correction_and_an_episode_is_not_corrected(tmp_path: Path) -> None:
    labels = queue(tmp_path, "correction,rating", 1)
    one = replace(pair(7), b=Outcome("lifts its arm", data={"move": [1, 2]}))
    (id, _) = labels.ask("t", 0, "Which?", [one, pair(0)], 1, 0.0, ask="correction,rating")
    question = labels.question(id)
    text, data = (0, 1) if not question.swapped("ann") else (1, 0)
    sides = as_shown(question, "ann")["sides"]
    assert set(sides[text]["asked"]) == {"correction", "rating"} and set(sides[data]["asked"]) == {"rating"}
    better = [Remark("correction", better=Outcome("another"))]
    both: list[list[Remark]] = [better, better]
    with pytest.raises(LabelError, match="asked for is rating"):
        answer(labels, question, both[0], both[1])
    both[text] = [Remark("correction", better=Outcome(one.a.text))]
    both[data] = []
    with pytest.raises(LabelError, match="the outcome itself"):
        answer(labels, question, both[0], both[1])


def test_who_judges_and_marks_nothing_has_looked_and_who_skips_has_not(tmp_path: Path) -> None:
    labels = queue(tmp_path, "unacceptable,rating", 2)
    first, second = labels.claim("ann", 2)
    answer(labels, first, [Remark("unacceptable", 1.0)], [])
    labels.answer(str(uuid.uuid4()), second.id, "ann", "skip")
    judged, skipped = labels.labels()
    assert sorted((r.kind, r.value) for r in (*judged.remarks_a, *judged.remarks_b)) == [
        ("unacceptable", 0.0), ("unacceptable", 1.0)
    ]  # fmt: skip
    assert not skipped.remarks_a and not skipped.remarks_b


def test_an_undo_takes_them_back_with_the_label(tmp_path: Path) -> None:
    labels = queue(tmp_path, n=1)
    question = asked(labels)
    answer(labels, question, [Remark("rating", 7.0, 7)], [])
    labels.undo(str(uuid.uuid4()), "ann")
    assert not labels.labels()
    answer(labels, question, [Remark("rating", 2.0, 7)], [])
    taken = labels.take([question.id])
    assert taken is not None
    said = taken[question.id]
    assert [r.value for r in (*said.remarks_a, *said.remarks_b) if r.kind == "rating"] == [2.0]


def test_two_people_s_ratings_stay_apart(tmp_path: Path) -> None:
    labels = queue(tmp_path, "rating", 1, overlap=2)
    for name, level in (("ann", 1.0), ("ben", 5.0)):
        question = asked(labels, name)
        said = [Remark("rating", level, 5)]
        answer(labels, question, *((said, []) if not question.swapped(name) else ([], said)), name)
    taken = labels.take([question.id])
    assert taken is not None
    assert [(r.by, r.value) for r in taken[question.id].remarks_a] == [("ann", 1.0), ("ben", 5.0)]
    assert not taken[question.id].remarks_b
    store = Store(tmp_path / "other.db")
    store.add(Comparison(question.pair, taken[question.id], 0, taken[question.id].by), 0)
    (one,) = store.comparisons()
    assert len({remark.scale for remark in one.remarks}) == 2, "each has a scale of their own"
    assert one.judgement.remarks_a == taken[question.id].remarks_a
    store.close()


def test_a_task_s_people_are_asked_what_its_settings_say(tmp_path: Path) -> None:
    task = replace(toy.task(), settings=toy.SMALL.model_copy(update={"ask": "rating=3,note"}))
    user: HumanUser = human(overlap=1, unassisted=0.0)
    one = Pair(task.path, pair(0).case, Outcome("w3"), Outcome("w4"))
    user.expect(task, 0, [one], tmp_path)
    (question,) = Labels(tmp_path).claim("ann")
    assert question.asked == {"rating": 3, "note": 0}


def test_what_people_say_trains_the_reward_model(tmp_path: Path) -> None:
    """A whole run: ratings, marks and corrections of a person are in run.db, and the fit has them."""
    settings = FEW.model_copy(update={"ask": "rating=3,unacceptable,correction"})
    done = threading.Event()

    def person() -> None:
        while not (tmp_path / "labels.db").exists():
            time.sleep(0.05)
        labels = Labels(tmp_path)
        while not done.is_set():
            for n, question in enumerate(labels.claim("ann")):
                better = Remark("correction", better=Outcome(f"what it should be {question.id} {n}"))
                answer(labels, question, [Remark("rating", 3.0, 3)], [Remark("unacceptable", 1.0), better])
            time.sleep(0.02)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        train(toy.task(settings=settings, facts=lambda case, outcome: []), human(), "embedded", tmp_path)
    finally:
        done.set()
        thread.join()
    store = Store(tmp_path / "run.db")
    found = store.comparisons()
    assert found and all(len(one.remarks) == 4 for one in found)
    assert {one.remark.by for c in found for one in c.remarks} == {"ann"}
    first = [(c, "b" if c.preference == 0 else "a") for c in found]
    assert all(getattr(c.judgement, f"remarks_{side}")[0].value == 3 for c, side in first), "what was shown first"
    fit = {name: value for *_, name, value in store.metrics("toy", "fit")}
    assert fit["ratings"] and fit["marks"] and fit["derived"]
    store.close()


# --- the page and the terminal -----------------------------------------------------------------------


def test_the_page_sends_them_and_hears_what_is_wrong(tmp_path: Path) -> None:
    labels = queue(tmp_path, text=HOSTILE)
    server = Server(tmp_path)
    try:
        client = Client(server.url)
        shown = client.post("next", labeler="ann")["questions"][0]
        assert [side["asked"] for side in shown["sides"]] == [parse(EVERYTHING)] * 2
        assert not {"\x1b", "\x07", "\u202e"} & {*json.dumps(shown, ensure_ascii=False)}, "nor is it typed into a field"
        good = {"labeler": "ann", "question": shown["id"], "choice": "second", "seconds": 1}
        for wrong, says in (
            ([{"kind": "rating", "value": 9}], "whole number from 1 to 7"),
            ([{"kind": "stars", "value": 1}], "faults"),
            ([{"kind": "note", "text": "x", "by": "ben"}], "faults"),
            ([{"kind": "correction", "text": ""}], "empty correction"),
        ):
            with pytest.raises(Refused, match=says):
                client.post("answer", **good, key=str(uuid.uuid4()), remarks=[wrong, []])
        said = [[{"kind": "rating", "value": 7}, {"kind": "correction", "text": HOSTILE + "!"}],
                [{"kind": "approval", "value": 0}, {"kind": "note", "text": HOSTILE}]]  # fmt: skip
        assert client.post("answer", **good, key=str(uuid.uuid4()), remarks=said)["status"] == "kept"
    finally:
        server.kill()
    (label,) = labels.labels()
    first, second = (label.remarks_b, label.remarks_a) if label.swapped else (label.remarks_a, label.remarks_b)
    assert [(r.kind, r.value, r.levels) for r in first] == [
        ("rating", 7.0, 7), ("unacceptable", 0.0, 0), ("correction", None, 0)
    ]  # fmt: skip
    assert first[2].better == Outcome(HOSTILE + "!") and second[-1].text == HOSTILE


def test_the_terminal_takes_them_line_by_line(tmp_path: Path) -> None:
    labels = queue(tmp_path, n=1)
    shown = terminal(
        tmp_path, "a", "a 9", "a 4", "b 7", "b 7", "a +", "b !", "a =", "so", "it is", ".", f"b : {HOSTILE}", "1"
    )
    (label,) = labels.labels()
    first, second = (label.remarks_b, label.remarks_a) if label.swapped else (label.remarks_a, label.remarks_b)
    assert [(r.kind, r.value) for r in first] == [
        ("rating", 4.0), ("approval", 1.0), ("unacceptable", 0.0), ("correction", None)
    ]  # fmt: skip
    assert first[3].better == Outcome("so\nit is")
    assert [(r.kind, r.value) for r in second] == [("unacceptable", 1.0), ("note", None)], "said twice is taken back"
    assert "whole number from 1 to 7" in shown and "rate it, 1 is the worst" in shown
    assert "\x1b]" not in shown and "\x1b[2J" not in shown and "\u202e" not in shown and "[bold]x" in shown


def test_the_terminal_does_not_ask_what_nobody_asks(tmp_path: Path) -> None:
    labels = queue(tmp_path, "", 1)
    shown = terminal(tmp_path, "a 4", "b !", "1")
    assert "alone" not in shown
    assert not labels.labels()[0].remarks_a and not labels.labels()[0].remarks_b


# --- older files -------------------------------------------------------------------------------------


def test_a_queue_of_before_is_brought_up_to_date(tmp_path: Path) -> None:
    labels = queue(tmp_path, "", 2)
    labels.answer("key-of-a-label", asked(labels).id, "ann", "first", note="so")
    labels.close()
    db = sqlite3.connect(tmp_path / "labels.db")
    db.executescript(
        "DROP VIEW current; DROP VIEW open; ALTER TABLE questions DROP COLUMN ask; ALTER TABLE labels DROP COLUMN"
        " remarks; CREATE VIEW current AS SELECT * FROM labels l WHERE kind != 'undo' AND NOT EXISTS (SELECT 1 FROM"
        " labels u WHERE u.supersedes = l.seq); CREATE VIEW open AS SELECT * FROM questions q WHERE NOT EXISTS"
        " (SELECT 1 FROM closed WHERE closed.question = q.id); PRAGMA user_version=1;"
    )
    db.close()
    labels = Labels(tmp_path)
    (label,) = labels.labels()
    assert (label.note, label.remarks_a, label.remarks_b) == ("so", (), ())
    (question,) = labels.claim("ann")
    assert question.asked == {} and labels._db.execute("PRAGMA user_version").fetchone() == (len(LABELS),)
    answer(labels, question, [], [])
    assert len(labels.labels()) == 2
