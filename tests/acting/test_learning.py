"""Policies and reward models that act: contracts, what they are paid, and the same bits after any interruption."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import PrivateAttr

import rrm
from rrm.acting import Acting, EpisodeError, Place, cases, episode_of
from rrm.acting.episodes import ARCHIVE, Archive, Episode, place_of
from rrm.acting.policy import ActingPolicy
from rrm.acting.rewarding import Rewarded
from rrm.acting.step_reward import StepReward
from rrm.core.errors import Notice, RRMError
from rrm.core.records import Case, Group, Outcome
from rrm.store.store import Store
from rrm.testing import check_maker
from tests.acting.places import FACTORIES
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted

SEES = rrm.BoundedUser(attention=200, error=0.0, biases={})


class Says:
    """A judge with a reward model behind it, as the loop makes one."""

    def __init__(self, reward: Any = None, value: float = 1.0) -> None:
        self.reward, self.value = reward, value

    def __call__(self, groups: Sequence[Group]) -> list[torch.Tensor]:
        if self.reward is None:
            return [torch.full((len(group.outcomes),), self.value) for group in groups]
        return [score.mean - 0.5 * score.std for score in self.reward.score(groups)]


def maker(**options: Any) -> Acting:
    return Acting(factories=FACTORIES, rollout=24, **options)


def fitted(task: rrm.Task, seed: int = 0, n: int = 8) -> tuple[ActingPolicy, StepReward, list[Group]]:
    """A policy, a reward model of who gets further, and what it was fitted to."""
    made = maker()
    policy, reward = made.policy(task, seed), made.reward(task, seed)
    assert isinstance(policy, ActingPolicy) and isinstance(reward, StepReward) and task.cases is not None
    groups = policy.sample(task.cases.draw(n, "fit"), 4, "fit")
    user = SEES.model_copy()
    judged = [
        rrm.Comparison(pair, user.judge(task, pair), 0, "user")
        for group in groups for i, j in itertools.combinations(range(4), 2)
        if (pair := rrm.Pair.of(task.path, group, i, j))
    ]  # fmt: skip
    reward.fit(judged, task.settings, "fit")
    return policy, reward, groups


@pytest.mark.parametrize(
    "kwargs", [{}, {"action": "box"}, {"action": "multi"}, {"action": "binary"}, {"seen": "dict"}], ids=str
)
@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_the_contracts_are_kept(algorithm: str, kwargs: dict[str, str]) -> None:
    check_maker(maker(algorithm=algorithm), task_in("Line", **kwargs), SEES.model_copy())


def test_parts_of_episodes_are_outcomes_too() -> None:
    task = task_in("Line", segment=5)
    check_maker(maker(), task, SEES.model_copy())
    (group,) = maker().policy(task, 0).sample(task.cases.draw(1, "x"), 6, "x")  # type: ignore[union-attr]
    found = [episode_of(one) for one in group.outcomes]
    assert {len(one) for one in found} == {5} and len({float(one.observations[0, 1]) for one in found}) > 1


def test_the_reward_is_learned_from_comparisons_alone_and_the_agent_follows_it() -> None:
    task = task_in("Line")
    policy, reward, groups = fitted(task)
    ends = np.array([episode_of(one).hidden["x"][-1] for group in groups for one in group.outcomes])
    scores = np.concatenate([score.mean.numpy() for score in reward.score(groups)])
    assert np.corrcoef(ends, scores)[0, 1] > 0.8
    assert task.cases is not None
    more = task.settings.model_copy(update={"steps": 12})
    report = policy.improve(Says(reward), task.cases, more, "go", lambda step, metrics: None)
    (after,) = policy.sample(task.cases.draw(1, "look"), 16, "look")
    gone = [episode_of(one).hidden["x"][-1] - episode_of(one).hidden["x"][0] for one in after.outcomes]
    assert report.last_reward > report.first_reward and np.mean(gone) > 0.6, gone


def test_the_environments_own_reward_reaches_nobody() -> None:
    """Turned around, or a thousand times as much: the same reward model and the same policy, to the bit. So no hash
    that names a random stream may have it in it."""
    versions = set()
    for pays in (1.0, -1000.0):
        FACTORIES["Paid"] = lambda pays=pays, **more: FACTORIES["Line"](pays=pays, **more)
        policy, reward, _ = fitted(task_in("Paid"))
        task = task_in("Paid")
        assert task.cases is not None
        policy.improve(Says(reward), task.cases, task.settings, "go", lambda step, metrics: None)
        versions.add((policy.version, reward.version))
    assert len(versions) == 1


def test_an_episode_is_paid_what_the_judge_gives_it_no_more_and_no_less() -> None:
    task = task_in("Line")
    policy, reward, _ = fitted(task)
    for judge in (Says(reward), Says(None, 3.5)):
        outcomes: list[tuple[Case, Outcome]] = []

        def outcome(case: Case, episode: Episode, into: list[tuple[Case, Outcome]] = outcomes) -> Outcome:
            into.append((case, Outcome("", data={"episode": ARCHIVE.remember(episode)})))
            return into[-1][1]

        assert task.cases is not None
        env = Rewarded(task.cases, 2, "key", judge, 0.5, policy.kinds, FACTORIES, outcome)
        env.reset()
        paid, rng = [0.0, 0.0], np.random.default_rng(0)
        totals: list[float] = []
        for _ in range(36):
            _, rewards, dones, _ = env.step(rng.integers(0, 2, 2))
            for i in range(2):
                paid[i] += float(rewards[i])
                if dones[i]:
                    totals.append(paid[i])
                    paid[i] = 0.0
        wanted = [float(judge([Group(case, (one,))])[0][0]) for case, one in outcomes]
        assert len(totals) == 6 and totals == pytest.approx(wanted, abs=1e-4)


def test_a_judge_that_fails_teaches_nothing() -> None:
    task = task_in("Line")
    policy = maker().policy(task, 0)
    before = policy.version
    with pytest.raises(RRMError, match="finite"):
        policy.improve(Says(None, float("inf")), task.cases, task.settings, "go", lambda step, metrics: None)  # type: ignore[arg-type]
    assert policy.version == before


def test_the_limit_of_kl_ends_an_improvement_and_its_price_holds_it_back() -> None:
    task = task_in("Line")
    _, reward, _ = fitted(task)
    found = {}
    for name, change in {"free": {}, "priced": {"kl": 5.0}, "limited": {"max_kl": 0.05}}.items():
        policy = maker().policy(task, 0)
        settings = task.settings.model_copy(update={"steps": 10} | change)
        found[name] = policy.improve(Says(reward), task.cases, settings, "go", lambda step, metrics: None)  # type: ignore[arg-type]
    assert found["limited"].stopped and found["limited"].steps < 10 and not found["free"].stopped
    assert (found["priced"].kl or 0.0) < 0.5 * (found["free"].kl or 0.0)


def test_what_is_sampled_hangs_on_no_company_and_no_global_stream() -> None:
    task = task_in("Line")
    policy = maker().policy(task, 0)
    some = task.cases.draw(3, "x")  # type: ignore[union-attr]
    together = policy.sample(some, 2, "k")
    torch.manual_seed(5)
    np.random.seed(5)
    again = policy.sample(some, 2, "k")
    assert together == again
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    policy.improve(Says(), task.cases, task.settings, "go", lambda step, metrics: None)  # type: ignore[arg-type]
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == state[1]  # type: ignore[union-attr]


@pytest.mark.parametrize("patience", [10, 45])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, patience: int) -> None:
    task = task_in("Line")
    settings = task.settings.model_copy(update={"rounds": 2, "comparisons": 30, "accept": 6, "explore": 0.25})
    task = replace(task, settings=settings)
    whole = rrm.train(task, Impatient(attention=200), maker(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        rrm.train(task, Impatient(attention=200, patience=patience), maker(), tmp_path / "cut")
    resumed = rrm.train(task, Impatient(attention=200), maker(), tmp_path / "cut")
    assert resumed.version == whole.version
    kept = [sorted(p.name for p in (tmp_path / name / "episodes").rglob("*.safetensors")) for name in ("whole", "cut")]
    assert kept[0] == kept[1] and kept[0]


def test_environments_that_throw_dice_are_kept_before_they_are_judged(tmp_path: Path) -> None:
    task = replace(task_in("Loaded"), settings=task_in("Loaded").settings.model_copy(update={"comparisons": 20}))
    made = maker(repeatable=False)
    with pytest.raises(Interrupted):
        rrm.train(task, Impatient(attention=200, patience=8), made, tmp_path)
    first = {p.name for p in (tmp_path / "episodes").rglob("*.safetensors")}
    user = Impatient(attention=200)
    rrm.train(task, user, maker(repeatable=False), tmp_path)
    for comparison in Store(tmp_path / "run.db").comparisons("walk"):
        assert f"{comparison.a.data['episode']}.safetensors" in first  # type: ignore[index]
    assert max(user.asked.values()) == 1


class Satisfied(rrm.BoundedUser):
    """Sees differences for so many judgements, and none ever after."""

    patience: int = 0
    _given: list[int] = PrivateAttr(default_factory=list)

    def judge(self, task: rrm.Task, pair: rrm.Pair) -> rrm.Judgement:
        self._given.append(1)
        return super().judge(task, pair) if len(self._given) <= self.patience else rrm.Judgement(0.5)


def test_who_prefers_nothing_any_more_ends_no_run_and_who_never_did_does(tmp_path: Path) -> None:
    task = task_in("Line")
    task = replace(task, settings=task.settings.model_copy(update={"rounds": 2, "comparisons": 20, "steps": 1}))
    with pytest.warns(Notice, match="in earlier rounds it did"):
        rrm.train(task, Satisfied(attention=200, patience=20), maker(), tmp_path / "some")
    with pytest.raises(RRMError, match="nothing to learn from"):
        rrm.train(task, Satisfied(attention=200), maker(), tmp_path / "none")


# --- arrays ------------------------------------------------------------------------------------------


def walk(n: int = 5) -> Episode:
    rng = np.random.default_rng(n)
    return Episode(
        rng.normal(size=(n + 1, 3)).astype(np.float32), rng.integers(0, 2, n), True, {"reward": rng.normal(size=n)}
    )


def test_arrays_come_back_as_they_were_and_under_their_hash(tmp_path: Path) -> None:
    archive, episode = Archive(), walk()
    archive.open(tmp_path)
    name = archive.keep(episode, tmp_path)
    other = Archive()
    other.open(tmp_path)
    found = other.find(name)
    assert found.name == name == episode.name and np.array_equal(found.observations, episode.observations)
    assert walk(6).name != name and episode.part(1, 3).name != name
    assert replace(episode, ended=False).name != name and replace(episode, where="elsewhere").name != name


def test_what_is_hidden_names_nothing_and_is_still_kept_as_it_was(tmp_path: Path) -> None:
    episode = walk()
    other = replace(episode, hidden={"reward": -episode.hidden["reward"]})
    assert other.name == episode.name, "the name is a part of the outcome's identity, and names random streams"
    archive = Archive()
    archive.keep(episode, tmp_path)
    archive.keep(walk(), tmp_path)
    with pytest.raises(EpisodeError, match=r"differ in what is hidden.*repeatable=False"):
        archive.keep(other, tmp_path)
    path = place_of(tmp_path, episode.name)
    path.write_bytes(other.written().replace(other.secret.encode(), episode.secret.encode()))
    fresh = Archive()
    fresh.open(tmp_path)
    with pytest.raises(EpisodeError, match="hidden of this episode is not what was kept; restore it"):
        fresh.find(episode.name)


def test_where_nothing_repeats_episodes_that_look_alike_may_hide_different_things(tmp_path: Path) -> None:
    task = task_in("Line")
    policy = maker(repeatable=False).policy(task, 0)
    assert isinstance(policy, ActingPolicy) and task.cases is not None
    policy.folder, place = tmp_path, Place.of(task.cases.draw(1, "x")[0])
    alike = Episode(np.zeros((3, 2), np.float32), np.zeros(2, np.int64))
    both = [replace(alike, hidden={"reward": np.full(2, pay)}) for pay in (0.0, 1.0)]
    names = [(policy._outcome(place, one, keep=True).data or {})["episode"] for one in both]
    fresh = Archive()
    fresh.open(tmp_path)
    assert [fresh.find(name).hidden["reward"][0] for name in names] == [0.0, 1.0]


def test_arrays_that_were_changed_or_lost_are_errors(tmp_path: Path) -> None:
    archive = Archive()
    archive.open(tmp_path)
    name = Archive().keep(walk(), tmp_path)
    path = place_of(tmp_path, name)
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    with pytest.raises(EpisodeError, match="its hash differs"):
        archive.find(name)
    path.write_bytes(b"no arrays")
    with pytest.raises(EpisodeError, match="not the arrays"):
        archive.find(name)
    with pytest.raises(EpisodeError, match="open the run"):
        archive.find("0" * 64)
    with pytest.raises(EpisodeError, match="no name"):
        archive.find("../../secret")
    with pytest.raises(EpisodeError, match="names none"):
        episode_of(Outcome("a text"))
    with pytest.raises(EpisodeError, match="one more than actions"):
        Episode(np.zeros((3, 1), np.float32), np.zeros(3))


def test_parts_are_the_steps_they_say() -> None:
    episode = walk(8)
    part = episode.part(2, 3)
    assert len(part) == 3 and np.array_equal(part.observations, episode.observations[2:6]) and not part.ended
    assert np.array_equal(part.hidden["reward"], episode.hidden["reward"][2:5])
    assert episode.part(5, 3).ended


def test_what_is_recent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.acting.episodes.RECENT", 2_000)
    archive = Archive()
    names = [archive.remember(walk(n)) for n in range(3, 60)]
    with pytest.raises(EpisodeError):
        archive.find(names[0])
    assert archive.find(names[-1]) is not None


def test_a_place_of_a_long_episode_holds_no_more_than_its_steps() -> None:
    place = Place.of(cases("Endless", 1, steps=7)[0])
    env = place.make(FACTORIES)
    env.reset(seed=0)
    cuts = [env.step(1)[3] for _ in range(7)]
    assert cuts == [False] * 6 + [True]
