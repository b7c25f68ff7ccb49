"""The dry run of `rrm check`: what a tree's functions do wrong is found before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm import (
    Assistant,
    BoundedUser,
    Case,
    Fact,
    Finding,
    Judgement,
    Malformed,
    Outcome,
    Pair,
    Pool,
    Sealed,
    Task,
)  # fmt: skip
from rrm.command.cli import app
from rrm.core.validation import faults, plant
from rrm.measure.rehearsal import rehearse
from rrm.models.backbone import Backbone
from rrm.users.human import HumanUser
from tests import toy


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


def said(task: Task, user: Any = None, backbone: Backbone | None = None) -> list[str]:
    task = plant(task)
    assert [fault for fault in faults(task) if fault.level == "error"] == []
    return [str(fault) for fault in rehearse(task, user or BoundedUser(), backbone).faults]


def raises(case: Case, outcome: Outcome) -> Any:
    raise KeyError("missing")


class OddError(RuntimeError):
    """Of a kind of its own."""


def odd(case: Case, outcome: Outcome) -> Any:
    raise OddError("odd")


def unreadable(case: Case, outcome: Outcome) -> Any:
    raise Malformed("never")


def test_a_good_tree_is_not_doubted(backbone: Backbone) -> None:
    tree = toy.task(assistants=(toy.sub("a", assistants=(toy.sub("deep"),)), toy.sub("b")))
    for model in (None, backbone):
        assert said(tree, backbone=model) == []
        assert rehearse(plant(tree), BoundedUser(), model).untried == []


@pytest.mark.parametrize("name", ["facts", "frame", "findings", "surface", "locate"])
@pytest.mark.parametrize(
    "broken, why",
    [(raises, "KeyError"), (odd, "OddError"), (lambda c, o: 3, "3"), (lambda c, o: None, "None")],
    ids=["raises", "raises another", "a number", "nothing"],
)
def test_a_function_that_fails_is_an_error_of_its_node(name: str, broken: Callable[..., Any], why: str) -> None:
    deep = toy.sub("deep", **{name: broken})
    found = [text for text in said(toy.task(assistants=(toy.sub("a", assistants=(deep,)),))) if "toy/a/deep" in text]
    assert len(found) == 1 and found[0].startswith(f"error: toy/a/deep: {name} ")
    assert why in found[0] or "int" in found[0]


@pytest.mark.parametrize(
    "name, given, why",
    [
        ("facts", [Finding("even", True)], "Finding"),
        ("facts", [Fact("a", "x", Sealed(True)), Fact("a", "x", Sealed(True))], "two facts named 'a'"),
        ("frame", ["a prompt"], "list of Case"),
        ("findings", [Fact("even", "form", Sealed(True))], "list of Finding"),
        ("surface", {"length": float("nan")}, "finite"),
        ("locate", {"even": 3}, "(start, stop)"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named(name: str, given: Any, why: str) -> None:
    found = said(toy.task(assistants=(toy.sub("a", **{name: lambda case, outcome: given}),)))
    assert [text for text in found if text.startswith("error: toy/a:") and why in text]


def test_a_simulated_user_must_see_something(backbone: Backbone) -> None:
    blind = toy.task(facts=lambda case, outcome: [])
    assert said(blind)[0].startswith("warning: toy: the simulated user sees nothing")
    assert said(blind, backbone=backbone)[0].startswith("error: toy: the simulated user sees nothing")
    assert said(blind, HumanUser()) == said(blind, HumanUser(), backbone) == []
    bias = next(iter(BoundedUser().biases))
    shallow = replace(blind, surface=lambda case, outcome: {bias: 1.0})
    (doubt,) = said(shallow, backbone=backbone)
    assert doubt.startswith(f"warning: toy: the simulated user sees nothing but its surface ({bias}")
    dear = toy.task(facts=lambda case, outcome: [Fact("a", "x", Sealed(True), cost=9)])
    assert "cheapest fact costs 9" in said(dear, BoundedUser(attention=4))[0]
    assert said(dear, BoundedUser(attention=18)) == []
    about = toy.sub("a", findings=lambda case, outcome: [Finding("a", True)])
    helped = replace(dear, assistants=(about,))
    assert "or let it follow answers down" in said(helped, BoundedUser(attention=4))[0]
    follows = BoundedUser(attention=4, descent=1)
    assert said(helped, follows) == [], "what is too dear is followed into the answers"
    assert "cheapest fact costs 9" in said(dear, follows)[0], "where there are any"
    assert "cheapest fact costs 9" in said(helped, BoundedUser(attention=4, descent=1, reading=2))[0]


def test_an_empty_prompt_below(backbone: Backbone) -> None:
    tree = toy.task(assistants=(toy.sub("a", frame=lambda case, outcome: [Case(" ", {"of": outcome.text})]),))
    assert said(tree)[0].startswith("warning: toy/a: frame made a case with an empty prompt")
    assert said(tree, backbone=backbone)[0].startswith("error: toy/a: frame made a case with an empty prompt")


def test_findings_about_what_the_parent_has_not_got() -> None:
    tree = toy.task(assistants=(toy.sub("a", findings=lambda case, outcome: [Finding("evn", True)]),))
    (doubt,) = said(tree)
    assert doubt.startswith("warning: toy/a: findings are about 'evn'") and "'even', 'varied'" in doubt
    assert said(tree, HumanUser()) == []


def test_where_nothing_can_be_read_nothing_below_is_tried() -> None:
    tree = toy.task(facts=unreadable, assistants=(toy.sub("a", assistants=(toy.sub("deep", findings=raises),)),))
    found = rehearse(plant(tree), BoundedUser())
    assert found.faults == [] and found.untried == ["toy/a/deep", "toy/a"]


def test_a_finished_assistant_that_fails(backbone: Backbone) -> None:
    class Agent:
        version, repeatable = "1", True

        def sample(self, *given: object, **named: object) -> Any:
            raise OddError("no tool")

    tree = toy.task(assistants=(Assistant(toy.sub("tool"), Agent(), None),))
    (error,) = said(tree)
    assert error.startswith("error: tool: answering of 'tool' raised OddError: no tool (")
    assert "test_rehearsal.py, line " in error


FORM = r"w[1-9] (yes|no)( w[1-9]){1,3}"


def formed(case: Case, outcome: Outcome) -> list[Fact]:
    if not re.fullmatch(FORM, outcome.text):
        raise Malformed("no such form")
    return [Fact("yes", "form", Sealed("yes" in outcome.text))]


class Picky:
    """A user of somebody's own, who keeps what it is shown."""

    name = "picky"

    def __init__(self, breaks: str = "") -> None:
        self.breaks, self.shown = breaks, dict[str, Pair]()

    def judge(self, task: Task, pair: Pair) -> Judgement:
        self.shown[task.path] = pair
        if task.path == self.breaks:
            raise KeyError("no such word")
        return Judgement(0.5, note=str([one.findings for one in pair.assistance_a]))

    def recall(self, task: Task, judgement: Judgement) -> None:
        pass


def in_form(**changes: Any) -> Task:
    supply = Pool(tuple(Case(f"Write {i}.", form=FORM) for i in range(4)))
    return toy.task(cases=supply, facts=formed, assistants=(toy.sub("a", assistants=(toy.sub("deep"),)),), **changes)


def test_outcomes_are_made_up_from_the_form_so_that_what_is_below_is_reached() -> None:
    user = Picky()
    found = rehearse(plant(in_form()), user)
    assert (found.faults, found.untried) == ([], []) and {*user.shown} == {"toy/a/deep", "toy/a", "toy"}
    pair = user.shown["toy"]
    assert pair.a != pair.b and all(re.fullmatch(FORM, one.text) for one in (pair.a, pair.b))
    (said_of,) = pair.assistance_a
    assert said_of.assistant == "toy/a" and said_of.answers, "with assistance, as in a run"
    untold = replace(in_form(), cases=Pool((Case("Write."),)))
    assert "toy/a" in rehearse(plant(untold), user).untried, "texts of no form are read by few"


@pytest.mark.parametrize("path", ["toy", "toy/a", "toy/a/deep"])
def test_a_user_that_breaks_is_an_error_of_the_node(path: str) -> None:
    (error,) = said(in_form(), Picky(path))
    assert error.startswith(f"error: {path}: judging by 'picky' raised KeyError: 'no such word' (")
    assert re.search(r"test_rehearsal\.py, line \d+\)$", error)


def test_a_user_that_gives_no_judgement_or_excuses_itself_is_one_too() -> None:
    for odd, why in ((lambda task, pair: 0.5, "not an rrm.Judgement"), (unreadable, "raised Malformed: never")):
        user = Picky()
        user.judge = odd  # type: ignore[method-assign]
        assert all(text.startswith("error: ") and why in text for text in said(in_form(), user))


def test_where_a_user_of_ones_own_was_not_tried_that_is_said() -> None:
    hard = toy.task(facts=unreadable, assistants=(toy.sub("a"),))
    assert "warning: toy/a: the user was not tried at toy/a" in said(hard, Picky())
    assert not any("not tried" in text for text in said(hard, HumanUser()) + said(hard)), "people and ours are not code"
    (doubt,) = said(replace(hard, assistants=()), Picky("toy"))
    assert doubt.startswith("warning: toy: judging by"), "of texts that nobody can read"


def test_a_form_that_cannot_be_sampled_says_so() -> None:
    tree = toy.task(cases=Pool((Case("Write.", form=r"\p{L}+"),)))
    assert any("warning: toy: the form of its cases gives no made-up outcome" in text for text in said(tree))


def test_the_user_learns_nothing_from_a_rehearsal() -> None:
    user = BoundedUser()
    rehearse(plant(toy.task(assistants=(toy.sub("a"),))), user)
    assert not user._record


def check(tmp_path: Path, body: str, *arguments: str) -> tuple[int, str]:
    file = tmp_path / "mine.py"
    file.write_text(f"from rrm import *\nfrom rrm import Settings\n{body}\n")
    done = CliRunner().invoke(app, ["check", str(file), *arguments])
    return done.exit_code, done.output


BLIND = "task = Task('mine', 'Which?', facts=lambda c, o: [], cases=Pool((Case('Write.'),)))"


def test_the_command_tries_the_tree_and_asks_for_what_it_lacks(tmp_path: Path) -> None:
    code, text = check(tmp_path, BLIND)
    assert code == 0 and "warning: mine: the simulated user sees nothing" in text
    code, text = check(tmp_path, BLIND, "--model", "embedded")
    assert code == 1 and "error: mine: the simulated user sees nothing" in text and "--user human" in text
    code, text = check(tmp_path, BLIND, "--user", "human")
    assert code == 0 and "0 errors, 0 warnings" in text
    code, text = check(tmp_path, BLIND.replace("lambda c, o: []", "'words'"))
    assert code == 1 and "facts is 'words' (str), not a function" in text
    code, text = check(tmp_path, BLIND.replace("lambda c, o: []", "lambda c, o: 1 / 0"))
    assert code == 1 and "error: mine: facts of 'mine' raised ZeroDivisionError" in text
    code, text = check(tmp_path, BLIND, "--user", "nobody")
    assert code == 2 and "no such user" in text
