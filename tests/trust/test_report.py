"""A report says what a run holds, who judged it, and what was not measured; and the same run gives the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.store.store import Store
from rrm.trust import reporting
from rrm.trust.documents import Cells, Document, Title, Verbatim, Words, as_html, as_md
from rrm.trust.report_figures import DrawnFigure
from rrm.trust.reported import MISSING, Shown, counted, experiments, over_runs, run_told, told_of
from rrm.trust.reporting import bibtex, judged_by, report
from rrm.trust.who_judged import SAID
from tests.view import synthetic

FIXTURES = Path(__file__).parents[1] / "fixtures"
USER = "bounded(attention=4)"
ROWS = [
    synthetic.comparison(
        i, case=f"case {i % 7}", a=f"left {i}", b=f"right {i}", preference=float(i % 3 > 0), user=USER
    )
    for i in range(20)
]


def seeds(folder: Path, *numbers: int) -> list[Path]:
    made = []
    for seed in numbers:
        run = synthetic.make(folder / f"seed{seed}", ROWS[: 12 + seed], [(-1) ** i * 0.5 for i in range(12 + seed)])
        config = json.loads((run / "config.json").read_text())
        config["tree"] = {"paper": config["tree"]["paper"]}  # one node: figures take a while to draw
        config |= {"seed": seed, "user": config["user"] | {"seed": seed}}
        config["about"] |= {"started": float(seed), "command": f"rrm train paper --seed {seed}"}
        (run / "config.json").write_text(json.dumps(config))
        with closing(Store(run / "run.db")) as store:
            store.checkpoint("paper", 0, "agent", "agent.safetensors", "0" * 64)  # finished
        made.append(run)
    return made


def noted(run: Path, **about: object) -> Path:
    config = json.loads((run / "config.json").read_text())
    config["about"] |= about
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as one dot: to draw them takes most of the time."""
    monkeypatch.setattr(reporting, "draw", lambda runs, node: DrawnFigure(b"<svg/>", b"%PDF"))


class Outside(HTMLParser):
    """What a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.found.append(tag)
        self.found += [str(value) for key, value in attrs
                       if key in ("src", "href") and not str(value).startswith("data:")]  # fmt: skip
        self.found += [key for key, _ in attrs if key.startswith("on")]


def test_the_same_runs_give_the_same_bytes_and_one_file_that_needs_nothing(tmp_path: Path) -> None:
    runs = seeds(tmp_path / "runs", 0, 1)
    first, second = (report(runs, tmp_path / name, "rrm report", seed=3) for name in "ab")
    assert first.figures
    for one, two in zip([first.html, first.markdown, *first.figures], [second.html, second.markdown, *second.figures],
                        strict=True):  # fmt: skip
        assert one.read_bytes() == two.read_bytes(), one.name
    assert {path.suffix for path in first.figures} == {".svg", ".pdf"}
    assert not any(b"<dc:date>" in path.read_bytes() or b"CreationDate" in path.read_bytes() for path in first.figures)
    page = Outside()
    page.feed(first.html.read_text())
    assert page.found == []
    text = first.markdown.read_text()
    for target in re.findall(r"\]\((figures/[^)]+)\)", text):
        assert (tmp_path / "a" / target).exists()


def test_it_says_who_judged_what_is_missing_and_how_it_was_made(tmp_path: Path, undrawn: None) -> None:
    runs = seeds(tmp_path / "runs", 0, 1)
    text = report(runs, tmp_path / "out", "rrm report again", seed=3).markdown.read_text()
    assert text.split("\n")[2].startswith("**SIMULATED. Judged by a simulated user")
    assert "No person judged anything here" in text
    assert MISSING in text and "| not known" not in text
    for wanted in ("rrm train paper --seed 1", "rrm report again", "with seed 3, not picked", "3 of 12 comparisons",
                   "leike2018scalable", "config.json, SHA-256"):  # fmt: skip
        assert wanted in text, wanted


def test_people_are_called_people_and_not_by_name(tmp_path: Path, undrawn: None) -> None:
    rows = [synthetic.comparison(i, user="human(Ada)") for i in range(3)] + [synthetic.comparison(9, user=USER)]
    run = synthetic.make(tmp_path / "run", rows)
    synthetic.configure(run, "human")
    said = judged_by(told_of([run]))
    assert "people" in said and "simulated" in said and "SIMULATED." not in said and "No person" not in said
    assert "Ada" not in report([tmp_path / "run"], tmp_path / "out", "x").markdown.read_text()


def test_only_people_are_called_people(tmp_path: Path) -> None:
    """Imported labels are nobody's that the run knows, a program is one whatever its name, and names are not told."""
    users = ("imported(p.jsonl)", "Ada", "overlap", "oracle", "openai(m)", "3 people")
    rows = [replace(synthetic.comparison(i, user=user), round=-(user in ("Ada", "imported(p.jsonl)", "3 people")))
            for i, user in enumerate(users)]  # fmt: skip
    told = run_told(synthetic.make(tmp_path / "run", rows))
    assert told.judged_by() == {
        "imported": {"imported(p.jsonl)", "imported", SAID}, "other": {"overlap"}, "simulated": {"oracle"},
        "model": {"openai(m)"},
    }  # fmt: skip
    assert any(line.startswith("Who judged what was imported") for line in told.nodes["paper"].not_shown)
    said = judged_by([run_told(synthetic.make(tmp_path / "only", rows[:2]))])
    assert "imported" in said and "imulated" not in said and "SIMULATED" not in said and "No person" not in said
    said = judged_by([run_told(synthetic.make(tmp_path / "program", rows[2:3]))])
    assert "No person judged" in said and "by a class of the user's own (overlap)" in said and "made for it" not in said


@pytest.mark.parametrize("name", ["run_of_0_1_0", "labels_of_0_1_0"])
def test_a_run_of_an_older_version_is_told_and_stays_as_it_is(tmp_path: Path, undrawn: None, name: str) -> None:
    run = Path(shutil.copytree(FIXTURES / name, tmp_path / name))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    text = report([run], tmp_path / "out", "x").markdown.read_text()
    assert ("simulated user" in text) == (name == "run_of_0_1_0") and "## This report" in text
    assert all(path.read_bytes() == body for path, body in before.items())


def test_a_run_that_has_just_begun_is_being_set_up(tmp_path: Path, undrawn: None) -> None:
    (tmp_path / "new").mkdir()
    Store(tmp_path / "new" / "run.db").close()
    for runs in ([tmp_path / "new"], [tmp_path / "new", *seeds(tmp_path / "runs", 0, 1)]):
        assert "It is being set up" in report(runs, tmp_path / "out", "x").markdown.read_text()


def test_a_run_without_scores_has_nothing_held_out(tmp_path: Path, undrawn: None) -> None:
    run = synthetic.make(tmp_path / "run", ROWS[:3])
    with closing(sqlite3.connect(run / "run.db")) as db:
        db.execute("DROP TABLE scores")
    figures = run_told(run).nodes["paper"].figures
    assert figures["held-out preferences predicted"].value is None and figures["ties"].value == 0


def test_runs_that_differ_in_their_seeds_alone_are_one_experiment_with_a_mean(tmp_path: Path, undrawn: None) -> None:
    runs = seeds(tmp_path, 0, 1, 2)
    other = synthetic.make(tmp_path / "other", ROWS)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"user": {"name": "bounded(attention=9)"}}))
    told = told_of([*runs, other])
    groups = experiments(told)
    assert [len(group) for group in groups] == [3, 1]
    over = over_runs(groups[0], "paper")
    each = [run.nodes["paper"].figures["ties"].value for run in groups[0]]
    assert over["ties"].value == pytest.approx(sum(value or 0 for value in each) / 3) and over["ties"].of == "runs"
    assert over["agreement with the truth, assisted"].value is None
    text = report([*runs, other], tmp_path / "out", "x").markdown.read_text()
    assert "mean of 3" in text and "Experiment 2 differs from 1 in: user.name bounded(attention=9)" in text


@pytest.mark.parametrize(
    "about", [{"code": {"rrm": "a" * 64}}, {"rrm": "9.9"}, {"bits": 0}, {"decided": {"precision": "bfloat16"}}]
)
def test_runs_of_other_code_are_another_experiment(tmp_path: Path, about: dict[str, object]) -> None:
    runs = seeds(tmp_path, 0, 1)
    noted(runs[0], decided={"precision": "float32", "probe_seconds": 1.0}, processor="x")
    noted(runs[1], decided={"precision": "float32", "probe_seconds": 2.0}, processor="y")
    assert len(experiments(told_of(runs))) == 1
    noted(runs[1], **about)
    groups = experiments(told_of(runs))
    assert len(groups) == 2
    (said,) = reporting._differences(groups)
    assert f"made with.{next(iter(about))}" in said and "a" * 13 not in said


def test_means_are_of_finished_runs_and_of_each_seed_once(tmp_path: Path, undrawn: None) -> None:
    runs = seeds(tmp_path, 0, 1, 2)
    shutil.copytree(runs[0], tmp_path / "again")
    with closing(sqlite3.connect(runs[2] / "run.db")) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM checkpoints")
    told = told_of([*runs, tmp_path / "again"])
    (group,) = experiments(told)
    assert len(group) == 4 and counted(group) == told[:2]
    text = report([*runs, tmp_path / "again"], tmp_path / "out", "x").markdown.read_text()
    assert "mean of 2" in text and "mean over 2 runs" in text
    assert re.search(r"\| seed2 \| 2 \| (stopped|training) \|", text)


def test_a_mean_over_runs_has_students_interval_over_them(tmp_path: Path) -> None:
    told = run_told(synthetic.make(tmp_path / "run", ROWS))
    node = told.nodes["paper"]
    runs = [
        replace(told, nodes={"paper": replace(node, figures={"x": Shown(value, n=10, cases=5)})})
        for value in (0.5, 0.6, 0.7)
    ]
    found = over_runs(runs, "paper")["x"]
    assert found.value == pytest.approx(0.6)
    assert found.low == pytest.approx(0.6 - 4.302653 * 0.1 / 3**0.5, abs=1e-5)
    assert str(found) == "0.60 [0.35, 0.85], n 30 in 3 runs"
    assert over_runs(runs[:1], "paper")["x"].low is None


def test_examples_are_drawn_by_the_seed_and_all_have_a_chance(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", ROWS)

    def drawn(seed: int) -> list[int]:
        return [one.seq for one in run_told(run, seed=seed, examples=10).nodes["paper"].examples]

    assert drawn(0) == drawn(0) and len({*drawn(0)}) == 10
    assert {seq for seed in range(8) for seq in drawn(seed)} == {*range(1, 21)}


def test_what_was_written_by_others_is_no_markup() -> None:
    evil = "</pre><script>alert(1)</script> **x** | ```\n\x1b[31m"
    paper = Document([Title(1, evil), Words(evil), Cells(["a"], [[evil]]), Verbatim(evil, evil)])
    page = Outside()
    page.feed(as_html(paper, evil))
    assert page.found == []
    text = as_md(paper)
    assert "\x1b" not in text and "````text" in text
    row = next(line for line in text.splitlines() if line.startswith("| \\<"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 2


def test_bibtex_closes_its_braces(tmp_path: Path) -> None:
    found = bibtex(told_of(seeds(tmp_path, 0)), "50 % of {a_b}")
    bare = re.sub(r"\\[{}]", "", found)
    assert bare.count("{") == bare.count("}") and "year   = {1970}" in found and r"50 \% of \{a\_b\}" in found


def test_the_command(tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = seeds(tmp_path / "runs", 0)
    monkeypatch.chdir(tmp_path)
    named = CliRunner().invoke(app, ["report", str(run), "--examples", "0"])
    assert named.exit_code == 0 and (tmp_path / f"report-{run.name}" / "report.html").is_file()
    done = CliRunner().invoke(app, ["report", str(run), "-o", str(tmp_path / "out"), "--examples", "0"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "report.html").exists()
    assert "comparisons, drawn" not in (tmp_path / "out" / "report.md").read_text()
    wrong = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert wrong.exit_code == 2 and "no run there" in wrong.output
