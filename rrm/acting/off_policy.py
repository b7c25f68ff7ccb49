"""DQN, SAC, TD3 and DDPG as agents: they learn from what they remember, too (`rrm.acting.policy`).

What they remember is paid by the reward model of now before anything is learned from it (`rrm.acting.remembering`).
Until it is improved for the first time, an agent whose policy has no chance in it (all but SAC) acts at random, alike
in all actions: what is compared first differs, and so do the outcomes of `settings.explore`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env.base_vec_env import VecEnv
from torch import Tensor

from rrm.acting.algorithms import OFF_POLICY
from rrm.acting.optimizing import Optimizers
from rrm.acting.policy import ActingPolicy, Watching, bounded
from rrm.acting.remembering import Replay
from rrm.acting.rewarding import Rewarded, paid
from rrm.core.errors import RRMError
from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Log
from rrm.core.settings import Settings
from rrm.models.weights import hash_tensors

REMEMBERED = 100_000
"""Steps that are remembered, unless `buffer_size` says otherwise."""
NOISE = 0.1
"""Standard deviation of what is added to actions of TD3 and DDPG, in halves of their range (Fujimoto et al. 2018)."""
TARGETS = 250
"""Steps between two updates of DQN's target network: Stable-Baselines3's 10,000 are for games of millions of steps."""
OURS = ("replay_buffer_class", "replay_buffer_kwargs", "n_steps", "learning_rate")
"""Options of Stable-Baselines3's that have no meaning with a replay of ours, or are settings."""
REPLAY = "replay."


class OffPolicy(ActingPolicy):
    """What learns from a replay. `settings.steps` times `rollout` steps are made in each environment, and as many
    updates per step as the algorithm makes in one environment.

    Parameters
    ----------
    replay: what becomes of it when the agent is improved against another reward: "relabel" or "reset". It is reset in
        any case where steps cannot be paid anew: the reward model knows assistants' findings, which lie in no step, it
        has learned a constraint that is to be held, whose price moves, or the judge is no reward model over steps.
    ends: whether an episode's end may be worth something (`rrm.acting.step_rows`).
    """

    def __init__(
        self, *args: Any, replay: Literal["relabel", "reset"] = "relabel", ends: bool = False, **more: Any
    ) -> None:
        self.replay, self.ends = replay, ends
        super().__init__(*args, **more)

    def _made(self, env: VecEnv, lr: float) -> OffPolicyAlgorithm:
        for name in OURS:
            if name in self.options:
                raise RRMError(f"{self.algorithm} does not take the option {name} here; leave it out")
        usual: dict[str, Any] = {
            "device": "cpu", "learning_rate": lambda left: lr * left, "buffer_size": REMEMBERED,
            "replay_buffer_class": Replay, "gradient_steps": env.num_envs,
        }  # fmt: skip
        if self.ends:
            usual["replay_buffer_kwargs"] = {"ends": True}
        if self.algorithm == "dqn":
            usual["target_update_interval"] = TARGETS
        given = copy.deepcopy(self.options)  # what is nested in them is written to
        if self.algorithm in ("td3", "ddpg"):
            width = int(np.prod(self.kinds[1].shape or (1,)))
            given["action_noise"] = NormalActionNoise(np.zeros(width), np.full(width, self._std))
        try:
            made = OFF_POLICY[self.algorithm]("MlpPolicy", env, **(usual | given))
        except (AssertionError, TypeError, ValueError) as error:
            raise RRMError(f"{self.algorithm} does not take the options {self.options}: {error}") from error
        made.exploration_rate = 0.0 if self.algorithm == "sac" else 1.0  # type: ignore[attr-defined]
        return made

    @property
    def _std(self) -> float:
        """Of the noise that is added to actions."""
        std = self.options.get("action_noise", NOISE)
        if isinstance(std, bool) or not isinstance(std, int | float) or not 0 <= std < np.inf:
            raise RRMError(f"action_noise={std!r}: give its standard deviation, in halves of an action's range")
        return float(std)

    def _optimizers(self, model: Any) -> Optimizers:
        if self.algorithm == "dqn":
            return {"": model.policy.optimizer}
        found = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
        return found | ({"entropy": model.ent_coef_optimizer} if _learns_entropy(model) else {})

    # --- as an agent ---------------------------------------------------------------------------------

    @property
    def _noises(self) -> int:
        return 2 if self.algorithm == "dqn" else 1 + int(np.prod(self.kinds[1].shape or (1,)))

    def _act(self, seen: Tensor, noise: Tensor, temperature: float, greedy: bool) -> Tensor:
        """The first number decides whether an action is drawn from all actions alike; `temperature` scales the chance
        of that, and the spread of what has one."""
        model, acts = self._model, self.kinds[1]
        chance, rest = noise[:, 0], noise[:, 1:]
        anyhow = chance < min(1.0, model.exploration_rate * temperature)
        if isinstance(acts, spaces.Discrete):
            best: Tensor = model.q_net(seen).argmax(1)
            return best if greedy else torch.where(anyhow, (rest[:, 0] * int(acts.n)).long(), best)
        if greedy:
            return self._unscaled(self._meant(seen)[0])
        mean, std = self._meant(seen)
        drawn = mean + temperature * std * torch.special.ndtri(rest.clamp(1e-7, 1 - 1e-7))
        drawn = drawn.tanh() if self.algorithm == "sac" else drawn.clamp(-1, 1)
        return self._unscaled(torch.where(anyhow[:, None], rest * 2 - 1, drawn))

    def _meant(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (n, numbers) of actions in [-1, 1]; of SAC's, before they are squashed."""
        if self.algorithm == "sac":
            mean, log_std, _ = self._model.actor.get_action_dist_params(seen)
            return mean, log_std.exp()
        mean = self._model.actor(seen)
        return mean, torch.full_like(mean, self._std)

    def _unscaled(self, actions: Tensor) -> Tensor:
        """(n, numbers) in [-1, 1] -> as environments take them."""
        acts = self.kinds[1]
        assert isinstance(acts, spaces.Box)
        low, high = (torch.as_tensor(bound).float() for bound in (acts.low, acts.high))
        return bounded(low + 0.5 * (actions.reshape(len(actions), *acts.shape) + 1) * (high - low), acts)

    @property
    def version(self) -> str:
        """A hash of what decides its outcomes: its parameters, and the share of actions at random."""
        rate = torch.tensor([self._model.exploration_rate], dtype=torch.float64)
        return hash_tensors([*sorted(self._model.policy.state_dict().items()), ("chance", rate)], self._acts_by)

    # --- as a policy ---------------------------------------------------------------------------------

    def _learned(self, env: Rewarded, settings: Settings, log: Log, longest: int) -> ImproveReport:
        unpriced(self.algorithm, settings, self.name)
        model: Any = self._model
        self._pay_anew(env, settings.constrained)
        if model.replay_buffer.n:
            model.learning_starts = 0  # actions at random were made already
        if self.algorithm == "dqn":  # exploration falls from where it is, not from its beginning once more
            fall = model.exploration_schedule
            model.exploration_schedule = functools.partial(_at_most, model.exploration_rate, fall)
        else:
            model.exploration_rate = 0.0
        watching = _Watching(env, settings, log, longest, self.rollout)
        model.learn(settings.steps * self.rollout * settings.batch, callback=watching)
        if self.replay == "reset":
            model.replay_buffer.reset()
        return watching.report()

    def _pay_anew(self, env: Rewarded, constrained: bool = False) -> None:
        """What is remembered, by the reward of now."""
        replay: Replay = self._model.replay_buffer
        held = constrained and env.reward is not None and env.reward.constraint is not None
        if self.replay == "reset" or env.reward is None or env.reward.assistants or held:
            replay.reset()
            return
        reward, caution = env.reward, env.caution

        def rewards(seen: Tensor, after: Tensor, actions: Tensor, starts: Tensor, left: Tensor) -> Tensor:
            whole = isinstance(self.kinds[1], spaces.Discrete)
            taken = actions[:, 0] if whole else self._unscaled(actions)
            return paid(reward, caution, seen, taken, starts, reward.after(after, left))

        replay.relabel(rewards)

    def _beside(self, model: Any) -> dict[str, Tensor]:
        """Also what is remembered; counters of updates, and of calls; the share of actions at random; and the weight of
        entropy, where it is learned."""
        calls = getattr(model, "_n_calls", 0)
        found = {REPLAY + name: value for name, value in model.replay_buffer.state().items()}
        found["counted"] = torch.tensor([model._n_updates, calls])
        found["chance"] = torch.tensor([model.exploration_rate], dtype=torch.float64)
        return found | ({"entropy": model.log_ent_coef.detach().clone()} if _learns_entropy(model) else {})

    def _take(self, model: Any, beside: Mapping[str, Tensor]) -> None:
        replay: Replay = model.replay_buffer
        replay.load({name: beside[REPLAY + name] for name in replay.parts}, self.name)
        model._n_updates, calls = (int(number) for number in beside["counted"])
        if self.algorithm == "dqn":
            model._n_calls = calls
        model.exploration_rate = float(beside["chance"])
        if _learns_entropy(model):
            model.log_ent_coef.data.copy_(beside["entropy"])


class _Watching(Watching):
    """A step of it is `rollout` steps in every environment."""

    def __init__(self, env: Rewarded, settings: Settings, log: Log, longest: int, rollout: int) -> None:
        super().__init__(env, settings, log, longest)
        self.rollout = rollout

    def _on_step(self) -> bool:
        if self.n_calls % self.rollout == 0 and self.rollouts < self.settings.steps:
            self.log(self.rollouts, {**self.heard(), "length": self.length})
            self.rollouts += 1
        return True

    def report(self) -> ImproveReport:
        """What it did; nobody counted nats."""
        return ImproveReport(self.rollouts, *self.ends)


def unpriced(algorithm: str, settings: Settings, where: str) -> None:
    """Raise `RRMError` if these settings give nats a price, which nobody counts here."""
    if settings.kl:
        raise RRMError(
            f"{where}: kl={settings.kl}, but what {algorithm} remembers was done by other policies, and nobody counts "
            "its nats: set kl=0, or take ppo, which pays for them"
        )


def _learns_entropy(model: Any) -> bool:
    return getattr(model, "ent_coef_optimizer", None) is not None


def _at_most(most: float, fall: Any, left: float) -> float:
    return min(most, float(fall(left)))
