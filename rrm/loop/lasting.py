"""How many rounds a node has behind it, and how many it takes, as its journal says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.store.journal import Journal

History = Sequence[tuple[int, str, int, str, float]]
"""(round, phase, step, name, value) of a node's metrics."""


def finished_rounds(journal: Journal, path: str) -> int:
    """The rounds of a node that ended: the agent's weights were saved."""
    saved, round = journal.checkpoints(path), 0
    while (round, "agent") in saved:
        round += 1
    return round


def finished(journal: Journal, task: Task, extra: int = 0) -> bool:
    """Whether a node has done all of its rounds, and `extra` more. One that stopped because all of its outcomes were
    alike has not: it looks again."""
    round = finished_rounds(journal, task.path)
    return round >= needed(task.settings, round, lambda: [row[1:] for row in journal.metrics(task.path)]) + extra


def needed(s: Settings, round: int, history: Callable[[], History]) -> int:
    """Rounds that a node takes, as far as is known when so many are done: until it has converged, if `s.until` says
    so."""
    if not s.until:
        return s.rounds
    for rounds in range(s.rounds, s.most_rounds):
        if rounds > round or _settled(s, [row for row in history() if row[0] < rounds]):
            return rounds
    return max(s.rounds, s.most_rounds)


def _settled(s: Settings, rows: History) -> bool:
    """Whether the figures of some rounds say that nothing is left to learn: of the last fit, in the last round unless
    it was the only one, and of the last round's optimization; see `Settings.until`."""
    last, fits = max((row[0] for row in rows), default=0), [row for row in rows if row[1] == "fit"]
    fitted = max((row[0] for row in fits), default=0)
    if fitted < last and s.feedback != "frozen":
        return False  # against a reward model that stays nothing more may be gained; but it will be asked again
    found = {name: value for round, _, _, name, value in fits if round == fitted}
    rewards = [value for round, phase, _, name, value in rows if (round, phase, name) == (last, "improve", "reward")]
    some = max(1, len(rewards) // 4)  # one step's reward is noisy
    gain = (sum(rewards[-some:]) - sum(rewards[:some])) / some
    right = found.get("holdout_accuracy") if s.holdout else found.get("accuracy")
    return (right or 0.0) >= s.until and gain < s.settled
