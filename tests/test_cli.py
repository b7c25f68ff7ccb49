"""The command line, as a person uses it: what is printed, where, and with which exit code."""

from __future__ import annotations

import re
import signal
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from rrm.command import cli, common
from rrm.core.errors import ConfigError
from rrm.core.settings import Settings
from rrm.store.store import Store
from rrm.users.bounded import BoundedUser
from rrm.users.human import HumanUser
from tests.models.conftest import network, tokenizer

GOOD = "from tests import toy\ntask = toy.task(assistants=(toy.sub('sub'),))\n"


def rrm(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree.py"
    path.write_text(GOOD)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    network().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


# --- check and settings ------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert rrm("--version").output.startswith("rrm ")
    assert rrm("--version").exit_code == 0
    for command in ("train", "check", "settings"):
        assert command in rrm("--help").output
        assert rrm(command, "--help").exit_code == 0


def test_settings_lists_every_setting_with_its_documentation() -> None:
    output = " ".join(rrm("settings").output.split())
    for kind in (Settings, BoundedUser, HumanUser):
        for key, field in kind.model_fields.items():
            if key == "tell":  # a function
                continue
            assert f" {key} " in output
            assert field.description is None or field.description.split()[0] in output


def test_check_shows_a_good_tree(tree: Path) -> None:
    result = rrm("check", tree)
    assert result.exit_code == 0
    for part in (
        "toy",
        "└── sub",
        "Which is better?",
        "covers form",
        "cases=3",
        "2 nodes, 0 errors, 0 warnings",
    ):
        assert part in result.stdout


def test_check_shows_every_fault_of_a_bad_tree(tree: Path) -> None:
    tree.write_text(
        "from tests import toy\n"
        "bad = toy.sub('[bold]sub', frame=None)\n"
        "task = toy.task(instruction='is it [red]?', aspects=('truth',), assistants=(bad, bad))\n"
    )
    result = rrm("check", tree)
    assert result.exit_code == 1
    assert "error: toy/[bold]sub: no frame" in result.stdout  # not taken for markup
    assert "is it [red]?" in result.stdout
    assert "two assistants are named" in result.stdout
    assert "warning: toy: no assistant covers the aspect 'truth'" in result.stdout
    assert "Traceback" not in result.output


def test_check_reports_a_cycle(tree: Path) -> None:
    tree.write_text(
        "from tests import toy\n"
        "sub = toy.sub('sub')\n"
        "object.__setattr__(sub, 'assistants', (sub,))\n"
        "task = toy.task(assistants=(sub,))\n"
    )
    result = rrm("check", tree)
    assert result.exit_code == 1
    assert "error: the tree has a cycle: toy -> sub -> sub" in result.stdout


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_tree_that_is_not_there(command: str, tmp_path: Path) -> None:
    result = rrm(command, tmp_path / "nothing.py")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and "no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    result = rrm("check", tmp_path / "nothing.py", "--debug")
    assert (
        result.exit_code != 0
        and result.exception is not None
        and not isinstance(result.exception, SystemExit)
    )


# --- train: refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "toy.stepz=1"], "did you mean 'steps'"),
        (["--set", "sup.steps=1"], "did you mean 'toy/sub'"),
        (["--set", "toy.lr=-1"], "greater than 0"),
        (["--set", "toy.lr"], "NODE.KEY=VALUE"),
        (["--attention", "-1"], "user.attention=-1"),
        (["--set", "user.atention=1"], "did you mean 'attention'"),
        (["--user", "nobody"], "bounded, playout, spectator, human, model:PATH"),
        (["--user", "model:x", "--attention", "3"], "--user model:x has no settings"),
        (["--model", "no/such/model/anywhere"], "cannot load the model"),
    ],
)
def test_what_train_refuses(tree: Path, tmp_path: Path, arguments: list[str], part: str) -> None:
    result = rrm("train", tree, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and part in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()  # refused before anything is made


def test_train_refuses_a_bad_tree_and_says_everything_that_is_wrong(tree: Path, tmp_path: Path) -> None:
    tree.write_text(
        "from tests import toy\ntask = toy.task(cases=None, assistants=(toy.sub('s', frame=None),))\n"
    )
    result = rrm("train", tree, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "no cases" in result.stderr and "no frame" in result.stderr


# --- train -------------------------------------------------------------------------------------------


def test_train_then_the_same_again_then_with_other_settings(tree: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    command = ["train", tree, "--out", out, "--model", model, "--seed", 3, "--attention", 2, "--threads", 1]
    result = rrm(*command)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"loading {model}" and re.match(r"float32 on cpu, .*; 2 nodes, at most \d+ pairs", lines[1])
    assert lines[2].endswith("] toy round 1/1: sampling outcomes of 19 cases, for its assistants to be trained on")
    at = lines.index(f"Finished: {out}")
    assert lines[at + 1].startswith(f"next: rrm inspect {out} toy")
    for node in ("toy/sub", "toy"):
        phases = [line.split(": ", 1)[1].split()[0] for line in lines if f"] {node} round 1/1" in line]
        while phases[0] == "sampling":  # to train its assistants, then to be judged
            del phases[0]
        assert phases in (["sampled,", "3", fit, "reward"] for fit in ("reward", "the"))  # fitted, or all are ties
    store = Store(out / "run.db")
    before = store.counts()
    assert before["comparisons"] == 6 and before["checkpoints"] == 4

    again = rrm(*command)
    assert again.exit_code == 0, again.output
    assert "as was decided when the run began; 2 nodes" in again.stdout.splitlines()[1]
    assert again.stdout.splitlines()[2:] == lines[at:]  # nothing was left to do
    assert store.counts() == before

    other = rrm(*command, "--set", "*.steps=1")
    assert other.exit_code == 2
    assert "other settings" in other.stderr and "--out" in other.stderr
    assert store.counts() == before


def test_quiet_says_nothing(tree: Path, model: Path, tmp_path: Path) -> None:
    result = rrm("train", tree, "--out", tmp_path / "run", "--model", model, "--quiet", "--set", "*.steps=0")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_says_how_to_go_on(
    tree: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    class Interrupted(BoundedUser):
        def judge(self, *_: object) -> None:  # type: ignore[override]
            assert callable(signal.getsignal(number))  # or it would end the tests
            signal.raise_signal(number)

    monkeypatch.setattr(common, "BoundedUser", Interrupted)
    monkeypatch.setattr("sys.argv", ["/somewhere/rrm", "train", "a tree.py"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    result = rrm("train", tree, "--out", tmp_path / "run", "--model", model)
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which a command that it has ended leaves to itself
    assert result.exit_code == code
    stopped, go_on, look = result.stderr.splitlines()
    assert stopped == "Stopped. Nothing judged is lost."
    assert go_on.startswith("next: rrm train 'a tree.py' ") and look.strip().startswith(f"rrm inspect {tmp_path}")
    monkeypatch.undo()
    assert rrm("train", tree, "--out", tmp_path / "run", "--model", model).exit_code == 0


def test_users_of_other_packages_fail_only_when_asked_for_and_never_take_our_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = [
        EntryPoint("bounded", "no_such_module:User", "rrm.users"),
        EntryPoint("broken", "no_such_module:User", "rrm.users"), EntryPoint("number", "math:pi", "rrm.users"),
        EntryPoint("playout", "rrm.worlds.games:PlayoutUser", "rrm.users"),
    ]  # fmt: skip
    monkeypatch.setattr(common, "entry_points", lambda group: named)
    assert isinstance(common.user_of("bounded", 3, ()), BoundedUser)
    assert common.user_of("playout", 3, ("user.exact=true",)).name == "playout(exact)"
    for name, why in (("broken", "cannot be imported"), ("number", "no class of settings")):
        with pytest.raises(ConfigError, match=why):
            common.user_of(name, 0, ())
    listed = rrm("settings")
    assert listed.exit_code == 0 and "cannot be imported" in listed.output


@pytest.mark.parametrize("typed", ["train x more\u202e\x1b[31m", "none\u202e", "train --none\u202e x"])
def test_errors_of_usage_show_what_was_typed_and_do_not_send_it(typed: str) -> None:
    result = rrm(*typed.split(" "))
    assert result.exit_code == 2
    assert "\u202e" not in result.stderr and "\x1b[31m" not in result.stderr and "202e" in result.stderr.lower()
