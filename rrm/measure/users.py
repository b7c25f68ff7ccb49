"""Users changed from outside, for the arms of an experiment: kept from the assistance, noisy, turned around."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from rrm.task import Task, digest
from rrm.user import Judgement, Pair, User


@dataclass(frozen=True)
class Unaided:
    """A user who is not shown the assistance of some tasks (by path), whoever else reads it."""

    inner: User
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"unaided({self.inner.name})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        if task.path not in self.tasks:
            return self.inner.judge(task, pair)
        judgement = self.inner.judge(task, replace(pair, assistance_a=(), assistance_b=()))
        return replace(judgement, assisted=False)

    def recall(self, task: Task, judgement: Judgement) -> None:
        self.inner.recall(task, judgement)

    def model_dump(self) -> dict[str, Any]:
        return {"unaided": list(self.tasks), "inner": dump(self.inner)}


@dataclass(frozen=True)
class Noisy:
    """A user whose preference is turned around with chance `share`, at some tasks (by path); with share 1, always.
    Which ones hangs on the pair only, not on its order."""

    inner: User
    share: float
    seed: int
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"noisy({self.inner.name}, {self.share:g})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        judgement = self.inner.judge(task, pair)
        if task.path not in self.tasks or judgement.preference is None:
            return judgement
        both = sorted((pair.a.id, pair.b.id))
        turned = random.Random(digest(self.seed, "noise", pair.task, pair.case.id, both)).random() < self.share
        return replace(judgement, preference=1 - judgement.preference) if turned else judgement

    def recall(self, task: Task, judgement: Judgement) -> None:
        self.inner.recall(task, judgement)

    def model_dump(self) -> dict[str, Any]:
        return {"share": self.share, "seed": self.seed, "tasks": list(self.tasks), "inner": dump(self.inner)}


def dump(user: User) -> dict[str, Any]:
    """A user's settings, as config.json keeps them."""
    settings: dict[str, Any] = user.model_dump() if hasattr(user, "model_dump") else {}
    return {"name": user.name, **settings}
