"""The matrix of approaches and challenges: what its figures and verdicts say of runs whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rrm import Settings, Task
from rrm.measure.experiments.challenges import (
    APPROACHES,
    FIGURES,
    TRAINED,
    WITH_ALL,
    by_arm,
    effect,
    right_share,
    summarize,
    verdict,
)
from rrm.users.bounded import BoundedUser
from rrm.worlds.games import PlayoutUser
from rrm_tasks.moves import moves
from rrm_tasks.paper import paper

NAMED = {one.name: one for one in APPROACHES}
BETTER = {"amount": 0.1, "distribution": 0.1, "gaming": -1.0, "unacceptable": -0.2, "gap": -0.5}


def result(seed: int, **changes: dict[str, float]) -> dict[str, Any]:
    """Figures of all arms; `changes`: approach -> what its arm has otherwise."""
    more = ["unbearable", "distribution before", "truth before", "judgements", "attention", "kl"]
    base = dict.fromkeys([*FIGURES, *more], 0.5)
    noise = {name: value + 0.01 * seed for name, value in base.items()}
    names = ["all", TRAINED, *(one.name for one in APPROACHES if one.without is not None or one.added is not None)]
    return {name: noise | {k: noise[k] + v for k, v in changes.get(name, {}).items()} for name in names}


def test_the_list_is_the_papers() -> None:
    assert sorted({one.number for one in APPROACHES}) == list(range(1, 11))
    assert all(len(one.meets) == len(FIGURES) and {*one.meets} <= {*"xo-"} for one in APPROACHES)
    once = {one.number: one.meets for one in APPROACHES}
    assert all(one.meets == once[one.number] for one in APPROACHES)
    assert [sum(meets[k] == "x" for meets in once.values()) for k in range(5)] == [4, 4, 2, 5, 1]


def test_what_a_tree_cannot_have_is_left_out() -> None:
    """In the games outcomes have no parts, the user makes no remarks, and the reward model's trunk is trained anyway;
    what the tree's own settings do without has nothing to be taken away."""

    def arms(task: Task, user: Any, **changes: Any) -> set[str]:
        changed = replace(task, settings=task.settings.model_copy(update=changes))
        return {*by_arm(SimpleNamespace(task=changed, user=user, quick=False))}  # type: ignore[arg-type]

    every = {"all", TRAINED, *(one.name for one in APPROACHES)} - {"model-based"}
    assert arms(paper(), BoundedUser) == every
    told = {"natural language", "side-constraints (learned)"}
    assert arms(moves(), PlayoutUser, surprise=True) == every - told - {TRAINED, "hierarchical feedback"}
    assert arms(moves(), BoundedUser) == every - {TRAINED, "hierarchical feedback", "inductive bias"}
    assert arms(moves(), PlayoutUser, heads=1, surprise=True) == arms(moves(), PlayoutUser, surprise=True) - {
        "uncertainty"
    }


def test_every_setting_that_is_taken_away_exists_and_changes_something() -> None:
    settings = Settings(**WITH_ALL)
    for one in APPROACHES:
        for change in filter(None, (one.without, one.added)):
            changes = dict(change(settings))
            less = Settings(**(settings.model_dump() | changes))
            assert all(getattr(less, name) != getattr(settings, name) for name in changes)


def test_frozen_feedback_is_given_as_many_judgements() -> None:
    settings = Settings(rounds=3, comparisons=50, accept=10)
    (online,) = [one for one in APPROACHES if one.name == "online feedback"]
    assert online.without is not None
    less = settings.model_copy(update=dict(online.without(settings)))
    asked = [sum((s.comparisons + s.accept) for k in range(3) if s.asks(k)) for s in (settings, less)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("challenge", FIGURES)
def test_what_makes_a_figure_worse_when_it_is_taken_away_helps(challenge: str) -> None:
    """Whichever way the figure counts."""
    worse = {challenge: -BETTER[challenge]}
    results = [result(seed, uncertainty=worse) for seed in range(5)]
    found = effect(results, NAMED["uncertainty"], challenge)
    assert found["mean"] == pytest.approx(abs(BETTER[challenge])) and verdict(found) == "helps"
    turned = [result(seed, uncertainty={challenge: BETTER[challenge]}) for seed in range(5)]
    assert verdict(effect(turned, NAMED["uncertainty"], challenge)) == "worse"
    assert verdict(effect(results, NAMED["inductive bias"], challenge)) == "no effect seen"
    assert verdict(effect(results[:1], NAMED["uncertainty"], challenge)) == "one seed: not known"


@pytest.mark.parametrize("challenge", FIGURES)
def test_what_makes_a_figure_better_when_it_is_added_helps(challenge: str) -> None:
    one = NAMED["side-constraints (learned)"]
    figure = one.figures.get(challenge, challenge)
    results = [result(seed, **{one.name: {figure: BETTER[challenge]}}) for seed in range(5)]
    assert effect(results, one, challenge)["mean"] == pytest.approx(abs(BETTER[challenge]))
    assert verdict(effect(results, one, challenge)) == "helps"


def test_where_the_trunk_is_trained_anyway_notes_are_added_to_the_run_with_all() -> None:
    results = [result(seed, **{"natural language": {"amount": 0.1}, TRAINED: {"amount": -0.3}}) for seed in range(5)]
    notes = NAMED["natural language"]
    assert effect(results, notes, "amount")["mean"] == pytest.approx(0.4)
    alike = [{arm: one for arm, one in each.items() if arm != TRAINED} for each in results]
    assert effect(alike, notes, "amount")["mean"] == pytest.approx(0.1)


def test_the_page_counts_listed_cells_and_names_what_is_missing() -> None:
    results = [result(seed, uncertainty={"amount": -0.1, "gap": 0.5}) for seed in range(5)]
    summary = summarize(results)
    assert "1 help, 0 are worse" in summary.notes[0]  # of uncertainty, "gap" is not listed
    assert {row["so"] for row in summary.rows if row["approach"] == "9 uncertainty"} == {"helps", "no effect seen"}
    assert "6 model-based" in summary.limits[0] and "9 uncertainty" not in summary.limits[0]


def test_of_a_figure_that_no_seed_has_nothing_is_known() -> None:
    """Agents that always do the same have no pairs that a reward model could be right about."""
    results = [{arm: {**one, "distribution": None} for arm, one in result(seed).items()} for seed in range(5)]
    notes = summarize(results).notes
    listed = sum(one.meets[1] != "-" for one in APPROACHES if one.number != 6)
    assert f"of {listed} nothing is known." in notes[0]
    assert "1 online feedback against distribution: not known." in notes


def test_a_reward_model_isright_share_where_it_orders_truly_differing_outcomes() -> None:
    truth = np.array([[0.0, 1.0, 0.5, -1.0], [0.3, 0.3, 0.3, 0.3]])
    assert right_share(truth, truth) == 1.0 and right_share(-truth, truth) == 0.0
    assert right_share(np.zeros_like(truth), truth) == 0.5
    assert np.isnan(right_share(truth[1:], truth[1:]))  # nothing differs
    last = np.array([[0.0, 1.0, 0.5, 9.0], [0.0] * 4])  # an outcome without form is nobody's pair
    assert right_share(last, truth) == 1.0
