"""What `check` says of trees: every fault names the node and the mend."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Case, Pool, Task, TaskError, check, faults, train
from rrm.core.contracts import ContractError
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


@pytest.mark.parametrize("name", ["facts", "frame", "findings", "surface", "locate"])
@pytest.mark.parametrize("given", ["words", [], 3])
def test_what_cannot_be_called_is_no_function(name: str, given: object) -> None:
    (error,) = said(toy.task(assistants=(toy.sub("a", **{name: given}),)))
    assert error.startswith(f"error: toy/a: {name} is {given!r} (") and f"def {name}(case, outcome)" in error


def test_one_thing_where_a_tuple_was_meant() -> None:
    one = toy.sub("one")
    with pytest.raises(TaskError, match=r"toy: assistants=\(one\) is one Task.*write assistants=\(one,\)"):
        toy.task(assistants=(one))
    for name in ("covers", "aspects"):
        with pytest.raises(TaskError, match=rf"toy: {name}=\('form'\) is one str.*write {name}=\('form',\)"):
            toy.task(**{name: ("form")})
    with pytest.raises(TaskError, match="assistants has a str in it; each must be a Task or Assistant"):
        toy.task(assistants=("one",))
    assert toy.task(assistants=[one], covers=iter(["a"])).assistants == (one,)


@given(cases=st.integers(1, 9), outcomes=st.integers(2, 6), asked=st.integers(1, 200))
def test_more_comparisons_than_pairs_are_doubted(cases: int, outcomes: int, asked: int) -> None:
    settings = toy.SMALL.model_copy(update={"cases": cases, "outcomes": outcomes, "comparisons": asked})
    pairs = cases * len(list(itertools.combinations(range(outcomes), 2)))
    doubts = [text for text in said(toy.task(settings=settings), "warning") if "comparisons" in text]
    assert len(doubts) == (asked > pairs)
    assert all(f"make {pairs} pairs" in text for text in doubts)


def test_cases_that_are_none_or_say_nothing() -> None:
    assert "rrm.Pool" in said(toy.task(cases=[Case("a")]))[0]
    assert said(toy.task(cases=Pool((Case(" \n"),))))[0].endswith("nothing to read")
    behind = toy.task(cases=Pool((Case("", {"state": 1}),)))  # agents of another kind may read the data
    assert said(behind) == [] and "empty prompt" in said(behind, "warning")[0]

    class Failing:
        def draw(self, n: int, key: str) -> list[Case]:
            return [{}["a"]]

    class Texts:
        def draw(self, n: int, key: str) -> list[str]:
            return ["a"]

    assert "cases of 'toy' raised KeyError" in said(toy.task(cases=Failing()))[0]
    assert "gave 'a' (str) in a list of Case" in said(toy.task(cases=Texts()))[0]


@pytest.mark.parametrize("user, mend", [("bounded", r"rrm\.BoundedUser\(\)"), (BoundedUser, r"BoundedUser\(\)")])
def test_a_name_is_no_user(tmp_path: Path, user: object, mend: str) -> None:
    with pytest.raises(ContractError, match=mend):
        train(toy.task(), user, "embedded", tmp_path / "run")
    assert not (tmp_path / "run").exists()
