"""What a labeler is told beside a pair: guidelines, what assistants were asked, and at the end what comes next."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from rrm.core.parallel import World
from rrm.labels.queue import Labels
from rrm.loop.lock import locked
from rrm.store.store import Store
from rrm.view.guide import asked_below
from rrm.view.label_end import end_of
from rrm.view.reading import Reader
from rrm.view.web.app import create_app
from rrm.view.web.label import ROUTES
from tests.label.material import pair
from tests.label.test_controls import judge
from tests.label.test_human import terminal


def asked(folder: Path, overlap: int = 1) -> Labels:
    Store(folder / "run.db").close()
    labels = Labels(folder)
    labels.ask("t", 0, "Which?", [pair(i) for i in range(2)], overlap, 0.0)
    return labels


def test_the_guide_says_what_every_assistant_was_asked(tmp_path: Path) -> None:
    asked(tmp_path)
    tree = {path: {"instruction": f"Is {path[-5:]} right?\x1b[2J"} for path in ("t/proofs/steps", "t/proofs", "t")}
    told = {"t/proofs/steps": {"covers": ["proofs", "sums"]}, "t/proofs": {"covers": ["proofs"]}}
    (tmp_path / "config.json").write_text(json.dumps({"tree": tree, "about": {"tasks": told}}))
    with Reader(tmp_path) as run:
        found = [(one.name, one.depth, one.looks_at) for one in asked_below(run, "t")]
    assert found == [("proofs", 0, ""), ("steps", 1, "looks at proofs, sums")]
    shown = terminal(tmp_path, "g", "q")
    assert "steps was asked: Is steps right?" in shown and "\x1b[2J" not in shown


def test_assistants_say_yes_no_and_na_and_people_right_and_wrong(tmp_path: Path) -> None:
    asked(tmp_path)
    shown = terminal(tmp_path, "j", "j", "y", "k", "x", "q").replace("\x1b[", "").split("Which?")[1]
    assert all(word in shown for word in ("no", "yes", "N/A", "nothing in it that could be right", "(you: wrong)"))
    assert "wrong: " not in shown


def test_keys_are_told_where_they_do_something(tmp_path: Path) -> None:
    labels = asked(tmp_path)
    first = terminal(tmp_path, "q")
    assert "this answer is right" in first and "undo" not in first and "step back" not in first
    judge(labels, labels.claim("ann")[0], "ann")
    assert "u undo" in terminal(tmp_path, "q")


def test_who_skipped_all_waits_for_nobody_and_judged_none(tmp_path: Path) -> None:
    labels = asked(tmp_path)
    ids = [one.id for one in labels.claim("ann", 2)]
    for id in ids:
        assert labels.progress("ann").answered == ids.index(id)
        labels.answer(str(uuid.uuid4()), id, "ann", "skip")
    with Reader(tmp_path) as run:
        end = end_of(run, tmp_path, labels.progress("ann"))
    assert "No process trains this run now" in end.text and "You judged" not in end.text and "wait" not in end.text
    assert labels.progress("ann").mine == 2, "both can be taken back"
    labels.claim("ben")
    assert labels.progress("ann").answered == 1, "somebody has it before them"
    labels.release("ben")
    assert labels.progress("ann").answered == 2 and labels.take(ids) is not None


def test_the_end_says_who_is_waited_for_and_what_to_type(tmp_path: Path) -> None:
    labels = asked(tmp_path, overlap=2)
    config = {"tree": {"t": {}}, "about": {"command": "rrm train t --user human"}}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def told(*first: str) -> str:
        with Reader(tmp_path) as run:
            end = end_of(run, tmp_path, labels.progress("ann"))
        *rest, _, last = (typed for typed, _ in end.steps)
        assert rest == [*first] and last == f"rrm view {tmp_path}" and not end.over
        return f"{end.title}. {end.text}"

    for question in labels.claim("ann", 2):
        judge(labels, question, "ann")
    with locked(tmp_path, World()):
        assert told().endswith("You judged 2 pairs. 2 pairs wait for other people; training goes on after that.")
    assert "2 pairs wait for other people. No process trains" in told("rrm train t --user human")
    for question in labels.claim("ben", 2):
        judge(labels, question, "ben")
    shown = told("rrm train t --user human")
    assert shown.startswith("Nothing to judge just now. You judged 2 pairs. No process") and "other people" not in shown
    with Reader(tmp_path) as run:
        assert "audit goes on" in end_of(run, tmp_path, labels.progress("ann"), audit=True).text


def test_a_run_that_is_called_a_dot_has_a_name_and_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "mine" / "deeper"
    inside.mkdir(parents=True)
    labels = asked(tmp_path / "mine")
    for there, given in ((tmp_path / "mine", Path(".")), (inside, Path(".."))):
        monkeypatch.chdir(there)
        app = create_app([given], None, ROUTES, labels=labels, folder=given, labeler=None)
        with TestClient(app, base_url="http://127.0.0.1:8000") as client:
            shown = client.get("/label", params={"token": app.state.access.token}).text
            link = re.search(r'href="(/r/[^"]*)" data-key="v"', shown)
            assert "<title>Label mine</title>" in shown and link is not None
            assert client.get(link[1]).status_code == 200
