"""What a labeler is told beside a pair: guidelines, what assistants were asked, and at the end what comes next."""

from __future__ import annotations

import json
from pathlib import Path

from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.view.guide import asked_below
from rrm.view.label_end import end_of
from rrm.view.reading import Reader
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


def test_the_end_says_who_is_waited_for_and_what_to_type(tmp_path: Path) -> None:
    labels = asked(tmp_path, overlap=2)

    def told() -> str:
        with Reader(tmp_path) as run:
            end = end_of(run, tmp_path, labels.progress("ann"))
        assert [f"rrm view {tmp_path}" in typed for typed, _ in end.steps] == [False, True] and not end.over
        return f"{end.title}. {end.text}"

    for question in labels.claim("ann", 2):
        judge(labels, question, "ann")
    assert told().endswith("You judged 2 pairs. 2 pairs wait for other people; training goes on after that.")
    for question in labels.claim("ben", 2):
        judge(labels, question, "ben")
    assert told().startswith("Nothing to judge just now. You judged 2 pairs. ") and "other people" not in told()
    with Reader(tmp_path) as run:
        assert "audit goes on" in end_of(run, tmp_path, labels.progress("ann"), audit=True).text
