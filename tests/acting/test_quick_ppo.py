"""The update that is written out does what Stable-Baselines3's does, wherever it takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn
from torch.nn.utils import parameters_to_vector

from rrm.acting import quick_ppo
from rrm.acting.quick_ppo import QuickPPO

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


class Drift(gym.Env[Any, Any]):
    """Observations at random, and rewards that hang on the action."""

    def __init__(self, actions: spaces.Space[Any], seen: spaces.Space[Any] = BOX) -> None:
        self.action_space, self.observation_space = actions, seen

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def _seen(self) -> Any:
        if isinstance(self.observation_space, spaces.Discrete):
            return int(self.np_random.integers(self.observation_space.n))
        return self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen = self._seen()
        return seen, float(np.sum(action) * np.sum(seen)), bool(self.np_random.random() < 0.1), False, {}


def learned(algorithm: type[PPO], env: Callable[[], gym.Env[Any, Any]], **options: Any) -> PPO:
    """After two rollouts."""
    envs = DummyVecEnv([env] * 2)
    envs.seed(3)
    usual: dict[str, Any] = {"n_steps": 64, "batch_size": 48, "n_epochs": 4, "learning_rate": 3e-3, "ent_coef": 0.02}
    return algorithm("MlpPolicy", envs, seed=0, device="cpu", **(usual | options)).learn(256)


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_range": 0.02}, {"normalize_advantage": False, "max_grad_norm": 100.0}, {"vf_coef": 2.0, "gamma": 0.9},
     {"policy_kwargs": {"net_arch": [8]}}, {"policy_kwargs": {"net_arch": {"pi": [], "vf": [16, 8, 8]}}}],
)  # fmt: skip
@pytest.mark.parametrize("actions", [spaces.Box(-2.0, 2.0, (2,)), spaces.Discrete(4)], ids=["box", "choice"])
def test_it_learns_what_the_slow_one_learns(
    actions: spaces.Space[Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = learned(PPO, lambda: Drift(actions), **options)
    monkeypatch.setattr(PPO, "train", lambda self: pytest.fail("it is not asked"))
    quick = learned(QuickPPO, lambda: Drift(actions), **options)
    one, other = (parameters_to_vector(model.policy.parameters()).detach() for model in (slow, quick))
    begun = parameters_to_vector(QuickPPO("MlpPolicy", slow.get_env(), seed=0, **options).policy.parameters()).detach()
    assert (one - begun).abs().max() > 1e-3, "something was learned"
    assert (one - other).abs().max() < 1e-3 * (one - begun).abs().max()
    assert slow._n_updates == quick._n_updates


@pytest.mark.parametrize(
    ("env", "options"),
    [(lambda: Drift(spaces.MultiDiscrete([2, 3])), {}), (lambda: Drift(spaces.Discrete(2), spaces.Discrete(5)), {}),
     (lambda: Drift(BOX), {"target_kl": 0.01}), (lambda: Drift(BOX), {"clip_range_vf": 0.2}),
     (lambda: Drift(BOX), {"use_sde": True}), (lambda: Drift(BOX), {"policy_kwargs": {"activation_fn": nn.ReLU}})],
    ids=["several choices", "tiles", "target_kl", "clip_range_vf", "sde", "relu"],
)  # fmt: skip
def test_what_it_does_not_know_it_leaves_to_the_slow_one(
    env: Callable[[], gym.Env[Any, Any]], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = learned(PPO, env, **options)
    monkeypatch.setattr(quick_ppo.QuickPPO, "_descend", lambda *_: pytest.fail("it does not know this"))
    quick = learned(QuickPPO, env, **options)
    one, other = (parameters_to_vector(model.policy.parameters()).detach() for model in (slow, quick))
    assert torch.allclose(one, other, atol=1e-4)
