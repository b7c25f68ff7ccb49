"""Tags find runs and change nothing of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm import BoundedUser, train
from rrm.command.cli import app
from rrm.core.errors import ConfigError, RunError
from rrm.store.tags import FILE, LONGEST, MOST, retag, tags_of
from tests import toy
from tests.bandits import example
from tests.view import synthetic


def test_tags_are_lines_that_may_be_edited(tmp_path: Path) -> None:
    assert tags_of(tmp_path) == ()
    assert retag(tmp_path, ["b", "  two   words "]) == ("b", "two words") == tags_of(tmp_path)
    assert retag(tmp_path, ["a", "b"], ["two words"]) == ("b", "a")
    (tmp_path / "tags.txt").write_bytes(b"\xff a \r\n\n x\x1b[31m\n" + b"y" * 900 + b"\n" + b"x\x1b[31m\n")
    assert tags_of(tmp_path) == ("\ufffd a", "x␛[31m", "y" * LONGEST)
    (tmp_path / "tags.txt").write_text("\n".join(map(str, range(999))))
    assert len(tags_of(tmp_path)) == MOST
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "tags.txt").symlink_to(tmp_path / "tags.txt")
    assert tags_of(tmp_path / "linked") == ()


def test_what_is_no_tag_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    retag(tmp_path, ["a"])
    for add, remove in (([""], []), (["x" * 41], []), (["a\x1b"], []), ([], ["b"]), (map(str, range(50)), [])):
        with pytest.raises(ConfigError):
            retag(tmp_path, add, remove)
    assert tags_of(tmp_path) == ("a",)


def test_the_command_tags_runs_that_ended_long_ago(tmp_path: Path) -> None:
    for name in ("one", "two"):
        synthetic.make(tmp_path / name, [])
    done = CliRunner().invoke(app, ["tag", str(tmp_path), "--add", "baseline", "--add", "x"])
    assert done.exit_code == 0 and done.output.split("\n")[:2] == ["one: baseline, x", "two: baseline, x"]
    CliRunner().invoke(app, ["tag", str(tmp_path / "one"), "--remove", "x"])
    assert (tags_of(tmp_path / "one"), tags_of(tmp_path / "two")) == (("baseline",), ("baseline", "x"))
    wrong = CliRunner().invoke(app, ["tag", str(tmp_path), "--add", "a\nb\x00"])
    assert wrong.exit_code != 0 and "error: tag" in wrong.output


def test_a_run_is_resumed_whatever_it_is_tagged_and_a_refused_one_gets_no_tag(tmp_path: Path) -> None:
    bandit = example("custom_agent")
    train(bandit.pull, BoundedUser(), bandit.Bandits(), tmp_path, tags=["first"])
    before = (tmp_path / "config.json").read_bytes()
    train(bandit.pull, BoundedUser(), bandit.Bandits(), tmp_path, tags=["later", "first"])
    assert tags_of(tmp_path) == ("first", "later") and (tmp_path / "config.json").read_bytes() == before
    with pytest.raises(RunError, match="other settings"):
        train(bandit.pull, BoundedUser(attention=9), bandit.Bandits(), tmp_path, tags=["wrong"])
    with pytest.raises(ConfigError, match="a word or a few"):
        train(bandit.pull, BoundedUser(), bandit.Bandits(), tmp_path / "new", tags=[""])
    assert tags_of(tmp_path) == ("first", "later") and not (tmp_path / "new").exists()


def test_a_file_with_a_mark_of_its_order_and_a_text_for_a_list(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("baseline\n", encoding="utf-8-sig")
    assert tags_of(tmp_path) == ("baseline",)
    with pytest.raises(ConfigError, match=r"such as \['baseline'\]"):
        train(toy.task(), BoundedUser(), "embedded", tmp_path / "run", tags="baseline")
    assert not (tmp_path / "run").exists()


def test_tags_given_at_once_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: retag(tmp_path, add=[f"tag {i}"]), range(20)))
    assert {*tags_of(tmp_path)} == {f"tag {i}" for i in range(20)}
