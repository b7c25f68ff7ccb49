"""What a folder's run was set to, against what is asked now: one line for each difference, and nothing cut away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Task, train
from rrm.core.errors import ModelError, RunError
from rrm.core.settings import Settings
from rrm.core.validation import plant
from rrm.learning.text_maker import TextMaker
from rrm.loop.differences import SHOWN, compared, listed
from rrm.loop.run import BITS, LATER
from rrm.loop.training import describe
from rrm.models.backbone import Backbone
from rrm.users.human import HumanUser
from tests import toy


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


def tree(**changes: Any) -> Task:
    return plant(toy.task(assistants=(toy.sub("a"), toy.sub("b")), **changes))


def said(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return compared(json.loads(json.dumps(there)), json.loads(json.dumps(now)), LATER)


def test_each_kind_of_difference_in_its_own_words(backbone: Backbone) -> None:
    there = describe(tree(), BoundedUser(), backbone, 0)
    other = toy.SMALL.model_copy(update={"rounds": 5, "lr": 0.25})
    changed = plant(toy.task(settings=other, instruction="Which is worse?", assistants=(toy.sub("b"), toy.sub("c"))))
    assert said(there, describe(changed, BoundedUser(attention=8), backbone, 3)) == [
        "toy.rounds: 1 there, 5 now",
        "toy.lr: 0.0005 there, 0.25 now",
        'toy.instruction: "Which is better?" there, "Which is worse?" now',
        "toy/a: a node only there",
        "toy/c: a node only here, now",
        "user.attention: 16 there, 8 now".replace("16", str(BoundedUser().attention)),
        "seed: 0 there, 3 now",
    ]


def test_another_user_is_one_difference(backbone: Backbone) -> None:
    there, now = (describe(tree(), user, backbone, 0) for user in (BoundedUser(), HumanUser()))
    (line,) = said(there, now)
    assert line.startswith('user: "bounded(') and line.endswith('there, "human" now')


@given(st.dictionaries(st.sampled_from(["rounds", "cases", "comparisons", "steps", "batch"]), st.integers(6, 99)))
def test_as_many_lines_as_settings_that_differ(values: dict[str, int]) -> None:
    base = {key: 5 for key in ("rounds", "cases", "comparisons", "steps", "batch")}

    def config(settings: Settings) -> dict[str, Any]:
        return {"tree": {"toy/a": {"settings": settings.model_dump(), "instruction": ""}}}

    found = said(config(Settings(**base)), config(Settings(**(base | values))))
    assert sorted(found) == sorted(f"toy/a.{key}: 5 there, {value} now" for key, value in values.items())


def test_many_are_counted_and_no_line_is_long() -> None:
    there = {"tree": {f"n{i}": {"settings": {}, "instruction": "x" * 500} for i in range(30)}}
    now = {"tree": {f"n{i}": {"settings": {}, "instruction": "x" * 499 + "y"} for i in range(30)}}
    lines = listed(said(there, now)).splitlines()[1:]
    assert len(lines) == SHOWN + 1 and lines[-1].strip() == "and 20 more"
    assert all(len(line) < 200 for line in lines)
    assert all("x" in line and "y" in line for line in lines[:-1])  # the difference itself is in it


def test_what_older_runs_lack_is_no_difference() -> None:
    model = {"name": "m", "fingerprint": "f"}
    now = {"model": model | {"prompts": {"vocabulary": 3}}, "cases": ["a"], "seed": 0}
    assert said({"model": model, "seed": 0, "about": {"rrm": "0.1.0"}}, now) == []
    assert said({"model": model | {"fingerprint": "g"}, "seed": 0}, now) == ['model.fingerprint: "g" there, "f" now']
    assert said({"model": model | {"prompts": {"vocabulary": 2}}, "cases": ["a"], "seed": 0}, now) == [
        "model.prompts.vocabulary: 2 there, 3 now (the size of the vocabulary)"
    ]


def test_a_run_that_had_prompts_is_no_run_of_a_maker_without() -> None:
    there = {"model": {"name": "m", "prompts": {"vocabulary": 2}}}
    assert said(there, {"model": {"name": "m"}}) == []  # another maker has another name or fingerprint


ODD = json.dumps({"tree": 3, "user": [], "model": None, "cases": {}, "about": {"bits": BITS}})


@pytest.mark.parametrize("body", ["[]", "3", ODD])
def test_a_config_of_something_else_is_an_error_of_ours(tmp_path: Path, body: str) -> None:
    (tmp_path / "config.json").write_text(body)
    with pytest.raises(RunError, match=r"config\.json|other settings"):
        train(toy.task(), BoundedUser(), "embedded", tmp_path)


def test_another_chat_template_is_another_run(tmp_path: Path) -> None:
    first = Backbone.load("embedded")
    train(toy.task(), BoundedUser(), first, tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["model"]["prompts"] == TextMaker(first).prompts
    train(toy.task(), BoundedUser(), Backbone.load("embedded"), tmp_path)  # the same resumes

    loaded = Backbone.load("embedded")
    loaded.tokenizer.chat_template = (
        "{% for m in messages %}w1 {{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}w2{% endif %}"
    )
    with pytest.raises(ModelError, match="was changed after it was loaded"):
        loaded.render("x")
    other = Backbone("embedded", loaded.model, loaded.tokenizer)
    with pytest.raises(RunError, match=r"model\.prompts\.rendered: .*chat template make of a prompt"):
        train(toy.task(), BoundedUser(), other, tmp_path)

    del kept["model"]["prompts"]  # a run of before
    (tmp_path / "config.json").write_text(json.dumps(kept))
    train(toy.task(), BoundedUser(), Backbone.load("embedded"), tmp_path)


def test_a_changed_setting_of_a_run_is_named(tmp_path: Path) -> None:
    train(toy.task(), BoundedUser(), "embedded", tmp_path)
    other = replace(toy.task(), settings=toy.SMALL.model_copy(update={"rounds": 3}))
    with pytest.raises(RunError) as told:
        train(other, BoundedUser(), "embedded", tmp_path)
    lines = str(told.value).splitlines()
    assert [line for line in lines if "there" in line] == ["  toy.rounds: 1 there, 3 now"]
    assert "--out" in lines[-1]
