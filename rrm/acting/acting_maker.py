"""Agents that act, in a tree: policies in environments, reward models over steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from rrm.acting.algorithms import ALGORITHMS, OFF_POLICY, learnable
from rrm.acting.describing import Describe, in_words
from rrm.acting.episodes import ARCHIVE
from rrm.acting.falling_back import Fallback, FallbackGuard
from rrm.acting.imagining import Imagine
from rrm.acting.off_policy import OffPolicy, unpriced
from rrm.acting.on_policy import OnPolicy
from rrm.acting.places import Factories, Place, PlaceError, checked, same_spaces
from rrm.acting.playing import TOGETHER
from rrm.acting.policy import ActingPolicy, Kinds
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
LOOKED_AT = 64
"""Cases of a task whose environments are looked at before anything is learned there."""


class Acting:
    """The maker of agents that act. Raises `RRMError` for an algorithm that it does not know.

    Parameters
    ----------
    algorithm: of Stable-Baselines3: "ppo" or "a2c" for any actions, "dqn" for Discrete ones, "sac", "td3" or "ddpg" for
        a Box of them.
    options: for the algorithm, as Stable-Baselines3 names them: {"gamma": 0.99, "ent_coef": 0.01}.
        Of td3 and ddpg, "action_noise" is its standard deviation, in halves of an action's range.
    rollout: steps that each environment makes in one of `settings.steps`; by default two episodes', `MOST` at most.
    factories: environments by a name of your own, each a function that makes one.
    describe: an episode in words; by default the environment's method `describe(episode)`, else a table of its steps.
    words: who makes the nodes that do not act: tasks without cases of their own, or whose cases name no environment.
    repeatable: False for environments that do not do the same again after the same seed; what they did is then kept
        before anyone judges it.
    films: whether pictures are kept of what is judged, for people to look at; they decide nothing (`rrm.store.films`).
    places: copies of the environment that are played side by side for judging, 64 at most; what they do is the same
        to the bit, however many there are. In training there are `settings.batch`.
    replay: what an off-policy algorithm does with the steps that it remembers when the reward model has changed:
        "relabel", pay them anew; or "reset", forget them.
    imagine: a model of the environment, in which it plays what is judged and what it learns by; None: there is none.
    absorbing: to the reward model, an episode that the environment ended goes on until its case's limit of steps, in a
        state whose worth is learned (`rrm.acting.step_rows`); not where the cases say that parts are compared.
    fallback: when the agent falls back on a safe action, and on which; None: never.
    """

    def __init__(
        self, algorithm: str = "ppo", options: Mapping[str, Any] | None = None, rollout: int = 0,
        factories: Factories | None = None, describe: Describe | None = None, words: Maker | None = None,
        repeatable: bool = True, films: bool = True, places: int = TOGETHER,
        replay: Literal["relabel", "reset"] = "relabel", imagine: Imagine | None = None,
        absorbing: bool = False, fallback: Fallback | None = None,
    ) -> None:  # fmt: skip
        if algorithm not in ALGORITHMS:
            raise RRMError(f"no algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
        if rollout < 0 or rollout == 1:
            raise RRMError(f"rollout={rollout}: give 2 steps or more, or 0 for two episodes'")
        if isinstance(places, bool) or not isinstance(places, int) or not 1 <= places <= TOGETHER:
            raise RRMError(f"places={places!r}: give how many environments are played side by side, 1 to {TOGETHER}")
        if replay not in ("relabel", "reset"):
            raise RRMError(f'replay={replay!r}: give "relabel" or "reset"')
        json_able(dict(options or {}), f"options of {algorithm}")  # what has no name that lasts names no run
        self.algorithm, self.options, self.rollout = algorithm, dict(options or {}), rollout
        self.factories: Factories = dict(factories or {})
        self.describe = describe or in_words(self.factories)
        self.words, self.repeatable, self.films, self.places, self.replay = words, repeatable, films, places, replay
        self.plans, self.absorbing, self.fallback = imagine, absorbing, fallback
        names = [f"{name}={value!r}" for name, value in sorted(self.options.items())]
        if imagine is not None:
            names.append(f"imagine={imagine.episodes if imagine.model == 'learned' else repr(imagine.model)}")
        names += ["absorbing=True"] if absorbing else []
        names += [] if fallback is None else [fallback.said]
        said = ", ".join(names)
        self.name = f"{algorithm}({said})" if said else algorithm
        if words is not None:
            self.name += f" and {words.name}"
        # Of what everything starts from.
        versions = [version(name) for name in ("stable-baselines3", "gymnasium")]
        named = {key: getattr(make, "__qualname__", key) for key, make in sorted(self.factories.items())}
        below = None if words is None else words.fingerprint
        what = [algorithm, replay] if algorithm in OFF_POLICY else [algorithm]
        what += [] if imagine is None else [f"imagine {imagine.model} {imagine.episodes}"]
        what += ["absorbing"] if absorbing else []
        what += [] if fallback is None else [fallback.said]
        self.fingerprint = digest("acting", *what, self.options, rollout, named, repeatable, versions, below)
        self.prompts = getattr(words, "prompts", None)
        self.identity: Mapping[str, str] = {} if words is None else getattr(words, "identity", {})
        self.folder: Path | None = None
        self._world = World()
        self._policies: WeakSet[ActingPolicy] = WeakSet()
        self._kinds: dict[str, Kinds] = {}
        self._known: set[str] = set()

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
        ARCHIVE.open(folder)
        self._keep_in(folder)
        if isinstance(self.words, Recording):
            self.words.record(folder)

    def _keep_in(self, folder: Path | None) -> None:
        self.folder = folder
        for policy in self._policies:
            policy.folder = folder

    @contextmanager
    def beside(self, folder: Path) -> Iterator[None]:
        """See `Naming`."""
        before = self.folder
        ARCHIVE.open(folder)
        self._keep_in(folder)
        try:
            yield
        finally:
            self._keep_in(before)
            ARCHIVE.close(folder)

    def decide(self, before: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """See `Deciding`: what the maker of words decides."""
        return self.words.decide(before) if isinstance(self.words, Deciding) else {}

    def policy(self, task: Task, seed: int) -> Policy:
        """See `Maker`. Raises `PlaceError` for an environment that does not keep Gymnasium's contract, `RRMError` for
        one whose actions the algorithm cannot learn."""
        place = self._place(task)
        if place is None:
            return self._others(task).policy(task, seed)
        rollout = self.rollout or min(2 * place.steps, MOST)
        kinds = self._spaces(place)
        learnable(self.algorithm, kinds[1], f"{task.path} in {place.env}")
        name = f"{task.path} agent, seed {seed}"
        common = (
            name, kinds, self.algorithm, self.options, rollout, self.factories, self.describe, self.repeatable,
            self.places,
        )  # fmt: skip
        made: ActingPolicy
        if self.algorithm in OFF_POLICY:
            unpriced(self.algorithm, task.settings, task.path)
            made = OffPolicy(*common, replay=self.replay, ends=bool(self._limit(place)))
        else:
            made = OnPolicy(*common)
        made.folder, made.films, made.plans = self.folder, self.films, self.plans
        made.guard = self._guard(task, seed, place)
        self._policies.add(made)
        return made

    def _guard(self, task: Task, seed: int, place: Place) -> FallbackGuard | None:
        """What its policy falls back by. Raises `PlaceError` where there is no safe action."""
        if self.fallback is None:
            return None
        if task.settings.heads < 2:
            raise RRMError(
                f"{task.path}: heads={task.settings.heads}, and nobody disagrees with one head, which fallback asks "
                "for; set heads=2 or more, or leave fallback out"
            )
        made = FallbackGuard(self._step_reward(task, seed, place), self.fallback.action)
        env = place.make(self.factories)
        try:
            made.safe(env)  # before anybody judges anything
        finally:
            env.close()
        return made

    def reward(self, task: Task, seed: int) -> Learner:
        """See `Maker`."""
        place = self._place(task)
        if place is None:
            return self._others(task).reward(task, seed)
        return self._step_reward(task, seed, place)

    def _limit(self, place: Place) -> int:
        """Steps until which an episode goes on after its end; 0: it is over. An environment that Gymnasium itself cuts
        off earlier than the cases do (`max_episode_steps`) has that limit."""
        if not self.absorbing or place.segment:
            return 0
        env = place.make(self.factories)
        own = None if env.spec is None else env.spec.max_episode_steps
        env.close()
        return place.steps if own is None else min(place.steps, own)

    def _step_reward(self, task: Task, seed: int, place: Place) -> StepReward:
        """Of a task that acts in this place."""
        seen, actions = self._spaces(place)
        assert seen.shape is not None
        return StepReward(
            f"{task.path} reward, seed {seed}", int(seen.shape[0]), actions, task.settings, len(task.assistants),
            limit=self._limit(place),
            quantile=0.0 if self.fallback is None else self.fallback.quantile,
        )  # fmt: skip

    def doubts(self, cases: Sequence[Case]) -> list[str]:
        """What of these cases cannot be read, in words."""
        rest = [case for case in cases if "env" not in case.data]
        find = getattr(self.words, "doubts", None)
        return list(find(rest)) if rest and find is not None else []

    def _place(self, task: Task) -> Place | None:
        """Where a task's agent acts: one of its environments, with the most steps that any of them has, after each of
        them was looked at; None for a task of words. Raises `PlaceError` where they are not for one agent."""
        drawn = task.cases.draw(LOOKED_AT, "where") if task.cases is not None else []
        acting = [case for case in drawn if "env" in case.data]
        if not acting:
            return None
        if len(acting) < len(drawn):
            raise PlaceError(
                f"{task.path}: some of its cases name an environment and some do not; make two tasks of them"
            )
        places = [Place.of(case) for case in acting]
        first = places[0]
        for place in {place.kind: place for place in places}.values():
            if not same_spaces(self._spaces(place), self._spaces(first)):
                raise PlaceError(
                    f"{task.path}: {first.kind} and {place.kind} have other observations or actions, and one agent is "
                    "to act in both; make two tasks of them, or wrap them to be alike"
                )
        return replace(first, steps=max(place.steps for place in places))

    def _others(self, task: Task) -> Maker:
        if self.words is None:
            raise PlaceError(
                f"{task.path}: its cases name no environment, so {self.algorithm} cannot learn it; make them with "
                "rrm.acting.cases, or say who makes agents of words: Acting(words=...)"
            )
        return self.words

    def _spaces(self, place: Place) -> Kinds:
        """Of an environment that was checked, once; made in another way, that it can be made is enough."""
        if place.kind not in self._kinds:
            if place.env in self._known:
                env = place.make(self.factories)
                self._kinds[place.kind] = env.observation_space, env.action_space
                env.close()
            else:
                self._kinds[place.kind] = checked(place, self.factories, self.repeatable)
                self._known.add(place.env)
        return self._kinds[place.kind]
