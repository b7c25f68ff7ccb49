"""A policy of Stable-Baselines3 as an agent: it plays episodes, and is optimized against a judge of episodes.

The environment's own reward never reaches it: in training the judge's stands in its place (`rrm.acting.rewarding`).
Each improvement begins with fresh environments, reset by seeds that its key names: a run resumes at the last finished
improvement, and goes on to the same bits. What it keeps is tensors: parameters, and the optimizer's state.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env.base_vec_env import VecEnv
from torch import Tensor

from rrm.acting.describing import Describe
from rrm.acting.episodes import ARCHIVE, Episode
from rrm.acting.filming import Camera
from rrm.acting.places import Factories, Place
from rrm.acting.playing import play
from rrm.acting.rewarding import Blank, Rewarded, hidden_means
from rrm.core.errors import RRMError
from rrm.core.judgements import ImproveReport, Pair
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Case, Group, Outcome
from rrm.core.seeding import generator, seed_of
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.models.weights import check_keys, hash_tensors

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"ppo": PPO, "a2c": A2C}
"""By the name that `rrm train --model` takes."""
OPTIMIZER = "optimizer."
Kinds = tuple[spaces.Space[Any], spaces.Space[Any]]


class ActingPolicy:
    """An actor-critic of Stable-Baselines3, in environments of one kind.

    Parameters
    ----------
    name: of its random beginning.
    kinds: the spaces of observations and of actions.
    algorithm: a key of `ALGORITHMS`. options: for it, as Stable-Baselines3 names them (gamma, n_epochs, ent_coef).
    rollout: steps that each environment makes between two updates.
    describe: an episode in words.
    repeatable: whether its environments do the same again when they are reset by the same seed.
    """

    def __init__(
        self, name: str, kinds: Kinds, algorithm: str, options: Mapping[str, Any], rollout: int, factories: Factories,
        describe: Describe, repeatable: bool = True,
    ) -> None:  # fmt: skip
        self.name, self.kinds, self.algorithm, self.options = name, kinds, algorithm, dict(options)
        self.rollout, self.factories, self.describe, self.repeatable = rollout, factories, describe, repeatable
        self.folder: Path | None = None
        """The run's, where its episodes are kept; None: in memory only."""
        self.films = True
        """Whether pictures are kept of what is judged."""
        self._camera = Camera(factories, repeatable)
        with seeded("acting", name):
            self._model = self._made(Blank(*kinds), 1e-3)
        self._start = {key: value.clone() for key, value in self._model.policy.state_dict().items()}

    def _made(self, env: VecEnv, lr: float) -> OnPolicyAlgorithm:
        """The algorithm with fresh weights; the rate falls to 0 over what it is told to learn."""
        size = env.num_envs * self.rollout
        usual: dict[str, Any] = {"n_steps": self.rollout, "device": "cpu", "learning_rate": lambda left: lr * left}
        if self.algorithm == "ppo":
            usual["batch_size"] = next((n for n in (64, 60, 48, 50, 32) if size % n == 0), size)
        try:
            return ALGORITHMS[self.algorithm]("MlpPolicy", env, **(usual | self.options))
        except (AssertionError, TypeError, ValueError) as error:
            raise RRMError(f"{self.algorithm} does not take the options {self.options}: {error}") from error

    # --- as an agent ---------------------------------------------------------------------------------

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """Episodes, or parts of them; see `Agent`. On disk before they are given to anybody, if it has a folder."""
        places = [Place.of(case) for case in cases for _ in range(n)]
        names = [f"{key}/{case.id}/{number}/{i}" for number, case in enumerate(cases) for i in range(n)]
        episodes = play(
            places, names, lambda seen, noise: self._act(seen, noise, temperature, greedy), self._noises, self.kinds,
            self.factories,
        )  # fmt: skip
        outcomes = []
        for place, name, episode in zip(places, names, episodes, strict=True):
            which = name.removeprefix(key) if greedy else name
            outcomes.append(self._outcome(place, self._part(place, episode, which), keep=True))
        return [Group(case, tuple(outcomes[c * n : (c + 1) * n])) for c, case in enumerate(cases)]

    def film(self, task: Task, pairs: Sequence[Pair]) -> None:
        """See `Filming`."""
        if self.films and self.folder is not None:
            self._camera.film(self.folder, task, pairs)

    def _part(self, place: Place, episode: Episode, name: str) -> Episode:
        """The part of an episode that is an outcome, by the name of its stream; the whole one if it is no longer."""
        if not place.segment or len(episode) <= place.segment:
            return episode
        last = len(episode) - place.segment
        first = int(torch.randint(last + 1, (), generator=generator("part", name)))
        part = episode.part(first, place.segment)
        self._camera.cut(episode, part, first)
        return part

    @property
    def _noises(self) -> int:
        """Random numbers that an action takes."""
        acts = self.kinds[1]
        if isinstance(acts, spaces.Discrete):
            return int(acts.n)
        if isinstance(acts, spaces.MultiDiscrete):
            return int(acts.nvec.sum())
        return int(np.prod(acts.shape or (1,)))

    def _act(self, seen: Tensor, noise: Tensor, temperature: float, greedy: bool) -> Tensor:
        """Actions drawn from the policy with noise that is uniform in [0, 1); the likeliest if greedy."""
        found = self._model.policy.get_distribution(seen)
        drawn: Any = found.distribution
        acts = self.kinds[1]
        if greedy:
            likeliest: Tensor = found.mode()
            return self._bounded(likeliest)
        noise = noise.clamp(1e-7, 1 - 1e-7)
        if isinstance(acts, spaces.Discrete):
            return _gumbel(drawn.logits / temperature, noise)
        if isinstance(acts, spaces.MultiDiscrete):
            parts = torch.split(noise, acts.nvec.ravel().tolist(), 1)
            return torch.stack([_gumbel(d.logits / temperature, u) for d, u in zip(drawn, parts, strict=True)], 1)
        if isinstance(acts, spaces.MultiBinary):
            chances: Tensor = (drawn.logits / temperature).sigmoid()
            return (noise < chances).long()
        normal = torch.special.ndtri(noise)
        return self._bounded((drawn.mean + temperature * drawn.stddev * normal).reshape(len(seen), *(acts.shape or ())))

    def _bounded(self, actions: Tensor) -> Tensor:
        acts = self.kinds[1]
        if not isinstance(acts, spaces.Box):
            return actions
        return torch.maximum(torch.minimum(actions, torch.as_tensor(acts.high)), torch.as_tensor(acts.low))

    def _outcome(self, place: Place, episode: Episode, keep: bool) -> Outcome:
        if not self.repeatable:  # the same steps may hide something else
            episode = replace(episode, where=f"{episode.where}, {episode.secret}")
        name = episode.name
        if keep and self.folder is not None:
            ARCHIVE.keep(episode, self.folder)
        else:
            ARCHIVE.remember(episode)
        data = {"env": place.env, "episode": name, "steps": len(episode), "ended": episode.ended}
        return Outcome(self.describe(place, episode), data=data)

    # --- as a policy ---------------------------------------------------------------------------------

    def improve(self, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
        """`settings.steps` updates, each on `rollout` steps in `settings.batch` environments. See `Policy`; a nat of KL
        is paid for as it is spent, step by step."""
        if not settings.steps:
            return ImproveReport(0, 0.0, 0.0)
        if not (drawn := cases.draw(4, f"{key}/any")):
            raise RRMError(f"{self.name}: there are no cases to act in")
        start = self._reference()

        def outcome(case: Case, episode: Episode) -> Outcome:
            return self._outcome(Place.of(case), episode, keep=False)

        with seeded("improve", self.name, key):
            env = Rewarded(
                cases, settings.batch, key, judge, settings.caution, self.kinds, self.factories, outcome
            )
            before, model = self._model, self._made(env, settings.lr)
            _carry(before, model)
            self._model = model  # who watches sees how it does
            course = _Course(env, settings, log, start, max(Place.of(case).steps for case in drawn))
            update = model.train
            model.train = lambda: None if course.stopped else update()  # type: ignore[method-assign]
            try:
                model.learn(settings.steps * self.rollout * settings.batch, callback=course)
            except BaseException:
                self._model = before
                raise
            finally:
                model.env = None  # nothing of the environments is needed any more
                model.train = update  # type: ignore[method-assign]
                env.close()
        return course.report()

    def _reference(self) -> OnPolicyAlgorithm:
        """The starting policy."""
        with seeded("acting", self.name):
            start = self._made(Blank(*self.kinds), 1e-3)
        start.policy.load_state_dict(self._start)
        return start

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters, and of the optimizer's state once there is any."""
        own = {key: value.detach().clone() for key, value in self._model.policy.state_dict().items()}
        return own | {key: value.clone() for key, value in _moments(self._model).items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Agent`. Raises `ModelError` on a missing or unexpected key, `RRMError` on another shape."""
        own = self._model.policy.state_dict()
        moments = {key: value for key, value in state.items() if key.startswith(OPTIMIZER)}
        weights = {key: value for key, value in state.items() if key not in moments}
        check_keys(f"the weights of the agent {self.name!r}", [*own], weights)
        for key, value in own.items():
            if value.shape != state[key].shape:
                raise RRMError(f"{self.name}: {key} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}")
        with seeded("acting", self.name):
            model = self._made(Blank(*self.kinds), 1e-3)
        model.policy.load_state_dict({key: state[key].clone() for key in own})
        _set_moments(model, moments, self.name)
        self._model = model

    @property
    def version(self) -> str:
        """A hash of its parameters."""
        return hash_tensors(sorted(self._model.policy.state_dict().items()), self.algorithm)


class _Course(BaseCallback):
    """Watches an improvement: its rewards and its KL, and whether that exceeds the limit."""

    def __init__(
        self, env: Rewarded, settings: Settings, log: Log, start: OnPolicyAlgorithm, longest: int
    ) -> None:
        super().__init__()
        self.rewarded, self.settings, self.log, self.start = env, settings, log, start
        self.length = float(longest)  # of an episode, as far as is known
        self.rewards: list[float] = []
        self.rollouts = 0
        self.kl = 0.0
        self.stopped = False
        self._going = True

    def _on_step(self) -> bool:
        return self._going

    def _on_rollout_start(self) -> None:
        self._going = not self.stopped

    def _on_rollout_end(self) -> None:
        """Before the update: what the rollout was worth, and its nats; each is paid for, by the action as it was drawn
        and not as it was clipped to its bounds."""
        buffer: Any = self.locals["rollout_buffer"]
        assert isinstance(self.model, OnPolicyAlgorithm)
        seen = torch.as_tensor(buffer.observations.reshape(-1, *buffer.obs_shape))
        actions = torch.as_tensor(buffer.actions.reshape(len(seen), -1))
        nats = _nats(self.model, self.start, seen, actions)
        if done := self.rewarded.finished:
            self.length = sum(one.steps for one in done) / len(done)
            self.rewards.append(sum(one.reward for one in done) / len(done))
        self.kl = float(nats.mean()) * self.length
        self.stopped = self.kl > self.settings.max_kl
        if self.settings.kl:
            buffer.rewards -= self.settings.kl * nats.numpy().reshape(buffer.rewards.shape)
            buffer.compute_returns_and_advantage(last_values=self.locals["values"], dones=self.locals["dones"])
        if self.rollouts < self.settings.steps:
            reward = {"reward": self.rewards[-1]} if done else {}  # none, where no episode came to its end
            self.log(self.rollouts, {**reward, **hidden_means(done), "kl": self.kl, "length": self.length})
        self.rewarded.finished = []
        self.rollouts += 1

    def report(self) -> ImproveReport:
        """What it did."""
        first, last = (self.rewards[0], self.rewards[-1]) if self.rewards else (0.0, 0.0)
        return ImproveReport(self.rollouts - self.stopped, first, last, self.kl, stopped=self.stopped)


def _gumbel(logits: Tensor, noise: Tensor) -> Tensor:
    """A draw from a categorical distribution, by noise that is uniform in (0, 1): (n, choices) -> (n,)."""
    return (logits - (-noise.log()).log()).argmax(1)


def _nats(one: OnPolicyAlgorithm, other: OnPolicyAlgorithm, seen: Tensor, actions: Tensor) -> Tensor:
    """(n,) log-probability of actions under the one policy less that under the other."""
    with torch.no_grad():
        discrete = isinstance(one.action_space, spaces.Discrete)
        shape = one.action_space.shape or ()
        acts = actions.long().flatten() if discrete else actions.float().reshape(len(actions), *shape)
        _, own, _ = one.policy.evaluate_actions(seen, acts)
        _, its, _ = other.policy.evaluate_actions(seen, acts)
    return own - its


def _moments(model: OnPolicyAlgorithm) -> dict[str, Tensor]:
    """The optimizer's state as named tensors; empty before the first step."""
    found = {}
    for number, values in model.policy.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            found[f"{OPTIMIZER}{number}.{name}"] = torch.as_tensor(value)
    return found


def _set_moments(model: OnPolicyAlgorithm, moments: Mapping[str, Tensor], name: str) -> None:
    optimizer = model.policy.optimizer
    whole: dict[str, Any] = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    sizes = dict(enumerate(p.shape for group in optimizer.param_groups for p in group["params"]))
    for key, value in moments.items():
        number, _, part = key.removeprefix(OPTIMIZER).partition(".")
        known = number.isdigit() and int(number) in sizes
        if not known or (value.dim() and value.shape != sizes[int(number)]):
            raise RRMError(f"{name}: {key} is nothing of its optimizer's; it is of another algorithm or network")
        state.setdefault(int(number), {})[part] = value.clone()
    if state and (set(state) != set(sizes) or len({frozenset(values) for values in state.values()}) > 1):
        raise RRMError(f"{name}: a part of the optimizer's state is missing; no weight may be made up")
    optimizer.load_state_dict(whole | {"state": state})


def _carry(before: OnPolicyAlgorithm, after: OnPolicyAlgorithm) -> None:
    """The weights and the optimizer's state."""
    after.policy.load_state_dict(before.policy.state_dict())
    _set_moments(after, _moments(before), "the agent")


@contextmanager
def seeded(*name: Any) -> Iterator[None]:
    """Stable-Baselines3 draws from the three global streams: they are named here, and afterwards as they were."""
    seed = seed_of(*name)
    kept = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
