"""A root whose outcomes were written by others: recorded once, sampled from ever after, never optimized.

Where the model at hand solves hardly anything, its own outcomes make no pairs of right and wrong to train and judge
critics on; solutions that somebody published do. Everything else of the tree is made as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rrm.core.errors import RRMError
from rrm.core.judgements import ImproveReport
from rrm.core.parallel import World
from rrm.core.protocols import Cases, Judge, Learner, Log, Policy
from rrm.core.records import Case, Group, Outcome, digest
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.learning.text_maker import TextMaker
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision

if TYPE_CHECKING:
    import torch


class Recorded:
    """A frozen policy: its outcomes of a case are those that were recorded of it, drawn without order.

    Parameters
    ----------
    outcomes: case id -> at least one outcome each.
    """

    repeatable = True

    def __init__(self, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
        empty = [case for case, found in outcomes.items() if not found]
        if empty:
            raise RRMError(f"case {empty[0]} has no recorded outcome; leave it out")
        self._outcomes = {case: tuple(found) for case, found in outcomes.items()}

    @cached_property
    def version(self) -> str:
        """A hash of all that was recorded."""
        return digest("recorded", sorted((case, [o.id for o in found]) for case, found in self._outcomes.items()))

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """`n` of the outcomes recorded of each case, each once before any comes again, in an order that `key` decides;
        greedy: in the order in which they were recorded. Raises `RRMError` for a case that nothing was recorded of."""
        groups = []
        for case in cases:
            if (found := self._outcomes.get(case.id)) is None:
                raise RRMError(f"no outcome of {case.prompt[:60]!r} was recorded; draw its cases from those that have")
            order = sorted(range(len(found)), key=lambda i: i if greedy else digest(key, case.id, i))
            groups.append(Group(case, tuple(found[order[i % len(order)]] for i in range(n))))
        return groups

    def improve(self, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
        """Nothing to do in 0 steps. Raises `RRMError` for more: what is recorded cannot be optimized."""
        if settings.steps:
            raise RRMError(f"recorded outcomes cannot be optimized (steps={settings.steps}); set the root's steps to 0")
        return ImproveReport(0, 0.0, 0.0)

    def state(self) -> dict[str, torch.Tensor]:
        """Empty: training changes nothing of it."""
        return {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Raises `RRMError` unless the state is empty."""
        if state:
            raise RRMError(f"recorded outcomes have no weights, but were given {sorted(state)}")


class RecordedMaker:
    """The maker over a language model, but for the root, whose outcomes are `recorded`.

    Its precision is the backbone's when a run begins (no probe), and that of the beginning when it goes on.
    """

    def __init__(self, backbone: Backbone, root: str, recorded: Recorded) -> None:
        self.inner, self.root, self.recorded = TextMaker(backbone), root, recorded
        self.name, self.prompts, self.identity = self.inner.name, self.inner.prompts, self.inner.identity
        self.fingerprint = digest(self.inner.fingerprint, recorded.version)

    @property
    def world(self) -> World:
        """The backbone's."""
        return self.inner.world

    @world.setter
    def world(self, world: World) -> None:
        self.inner.world = world

    def policy(self, task: Task, seed: int) -> Policy:
        """See `Maker`."""
        return self.recorded if task.path == self.root else self.inner.policy(task, seed)

    def reward(self, task: Task, seed: int) -> Learner:
        """See `Maker`."""
        return self.inner.reward(task, seed)

    def doubts(self, cases: Sequence[Case]) -> list[str]:
        """What of these cases the model cannot read, in words."""
        return self.inner.doubts(cases)

    def decide(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """See `Deciding`."""
        backbone = self.inner.backbone
        if before is not None:
            backbone.precision = Precision(**before["precision"])
        return {"precision": asdict(backbone.precision), "probe_seconds": None}
