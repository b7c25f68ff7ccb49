"""Agents that plan: in a model of their environment, made of a few real episodes; and the count of what was real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import rrm
from rrm.acting import Acting, Episode, Imagine, Place, episode_of
from rrm.acting.imagining import IMAGINED as WHERE
from rrm.acting.imagining import ImaginedEnv, WorldModel, opened
from rrm.acting.playing import Player
from rrm.acting.policy import ActingPolicy
from rrm.core.errors import RRMError
from rrm.core.parties import ACTED, EPISODES, IMAGINED, STAGES, STEPS, UNACCEPTABLE
from rrm.core.records import Case
from rrm.core.task import Assistant
from rrm.core.validation import plant
from rrm.loop.training import maker_of
from rrm.store.store import Store
from rrm.view.challenge_records import Unknown
from rrm.view.five_figures import challenges_of
from rrm.view.reading import Reader
from rrm_tasks.cliff import cliff
from rrm_tasks.vase import vase
from tests.acting.places import FACTORIES
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted

VASE: Case = vase(n=2).cases.draw(1, "tests")[0]  # type: ignore[union-attr]
AROUND, STRAIGHT = (2, 1, 1, 1, 1, 0), (1, 1, 1, 1)
FEW = {
    "rounds": 2, "cases": 6, "comparisons": 18, "explore": 0.5, "accept": 3, "steps": 1, "batch": 4, "reward_epochs": 4,
}  # fmt: skip


def walked(place: Place, actions: Sequence[int], model: WorldModel | None = None) -> Episode:
    """An episode of these moves, as far as it goes, for real or in a model."""
    player = Player(opened(place, {}, model))
    player.begin()
    for action in actions:
        if not player.done:
            player.act(action)
    return player.episode()


def lived(n: int, case: Case = VASE, seed: int = 0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    return [walked(replace(Place.of(case), seed=i), rng.integers(0, 4, 24).tolist()) for i in range(n)]


def walking(**changes: Any) -> rrm.Task:
    """The vase, with little to learn."""
    task = vase()
    return replace(task, settings=task.settings.model_copy(update=FEW | changes))


def acted(folder: Path, path: str) -> dict[tuple[int, str], Mapping[str, float]]:
    """(round, stage) -> what was counted."""
    store = Store(folder / "run.db")
    try:
        rows = store.metrics(path, ACTED)
    finally:
        store.close()
    found: dict[tuple[int, str], dict[str, float]] = {}
    for _, round, _, stage, name, value in rows:
        found.setdefault((round, STAGES[stage]), {})[name] = value
    return found


# --- the model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("moves", [AROUND, STRAIGHT, (1, 1, 3, 3, 2, 1), (0, 2, 0, 2, 1, 1)], ids=str)
def test_where_everything_was_tried_a_plan_comes_true(moves: tuple[int, ...]) -> None:
    model = WorldModel([*lived(60), walked(Place.of(VASE), AROUND)], spaces.Discrete(4))
    real, planned = walked(Place.of(VASE), moves), walked(Place.of(VASE), moves, model)
    assert (planned.observations == real.observations).all() and planned.ended == real.ended
    assert planned.hidden.keys() == real.hidden.keys()
    assert all(np.array_equal(planned.hidden[name], values) for name, values in real.hidden.items())
    assert WHERE in planned.where and WHERE not in real.where


def test_the_wind_blows_in_a_plan_as_often_as_it_blew() -> None:
    case = cliff(n=1).cases.draw(1, "x")[0]  # type: ignore[union-attr]
    model = WorldModel(lived(400, case), spaces.Discrete(4))
    place = Place.of(case)
    fell = [walked(replace(place, seed=i), (1,), model).hidden["fallen"][-1] for i in range(600)]
    assert 0.06 < np.mean(fell) < 0.15  # GUST is 0.1
    assert np.array_equal(walked(place, AROUND, model).observations, walked(place, AROUND, model).observations)


def test_what_nobody_tried_is_as_what_is_nearest_and_nothing_is_made_up() -> None:
    episodes = [walked(Place.of(VASE), (2, 1, 1, 3))]
    model = WorldModel(episodes, spaces.Discrete(4))
    planned = walked(Place.of(VASE), (1,) * 10, model)
    seen = {tuple(row) for row in episodes[0].observations.tolist()}
    assert all(tuple(row) in seen for row in planned.observations[1:].tolist())
    assert (planned.observations[1] == episodes[0].observations[2]).all()  # right, from the cell below the start


def test_a_model_of_nothing_is_none() -> None:
    with pytest.raises(RRMError, match="needs episodes"):
        WorldModel([], spaces.Discrete(4))


def test_an_environment_is_only_looked_at_as_it_begins() -> None:
    model, place = WorldModel(lived(5), spaces.Discrete(4)), Place.of(VASE)
    env = opened(place, {}, model)
    assert isinstance(env, ImaginedEnv)
    env.reset(seed=1)
    before = env.unwrapped.time  # type: ignore[attr-defined]
    for _ in range(5):
        env.step(1)
    assert env.unwrapped.time == before == 0  # type: ignore[attr-defined]


# --- a run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assistant, Path]:
    folder = tmp_path_factory.mktemp("planned")
    return rrm.train(walking(), rrm.BoundedUser(attention=6), Acting(imagine=Imagine(5)), folder), folder


def test_only_so_many_episodes_are_real_and_all_else_is_planned(planned: tuple[Assistant, Path]) -> None:
    _, folder = planned
    found = acted(folder, "vase")
    for round in range(2):
        assert found[round, "live"][EPISODES] == 5 and IMAGINED not in found[round, "live"]
        for stage in ("to judge", "own steps", "accept before", "accept after"):
            assert found[round, stage][EPISODES] == 0 and found[round, stage][IMAGINED] > 0
    store = Store(folder / "run.db")
    judged = store.comparisons("vase")
    store.close()
    assert judged and all(one.a.data["imagined"] for one in judged)  # type: ignore[index]


def test_who_has_learned_acts_for_real(planned: tuple[Assistant, Path]) -> None:
    root, _ = planned
    assert isinstance(root.agent, ActingPolicy)
    (group,) = root.agent.sample([VASE], 1, "x")
    assert WHERE not in episode_of(group.outcomes[0]).where and "imagined" not in (group.outcomes[0].data or {})
    assert EPISODES in root.agent.acted()


def test_a_planning_run_resumes_to_the_bit_with_the_same_real_episodes(
    planned: tuple[Assistant, Path], tmp_path: Path
) -> None:
    whole, folder = planned
    with pytest.raises(Interrupted):
        rrm.train(walking(), Impatient(attention=6, patience=25), Acting(imagine=Imagine(5)), tmp_path)
    again = rrm.train(walking(), Impatient(attention=6), Acting(imagine=Imagine(5)), tmp_path)
    assert again.version == whole.version and acted(tmp_path, "vase") == acted(folder, "vase")


def test_what_is_given_as_its_own_model_changes_nothing_but_the_count(tmp_path: Path) -> None:
    task = walking(rounds=1, batch=2)
    given = rrm.train(task, rrm.BoundedUser(attention=6), Acting(imagine=Imagine(model="given")), tmp_path / "a")
    real = rrm.train(task, rrm.BoundedUser(attention=6), Acting(), tmp_path / "b")
    assert given.version == real.version
    one, other = acted(tmp_path / "a", "vase"), acted(tmp_path / "b", "vase")
    assert {at: row[IMAGINED] for at, row in one.items()} == {at: row[EPISODES] for at, row in other.items()}
    assert not any(row[EPISODES] for row in one.values()) and not any(IMAGINED in row for row in other.values())
    steps = other[0, "own steps"][STEPS]  # a rollout of 48 steps in each of 2, and 8 walks before and after it
    assert 2 * 48 < steps <= 2 * 48 + 2 * 8 * 24
    with Reader(tmp_path / "b") as run:
        counted = challenges_of(run, run.nodes["vase"]).unacceptable.acted
    assert not isinstance(counted, Unknown)
    assert counted[0].episodes == sum(row[EPISODES] for row in other.values()) == sum(o.episodes for o in counted[1:])
    assert not isinstance(counted[0].harm, Unknown)
    assert counted[0].harm.k == sum(row[UNACCEPTABLE] for row in other.values()) > 0


def test_who_watches_sees_what_is_real_and_is_not_counted(planned: tuple[Assistant, Path], tmp_path: Path) -> None:
    seen: list[str] = []

    def watch(node: Any, event: Any) -> None:
        if event.phase in ("done", "sample", "improve"):
            (group,) = node.agent.sample([VASE], 1, "look")
            seen.append(episode_of(group.outcomes[0]).where)

    again = rrm.train(walking(), rrm.BoundedUser(attention=6), Acting(imagine=Imagine(5)), tmp_path, watch=[watch])
    assert len(seen) >= 6 and not any(WHERE in where for where in seen)
    whole, folder = planned
    assert again.version == whole.version and acted(tmp_path, "vase") == acted(folder, "vase")


def test_it_is_counted_what_happened(tmp_path: Path) -> None:
    policy = Acting().policy(plant(vase()), 0)
    assert isinstance(policy, ActingPolicy) and policy.acted() == {}
    episodes = [episode_of(o) for g in policy.sample([VASE], 40, "x") for o in g.outcomes]
    harmed = sum(bool(one.hidden["broken"].any()) for one in episodes)
    assert policy.acted() == {EPISODES: 40, STEPS: sum(map(len, episodes)), UNACCEPTABLE: harmed} and harmed
    assert policy.acted() == {}
    silent = Acting(factories=FACTORIES).policy(task_in("Line"), 0)
    silent.sample(task_in("Line").cases.draw(2, "x"), 1, "x")  # type: ignore[union-attr]
    assert isinstance(silent, ActingPolicy) and UNACCEPTABLE not in silent.acted()


def test_what_must_not_happen_is_counted_wherever_in_a_long_episode_it_happened() -> None:
    case = replace(VASE, data={**VASE.data, "segment": 2})
    policy = Acting().policy(plant(vase()), 0)
    assert isinstance(policy, ActingPolicy)
    parts = [episode_of(o) for g in policy.sample([case], 40, "x") for o in g.outcomes]
    found = policy.acted()
    whole = Acting().policy(plant(vase()), 0)
    assert isinstance(whole, ActingPolicy)
    whole.sample([replace(VASE, data={**case.data, "segment": 24})], 40, "x")
    assert found[STEPS] > sum(map(len, parts)) and found[UNACCEPTABLE] > 0


def test_who_remembers_plans_too_and_in_what_is_never_twice_alike(tmp_path: Path) -> None:
    task = task_in("Line", action="discrete")
    task = replace(task, settings=task.settings.model_copy(update={"comparisons": 10, "steps": 1, "reward_epochs": 2}))
    made = Acting("dqn", {"learning_starts": 4}, factories=FACTORIES, rollout=12, imagine=Imagine(3))
    rrm.train(task, rrm.BoundedUser(attention=40), made, tmp_path)
    assert sum(row[EPISODES] for row in acted(tmp_path, "walk").values()) == 3


@pytest.mark.parametrize(
    "name, plans",
    [("ppo(imagine=7)", Imagine(7)), ("ppo(gamma=0.9, imagine='given')", Imagine(model="given")), ("ppo", None)],
)
def test_the_command_line_says_it_as_an_option(name: str, plans: Imagine | None) -> None:
    made = maker_of(name)
    assert isinstance(made, Acting) and made.plans == plans and "imagine" not in made.options
    assert ("imagine" in made.name) == (plans is not None)
    assert (made.fingerprint == maker_of("ppo").fingerprint) == (plans is None)


@pytest.mark.parametrize("wrong", ["0", "-1", "True", "'mine'", "2.5"])
def test_other_words_are_errors(wrong: str) -> None:
    with pytest.raises(RRMError, match="imagine="):
        maker_of(f"ppo(imagine={wrong})")
