"""A policy of Stable-Baselines3 as an agent: it plays episodes, and is optimized against a judge of episodes.

The environment's own reward never reaches it: in training the judge's stands in its place (`rrm.acting.rewarding`).
Each improvement begins with fresh environments, reset by seeds that its key names: a run resumes at the last finished
improvement, and goes on to the same bits. What it keeps is tensors: parameters, the optimizers' state, and what an
off-policy algorithm remembers.

Its two kinds are `rrm.acting.on_policy` (PPO, A2C) and `rrm.acting.off_policy` (DQN, SAC, TD3, DDPG).
"""

from __future__ import annotations

import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env.base_vec_env import VecEnv
from torch import Tensor

from rrm.acting.acted import Acted
from rrm.acting.describing import Describe
from rrm.acting.episodes import ARCHIVE, Episode, episode_of
from rrm.acting.falling_back import CARRIED, FallbackGuard
from rrm.acting.filming import Camera
from rrm.acting.imagining import IMAGINED, Imagine, WorldModel
from rrm.acting.optimizing import OPTIMIZER, Optimizers, moments, set_moments
from rrm.acting.places import Factories, Place, PlaceError, cut_case
from rrm.acting.playing import TOGETHER, Player, play
from rrm.acting.rewarding import Blank, Rewarded, hidden_means
from rrm.acting.step_reward import StepReward
from rrm.core.errors import Notice, RRMError
from rrm.core.judgements import ImproveReport, Pair
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Case, Group, Outcome
from rrm.core.seeding import generator, seed_of
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.models.weights import check_keys, hash_tensors

Kinds = tuple[spaces.Space[Any], spaces.Space[Any]]
TRIED = 4
"""Times `settings.batch`: episodes that a policy plays before an improvement and after, to see whether it is one."""


class ActingPolicy(ABC):
    """A policy of Stable-Baselines3, in environments of one kind.

    Parameters
    ----------
    name: of its random beginning.
    kinds: the spaces of observations and of actions.
    algorithm: its name. options: for it, as Stable-Baselines3 names them (gamma, n_epochs, ent_coef).
    rollout: steps that each environment makes in one of `settings.steps`.
    describe: an episode in words.
    repeatable: whether its environments do the same again when they are reset by the same seed.
    together: episodes that it plays side by side; they do not hang on it.
    """

    def __init__(
        self, name: str, kinds: Kinds, algorithm: str, options: Mapping[str, Any], rollout: int, factories: Factories,
        describe: Describe, repeatable: bool = True, together: int = TOGETHER,
    ) -> None:  # fmt: skip
        self.name, self.kinds, self.algorithm, self.options = name, kinds, algorithm, dict(options)
        self.rollout, self.factories, self.describe, self.repeatable = rollout, factories, describe, repeatable
        self.together = together
        self.folder: Path | None = None
        """The run's, where its episodes are kept; None: in memory only."""
        self.films = True
        """Whether pictures are kept of what is judged."""
        self.plans: Imagine | None = None
        """How it plans, if it does."""
        self.guard: FallbackGuard | None = None
        """What it falls back by, if it does."""
        self._world: WorldModel | None = None
        self._acted = Acted()
        self._camera = Camera(factories, repeatable)
        self._model = self._fresh()

    # --- what the two kinds do otherwise -------------------------------------------------------------

    @abstractmethod
    def _made(self, env: VecEnv, lr: float) -> BaseAlgorithm:
        """The algorithm with fresh weights; the rate falls to 0 over what it is told to learn."""

    @property
    @abstractmethod
    def _noises(self) -> int:
        """Random numbers that an action takes."""

    @abstractmethod
    def _act(self, seen: Tensor, noise: Tensor, temperature: float, greedy: bool) -> Tensor:
        """Actions drawn from the policy with noise that is uniform in [0, 1); the likeliest if greedy."""

    @abstractmethod
    def _optimizers(self, model: Any) -> Optimizers:
        """Those whose state is kept."""

    @abstractmethod
    def _learned(self, env: Rewarded, settings: Settings, log: Log, longest: int) -> ImproveReport:
        """Learn in these environments, in the place of the model that was; `longest`: steps of an episode."""

    def _beside(self, model: Any) -> dict[str, Tensor]:
        """A copy of what is kept beside parameters and the optimizers' state."""
        return {}

    def _take(self, model: Any, beside: Mapping[str, Tensor]) -> None:
        """Take what `_beside` gave."""
        assert not beside

    def _fresh(self) -> Any:
        """The algorithm as it starts."""
        with seeded("acting", self.name):
            return self._made(Blank(*self.kinds), 1e-3)

    # --- as an agent ---------------------------------------------------------------------------------

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """Episodes, or parts of them; see `Agent`. On disk before they are given to anybody, if it has a folder."""
        return self._played(cases, n, key, temperature, greedy, keep=True)

    def _played(
        self, cases: Sequence[Case], n: int, key: str, temperature: float, greedy: bool, keep: bool
    ) -> list[Group]:
        places = [Place.of(case) for case in cases for _ in range(n)]
        names = [f"{key}/{case.id}/{number}/{i}" for number, case in enumerate(cases) for i in range(n)]
        played = play(
            places, names, lambda seen, noise: self._act(seen, noise, temperature, greedy), self._noises, self.kinds,
            self.factories, self.together, [name.removeprefix(key) for name in names] if greedy else names,
            self._count, self._world, self._guarding,
        )  # fmt: skip
        outcomes = []
        for place, (episode, before) in zip(places, played, strict=True):
            if place.segment:
                self._camera.cut(episode, before)
            outcomes.append(self._outcome(place, episode, keep))
        return [Group(case, tuple(outcomes[c * n : (c + 1) * n])) for c, case in enumerate(cases)]

    def divide(self, groups: Sequence[Group], steps: int, key: str) -> list[Group]:
        """See `Dividing`: of each episode so many steps that follow one another, wherever they lie, alike likely. Kept
        as episodes are that were played."""
        found = []
        for number, group in enumerate(groups):
            case, parts = cut_case(group.case, steps), []
            for i, outcome in enumerate(group.outcomes):
                whole = episode_of(outcome)
                rng = generator("divide", key, case.id, number, i)
                first = int(torch.randint(max(1, len(whole) - steps + 1), (), generator=rng))
                part = whole.part(first, steps) if steps < len(whole) else whole
                self._camera.cut(part, whole.actions[:first])
                parts.append(self._outcome(Place.of(case), part, keep=True))
            found.append(Group(case, tuple(parts)))
        return found

    def film(self, task: Task, pairs: Sequence[Pair]) -> None:
        """See `Filming`."""
        if self.films and self.folder is not None:
            self._camera.film(self.folder, task, pairs)

    def acted(self) -> Mapping[str, float]:
        """See `Accountable`."""
        found, self._acted = self._acted.metrics(), Acted()
        return found

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """See `Accountable`."""
        kept = self._acted, self._world
        self._acted, self._world = Acted(), None
        try:
            yield
        finally:
            self._acted, self._world = kept

    def _count(self, players: Sequence[Player]) -> None:
        self._acted.add(players, self.plans is None or self.plans.model != "given")

    @property
    def lives(self) -> int:
        """See `Imagining`."""
        return self.plans.episodes if self.plans is not None and self.plans.model == "learned" else 0

    def imagine(self, real: Sequence[Group]) -> None:
        """See `Imagining`."""
        lived = [episode_of(outcome) for group in real for outcome in group.outcomes]
        self._world = WorldModel(lived, self.kinds[1]) if lived else None

    @property
    def _guarding(self) -> FallbackGuard | None:
        """What it falls back by now."""
        return self.guard if self.guard is not None and self.guard.holds else None

    def _guard(self, judge: Judge) -> None:
        """Fall back by the judge's reward model from now on; by none, where the agent is not to be held back."""
        if self.guard is None:
            return
        reward = getattr(judge, "reward", None)
        if isinstance(reward, StepReward) and getattr(judge, "holds", True):
            self.guard.take(reward)
        else:
            self.guard.drop()

    def _outcome(self, place: Place, episode: Episode, keep: bool) -> Outcome:
        if not self.repeatable:  # the same steps may hide something else
            episode = replace(episode, where=f"{episode.where}, {episode.secret}")
        if keep and self.folder is not None:
            ARCHIVE.keep(episode, self.folder)
        else:
            ARCHIVE.remember(episode)
        return outcome_of(place, episode, self.describe)

    # --- as a policy ---------------------------------------------------------------------------------

    def improve(self, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
        """`settings.steps` times `rollout` steps in `settings.batch` environments, and what is learned of them; undone
        where it then earns less than before, see `_better`. See `Policy`."""
        carried = {} if self.guard is None else self.guard.state()
        self._guard(judge)
        if not settings.steps:
            return ImproveReport(0, 0.0, 0.0)
        if not (drawn := cases.draw(4, f"{key}/any")):
            raise RRMError(f"{self.name}: there are no cases to act in")

        def outcome(case: Case, episode: Episode) -> Outcome:
            return self._outcome(Place.of(case), episode, keep=False)

        with seeded("improve", self.name, key) as seed:
            self.kinds[1].seed(seed)  # some actions are drawn from the space itself
            env = Rewarded(
                cases, settings.batch, key, judge, settings.caution, self.kinds, self.factories, outcome, self._count,
                self._world,
            )
            before, self._model = self._model, self._made(env, settings.lr)  # who watches sees how it does
            try:
                self._carry(before, self._model)
                report = self._learned(env, settings, log, max(Place.of(case).steps for case in drawn))
                priced = settings.kl or self.options.get("ent_coef", self.algorithm == "sac")  # SAC's own is "auto"
                if not priced and not self._better(before, judge, cases, settings.batch, key):
                    self._model, report = before, replace(report, undone=True)
                return report
            except BaseException:
                self._model = before
                if self.guard is not None:
                    self.guard.load(carried)
                raise
            finally:
                self._model.env = None  # nothing of the environments is needed any more
                env.close()

    def _better(self, before: Any, judge: Judge, cases: Cases, n: int, key: str) -> bool:
        """Whether it earns at least what `before` did, by the judge, in as many whole episodes of the same seeds.

        Where all that a policy does is worth nearly the same, nothing but noise tells its steps apart; an algorithm
        that takes steps of one size whatever they are worth (Adam, normalized advantages) then walks off at random.
        That is seen in what it is paid: no truth is needed. Not asked where nats have a price, or entropy is paid for
        (`ent_coef`), which may be worth less reward. Both are judged at once, by one price of what is unacceptable."""
        drawn, groups = cases.draw(TRIED * n, f"{key}/tried"), []
        drawn = [replace(case, data={**case.data, "segment": 0}) for case in drawn]
        now = self._model
        try:
            with ARCHIVE.held():
                for self._model in (before, now):
                    groups += self._played(drawn, 1, f"{key}/tried", 1.0, False, keep=False)
                rewards = judge(groups)
        except PlaceError as error:  # of episodes that only parts were compared of: whole, they do not fit
            self._model = now
            untried = f"{self.name}: an improvement stands without having been tried: {error}"
            warnings.warn(untried, Notice, stacklevel=2)
            return True
        earned, now_earned = (float(sum(one.sum() for one in rewards[i:][: len(drawn)])) for i in (0, len(drawn)))
        return now_earned >= earned

    def _carry(self, before: Any, after: Any) -> None:
        """Everything that is kept."""
        after.policy.load_state_dict(before.policy.state_dict())
        self._take(after, self._beside(before))
        set_moments(self._optimizers(after), moments(self._optimizers(before)), self.name)

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters, of the optimizers' state once there is any, and of what else is kept."""
        own = {key: value.detach().clone() for key, value in self._model.policy.state_dict().items()}
        own |= {} if self.guard is None else self.guard.state()
        return own | self._beside(self._model) | moments(self._optimizers(self._model))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Agent`. Raises `ModelError` on a missing or unexpected key, `RRMError` on another shape."""
        model = self._fresh()
        own, beside = model.policy.state_dict(), self._beside(model)
        steps = {key: value for key, value in state.items() if key.startswith(OPTIMIZER)}
        carried = {key: value for key, value in state.items() if key.startswith(CARRIED) and self.guard is not None}
        rest = {key: value for key, value in state.items() if key not in steps and key not in carried}
        check_keys(f"the weights of the agent {self.name!r}", [*own, *beside], rest)
        for key, value in own.items():
            if value.shape != state[key].shape:
                raise RRMError(f"{self.name}: {key} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}")
        model.policy.load_state_dict({key: state[key].clone() for key in own})
        self._take(model, {key: state[key] for key in beside})
        set_moments(self._optimizers(model), steps, self.name)
        if self.guard is not None:
            self.guard.load(carried)
        self._model = model

    @property
    def version(self) -> str:
        """A hash of what decides its outcomes: parameters, what it falls back by, and the model that it plans in."""
        return hash_tensors(sorted(self._model.policy.state_dict().items()), self._acts_by)

    @property
    def _acts_by(self) -> str:
        guarded = "" if self._guarding is None else f" or {self._guarding.version}"
        return self.algorithm + guarded + ("" if self._world is None else f" in {self._world.version}")


def outcome_of(place: Place, episode: Episode, describe: Describe) -> Outcome:
    """An episode that was played in a place, as an outcome."""
    data: dict[str, Any] = {
        "env": place.env, "episode": episode.name, "steps": len(episode), "ended": episode.ended
    }  # fmt: skip
    if IMAGINED in episode.where:
        data["imagined"] = True
    return Outcome(describe(place, episode), data=data)


class Watching(BaseCallback):
    """Watches an improvement, one of `settings.steps` after the other: the rewards of episodes that ended in it."""

    def __init__(self, env: Rewarded, settings: Settings, log: Log, longest: int) -> None:
        super().__init__()
        self.rewarded, self.settings, self.log = env, settings, log
        self.length = float(longest)  # of an episode, as far as is known
        self.rewards: list[float] = []
        self.rollouts = 0

    def _on_step(self) -> bool:
        return True

    def heard(self) -> dict[str, float]:
        """What the episodes that ended since it was last asked were paid; nothing, where none came to its end."""
        done, self.rewarded.finished = self.rewarded.finished, []
        if not done:
            return {}
        self.length = sum(one.steps for one in done) / len(done)
        self.rewards.append(sum(one.reward for one in done) / len(done))
        return {"reward": self.rewards[-1], **hidden_means(done)}

    @property
    def ends(self) -> tuple[float, float]:
        """The first reward and the last."""
        return (self.rewards[0], self.rewards[-1]) if self.rewards else (0.0, 0.0)


def bounded(actions: Tensor, space: spaces.Space[Any]) -> Tensor:
    """Actions within their bounds, if they have any."""
    if not isinstance(space, spaces.Box):
        return actions
    return torch.maximum(torch.minimum(actions, torch.as_tensor(space.high)), torch.as_tensor(space.low))


@contextmanager
def seeded(*name: Any) -> Iterator[int]:
    """Stable-Baselines3 draws from the three global streams: they are named here, and afterwards as they were.
    Gives their seed."""
    seed = seed_of(*name)
    kept = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        torch.manual_seed(seed)
        try:
            yield seed
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
