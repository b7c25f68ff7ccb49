"""What a review broke once: prices of clipped actions, updates beyond a limit, outcomes without words, lost arrays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import rrm
from rrm.acting import Acting, EpisodeError, Place, PlaceError, cases
from rrm.acting.episodes import Archive
from rrm.acting.policy import ActingPolicy
from rrm.acting.rewarding import Rewarded
from rrm.command.cli import app
from rrm.core.border import BorderError
from rrm.core.errors import RRMError
from rrm.core.records import Group
from tests.acting.places import FACTORIES, Line
from tests.acting.test_learning import Says, maker, walk
from tests.acting.test_places import task_in


def test_a_tools_version_is_the_same_in_every_process() -> None:
    from rrm_tasks.boat_race import task as boats
    from rrm_tasks.vase import task as vase

    code = (
        "from rrm_tasks.boat_race import task as a; from rrm_tasks.vase import task as b\n"
        "print([x.version for x in (*a.assistants, *b.assistants)])"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [tool.version for tool in (*boats.assistants, *vase.assistants)]
    assert elsewhere.stdout == f"{here}\n" and len(here) == 5


def improved(policy: ActingPolicy, task: Any, judge: Any, **changes: Any) -> tuple[Any, list[dict[str, float]]]:
    """A report, and what was logged."""
    logged: list[dict[str, float]] = []
    settings = task.settings.model_copy(update=changes)
    report = policy.improve(judge, task.cases, settings, "go", lambda step, metrics: logged.append(dict(metrics)))
    return report, logged


def test_a_price_of_nats_holds_back_a_policy_whose_actions_are_clipped() -> None:
    """A mean far out of bounds is far from the start, however its actions are clipped: it must cost, never pay."""
    task = task_in("Line", action="box")
    policy = maker().policy(task, 0)
    assert isinstance(policy, ActingPolicy)
    with torch.no_grad():
        policy._model.policy.action_net.bias += 5.0  # type: ignore[operator]
    before = policy._model.policy.action_net.bias.item()
    report, _ = improved(policy, task, Says(), kl=1.0, steps=6)
    assert report.kl > 12 * 5, "some 12 nats a step"
    assert policy._model.policy.action_net.bias.item() < before


def test_no_update_is_made_beyond_the_limit_of_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_in("Line")
    policy = maker().policy(task, 0)
    assert isinstance(policy, ActingPolicy)
    made: list[int] = []
    kind = type(policy._model)
    update = kind.train
    monkeypatch.setattr(kind, "train", lambda self: (made.append(1), update(self))[1])
    report, logged = improved(policy, task, Says(), max_kl=1e-4, steps=8, lr=0.1)
    assert report.stopped and report.steps == len(made) < 8 and len(logged) == report.steps + 1
    assert policy._model.train.__func__ is not None  # type: ignore[attr-defined]


def test_a_judge_reads_the_words_that_a_user_would() -> None:
    task = task_in("Line")
    policy = maker().policy(task, 0)
    texts: list[str] = []

    class Reads(Says):
        def __call__(self, groups: Sequence[Group]) -> list[torch.Tensor]:
            texts.extend(outcome.text for group in groups for outcome in group.outcomes)
            return super().__call__(groups)

    improved(policy, task, Reads())
    assert texts and all("steps" in text for text in texts)


def test_where_no_episode_ends_no_reward_is_logged_and_nats_are_of_a_whole_episode() -> None:
    task = task_in("Endless", steps=120)
    policy = Acting(factories=FACTORIES, rollout=10).policy(task, 0)
    report, logged = improved(policy, task, Says(None, 7.0), steps=3)
    assert report.first_reward == 0.0 and not any("reward" in row for row in logged)
    assert {row["length"] for row in logged} == {120.0}
    policy = Acting(factories=FACTORIES, rollout=60).policy(task, 0)
    _, logged = improved(policy, task, Says(None, 7.0), steps=4)
    assert [row.get("reward") for row in logged] == [None, 7.0, None, 7.0]


def test_episodes_are_not_forgotten_while_somebody_asks_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrm.acting.episodes.RECENT", 1_000)
    archive = Archive()
    with archive.held():
        names = [archive.remember(walk(n)) for n in range(3, 40)]
        assert all(archive.find(name).name == name for name in names)
    with pytest.raises(EpisodeError, match="from a copy"):
        archive.find(names[0])


class Tells(Line):
    """What it says of an episode is up to a test."""

    says: Any = None

    def describe(self, episode: Any) -> Any:
        return self.says[len(episode)]


@pytest.mark.parametrize("says", [{}, {12: None}], ids=["raises", "says nothing"])
def test_words_of_an_environment_that_are_none_are_an_error(says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTORIES, "Tells", Tells)
    monkeypatch.setattr(Tells, "says", says)
    task = task_in("Tells")
    with pytest.raises(BorderError, match="describe of Tells"):
        maker().policy(task, 0).sample(task.cases.draw(1, "x"), 1, "x")  # type: ignore[union-attr]


class Late(Line):
    """Throws dice of its own, from the third step on."""

    def step(self, action: Any) -> Any:
        seen, reward, *rest = super().step(action)
        return seen, reward + (np.random.default_rng().random() if self.time > 3 else 0.0), *rest


class Silent(Line):
    def step(self, action: Any) -> Any:
        seen, reward, ended, cut, info = super().step(action)
        return seen, None if self.time > 3 else reward, ended, cut, info


class Wordless(Line):
    def step(self, action: Any) -> Any:
        *rest, info = super().step(action)
        return *rest, info if self.time <= 3 else None


@pytest.mark.parametrize(
    ("kind", "says"), [(Late, "same seed and actions"), (Silent, "the reward None"), (Wordless, "NoneType as its info")]
)
def test_what_goes_wrong_later_in_an_episode_is_noticed(
    kind: type[Line], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FACTORIES, "Later", kind)
    task = task_in("Later")
    with pytest.raises(PlaceError, match=says):
        maker().policy(task, 0)


def test_actions_come_in_the_kind_of_their_space_in_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asks(Line):
        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action), (type(action), action)
            return super().step(action)

    monkeypatch.setitem(FACTORIES, "Asks", Asks)
    for action in ("discrete", "box", "multi", "binary"):
        task = task_in("Asks", action=action)
        policy = maker().policy(task, 0)
        assert len(policy.sample(task.cases.draw(1, "x"), 1, "x")) == 1  # type: ignore[union-attr]
        improved(policy, task, Says(), steps=1, kl=0.1)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"rollout": 1}, "rollout=1"), ({"rollout": -5}, "rollout=-5"), ({"options": {"gamma": len}}, "options of ppo")],
    ids=str,
)
def test_options_that_name_no_run_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(RRMError, match=says):
        Acting(**given)


def test_options_that_an_algorithm_does_not_know_are_named() -> None:
    with pytest.raises(RRMError, match=r"ppo does not take the options.*gama"):
        maker(options={"gama": 0.9}).policy(task_in("Line"), 0)
    with pytest.raises(RRMError, match="the cases of Line"):
        cases("Line", 1, kwargs={"length": np.int64(5)})


def test_an_episode_that_is_cut_off_goes_on_where_parts_are_compared() -> None:
    """So that its value is not that of an end."""
    found = {}
    for segment in (0, 5):
        task = task_in("Line", segment=segment)
        policy = maker().policy(task, 0)
        assert isinstance(policy, ActingPolicy) and task.cases is not None
        env = Rewarded(
            task.cases, 1, "key", Says(), 0.5, policy.kinds, FACTORIES,
            lambda case, episode, by=policy: by._outcome(Place.of(case), episode, keep=False),  # type: ignore[misc]
        )  # fmt: skip
        env.reset()
        infos = [env.step(np.array([1]))[3][0] for _ in range(12)]
        found[segment] = infos[-1]["TimeLimit.truncated"]
    assert found == {0: False, 5: True}


def test_hidden_is_for_facts_alone() -> None:
    """No tool of the package opens what is hidden of an episode."""
    for name in ("driving", "walking"):
        text = (Path(__file__).parent.parent.parent / "assistants" / f"{name}.py").read_text()
        assert ".hidden" not in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "cart_pole", "--device", "cpu", "--out", "{}/a"], "ppo acts"),
        (["look", "boat_race"], "write nothing"),
        (["train", "cart_pole", "--model", "embedded", "--out", "{}/b"], "ppo"),
        (["export", "{}/run", "-o", "{}/reward", "--reward-model", "walk"], "read steps"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_command_line_says_what_agents_that_act_cannot(tmp_path: Path, arguments: list[str], says: str) -> None:
    task = task_in("Line")
    settings = task.settings.model_copy(update={"comparisons": 8, "steps": 1})
    rrm.train(replace(task, settings=settings), rrm.BoundedUser(attention=200), maker(), tmp_path / "run")
    done = CliRunner().invoke(app, [one.format(tmp_path) for one in arguments])
    assert done.exit_code == 2 and says in done.stderr, done.output
