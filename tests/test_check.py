"""What `check` says of trees: every fault names the node and the mend."""

from __future__ import annotations

import itertools

import pytest

from rrm import Case, Pool, Task, TaskError, check, faults
from rrm.core.validation import plant
from tests import toy


def said(task: Task, level: str = "error") -> list[str]:
    return [str(fault) for fault in faults(plant(task)) if fault.level == level]


def test_a_good_tree_has_no_faults() -> None:
    tree = toy.task(aspects=("form",), assistants=(toy.sub("a", assistants=(toy.sub("deep"),)), toy.sub("b")))
    assert said(tree) == said(tree, "warning") == []
    assert [node.path for node in check(tree).walk()] == ["toy/a/deep", "toy/a", "toy/b", "toy"]


def test_a_cycle_is_reported_with_its_names() -> None:
    inner = toy.sub("inner")
    tree = toy.task(assistants=(inner,))
    object.__setattr__(inner, "assistants", (toy.sub("middle", assistants=(inner,)),))
    with pytest.raises(TaskError, match=r"cycle: toy -> inner -> middle -> inner.*narrower"):
        check(tree)


def test_a_subtask_may_serve_two_parents() -> None:
    steps = toy.sub("steps")
    tree = toy.task(assistants=(toy.sub("a", assistants=(steps,)), toy.sub("b", assistants=(steps,))))
    assert {node.path for node in check(tree).walk()} >= {"toy/a/steps", "toy/b/steps"}


def test_duplicate_names() -> None:
    assert said(toy.task(assistants=(toy.sub("a"), toy.sub("a")))) == [
        "error: toy: two assistants are named 'a'; rename one"
    ]


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a b"])
def test_impossible_names(name: str) -> None:
    assert any("name" in text for text in said(toy.task(name)))


@pytest.mark.parametrize("what", ["frame", "findings"])
def test_a_subtask_needs_frame_and_findings(what: str) -> None:
    (error,) = said(toy.task(assistants=(toy.sub("a", **{what: None}),)))
    assert error.startswith("error: toy/a:") and f"no {what}" in error and "'toy'" in error


def test_the_root_needs_cases() -> None:
    assert "no cases" in said(toy.task(cases=None))[0]

    class Empty:
        def draw(self, n: int, key: str) -> list[Case]:
            return []

    assert "empty" in said(toy.task(cases=Empty()))[0]
    assert "empty" in said(toy.task(cases=Pool(())))[0]


def test_unstable_cases() -> None:
    class Unstable:
        counter = itertools.count()

        def draw(self, n: int, key: str) -> list[Case]:
            return [Case(f"w{next(self.counter)}") for _ in range(n)]

    assert "same key" in said(toy.task(cases=Unstable()))[0]


def test_an_aspect_that_nobody_covers_is_doubted() -> None:
    assert said(toy.task(assistants=(toy.sub("a"),)), "warning") == []
    (warning,) = said(toy.task(assistants=(toy.sub("a"), toy.sub("b"))), "warning")
    assert "aspects=" in warning  # with several, the question whether they are all stands
    tree = toy.task(aspects=("form", "truth"), assistants=(toy.sub("a"),))
    (warning,) = said(tree, "warning")
    assert "'truth'" in warning and "exhaustive" in warning
    assert said(tree) == []
    check(tree)  # a doubt does not stop a run


def test_an_assistant_that_covers_no_aspect_is_doubted() -> None:
    subs = (toy.sub("a"), toy.sub("b", covers=("from",)), toy.sub("c", covers=()))
    tree = toy.task(aspects=("form",), assistants=subs)
    misspelled, silent = said(tree, "warning")
    assert misspelled.startswith("warning: toy/b:") and "'from'" in misspelled and "(form)" in misspelled
    assert silent.startswith("warning: toy/c:") and "covers=" in silent


def test_a_subtask_that_is_not_narrower_is_doubted() -> None:
    subs = (toy.sub("a", difficulty=4), toy.sub("b", difficulty=3))
    tree = toy.task(aspects=("form",), difficulty=4, assistants=subs)
    (warning,) = said(tree, "warning")
    assert warning.startswith("warning: toy/a:") and "narrower" in warning


def test_every_error_is_named_at_once_and_errors_come_first() -> None:
    tree = toy.task(cases=None, aspects=("truth",), assistants=(toy.sub("a", frame=None), toy.sub("a")))
    levels = [fault.level for fault in faults(plant(tree))]
    assert levels == sorted(levels)  # "error" before "warning"
    with pytest.raises(TaskError) as caught:
        check(tree)
    for part in ("no cases", "no frame", "two assistants"):
        assert part in str(caught.value)
