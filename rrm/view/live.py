"""Watching a run in the terminal: the tree, where each node is, what was judged, learned and gained.

On a terminal one table that keeps itself up to date; elsewhere (a log file, a pipe) a line at the end of each
phase. Use it as a watch:

    with Live(task) as live:
        train(task, user, watch=[live])
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from rrm.core.judgements import Event
from rrm.core.parties import Watched
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.view.accuracy import Predicted, counted, nothing_learned
from rrm.view.clean_console import CleanConsole
from rrm.view.pace import Load, Pace

SHOWN = ("sample", "compare", "fit", "improve", "accept", "done")
"""The phases that change what is shown."""
BEGUN = ("frame", "sample")
"""Those of which the beginning is said, too: on a slow machine nothing else is heard for minutes."""


@dataclass
class LiveRow:
    """What is shown of one node."""

    path: str
    label: str
    rounds: int
    settings: Settings
    phase: str = "waiting"
    round: int = 0
    step: int = 0
    of: int = 0
    comparisons: int = 0
    accuracy: Predicted | None = None
    """Of the latest reward model; None while it is not known."""
    ignorant: bool = False
    """Whether the latest reward model has learned nothing."""
    first_reward: float | None = None
    """Of the first step of the latest improve phase: rewards of different rounds have different scales."""
    reward: float | None = None
    kl: float | None = None
    kept: bool = True
    """Whether the latest improvement stands: it earned no less than what was before, and the user let it."""
    seen: bool = False

    def note(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Take over a phase's metrics."""
        if phase == "compare" and "comparisons" in metrics:
            self.comparisons = int(metrics["comparisons"])
        elif phase == "fit":
            if "n" in metrics:
                self.accuracy, self.ignorant = Predicted.of_fit(metrics), bool(metrics.get("ignorant"))
                self.kept = True  # what comes now is another improvement
        elif phase == "improve" and "reward" in metrics:
            self.first_reward = metrics["reward"] if step == 0 else self.first_reward
            self.reward = metrics["reward"]
            self.kl = metrics.get("kl", self.kl)
        elif phase == "improve" and "undone" in metrics:
            self.kept = False
        elif phase == "accept":
            self.kept = self.kept and bool(metrics["kept"])

    @property
    def gain(self) -> str:
        """ "+0.10 → +0.55", the first and last reward of the latest improvement, and whether it was undone; empty
        before any."""
        if self.reward is None:
            return ""
        start = self.reward if self.first_reward is None else self.first_reward
        return f"{start:+.2f} → {self.reward:+.2f}" + ("" if self.kept else " undone")

    @property
    def status(self) -> str:
        """The phase, with its step where it has several: "improve 3/12"."""
        if self.phase in ("waiting", "finished"):
            return self.phase
        return f"{self.phase} {self.step}/{self.of}" if self.of and self.step else self.phase


class Live:
    """Shows a run while it trains: a watch (called with node and event) and a context manager.

    Parameters
    ----------
    task: the root of the tree that is trained.
    console: where to show it; standard output by default.
    clock: seconds; replaced in tests.
    """

    def __init__(
        self, task: Task, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or CleanConsole()
        self.clock = clock
        self.rows: dict[str, LiveRow] = {}
        loads: dict[str, Load] = {}
        self._grow(plant(task), 0, "", "", loads, "")
        self._pace = Pace(loads)
        self._began = clock()
        self._screen: Screen | None = None

    def _grow(self, task: Task, extra: int, lead: str, branch: str, loads: dict[str, Load], parent: str) -> None:
        s = task.settings
        rounds = s.rounds + extra
        loads[task.path] = Load(task, parent, rounds)
        self.rows[task.path] = LiveRow(task.path, f"{lead}{branch}{task.name}", rounds, s)
        subs = [sub for sub in task.assistants if isinstance(sub, Task)]
        lead += {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for i, sub in enumerate(subs):
            # a parent's later rounds refresh its assistants: see rrm.loop.recursion.solve
            self._grow(sub, (rounds - 1) * s.refresh, lead, "└─ " if i == len(subs) - 1 else "├─ ", loads, task.path)

    # --- before the first event -----------------------------------------------------------------------

    def loading(self, model: str) -> None:
        """Say, at once, what takes the time until the first event."""
        self.console.print(Text(f"loading {model}"), soft_wrap=True)

    def informed(self, computing: str) -> None:
        """See `rrm.core.parties.Informed`: how the run computes, and how much there is to do at most."""
        n, pairs = len(self.rows), sum(map(_pairs, self.rows.values()))
        told = [computing] if computing else []
        told.append(f"{n} {'node' if n == 1 else 'nodes'}, at most {pairs:,} pairs to judge")
        self.console.print(Text("; ".join(told)), soft_wrap=True)

    # --- the watch -----------------------------------------------------------------------------------

    def __call__(self, node: Watched, event: Event) -> None:
        now = self.clock()
        self._restore(node)
        for one in self.rows.values():
            one.phase = "waiting" if one.phase == "frame" else one.phase
        if event.phase in BEGUN and event.of and not event.metrics:
            self._begun(self.rows[event.task], event)
        if event.phase not in SHOWN:  # opened; or a watcher's own, such as its measurements
            return
        row = self.rows[event.task]
        row.round, row.phase, row.step, row.of = event.round, event.phase, event.step, event.of
        row.note(event.phase, event.step, event.metrics)
        self._pace(event, now)
        if event.phase == "improve":
            row.step += 1  # improvers count from 0
        if event.phase == "done":
            row.phase = "finished" if event.round + 1 >= row.rounds else "waiting"
        nothing = ("stopped" in event.metrics and event.step == 0) or bool(event.metrics.get("ignorant"))
        if (nothing or not self.console.is_terminal) and (line := self._line(row, event)):
            self.console.print(Text(line, style="yellow" if nothing else ""), soft_wrap=True)  # above the table

    def _begun(self, row: LiveRow, event: Event) -> None:
        """A node begins to sample, of which nothing is heard for a while."""
        if event.phase == "frame" and row.phase == "waiting":
            row.phase = "frame"
        if not self.console.is_terminal:
            what = ", for its assistants to be trained on" if event.phase == "frame" else ""
            line = f"round {event.round + 1}/{row.rounds}: sampling outcomes of {event.of} cases{what}"
            self.console.print(Text(f"[{_duration(self.elapsed)}{self.ahead}] {row.path} {line}"), soft_wrap=True)

    def _restore(self, node: Watched) -> None:
        """Show what a node had done before this session (a resumed run), when it is opened."""
        row = self.rows[node.task.path]
        if row.seen:
            return
        row.seen = True
        row.round = node.round
        self._pace.restored(node.task.path, node.round)
        if node.round:
            row.comparisons = len(node.comparisons)
            row.phase = "finished" if node.round >= row.rounds else "waiting"
            steps: dict[tuple[int, str, int], dict[str, float]] = {}
            for round, phase, step, name, value in node.history():
                if round < node.round:
                    steps.setdefault((round, phase, step), {})[name] = value
            for (_, phase, step), metrics in sorted(steps.items(), key=lambda item: item[0]):
                row.note(phase, step, metrics)

    # --- time ----------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds, by `clock`, since this session began."""
        return self.clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes if work goes on at its pace so far; None before anything is done."""
        return self._pace.left(self.clock())

    @property
    def ahead(self) -> str:
        """The same in words, no more exact than it is known: ", about 4m left", ", 2m to 15m left"; where a node goes
        on until it has converged, ", at least"; empty before anything is done."""
        span = self._pace.span(self.clock())
        if span is None:
            return ""
        least, most = span
        longer = any(
            row.settings.until and row.settings.most_rounds > row.rounds and row.phase != "finished"
            for row in self.rows.values()
        )
        if most > 1.5 * least + 5:
            return f", {_roughly(least)} to {_roughly(most)} left" + (" or longer" if longer else "")
        return f", {'at least' if longer else 'about'} {_roughly(most)} left"

    # --- what is shown -------------------------------------------------------------------------------

    def _line(self, row: LiveRow, event: Event) -> str:
        """A phase that ended, in one line; empty for anything else."""
        m = event.metrics
        match event.phase:
            case "sample" if "malformed" in m:
                what = f"sampled, {m['malformed']:.0%} malformed"
            case "compare" if "comparisons" in m:
                what = f"{row.comparisons} comparisons so far, {m.get('ties', 0):.0f} ties in this round"
            case "fit" if m:
                what = nothing_learned(m) or f"reward model fitted{_predicted(row.accuracy)}"
            case "improve" if "stopped" in m:
                limit = f"the KL of {row.kl or 0:.1f} is over max_kl ({row.settings.max_kl:g})"
                what = f"improvement stopped after {event.step} of {event.of} steps: {limit}"
                if event.step == 0:
                    what = (
                        f"warning: nothing was learned in this round, and hardly will be in later ones: {limit} "
                        "before the first step, and it is over all rounds. In a new run, raise max_kl, or kl to stay "
                        "below it"
                    )
            case "improve" if "undone" in m:
                what = "improvement undone: it earns less of the learned reward than what was before it"
            case "accept":
                verdict, of = "kept" if row.kept else "undone", m["comparisons"]
                what = f"improvement {verdict}, preferred in {m['preferred'] * of:.4g}/{of:.0f} comparisons"
            case "done":
                what = "round done" if row.reward is None else f"reward {row.gain}, KL {row.kl or 0:z.1f}"
            case _:
                return ""
        return f"[{_duration(self.elapsed)}{self.ahead}] {row.path} round {row.round + 1}/{row.rounds}: {what}"

    def render(self) -> Group:
        """The table, for the screen."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("task", no_wrap=True)
        table.add_column("round", justify="right")
        table.add_column("phase", no_wrap=True, min_width=15)
        for name in ("comparisons", "held out", "reward", "KL"):
            table.add_column(name, justify="right", no_wrap=True)
        styles = {"waiting": "dim", "finished": "green"}
        for row in self.rows.values():
            shown = row.rounds if row.phase == "finished" else min(row.round + 1, row.rounds)
            table.add_row(
                Text(row.label),
                f"{shown}/{row.rounds}" if row.seen else f"-/{row.rounds}",
                Text(row.status, style=styles.get(row.phase, "bold yellow")),
                str(row.comparisons or ""),
                "nothing learned" if row.ignorant else counted(row.accuracy) if row.comparisons else "",
                row.gain,
                "" if row.kl is None else f"{row.kl:z.1f}",
            )
        return Group(table, Text(f"{_duration(self.elapsed)} elapsed{self.ahead}", style="dim"))

    def __enter__(self) -> Live:
        self._began = self.clock()
        if self.console.is_terminal:
            self._screen = Screen(console=self.console, get_renderable=self.render, refresh_per_second=4)
            self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen is not None:
            self._screen.stop()
            self._screen = None


def _pairs(row: LiveRow) -> int:
    """What is asked at a node at most, with the rounds that it goes on where it has not converged."""
    s = row.settings
    rounds = max(row.rounds, s.most_rounds) if s.until else row.rounds
    asked = min(s.comparisons, s.cases * math.comb(s.outcomes, 2))
    return sum(s.asks(round) for round in range(rounds)) * (asked + s.accept)


def _predicted(found: Predicted | None) -> str:
    """ ", right in 17/20 held-out comparisons (cases held out)"; empty where that is not known."""
    if found is None:
        return ""
    if not found.enough:
        return f", {found.of} comparisons held out: too few to tell its accuracy"
    by = f" ({found.by} held out)" if found.by else ""
    chance = "" if found.knows else ", no better than chance"
    return f", right in {found} held-out comparisons{by}{chance}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole // 60 % 60:02d}m"


def _roughly(seconds: float) -> str:
    """To two digits or so: what is left is never known better."""
    step = 5 if seconds < 60 else 30 if seconds < 600 else 60 if seconds < 3600 else 600
    return _duration(step * round(seconds / step)).replace("m00s", "m").replace("h00m", "h")
