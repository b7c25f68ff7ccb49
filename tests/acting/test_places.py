"""Environments that break their word are errors that say which, where and what; of the others all kinds are read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rrm
from rrm.acting import Acting, Place, PlaceError, cases, episode_of
from rrm.core.errors import RRMError
from rrm.core.validation import plant
from tests.acting.places import FACTORIES


def task_in(env: str, steps: int = 12, segment: int = 0, **kwargs: object) -> rrm.Task:
    """A walk judged by where it ends."""

    def facts(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Fact]:
        x = episode_of(outcome).hidden["x"]
        return [rrm.Fact(f"past{n}", "way", rrm.Sealed(bool(x[-1] - x[0] > 0.1 * n))) for n in range(-6, 7)]

    settings = rrm.Settings(
        rounds=1, cases=8, outcomes=4, comparisons=40, steps=3, batch=4, kl=0.0, max_kl=1e9, accept=0, lr=1e-2,
        reward_epochs=20, reward_batch=4,
    )  # fmt: skip
    return plant(rrm.Task(
        "walk", "Which walk gets further?", facts, cases=rrm.Pool(cases(env, 16, "Walk.", kwargs, steps, segment)),
        settings=settings,
    ))  # fmt: skip


def episodes(env: str, **kwargs: object) -> None:
    """A policy made, and its first episodes."""
    task = task_in(env, **kwargs)  # type: ignore[arg-type]
    Acting(factories=FACTORIES).policy(task, 0).sample(task.cases.draw(2, "x"), 2, "x")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("Raises", r"raised KeyError in step: 'no such wheel' \(\S*places\.py, line \d+\) \(seed \d+, step 3\)"),
        ("NoNumber", "number that is not finite"), ("NoReward", "the reward nan"),
        ("Wider", "observation|contract"), ("OldStep", "contract|not 5"), ("Unbounded", "no bounds"),
        ("Loaded", r"same seed.*Acting\(repeatable=False\)"),
        ("Huge", "100800 numbers, more than 20000: pictures"), ("Chosen", "Dict"),
        ("NoSuch-v0", "cannot be made"), ("no.such.module:Env", "cannot be made"),
        ("builtins:dict", "not a gymnasium.Env"),
    ],
)  # fmt: skip
def test_what_breaks_its_word_is_an_error_that_says_where(env: str, says: str) -> None:
    with pytest.raises(PlaceError) as told:
        episodes(env)
    assert re.search(says, str(told.value)) and env.split(":")[-1] in str(told.value), told.value


def test_an_environment_that_never_ends_is_cut_off() -> None:
    task = task_in("Endless", steps=30)
    policy = Acting(factories=FACTORIES).policy(task, 0)
    (group,) = policy.sample(task.cases.draw(1, "x"), 2, "x")  # type: ignore[union-attr]
    assert [len(episode_of(one)) for one in group.outcomes] == [30, 30]
    assert not episode_of(group.outcomes[0]).ended


@pytest.mark.parametrize("seen", ["dict", "tuple", "picture", "number"])
def test_observations_of_all_kinds_are_read_as_one_vector(seen: str) -> None:
    env = Place.of(cases("Line", 1, kwargs={"seen": seen})[0]).make(FACTORIES)
    first, _ = env.reset(seed=1)
    assert first.ndim == 1 and first.dtype == np.float32 and env.observation_space.contains(first)
    episodes("Line", seen=seen)


def test_a_case_of_other_spaces_is_refused() -> None:
    task = task_in("Line")
    policy = Acting(factories=FACTORIES).policy(task, 0)
    with pytest.raises(PlaceError, match="other spaces than the agent learned in"):
        policy.sample(cases("Line", 1, kwargs={"action": "box"}), 1, "x")


@pytest.mark.parametrize(
    "data", [{}, {"env": ""}, {"env": "Line", "steps": 0}, {"env": "Line", "seed": "x"}, {"env": "Line", "kwargs": [1]}]
)
def test_a_case_that_says_nothing_of_where_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(PlaceError):
        Place.of(rrm.Case("go", data))


def test_entry_points_ids_and_factories_are_made_alike() -> None:
    known = cases("tests.acting.places:Line", 1)[0]
    assert Place.of(known).make().reset(seed=3)[0] == pytest.approx(
        Place.of(cases("Line", 1)[0]).make(FACTORIES).reset(seed=3)[0]
    )
    assert Place.of(cases("CartPole-v1", 1)[0]).make().reset(seed=3)[0].shape == (4,)


def test_words_need_their_own_maker() -> None:
    task = replace(task_in("Line"), cases=rrm.Pool((rrm.Case("Say something."),)))
    with pytest.raises(PlaceError, match="words"):
        Acting().policy(task, 0)
    with pytest.raises(RRMError, match="no algorithm"):
        Acting("sarsa")


def test_the_package_says_what_is_missing(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; sys.modules['stable_baselines3'] = None\nimport rrm.acting"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "pip install -e '.[env]'" in done.stderr
