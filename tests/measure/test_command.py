"""`rrm measure` from the shell: everything runs, finished seeds are kept, other settings are refused."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.errors import ConfigError
from rrm.measure.catalog import BY_HAND, EXPERIMENTS, GAMES, THERE_TOO, chosen, seeds_of
from rrm.measure.experiment import as_markdown
from rrm_tasks.moves import moves
from rrm_tasks.paper import paper

RUN = CliRunner()
LESS = """
from dataclasses import replace

from rrm_assistants import proofs, steps, writing
from rrm_tasks.paper import paper

task = replace(paper(), assistants=(writing(), proofs(assistants=[steps()])))
"""
"""The tree that is measured by default, with three of its six assistants: of every kind one, at both levels."""


@pytest.fixture
def less(tmp_path: Path) -> list[str]:
    """The option that names a file with this tree."""
    (tmp_path / "less.py").write_text(LESS)
    return ["--tree", str(tmp_path / "less.py")]


def test_the_experiments_are_listed_with_their_questions() -> None:
    listed = RUN.invoke(app, ["measure"])
    assert listed.exit_code == 0
    words = "".join(listed.output.split())
    for name, experiment in EXPERIMENTS.items():
        assert name in listed.output and "".join(experiment.QUESTION.split())[:20] in words


def test_names_and_seeds() -> None:
    assert [*chosen("all", paper()), *GAMES] == [*EXPERIMENTS] and chosen("budget", paper()) == ["budget"]
    assert chosen("all", moves()) == [*GAMES, *THERE_TOO]
    assert set(GAMES) < set(chosen("all", moves())) and "exhaustiveness" not in chosen("all", moves())
    with pytest.raises(ConfigError, match="sandwich"):
        chosen("sandwhich", paper())
    assert seeds_of("5") == [100, 101, 102, 103, 104]
    assert seeds_of("0-4") == [0, 1, 2, 3, 4] and seeds_of("100,103") == [100, 103] and seeds_of("7,") == [7]
    for wrong in ("", "x", "4-0", "0", "1-2-3"):
        with pytest.raises(ConfigError):
            seeds_of(wrong)


def measured_of_games(name: str, out: Path) -> str:
    """The page of an experiment that was measured, and is not measured again."""
    command = ["measure", name, "--tree", "moves", "--quick", "--out", str(out), "--doc", str(out / "doc")]
    first = RUN.invoke(app, [*command, "--set", "user.exact=true"])
    assert first.exit_code == 0, first.output
    summary = json.loads((out / name / "summary.json").read_text())
    page = (out / "doc" / f"{name}.md").read_text()
    assert summary["rows"] and "playout(exact)" in page
    again = RUN.invoke(app, [*command, "--set", "user.exact=true"])
    assert again.exit_code == 0 and "seed 100 (" not in again.output
    before = sorted(out.rglob("*"))
    there = RUN.invoke(app, ["measure", name, "--no-run", "--seeds", "100,101", "--out", str(out)])
    assert there.exit_code == 0 and "Seeds 100; not run: 101." in there.output and sorted(out.rglob("*")) == before
    assert as_markdown(summary["rows"]) in there.output
    nothing = RUN.invoke(app, ["measure", name, "--no-run", "--out", str(out / "elsewhere")])
    assert nothing.exit_code == 2 and not (out / "elsewhere").exists()
    return page


@pytest.mark.parametrize("which", GAMES)
def test_the_games_are_measured_and_resumed(which: str, tmp_path: Path) -> None:
    measured_of_games(which, tmp_path)


def test_an_experiment_of_the_games_says_so_elsewhere(tmp_path: Path) -> None:
    found = RUN.invoke(app, ["measure", "levels", "--quick", "--out", str(tmp_path)])
    assert found.exit_code == 2 and "is a tree of another world; give --tree moves" in found.stderr


@pytest.mark.parametrize("which", ["depth", pytest.param("all", marks=pytest.mark.slow)])
def test_it_runs_small_and_is_kept(which: str, tmp_path: Path, less: list[str]) -> None:
    out, doc = tmp_path / "out", tmp_path / "doc"
    doc.mkdir()
    (doc / "depth.md").write_text(f"Written before.\n\n{BY_HAND}\n\nWhat a person thought of it.\n")
    command = ["measure", which, "--quick", "--out", str(out), *less]
    began = time.process_time()
    first = RUN.invoke(app, [*command, "--doc", str(doc)])
    assert first.exit_code == 0, first.output
    assert time.process_time() - began < 300, "the quick set is for every submission: five minutes"
    kept = (doc / "depth.md").read_text()
    assert kept.startswith("# depth\n") and kept.endswith("What a person thought of it.\n")
    assert "Written before" not in kept
    for name in chosen(which, paper()):
        experiment = EXPERIMENTS[name]
        summary = json.loads((out / name / "summary.json").read_text(), parse_constant=lambda text: pytest.fail(text))
        assert (
            summary["question"] == experiment.QUESTION
            and summary["simulated"]
            and summary["rows"]
            and summary["notes"]
        )
        assert summary["seeds"] == [100]
        for file in ("100.json", "figure.png", "figure.svg", "index.html"):
            assert (out / name / file).stat().st_size > 500
        page = (doc / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n") and experiment.QUESTION in page
        assert "Simulated; user with attention 6 for a pair. Seeds 100; " in page
        assert (doc / f"{name}.svg").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("100.json")}

    command[1] = "depth"
    again = RUN.invoke(app, command)  # a finished seed is not run again
    assert again.exit_code == 0 and "seed 100 (" not in again.output
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("100.json")}

    other = RUN.invoke(app, [*command, "--set", "user.attention=2"])
    assert other.exit_code == 2 and "was measured with" in other.output
    assert "Traceback" not in other.output


def test_who_labels_for_the_root_is_told(tmp_path: Path, less: list[str]) -> None:
    """The door of the labels, of an experiment that trains roots: below the root nothing changes."""
    command = ["measure", "exhaustiveness", "--quick", "--labels", "alone", "--out", str(tmp_path), *less]
    done = RUN.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "exhaustiveness" / "100.json").read_text())["about"]["labels"] == "alone"
    db = sqlite3.connect(tmp_path / "trees" / "100" / "root whole, labels alone" / "run.db")
    shown = {row[0] for row in db.execute("SELECT shown FROM comparisons WHERE task = 'paper'")}
    assert shown == {"[]"}
    db = sqlite3.connect(tmp_path / "trees" / "100" / "whole" / "run.db")
    assert "[]" not in {row[0] for row in db.execute("SELECT shown FROM comparisons WHERE task = 'paper/proofs'")}
    ignoring = RUN.invoke(app, [command[0], "doors", *command[2:]])
    assert ignoring.exit_code == 2 and "by themselves" in ignoring.output
    other = RUN.invoke(app, [*command[:3], *command[5:]])
    assert other.exit_code != 0 and "another --out" in other.output


@pytest.mark.slow
def test_users_who_play_the_answers_are_misled_by_whole_ones(tmp_path: Path) -> None:
    """In the games, with the rest that is measured there: no claims, so no debate of them, no trust; other answers."""
    pages = {name: measured_of_games(name, tmp_path) for name in THERE_TOO}
    for page in (pages["sandwich"], pages["misleading"]):
        assert "trusts nobody in particular" in page or "looks at no claims" in page
        assert "debate, consultancy" not in page and "AUC of" not in page and "false negatives" not in page
    arms = json.loads((tmp_path / "sandwich" / "100.json").read_text())["result"]["arms"]
    assert {"alone", "placebo", "flat critic", "oracle"} < set(arms) and not {"debate", "assistants alone"} & set(arms)
    kinds = {(row["assistants"], row["share of them"]) for row in
             json.loads((tmp_path / "misleading" / "summary.json").read_text())["rows"]}  # fmt: skip
    assert {("lazy", "1.00"), ("worst answers", "0.25"), ("worst answers, all levels", "0.50")} < kinds


def test_a_tree_without_assistants_has_nothing_to_measure(tmp_path: Path) -> None:
    tree = tmp_path / "lonely.py"
    tree.write_text("from tests.toy import task as make\ntask = make()\n")
    done = RUN.invoke(app, ["measure", "sandwich", "--quick", "--tree", str(tree), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "no assistants" in done.output
