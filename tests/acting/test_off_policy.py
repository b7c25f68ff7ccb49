"""Off-policy algorithms: contracts, a replay that is paid anew, the same bits when interrupted, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load, save

import rrm
from rrm.acting import Acting, Place, episode_of
from rrm.acting.algorithms import ALGORITHMS
from rrm.acting.off_policy import OffPolicy
from rrm.acting.remembering import PARTS, Replay
from rrm.acting.rewarding import Rewarded, paid
from rrm.acting.step_reward import StepReward
from rrm.core.errors import ModelError, RRMError
from rrm.core.records import Group
from rrm.loop.training import ACTING
from rrm.testing import check_maker
from tests.acting.places import FACTORIES
from tests.acting.test_learning import SEES, Says, fitted
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted

LEARNS = {"dqn": "discrete", "sac": "box", "td3": "box", "ddpg": "box"}
"""Algorithm -> the actions that it learns."""
SMALL: dict[str, Any] = {
    "learning_starts": 24, "buffer_size": 500, "batch_size": 16, "train_freq": 4, "gradient_steps": 4,
    "policy_kwargs": {"net_arch": [32]},
}  # fmt: skip
"""What takes little time."""


def maker(algorithm: str, **options: Any) -> Acting:
    return Acting(algorithm, {**SMALL, **options}, 24, FACTORIES)


def agent(algorithm: str, task: rrm.Task, **options: Any) -> OffPolicy:
    made = maker(algorithm, **options).policy(task, 0)
    assert isinstance(made, OffPolicy)
    return made


def reward_in(task: rrm.Task) -> StepReward:
    """Of who gets further, from walks at random."""
    return fitted(task)[1]


def improved(policy: OffPolicy, task: rrm.Task, judge: Any, key: str = "go", **changes: Any) -> list[dict[str, float]]:
    logged: list[dict[str, float]] = []
    settings = task.settings.model_copy(update=changes)
    assert task.cases is not None
    policy.improve(judge, task.cases, settings, key, lambda step, metrics: logged.append(dict(metrics)))
    return logged


def test_the_command_line_knows_every_algorithm() -> None:
    assert ACTING == ALGORITHMS


@pytest.mark.parametrize(("algorithm", "action"), LEARNS.items())
def test_the_contracts_are_kept(algorithm: str, action: str) -> None:
    check_maker(maker(algorithm), task_in("Line", action=action), SEES.model_copy())


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "action"), LEARNS.items())
def test_the_agent_follows_what_it_is_paid_for(algorithm: str, action: str) -> None:
    task = task_in("Line", action=action)
    policy = agent(algorithm, task, gamma=0.9, gradient_steps=12)
    (before,) = policy.sample(task.cases.draw(1, "look"), 32, "look")  # type: ignore[union-attr]
    logged = improved(policy, task, Says(reward_in(task)), steps=16)
    (after,) = policy.sample(task.cases.draw(1, "look"), 32, "look")  # type: ignore[union-attr]
    went = [
        np.mean([hidden[-1] - hidden[0] for one in group.outcomes for hidden in [episode_of(one).hidden["x"]]])
        for group in (before, after)
    ]
    assert len(logged) == 16 and abs(went[0]) < 0.4 and went[1] > 0.5, went


class Alike(Says):
    """A judge with a reward model behind it who gives every episode the same."""

    def __call__(self, groups: Sequence[Group]) -> list[torch.Tensor]:
        return [torch.full((len(group.outcomes),), self.value) for group in groups]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No improvement is undone."""
    monkeypatch.setattr(OffPolicy, "_better", lambda *_: True)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("algorithm", ["dqn", "sac"])
def test_what_is_remembered_is_paid_as_it_was_by_the_same_judge_and_otherwise_by_another(algorithm: str) -> None:
    task = task_in("Line", action=LEARNS[algorithm])
    policy, now = agent(algorithm, task), reward_in(task)
    improved(policy, task, Says(now), batch=2)
    replay: Replay = policy._model.replay_buffer
    assert replay.n == 3 * 24 * 2 and len(np.unique(replay["episode"])) == 12
    earned = replay.rewards[np.lexsort((replay["time"], replay["episode"]))]

    def judged_by(judge: Any) -> Any:
        env = Rewarded(task.cases, 1, "k", judge, 0.5, policy.kinds, FACTORIES, lambda case, one: None)  # type: ignore[arg-type, return-value]
        policy._pay_anew(env)
        return replay.rewards[: replay.n]

    other = reward_in(task)
    other.parameters = {name: -value for name, value in other.parameters.items()}
    assert np.abs(judged_by(Says(other)) - earned).max() > 0.1
    assert judged_by(Says(now)) == pytest.approx(earned, abs=1e-4) and np.abs(earned).max() > 0.1


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("how", "judge", "remembered"),
    [("relabel", "steps", 2), ("reset", "steps", 0), ("relabel", "no steps", 1), ("relabel", "findings", 1)],
)
def test_steps_that_cannot_be_paid_anew_are_forgotten(how: Any, judge: str, remembered: int) -> None:
    """`remembered`: of how many improvements the steps are there after the second."""
    task = task_in("Line")
    reward = reward_in(task)
    by = {"steps": Says(reward), "no steps": Says(None, 2.0), "findings": Alike(reward)}[judge]
    if judge == "findings":
        reward.assistants = 1
    policy = agent("dqn", task, buffer_size=1000)
    policy.replay = how
    for key in ("one", "two"):
        improved(policy, task, by, key)
    assert len(policy.state()["replay.time"]) == remembered * 3 * 24 * 4


@pytest.mark.parametrize("algorithm", ["dqn", pytest.param("sac", marks=pytest.mark.slow), "td3"])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, algorithm: str) -> None:
    task = task_in("Line", action=LEARNS[algorithm])
    changes = {"rounds": 2, "comparisons": 20, "steps": 2, "accept": 2, "explore": 0.25, "lr": 1e-3}
    task = replace(task, settings=task.settings.model_copy(update=changes))
    whole = rrm.train(task, Impatient(attention=200), maker(algorithm), tmp_path / "whole")
    with pytest.raises(Interrupted):
        rrm.train(task, Impatient(attention=200, patience=30), maker(algorithm), tmp_path / "cut")
    resumed = rrm.train(task, Impatient(attention=200), maker(algorithm), tmp_path / "cut")
    one, other = whole.agent.state(), resumed.agent.state()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert len(one["replay.time"]) and any(key.startswith("optimizer.") for key in one)
    kept = {path.suffix for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    assert not kept & {".pkl", ".zip", ".pt", ".pth"} and ".safetensors" in kept


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("algorithm", "action"), LEARNS.items())
def test_a_state_that_was_kept_goes_on_as_if_nothing_had_been(algorithm: str, action: str) -> None:
    """Stopped between two improvements; also where the oldest steps have made room."""
    task = task_in("Line", action=action)
    reward, states = reward_in(task), []
    for stop in (False, True):
        policy = agent(algorithm, task, buffer_size=200)
        improved(policy, task, Says(reward), "one")
        if stop:
            body = save({key: value.contiguous() for key, value in policy.state().items()})
            policy = agent(algorithm, task, buffer_size=200)
            policy.load(load(body))
        improved(policy, task, Says(reward), "two")
        states.append(policy.state())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert len(states[0]["replay.time"]) == 200, "as many as there is room for"


def test_a_state_of_another_kind_is_refused() -> None:
    task = task_in("Line", action="box")
    policy = agent("sac", task)
    improved(policy, task, Says(reward_in(task)))
    state = policy.state()
    for change in (
        {"replay.seen": torch.zeros(len(state["replay.time"]), 3)}, {"replay.time": torch.zeros(3, dtype=torch.int64)},
        {"optimizer.critic.0.exp_avg": torch.zeros(1, 1)}, {"optimizer.driver.0.step": torch.zeros(())},
    ):  # fmt: skip
        with pytest.raises(RRMError):
            policy.load({**state, **change})
    with pytest.raises(RRMError, match="a part of the optimizer's state is missing"):
        policy.load({key: value for key, value in state.items() if key != "optimizer.actor.1.exp_avg"})
    with pytest.raises(ModelError, match="buffer_size=8"):
        agent("sac", task, buffer_size=8).load(state)
    with pytest.raises(ModelError, match="do not fit"):
        agent("td3", task).load(state)


def test_an_improvement_that_fails_leaves_all_as_it_was() -> None:
    task = task_in("Line")
    policy = agent("dqn", task)
    improved(policy, task, Says(reward_in(task)))
    before = policy.state()
    with pytest.raises(RRMError, match="finite"):
        improved(policy, task, Says(None, float("nan")), "two")
    after = policy.state()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_before_it_is_improved_an_agent_without_chance_in_it_acts_at_random() -> None:
    for algorithm in ("dqn", "td3"):
        task = task_in("Line", action=LEARNS[algorithm])
        policy = agent(algorithm, task)
        taken = [
            episode_of(one).actions.ravel()
            for group in policy.sample(task.cases.draw(8, "x"), 8, "x")  # type: ignore[union-attr]
            for one in group.outcomes
        ]
        actions = np.concatenate(taken).astype(float)
        low, high = (0, 1) if algorithm == "dqn" else (-1, 1)
        assert actions.min() >= low and actions.max() <= high and abs(actions.mean() - (low + high) / 2) < 0.1
        assert actions.std() > 0.45
        version = policy.version
        improved(policy, task, Says(reward_in(task)))
        assert policy.version != version and policy._model.exploration_rate < 0.1


# --- the replay --------------------------------------------------------------------------------------


def filled(size: int = 10, steps: int = 0) -> Replay:
    """Two environments side by side, episodes of three steps and four; what is seen is a count."""
    replay = Replay(size, spaces.Box(-1e3, 1e3, (1,), np.float32), spaces.Discrete(2), n_envs=2)
    for t in range(steps):
        seen = np.array([[t], [t + 100]], np.float32)
        done = np.array([t % 3 == 2, t % 4 == 3])
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": True}, {"apart": bool(t == 7)}]
        replay.add(seen, seen + 1, np.array([0, 1]), np.array([1.0, 2.0]), done, infos)
    return replay


def test_a_replay_holds_the_last_steps_and_knows_their_episodes() -> None:
    replay = filled(10, 8)
    assert replay.n == 10 and sorted(replay["seen"].ravel()) == [3, 4, 5, 6, 7, 103, 104, 105, 106, 107]
    assert replay["seen"][replay["final"] == 1].ravel().tolist() == [107, 103], "an end that was a cut is none"
    told: list[list[float]] = []

    def rewards(seen: torch.Tensor, after: torch.Tensor, actions: Any, starts: torch.Tensor, left: Any) -> torch.Tensor:
        told.append([*seen.ravel().tolist(), *starts.tolist()])
        return seen[:, 0]

    # the episode that lost its beginning (103), and the one whose end was paid apart (104 to 107)
    assert replay.relabel(rewards) == 5
    assert told == [[3, 4, 5, 6, 7, True, False, False, True, False]]
    assert replay.rewards[: replay.n].tolist() == [3, 4, 5, 6, 7]
    np.random.seed(0)
    drawn = replay.sample(400)
    assert set(drawn.observations.ravel().tolist()) == {3, 4, 5, 6, 7}
    assert torch.equal(drawn.next_observations, drawn.observations + 1)
    assert torch.equal(drawn.rewards, drawn.observations)


def test_a_replay_comes_back_as_it_was() -> None:
    for steps in (0, 2, 5, 8):
        replay, other = filled(10, steps), filled(10)
        other.load(replay.state(), "it")
        again = other.state()
        assert all(torch.equal(value, again[name]) for name, value in replay.state().items()) and set(again) == {*PARTS}
        assert other["seen"].ravel().tolist() == sorted(other["seen"].ravel(), key=lambda x: (x % 100, x))


def test_episodes_are_paid_one_after_the_other_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands before them."""
    task = task_in("Line")
    reward = reward_in(task)
    seen, actions = torch.rand(9, 2), torch.randint(2, (9,))
    starts = torch.tensor([True, *[False] * 3, True, *[False] * 4])
    whole = paid(reward, 0.5, seen, actions, starts)
    alone = paid(reward, 0.5, seen[4:], actions[4:], starts[4:])
    assert torch.allclose(whole[4:], alone, atol=1e-6)
    heads = reward.nothing + reward.worth(seen[4:], actions[4:]).sum(0)
    assert float(alone.sum()) == pytest.approx(float(heads.mean() - 0.5 * heads.std(correction=0)), abs=1e-4)


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "action", "says"),
    [
        ("dqn", "box", r"walk in Line: dqn learns one choice of several.*take ppo, a2c, sac, td3, ddpg"),
        ("dqn", "multi", "MultiDiscrete.*take ppo, a2c$"), ("dqn", "binary", "MultiBinary.*take ppo, a2c$"),
        ("sac", "discrete", "sac learns continuous actions.*take ppo, a2c, dqn$"),
        ("td3", "multi", "td3 learns continuous"), ("ddpg", "binary", "ddpg learns continuous"),
    ],
)  # fmt: skip
def test_actions_that_an_algorithm_cannot_learn_are_an_error(algorithm: str, action: str, says: str) -> None:
    with pytest.raises(RRMError, match=says):
        maker(algorithm).policy(task_in("Line", action=action), 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_steps": 3}, "option n_steps"), ({"learning_rate": 0.1}, "option learning_rate"),
        ({"gama": 1}, "does not take the options"), ({"optimize_memory_usage": True}, "optimize_memory_usage"),
        ({"buffer_size": 0}, "buffer_size=0"), ({"action_noise": "much"}, "action_noise='much'"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_mean_nothing_here_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RRMError, match=says):
        maker("td3", **options).policy(task_in("Line", action="box"), 0)


def test_nats_that_nobody_counts_have_no_price() -> None:
    task = task_in("Line")
    priced = replace(task, settings=task.settings.model_copy(update={"kl": 0.1}))
    with pytest.raises(RRMError, match=r"walk: kl=0.1.*set kl=0"):
        maker("dqn").policy(priced, 0)
    with pytest.raises(RRMError, match="set kl=0"):
        improved(agent("dqn", task), task, Says(), kl=0.1)


@pytest.mark.parametrize("given", [{"replay": "forget"}, {"places": 0}, {"places": 65}, {"places": True}], ids=str)
def test_what_a_maker_cannot_do_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RRMError, match=next(iter(given))):
        Acting("dqn", **given)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sac"])
def test_a_pendulum_of_gymnasiums_is_learned_in(tmp_path: Path, algorithm: str) -> None:
    """Two rounds; that it is done, not that it is done well."""

    def facts(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Fact]:
        up = episode_of(outcome).observations[1:, 0].mean()
        return [rrm.Fact(f"up{n}", "up", rrm.Sealed(bool(up > n / 10)), cost=0) for n in range(-9, 10)]

    settings = rrm.Settings(
        rounds=2, cases=4, comparisons=16, steps=2, batch=2, kl=0.0, max_kl=1e9, accept=4, lr=1e-3, reward_epochs=5
    )
    task = rrm.Task(
        "swing", "Which swing is further up?", facts, settings=settings, aspects=("up",),
        cases=rrm.Pool(rrm.acting.cases("Pendulum-v1", 8, steps=30)),
    )  # fmt: skip
    done = rrm.train(task, rrm.BoundedUser(), algorithm, tmp_path)
    (group,) = done.agent.sample(task.cases.draw(1, "x"), 1, "x")  # type: ignore[union-attr]
    actions = episode_of(group.outcomes[0]).actions
    assert actions.shape == (30, 1) and np.abs(actions).max() <= 2 and "did" in group.outcomes[0].text
    assert Place.of(group.case).env == "Pendulum-v1"
