"""What is installed: from a wheel, in an environment of its own, in any folder, even one with a `tasks` of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import rrm
from tests.layout import FOLDERS, ROOT

SHIPPED = ("rrm", "assistants", "tasks")
TINY = ("*.rounds=1", "*.cases=4", "*.comparisons=4", "*.steps=1", "*.batch=2", "*.group=2", "*.accept=0",
        "*.frame_cases=0")  # fmt: skip
SMALL = """
from dataclasses import replace

from rrm_assistants import proofs, steps, writing
from rrm_tasks.paper import paper

task = replace(paper(), assistants=(writing(), proofs(assistants=[steps()])))
"""
CONSUMER = '''
from collections.abc import Mapping, Sequence
from pathlib import Path

import rrm
from rrm import (
    Agent, Assistant, BoundedUser, Case, Comparison, EndpointUser, Fact, Finding, Group, HumanUser, Judgement, Maker,
    Outcome, Pair, Pool, Settings, Task, User, check, train,
)
from rrm.testing import check_agent
from rrm_assistants import proofs, steps
from rrm_tasks.paper import task as paper


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    return []


class Longest:
    name = "longest"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        return Judgement(float(len(pair.a.text) > len(pair.b.text)), note="by length")

    def recall(self, task: Task, judgement: Judgement) -> None:
        pass


task = Task("t", instruction="?", facts=facts, cases=Pool((Case("a"),)), settings=Settings(rounds=1),
            assistants=[proofs(assistants=[steps()])])


def run(maker: Maker, out: Path) -> Assistant:
    users: list[User] = [Longest(), BoundedUser(attention=4, biases={"length": 0.5}), HumanUser(overlap=2)]
    done: Assistant = train(check(task), users[0], maker, out, seed=3)
    again = rrm.train(paper, users[1], "embedded", out / "again")
    agent: Agent = again.agent
    check_agent(agent, [Case("a")])
    groups: list[Group] = agent.sample([Case("a")], 2, "key")
    return done if groups else again


version: str = rrm.__version__
'''
WRONG = {
    "rrm.train(3, rrm.BoundedUser())": 'Argument 1 to "train" has incompatible type "int"',
    "rrm.train(task, object())": 'Argument 2 to "train" has incompatible type "object"',
    "rrm.Case(prompt=4)": 'Argument "prompt" to "Case" has incompatible type "int"',
    "rrm.Settings(stepz=4)": 'Unexpected keyword argument "stepz"',
    "rrm.trian": 'Module has no attribute "trian"',
    "number: int = rrm.__version__": 'expression has type "str", variable has type "int"',
    "rrm_assistants.steps(settings=3)": 'Argument "settings" to "steps" has incompatible type "int"',
}
"""A line that is wrong, and what a type checker says of it."""

SKIPPED = """
[mypy]
[mypy-accelerate.*,datasets.*,matplotlib.*,numpy.*,peft.*,torch.*,transformers.*]
follow_imports = skip
"""
"""What mypy would read for half a minute, and is not ours."""


def packages() -> list[str]:
    """The packages on disk, as they are imported."""
    found = []
    for folder in SHIPPED:
        for path in (ROOT / folder).rglob("__init__.py"):
            found.append(".".join((FOLDERS[folder], *path.parent.relative_to(ROOT / folder).parts)))
    return sorted(found)


def listed(*folders: str) -> list[str]:
    """The files that git has, or would have."""
    command = ["git", "ls-files", "-co", "--exclude-standard", *folders]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in found if (ROOT / name).is_file()]


def files() -> set[str]:
    """What a wheel must hold, as it is installed: all code, and whatever stands beside it."""
    return {"/".join((FOLDERS[top], rest)) for top, _, rest in (name.partition("/") for name in listed(*SHIPPED))}


def test_every_package_is_listed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        told = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert sorted(told) == packages()


def test_everything_public_is_there() -> None:
    assert all(getattr(rrm, name) is not None for name in rrm.__all__) and sorted(rrm.__all__) == rrm.__all__
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert rrm.__version__ == tomllib.load(file)["project"]["version"]


# --- from a wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, without what was built there before."""
    copy = tmp_path_factory.mktemp("source")
    for name in listed("."):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, which lies beside it."""
    return built(source, tmp_path_factory.mktemp("dist"))


def built(source: Path, out: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def held_by(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as zipped:
        return {name for name in zipped.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, and the dependencies of this one. Its `bin` folder."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(home), "install", "-q", "--no-deps", "--no-index", str(wheel)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(here + "\n")  # its own .pth files, and so the editable install, do not count
    return home / "bin"


def run(environment: Path, folder: Path, *command: str, fails: bool = False) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(environment / command[0]), *command[1:]], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


TOGETHER = """
import json, sys
from typer.testing import CliRunner
from rrm.command.cli import app
done = [CliRunner().invoke(app, line) for line in json.loads(sys.argv[1])]
print(json.dumps([(one.exit_code, one.output) for one in done]))
"""


def together(environment: Path, folder: Path, commands: list[list[str]]) -> list[tuple[int, str]]:
    """Exit codes and outputs of several `rrm ...` of one process, since each would import everything for seconds. As
    with `python -m`, what lies in the folder comes first."""
    lines = run(environment, folder, "python", "-W", "ignore", "-c", TOGETHER, json.dumps(commands)).splitlines()
    return [(code, out) for code, out in json.loads(next(line for line in lines if line.startswith("[[")))]


@pytest.mark.slow
def test_the_wheel_holds_all_of_it_and_nothing_else(source: Path, wheel: Path, tmp_path: Path) -> None:
    assert held_by(wheel) == files()
    assert {name.split("/")[0] for name in files()} == {"rrm", "rrm_assistants", "rrm_tasks"}
    weights = "rrm/models/embedded/model.safetensors"
    assert {weights, "rrm/py.typed", "rrm/view/web/static/app.js", "rrm/view/web/templates/base.html"} <= files()
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "tasks/paper.py", weights} <= names
    assert held_by(built(source, tmp_path, "--wheel")) == held_by(wheel)  # without a source distribution between


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_work_in_any_folder(environment: Path, tmp_path: Path) -> None:
    """Also beside tasks and assistants of one's own, which is harder than in an empty one."""
    for name in ("tasks", "assistants", "rrm_trees"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('this is the user own')")
    (tmp_path / "paper.py").write_text("raise ImportError('so is this')")
    (tmp_path / "small.py").write_text(SMALL)
    where = run(environment, tmp_path, "python", "-c", "import rrm, rrm_tasks; print(rrm.__file__, rrm_tasks.__file__)")
    assert where.count(str(environment.parent)) == 2
    for command in (["rrm"], ["python", "-m", "rrm"]):  # the second is what torchrun starts
        assert run(environment, tmp_path, *command, "--version") == f"rrm {rrm.__version__}\n"
    assert "0 errors" in run(environment, tmp_path, "rrm", "check", "paper")
    assert "the user own" in run(environment, tmp_path, "rrm", "check", "tasks", fails=True)
    assignments = [part for one in TINY for part in ("--set", one)]
    said = together(environment, tmp_path, [
        ["trees"], ["look", "paper", "--cases", "1", "--outcomes", "2"],
        ["train", "paper", "--out", "runs/mine", *assignments], ["inspect", "runs/mine"],
        ["view", "runs/mine", "--export", "copy"],
        ["measure", "depth", "--tree", "./small.py", "--quick", "--pairs", "4", *assignments], ["check", "./paper.py"],
    ])  # fmt: skip
    trees, look, _, inspected, _, measured, wrong = (out for _, out in said)
    assert [code for code, _ in said] == [0, 0, 0, 0, 0, 0, 2], said
    assert all(name in trees for name in ("paper", "chip", "word_problems")) and "paper" in look
    assert "proofs" in inspected and (tmp_path / "copy/index.html").exists() and "depth" in measured
    assert "so is this" in wrong


@pytest.mark.slow
def test_types_reach_whoever_uses_it(environment: Path, tmp_path: Path) -> None:
    """Ours and those of the examples; what is wrong is found."""
    (tmp_path / "good.py").write_text(CONSUMER)
    (tmp_path / "custom_agent.py").write_text((ROOT / "examples/custom_agent.py").read_text())
    (tmp_path / "wrong.py").write_text("\n".join(["import rrm, rrm_assistants", "from good import task", *WRONG, ""]))
    (tmp_path / "mypy.ini").write_text(SKIPPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment / "python"), "."]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout.splitlines()
    errors = [line for line in said if ": error: " in line]
    assert [line for line in errors if not line.startswith("wrong.py:")] == []
    for number, (line, part) in enumerate(WRONG.items(), 3):
        assert any(error.startswith(f"wrong.py:{number}: ") and part in error for error in errors), (line, errors)
