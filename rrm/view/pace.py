"""How long the rest of a run takes: the work of each part of each round, at the pace that was measured so far.

Work is counted in tokens written (in judgements where somebody judges), of everything that is asked for: an outcome
that assistants examine costs what they write about it, down to the bottom of the tree. A part that a node has been
through goes on at that node's pace; else at the pace of the nodes that have; else its tokens take as long as sampled
ones, some times over (`TIMES`). What an interruption, a stop at the KL limit or an empty round leaves undone counts as
no work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rrm.core.judgements import Event
from rrm.core.task import Assistant, Task

PARTS = ("frame", "sample", "assist", "compare", "fit", "improve", "accept")
"""Of a round, in order: outcomes for the assistants' cases, outcomes to judge, what assistants say of these, ..."""
GUESS = 3.0
"""How many times longer or shorter than guessed a part may take that nobody has been through (`Pace.span`)."""
TIMES = {"improve": 3.0, "fit": 1.0}
"""A token's time over that of a sampled one, until it is measured: improvement samples, scores and trains."""


def answering(task: Task, quick: bool = False) -> float:
    """Tokens that are written when a finished assistant is asked about one outcome (`rrm.core.task.Assistant`)."""
    s = task.settings
    drafts = 1 if quick else s.drafts
    below = sum(answering(sub, quick) for sub in task.subtasks)
    told_apart = sum(answering(sub, quick=True) for sub in task.subtasks) * drafts if drafts > 1 else 0.0
    return drafts * s.max_tokens + told_apart + below


@dataclass(frozen=True)
class Load:
    """A node's work by part, and its place in the tree."""

    task: Task
    parent: str
    rounds: int

    def size(self, round: int, part: str) -> float:
        """Tokens; of "compare", judgements. 0: there is no such part in this round."""
        s, subs = self.task.settings, self.task.subtasks
        if part not in ("frame", "improve") and not s.asks(round):
            return 0.0
        trained = any(not isinstance(sub, Assistant) for sub in self.task.assistants)
        full = sum(answering(sub) for sub in subs)
        match part:
            case "frame":
                again = trained and (round == 0 or bool(s.refresh))
                return float((s.cases + s.frame_cases) * s.outcomes * s.max_tokens) if again else 0.0
            case "sample":
                adversary = self.size(round, "improve") if s.adversarial and round else 0.0
                return s.cases * s.outcomes * s.max_tokens + adversary
            case "assist":
                return s.cases * s.outcomes * full
            case "compare":
                return float(s.comparisons)
            case "fit":
                read = s.max_tokens + sum(sub.settings.max_tokens for sub in subs if s.reward_sees == "assistance")
                passes = 3.0 * s.reward_epochs if s.reward_trunk == "trained" else 1.0
                return 2.0 * s.comparisons * (round + 1) * read * passes
            case "improve":
                quick = sum(answering(sub, quick=True) for sub in subs) if s.reward_sees == "assistance" else 0.0
                return s.steps * s.batch * s.group * (s.max_tokens + quick)
            case _:
                return 2.0 * s.accept * (s.max_tokens + full)


class Pace:
    """Listens to events with their times, and says how many seconds are left."""

    def __init__(self, loads: dict[str, Load]) -> None:
        self.loads = loads
        self.done: dict[tuple[str, int, str], float] = {}  # (node, round, part) -> the share of it that is behind us
        self.work: dict[tuple[str, str], float] = {}  # (node, part) -> what was done of it in this session
        self.spent: dict[tuple[str, str], float] = {}  # (node, part) -> seconds
        self._last: float | None = None  # when the latest event came; loading the model is nobody's work

    def restored(self, path: str, rounds: int) -> None:
        """A node comes with this many rounds done in an earlier session."""
        for round in range(rounds):
            self._close(path, round)

    def __call__(self, event: Event, now: float) -> None:
        """Count the work that the event says is done, and the time since the event before it."""
        part, path = self._part(event), event.task
        share = self._share(event, part)
        if part == "frame":  # of its parent, whose own cases may have been framed for that, and so on upwards
            above = path
            while above := self.loads[above].parent:
                sampled = [round for where, round, one in self.done if where == above and one == "sample"]
                self._count(above, max(sampled, default=-1) + 1, part, share)
            path = self.loads[path].parent
        else:
            self._count(path, event.round, part, share)
        if self._last is not None:
            key = (path, part)
            self.spent[key] = self.spent.get(key, 0.0) + now - self._last
        self._last = now
        if event.phase == "done":
            self._close(path, event.round)

    def _part(self, event: Event) -> str:
        """What was going on until this event."""
        load = self.loads[event.task]
        known = {part for path, round, part in self.done if path == event.task and round == event.round}
        if event.phase == "sample" and not event.metrics and load.parent:
            return "frame"
        if event.phase == "adversary":
            return "sample"
        if event.phase == "compare":
            if "improve" in known:
                return "accept"
            return "assist" if load.task.assistants and "assist" not in known else "compare"
        if event.phase == "done":
            return "accept" if load.task.settings.accept else "improve"
        return event.phase

    def _share(self, event: Event, part: str) -> float:
        if part in ("frame", "assist") or event.phase == "accept":
            return 1.0
        if event.phase == "done" or "stopped" in event.metrics:
            return 0.0  # what is not done by now never will be
        if event.phase == "improve":
            return min(1.0, (event.step + 1) / event.of) if event.of else 0.0
        if part == "accept":  # the outcomes are there, and were examined
            return 0.8 + 0.2 * min(1.0, event.step / event.of) if event.of else 0.8
        if event.metrics:
            return 1.0
        return min(1.0, event.step / event.of) if event.of else 0.0

    def _count(self, path: str, round: int, part: str, share: float) -> None:
        before = self.done.get((path, round, part), 0.0)
        self.done[path, round, part] = max(before, share)
        more = max(0.0, share - before) * self.loads[path].size(round, part)
        self.work[path, part] = self.work.get((path, part), 0.0) + more

    def _close(self, path: str, round: int) -> None:
        for part in PARTS:
            self.done[path, round, part] = 1.0

    def left(self, now: float) -> float | None:
        """Seconds from `now`; None before anything was measured."""
        if self._last is None or not any(self.work.values()) or not any(self.spent.values()):
            return None
        rest = sum(size * self._pace(path, part) for path, part, size in self._rest())
        return max(0.0, rest - (now - self._last))

    def span(self, now: float) -> tuple[float, float] | None:
        """(least, most) seconds from `now`, where `left` is between: most of a run's time can hang on parts that were
        not measured yet, and these are only guessed. None before anything was measured."""
        if (said := self.left(now)) is None:
            return None
        guessed = sum(size * self._pace(path, part) for path, part, size in self._rest() if not self._measured(part))
        return max(0.0, said - guessed * (1 - 1 / GUESS)), said + guessed * (GUESS - 1)

    def _measured(self, part: str) -> bool:
        return bool(self._pooled(part))

    def _rest(self) -> Iterator[tuple[str, str, float]]:
        for path, load in self.loads.items():
            for round in range(load.rounds):
                for part in PARTS:
                    undone = 1.0 - self.done.get((path, round, part), 0.0)
                    yield path, part, undone * load.size(round, part)

    def _pace(self, path: str, part: str) -> float:
        """Seconds for a token; for "compare", for a judgement."""
        key = (path, part)
        if self.work.get(key) and self.done_once(path, part):
            return self.spent.get(key, 0.0) / self.work[key]
        pooled = self._pooled(part)
        if pooled is not None or part == "compare":
            return pooled or 0.0
        sampled = self._pooled("sample")
        if sampled is None:
            parts = [one for one in PARTS if one != "compare"]
            work = sum(w for (_, one), w in self.work.items() if one in parts)
            sampled = sum(s for (_, one), s in self.spent.items() if one in parts) / work if work else 0.0
        asked = 0.0
        if part == "accept" and (size := self.loads[path].size(0, part)):  # it is judged, too
            asked = (self._pooled("compare") or 0.0) * self.loads[path].task.settings.accept / size
        return sampled * TIMES.get(part, 1.0) + asked

    def done_once(self, path: str, part: str) -> bool:
        """Whether a node has been through a part of any round: its pace is then worth more than that of others."""
        return any(share > 0 for (where, _, one), share in self.done.items() if (where, one) == (path, part))

    def _pooled(self, part: str) -> float | None:
        """The pace of all nodes together; None if none has done any of it."""
        work = sum(w for (_, one), w in self.work.items() if one == part)
        return sum(s for (_, one), s in self.spent.items() if one == part) / work if work else None
