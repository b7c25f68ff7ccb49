"""`rrm look`: what it says of a model's outcomes is so, and nothing is trained or kept."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrm import Case, Malformed, Pool, Settings, Task
from rrm.command.cli import app
from rrm.core.records import Finding
from rrm.core.validation import plant
from rrm.measure.roles import doubts, look, show
from rrm.models.backbone import Backbone
from rrm_tasks.paper import paper
from tests.text import tiny


def answers(name="critic", form="", temperature=1.0, max_tokens=4):
    """A critic that answers in one of the tiny model's lines, of which only yes and no can be read."""

    def verdict(case, outcome):
        if outcome.text not in ("yes", "no"):
            raise Malformed(f"{outcome.text!r} is no verdict")
        return [Finding("it", outcome.text == "yes")]

    return Task(
        name, "Which verdict is right?", facts=lambda c, o: verdict(c, o) and [], findings=verdict,
        frame=lambda case, outcome: [Case(f"Is it so? {outcome.text}", {}, form)], covers=("all",), difficulty=1,
        settings=Settings(max_tokens=max_tokens, temperature=temperature),
    )  # fmt: skip


def tree(*subs):
    cases = Pool(tuple(Case(f"Write, {i}.") for i in range(8)))
    return plant(
        Task("root", "Which is better?", facts=lambda c, o: [], cases=cases, assistants=subs, aspects=("all",),
             difficulty=9, settings=Settings(max_tokens=4))
    )  # fmt: skip


def test_it_counts_what_can_be_read():
    backbone = tiny.backbone()
    before = backbone.start.version
    root, free, held = look(tree(answers("free"), answers("held", r"yes|no")), backbone, cases=6, outcomes=8)
    assert [one.task.path for one in (root, free, held)] == ["root", "root/free", "root/held"]
    assert root.readable == 1 and free.readable < 0.5 and held.readable == 1 and held.finished == 1
    texts = [group.outcomes[i].text for group, i in held.outcomes]
    assert held.verdicts == (texts.count("yes"), texts.count("no")) and min(held.verdicts) > 0
    said = [*doubts([root, free, held], root.task)]
    assert any("root/free" in line and "form" in line for line in said)
    assert not any("root/held" in line and "read" in line for line in said)
    assert backbone.start.version == before


def test_it_doubts_an_assistant_that_says_the_same_always():
    found = [*look(tree(answers("held", "no")), tiny.backbone(), cases=4, outcomes=4)]
    said = " ".join(doubts(found, found[0].task))
    assert "says no to everything" in said and "mostly the same" in said


def test_it_says_who_was_asked_nothing():
    silent = replace(answers("silent"), frame=lambda case, outcome: [])
    found = [*look(tree(silent), tiny.backbone())]
    assert len(found) == 1
    assert any("root/silent: nobody asked it anything" in line for line in doubts(found, tree(silent)))


def test_the_same_seed_shows_the_same():
    def text(seed):
        out = io.StringIO()
        show(plant(paper()), Backbone.load("embedded"), Console(file=out, width=200), 2, 2, 1, seed)
        return [line for line in out.getvalue().splitlines() if line.startswith(">")]

    assert text(0) == text(0) != text(1)


def test_the_command():
    done = CliRunner().invoke(app, ["look", "tasks/paper.py", "--cases", "2", "--outcomes", "2", "--examples", "1"])
    assert done.exit_code == 0, done.output
    assert "paper/proofs/steps" in done.output and "readable" in done.output
    wrong = CliRunner().invoke(app, ["look", "tasks/paper.py", "--set", "paper.rounds=x"])
    assert wrong.exit_code != 0 and "rounds" in wrong.output
    wrong = CliRunner().invoke(app, ["look", "tasks/paper.py", "--model", "nowhere"])
    assert wrong.exit_code != 0 and "Traceback" not in wrong.output


def test_answers_that_raise_when_they_are_read_are_unreadable():
    """What an assistant's parent reads is its findings: where they raise, the look goes on and says so."""
    odd = replace(answers("odd"), facts=lambda case, outcome: [])
    one = [*look(tree(odd), tiny.backbone(), cases=4, outcomes=4)][-1]
    assert one.readable < 0.9 and sum(one.verdicts) == sum(not fault for fault in one.faults)


def test_a_faulty_tree_is_an_error_in_words(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text('from rrm import Task\ntask = Task("t", "Which?", facts=lambda case, outcome: [])\n')
    done = CliRunner().invoke(app, ["look", str(path)])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit) and "no cases" in done.output


def test_free_holds_nothing_to_a_form():
    task, backbone = tree(answers("held", r"yes|no")), tiny.backbone()
    held = [*look(task, backbone, cases=6, outcomes=8)][-1]
    free = [*look(task, backbone, cases=6, outcomes=8, free=True)][-1]
    assert held.readable == 1 and free.readable < 0.5


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_at_any_width_every_word_is_shown(width):
    """Prompts, outcomes and the table's cells are wrapped, not cropped."""
    prompt = " ".join(f"word{i}" for i in range(60)) + " END"
    task = replace(tree(), cases=Pool((Case(prompt), Case(prompt + "."))))
    out = io.StringIO()
    show(plant(task), tiny.backbone(), Console(file=out, width=width), 2, 2, 1)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    together = "".join("".join(lines).split())
    assert "".join(prompt.split()) in together
    assert "…" not in together and (width < 80 or "different" in together)


def test_the_command_wraps_its_prompts(tmp_path, monkeypatch):
    path = tmp_path / "long.py"
    path.write_text(
        "from rrm import *\ncases = Pool((Case('start ' + 'more ' * 30 + 'END.'),))\n"
        "task = Task('t', 'Which?', facts=lambda case, outcome: [], cases=cases)\n"
    )
    monkeypatch.setenv("COLUMNS", "50")
    done = CliRunner().invoke(app, ["look", str(path), "--cases", "1", "--outcomes", "1"])
    assert done.exit_code == 0 and "END." in done.output
    shown, _, _ = done.output.partition("next: ")  # commands to be copied are not wrapped
    assert max(map(len, shown.splitlines())) <= 50
