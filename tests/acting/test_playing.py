"""Episodes side by side: the same bits however many, parts of long ones in little memory, what is several at once."""

from __future__ import annotations

import tracemalloc
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

import rrm
from rrm.acting import Acting, Place, PlaceError, cases, episode_of
from rrm.acting.playing import Player
from rrm.acting.policy import ActingPolicy
from rrm.core.seeding import generator
from tests.acting.places import FACTORIES, Line
from tests.acting.test_learning import Says, fitted, maker
from tests.acting.test_places import task_in


@pytest.mark.parametrize(
    ("algorithm", "action"),
    [
        ("ppo", "discrete"), ("a2c", "box"), ("ppo", "multi"), ("ppo", "binary"), ("dqn", "discrete"), ("sac", "box"),
        ("td3", "box"),
    ],
)  # fmt: skip
def test_what_is_played_is_the_same_to_the_bit_however_many_play_side_by_side(algorithm: str, action: str) -> None:
    task = task_in("Line", action=action, segment=7 if action == "box" else 0)
    drawn = task.cases.draw(5, "x")  # type: ignore[union-attr]
    found = [
        Acting(algorithm, factories=FACTORIES, places=places).policy(task, 0).sample(drawn, 3, "k")
        for places in (1, 2, 7, 64)
    ]
    assert all(one == found[0] for one in found[1:])
    (alone,) = Acting(algorithm, factories=FACTORIES).policy(task, 0).sample(drawn[:1], 3, "k")
    assert alone == found[0][0], "nor on what else is asked"


def test_parts_of_an_episode_are_alike_likely_and_are_what_was_played() -> None:
    """Every window of five steps in one of twelve."""
    firsts: list[float] = []
    place = Place.of(cases("Line", 1, segment=5)[0])
    for i in range(600):
        player = Player(place.make(FACTORIES), 5, generator("part", i))
        player.begin()
        seen = [player.seen[0]]
        while not player.done:
            player.act(1)
            seen.append(player.seen[-1])
        part = player.episode()
        first = round(float(part.observations[0, 1]) * 12)
        firsts.append(first)
        assert np.array_equal(part.observations, np.stack(seen[first : first + 6])) and len(part) == 5
        assert part.hidden["x"].shape == (6,) and part.hidden["reward"].shape == (5,)
        assert player.before is not None and len(player.before) == first
        assert part.hidden["x"].astype(np.float32)[0] == part.observations[0, 0]
    counts = np.bincount(firsts, minlength=8)
    assert counts.sum() == 600 and len(counts) == 8 and (abs(counts - 75) < 40).all(), counts


def test_a_part_of_a_long_episode_takes_the_memory_of_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.acting.playing.BEFORE", 600)
    place = Place.of(cases("Endless", 1, steps=10**9, segment=10)[0])
    player = Player(place.make(FACTORIES), 10, generator("part", 0))
    player.begin()

    def grown(steps: int) -> int:
        for _ in range(steps):
            player.act(1)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = grown(500)
        assert grown(3000) - before < 20_000 and len(player.seen) == 11 and not player.done
    finally:
        tracemalloc.stop()
    part = player.episode()
    first = int(part.where.rpartition(" ")[2])
    assert len(part) == 10 and (player.before is None if first > 600 else len(player.before) == first)  # type: ignore[arg-type]


def test_a_whole_episode_that_would_fill_the_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.acting.playing.HELD", 10_000)
    task = task_in("Endless", steps=10**9)
    with pytest.raises(PlaceError, match=r"Endless: 1 episodes of \d+ steps so far hold.*segment="):
        maker().policy(task, 0).sample(task.cases.draw(1, "x"), 1, "x")  # type: ignore[union-attr]


def several(kind: str) -> Any:
    one = FACTORIES["Line"]
    return gym.vector.SyncVectorEnv([one, one]) if kind == "gymnasium" else DummyVecEnv([one, one])


@pytest.mark.parametrize("kind", ["gymnasium", "stable-baselines3"])
def test_several_environments_at_once_are_refused_with_what_to_do(kind: str) -> None:
    made = Acting(factories={"Line": lambda **more: several(kind)})
    with pytest.raises(PlaceError, match=r"is several environments: give one.*places=n"):
        made.policy(task_in("Line"), 0)


class Shown(Line):
    """Shows a picture among other things."""

    def __init__(self) -> None:
        super().__init__()
        picture = spaces.Box(0, 255, (2, 2, 3), np.uint8)
        self.observation_space = spaces.Dict({"eye": picture, "more": spaces.Tuple((spaces.Discrete(3), picture))})

    def seen(self) -> Any:
        picture = np.full((2, 2, 3), 255, np.uint8)
        return {"eye": picture, "more": (2, picture)}


class Whole(Line):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(0, 3, (1,), np.int64)


class Grid(Line):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.MultiDiscrete(np.full((2, 2), 3))


class Sequences(Line):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Sequence(spaces.Discrete(2))


def test_bytes_are_shares_of_255_wherever_they_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTORIES, "Shown", Shown)
    env = Place.of(cases("Shown", 1)[0]).make(FACTORIES)
    seen, _ = env.reset(seed=0)
    assert seen.shape == (12 + 3 + 12,) and sorted(set(seen.tolist())) == [0.0, 1.0] and seen.sum() == 25
    assert env.observation_space.contains(seen)
    task = task_in("Shown")
    assert len(maker().policy(task, 0).sample(task.cases.draw(1, "x"), 1, "x")) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "says"),
    [(Whole, "a Box of int64"), (Grid, r"shape \(2, 2\)"), (Sequences, "Sequence have no fixed size")],
)
def test_spaces_that_are_not_learned_in_are_an_error(
    kind: type[Line], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTORIES, "Odd", kind)
    with pytest.raises(PlaceError, match=says):
        maker().policy(task_in("Odd"), 0)


# --- an improvement that is none ---------------------------------------------------------------------


@pytest.mark.parametrize(("push", "kept"), [(20.0, True), (-20.0, False)])
def test_an_improvement_that_earns_less_than_before_is_undone(
    push: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the algorithm made of it: here it pushes right, or left."""
    task = task_in("Line")
    policy, reward, _ = fitted(task)
    assert isinstance(policy, ActingPolicy) and task.cases is not None
    learned = type(policy)._learned

    def pushes(self: Any, *more: Any) -> Any:
        report = learned(self, *more)
        with torch.no_grad():
            self._model.policy.action_net.bias += torch.tensor([-push, push])
        return report

    monkeypatch.setattr(type(policy), "_learned", pushes)
    before = policy.version
    for settings, then in ((task.settings, kept), (task.settings.model_copy(update={"kl": 1e-9}), True)):
        report = policy.improve(Says(reward), task.cases, settings, "go", lambda step, metrics: None)
        assert (policy.version != before) == then != report.undone


def test_parts_are_compared_and_whole_episodes_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_in("Line", segment=4)
    policy, reward, groups = fitted(task)
    assert {len(episode_of(one)) for group in groups for one in group.outcomes} == {4}
    lengths: list[int] = []

    class Hears(Says):
        def __call__(self, groups: Any) -> Any:
            lengths.extend(len(episode_of(one)) for group in groups for one in group.outcomes)
            return super().__call__(groups)

    policy.improve(Hears(reward), task.cases, task.settings, "go", lambda step, metrics: None)  # type: ignore[arg-type]
    assert set(lengths) == {12} and isinstance(task, rrm.Task)
