"""Users of one's own by file: `--user ./mine.py:Class`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rrm
from rrm.command.cli import app
from rrm.command.common import user_of
from rrm.command.new_command import copied
from rrm.command.own_users import is_file
from rrm.command.trees import load_task, named_trees
from rrm.core.errors import RRMError, TaskError
from rrm.store.store import Store

OWN = '''
from rrm import Judgement, User
from rrm.core.settings import Explained


class Shorter(User):
    """Prefers what is shorter."""

    name = "shorter"

    def judge(self, task, pair):
        a, b = len(pair.a.shown), len(pair.b.shown)
        return Judgement(0.5 if a == b else float(a < b))

    def recall(self, task, judgement):
        pass


class Alphabetical(Shorter):
    """Prefers what comes first in the alphabet."""

    name = "alphabetical"

    def judge(self, task, pair):
        a, b = pair.a.shown, pair.b.shown
        return Judgement(0.5 if a == b else float(a < b))


class Seeded(Shorter):
    def __init__(self, seed):
        self.seed = seed


class Strict(Explained):
    """One with settings."""

    seed: int = 0
    limit: int = 10
    """Most characters."""
    name: str = "strict"

    def judge(self, task, pair):
        return Judgement(float(len(pair.a.shown) <= self.limit))

    def recall(self, task, judgement):
        return None


class Nameless(User):
    def judge(self, task, pair):
        return Judgement(1.0)


class Forgetful:
    name = "forgetful"

    def judge(self, task, pair):
        return Judgement(1.0)


ready = Shorter()
number = 3
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_class_an_object_and_one_with_settings_judge(file: Path) -> None:
    pair = rrm.Pair("toy", rrm.Case("?"), rrm.Outcome("a long answer"), rrm.Outcome("short"))
    for name in ("Shorter", "Seeded", "ready"):
        judged = user_of(f"{file}:{name}", 7, ()).judge(None, pair)  # type: ignore[arg-type]  # it looks at no task
        assert judged.preference == 0.0
    assert user_of(f"{file}:Seeded", 7, ()).seed == 7  # type: ignore[attr-defined]
    strict = user_of(f"{file}:Strict", 7, ("user.limit=20",))
    assert (strict.seed, strict.limit, strict.name) == (7, 20, "strict")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "assignments", "says"),
    [
        ("", (), "own.py:Shorter"), ("Shortr", (), "did you mean 'Shorter'"), ("Nameless", (), "has no name, recall"),
        ("Forgetful", (), "has no recall"), ("number", (), "int, which has no name"),
        ("Shorter", ("user.limit=3",), "has no settings"), ("Strict", ("user.limt=3",), "limit"),
    ],
)  # fmt: skip
def test_what_is_no_user_is_refused_with_what_it_lacks(
    file: Path, name: str, assignments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(RRMError, match=says):
        user_of(f"{file}:{name}" if name else str(file), 0, assignments)


def test_a_file_that_is_not_there_or_fails_says_so(file: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no such file; did you mean.*own\.py.*defines who judges"):
        user_of(f"{tmp_path}/owm.py:Shorter", 0, ())
    file.write_text("class Broken:\n    def __init__(self):\n        raise ValueError('of old age')\n")
    with pytest.raises(TaskError, match=r"own\.py, line 3: Broken cannot be made: .*of old age"):
        user_of(f"{file}:Broken", 0, ())


def test_models_and_endpoints_are_no_files() -> None:
    assert is_file("./mine.py:Class") and is_file("mine.py")
    assert not any(map(is_file, ("model:/models/m.py", "openai:m@http://127.0.0.1/x.py", "bounded", "human")))


def test_a_user_in_the_trees_own_file_shares_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from rrm_tasks.starter import task\nMARK = object()\n{OWN}")
    load_task(str(path))
    first = [module for module in sys.modules.values() if getattr(module, "__file__", None) == str(path)]
    user = user_of(f"{path}:Shorter", 0, ())
    assert [one.Shorter for one in first] == [type(user)]


def test_it_trains_and_goes_on_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(copied(named_trees()["starter"]))
    (tmp_path / "own.py").write_text(OWN)
    typed = ["train", "mine.py", "--size", "smoke", "--user", "./own.py:Alphabetical", "--out", "run", "--quiet"]
    checked = CliRunner().invoke(app, ["check", "mine.py", "--user", "own.py:Alphabetical"])
    assert "rrm train mine.py --user own.py:Alphabetical --size smoke" in checked.output
    for _ in range(2):
        done = CliRunner().invoke(app, typed)
        assert done.exit_code == 0, done.output
    judged = Store(tmp_path / "run" / "run.db").comparisons("pile")
    assert judged and {one.user for one in judged} == {"alphabetical"}
