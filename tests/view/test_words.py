"""Words of the viewers in the terminal: said once, of what is so, and where there is room for them."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrm.command import measure_commands
from rrm.command.cli import app
from rrm.core.records import Case, Finding, Group, Outcome
from rrm.core.shares import Known
from rrm.core.spelling import end_of
from rrm.core.task import Task
from rrm.core.tools import Report
from rrm.core.verdicts import write
from rrm.measure.roles import Look, table
from rrm.measure.run_truth import write_truths
from rrm.store.store import Store
from rrm.view.comparisons import ShownAnswer
from rrm.view.figures import tables_of
from rrm.view.inspect import InspectError, show_node, show_tree
from rrm.view.lists import BY_TRUTH
from rrm.view.reading import ESTIMATED, Reader
from rrm.view.said_once import once
from rrm.view.truth import Rightness, untold
from rrm.view.truth_tables import told_by_truth
from rrm.view.web.pages import plots
from tests import toy
from tests.view import synthetic
from tests.view.test_look import answers, tree
from tests.view.test_truth import run as judged_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of the toy, of which the truth can be measured."""
    made = tmp_path / "toy"
    made.mkdir()
    judged_run(made)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "tree": {"toy/sub": {}, "toy": {}}}))
    return made


def measured(folder: Path) -> Path:
    write_truths(folder, toy.task(assistants=(toy.sub(),)))
    return folder


def drawn(width: int, *shown: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for one in shown:
        console.print(one)
    return out.getvalue()


def node(run: Reader, path: str, width: int = 80, **asked: object) -> str:
    out = io.StringIO()
    show_node(run, path, Console(file=out, width=width), **asked)  # type: ignore[arg-type]
    return out.getvalue()


# --- what an assistant said --------------------------------------------------------------------------


def answer(name: str, report: Report) -> ShownAnswer:
    findings = [{"fact": f.fact, "holds": f.holds, "part": f.part, "note": f.note} for f in report.findings]
    return ShownAnswer("0.0", name, "v", "", report.answer, False, findings, None, "")


def test_a_tools_finding_is_said_once() -> None:
    error = "no such column: name"
    one = answer("runs", Report((Finding("runs", False, note=error),), text=error))
    assert f"{one.name} {one.verdict} {' '.join(one.unsaid)} {one.said}".split() == f"runs no {error}".split()
    assert answer("runs", Report((Finding("runs", True),))).said == ""
    two = answer("style", Report((Finding("spelling", False, note='"teh"'), Finding("grammar", False)), text="2 words"))
    assert two.said == 'spelling: no "teh"\ngrammar: no\n2 words' and two.unsaid == []
    part = answer("steps", Report((Finding("step", False, 2),)))
    assert part.unsaid == ["step.2"], "which part it is the text does not say"


def test_nothing_of_another_text_is_left_out() -> None:
    for text in ("runs: no N/A: why", "It does not run: no such column.", "N/A: no query", "runs: N/A", "", "a\n\na"):
        assert once("other", text) == text
    rng = random.Random(0)
    for _ in range(200):
        notes = [rng.choice(["", "a b", "c", "d\ne"]) for _ in range(rng.randrange(1, 4))]
        found = tuple(Finding(rng.choice("xyz"), rng.random() < 0.5, note=note) for note in notes)
        details = rng.choice(["", "c", "more", "a b"])
        said = once("x", Report(found, text=details).answer)
        assert all(word in said for note in notes for word in note.split())
        assert all(word in said for word in details.split())
        assert len(said) <= len(write(found)) + 2 + len(details)


# --- the truth ---------------------------------------------------------------------------------------


def test_a_comparison_says_what_was_right_and_what_the_user_noted(folder: Path) -> None:
    with Reader(measured(folder)) as run:
        told = node(run, "toy", 200, show="user_wrong", limit=100).split("comparison ")[1:]
        assert told
        for one in told:
            user = one.split("user: ")[1][0]
            better = one.split("truth: ")[1][0]
            assert {user, better} == {"A", "B"} and "the user prefers the other one" in one
        right = node(run, "toy", 200, show="user_right", limit=100)
        assert "truth: " in right and "prefers the other" not in right and "fails" in right


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("0.33 against 0.00", "note: 0.33 against 0.00"),
        ("p(A) 0.600, orders 0.900 and 0.300", "position bias: the first less the second +0.600"),
        ("", None),
    ],
)
def test_a_users_note_is_shown_where_there_is_one(tmp_path: Path, note: str, said: str | None) -> None:
    with Reader(synthetic.make(tmp_path, [synthetic.comparison(0, note=note)])) as run:
        told = node(run, "paper", 300)
        assert "truth: " not in told
        assert said in told if said else "note:" not in told


def test_after_measure_truth_nothing_denies_it(folder: Path) -> None:
    for there in (False, True):
        with Reader(measured(folder) if there else folder) as run:
            here = run.nodes["toy"]
            words = untold(run)
            assert ("did afterwards" in words) is there and "while it trained" in words
            notes = "\n".join(note for one in tables_of(run, here) for note in one.notes)
            plot = "".join(one.note for one in plots(run, here, run.curves(here)))
            assert words in notes and words in plot and "nothing measured" not in notes + plot


def test_how_right_all_are_has_room_in_80_columns_and_says_what_is_meant() -> None:
    known = Known(0.25, 0.11, 0.47, 12345, 99)
    found = [
        Rightness("reward model, held out (the newest 3,000)", "held out", known, 1234, 56),
        Rightness("experiments, about what holds (the newest 3,000)", "holds", known, 1234, node="a/experiments"),
        Rightness("experiments, about what does not hold (the newest 3,000)", "fails", None, 0, node="a/experiments"),
    ]
    told = drawn(80, *told_by_truth(found, "paper"))
    rows = told.splitlines()
    assert sum(str(known) in row for row in rows) == 2 and any("1,234 false alarms" in row for row in rows)
    assert any("reward model, held out" in row and "1,234" in row for row in rows) and told.count("newest") == 1
    assert any("what does not hold" in row and "0 missed" in row for row in rows)
    assert "missed: it says that something holds" in told and "a false alarm: it says" in told
    assert drawn(80, *told_by_truth(found[:1])).count("missed") == 0 and drawn(80, *told_by_truth([])) == ""


def test_a_filter_that_is_none_here_says_which_was_meant_and_how_to_have_it(
    tmp_path: Path, folder: Path
) -> None:
    with Reader(synthetic.make(tmp_path, [synthetic.comparison(0)])) as run:
        with pytest.raises(InspectError, match="did you mean 'tie'") as error:
            node(run, "paper", show="ties")
        assert all(name in str(error.value) for name in BY_TRUTH) and "rrm measure truth" in str(error.value)
        with pytest.raises(InspectError, match="did you mean 'user_wrong'"):
            node(run, "paper", show="user_wrnog")
        with pytest.raises(InspectError, match="with rrm measure truth") as error:
            node(run, "paper", show="user_wrong")
        assert "did you mean" not in str(error.value)
    with Reader(measured(folder)) as run, pytest.raises(InspectError) as error:
        node(run, "toy", show="ties")
    assert "rrm measure truth" not in str(error.value)


# --- room --------------------------------------------------------------------------------------------

ROLES = ["root", "root/columns", "root/columns/pointed", "root/filters/pointed", "root/very_long_name_of_a_node"]


def looked(path: str) -> Look:
    base = tree(answers()).assistants[0]
    assert isinstance(base, Task)
    group = Group(Case("Is it so?"), (Outcome("yes"),))
    return Look(replace(base, path=path), (group,) * 160, ("",) * 160, 123.4, 0.0)


def test_what_each_role_makes_has_room_in_80_columns() -> None:
    found = [looked(path) for path in ROLES]
    head, *rows = (row.rstrip() for row in drawn(80, table(found, 80)).splitlines())
    names = ["role", "outcomes", "readable", "ended", "different", "yes/no", "tokens", "seconds", "tokens/s"]
    assert head.split() == names
    assert len(rows) == len(ROLES) and all(len(row) <= 80 and len(row.split()) == len(names) for row in rows)
    assert all(path.endswith(row.split()[0].removeprefix("…")) for path, row in zip(ROLES, rows, strict=True))
    narrow = drawn(40, table(found, 40)).splitlines()
    assert [row for row in narrow if row in ROLES] == ROLES


def test_a_path_that_is_cut_keeps_its_end_and_what_tells_it_from_others() -> None:
    for most in range(10, 40):
        cut = [end_of(path, most, ROLES) for path in ROLES]
        assert all(len(one) <= most for one in cut)
        assert all(path.endswith(one.removeprefix("…")) for path, one in zip(ROLES, cut, strict=True))
        if most > 17:
            assert len({*cut}) == len(ROLES)
    assert end_of("a/columns/pointed", 12) == "…/pointed" and end_of("a/b", 3) == "a/b"
    assert end_of("a/columns/pointed", 12, ["a/columns/pointed", "b/pointed"]) == "…mns/pointed"


# --- KL ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", [0.2, -0.09])
def test_a_negative_kl_is_said_to_be_estimated_once(tmp_path: Path, kl: float) -> None:
    made = synthetic.make(tmp_path, [synthetic.comparison(0)])
    store = Store(made / "run.db")
    store.log("paper", 0, "improve", 99, {"reward": 1.0, "kl": kl})
    store.close()
    with Reader(made) as run:
        out = io.StringIO()
        show_tree(run, Console(file=out, width=200))
        assert out.getvalue().count(ESTIMATED) == (kl < 0)
        assert [note for one in tables_of(run, run.nodes["paper"]) for note in one.notes].count(ESTIMATED) == (kl < 0)


def test_measure_truth_says_what_it_found_as_tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_commands, "load_task", lambda name: toy.task(assistants=(toy.sub(),)))
    done = CliRunner().invoke(app, ["measure", "truth", str(folder), "--tree", "toy"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    rows = [row.split() for row in done.output.splitlines()]
    assert ["toy", "right", "wrong", "ties"] in rows and ["sub"] in rows
    assert any(row[:1] == ["user"] and len(row) == 8 for row in rows), "one row, not broken"
    assert any(row[-1:] == ["missed"] for row in rows) and done.output.count("missed: it says") == 1
