"""The queue and the labels: nothing lost, nothing twice, whoever asks and however often."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from pathlib import Path

import pytest

from rrm.labels.questions import Choice, Verdict, combine, said
from rrm.labels.queue import LabelError, Labels
from tests.label.material import pair


def key() -> str:
    return str(uuid.uuid4())


def queue(folder: Path, n: int = 4, overlap: int = 1, unassisted: float = 0.0) -> tuple[Labels, list[str]]:
    labels = Labels(folder)
    return labels, labels.ask("t", 0, "Which?", [pair(i) for i in range(n)], overlap, unassisted)


def work(labels: Labels, name: str, choice: Choice = "first", limit: int = 10**6) -> list[str]:
    """Judge whatever is offered; returns the questions."""
    done: list[str] = []
    while len(done) < limit and (questions := labels.claim(name)):
        assert labels.answer(key(), questions[0].id, name, choice).status == "kept"
        done.append(questions[0].id)
    return done


def test_a_round_is_taken_when_all_of_it_is_judged(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    assert work(labels, "ann", limit=3) == ids[:3]
    assert labels.take(ids) is None and labels.waiting(ids) == 1
    assert work(labels, "ben") == ids[3:]
    assert labels.take(ids, grace=60) is None, "the last label can still be undone"
    judged = labels.take(ids)
    assert judged is not None and list(judged) == ids
    for id in ids:
        question = labels.question(id)
        name = "ben" if id == ids[3] else "ann"
        assert judged[id].preference == (0.0 if question.swapped(name) else 1.0), "first is what was shown first"
        assert judged[id].by == f"human({name})"
    assert labels.take(ids) == judged == labels.taken(ids)
    assert labels.claim("eve") == []


def test_asking_again_adds_nothing_and_withdraws_what_is_no_longer_asked(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    assert labels.ask("t", 0, "Which?", [pair(i) for i in range(4)], 1, 0.0) == ids
    assert len(labels.claim("ann", 10)) == 4
    kept = labels.ask("t", 0, "Which?", [pair(0), pair(9)], 1, 0.0)
    assert {q.id for q in labels.claim("ann", 10)} == set(kept) and kept[0] == ids[0]
    again = labels.ask("t", 0, "Which?", [pair(1)], 1, 0.0)
    assert again[0] not in ids and [q.pair for q in labels.claim("ann", 10)] == [pair(1)]


def test_nobody_gets_a_pair_that_another_holds_until_the_claim_runs_out(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    mine = [q.id for q in labels.claim("ann", 2, lease=0.2)]
    assert [q.id for q in labels.claim("ann", 2, lease=0.2)] == mine, "one's own are offered again"
    others = [q.id for q in labels.claim("ben", 10, lease=60)]
    assert mine + others == ids
    time.sleep(0.25)
    assert [q.id for q in labels.claim("eve", 10)] == mine
    assert labels.answer(key(), mine[0], "ann", "first").status == "kept", "a late judgement is kept all the same"
    labels.release("ben")
    assert [q.id for q in labels.claim("ann", 10)] == others


def test_overlap_asks_as_many_people_as_demanded_and_takes_the_mean(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, n=6, overlap=2)
    assert work(labels, "ann") == ids
    assert labels.take(ids) is None and labels.claim("ann") == []
    assert work(labels, "ben", "tie") == ids
    assert labels.claim("eve") == [], "two labels are enough"
    judged = labels.take(ids)
    assert judged is not None
    assert {j.preference for j in judged.values()} == {0.25, 0.75}
    assert all(j.by == "human(ann, ben)" for j in judged.values())


def test_a_skipped_pair_goes_to_others_and_is_an_abstention_when_nobody_is_left(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, n=3)
    first = labels.claim("ann")[0].id
    labels.answer(key(), first, "ann", "skip")
    assert first not in {q.id for q in labels.claim("ann", 10)}
    assert first in {q.id for q in labels.claim("ben", 10)}, "offered to others"
    labels.release("ben")
    assert work(labels, "ann") == ids[1:]
    assert labels.claim("ben")[0].id == first and labels.take(ids) is None, "ben has it before him"
    labels.answer(key(), first, "ben", "tie")
    judged = labels.take(ids)
    assert judged is not None and judged[first].preference == 0.5

    more = labels.ask("t", 1, "Which?", [pair(7), pair(8)], 1, 0.0)
    labels.answer(key(), more[0], "ann", "skip")
    assert labels.take(more) is None
    labels.answer(key(), more[1], "ann", "first")
    judged = labels.take(more)
    assert judged is not None and judged[more[0]].preference is None and judged[more[1]].preference is not None


def test_the_same_key_again_and_the_same_pair_again_add_nothing(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    sent = key()
    statuses = [labels.answer(sent, ids[0], "ann", "first").status for _ in range(3)]
    assert statuses == ["kept", "repeated", "repeated"]
    assert labels.answer(key(), ids[0], "ann", "second").status == "known", "another tab of the same person"
    with pytest.raises(LabelError, match="another judgement"):
        labels.answer(sent, ids[1], "ann", "first")
    assert len(labels.labels()) == 1


def test_undo_supersedes_and_the_pair_is_asked_again(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    sent, back = key(), key()
    labels.answer(sent, ids[0], "ann", "first")
    assert labels.undo(back, "ben").status == "nothing", "of others nothing can be undone"
    assert labels.undo(back, "ann").question == ids[0]
    assert labels.undo(back, "ann").status == "repeated" and labels.undo(key(), "ann").status == "nothing"
    assert labels.labels() == [] and labels.claim("ann")[0].id == ids[0]
    assert labels.answer(sent, ids[0], "ann", "first").status == "repeated", "the old message, delivered late"
    assert labels.labels() == []
    labels.answer(key(), ids[0], "ann", "tie")
    assert [label.preference for label in labels.labels()] == [0.5]


def test_an_undo_after_training_has_used_the_label_says_so(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, n=1)
    labels.answer(key(), ids[0], "ann", "first")
    judged = labels.take(ids)
    receipt = labels.undo(key(), "ann")
    assert receipt.late and labels.withdrawn_late() == 1
    assert labels.take(ids) == judged and labels.claim("ann") == []
    assert labels.answer(key(), ids[0], "ben", "first").late


def test_nothing_is_updated_or_deleted(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, n=1)
    labels.answer(key(), ids[0], "ann", "first")
    labels.take(ids)
    db = sqlite3.connect(labels.path)
    for table in ("questions", "labels", "closed"):
        for verb in (f"DELETE FROM {table}", f"UPDATE {table} SET at = 0"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                db.execute(verb)


def test_marks_become_checks_of_the_assistants_they_are_about(tmp_path: Path) -> None:
    one = pair(0)
    assert [(s.at, s.depth, s.by.name, s.answer is None) for s in said(one)] == [
        ("a/0", 0, "proofs", False), ("a/1", 1, "steps", False), ("a/2", 0, "novelty", True),
        ("b/0", 0, "proofs", False), ("b/1", 1, "steps", False), ("b/2", 0, "novelty", True),
    ]  # fmt: skip
    labels, ids = queue(tmp_path, n=1)
    marks: dict[str, Verdict] = {"a/0": "no", "b/1": "yes", "b/0": "n/a", "a/2": "yes"}
    labels.answer(key(), ids[0], "ann", "first", marks=marks, note="so")
    judgement = combine(one, labels.labels())
    assert [(c.by, c.said, c.right, c.contested, c.side) for c in judgement.checks] == [
        ("t/proofs", True, False, True, "a"), ("t/proofs/steps", True, True, False, "b")
    ]  # fmt: skip
    assert judgement.note == "so"
    with pytest.raises(LabelError, match="marks"):
        labels.answer(key(), ids[0], "ben", "first", marks={"a/9": "yes"})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"labeler": " "}, "name"),
        ({"labeler": "a\x1b[31m"}, "name"),
        ({"choice": "both"}, "choice"),
        ({"strength": "very"}, "strength"),
        ({"seconds": float("nan")}, "seconds"),
        ({"key": "k"}, "key"),
        ({"question": "nope"}, "no question"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    labels, ids = queue(tmp_path)
    given = {"key": key(), "question": ids[0], "labeler": "ann", "choice": "first"} | changes
    with pytest.raises(LabelError, match=match):
        labels.answer(**given)  # type: ignore[arg-type]
    assert labels.labels() == []


def test_the_order_is_random_and_a_share_is_unassisted_the_same_at_every_look(tmp_path: Path) -> None:
    labels, _ = queue(tmp_path, n=400, unassisted=0.25)
    questions = labels.claim("ann", 400)
    swapped = [q.swapped("ann") for q in questions]
    unassisted = [not q.assisted("ann") for q in questions]
    assert 150 < sum(swapped) < 250 and 70 < sum(unassisted) < 130
    assert [q.swapped("ann") for q in labels.claim("ann", 400)] == swapped
    assert [q.swapped("ben") for q in questions] != swapped
    plain = Labels(tmp_path).ask("t", 1, "Which?", [pair(0, assisted=False)], 1, 0.0)
    assert not labels.question(plain[0]).assisted("ann"), "without assistance there is none to show"


def test_many_labelers_in_many_connections_judge_every_pair_once(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, n=60)
    done: dict[str, list[str]] = {}

    def labeler(name: str) -> None:
        own = Labels(tmp_path)
        done[name] = work(own, name)
        own.close()

    threads = [threading.Thread(target=labeler, args=(f"p{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(id for some in done.values() for id in some) == sorted(ids)
    progress = labels.progress("p0")
    assert (progress.asked, progress.answered, progress.left) == (60, 60, 0)
    assert progress.mine == len(done["p0"])
