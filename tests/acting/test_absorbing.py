"""Episodes that go on after their end, to a reward model over steps: how long one is says nothing by itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import rrm
from rrm.acting import Acting, Episode, Place, cases, episode_of
from rrm.acting.episodes import ARCHIVE
from rrm.acting.places import cut_case
from rrm.acting.policy import ActingPolicy
from rrm.acting.rewarding import Rewarded
from rrm.acting.step_network import scale_of
from rrm.acting.step_reward import StepReward
from rrm.core.errors import ModelError
from rrm.core.records import Case, Group, Outcome
from rrm_tasks.cliff import SETTINGS, cliff
from tests.acting.test_learning import Says

FEW = SETTINGS.model_copy(update={"cases": 6, "comparisons": 18, "reward_epochs": 3, "steps": 1, "batch": 2})
TASK = rrm.core.validation.plant(cliff((), FEW, n=16))


def fitted(absorbing: bool) -> tuple[ActingPolicy, StepReward, list[Group]]:
    """Of walks at random beside a cliff: some end soon, some at their limit."""
    maker = Acting("ppo", absorbing=absorbing)
    policy, reward = maker.policy(TASK, 0), maker.reward(TASK, 0)
    assert isinstance(policy, ActingPolicy) and isinstance(reward, StepReward) and TASK.cases is not None
    groups, user = policy.sample(TASK.cases.draw(6, "fit"), 4, "fit"), rrm.BoundedUser(attention=60)
    pairs = [rrm.Pair.of(TASK.path, g, i, j) for g in groups for i, j in itertools.combinations(range(4), 2)]
    reward.fit([rrm.Comparison(pair, user.judge(TASK, pair), 0, "user") for pair in pairs], FEW, "fit")
    return policy, reward, groups


def of_each(groups: list[Group]) -> list[Episode]:
    return [episode_of(one) for group in groups for one in group.outcomes]


def test_the_same_more_for_every_step_changes_no_preference_however_long_episodes_are() -> None:
    """Which is what a sum over steps alone pays for: it then prefers the longer."""
    moved = {}
    for absorbing in (True, False):
        _, reward, groups = fitted(absorbing)
        assert len({len(one) for one in of_each(groups)}) > 3
        before = reward._raw(reward.rows(groups))
        reward.parameters["three.bias"] = reward.parameters["three.bias"] + 1.0
        change = reward._raw(reward.rows(groups)) - before
        moved[absorbing] = float((change - change.mean(0)).abs().max())
    assert moved[True] < 1e-4 < 0.1 < moved[False]


def test_one_row_stands_for_all_steps_after_an_end() -> None:
    _, reward, groups = fitted(True)
    rows = reward.rows(groups)
    spelled = rows.steps.repeat_interleave(rows.times.long(), 0)
    assert len(spelled) == 24 * len(of_each(groups)), "to the limit of 24 steps"
    for one, other in zip(scale_of(rows.steps, rows.times), scale_of(spelled), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    for score, episode in zip(torch.cat([s.heads for s in reward.score(groups)]), of_each(groups), strict=True):
        seen, left = torch.as_tensor(episode.observations), torch.tensor([24.0 - len(episode)])
        made = reward.worth(seen[:-1], torch.as_tensor(episode.actions)).sum(0)
        assert torch.allclose(score, reward.nothing + made + reward.after(seen[-1:], left)[0], atol=1e-4)


def test_a_walk_is_paid_what_the_judge_gives_it_the_last_step_all_that_would_still_come() -> None:
    policy, reward, _ = fitted(True)
    kept: list[tuple[Case, Outcome]] = []

    def outcome(case: Case, episode: Episode) -> Outcome:
        kept.append((case, Outcome("", data={"episode": ARCHIVE.remember(episode)})))
        return kept[-1][1]

    judge, rng = Says(reward), np.random.default_rng(0)
    assert TASK.cases is not None
    env = Rewarded(TASK.cases, 2, "key", judge, 0.5, policy.kinds, {}, outcome)
    env.reset()
    paid, totals = [0.0, 0.0], []
    for _ in range(40):
        _, rewards, dones, infos = env.step(rng.integers(0, 4, 2))
        for i in range(2):
            paid[i] += float(rewards[i])
            if dones[i]:
                assert not infos[i]["apart"], "nothing was left to settle"
                totals.append(paid[i])
                paid[i] = 0.0
    wanted = [float(judge([Group(case, (one,))])[0][0]) for case, one in kept]
    assert len(totals) > 4 and totals == pytest.approx(wanted, abs=1e-3)


def test_what_is_remembered_is_paid_anew_with_its_ends() -> None:
    """As it was paid when it was made, by the reward model of then."""
    _, reward, _ = fitted(True)
    policy = Acting("dqn", {"learning_starts": 10_000}, absorbing=True).policy(TASK, 0)
    assert isinstance(policy, ActingPolicy) and TASK.cases is not None
    policy.improve(Says(reward), TASK.cases, FEW, "go", lambda step, metrics: None)
    replay = policy._model.replay_buffer
    order = np.lexsort((replay["time"], replay["episode"]))
    paid = replay.rewards[order]
    assert replay["left"].any() and "replay.left" in policy.state()
    env = Rewarded(TASK.cases, 1, "key", Says(reward), FEW.caution, policy.kinds, {}, lambda case, episode: Outcome(""))
    replay.rewards[:] = 0
    policy._pay_anew(env)  # type: ignore[attr-defined]
    assert np.allclose(replay.rewards[: replay.n], paid, atol=1e-4)


def test_an_environments_own_limit_of_time_is_kept() -> None:
    task = rrm.core.validation.plant(replace(TASK, cases=rrm.Pool(cases("CartPole-v1", 2, steps=1000))))
    found = [Acting("ppo", absorbing=on).reward(task, 0).limit for on in (True, False)]  # type: ignore[attr-defined]
    assert found == [500, 0]


def test_a_part_goes_on_for_as_long_as_parts_are_and_one_without_an_end_does_not() -> None:
    _, reward, _ = fitted(True)
    assert TASK.cases is not None
    case = TASK.cases.draw(1, "x")[0]
    left = dict[str, float]()
    for name, steps, first in (("end", 4, 2), ("short", 9, 0), ("before", 4, 0)):
        walk = Episode(np.zeros((7, 4), np.float32), np.zeros(6, np.int64), True)
        part = walk.part(first, steps) if steps < 6 else walk
        group = Group(cut_case(case, steps), (Outcome("", data={"episode": ARCHIVE.remember(part)}),))
        rows = reward.rows([group])
        left[name] = float(rows.times[~rows.made].sum())
    assert left == {"end": 0, "short": 3, "before": 0}


def test_nothing_is_made_up_of_ends_that_nobody_judged() -> None:
    """Nor are weights of a reward model without ends taken for those of one with."""
    _, without, groups = fitted(False)
    maker = Acting("ppo", absorbing=True)
    reward = maker.reward(TASK, 0)
    assert isinstance(reward, StepReward) and TASK.cases is not None
    with pytest.raises(ModelError, match=r"norm\.ends"):
        reward.load(without.state())
    cut = [Episode(np.full((4, 4), i / 9, np.float32), np.zeros(3)) for i in range(2)]
    two = tuple(Outcome(f"{i}", data={"episode": ARCHIVE.remember(one)}) for i, one in enumerate(cut))
    unended = [Group(group.case, two) for group in groups]
    pairs = [rrm.Pair.of(TASK.path, group, 0, 1) for group in unended]
    reward.fit([rrm.Comparison(pair, rrm.Judgement(1.0), 0, "user") for pair in pairs], FEW, "fit")
    assert not reward.absorbs and not reward.after(torch.ones(2, 4), torch.ones(2)).any()
    ended = next(one for one in of_each(groups) if one.ended)
    (score,) = reward.score([Group(groups[0].case, (Outcome("", data={"episode": ARCHIVE.remember(ended)}),))])
    made = reward.worth(torch.as_tensor(ended.observations[:-1]), torch.as_tensor(ended.actions)).sum(0)
    assert torch.allclose(score.heads[0], reward.nothing + made, atol=1e-4)
    assert reward.limit_of(Place.of(groups[0].case)) == 24
