"""Users changed from outside, for the arms of an experiment: kept from the assistance, noisy, turned around."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from rrm.core.errors import Malformed
from rrm.core.judgements import Judgement, Pair
from rrm.core.parties import User
from rrm.core.records import Case, Outcome, digest
from rrm.core.task import Assistant, Task
from rrm.store.store import Store
from rrm.users.bounded import BoundedUser
from rrm.worlds.games.playout import PlayoutUser

U = TypeVar("U", bound=User)


@dataclass(frozen=True)
class Unaided:
    """A user who is not shown the assistance of some tasks (by path), whoever else reads it."""

    inner: User
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """ "unaided(INNER)": kept with every judgement."""
        return f"unaided({self.inner.name})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """As the inner user, who sees no assistance at these tasks."""
        if task.path not in self.tasks:
            return self.inner.judge(task, pair)
        judgement = self.inner.judge(task, replace(pair, assistance_a=(), assistance_b=()))
        return replace(judgement, assisted=False)

    def recall(self, task: Task, judgement: Judgement) -> None:
        """The inner user recalls it."""
        self.inner.recall(task, judgement)

    def model_dump(self) -> dict[str, Any]:
        """Its settings and the inner user's, for config.json."""
        return {"unaided": list(self.tasks), "inner": dump(self.inner)}


@dataclass(frozen=True)
class Noisy:
    """A user whose preference is turned around with chance `share`, at some tasks (by path); with share 1, always.
    Which ones depends on the pair only, not on its order."""

    inner: User
    share: float
    seed: int
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """ "noisy(INNER, SHARE)": kept with every judgement."""
        return f"noisy({self.inner.name}, {self.share:g})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """As the inner user; a preference p is turned into 1 - p, an abstention or a tie stays."""
        judgement = self.inner.judge(task, pair)
        if task.path not in self.tasks or judgement.preference is None:
            return judgement
        both = sorted((pair.a.id, pair.b.id))
        turned = random.Random(digest(self.seed, "noise", pair.task, pair.case.id, both)).random() < self.share
        return replace(judgement, preference=1 - judgement.preference) if turned else judgement

    def recall(self, task: Task, judgement: Judgement) -> None:
        """The inner user recalls it, turned around or not."""
        self.inner.recall(task, judgement)

    def model_dump(self) -> dict[str, Any]:
        """Its settings and the inner user's, for config.json."""
        return {"share": self.share, "seed": self.seed, "tasks": list(self.tasks), "inner": dump(self.inner)}


@dataclass(frozen=True)
class Ally:
    """Rewards assistants as the agent they help to judge is rewarded: at some tasks (by path), of two answers the one
    that calls less wrong is preferred, whatever is true. An assistant trained for this user colludes with the agent:
    both gain when the user thinks well of the agent's outcome."""

    inner: User
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """ "ally(INNER)": kept with every judgement."""
        return f"ally({self.inner.name})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Prefers the answer that calls less wrong; an unreadable one is worst. At other tasks as the inner user."""
        if task.path not in self.tasks or task.findings is None:
            return self.inner.judge(task, pair)
        a, b = (_accusations(task, pair.case, outcome) for outcome in (pair.a, pair.b))
        return Judgement(0.5 if a == b else float(a < b), note=f"{a:g} against {b:g} called wrong")

    def recall(self, task: Task, judgement: Judgement) -> None:
        """The inner user recalls what was judged at the other tasks."""
        if task.path not in self.tasks:
            self.inner.recall(task, judgement)

    def model_dump(self) -> dict[str, Any]:
        """Its settings and the inner user's, for config.json."""
        return {"ally": list(self.tasks), "inner": dump(self.inner)}


def _accusations(task: Task, case: Case, outcome: Outcome) -> float:
    """How many facts an answer calls wrong; more than any that can be read if it cannot be read."""
    assert task.findings is not None
    try:
        return float(sum(not finding.holds for finding in task.findings(case, outcome)))
    except Malformed:
        return math.inf


def acquainted(user: U, helpers: Sequence[Assistant]) -> U:
    """The user, who now recalls all that was judged when these assistants, and those below them, were trained: as if
    had judged it. A bounded user learns from it only with `own_record`, and is spared it without. Of assistants without
    a store (tools) there is nothing to recall."""
    if isinstance(user, BoundedUser) and not user.own_record:
        return user
    for helper in helpers:
        for judgement in _given(helper):
            user.recall(helper.task, judgement)
        acquainted(user, helper.helpers)
    return user


_GIVEN: WeakKeyDictionary[Store, dict[str, list[Judgement]]] = WeakKeyDictionary()
"""What was read of the stores of finished assistants: every arm of an experiment asks again."""


def _given(helper: Assistant) -> Sequence[Judgement]:
    """The judgements at a finished assistant's node."""
    if not isinstance(helper.memo, Store):
        return ()
    path, kept = helper.task.path, _GIVEN.setdefault(helper.memo, {})
    if path not in kept:
        kept[path] = [comparison.judgement for comparison in helper.memo.comparisons(path)]
    return kept[path]


def finished_in(task: Task) -> Iterator[Assistant]:
    """The assistants of a tree that were finished elsewhere, without those below them: whom a user who trains the tree
    has not met."""
    for sub in task.assistants:
        if isinstance(sub, Assistant):
            yield sub
        else:
            yield from finished_in(sub)


def plays(user: User) -> bool:
    """Whether this user does something with an answer itself (plays the move that it is), and does not read what it
    claims of facts. Such a user is misled by other answers only, and trusts nobody in particular."""
    return isinstance(user, PlayoutUser)


def dump(user: User) -> dict[str, Any]:
    """A user's settings, as config.json keeps them."""
    settings: dict[str, Any] = user.model_dump() if hasattr(user, "model_dump") else {}
    return {"name": user.name, **settings}
