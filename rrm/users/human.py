"""People in the user's place: a round's pairs are queued, and training waits until they are judged."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field, PrivateAttr

from rrm.core.clean import visible
from rrm.core.errors import RRMError
from rrm.core.judgements import Judgement, Pair
from rrm.core.settings import Explained
from rrm.core.task import Task
from rrm.labels.queue import Labels


def announce(message: str) -> None:
    """A line on the terminal."""
    print(visible(message), file=sys.stderr, flush=True)


@dataclass
class _Batch:
    """Pairs that were announced together."""

    questions: Mapping[str, str]
    """Pair -> question."""
    judged: Mapping[str, Judgement] | None = None
    """Question -> judgement, once all are judged."""


class HumanUser(Explained):
    """A person, or several: `rrm label RUN` asks them. See rrm/labels/queue.py for what becomes of their labels.

    Pauses a node until the round's pairs are judged; it may be killed while it waits, and started again.
    """

    model_config = ConfigDict(title="human", extra="forbid", frozen=True, use_attribute_docstrings=True)

    overlap: int = Field(default=1, ge=1)
    """How many people judge each pair; their mean preference counts. What they say of one outcome (a rating, a
    correction: the task's setting `ask`) stays each person's own."""
    unassisted: float = Field(default=0.1, ge=0, le=1)
    """Share of pairs, at random, that a person judges without assistance, to measure what it does for them."""
    grace: float = Field(default=3.0, ge=0, exclude=True)
    """Seconds after the last judgement of a round in which it can still be undone, before training goes on."""
    poll: float = Field(default=0.3, gt=0, exclude=True)
    """Seconds between looks at the queue."""
    tell: Callable[[str], None] = Field(default=announce, exclude=True)
    """Shows a line to whoever runs the training."""

    concurrent: ClassVar[bool] = True
    """Nodes that train side by side queue their pairs together; see `rrm.core.parties.Concurrent`."""

    _labels: Labels | None = None
    _asked: dict[tuple[str, str], _Batch] = PrivateAttr(default_factory=dict)
    """(task, pair) -> the batch it was last announced with."""

    @property
    def name(self) -> str:
        """Kept where the person's own name is not known."""
        return "human"

    def expect(self, task: Task, round: int, pairs: Sequence[Pair], folder: Path) -> None:
        """Queue pairs, several times a round maybe. What was asked before an interruption is not asked again."""
        if not pairs:  # all judged before an interruption, and what came after them may be open still
            return
        if self._labels is None or self._labels.path.parent != folder:
            self._labels = Labels(folder)
        ids = self._labels.ask(
            task.path, round, task.instruction, pairs, self.overlap, self.unassisted, task.located, task.pictured,
            task.settings.ask,
        )  # fmt: skip
        batch = _Batch({pair.id: id for pair, id in zip(pairs, ids, strict=True)})
        self._asked.update(((task.path, pair.id), batch) for pair in pairs)

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """The people's judgement of a pair that was announced; waits until all that was announced with it is judged.

        Several tasks and rounds may be announced before the first is judged. Raises `RRMError` for another pair.
        """
        batch = self._asked.get((task.path, pair.id))
        if self._labels is None or batch is None:
            raise RRMError(f"{task.path}: a person can only judge pairs announced with expect()")
        if batch.judged is None:
            batch.judged = self._wait(task, self._labels, list(batch.questions.values()))
        return batch.judged[batch.questions[pair.id]]

    def recall(self, task: Task, judgement: Judgement) -> None:
        """People remember for themselves."""

    def _wait(self, task: Task, labels: Labels, ids: Sequence[str]) -> dict[str, Judgement]:
        if (judged := labels.taken(ids)) is not None:  # before an interruption
            if said := self._agreed(labels, ids):
                self.tell(f"{len(judged)} judgements at {task.path} were there; training goes on{said}")
            return judged
        left, run = labels.waiting(ids), labels.path.parent
        self.tell(f"waiting for {left} judgements at {task.path}: run `rrm label {run}`")
        while (judged := labels.take(ids, self.grace)) is None:
            time.sleep(self.poll)
        self.tell(f"{len(judged)} judgements at {task.path} are there; training goes on{self._agreed(labels, ids)}")
        return judged

    def _agreed(self, labels: Labels, ids: Sequence[str]) -> str:
        """What is to be said where several judged the same pairs: whose preferences are averaged is never silent."""
        if self.overlap < 2:
            return ""
        from rrm.labels.agreement import alpha  # late: it takes half a second

        asked = {*ids}
        found = alpha([label for label in labels.labels() if label.question in asked], labels.cases())
        if not found.pairs:
            return ""
        return (
            f" by the mean of several people's preferences on {found.pairs} pairs; their agreement, Krippendorff's "
            f"alpha: {found.ordinal} (`rrm measure human-labels {labels.path.parent}` reports each of them apart)"
        )
