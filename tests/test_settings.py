"""A setting that does not exist, or may not have its value: our own error, with what was meant and where it stands."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from rrm import BoundedUser, EndpointUser, HumanUser, Settings
from rrm.command.cli import app
from rrm.core.settings import SettingError

KINDS = [Settings, BoundedUser, HumanUser, EndpointUser]


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_that_lacks_its_last_letter_is_recognized(kind: type[BaseModel]) -> None:
    for name in (name for name in kind.model_fields if len(name) > 4):
        with pytest.raises(SettingError) as told:
            kind(**{f"{name}q": 1})
        text = str(told.value)
        assert f"{kind.__name__} (" in text and f"test_settings.py, line {told.traceback[0].lineno + 1})" in text
        assert f"no setting '{name}q'; did you mean" in text and repr(name) in text


@given(name=st.text(min_size=1, max_size=8), value=st.integers() | st.text())
def test_whatever_is_wrong_no_link_of_pydantic_is_shown(name: str, value: object) -> None:
    try:
        Settings(**{name: value})
    except SettingError as error:
        assert "pydantic" not in str(error) and error.__suppress_context__


def test_a_value_that_is_not_allowed_says_what_the_setting_is() -> None:
    with pytest.raises(SettingError, match=r"rounds=0: Input should be greater.*\(Turns of the loop"):
        Settings(rounds=0)
    with pytest.raises(SettingError) as told:
        Settings(rounds=0, stepz=2, improver="adam")  # type: ignore[call-arg, arg-type]
    assert len(str(told.value).splitlines()) == 3  # all at once


def test_what_may_be_secret_is_not_shown() -> None:
    for wrong in ({"base_url": "http://me:hunter2@host/v1"}, {"key": "hunter2"}, {"kye": "hunter2"}):
        with pytest.raises(SettingError) as told:
            EndpointUser(**({"base_url": "http://127.0.0.1/v1", "model": "m"} | wrong))
        assert "hunter2" not in str(told.value)


def test_right_settings_are_as_before() -> None:
    settings = Settings(rounds=3)
    assert Settings.model_validate(settings.model_dump()) == settings == copy.deepcopy(settings)
    assert settings.model_copy(update={"rounds": 4}).rounds == 4


def test_the_command_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from rrm import Settings\n\n\nsettings = Settings(\n    stepz=1,\n)\n")
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "mine.py, line 4): no setting 'stepz'; did you mean 'steps'" in text and "pydantic" not in text


@pytest.mark.parametrize(
    "defined, root",
    [
        ("child = Task('c', '', facts=f, frame=f, findings=f)\n"
         "sentence = Task('s', '', facts=f, cases=C, assistants=(child,))", "sentence"),
        ("child = Task('c', '', facts=f, cases=C)\nparent = Task('p', '', facts=f, assistants=(child,))", "parent"),
        ("parent = Task('p', '', facts=f, cases=C)\nloose = Task('l', '', facts=f, frame=f)", "parent"),
        ("a = Task('a', '', facts=f, cases=C)\nb = Task('b', '', facts=f, cases=C, assistants=(Task('c', '', f),))\n"
         "z = Task('z', '', facts=f, cases=C)", "b"),
        ("a = Task('a', '', facts=f)\nb = Task('b', '', facts=f)", "b"),
    ],
)  # fmt: skip
def test_the_root_is_what_would_do(tmp_path: Path, defined: str, root: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"from rrm import Case, Pool, Task\nf = lambda c, o: []\nC = Pool((Case('a'),))\n{defined}\n")
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 2 and f"`task = {root}` would do" in " ".join(done.output.split())
