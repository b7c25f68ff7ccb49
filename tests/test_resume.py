"""Killed at any moment and started again, a run ends with the bits of an undisturbed one."""

import json
import os
import random
import sqlite3
import time
import warnings
from dataclasses import replace
from pathlib import Path
from subprocess import STDOUT
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rrm import BoundedUser, Task, train
from rrm.command.cli import app
from rrm.core.errors import Notice, RunError
from rrm.models.backbone import Backbone
from tests import mini, toy
from tests.forked import Forked
from tests.models.conftest import network, tokenizer

ROOT = Path(__file__).parent.parent
QUERIES = {
    "weights": "SELECT task, round, part, sha256 FROM checkpoints ORDER BY task, round, part",
    "judgements": "SELECT task, round, position, pair, preference, checks, attention FROM comparisons ORDER BY seq",
    "answers": "SELECT version, case_id, body FROM answers ORDER BY version, case_id",
    "metrics": "SELECT task, round, phase, step, name, value FROM metrics WHERE name != 'seconds'"
    " ORDER BY task, round, phase, step, name",
    "scores": "SELECT task, round, pair, margin, std, held FROM scores ORDER BY task, round, pair",
    "spans": "SELECT case_id, outcome, fact, start, stop FROM spans ORDER BY case_id, outcome, fact",
}


def contents(out: Path) -> dict[str, list[tuple[object, ...]]]:
    db = sqlite3.connect(out / "run.db")
    try:
        return {name: db.execute(query).fetchall() for name, query in QUERIES.items()}
    finally:
        db.close()


def start(out: Path) -> Forked:
    return Forked(["-m", "tests.mini", out], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=STDOUT)


def progress(out: Path) -> int:
    """Rows in the database: how far the run has come."""
    if not (out / "run.db").exists():
        return 0
    db = sqlite3.connect(out / "run.db")
    try:
        return sum(db.execute(f"SELECT COUNT(*) FROM ({query})").fetchone()[0] for query in QUERIES.values())
    except sqlite3.OperationalError:  # not created yet
        return 0
    finally:
        db.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    mini.run(whole)
    expected = contents(whole)
    total = progress(whole)

    out, rng, kills = tmp_path / "killed", random.Random(7), []
    for share in sorted(rng.random() for _ in range(2)):
        process = start(out)
        while process.poll() is None and progress(out) < share * total:
            time.sleep(0.03)
        process.kill()
        process.communicate()
        kills.append(progress(out))
    assert len(set(kills)) > 1 and max(kills) < total, f"killed at {kills} of {total} rows: no test"
    output, _ = start(out).communicate(timeout=200)
    assert "finished" in output, output
    found = contents(out)
    assert {name: found[name] == expected[name] for name in QUERIES} == {name: True for name in QUERIES}


class Interrupted(Exception):
    """What ends a run here, in the place of a kill."""


def two_nodes() -> Task:
    """A paper judged with the help of writing, in a second or two."""
    whole = mini.tree()
    small = whole.settings.model_copy(update={"cases": 4, "comparisons": 6})
    return replace(whole, assistants=whole.assistants[:1], settings=small)


def test_an_interrupted_run_ends_with_the_same_bits_and_is_not_done_again(tmp_path: Path) -> None:
    """As the slow test above does with a whole tree and kills: here within the process, between two events."""
    first = train(two_nodes(), BoundedUser(), "embedded", tmp_path / "whole")
    expected, total = contents(tmp_path / "whole"), progress(tmp_path / "whole")

    out, rows = tmp_path / "interrupted", [0]
    for share in (0.2, 0.7):

        def stop(node: object, event: object, at: float = share * total) -> None:
            if progress(out) >= at:
                raise Interrupted

        with pytest.raises(Interrupted):
            train(two_nodes(), BoundedUser(), "embedded", out, watch=[stop])
        rows.append(progress(out))
    assert rows == sorted({*rows}) and rows[-1] < total, f"interrupted at {rows} of {total} rows: no test"
    last = train(two_nodes(), BoundedUser(), "embedded", out)
    found = contents(out)
    assert {name: found[name] == expected[name] for name in QUERIES} == {name: True for name in QUERIES}
    assert last.version == first.version

    began = time.monotonic()
    again = train(two_nodes(), BoundedUser(), "embedded", out)
    assert contents(out) == found and again.version == first.version
    assert time.monotonic() - began < 10


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    from rrm import Pool

    task = mini.tree()
    assert task.cases is not None
    small = replace(task, assistants=(), settings=mini.SMALL.model_copy(update={"rounds": 1, "max_tokens": 96}))
    train(small, BoundedUser(), "embedded", tmp_path)
    other = replace(small, settings=small.settings.model_copy(update={"lr": 1e-5}))
    with pytest.raises(RunError, match="other settings"):
        train(other, BoundedUser(), "embedded", tmp_path)
    with pytest.raises(RunError, match="user"):
        train(small, BoundedUser(attention=8), "embedded", tmp_path)
    assert Pool(()).draw(3, "k") == []


def test_other_cases_need_another_folder(tmp_path: Path) -> None:
    """An edited prompt is another run; one of before, which did not keep its cases, resumes as it did."""
    from rrm import Case, Pool

    few = toy.SMALL.model_copy(update={"temperature": 4.0})

    def run(prompt: str) -> None:
        cases = Pool(tuple(Case(f"{prompt} {i}") for i in range(4)))
        train(toy.task(cases=cases, settings=few), BoundedUser(), "embedded", tmp_path)

    run("write")
    run("write")
    with pytest.raises(RunError, match=r"other settings:\n  the root's cases are others"):
        run("write well")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["cases"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    run("write")


def begun(out: Path) -> dict[str, Any]:
    """A run of one round, to be gone on with; what config.json says of how it was made."""
    train(toy.task(), BoundedUser(), tiny(), out)
    return dict(json.loads((out / "config.json").read_text())["about"])


def tiny() -> Backbone:
    return Backbone("tiny", network(), tokenizer(), "full")


def test_going_on_as_it_was_begun_says_nothing(tmp_path: Path) -> None:
    about = begun(tmp_path)
    assert about["threads"] == torch.get_num_threads() and about["processor"] and about["device"] == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(toy.task(), BoundedUser(), tiny(), tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("threads", 64), ("processor", "abacus"), ("device", "cuda"), ("packages", {"torch": "0.1"})]
)
def test_going_on_otherwise_is_said(tmp_path: Path, key: str, value: Any) -> None:
    begun(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["about"][key] = value
    path.write_text(json.dumps(config))
    name, there = next(iter(value.items())) if key == "packages" else (key, value)
    with pytest.warns(Notice, match=rf"{name} {there} there, .* here") as caught:
        train(toy.task(), BoundedUser(), tiny(), tmp_path)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


def test_what_an_older_run_does_not_say_is_not_missed(tmp_path: Path) -> None:
    begun(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for key in ("threads", "processor", "device", "packages"):
        del config["about"][key]
    path.write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(toy.task(), BoundedUser(), tiny(), tmp_path)


def test_other_threads_are_one_line_on_the_terminal(tmp_path: Path) -> None:
    """And none of --quiet's."""
    (tmp_path / "tree.py").write_text("from tests.toy import task as make\ntask = make()\n")
    before = torch.get_num_threads()

    def noted(*more: str) -> list[str]:
        command = ["train", str(tmp_path / "tree.py"), "--out", str(tmp_path / "run"), *more]
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("default")
            done = CliRunner().invoke(app, command)
            torch.set_num_threads(before)
            assert done.exit_code == 0, done.output
            notes = [one for one in heard if issubclass(one.category, Notice)]
            return [warnings.formatwarning(one.message, one.category, "", 0) for one in notes]

    train(toy.task(), BoundedUser(), "embedded", tmp_path / "run")
    (line,) = [one for one in noted("--threads", f"{before + 1}") if " there, " in one]
    assert line.startswith("note: ") and line.count("\n") == 1 and line.endswith("\n")
    assert f"threads {before} there, {before + 1} here" in line
    assert noted("--threads", f"{before + 1}", "--quiet") == []
