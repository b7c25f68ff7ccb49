"""Agents that act, in a tree: policies in environments, reward models over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rrm.acting.describing import Describe, in_words
from rrm.acting.episodes import ARCHIVE
from rrm.acting.places import Factories, Place, PlaceError, checked
from rrm.acting.policy import ALGORITHMS, ActingPolicy, Kinds
from rrm.acting.step_reward import StepReward
from rrm.core.border import json_able
from rrm.core.errors import RRMError
from rrm.core.parallel import World
from rrm.core.parties import Deciding, Maker, Recording
from rrm.core.protocols import Learner, Policy
from rrm.core.records import Case, digest
from rrm.core.task import Task

MOST = 256
"""Steps of a rollout in one environment, unless it is said."""


class Acting:
    """The maker of agents that act. Raises `RRMError` for an algorithm that it does not know.

    Parameters
    ----------
    algorithm: "ppo" or "a2c", of Stable-Baselines3.
    options: for the algorithm, as Stable-Baselines3 names them: {"gamma": 0.99, "ent_coef": 0.01}.
    rollout: steps that each environment makes between two updates; by default two episodes', `MOST` at most.
    factories: environments by a name of your own, each a function that makes one.
    describe: an episode in words; by default the environment's method `describe(episode)`, else a table of its steps.
    words: who makes the nodes that do not act: tasks without cases of their own, or whose cases name no environment.
    repeatable: False for environments that do not do the same again after the same seed; what they did is then kept
        before anyone judges it.
    """

    def __init__(
        self, algorithm: str = "ppo", options: Mapping[str, Any] | None = None, rollout: int = 0,
        factories: Factories | None = None, describe: Describe | None = None, words: Maker | None = None,
        repeatable: bool = True,
    ) -> None:  # fmt: skip
        if algorithm not in ALGORITHMS:
            raise RRMError(f"no algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
        if rollout < 0 or rollout == 1:
            raise RRMError(f"rollout={rollout}: give 2 steps or more, or 0 for two episodes'")
        json_able(dict(options or {}), f"options of {algorithm}")  # what has no name that lasts names no run
        self.algorithm, self.options, self.rollout = algorithm, dict(options or {}), rollout
        self.factories: Factories = dict(factories or {})
        self.describe = describe or in_words(self.factories)
        self.words, self.repeatable = words, repeatable
        self.name = algorithm if words is None else f"{algorithm} and {words.name}"
        # Of what everything starts from.
        versions = [version(name) for name in ("stable-baselines3", "gymnasium")]
        named = {key: getattr(make, "__qualname__", key) for key, make in sorted(self.factories.items())}
        below = None if words is None else words.fingerprint
        self.fingerprint = digest("acting", algorithm, self.options, rollout, named, repeatable, versions, below)
        self.prompts = getattr(words, "prompts", None)
        self.folder: Path | None = None
        self._world = World()
        self._policies: list[ActingPolicy] = []
        self._kinds: dict[str, Kinds] = {}

    @property
    def world(self) -> World:
        """Of one process."""
        return self._world

    @world.setter
    def world(self, world: World) -> None:
        if world.size > 1:
            raise RRMError("agents that act train in one process; start it without torchrun or accelerate")
        self._world = world
        if self.words is not None:
            self.words.world = world

    def record(self, folder: Path) -> None:
        """Keep the episodes that are sampled in this run's folder, and find those that are there."""
        self.folder = folder
        ARCHIVE.open(folder)
        for policy in self._policies:
            policy.folder = folder
        if isinstance(self.words, Recording):
            self.words.record(folder)

    def decide(self, before: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """See `Deciding`: what the maker of words decides."""
        return self.words.decide(before) if isinstance(self.words, Deciding) else {}

    def policy(self, task: Task, seed: int) -> Policy:
        """See `Maker`. Raises `PlaceError` for an environment that does not keep Gymnasium's contract."""
        place = self._place(task)
        if place is None:
            return self._others(task).policy(task, seed)
        rollout = self.rollout or min(2 * place.steps, MOST)
        made = ActingPolicy(
            f"{task.path} agent, seed {seed}", self._spaces(place), self.algorithm, self.options, rollout,
            self.factories, self.describe, self.repeatable,
        )  # fmt: skip
        made.folder = self.folder
        self._policies.append(made)
        return made

    def reward(self, task: Task, seed: int) -> Learner:
        """See `Maker`."""
        place = self._place(task)
        if place is None:
            return self._others(task).reward(task, seed)
        seen, actions = self._spaces(place)
        name = f"{task.path} reward, seed {seed}"
        return StepReward(name, int(seen.shape[0]), actions, task.settings, len(task.assistants))  # type: ignore[index]

    def doubts(self, cases: Sequence[Case]) -> list[str]:
        """What of these cases cannot be read, in words."""
        rest = [case for case in cases if "env" not in case.data]
        find = getattr(self.words, "doubts", None)
        return list(find(rest)) if rest and find is not None else []

    def _place(self, task: Task) -> Place | None:
        """Where a task's agent acts; None for a task of words."""
        drawn = task.cases.draw(1, "where") if task.cases is not None else []
        return Place.of(drawn[0]) if drawn and "env" in drawn[0].data else None

    def _others(self, task: Task) -> Maker:
        if self.words is None:
            raise PlaceError(
                f"{task.path}: its cases name no environment, so {self.algorithm} cannot learn it; make them with "
                "rrm.acting.cases, or say who makes agents of words: Acting(words=...)"
            )
        return self.words

    def _spaces(self, place: Place) -> Kinds:
        """Of an environment that was checked, once."""
        name = f"{place.env} {sorted(place.kwargs.items())}"
        if name not in self._kinds:
            self._kinds[name] = checked(place, self.factories, self.repeatable)
        return self._kinds[name]
