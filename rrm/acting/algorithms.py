"""Algorithms of Stable-Baselines3, by the name that `rrm train --model` takes, and the actions that each can learn."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, SAC, TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rrm.acting.quick_ppo import QuickPPO
from rrm.core.errors import RRMError

ON_POLICY: dict[str, type[OnPolicyAlgorithm]] = {"ppo": QuickPPO, "a2c": A2C}
"""Learn from what the policy does now; any actions."""
OFF_POLICY: dict[str, type[OffPolicyAlgorithm]] = {"dqn": DQN, "sac": SAC, "td3": TD3, "ddpg": DDPG}
"""Learn from what they remember of earlier policies, too."""
ALGORITHMS = (*ON_POLICY, *OFF_POLICY)


def learnable(algorithm: str, actions: spaces.Space[Any], where: str) -> None:
    """Raise `RRMError` if an algorithm cannot learn actions of this kind."""
    if algorithm in ON_POLICY or isinstance(actions, spaces.Discrete if algorithm == "dqn" else spaces.Box):
        return
    kind = "one choice of several (Discrete)" if algorithm == "dqn" else "continuous actions (Box)"
    fit = [*ON_POLICY]
    fit += ["dqn"] if isinstance(actions, spaces.Discrete) else []
    fit += ["sac", "td3", "ddpg"] if isinstance(actions, spaces.Box) else []
    raise RRMError(f"{where}: {algorithm} learns {kind}, and the actions here are {actions}; take {', '.join(fit)}")
