"""The side of `imitation` in scripts/beside_imitation.py, which starts this with an interpreter that has it.

    PYTHON scripts/beside_other.py '{"seed": 0, "comparisons": 200, "steps": 100000}'

Prints one line of JSON. The settings are those of imitation's own tutorial on preference comparisons (5, Pendulum-v1),
but for what is given.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

PPO = {
    "n_steps": 256, "batch_size": 64, "n_epochs": 10, "learning_rate": 2e-3, "gamma": 0.97, "gae_lambda": 0.95,
    "clip_range": 0.1, "ent_coef": 0.01,
}  # fmt: skip
"""Of the tutorial, on 8 environments side by side."""


def learned(
    seed: int, comparisons: int, steps: int, fragment: int, quick: bool, iterations: int, epochs: int = 3, **ppo: Any
) -> dict[str, Any]:
    """Train; what it does after every iteration, and what it cost. `iterations`, `epochs`: of PreferenceComparisons and
    of its reward trainer."""
    import gymnasium as gym
    import numpy as np
    import torch
    from beside_pendulum import LENGTH, Pendulum, true_return
    from imitation.algorithms import preference_comparisons as pc
    from imitation.policies.base import FeedForward32Policy, NormalizeFeaturesExtractor
    from imitation.rewards.reward_nets import BasicRewardNet
    from imitation.util.logger import configure
    from imitation.util.networks import RunningNorm
    from imitation.util.util import make_vec_env
    from stable_baselines3 import PPO as Algorithm

    torch.set_num_threads(1)
    gym.register("BesidePendulum-v0", Pendulum, max_episode_steps=LENGTH)
    began, spent, looking = time.monotonic(), time.process_time(), [0.0, 0.0]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    venv = make_vec_env("BesidePendulum-v0", n_envs=8, rng=rng)
    net = BasicRewardNet(venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm)
    trainer = pc.BasicRewardTrainer(pc.PreferenceModel(net), pc.CrossEntropyRewardLoss(), epochs=epochs, rng=rng)
    features = {
        "features_extractor_class": NormalizeFeaturesExtractor,
        "features_extractor_kwargs": {"normalize_class": RunningNorm},
    }
    agent = Algorithm(FeedForward32Policy, venv, policy_kwargs=features, seed=seed, device="cpu", **(PPO | ppo))
    generator = pc.AgentTrainer(agent, net, venv, rng=rng, exploration_frac=0.05)
    whole = pc.PreferenceComparisons(
        generator, net, num_iterations=iterations, fragmenter=pc.RandomFragmenter(rng=rng, warning_threshold=0),
        preference_gatherer=pc.SyntheticGatherer(rng=rng), reward_trainer=trainer, fragment_length=fragment,
        initial_epoch_multiplier=4, initial_comparison_frac=0.1, query_schedule="hyperbolic",
        custom_logger=configure(None, format_strs=()),
    )  # fmt: skip
    course = []

    def look(number: int) -> None:
        start, used = time.monotonic(), time.process_time()
        found = true_return(lambda seen: agent.predict(seen, deterministic=True)[0], quick)
        course.append({"comparisons": len(whole.dataset), "steps": Pendulum.count, "return": found})
        looking[0] += time.monotonic() - start
        looking[1] += time.process_time() - used

    whole.train(total_timesteps=steps, total_comparisons=comparisons, callback=look)
    return {
        "course": course, "steps": Pendulum.count, "seconds": time.monotonic() - began - looking[0],
        "processor seconds": time.process_time() - spent - looking[1],
    }  # fmt: skip


def main() -> None:
    """One run."""
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        raise SystemExit(0)
    print(json.dumps(learned(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
