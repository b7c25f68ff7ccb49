"""A pendulum to be swung up, for scripts/beside_imitation.py: one file that runs unchanged on Gymnasium 0.29 and 1.x,
so that both sides have the same dynamics, those of Gymnasium's Pendulum-v1, and count their steps in the same way.

Needs Gymnasium and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LENGTH = 200
"""Steps of an episode; none ends earlier, so that no length says anything of the reward."""
LOOKED = 40
"""Episodes that a policy is looked at in."""
FIRST = 1_000_000
"""Seed of the first of them; nobody trains there."""


class Pendulum(gym.Env[Any, Any]):
    """Pendulum-v1. Observations: cosine and sine of the angle from upright, and the speed, (3,); an action: a torque in
    [-2, 2]; the reward of a step is at most 0, which it is for standing upright and still."""

    count = 0
    """Steps in all environments of this process."""

    def __init__(self) -> None:
        high = np.array([1.0, 1.0, 8.0], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.time, self.angle, self.speed = 0, 0.0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Any angle, and a speed in [-1, 1]."""
        super().reset(seed=seed)
        self.time = 0
        self.angle, self.speed = (float(x) for x in self.np_random.uniform((-np.pi, -1.0), (np.pi, 1.0)))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A twentieth of a second, of a rod of length 1 and mass 1, with g = 10."""
        Pendulum.count += 1
        self.time += 1
        torque = min(2.0, max(-2.0, float(action[0])))
        off = (self.angle + np.pi) % (2 * np.pi) - np.pi
        cost = off**2 + 0.1 * self.speed**2 + 0.001 * torque**2
        self.speed = min(8.0, max(-8.0, self.speed + (15 * np.sin(self.angle) + 3 * torque) * 0.05))
        self.angle += self.speed * 0.05
        return self._seen(), -float(cost), False, self.time >= LENGTH, {}

    def _seen(self) -> Any:
        return np.array([np.cos(self.angle), np.sin(self.angle), self.speed], np.float32)


def true_return(act: Callable[[Any], Any], quick: bool = False) -> float:
    """Mean return of episodes that nobody trains on; `act`: (episodes, 3) -> (episodes, 1). They are not counted."""
    before = Pendulum.count
    envs = [Pendulum() for _ in range(2 if quick else LOOKED)]
    seen = np.stack([env.reset(seed=FIRST + i)[0] for i, env in enumerate(envs)])
    total = 0.0
    for _ in range(LENGTH):
        found = [env.step(action) for env, action in zip(envs, act(seen), strict=True)]
        seen = np.stack([one[0] for one in found])
        total += sum(one[1] for one in found)
    Pendulum.count = before
    return total / len(envs)
