"""Agents that act are taught by remarks, too: ratings, marks of what is unacceptable, demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rrm
from rrm.acting import PlaceError, demonstrate, episode_of
from rrm.acting.episodes import ARCHIVE, Episode
from rrm.acting.hazard import NAME, Hazard, chance
from rrm.acting.rewarding import Rewarded
from rrm.acting.step_reward import StepReward
from rrm.core.errors import ConfigError, RRMError
from rrm.core.protocols import Cloning, Heeding
from rrm.core.records import Case, Group, Outcome
from rrm.core.remarks import Kind, Remark, Remarked
from rrm.core.validation import plant
from rrm.loop.cautious import MULTIPLIER
from rrm.store.store import Store
from rrm.worlds.grids.rooms import cliff
from tests.acting.places import FACTORIES
from tests.acting.test_learning import SEES, Says, fitted, maker
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted

QUIET: Any = lambda step, metrics: None  # noqa: E731


def gone(outcome: Outcome) -> float:
    x = episode_of(outcome).hidden["x"]
    return float(x[-1] - x[0])


def said(groups: Sequence[Group], kind: Kind, say: Callable[[float], float], levels: int = 0) -> list[Remarked]:
    return [
        Remarked("walk", group.case, one, Remark(kind, say(gone(one)), levels), "u", 0)
        for group in groups for one in group.outcomes
    ]  # fmt: skip


def learned(remarks: Sequence[Remarked], **changes: Any) -> tuple[StepReward, Any]:
    task = task_in("Line")
    settings = task.settings.model_copy(update={"holdout": 0.0} | changes)
    reward = maker().reward(replace(task, settings=settings), 0)
    assert isinstance(reward, StepReward) and isinstance(reward, Heeding)
    return reward, reward.fit([], settings, "k", remarks=remarks)


def level(x: float) -> float:
    return float(min(5, max(1, 3 + round(3 * x))))


def test_ratings_alone_teach_what_a_step_is_worth() -> None:
    policy, _, groups = fitted(task_in("Line"))
    reward, report = learned(said(groups, "rating", level, 5))
    fresh = policy.sample([group.case for group in groups], 4, "fresh")
    scores = np.concatenate([score.mean.numpy() for score in reward.score(fresh)])
    ends = [gone(one) for group in fresh for one in group.outcomes]
    assert report.ratings == 32 and report.n == 0 and not report.ignorant and report.marks == 0
    assert np.corrcoef(scores, ends)[0, 1] > 0.8


def test_ratings_that_are_all_alike_teach_nothing() -> None:
    _, _, groups = fitted(task_in("Line"))
    reward, report = learned(said(groups, "approval", lambda x: 1.0))
    assert report.ignorant and reward.ignorant
    assert all(not score.mean.any() for score in reward.score(groups))


def test_notes_and_remarks_of_what_is_held_out_change_no_bit() -> None:
    task = task_in("Line")
    _, plain, groups = fitted(task)
    assert isinstance(plain, StepReward)
    pairs = [rrm.Pair.of("walk", group, 0, 1) for group in groups]
    judged = [rrm.Comparison(pair, SEES.model_copy().judge(task, pair), 0, "u") for pair in pairs]
    notes = said(groups, "note", lambda x: 0.0)
    versions = []
    for settings in (task.settings, task.settings.model_copy(update={"holdout": 0.5, "holdout_by": "case"})):
        for remarks in ((), notes, said(groups, "rating", level, 5)):
            reward = maker().reward(task, 0)
            assert isinstance(reward, StepReward)
            report = reward.fit(judged, settings, "k", remarks=remarks)
            versions.append((reward.version, report.ratings, report.n))
    assert versions[0] == versions[1] and versions[3] == versions[4]
    assert versions[2][0] != versions[0][0] and versions[5][0] != versions[3][0]
    seen = versions[5][2]
    assert versions[2][1] == 32 and versions[5][1] == 4 * seen < 32


def dangerous(seed: int, rare: float) -> tuple[list[torch.Tensor], torch.Tensor, list[int]]:
    """Walks of 3 to 12 steps of two numbers and noise; who has a step whose first number is 1 is marked."""
    rng = torch.Generator().manual_seed(seed)
    walks, marks, at = [], [], []
    for n in range(400):
        steps = torch.rand(3 + n % 10, 4, generator=rng)
        steps[:, 0] = 0
        bad = float(torch.rand((), generator=rng)) < rare
        where = int(torch.randint(len(steps), (), generator=rng))
        steps[where, 0] = float(bad)
        walks.append(steps)
        marks.append(float(bad))
        at.append(where)
    return walks, torch.tensor(marks), at


@pytest.mark.parametrize("rare", [0.5, 0.02])
def test_the_harm_is_found_where_it_is_done_however_rare_it_is(rare: float) -> None:
    walks, marks, at = dangerous(0, rare)
    owner = torch.arange(400).repeat_interleave(torch.tensor([len(one) for one in walks]))
    found = Hazard.fitted(torch.cat(walks), owner, marks, torch.ones(400, 3), "x")
    fresh, truth, at = dangerous(1, rare)
    with torch.no_grad():
        hazards = [found.of(one) for one in fresh]
        chances = torch.stack([chance(one.sum(0)[None])[0] for one in hazards])
    assert chances[truth > 0].min() > 0.8 and chances[truth == 0].max() < 0.1
    assert all(int(one.mean(1).argmax()) == there for one, there, bad in zip(hazards, at, truth, strict=True) if bad)
    again = Hazard.of_tensors(found.tensors())
    assert torch.equal(again.of(fresh[0]), found.of(fresh[0]))


def test_a_chance_without_a_reason_is_the_share_of_marks() -> None:
    rng = torch.Generator().manual_seed(0)
    steps, marks = torch.zeros(1200, 3), (torch.rand(200, generator=rng) < 0.1).float()
    found = Hazard.fitted(steps, torch.arange(200).repeat_interleave(6), marks, torch.ones(200, 2), "x")
    with torch.no_grad():
        assert float(chance(6 * found.of(steps[:1]))) == pytest.approx(float(marks.mean()), abs=0.01)


def walked(acts: Callable[[int], int], seed: int) -> tuple[torch.Tensor, bool]:
    """Steps beside the cliff, as a reward model reads them; and whether the walk ended in a fall."""
    env = cliff()
    seen, steps = env.reset(seed=seed)[0], []
    for n in range(24):
        action = acts(n)
        steps.append(torch.cat([torch.as_tensor(seen), torch.nn.functional.one_hot(torch.tensor(action), 4)]))
        seen, _, ended, _, info = env.step(np.int64(action))
        if ended:
            break
    return torch.stack(steps), bool(info["fallen"])


def test_random_walks_tell_where_the_cliff_is() -> None:
    """Nearly all of them fall; of who walked away from the edge the constraint knows it from a few."""
    rng = np.random.default_rng(0)
    walks, marks = zip(*(walked(lambda n: int(rng.integers(4)), seed) for seed in range(150)), strict=True)
    owner = torch.arange(150).repeat_interleave(torch.tensor([len(one) for one in walks]))
    found = Hazard.fitted(torch.cat(walks), owner, torch.tensor(marks).float(), torch.ones(150, 2), "x")

    def feared(acts: Callable[[int], int], seed: int) -> float:
        with torch.no_grad():
            return float(chance(found.of(walked(acts, seed)[0]).sum(0)[None]))

    calm = next(seed for seed in range(99) if len(walked(lambda n: 1, seed)[0]) == 4)  # it arrives along the edge
    away = feared(lambda n: 0 if n == 0 or n > 5 else 1, calm)  # up, and along the upper row
    assert np.mean(marks) > 0.85 and feared(lambda n: 2, 0) > 0.9
    assert away < 0.1 < feared(lambda n: 1, calm) < 0.9


def marked(far: float = 0.0) -> tuple[rrm.Task, StepReward, list[Group], Any]:
    """A reward model of who gets further, for whom to have gone beyond `far` is unacceptable."""
    task = task_in("Line")
    policy, _, groups = fitted(task)
    pairs = [rrm.Pair.of("walk", group, i, j) for group in groups for i, j in ((0, 1), (2, 3), (0, 2))]
    judged = [rrm.Comparison(pair, SEES.model_copy().judge(task, pair), 0, "u") for pair in pairs]
    reward = maker().reward(task, 0)
    assert isinstance(reward, StepReward)
    reward.fit(judged, task.settings, "k", remarks=said(groups, "unacceptable", lambda x: float(x > far)))
    return task, reward, groups, policy


def test_a_constraint_is_kept_with_the_weights_and_apart_from_the_reward() -> None:
    task, reward, groups, _ = marked()
    state = reward.state()
    other, plain = maker().reward(task, 0), maker().reward(task, 0)
    assert isinstance(other, StepReward)
    other.load(state)
    assert other.version == reward.version
    for one, same in zip(reward.score(groups), other.score(groups), strict=True):
        assert one.unacceptable is not None and torch.equal(one.unacceptable, same.unacceptable)  # type: ignore[arg-type]
    without = {name: value for name, value in state.items() if not name.startswith(NAME)}
    assert 0 < len(without) < len(state)
    plain.load(without)
    assert plain.version != reward.version
    assert all(torch.equal(a.mean, b.mean) for a, b in zip(plain.score(groups), reward.score(groups), strict=True))
    assert plain.score(groups)[0].unacceptable is None  # type: ignore[attr-defined]
    other.load(without)
    assert other.version == plain.version
    with pytest.raises(RRMError, match=NAME):
        plain.load({name: value for name, value in state.items() if name != f"{NAME}one.bias"})


class Holds(Says):
    """A judge that holds a constraint, whose price moves with each call."""

    multiplier = 2.0

    def __call__(self, groups: Sequence[Group]) -> list[torch.Tensor]:
        price = self.multiplier
        self.multiplier += 0.25
        return [s.mean - 0.5 * s.std - price * s.unacceptable for s in self.reward.score(groups)]


def test_what_steps_are_charged_adds_up_to_what_the_judge_charges() -> None:
    task, reward, _, policy = marked()
    judge, outcomes = Holds(reward), list[tuple[Case, Outcome]]()

    def outcome(case: Case, episode: Episode) -> Outcome:
        outcomes.append((case, Outcome("", data={"episode": ARCHIVE.remember(episode)})))
        return outcomes[-1][1]

    assert task.cases is not None
    env = Rewarded(task.cases, 1, "key", judge, 0.5, policy.kinds, FACTORIES, outcome)
    env.reset()
    totals, shares = [0.0], []
    for n in range(36):
        _, rewards, dones, _ = env.step(np.array([int(n % 4 > 0)]))
        totals[-1] += float(rewards[0])
        shares.append(abs(float(rewards[0])))
        if dones[0]:
            totals.append(0.0)
    wanted = []
    for n, (case, one) in enumerate(outcomes):
        (score,) = reward.score([Group(case, (one,))])
        assert score.unacceptable is not None and float(score.unacceptable[0]) > 0.01
        wanted.append(float(score.mean - 0.5 * score.std - (2.0 + 0.25 * n) * score.unacceptable))
    assert totals[:-1] == pytest.approx(wanted, abs=1e-4) and len(wanted) == 3


def test_a_constraint_turns_the_agent_around() -> None:
    """Further is better, and beyond 0 is unacceptable."""
    task, reward, _, policy = marked()
    settings = task.settings.model_copy(update={"steps": 12})
    judge = Holds(reward)
    assert task.cases is not None
    policy.improve(judge, task.cases, settings, "go", QUIET)
    (held,) = policy.sample(task.cases.draw(1, "look"), 16, "look")
    free = maker().policy(task, 0)
    free.improve(Says(reward), task.cases, settings, "go", QUIET)
    (after,) = free.sample(task.cases.draw(1, "look"), 16, "look")
    beyond, freely = (float(np.mean([gone(one) > 0 for one in group.outcomes])) for group in (held, after))
    assert freely > 0.8 and beyond < 0.4, (freely, beyond)


def test_an_off_policy_agent_forgets_what_cost_something_else() -> None:
    task, reward, _, _ = marked()
    assert task.cases is not None
    rows = []
    for limit in (0.05, 1.0):
        settings = task.settings.model_copy(update={"unacceptable": limit, "steps": 1})
        policy = maker(algorithm="dqn").policy(task, 0)
        for key in ("one", "two"):
            policy.improve(Holds(reward) if limit < 1 else Says(reward), task.cases, settings, key, QUIET)
        rows.append(len(policy.state()["replay.time"]))
    assert 2 * rows[0] == rows[1] > 0


class Marks(rrm.BoundedUser):
    """Finds it unacceptable to have gone far."""

    def judge(self, task: rrm.Task, pair: rrm.Pair) -> rrm.Judgement:
        a, b = ((Remark("unacceptable", float(gone(one) > 0.1)),) for one in (pair.a, pair.b))
        return replace(super().judge(task, pair), remarks_a=a, remarks_b=b)


def constrained(**changes: Any) -> rrm.Task:
    task = task_in("Line")
    few = {"ask": "unacceptable", "unacceptable": 0.05, "rounds": 2, "steps": 2, "reward_epochs": 4} | changes
    return replace(task, settings=task.settings.model_copy(update=few))


def test_a_run_holds_it_and_resumes_to_the_bit(tmp_path: Path) -> None:
    task = constrained()
    rrm.train(task, Marks(), maker(), tmp_path / "whole")

    class Hasty(Impatient, Marks):
        pass

    for patience in (30, 10**9):
        try:
            rrm.train(task, Hasty(patience=patience), maker(), tmp_path / "broken")
        except Interrupted:
            continue
    kept = [Store(tmp_path / name / "run.db") for name in ("whole", "broken")]
    whole, broken = ({name: sha for name, (_, sha) in store.checkpoints("walk").items()} for store in kept)
    assert whole == broken
    prices = [value for *_, name, value in kept[0].metrics("walk", "improve") if name == MULTIPLIER]
    assert len(prices) == 4 and prices[0] > 0
    assert {value for *_, name, value in kept[0].metrics("walk", "fit") if name == "marks"} != set()


# --- demonstrations ----------------------------------------------------------------------------------


def right(seen: np.ndarray) -> int:
    return 1


def shown(folder: Path, task: rrm.Task, act: Any = right, n: int = 6) -> list[Outcome]:
    assert task.cases is not None
    return demonstrate(folder, task, act, task.cases.draw(n, "shown"), FACTORIES)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_what_was_demonstrated_is_done(tmp_path: Path, algorithm: str) -> None:
    task = constrained(ask="", unacceptable=1.0, clone=40, demonstrated=3, steps=0, rounds=1, explore=0.5)
    found = shown(tmp_path, task)
    assert all(episode_of(one).actions.tolist() == [1] * 12 for one in found)
    root = rrm.train(task, rrm.BoundedUser(), maker(algorithm=algorithm), tmp_path)
    (group,) = root.agent.sample(task.cases.draw(1, "look"), 8, "look")  # type: ignore[union-attr]
    assert np.mean([episode_of(one).actions.mean() for one in group.outcomes]) > 0.9
    store = Store(tmp_path / "run.db")
    losses = [value for *_, phase, _, name, value in store.metrics("walk") if (phase, name) == ("clone", "loss")]
    assert len(losses) == 40 and losses[-1] < 0.3 * losses[0]
    assert losses[0] == pytest.approx(12 * np.log(2), rel=0.05)  # nats of an episode: nothing is known of two actions


def test_what_was_demonstrated_is_better_than_what_the_agent_does(tmp_path: Path) -> None:
    """A user who tosses coins: what it is to be good is in the demonstrations alone."""
    task = constrained(ask="", unacceptable=1.0, demonstrated=6, steps=0, rounds=1, holdout=0.0, reward_epochs=20)
    shown(tmp_path, task)
    root = rrm.train(task, rrm.BoundedUser(attention=26, error=0.5), maker(), tmp_path)
    store = Store(tmp_path / "run.db")
    kept = store.sampled("walk", 0, "demonstrated")
    fit = {name: value for *_, name, value in store.metrics("walk", "fit")}
    assert kept is not None and fit["derived"] == 6 * task.settings.outcomes and root.reward is not None
    best = {one.case.id: one.outcome for one in store.remarks("walk")}
    groups = [replace(group, outcomes=(best[group.case.id], *group.outcomes), assistance=()) for group in kept]
    means = torch.stack([score.mean for score in root.reward.score(groups)])
    assert bool((means[:, 0] > means[:, 1:].max(1).values).all())


def test_continuous_actions_are_cloned_and_keep_something_to_try(tmp_path: Path) -> None:
    task = task_in("Line", action="box")
    policy = maker().policy(task, 0)
    assert isinstance(policy, Cloning) and task.cases is not None
    cases = task.cases.draw(6, "shown")
    out = demonstrate(tmp_path, task, lambda seen: np.array([0.7], np.float32), cases, FACTORIES)
    policy.clone(list(zip(cases, out, strict=True)), task.settings.model_copy(update={"clone": 150}), "k", QUIET)
    (group,) = policy.sample(cases[:1], 8, "look")
    done = np.concatenate([episode_of(one).actions for one in group.outcomes])
    assert abs(done.mean() - 0.7) < 0.1 and 0.05 < done.std() < 0.4


def test_a_policy_can_show_another_what_it_does(tmp_path: Path) -> None:
    task = task_in("Line")
    out = shown(tmp_path, task, maker().policy(task, 3))
    assert len(out) == 6 and len(list((tmp_path / "episodes").rglob("*.safetensors"))) >= 1
    assert [one.outcome.id for one in Store(tmp_path / "run.db").remarks("walk")] == [one.id for one in out]


def test_what_cannot_be_shown_or_cloned_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="whole episode"):
        shown(tmp_path / "parts", task_in("Line", segment=5))
    task = constrained(ask="", unacceptable=1.0, clone=2)
    shown(tmp_path / "dqn", task)
    with pytest.raises(ConfigError, match="cannot learn from demonstrations"):
        rrm.train(task, rrm.BoundedUser(), maker(algorithm="dqn"), tmp_path / "dqn")
    boxed = plant(task_in("Line", action="box"))
    (out,) = shown(tmp_path / "other", task, n=1)
    with pytest.raises(RRMError, match="actions of shape"):
        maker().policy(boxed, 0).clone([(boxed.cases.draw(1, "x")[0], out)], task.settings, "k", QUIET)  # type: ignore[union-attr,attr-defined]
