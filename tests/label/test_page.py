"""The labeling server: what it sends, what it accepts; and no kill loses or doubles a judgement."""

from __future__ import annotations

import json
import random
import sqlite3
import urllib.error
import uuid
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from rrm.labels.queue import Labels
from rrm.store.store import Store
from tests.label import training
from tests.label.material import pair
from tests.label.serving import Client, Refused, Server, kill, start, until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Labels, list[str], Server]]:
    folder = tmp_path_factory.mktemp("run")
    Store(folder / "run.db").close()
    labels = Labels(folder)
    ids = labels.ask("t", 0, "Which?", [pair(i, text="<b>\x1b[31m\u202e") for i in range(40)], 1, 0.5)
    server = Server(folder)
    yield labels, ids, server
    server.kill()


def test_a_page_gets_pairs_ahead_as_text_and_without_assistance_where_drawn(
    served: tuple[Labels, list[str], Server],
) -> None:
    labels, _, server = served
    client = Client(server.url)
    seen: dict[bool, int] = {True: 0, False: 0}
    for _ in range(12):
        answer = client.post("next", labeler="ann")
        assert len(answer["questions"]) == 3 and answer["progress"]["asked"] == 40 and answer["end"] is None
        shown = answer["questions"][0]
        question = labels.question(shown["id"])
        seen[shown["assisted"]] += 1
        text = json.dumps(shown)
        assert ("proofs" in text) == shown["assisted"] == question.assisted("ann"), "what is hidden is not sent"
        assert "\\u001b" not in text and "\\u202e" not in text
        first = question.pair.b if question.swapped("ann") else question.pair.a
        assert shown["sides"][0]["pieces"][-1]["text"].endswith(first.text[-1:])
        sent = {"key": str(uuid.uuid4()), "question": shown["id"], "labeler": "ann", "choice": "first", "seconds": 1}
        assert [client.post("answer", **sent)["status"] for _ in range(2)] == ["kept", "repeated"]
    assert min(seen.values()) > 0
    undone = client.post("undo", key=str(uuid.uuid4()), labeler="ann")
    assert undone["shown"]["id"] == undone["question"] == shown["id"]
    assert len(labels.labels()) == 11 and "ann: 11 judged" in client.post("report", labeler="ann")["lines"]


def test_what_is_not_a_judgement_is_refused(served: tuple[Labels, list[str], Server]) -> None:
    labels, ids, server = served
    client = Client(server.url)
    good = {"key": str(uuid.uuid4()), "question": ids[-1], "labeler": "eve", "choice": "tie", "seconds": 1}
    before = len(labels.labels())
    for wrong in ({"choice": "both"}, {"extra": 1}, {"labeler": ""}, {"question": "x"}, {"seconds": -1}, {"key": "k"}):
        with pytest.raises(Refused, match="400"):
            client.post("answer", **(good | wrong))
    with pytest.raises(Refused, match="403"):
        client.post("answer", csrf="wrong", **good)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        Client(server.url.split("?")[0])
    assert len(labels.labels()) == before


def counts(folder: Path) -> dict[str, int]:
    """Of the two databases of a run, read from outside."""
    found = {}
    for name, file, query in (
        ("asked", "labels.db", "SELECT COUNT(*) FROM questions"),
        ("labels", "labels.db", "SELECT COUNT(*) FROM labels"),
        ("open", "labels.db", "SELECT COUNT(*) FROM open"),
        ("twice", "labels.db", "SELECT COUNT(*) - COUNT(DISTINCT question) FROM labels"),
        ("comparisons", "run.db", "SELECT COUNT(*) FROM comparisons"),
    ):
        try:
            db = sqlite3.connect(f"file:{folder / file}?mode=ro", uri=True)
            found[name] = db.execute(query).fetchone()[0]
            db.close()
        except sqlite3.OperationalError:  # not there yet
            found[name] = 0
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_training_and_killed_servers_lose_nothing_and_ask_nothing_twice(tmp_path: Path) -> None:
    """A scripted labeler over HTTP; the server is killed between and during posts, training while it waits and
    while it takes a round's judgements."""
    command = ("tests.label.training", str(tmp_path))
    rng = random.Random(3)
    trainer = start(*command)
    until(lambda: counts(tmp_path)["asked"] > 0)
    server = Server(tmp_path)
    client = Client(server.url)
    acknowledged: dict[str, str] = {}  # question -> key
    kills = {"server": 0, "training": 0}
    judged = 0
    while trainer.poll() is None:
        if kills["training"] < 3 and len(acknowledged) in (3, 5, 6) and judged != len(acknowledged):
            judged = len(acknowledged)  # 5: the last label for a fit, so training may be using it; 6: amid the trial
            kill(trainer)
            kills["training"] += 1
            trainer = start(*command)
        try:
            questions = client.post("next", labeler="bot")["questions"]
            for question in questions[:1]:
                key = str(uuid.uuid4())
                sent = {"key": key, "question": question["id"], "labeler": "bot", "seconds": 1.5}
                sent["choice"] = rng.choice(("first", "second", "tie"))
                if len(acknowledged) % 6 == 4:  # before the post
                    server.kill()
                    kills["server"] += 1
                for attempt in range(10):
                    try:
                        receipt = client.post("answer", **sent)
                    except (OSError, HTTPException):
                        server.restart()
                        client = Client(server.url)
                        continue
                    assert receipt["status"] in ("kept", "repeated") and not receipt["late"]
                    assert acknowledged.setdefault(question["id"], key) == key, "asked twice"
                    if attempt == 0 and len(acknowledged) % 6 == 1:  # after it: the answer was acknowledged
                        server.kill()
                        kills["server"] += 1
                    break
                else:
                    pytest.fail("the server did not come back")
        except (OSError, HTTPException):
            if server.process.poll() is not None:
                server.restart()
            client = Client(server.url)
    output, _ = trainer.communicate()
    server.kill()
    assert "finished" in output and kills["training"] == 3 and kills["server"] >= 5, kills
    found = counts(tmp_path)
    assert found["twice"] == found["open"] == 0
    assert found["asked"] == found["labels"] == found["comparisons"] == len(acknowledged) >= 2 * training.PAIRS
    labels, store = Labels(tmp_path), Store(tmp_path / "run.db")
    assert {label.question: label.key for label in labels.labels()} == acknowledged
    by_pair = {(q.round, q.pair.id): q.id for q in labels.questions(list(acknowledged)).values()}
    preferences = {label.question: label.preference for label in labels.labels()}
    for comparison in store.comparisons():
        assert comparison.preference == preferences[by_pair[comparison.round, comparison.pair.id]]
        assert (comparison.user, comparison.seconds) == ("human(bot)", 1.5)
