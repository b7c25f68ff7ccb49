"""A chain of one task, and what keeps its levels sound: rounds until one has converged, questions asked again,
outcomes of the beginning among those of now."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import rrm
from rrm.core.errors import RRMError, TaskError
from rrm.core.judgements import Event, FitReport
from rrm.core.parties import Watched
from rrm.store.store import Store
from tests.bandits import Impatient, Interrupted, example
from tests.test_resume import contents

BANDIT = example("custom_agent")


def frame(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Case]:
    return [rrm.Case(f"reply to {BANDIT.arm_of(outcome)}")]


def findings(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Finding]:
    return [rrm.Finding("pays", BANDIT.arm_of(outcome) == 2)]


def pull(**changes: Any) -> rrm.Task:
    settings = BANDIT.pull.settings.model_copy(update={"accept": 0} | changes)
    return replace(BANDIT.pull, frame=frame, findings=findings, covers=("pay",), settings=settings)


def train(task: rrm.Task, out: Path, user: Any = None, maker: Any = None, **how: Any) -> rrm.Assistant:
    return rrm.train(task, user or rrm.BoundedUser(attention=4), maker or BANDIT.Bandits(), out, **how)


def judged(out: Path, task: str) -> list[rrm.Comparison]:
    store = Store(out / "run.db")
    try:
        return store.comparisons(task)
    finally:
        store.close()


# --- the chain -----------------------------------------------------------------------------------------


def test_a_chain_is_a_tree_of_one_task_trained_from_the_first_step_up(tmp_path: Path) -> None:
    events: list[Event] = []
    root = train(rrm.climb(pull(), 2, "helper"), tmp_path, watch=[lambda node, event: events.append(event)])
    order = list(dict.fromkeys(event.task for event in events if event.phase == "done"))
    assert order == ["pull/helper/helper", "pull/helper", "pull"]
    assert judged(tmp_path, "pull")[0].assistance_a[0].assistant == "pull/helper"
    assert root.helpers[0].helpers[0].task.path == "pull/helper/helper" and not root.helpers[0].helpers[0].helpers


def test_each_step_is_trained_on_the_tasks_own_cases_or_on_framed_ones(tmp_path: Path) -> None:
    for cases, beginning in (("own", "machine"), ("framed", "reply to")):
        out = tmp_path / cases
        train(rrm.climb(pull(), 1, "helper", cases), out)  # type: ignore[arg-type]
        assert {c.case.prompt.rsplit(" ", 1)[0] for c in judged(out, "pull/helper")} == {beginning}


def test_a_step_can_begin_with_the_weights_of_the_step_below(tmp_path: Path) -> None:
    begun: dict[tuple[str, bool], Any] = {}

    def watch(node: Watched, event: Event) -> None:
        if event.phase == "sample" and event.round == 0 and event.of:
            begun.setdefault((node.task.path, warm), node.agent.state()["logits"].clone())

    for warm in (False, True):
        root = train(rrm.climb(pull(), 1, "helper", warm=warm), tmp_path / str(warm), watch=[watch])
        learned = root.helpers[0].agent.state()["logits"]
        assert bool((begun["pull", warm] == learned).all()) == warm
        assert not begun["pull/helper", warm].any(), "the first step has nobody to begin from"


def test_a_chain_goes_on_from_a_finished_assistant_under_a_new_parent(tmp_path: Path) -> None:
    first = train(pull(), tmp_path / "first")
    root = train(rrm.climb(pull(), 1, "helper", below=first), tmp_path / "second")
    assert root.helpers[0].helpers[0].agent is first.agent
    shown = judged(tmp_path / "second", "pull/helper")[0].assistance_a[0]
    assert shown.assistant == first.task.path and shown.answers[0].findings


@pytest.mark.parametrize("warm", [False, True])
def test_a_chain_interrupted_anywhere_ends_as_one_that_was_not(tmp_path: Path, warm: bool) -> None:
    tree = rrm.climb(pull(explore=0.5, repeat=True, until=0.9, most_rounds=3), 2, "helper", warm=warm)
    whole = Impatient(attention=4)
    train(tree, tmp_path / "whole", whole)
    total = whole.asked.total()
    for patience in (1, total // 3, total // 2, total - 1):
        out, first, second = tmp_path / f"{patience}", Impatient(attention=4, patience=patience), Impatient(attention=4)
        with suppress(Interrupted):
            train(tree, out, first)
        train(tree, out, second)
        assert first.asked + second.asked == whole.asked, "nothing is asked twice, nothing is left out"
        assert contents(out) == contents(tmp_path / "whole")


def test_a_subtask_with_bad_cases_of_its_own_is_refused() -> None:
    helper = replace(pull(), name="helper", cases=rrm.Pool(()))
    with pytest.raises(TaskError, match="pull/helper: its cases are empty"):
        rrm.check(replace(pull(), assistants=(helper,)))


def test_a_warm_start_from_a_policy_that_is_certain_says_what_to_do(tmp_path: Path) -> None:
    first = train(pull(lr=500.0, steps=4), tmp_path / "first")
    with pytest.raises(RRMError, match=r"all outcomes .* are alike.*set explore, or begin=start"):
        train(rrm.climb(pull(), 0, warm=True, below=first), tmp_path / "second")
    train(rrm.climb(pull(explore=0.5), 0, warm=True, below=first), tmp_path / "third")


# --- until a level has converged -----------------------------------------------------------------------


class Told(BANDIT.WinRates):  # type: ignore[name-defined, misc]
    """Says of each fit what it is told to say."""

    accuracies: ClassVar[list[float]] = []

    def fit(self, comparisons: Any, settings: Any, key: str, progress: Any = None) -> FitReport:
        report = super().fit(comparisons, settings, key, progress)
        return replace(report, holdout_accuracy=self.accuracies.pop(0))


class Telling(BANDIT.Bandits):  # type: ignore[name-defined, misc]
    def reward(self, task: rrm.Task, seed: int) -> Told:
        return Told()


@pytest.mark.parametrize(("accuracies", "settled", "rounds"), [
    ([0.5, 0.5, 0.97, 0.97, 0.97], 9.0, 3),  # as soon as the reward model is good enough
    ([0.97, 0.97, 0.97, 0.97, 0.97], 9.0, 2),  # not before the rounds that were asked for
    ([0.5] * 5, 9.0, 4),  # never beyond the limit
    ([0.97] * 5, 0.0, 4),  # nor while the agent still gains anything
])  # fmt: skip
def test_a_node_goes_on_until_it_has_converged(
    tmp_path: Path, accuracies: list[float], settled: float, rounds: int
) -> None:
    Told.accuracies = [*accuracies]
    train(pull(until=0.9, most_rounds=4, rounds=2, settled=settled), tmp_path, maker=Telling())
    assert len({c.round for c in judged(tmp_path, "pull")}) == rounds


def test_a_policy_that_is_certain_ends_its_node_not_the_run(tmp_path: Path) -> None:
    sure = pull(rounds=8, lr=500.0, steps=4)
    root = train(rrm.climb(sure, 1, "helper"), tmp_path)
    assert root.reward is not None
    for path in ("pull", "pull/helper"):
        assert {c.round for c in judged(tmp_path, path)} < set(range(8)), "it ended before its rounds were over"


class Certain(BANDIT.Bandits):  # type: ignore[name-defined, misc]
    def policy(self, task: rrm.Task, seed: int) -> Any:
        policy = super().policy(task, seed)
        policy.logits[0] = 1e6
        return policy


def test_one_that_is_certain_from_the_start_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RRMError, match="all outcomes sampled in round 0 are alike"):
        train(pull(), tmp_path, maker=Certain())


# --- questions asked again, and the beginning among the outcomes ---------------------------------------


def test_a_pair_is_asked_as_often_as_it_comes_up(tmp_path: Path) -> None:
    train(pull(comparisons=40, outcomes=4), tmp_path / "once")
    train(pull(comparisons=40, outcomes=4, repeat=True), tmp_path / "again")
    once, again = judged(tmp_path / "once", "pull"), judged(tmp_path / "again", "pull")
    assert len(again) > len(once) and all(c.pair.again == 0 for c in once)
    assert len({c.id for c in again}) == len(again), "each is a question of its own"
    asked = Counter((c.case.id, *sorted((c.a.id, c.b.id))) for c in again)
    assert max(c.pair.again for c in again) == max(asked.values()) - 1
    assert {c.round for c in again if c.pair.again} >= {1}, "counted over rounds"


def test_what_a_policy_gave_up_still_comes_up(tmp_path: Path) -> None:
    def arms(out: Path) -> set[int]:
        return {BANDIT.arm_of(one) for c in judged(out, "pull") if c.round == 2 for one in (c.a, c.b)}

    sure: dict[str, Any] = {"rounds": 3, "lr": 500.0, "steps": 4}
    train(pull(**sure), tmp_path / "forgets")
    train(pull(**sure, explore=0.5), tmp_path / "explores")
    assert not arms(tmp_path / "forgets") and len(arms(tmp_path / "explores")) > 1


def test_a_warm_chain_begins_with_the_assistant_it_goes_on_from(tmp_path: Path) -> None:
    first = train(pull(), tmp_path / "first")
    for levels in (0, 1):
        tree = rrm.climb(pull(steps=1, lr=1e-9, rounds=1), levels, "helper", warm=True, below=first)
        root = train(tree, tmp_path / str(levels))
        lowest = root if not levels else root.helpers[0]
        drift = lowest.agent.state()["logits"] - first.agent.state()["logits"]
        assert float(drift.abs().max()) < 1e-6


def test_what_is_no_chain_is_refused() -> None:
    with pytest.raises(TaskError, match="without assistants of its own"):
        rrm.climb(replace(pull(), assistants=(replace(pull(), name="other", cases=None),)), 1)
    with pytest.raises(TaskError, match="0 or more levels"):
        rrm.climb(pull(), -1)


def test_rounds_that_a_parents_refresh_adds_come_after_those_that_convergence_took(tmp_path: Path) -> None:
    Told.accuracies = [0.5, 0.5, 0.97, *[0.97] * 20]  # the helper converges in its third round
    helper = replace(pull(until=0.9, most_rounds=6, rounds=1, settled=9.0, lr=1e-6), name="helper", cases=None)
    root = replace(pull(rounds=2, refresh=1), assistants=(helper,))
    train(root, tmp_path, maker=Telling())
    assert {c.round for c in judged(tmp_path, "pull/helper")} == {0, 1, 2, 3}
