"""A safe action where nobody knows: far from what was judged, never near it, counted, and kept with the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rrm
from rrm.acting import Acting, Fallback, PlaceError, episode_of
from rrm.acting.falling_back import FallbackGuard
from rrm.acting.policy import TRIED, ActingPolicy
from rrm.acting.step_reward import StepReward
from rrm.core.errors import RRMError
from rrm.core.parties import FALLBACKS
from rrm.core.validation import plant
from rrm.loop.training import maker_of
from rrm.view.five_figures import challenges_of
from rrm.view.reading import Reader
from rrm_tasks.cliff import cliff
from tests.acting.places import FACTORIES
from tests.acting.test_learning import SEES, Says
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted

LEFT = 0
ONCE = task_in("Line").settings.model_copy(update={"steps": 1, "batch": 2, "reward_epochs": 8})


def maker(algorithm: str = "ppo", quantile: float = 0.99, action: Any = LEFT, **more: Any) -> Acting:
    return Acting(algorithm, factories=FACTORIES, rollout=24, fallback=Fallback(quantile, action), **more)


def learned(made: Acting, task: rrm.Task) -> tuple[ActingPolicy, StepReward]:
    """A policy that falls back by a reward model of who gets further."""
    policy, reward = made.policy(task, 0), made.reward(task, 0)
    assert isinstance(policy, ActingPolicy) and isinstance(reward, StepReward) and task.cases is not None
    groups = policy.sample(task.cases.draw(8, "fit"), 4, "fit")
    pairs = [rrm.Pair.of(task.path, group, i, i + 1) for group in groups for i in range(3)]
    reward.fit([rrm.Comparison(pair, SEES.judge(task, pair), 0, "user") for pair in pairs], ONCE, "fit")
    policy.improve(Says(reward), task.cases, ONCE, "go", lambda step, metrics: None)
    return policy, reward


def test_it_is_unsure_far_from_what_was_judged_and_not_near_it() -> None:
    task = task_in("Line")
    policy, reward = learned(maker(), task)
    assert policy.guard is not None and policy.guard.holds
    judged = [episode_of(one) for one in policy.sample(task.cases.draw(8, "fit"), 4, "near")[0].outcomes]  # type: ignore[union-attr]
    near = torch.as_tensor(np.concatenate([one.observations[:-1] for one in judged]))
    acted = torch.as_tensor(np.concatenate([one.actions for one in judged]))
    assert policy.guard.unsure(near, acted).mean() < 0.2
    assert policy.guard.unsure(near + torch.tensor([30.0, -30.0]), acted).mean() > 0.9
    moved = {name: value + 1e-3 for name, value in reward.parameters.items()}
    reward.parameters = moved  # the policy's is a copy
    assert policy.guard.version != reward.version


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_it_does_what_is_safe_wherever_it_is_unsure_and_that_is_counted(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepReward, "bound", torch.tensor(-1.0))
    task = task_in("Line")
    policy, _ = learned(maker(algorithm), task)
    assert policy.acted()[FALLBACKS] == 2 * TRIED * ONCE.batch * 12, "where the improvement is tried, not in its steps"
    groups = policy.sample(task.cases.draw(3, "x"), 2, "x")  # type: ignore[union-attr]
    assert not any(episode_of(one).actions.any() for group in groups for one in group.outcomes)
    assert policy.acted()[FALLBACKS] == 6 * 12


def test_with_no_bound_it_is_the_run_without_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepReward, "bound", torch.tensor(torch.inf))
    task = task_in("Line")
    with_it, _ = learned(maker(), task)
    without, _ = learned(Acting(factories=FACTORIES, rollout=24), task)
    own, other = (one.state() for one in (with_it, without))
    assert all(torch.equal(own[name], value) for name, value in other.items()) and len(own) > len(other)
    assert with_it.acted() == {**without.acted(), FALLBACKS: 0.0}


def test_it_goes_with_the_weights_the_starting_ones_and_an_adversary_have_none() -> None:
    task = task_in("Line")
    made = maker()
    policy, reward = learned(made, task)
    other = made.policy(task, 0)
    assert isinstance(other, ActingPolicy) and other.guard is not None
    start = other.state()
    other.load(policy.state())
    assert other.version == policy.version and other.guard.version == policy.guard.version  # type: ignore[union-attr]
    other.load(start)
    assert not other.guard.holds
    free = Says(reward)
    free.holds = False  # type: ignore[attr-defined]
    policy.improve(free, task.cases, ONCE, "adversary", lambda step, metrics: None)  # type: ignore[arg-type]
    assert not policy.guard.holds  # type: ignore[union-attr]


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bits_and_says_how_often_it_fell_back(tmp_path: Path) -> None:
    """With ends that last, too."""
    task = task_in("Line")
    changed = {"rounds": 2, "cases": 4, "comparisons": 16, "explore": 0.25, "adversary": 0.25, "steps": 1, "batch": 2}
    task = replace(task, settings=task.settings.model_copy(update=changed))
    whole = rrm.train(task, Impatient(attention=200), maker(quantile=0.5, absorbing=True), tmp_path / "whole")
    with pytest.raises(Interrupted):
        rrm.train(task, Impatient(attention=200, patience=24), maker(quantile=0.5, absorbing=True), tmp_path / "cut")
    resumed = rrm.train(task, Impatient(attention=200), maker(quantile=0.5, absorbing=True), tmp_path / "cut")
    assert resumed.version == whole.version
    with Reader(tmp_path / "cut") as run:
        (node,) = run.nodes.values()
        acted = challenges_of(run, node).unacceptable.acted
    all_of_it, *parts = acted  # type: ignore[misc]
    judged = {one.what: one for one in parts}
    assert 0 < all_of_it.fallbacks < all_of_it.steps  # type: ignore[operator]
    assert judged["adversary"].fallbacks is None and judged["to judge"].fallbacks > 0  # type: ignore[operator]


@pytest.mark.parametrize(("action", "says"), [(None, "names no safe"), (7, "none of its"), ("up", "none of its")])
def test_a_safe_action_that_is_none_is_an_error_before_anything_is_judged(action: Any, says: str) -> None:
    with pytest.raises(PlaceError, match=says):
        maker(action=action).policy(task_in("Line"), 0)


def test_whoever_cannot_doubt_cannot_fall_back() -> None:
    task = task_in("Line")
    alone = replace(task, settings=task.settings.model_copy(update={"heads": 1}))
    with pytest.raises(RRMError, match="heads=1"):
        maker().policy(alone, 0)
    for wrong in (0, 1.5, "often", True, {"share": 0.9}):
        with pytest.raises(RRMError, match="fallback"):
            Fallback.of(wrong)


def test_it_is_set_by_name_and_the_environment_says_what_is_safe() -> None:
    made = maker_of("ppo(fallback=0.95, absorbing=True)")
    assert isinstance(made, Acting) and made.fallback == Fallback(0.95) and made.absorbing
    assert made.name == "ppo(absorbing=True, fallback=0.95)"
    other = maker_of("ppo(fallback={'quantile': 0.95, 'action': 3})")
    assert isinstance(other, Acting) and other.fallback == Fallback(0.95, 3)
    assert len({made.fingerprint, other.fingerprint, Acting("ppo").fingerprint}) == 3
    policy = made.policy(plant(cliff((), n=4)), 0)
    assert isinstance(policy, ActingPolicy) and isinstance(policy.guard, FallbackGuard)
