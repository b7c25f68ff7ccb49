"""What users and a task's functions give is checked where it enters: an error that names the node, or all is kept."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Case, Fact, Finding, Judgement, Pair, RRMError, Sealed, Task, train
from rrm.core import border
from rrm.core.border import BorderError
from rrm.core.clean import visible
from rrm.core.errors import at_node
from rrm.core.judgements import Check
from rrm.models.backbone import Backbone
from tests import toy
from tests.models.conftest import network, tokenizer

SETTINGS = toy.SMALL.model_copy(update={"cases": 4, "outcomes": 3, "comparisons": 9})
NAN, INF = math.nan, math.inf


class Scripted:
    """Answers with what a function of (how often it was asked, task, pair) gives."""

    name = "scripted"

    def __init__(self, answer: Callable[[int, Task, Pair], Any]) -> None:
        self.answer, self.asked = answer, 0

    def judge(self, task: Task, pair: Pair) -> Any:
        self.asked += 1
        return self.answer(self.asked, task, pair)

    def recall(self, task: Task, judgement: Judgement) -> None:
        pass


def run(out: Path, user: Any, **changes: Any) -> list[tuple[Any, ...]]:
    """Train the toy tree; what was stored of its judgements."""
    train(toy.task(settings=SETTINGS, **changes), user, Backbone("tiny", network(), tokenizer(), "full"), out)
    query = "SELECT preference, attention, note, seconds FROM comparisons WHERE task = 'toy' ORDER BY seq"
    return sqlite3.connect(out / "run.db").execute(query).fetchall()


def alternating(n: int, task: Task, pair: Pair) -> Judgement:
    return Judgement(float(n % 2))


# --- users -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preference", [NAN, INF, -INF, 1.7, -0.01, 1e308, "A", True, torch.tensor(1.0), [1.0], {}])
@pytest.mark.parametrize("at", [1, 3])
def test_a_preference_that_is_none_stops_the_run_by_name(tmp_path: Path, preference: Any, at: int) -> None:
    user = Scripted(lambda n, task, pair: Judgement(preference if n == at else float(n % 2)))
    with pytest.raises(BorderError, match=r"toy: the user 'scripted' \(pair \w+\): the preference is "):
        run(tmp_path, user)
    kept = sqlite3.connect(tmp_path / "run.db").execute("SELECT preference FROM comparisons").fetchall()
    assert len(kept) == at - 1 and all(value in (0.0, 1.0) for (value,) in kept)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"attention": NAN}, "the attention is nan"),
        ({"attention": 2**70}, "the attention is 1180591620717411303424"),
        ({"attention": -1}, "the attention is -1"),
        ({"attention": 0.5}, "the attention is 0.5"),
        ({"seconds": NAN}, "the seconds is nan"),
        ({"seconds": -3.0}, "the seconds are -3"),
        ({"margin": INF}, "the margin is inf"),
        ({"note": "\ud800"}, "the note is no valid unicode"),
        ({"note": "x" * (2 << 20)}, "the note has 2097152 characters"),
        ({"note": 3}, "the note is 3"),
        ({"by": None}, "the name is None"),
        ({"checks": ("steps",)}, "a list of Check"),
        ({"checks": (Check("steps", True, True, spot=0.0),)}, "chance of a spot check is 0"),
        ({"checks": (Check("steps", True, True, side="c"),)}, "a check is of the side 'c'"),  # type: ignore[arg-type]
    ],
)
def test_numbers_and_texts_beside_the_preference(tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(BorderError, match=why):
        run(tmp_path, Scripted(lambda n, task, pair: Judgement(float(n % 2), **given)))


@pytest.mark.parametrize(("answer", "why"), [(None, r"gave None \(NoneType\), not an rrm.Judge"), (1.0, "gave 1.0")])
def test_what_is_no_judgement(tmp_path: Path, answer: Any, why: str) -> None:
    with pytest.raises(BorderError, match=why):
        run(tmp_path, Scripted(lambda n, task, pair: answer))


def test_a_user_that_raises_is_named_and_its_escapes_are_not_sent_to_the_terminal(tmp_path: Path) -> None:
    def broken(n: int, task: Task, pair: Pair) -> Judgement:
        if n == 4:
            raise ValueError("user \x1b]0;pwn\x07 broke")
        return alternating(n, task, pair)

    with pytest.raises(BorderError, match=r"toy: the user .* raised ValueError: user \?\]0;pwn\? broke") as caught:
        run(tmp_path, Scripted(broken))
    assert caught.value.__cause__ is not None
    assert len(sqlite3.connect(tmp_path / "run.db").execute("SELECT 1 FROM comparisons").fetchall()) == 3


def test_all_judgements_are_stored_as_given(tmp_path: Path) -> None:
    given = [0.0, 1.0, 0.5, None, 0.25, 1, 0, np.float32(0.5), np.float64(0.75)]
    user = Scripted(lambda n, task, pair: Judgement(given[n - 1], attention=n, note=f"é{n}", seconds=n))
    stored = run(tmp_path, user)
    assert [row[0] for row in stored] == [None if value is None else float(value) for value in given]
    assert [row[1:] for row in stored] == [(n, f"é{n}", float(n)) for n in range(1, 10)]


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.none() | st.text() | st.booleans())
def test_a_judgement_is_as_given_or_refused(value: Any) -> None:
    try:
        kept = border.judged(Judgement(value), "toy")
    except BorderError:
        assert isinstance(value, str | bool) or not (math.isfinite(value) and 0 <= value <= 1)
        return
    assert kept.preference is None if value is None else kept.preference == float(value)


def test_a_user_s_name_can_be_stored(tmp_path: Path) -> None:
    user = Scripted(alternating)
    user.name = "\ud800"
    with pytest.raises(BorderError, match="the user's name is no valid unicode"):
        run(tmp_path, user)


# --- a task's functions ------------------------------------------------------------------------------


def sub(**changes: Any) -> tuple[Task, ...]:
    return (toy.sub(settings=SETTINGS, **changes),)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"assistants": sub(frame=lambda c, o: 1 / 0)}, r"frame of 'toy/sub' raised ZeroDivisionError"),
        ({"assistants": sub(frame=lambda c, o: None)}, "frame of 'toy/sub' gave None .*, not a list of Case"),
        ({"assistants": sub(frame=lambda c, o: ["x"])}, r"frame of 'toy/sub' gave 'x' \(str\) in a list of Case"),
        ({"assistants": sub(frame=lambda c, o: "x")}, r"frame of 'toy/sub' gave 'x'"),
        ({"assistants": sub(frame=lambda c, o: [Case("w1", {"x": {1}})])}, "frame of 'toy/sub': its data is not JSON"),
        ({"assistants": sub(frame=lambda c, o: [Case("w1", {"x": [NAN]})])}, "frame of 'toy/sub': its data has nan"),
        ({"assistants": sub(findings=lambda c, o: 1 / 0)}, "findings of 'toy/sub' raised ZeroDivisionError"),
        ({"assistants": sub(findings=lambda c, o: None)}, "findings of 'toy/sub' gave None"),
        ({"assistants": sub(findings=lambda c, o: [("even", True)])}, "in a list of Finding"),
        ({"facts": lambda c, o: 1 / 0}, "facts of 'toy' raised ZeroDivisionError"),
        ({"facts": lambda c, o: {"even": True}}, "facts of 'toy' gave .*not a list of Fact"),
        ({"facts": lambda c, o: [Fact("a", "x", Sealed(True)), Fact("a", "x", Sealed(False))]}, "two facts named 'a'"),
        ({"facts": lambda c, o: [Fact("a", "x", Sealed("w5" in o.text), cost=-5)]}, "has the price -5, below 0"),
        ({"surface": lambda c, o: {"length": NAN}}, "surface of 'toy': length is nan"),
        ({"surface": lambda c, o: {"length": -INF}}, "surface of 'toy': length is -inf"),
        ({"surface": lambda c, o: {"length": "long"}}, "surface of 'toy': length is 'long'"),
        ({"surface": lambda c, o: 1 / 0}, "surface of 'toy' raised ZeroDivisionError"),
        ({"surface": lambda c, o: None}, "surface of 'toy' gave None"),
        ({"locate": lambda c, o: 1 / 0}, "locate of 'toy' raised ZeroDivisionError"),
    ],
)
def test_functions_that_are_wrong_are_named(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RRMError, match=why):
        run(tmp_path, BoundedUser(), **changes)


def test_what_is_unusual_and_right_is_taken(tmp_path: Path) -> None:
    def frame(case: Case, outcome: Any) -> Any:
        return (Case("w1", {"n": n}) for n in range(2))  # a generator

    made = sub(frame=frame, findings=lambda c, o: [Finding("never heard of", False)] * 2)
    assert len(run(tmp_path, Scripted(alternating), assistants=made)) == 9


def test_metrics_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from tests.bandits import example

    bandit = example("custom_agent")

    class Silent(bandit.Bandit):  # type: ignore[misc, name-defined]
        def improve(self, judge: Any, cases: Any, settings: Any, key: str, log: Any) -> Any:
            log(0, {"reward": NAN})

    class Maker(bandit.Bandits):  # type: ignore[misc, name-defined]
        def policy(self, task: Task, seed: int) -> Any:
            return Silent()

    with pytest.raises(BorderError, match="pull, improve of round 0: reward is nan"):
        train(bandit.pull, BoundedUser(attention=4), Maker(), tmp_path)


def test_checks_are_kept() -> None:
    one = Check("steps", True, False)
    assert border.judged(replace(Judgement(1.0), checks=[one]), "t").checks == (one,)  # type: ignore[arg-type]


class Supply:
    """Cases by a function."""

    def __init__(self, draw: Callable[[int, str], Any]) -> None:
        self.draw = draw


@pytest.mark.parametrize(
    ("draw", "why"),
    [
        (lambda n, key: ["w1"] * n, "cases of 'toy' gave 'w1'"),
        (lambda n, key: [Case("w1 \ud800")] * n, "cases of 'toy': a prompt is no valid unicode"),
        (lambda n, key: [Case("w1", {"x": NAN})] * n, "cases of 'toy': its data has nan"),
        (lambda n, key: [Case("w1"), Case("w2")][: 1 if n > 2 else n], "cases of 'toy': 1 was drawn, not 4"),
        (lambda n, key: [Case(f"w{i}") for i in range(n + 1)], r"cases of 'toy': 5 were drawn, not 4"),
        (lambda n, key: [Case("w1")] * n if key == "about" or n < 4 else [], "cases of 'toy': none were drawn, not 4"),
        (lambda n, key: 1 / 0 if key != "check" else [Case("w1")] * n, "cases of 'toy' raised ZeroDivisionError"),
    ],
)
def test_cases_that_are_none_are_named(tmp_path: Path, draw: Any, why: str) -> None:
    with pytest.raises(RRMError, match=why):
        run(tmp_path, Scripted(alternating), cases=Supply(draw))


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("where", ["norm.weight", "layers.1.mlp.down_proj.weight", "embed_tokens.weight"])
def test_a_model_whose_weights_are_no_numbers_is_named(tmp_path: Path, value: float, where: str) -> None:
    """All of a weight, or what is met only when a token comes up."""
    backbone = Backbone("tiny", network(), tokenizer(), "full")
    with torch.no_grad():
        weight = backbone.model.model.get_parameter(where)
        (weight if weight.dim() == 1 else weight[5:7]).fill_(value)
    with pytest.raises(RRMError, match=r"^toy: 'tiny' gives logits that are no numbers"):
        train(toy.task(settings=SETTINGS), Scripted(alternating), backbone, tmp_path)


# --- where it happened -------------------------------------------------------------------------------


def test_what_is_raised_in_a_node_s_training_names_the_node(tmp_path: Path) -> None:
    """Whatever raises it: here, a prompt that the model cannot read, of the root and of its subtask."""
    long = Supply(lambda n, key: [Case("w3 " * 5000 + f"w{i}") for i in range(n)])
    with pytest.raises(RRMError, match=r"^toy: a sequence of"):
        run(tmp_path / "root", Scripted(alternating), cases=long)
    below = toy.sub(settings=SETTINGS, frame=lambda case, outcome: [Case("w3 " * 5000)])
    with pytest.raises(RRMError, match=r"^toy/sub: a sequence of"):
        run(tmp_path / "sub", Scripted(alternating), assistants=(below,))


class Theirs(Exception):
    """Of no kind that a mistake has."""


def test_somebody_s_own_exception_stays_theirs_and_says_where(tmp_path: Path) -> None:
    def answer(n: int, task: Task, pair: Pair) -> Any:
        raise Theirs("no")

    with pytest.raises(Theirs) as caught:
        run(tmp_path, Scripted(answer), assistants=(toy.sub(settings=SETTINGS),))
    notes = caught.value.__notes__
    assert any("the user 'scripted' (pair" in note for note in notes)
    assert [note for note in notes if "node" in note] == ["While training the node toy/sub"]


@given(st.sampled_from(["toy", "toy/sub", "a b", "x+y"]), st.text(max_size=30))
def test_a_node_is_named_once(path: str, text: str) -> None:
    plainly, named, nested = RRMError(text), RRMError(f"{path}: {text}"), RRMError(text)
    for error in (named, nested):
        with pytest.raises(RRMError), at_node("root"), at_node(path):
            raise error
    assert str(plainly) == visible(text) and str(named) == visible(f"{path}: {text}")
    assert str(nested).count(path) >= 1 and "root" not in str(nested).replace(visible(text), "")
    assert str(nested) in (visible(text), f"{path}: {visible(text)}")
