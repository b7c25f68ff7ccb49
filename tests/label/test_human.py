"""People as the user of a training: at the terminal, over the command line, and through kills."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrm import RRMError, train
from rrm.command.cli import app
from rrm.labels.queue import Labels
from rrm.loop.training import describe
from rrm.store.store import Store
from rrm.users.human import HumanUser
from rrm.view.label_tty import Terminal
from tests import mini, toy
from tests.label.material import pair

FEW = mini.SMALL.model_copy(update={"rounds": 1, "accept": 2, "cases": 3, "comparisons": 4, "max_tokens": 8})


def human(**changes: Any) -> HumanUser:
    return HumanUser(**({"grace": 0.0, "poll": 0.02, "tell": lambda line: None} | changes))


def queue(folder: Path, n: int = 3, text: str = "outcome") -> tuple[Labels, list[str]]:
    Store(folder / "run.db").close()
    labels = Labels(folder)
    return labels, labels.ask("t", 0, "Which?", [pair(i, text=text) for i in range(n)], 1, 0.0)


def terminal(folder: Path, *lines: str, before: Callable[[int], None] = lambda n: None) -> str:
    """What a person at the terminal sees who types these lines; `before` is called before each."""
    typed: Iterator[tuple[int, str]] = iter(enumerate(lines))
    out = io.StringIO()

    def ask(prompt: str) -> str:
        n, line = next(typed, (-1, None))
        if line is None:
            raise EOFError
        before(n)
        return line

    def leave(seconds: float) -> None:  # Ctrl-C when there is nothing to judge
        raise KeyboardInterrupt

    console = Console(file=out, width=100, force_terminal=True, color_system="standard")
    Terminal(folder, Labels(folder), "ann", console, ask, leave).run()
    return out.getvalue()


def test_the_terminal_asks_all_that_the_page_asks(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path)
    shown = terminal(tmp_path, "?", "j", "x", "n so it is", "3", "1", "0", "u", "s", "2")
    first, skipped, second = labels.labels()
    side = "b" if first.swapped else "a"
    assert first.marks == {f"{side}/1": "no"} and (first.note, first.strength) == ("so it is", "slightly")
    assert first.preference == (0.25 if first.swapped else 0.75)
    assert (skipped.question, skipped.preference) == (ids[1], None)
    assert second.preference == (1.0 if second.swapped else 0.0) and labels.claim("ann") == []
    assert "proofs" in shown and "ann: 2 judged" in shown


def test_the_terminal_shows_text_as_text(tmp_path: Path) -> None:
    queue(tmp_path, 1, text="[bold]x[/] \x1b]0;owned\x07\x1b[2J \u202e")
    shown = terminal(tmp_path, "q")
    assert "[bold]x[/]" in shown and "\x1b]" not in shown and "\x1b[2J" not in shown and "\u202e" not in shown
    assert "‹202E›" in shown


def test_the_terminal_says_when_an_undo_comes_too_late(tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, 1)

    def take(n: int) -> None:
        if n == 1:
            assert labels.take(ids) is not None

    more = Labels(tmp_path)
    more.ask("t", 1, "Which?", [pair(8)], 1, 0.0)
    shown = " ".join(terminal(tmp_path, "1", "u", before=take).split())
    assert "already used that judgement" in shown and labels.withdrawn_late() == 1


def test_training_waits_says_so_once_and_goes_on(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = FEW.model_copy(update={"rounds": 2})
    task = toy.task(settings=settings, facts=lambda case, outcome: [])
    done = threading.Event()

    def person() -> None:
        while not (tmp_path / "labels.db").exists():
            time.sleep(0.05)
        labels = Labels(tmp_path)
        while not done.is_set():
            said = [("waiting" in line) - ("goes on" in line) for line in lines]
            for question in labels.claim("ann") if sum(said) else ():  # answered earlier, it would not be waited for
                labels.answer(question.id + "-key", question.id, "ann", "first", seconds=3.0)
            time.sleep(0.02)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        train(task, human(tell=lines.append), "embedded", tmp_path)
    finally:
        done.set()
        thread.join()
    waits = [line for line in lines if "waiting" in line]
    asked = len(Labels(tmp_path).cases())
    assert len(waits) >= 2 and all(f"at toy: run `rrm label {tmp_path}`" in line for line in waits)
    assert sum(int(line.split()[2]) for line in waits) == asked
    store = Store(tmp_path / "run.db")
    assert len(store.comparisons()) == asked
    assert {(c.user, c.seconds) for c in store.comparisons()} == {("human(ann)", 3.0)}


def test_ctrl_c_while_waiting_loses_nothing_and_asks_nothing_again(tmp_path: Path) -> None:
    user, lines = human(), list[str]()
    pairs = [pair(i) for i in range(3)]
    user.expect(toy.task("t"), 0, pairs, tmp_path)
    labels = Labels(tmp_path)
    first = labels.claim("ann")[0]
    labels.answer("the first key", first.id, "ann", "tie")

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        lines.append(line)
        raise Stop

    stopped = human(tell=stop)
    stopped.expect(toy.task("t"), 0, pairs, tmp_path)
    with pytest.raises(Stop):
        stopped.judge(toy.task("t"), pairs[0])
    assert lines[0].startswith("waiting for 2 judgements at t")
    for question in labels.claim("ben", 3):
        assert question.id != first.id
        labels.answer(question.id + "-key", question.id, "ben", "first")
    again = human()
    again.expect(toy.task("t"), 0, pairs, tmp_path)
    judged = [again.judge(toy.task("t"), one) for one in pairs]
    assert judged[0].preference == 0.5 and judged[0].by == "human(ann)" and judged[1].by == "human(ben)"
    later = human(tell=stop)  # killed after the round was taken, before run.db had all of it
    later.expect(toy.task("t"), 0, pairs[1:], tmp_path)
    later.expect(toy.task("t"), 0, [], tmp_path)
    assert [later.judge(toy.task("t"), one) for one in pairs[1:]] == judged[1:]


def test_a_person_is_asked_only_what_was_announced(tmp_path: Path) -> None:
    user = human()
    with pytest.raises(RRMError, match="announced"):
        user.judge(toy.task("t"), pair(0))


def test_config_keeps_what_decides_the_run_and_nothing_else(tmp_path: Path) -> None:
    from rrm.models.backbone import Backbone

    kept = describe(toy.task(), human(overlap=2), Backbone.load("embedded"), 0)["user"]
    assert kept == {"name": "human", "overlap": 2, "unassisted": 0.1}


def cli(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, " ".join(result.output.split())


def test_the_commands_say_what_is_wrong(tmp_path: Path) -> None:
    queue(tmp_path)
    for words, match in (
        (("label", str(tmp_path / "nope")), "no run there"),
        (("label", str(tmp_path), "--as", "a,b"), "name"),
        (("label", str(tmp_path), "--host", "0.0.0.0"), "--token"),
        (("export", str(tmp_path / "nope"), "-o", "x.jsonl"), "no run there"),
        (("export", str(tmp_path), "-o", "x.txt"), "which format"),
        (("import", str(tmp_path / "no.jsonl"), "--out", str(tmp_path), "--node", "t"), "cannot read"),
        (("train", "tasks/paper.py", "--user", "human", "--overlap", "0", "--out", str(tmp_path / "r")), "overlap=0"),
        (("train", "tasks/paper.py", "--overlap", "2", "--out", str(tmp_path / "r")), "overlap"),
        (("train", "tasks/paper.py", "--user", "crowd", "--out", str(tmp_path / "r")), "human"),
    ):
        code, output = cli(*words)
        assert code == 2 and match in output, (words, output)


def test_export_and_import_from_the_shell(tmp_path: Path) -> None:
    one, two, file = tmp_path / "one", tmp_path / "two", tmp_path / "out.parquet"
    file.with_suffix(".jsonl").write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n')
    code, said = cli("import", str(file.with_suffix(".jsonl")), "--out", str(one), "--node", "toy")
    assert code == 0 and "1 comparisons at toy 1 added next: rrm train TREE" in said
    assert cli("export", str(one), "-o", str(file))[1].startswith("1 comparisons in")
    assert cli("import", str(file), "--out", str(two), "--node", "toy/sub")[0] == 0
    assert "0 added" in (again := cli("import", str(file), "--out", str(two), "--node", "toy/sub")[1])
    assert "1 comparisons at toy/sub" in again
    store = Store(two / "run.db")
    found = [(c.pair.task, c.case.prompt, c.user) for c in store.comparisons()]
    assert found == [("toy/sub", "p", "imported(out.jsonl)")]


def test_pairs_of_several_nodes_and_rounds_may_be_asked_at_once(tmp_path: Path) -> None:
    """A, then B, then a further batch of A; then what people said of each, in any order."""
    Store(tmp_path / "run.db").close()
    user, one, two = human(unassisted=0.0), toy.task("one"), toy.task("two")
    pairs = {name: [replace(pair(i), task=name) for i in range(3)] for name in ("one", "two")}
    user.expect(one, 0, pairs["one"][:2], tmp_path)
    user.expect(two, 0, pairs["two"], tmp_path)
    user.expect(one, 1, pairs["one"][2:], tmp_path)
    labels = Labels(tmp_path)
    for n, question in enumerate(labels.claim("ann", 10)):
        choice = "first" if (question.pair.task == "one") != question.swapped("ann") else "second"
        labels.answer(f"key-of-label-{n}", question.id, "ann", choice)
    for name, task in (("two", two), ("one", one)):
        assert [user.judge(task, p).preference for p in pairs[name]] == [float(name == "one")] * 3
    with pytest.raises(RRMError, match="only judge pairs announced"):
        user.judge(two, pairs["one"][0])


@pytest.mark.parametrize("agree", [True, False])
def test_whose_preferences_are_averaged_is_never_silent(tmp_path: Path, agree: bool) -> None:
    """Each round says how far the people agree whose mean is trained on; of a single person there is nothing to say."""
    said: list[str] = []
    for overlap in (1, 2):
        folder = tmp_path / str(overlap)
        folder.mkdir()
        Store(folder / "run.db").close()
        user = human(overlap=overlap, unassisted=0.0, tell=said.append)
        pairs = [pair(i) for i in range(6)]
        user.expect(toy.task("t"), 0, pairs, folder)
        labels = Labels(folder)
        for n, name in enumerate(("ann", "ben")[:overlap]):
            for i, question in enumerate(labels.claim(name, 6)):
                prefers_a = i % 2 == 0 if agree or not n else i % 2 == 1
                choice = "first" if prefers_a != question.swapped(name) else "second"
                labels.answer(str(uuid.uuid4()), question.id, name, choice, seconds=1.0)
        assert user.judge(toy.task("t"), pairs[0]).preference is not None
        again: list[str] = []  # by a run that goes on after an interruption
        resumed = human(overlap=overlap, unassisted=0.0, tell=again.append)
        resumed.expect(toy.task("t"), 0, pairs, folder)
        assert resumed.judge(toy.task("t"), pairs[0]).preference is not None
        assert any("alpha" in line for line in again) == (overlap == 2)
    alone, together = (line for line in said if "training goes on" in line)
    assert "alpha" not in alone
    assert "mean of several people's preferences on 6 pairs" in together
    assert ("alpha: 1.00" in together) == agree and ("alpha: -" in together) != agree
