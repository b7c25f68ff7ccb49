"""When the user is asked: in every round, in the first only, in every N-th."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rrm import BoundedUser, Judgement, Pair, Settings, Task, train
from rrm.core.errors import RRMError
from rrm.core.judgements import Event
from rrm.core.parties import Watched
from rrm.core.settings import SettingError
from rrm.core.validation import faults, plant
from rrm.learning.text_maker import IMPROVERS
from rrm.loop.cautious import CautiousJudge
from rrm.loop.lasting import needed
from rrm.loop.planning import extents, works
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.store.store import Store
from tests import mini


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


@pytest.mark.parametrize(
    "feedback, asked", [("online", range(7)), ("frozen", [0]), ("refresh=1", range(7)), ("refresh=3", [0, 3, 6])]
)
def test_the_rounds_in_which_the_user_is_asked(feedback: str, asked: Sequence[int]) -> None:
    assert [round for round in range(7) if Settings(feedback=feedback).asks(round)] == list(asked)


@pytest.mark.parametrize("wrong", ["never", "refresh", "refresh=0", "refresh=-1", "Frozen", "refresh=2 "])
def test_other_words_are_errors(wrong: str) -> None:
    with pytest.raises(SettingError, match="feedback="):
        Settings(feedback=wrong)


def tree(feedback: str, rounds: int = 3) -> Task:
    task = replace(mini.tree(), assistants=())
    changes = {"feedback": feedback, "rounds": rounds, "max_tokens": 48}
    return replace(task, settings=task.settings.model_copy(update=changes))


def weights(out: Path, part: str) -> dict[int, str]:
    """Round -> a digest of a checkpoint."""
    store = Store(out / "run.db")
    try:
        return {round: digest for (round, kind), (_, digest) in store.checkpoints("paper").items() if kind == part}
    finally:
        store.close()


@pytest.fixture(scope="module")
def frozen(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A run whose user is asked in the first round only, and what was told of it."""
    out, events = tmp_path_factory.mktemp("frozen") / "run", list[Event]()
    train(tree("frozen"), BoundedUser(), backbone, out, watch=[lambda node, event: events.append(event)])
    return out, events


@pytest.mark.parametrize("feedback, asked", [("frozen", {0}), ("refresh=2", {0, 2}), ("online", {0, 1, 2})])
def test_between_two_judgements_the_reward_model_stays_and_the_agent_goes_on(
    backbone: Backbone, tmp_path: Path, frozen: tuple[Path, list[Event]], feedback: str, asked: set[int]
) -> None:
    out, events = frozen
    if feedback != "frozen":
        out, events = tmp_path, []
        train(tree(feedback), BoundedUser(), backbone, out, watch=[lambda node, event: events.append(event)])
    store = Store(out / "run.db")
    assert {round for _, round in store.rounds()} == asked
    store.close()
    assert {event.round for event in events if event.phase in ("fit", "compare", "accept")} == asked
    assert {event.round for event in events if event.phase == "improve"} == {0, 1, 2}
    reward = weights(out, "reward")
    assert [reward[round] == reward[round - 1] for round in (1, 2)] == [round not in asked for round in (1, 2)]
    if feedback == "frozen":  # nobody undoes what it learned
        assert len(set(weights(out, "agent").values())) == 3


class Interrupted(RuntimeError):
    """The process is gone."""


@pytest.mark.parametrize("phase", ["improve", "done"])
def test_a_run_goes_on_in_a_round_in_which_nobody_is_asked(
    backbone: Backbone, tmp_path: Path, frozen: tuple[Path, list[Event]], phase: str
) -> None:
    def kill(node: object, event: Event) -> None:
        if (event.phase, event.round) == (phase, 1):
            raise Interrupted

    task = tree("frozen")
    with pytest.raises(Interrupted):
        train(task, BoundedUser(), backbone, tmp_path, watch=[kill])
    train(task, BoundedUser(), backbone, tmp_path)
    for part in ("agent", "reward"):
        assert weights(frozen[0], part) == weights(tmp_path, part)


def test_a_plan_counts_what_a_run_asks(backbone: Backbone, tmp_path: Path) -> None:
    task = plant(tree("refresh=2", rounds=4))
    (work,) = works(task, extents(task, lambda text: len(backbone.render(text))), frozen=True)
    settings = task.settings
    assert work.judgements == 2 * (settings.comparisons + settings.accept) and work.rounds == 4
    assert work.sampled("judge") == 2 * settings.cases * settings.outcomes
    assert work.sampled("improve") == 4 * settings.steps * settings.batch * settings.group


def test_what_is_settled_is_told_by_the_last_fit_if_nobody_will_be_asked_again() -> None:
    """Against a reward model that stays the same nothing more is gained; that is no end while the user is still to be
    asked."""
    settings = Settings(rounds=2, most_rounds=6, until=0.8, feedback="frozen")
    history = [
        (0, "fit", 0, "holdout_accuracy", 0.9), (0, "improve", 0, "reward", 0.0), (0, "improve", 1, "reward", 1.0),
        (1, "improve", 0, "reward", 1.0), (1, "improve", 1, "reward", 1.0),
    ]  # fmt: skip
    assert needed(settings, 2, lambda: history) == 2
    again = settings.model_copy(update={"feedback": "refresh=2"})
    assert needed(again, 2, lambda: history) == 3
    worse = [(0, "fit", 0, "holdout_accuracy", 0.5), *history[1:]]
    assert needed(settings, 2, lambda: worse) == 3


def test_a_user_who_is_not_asked_may_be_unable_to_judge(backbone: Backbone, tmp_path: Path) -> None:
    """Frozen feedback needs nobody after the first round."""

    settings = tree("frozen").settings
    left = [0]

    class Leaving(BoundedUser):
        def judge(self, task: Task, pair: Pair) -> Judgement:
            left[0] -= 1
            if left[0] < 0:
                raise RRMError("nobody is there any more")
            return super().judge(task, pair)

    left[0] = settings.comparisons + settings.accept  # one round's
    train(tree("frozen"), Leaving(), backbone, tmp_path / "frozen")
    left[0] = settings.comparisons + settings.accept
    with pytest.raises(RRMError, match="nobody is there"):
        train(tree("online"), Leaving(), backbone, tmp_path / "online")


# --- an adversary's outcomes -------------------------------------------------------------------------------------


def with_adversary(**changes: object) -> Task:
    task = tree("online", rounds=2)
    update = {"adversary": 0.34, "outcomes": 3, "comparisons": 24, "accept": 0} | changes
    return replace(task, settings=Settings(**(task.settings.model_dump() | update)))


def judged(out: Path, round: int) -> set[str]:
    """Ids of the outcomes that the user was asked about."""
    store = Store(out / "run.db")
    try:
        return {outcome.id for c in store.comparisons("paper", round) for outcome in (c.a, c.b)}
    finally:
        store.close()


@dataclass(frozen=True)
class Opposed:
    """A run with an adversary: what was told of it, and the agent's version at the end of (round, phase)."""

    out: Path
    events: list[Event] = field(default_factory=list)
    versions: dict[tuple[int, str], str] = field(default_factory=dict)

    def watch(self, node: Watched, event: Event) -> None:
        self.events.append(event)
        if event.phase in ("done", "fit"):
            self.versions[event.round, event.phase] = node.agent.version


@pytest.fixture(scope="module")
def opposed(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Opposed:
    run = Opposed(tmp_path_factory.mktemp("opposed") / "run")
    train(with_adversary(), BoundedUser(), backbone, run.out, watch=[run.watch])
    return run


def test_an_adversary_is_judged_from_the_second_round_on_and_leaves_the_agent_as_it_was(
    backbone: Backbone, tmp_path: Path, opposed: Opposed
) -> None:
    events, versions = opposed.events, opposed.versions
    (found,) = [event for event in events if event.phase == "adversary"]
    assert found.round == 1 and {"first_reward", "last_reward", "kl"} <= set(found.metrics)
    assert versions[0, "done"] == versions[1, "fit"] != versions[1, "done"]
    train(with_adversary(adversary=0.0), BoundedUser(), backbone, tmp_path)
    assert judged(opposed.out, 0) == judged(tmp_path, 0)  # there is no reward model to overrate anything yet
    assert judged(opposed.out, 1) - judged(tmp_path, 1)


def test_an_adversary_has_nothing_that_holds_it_back(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is optimized for the ensemble's mean, without a price of KL or an end by it, and then forgotten."""
    given: list[tuple[float, float, float]] = []
    improve = IMPROVERS["rloo"]

    def noted(agent: TextAgent, judge: CautiousJudge, cases: object, settings: Settings, *more: object) -> object:
        given.append((settings.kl, judge._caution, settings.max_kl))
        return improve(agent, judge, cases, settings, *more)

    monkeypatch.setitem(IMPROVERS, "rloo", noted)
    task = with_adversary(kl=0.05, caution=0.5, max_kl=8.0)
    train(task, BoundedUser(), backbone, tmp_path)
    assert given[0] == given[2] == (0.05, 0.5, 8.0) and given[1][:2] == (0.0, 0.0) and given[1][2] > 1e6


def test_a_run_with_an_adversary_resumes_to_the_bit(backbone: Backbone, tmp_path: Path, opposed: Opposed) -> None:
    def kill(node: object, event: Event) -> None:
        if event.round == 1 and event.phase == "fit" and event.metrics:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(with_adversary(), BoundedUser(), backbone, tmp_path, watch=[kill])
    train(with_adversary(), BoundedUser(), backbone, tmp_path)
    for part in ("agent", "reward"):
        assert weights(opposed.out, part) == weights(tmp_path, part)


def test_a_frozen_node_that_refreshes_its_assistants_is_warned_of() -> None:
    task = mini.tree()
    settings = task.settings.model_copy(update={"feedback": "frozen", "refresh": 1})
    found = [str(fault) for fault in faults(plant(replace(task, settings=settings))) if "refresh" in str(fault)]
    assert len(found) == 1 and "feedback=frozen" in found[0]
    alone = plant(replace(task, assistants=(), settings=settings))
    assert not [fault for fault in faults(alone) if "refresh" in str(fault)]


@pytest.mark.parametrize(
    "changes, level, said",
    [
        ({"adversary": 0.7, "explore": 0.34}, "error", "leave none of 3 outcomes"),
        ({"rounds": 1}, "warning", "does nothing with rounds=1"),
        ({"feedback": "frozen"}, "warning", "does nothing with feedback=frozen"),
        ({"adversary": 0.2}, "warning", "adversary=0.2 of 3 outcomes is none"),
        ({}, "", ""),
    ],
)
def test_settings_that_do_not_go_together_are_said(changes: dict[str, object], level: str, said: str) -> None:
    found = [fault for fault in faults(plant(with_adversary(**changes))) if "adversary" in str(fault)]
    assert [fault.level for fault in found] == ([level] if level else []) and all(said in str(f) for f in found)
