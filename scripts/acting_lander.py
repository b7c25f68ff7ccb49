"""LunarLander: how well does it fly, learned from comparisons of flights, beside PPO on the environment's own reward?

The tree `rrm_tasks.lunar_lander`; `lander_proxy` is the same algorithm on the environment's reward, which is here what
is wanted, for as many steps. `lander_frozen`: as many comparisons, all in the first round, of flights at random, and a
reward model that is never fitted again (Ibarz et al. 2018, arXiv 1811.06521, section 3.2). A flight that earns 200 and
more is held to have solved it (Gymnasium's documentation).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

import rrm
from rrm.acting import Acting, Place, episode_of
from rrm.acting.policy import ActingPolicy, seeded
from rrm.core.protocols import Agent
from rrm.core.records import Case
from rrm.core.validation import plant
from rrm.loop.training import maker_of
from rrm.measure.stats import of_numbers
from rrm_tasks.lunar_lander import MODEL, SETTINGS, lunar_lander

LANDER = ("lander_proxy", "lander", "lander_frozen")
FLIGHTS = 40
LANDED = 90
"""What the last step of a flight earns at least that comes to rest on the ground."""


def learned_flight(arm: str, seed: int, folder: Path, quick: bool) -> list[dict[str, float]]:
    """Train an arm; what its flights are like after every round."""
    small = {"rounds": 1, "cases": 4, "comparisons": 8, "steps": 1, "batch": 2, "reward_epochs": 1}
    settings, every = SETTINGS.model_copy(update=small if quick else {}), SETTINGS.steps
    if arm == "lander_frozen":
        whole = {key: getattr(settings, key) * settings.rounds for key in ("cases", "comparisons", "steps")}
        settings = settings.model_copy(update={"rounds": 1} | whole)
    known = lunar_lander(n=64 + (4 if quick else FLIGHTS)).cases
    assert isinstance(known, rrm.Pool)
    held_out, course = known.cases[64:], []

    def watch(node: Any, event: Any) -> None:
        among = event.phase == "improve" and arm == "lander_frozen" and event.step % every == 0 and event.step > 0
        if event.phase == "done" or (among and not event.metrics.get("undone")):
            course.append({"comparisons": len(node.comparisons), **flown(node.agent, held_out, node.reward)})

    if arm != "lander_proxy":
        shutil.rmtree(folder, ignore_errors=True)  # rounds of an attempt before would not be in the course
        rrm.train(lunar_lander(settings), rrm.BoundedUser(seed=seed), maker_of(MODEL), folder, seed, watch=[watch])
        return course
    return [{"comparisons": 0, **flown(_proxied(settings, seed), held_out)}]


def flown(agent: Agent, cases: Sequence[Case], reward: Any = None) -> dict[str, float]:
    """What flights earn, how many end on the ground at rest, their steps, and what the reward model makes of them."""
    groups = agent.sample(cases, 1, "look")
    flights = [episode_of(group.outcomes[0]).hidden["reward"] for group in groups]
    learned = {} if reward is None else {"learned": float(np.mean([float(s.mean[0]) for s in reward.score(groups)]))}
    return {
        **learned,
        "earned": float(np.mean([one.sum() for one in flights])),
        "landed": float(np.mean([one[-1] >= LANDED for one in flights])),
        "steps": float(np.mean([len(one) for one in flights])),
    }


def _proxied(settings: rrm.Settings, seed: int) -> ActingPolicy:
    """PPO on the environment's own reward, with the same options and steps."""
    task, maker = lunar_lander(settings), maker_of(MODEL)
    assert isinstance(task.cases, rrm.Pool) and isinstance(maker, Acting)
    places = [Place.of(case) for case in task.cases.cases[: settings.batch]]
    policy = maker.policy(plant(task), seed)
    assert isinstance(policy, ActingPolicy)
    with seeded("proxy", seed):
        env = DummyVecEnv([lambda place=place: place.make() for place in places])
        model: Any = policy._made(env, settings.lr)
        model.learn(settings.rounds * settings.steps * settings.batch * policy.rollout)
    policy._model = model
    return policy


def lander_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Markdown, over seeds, after every round."""
    lines = ["", "## LunarLander", ""]
    lines += ["`earned`: by the environment's own reward, mean of 40 flights; `landed`: the share that comes to rest."]
    lines += ["Learned reward: of one reward model where it is frozen (rounds: of steps), else fitted anew each round."]
    lines += [""]
    heads = ("arm", "seeds", "round", "comparisons", "learned reward", "earned", "of each seed", "landed", "steps")
    lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for arm, rows in found.items():
        for i in range(min(len(row["flown"]) for row in rows)):
            at = [row["flown"][i] for row in rows]
            earned = of_numbers([one["earned"] for one in at])
            each = ", ".join(f"{one['earned']:.0f}" for one in at)
            last = "all" if arm.endswith("proxy") else str(i + 1)
            mean = {key: float(np.mean([one[key] for one in at])) for key in at[0]}
            cells = [arm, str(len(rows)), last, f"{mean['comparisons']:.0f}"]
            cells += [f"{mean['learned']:.2f}" if "learned" in mean else "–"]
            cells += [f"{earned['mean']:.0f} [{earned['low']:.0f}, {earned['high']:.0f}]", each]
            lines.append(f"| {' | '.join([*cells, format(mean['landed'], '.2f'), format(mean['steps'], '.0f')])} |")
    return lines
