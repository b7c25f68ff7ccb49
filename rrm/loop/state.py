"""What a node is between two steps of the loop: its agent, its reward model, its judgements, and the round it is in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rrm.core import border
from rrm.core.judgements import Comparison, Event
from rrm.core.parallel import World
from rrm.core.parties import Accountable, Watch
from rrm.core.protocols import Cases, Learner, Policy, Scores
from rrm.core.records import Group, digest
from rrm.core.remarks import Remarked
from rrm.core.task import Task
from rrm.store.journal import Journal


class NodeState:
    """One task in training.

    Attributes
    ----------
    agent, reward: what learns here. The reward model is not fitted before the first round's fit.
    journal: where everything that happens is kept, and what happened before an interruption is found.
    world: the processes that train together.
    seed: the run's.
    round: the round it is in, from 0; the number of rounds behind it.
    cases: where its cases come from; None before its first sample.
    comparisons: all of the node's, judged or recalled.
    alone: what was said of outcomes beside no comparison: imported ratings, demonstrations.
    lived: what the agent did for real, of one that plans (`rrm.loop.living`). lived_in: the last round of it.
    parted: ids of the cases whose outcomes are parts of this round's outcomes (`settings.parts`).
    """

    def __init__(
        self, task: Task, agent: Policy, reward: Learner, journal: Journal, world: World, seed: int,
        watch: Sequence[Watch] = (),
    ) -> None:  # fmt: skip
        self.task, self.agent, self.reward = task, agent, reward
        self.journal, self.world, self.seed = journal, world, seed
        self.round = 0
        self.cases: Cases | None = None
        self.comparisons: list[Comparison] = []
        self.alone: list[Remarked] = []
        self.parted: frozenset[str] = frozenset()
        self.lived: list[Group] = []
        self.lived_in = -1
        self._watch = tuple(watch)
        self._start = agent.state() if task.settings.explore else None

    @contextmanager
    def as_it_started(self) -> Iterator[None]:
        """Within it the agent has the weights it was made with."""
        assert self._start is not None  # kept where `settings.explore` asks for them
        now = self.agent.state()
        self.agent.load(self._start)
        try:
            yield
        finally:
            self.agent.load(now)

    def scores(self, groups: Sequence[Group]) -> list[Scores]:
        """The reward model's scores of groups, looked at: a score that is no number must never decide anything."""
        return border.scored(self.reward.score(groups), groups, f"{self.task.path}: the reward model")

    def key(self, *parts: object) -> str:
        """A name for a random stream: (seed, node, round, component)."""
        return digest(self.seed, self.task.path, self.round, *map(str, parts))

    def emit(self, phase: str, step: int = 0, of: int = 0, **metrics: float) -> None:
        """Keep metrics, and tell whoever watches."""
        if metrics:
            metrics = border.numbers(metrics, f"{self.task.path}, {phase} of round {self.round}")
            self.journal.log(self.task.path, self.round, phase, step, metrics)
        event = Event(self.task.path, self.round, phase, step, of, metrics)
        looking = self.agent.looked_at() if self._watch and isinstance(self.agent, Accountable) else nullcontext()
        with self.world.apart(), looking:  # only the main process has watchers
            for watch in self._watch:
                with _said_by(watch, event):
                    watch(self, event)

    def history(self) -> list[tuple[int, str, int, str, float]]:
        """(round, phase, step, name, value) of this node's metrics so far."""
        return [row[1:] for row in self.journal.metrics(self.task.path)]


def _said_by(watch: Watch, event: Event) -> AbstractContextManager[None]:
    """An error of somebody's own watcher says so. Ours fail where the terminal or a tracker does, and keep that error:
    a closed pipe ends a command in silence."""
    if str(getattr(watch, "__module__", "")).partition(".")[0] == "rrm":
        return nullcontext()
    name = getattr(watch, "__qualname__", type(watch).__qualname__)
    return border.told(f"the watcher {name!r} ({event.phase} of {event.task})", passing=True)
