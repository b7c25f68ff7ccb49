"""PPO and A2C as agents: actor-critics that learn from what they do now (`rrm.acting.policy`)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env.base_vec_env import VecEnv
from torch import Tensor

from rrm.acting.algorithms import ON_POLICY
from rrm.acting.demonstrating import steps_of
from rrm.acting.optimizing import Optimizers
from rrm.acting.policy import ActingPolicy, Watching, bounded
from rrm.acting.rewarding import Rewarded
from rrm.core.errors import RRMError
from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Log
from rrm.core.records import Case, Outcome
from rrm.core.seeding import generator
from rrm.core.settings import Settings

NARROWEST = -2.0
"""Least logarithm of the standard deviation that cloning gives to continuous actions: who always did the same leaves
something to be tried all the same."""


class OnPolicy(ActingPolicy):
    """An actor-critic: each of `settings.steps` is an update on `rollout` steps in every environment. A nat of KL to
    the starting policy is paid for as it is spent, step by step."""

    def _made(self, env: VecEnv, lr: float) -> OnPolicyAlgorithm:
        size = env.num_envs * self.rollout
        usual: dict[str, Any] = {"n_steps": self.rollout, "device": "cpu", "learning_rate": lambda left: lr * left}
        if self.algorithm == "ppo":
            usual["batch_size"] = next((n for n in (64, 60, 48, 50, 32) if size % n == 0), size)
        try:
            return ON_POLICY[self.algorithm]("MlpPolicy", env, **(usual | copy.deepcopy(self.options)))
        except (AssertionError, TypeError, ValueError) as error:
            raise RRMError(f"{self.algorithm} does not take the options {self.options}: {error}") from error

    def _optimizers(self, model: Any) -> Optimizers:
        return {"": model.policy.optimizer}

    @property
    def _noises(self) -> int:
        acts = self.kinds[1]
        if isinstance(acts, spaces.Discrete):
            return int(acts.n)
        if isinstance(acts, spaces.MultiDiscrete):
            return int(acts.nvec.sum())
        return int(np.prod(acts.shape or (1,)))

    def _act(self, seen: Tensor, noise: Tensor, temperature: float, greedy: bool) -> Tensor:
        found = self._model.policy.get_distribution(seen)
        drawn: Any = found.distribution
        acts = self.kinds[1]
        if greedy:
            likeliest: Tensor = found.mode()
            return bounded(likeliest, acts)
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
        drawn_at = drawn.mean + temperature * drawn.stddev * normal
        return bounded(drawn_at.reshape(len(seen), *(acts.shape or ())), acts)

    def clone(self, shown: Sequence[tuple[Case, Outcome]], settings: Settings, key: str, log: Log) -> None:
        """See `Cloning`: `settings.batch` demonstrations a step, at a rate of `settings.lr` that falls to 0. The
        algorithm's own optimizer begins afterwards. Raises `RRMError` for what was demonstrated in another place."""
        episodes = [steps_of(outcome, self.kinds, self.name) for _, outcome in shown]
        policy = self._model.policy
        optimizer = torch.optim.Adam(policy.parameters(), lr=settings.lr)
        total, step = -(-len(episodes) // settings.batch) * settings.clone, 0
        for number in range(settings.clone):
            order = torch.randperm(len(episodes), generator=generator("clone", key, number))
            nats = 0.0
            for some in torch.split(order, settings.batch):
                seen, actions = (torch.cat(parts) for parts in zip(*(episodes[i] for i in some.tolist()), strict=True))
                _, logp, _ = policy.evaluate_actions(seen, actions)
                optimizer.param_groups[0]["lr"] = settings.lr * (total - step) / total
                optimizer.zero_grad()
                (-logp.mean()).backward()
                optimizer.step()
                with torch.no_grad():
                    if isinstance(self.kinds[1], spaces.Box):
                        policy.log_std.clamp_(min=NARROWEST)
                nats -= float(logp.detach().sum())
                step += 1
            log(number, {"loss": nats / len(episodes)})
        optimizer.zero_grad()

    def _learned(self, env: Rewarded, settings: Settings, log: Log, longest: int) -> ImproveReport:
        model, watching = self._model, _Watching(env, settings, log, self._fresh(), longest)
        update = model.train
        model.train = lambda: None if watching.stopped else update()
        try:
            model.learn(settings.steps * self.rollout * settings.batch, callback=watching)
        finally:
            model.train = update
        return watching.report()


class _Watching(Watching):
    """Watches the KL, too, and whether it exceeds the limit."""

    def __init__(
        self, env: Rewarded, settings: Settings, log: Log, start: OnPolicyAlgorithm, longest: int
    ) -> None:
        super().__init__(env, settings, log, longest)
        self.start = start
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
        reward = self.heard()
        self.kl = float(nats.mean()) * self.length
        self.stopped = self.kl > self.settings.max_kl
        if self.settings.kl:
            buffer.rewards -= self.settings.kl * nats.numpy().reshape(buffer.rewards.shape)
            buffer.compute_returns_and_advantage(last_values=self.locals["values"], dones=self.locals["dones"])
        if self.rollouts < self.settings.steps:
            self.log(self.rollouts, {**reward, "kl": self.kl, "length": self.length})
        self.rollouts += 1

    def report(self) -> ImproveReport:
        """What it did."""
        return ImproveReport(self.rollouts - self.stopped, *self.ends, self.kl, stopped=self.stopped)


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
