"""Watching a run: what the view says at each event. Driven by made-up events; test_cli drives a real run."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from rrm import Task
from rrm.core.judgements import Event
from rrm.view.live import Live
from tests import toy

SETTINGS = toy.SMALL.model_copy(update={"rounds": 2, "steps": 4})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Play:
    """A run that happens by hand."""

    def __init__(self, task: Task, terminal: bool = False, metrics: list[Any] | None = None) -> None:
        self.clock, self.out = Clock(), io.StringIO()
        console = Console(file=self.out, force_terminal=terminal, width=150, color_system=None)
        self.live = Live(task, console, self.clock)
        self.metrics, self.nodes = metrics or [], {}

    def open(self, path: str, round: int = 0, comparisons: int = 0) -> None:
        history = [row[1:] for row in self.metrics if row[0] == path]
        self.nodes[path] = SimpleNamespace(
            task=SimpleNamespace(path=path), round=round, comparisons=[None] * comparisons, history=lambda: history
        )
        self.live(self.nodes[path], Event(path, round, "open"))

    def event(self, path: str, round: int, phase: str, step: int = 0, of: int = 0, **metrics: float) -> None:
        self.clock.now += 1
        self.live(self.nodes[path], Event(path, round, phase, step, of, metrics))
        left = self.live.left
        assert left is None or left >= 0

    def round(self, path: str, round: int, rewards: tuple[float, ...] = (-0.5, 0.0, 0.25)) -> None:
        self.event(path, round, "sample", of=3)
        self.event(path, round, "sample", malformed=0.25)
        self.event(path, round, "compare", 1, 3)
        self.event(path, round, "compare", 3, 3)
        self.event(path, round, "compare", 3, 3, comparisons=3.0 * (round + 1), ties=1.0, attention=9.0)
        self.event(path, round, "fit", 1, 2)
        self.event(
            path, round, "fit", n=3.0, n_holdout=9.0, accuracy=0.9, holdout_accuracy=0.75, holdout_right=6.0,
            holdout_decided=8.0, holdout_pairs=0.0,
        )  # fmt: skip
        for step, reward in enumerate(rewards):
            self.event(path, round, "improve", step, 4, reward=reward, kl=1.5 * step)
        self.event(path, round, "done", seconds=1.0)

    def shown(self) -> str:
        console = Console(file=io.StringIO(), width=150)
        with console.capture() as capture:
            console.print(self.live.render())
        return capture.get()


def tree() -> Task:
    return toy.task(
        settings=SETTINGS, assistants=(toy.sub("[b]a", settings=SETTINGS), toy.sub("c", settings=SETTINGS))
    )


def test_lines_where_sampling_begins_and_phases_end_only() -> None:
    play = Play(tree())
    play.open("toy")
    play.open("toy/[b]a")
    play.round("toy/[b]a", 0)
    lines = [
        line.split("] ", 1)[1] if "left] " in line else line for line in play.out.getvalue().splitlines()
    ]
    at = "toy/[b]a round 1/2: "
    assert [line.split(at)[1] for line in lines] == [
        "sampling outcomes of 3 cases",
        "sampled, 25% malformed",
        "3 comparisons so far, 1 ties in this round",
        "reward model fitted, right in 6/8 held-out comparisons (cases held out)",
        "reward -0.50 → +0.25, KL 3.0",
    ]


def test_the_table_shows_where_every_node_is() -> None:
    play = Play(tree(), terminal=True)
    assert play.shown().count("waiting") == 3 and "left" not in play.shown()
    play.open("toy")
    play.open("toy/[b]a")
    play.round("toy/[b]a", 0)
    play.event("toy/[b]a", 1, "compare", 2, 3)
    table = play.shown()
    (row,) = [line for line in table.splitlines() if "[b]a" in line]
    assert row.split() == ["├─", "[b]a", "2/2", "compare", "2/3", "3", "6/8", "-0.50", "→", "+0.25", "3.0"]
    assert "└─ c" in table and "elapsed, about" in table
    assert play.out.getvalue() == ""  # a terminal gets the table, not lines


def test_the_gain_is_that_of_the_latest_round() -> None:
    play = Play(tree())
    play.open("toy")
    play.round("toy", 0, (-1.0, 1.0))
    play.round("toy", 1, (-0.25, 0.5))
    assert play.live.rows["toy"].gain == "-0.25 → +0.50"
    assert play.live.rows["toy"].phase == "finished"


def test_time_left_shrinks_to_nothing() -> None:
    play = Play(tree())
    left = []
    for path in ("toy", "toy/[b]a", "toy/c"):
        play.open(path)
    for path in ("toy/[b]a", "toy/c", "toy"):
        for round in range(2):
            play.round(path, round)
            left.append(play.live.left)
    assert None not in left
    numbers = [value for value in left if value is not None]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > 10 and numbers[-1] == 0


def test_what_was_done_before_an_interruption_is_shown_and_takes_no_time() -> None:
    before = [
        ("toy/[b]a", 0, "improve", 0, "reward", -1.0),
        ("toy/[b]a", 1, "fit", 0, "n", 20.0),
        ("toy/[b]a", 1, "fit", 0, "holdout_right", 8.0),
        ("toy/[b]a", 1, "fit", 0, "holdout_decided", 10.0),
        ("toy/[b]a", 1, "improve", 0, "reward", 0.5),
        ("toy/[b]a", 1, "improve", 3, "reward", 0.75),
        ("toy/[b]a", 2, "fit", 0, "accuracy", 0.1),  # of a round that was not finished
    ]
    play = Play(tree(), metrics=before)
    play.open("toy")
    play.open("toy/[b]a", round=2, comparisons=6)
    play.open("toy/c", round=1, comparisons=3)
    play.event("toy/c", 1, "sample", of=3)
    done = play.live.rows["toy/[b]a"]
    assert (done.phase, done.comparisons, str(done.accuracy), done.gain) == ("finished", 6, "8/10", "+0.50 → +0.75")
    assert play.live.rows["toy/c"].comparisons == 3
    play.round("toy/c", 1)
    assert play.live.left is not None and play.live.left < 6 * play.clock.now


def test_refreshed_assistants_have_further_rounds() -> None:
    root = toy.task(
        settings=SETTINGS.model_copy(update={"rounds": 3, "refresh": 1}), assistants=(toy.sub("a"),)
    )
    assert {path: row.rounds for path, row in Live(root).rows.items()} == {"toy": 3, "toy/a": 3}


def test_a_round_that_begins_above_the_kl_limit_says_how_to_go_on() -> None:
    for terminal in (False, True):
        play = Play(tree(), terminal)
        play.open("toy")
        play.event("toy", 0, "improve", 0, 4, reward=0.0, kl=1.0)
        play.event("toy", 0, "improve", 1, 4, reward=0.5, kl=9.25)
        play.event("toy", 0, "improve", 1, 4, stopped=1.0)
        assert ("stopped after 1 of 4 steps: the KL of 9.2 is over max_kl (8)" in play.out.getvalue()) is not terminal
        assert "warning" not in play.out.getvalue()
        play.event("toy", 1, "improve", 0, 4, reward=0.0, kl=9.5)
        play.event("toy", 1, "improve", 0, 4, stopped=1.0)
        assert "warning: nothing was learned in this round" in play.out.getvalue()
        assert "raise max_kl, or kl" in play.out.getvalue()


def test_a_terminal_is_left_clean() -> None:
    play = Play(tree(), terminal=True)
    with play.live:
        play.open("toy")
        play.round("toy", 0)
    assert "elapsed" in play.out.getvalue()


def test_an_improvement_that_earned_less_is_said_to_be_undone_until_the_next() -> None:
    play = Play(tree())
    path = next(iter(play.live.rows))
    play.open(path)
    play.round(path, 0)
    row = play.live.rows[path]
    assert "undone" not in row.gain
    play.event(path, 1, "fit", n=3.0)
    play.event(path, 1, "improve", 0, 4, reward=1.0)
    play.event(path, 1, "improve", 4, 4, undone=1.0)
    assert "undone" in row.gain and "improvement undone: it earns less" in play.out.getvalue()
    play.event(path, 1, "accept", comparisons=4.0, preferred=0.5, kept=1.0)
    assert "undone" in row.gain, "the user was shown the same agent twice"
    play.event(path, 2, "fit", n=3.0)
    assert "undone" not in row.gain


def test_what_comes_before_the_first_event_is_said() -> None:
    play = Play(tree())
    play.live.loading("smollm2")
    play.live.informed("bfloat16 on cpu, as a probe decided")
    play.live.informed("")
    first, second, third = play.out.getvalue().splitlines()
    s = SETTINGS
    pairs = 3 * s.rounds * (min(s.comparisons, s.cases * s.outcomes * (s.outcomes - 1) // 2) + s.accept)
    assert first == "loading smollm2" and third == f"3 nodes, at most {pairs} pairs to judge"
    assert second == f"bfloat16 on cpu, as a probe decided; {third}"


def test_a_node_that_samples_for_its_assistants_is_seen_to() -> None:
    for terminal in (False, True):
        play = Play(tree(), terminal=terminal)
        play.open("toy")
        play.event("toy", 0, "frame", of=5)
        assert ("toy round 1/2: sampling outcomes of 5 cases, for its" in play.out.getvalue()) is not terminal
        assert play.live.rows["toy"].status == "frame"
        play.open("toy/[b]a")
        assert play.live.rows["toy"].status == "waiting", "for what is below"
