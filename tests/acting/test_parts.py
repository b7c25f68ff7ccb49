"""Parts of episodes and whole ones, judged at the same node and learned by one reward model (the setting `parts`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rrm
from rrm.acting import Acting, Place, PlaceError, episode_of
from rrm.acting.episodes import ARCHIVE
from rrm.core.judgements import Comparison, Judgement
from rrm.core.parties import Dividing
from rrm.core.parts import whole_case
from rrm.core.records import Group, Outcome
from rrm.core.task import Assistant
from rrm.core.validation import faults, plant
from rrm.learning.heldout import hold_out
from rrm.measure.oracle import is_true
from rrm.store.films import path_of, read
from rrm.store.store import Store
from rrm_tasks.boat_race import boat_race
from rrm_tasks.boat_race import facts as race_facts
from rrm_tasks.vase import vase
from tests import mini
from tests.acting.places import FACTORIES
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted
from tests.test_resume import contents

PARTS: dict[str, Any] = {"parts": 0.5, "part_steps": 5}


def task(env: str = "Line", **changes: Any) -> rrm.Task:
    """A walk of 12 steps."""
    tree = task_in(env)
    few = {"comparisons": 16, "rounds": 2, "steps": 1, "reward_epochs": 5}
    return replace(tree, settings=tree.settings.model_copy(update=few | changes))


def maker() -> Acting:
    return Acting(factories=FACTORIES, rollout=24)


def judged(folder: Path) -> list[Comparison]:
    """All comparisons of a run."""
    store = Store(folder / "run.db")
    try:
        return list(store.comparisons("walk"))
    finally:
        store.close()


def sampled(tree: rrm.Task, n: int = 3) -> tuple[Any, list[Group]]:
    """A policy and outcomes of it."""
    policy = maker().policy(plant(tree), 0)
    assert tree.cases is not None
    return policy, policy.sample(tree.cases.draw(4, "some"), n, "k")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assistant, list[Comparison]]:
    """A root that was trained, and what was judged."""
    folder = tmp_path_factory.mktemp("parts")
    root = rrm.train(task(**PARTS, holdout=0.0), rrm.BoundedUser(attention=40), maker(), folder)
    return root, judged(folder)


def test_both_kinds_are_asked_in_the_shares_that_were_set(run: tuple[Assistant, list[Comparison]]) -> None:
    _, found = run
    for round in range(2):
        steps = [len(episode_of(one.a)) for one in found if one.round == round and not one.purpose]
        assert (steps.count(5), steps.count(12), len(steps)) == (8, 8, 16)
    part = Place.of(next(one.case for one in found if len(episode_of(one.a)) == 5))
    assert part.segment == 5


def test_a_part_is_of_its_whole_and_all_are_alike_likely() -> None:
    policy, groups = sampled(task(), 40)
    assert isinstance(policy, Dividing)
    firsts = []
    for whole, parts in zip(groups, policy.divide(groups, 5, "here"), strict=True):
        assert parts.case.id != whole.case.id and whole_case(parts.case) == whole.case.id
        for one, other in zip(whole.outcomes, parts.outcomes, strict=True):
            seen, part = episode_of(one).observations, episode_of(other)
            firsts += [n for n in range(8) if (seen[n : n + 6] == part.observations).all()]
            assert len(part) == 5
    assert set(firsts) == set(range(8)) and max(firsts.count(n) for n in range(8)) < 40
    again = policy.divide(groups, 5, "here")
    assert [g.outcomes for g in again] == [g.outcomes for g in policy.divide(groups, 5, "here")]
    assert all(
        one.data["episode"] == other.data["episode"]
        for group, parts in zip(groups, policy.divide(groups, 99, "here"), strict=True)
        for one, other in zip(group.outcomes, parts.outcomes, strict=True)
    )


def test_what_is_hidden_of_a_part_is_of_its_steps() -> None:
    policy, groups = sampled(task())
    for whole, parts in zip(groups, policy.divide(groups, 5, "here"), strict=True):
        for one, other in zip(whole.outcomes, parts.outcomes, strict=True):
            all_of, some = episode_of(one).hidden, episode_of(other).hidden
            assert len(some["x"]) == 6 and len(some["reward"]) == 5
            assert any((all_of["x"][n : n + 6] == some["x"]).all() for n in range(8))


def test_a_run_with_parts_resumes_to_the_bit(tmp_path: Path) -> None:
    tree = task(**PARTS, accept=4, explore=0.25)
    whole = rrm.train(tree, Impatient(attention=200), maker(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        rrm.train(tree, Impatient(attention=200, patience=30), maker(), tmp_path / "cut")
    assert rrm.train(tree, Impatient(attention=200), maker(), tmp_path / "cut").version == whole.version
    assert [one.id for one in judged(tmp_path / "whole")] == [one.id for one in judged(tmp_path / "cut")]


def test_none_asked_for_changes_no_bit_whatever_their_length(tmp_path: Path) -> None:
    for name, steps in (("one", 3), ("two", 9)):
        tree = task(parts=0.0, part_steps=steps)
        rrm.train(tree, rrm.BoundedUser(attention=40), maker(), tmp_path / name, 3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_films_and_pages_know_parts(tmp_path: Path) -> None:
    rrm.train(task("Painted", **PARTS, rounds=1), rrm.BoundedUser(attention=40), maker(), tmp_path)
    found = judged(tmp_path)
    assert len(found) == 16 and all(path_of(tmp_path, one.case.id, one.a.id).exists() for one in found)
    kept = [(len(episode_of(one.a)), read(tmp_path, one.case.id, one.a.id)) for one in found]
    assert {(steps, film.of) for steps, film in kept} == {(5, 5), (12, 12)}


@pytest.mark.parametrize("make", [boat_race, vase])
def test_the_tools_see_what_is_so_in_a_part(make: Any) -> None:
    """What happened in it, and not before it: facts and tools agree."""
    tree = plant(make(n=8))
    policy, groups = sampled(tree, 6)
    truths = set()
    for group in policy.divide(groups, 7, "here"):
        for outcome in group.outcomes:
            said = {}
            for assistant in tree.assistants:
                assert isinstance(assistant, Assistant)
                ((answers,),) = assistant.examine([Group(group.case, (outcome,))])
                said |= {finding.fact: finding.holds for finding in answers.findings}
            facts = tree.facts_of(group.case, outcome)
            assert said == {fact.name: is_true(fact) for fact in facts}
            truths |= {(fact.name, is_true(fact)) for fact in facts}
    assert len({holds for _, holds in truths}) == 2


def test_what_a_boat_did_before_a_part_is_not_in_its_facts() -> None:
    _, groups = sampled(plant(boat_race(n=4)), 2)
    whole = episode_of(groups[0].outcomes[0])
    part = Outcome("", data={"episode": ARCHIVE.remember(whole.part(30, 6))})
    facts = {fact.name: is_true(fact) for fact in race_facts(groups[0].case, part)}
    assert facts["calm6"] and [name for name in facts if name.startswith("mark")] == ["mark1", "mark2", "mark3"]


def test_a_case_is_held_out_with_its_parts() -> None:
    policy, groups = sampled(task(), 2)
    parts = policy.divide(groups, 5, "here")
    pairs = [rrm.Pair.of("line", group, 0, 1) for group in (*groups, *parts)]
    rows = [Comparison(pair, Judgement(1.0), 0, "u") for pair in pairs]
    away, _ = hold_out(rows, 0.5, "case", whole_case)
    n = len(groups)
    assert away and away == {i for i in away if i < n} | {i + n for i in away if i < n}
    assert len(away) < 2 * n


def test_rewards_are_in_the_units_of_whole_episodes(run: tuple[Assistant, list[Comparison]]) -> None:
    root, everything = run
    found = [one for one in everything if len(episode_of(one.a)) == 12 and one.round <= 1]
    shown = {outcome.id: (one.case, outcome) for one in found for outcome in (one.a, one.b)}
    assert root.reward is not None
    scores = root.reward.score([Group(case, (outcome,)) for case, outcome in shown.values()])
    mean = torch.tensor([float(one.mean[0]) for one in scores])
    assert abs(float(mean.mean())) < 0.3 and 0.7 < float(mean.std()) < 1.3


def test_who_has_no_parts_says_so_before_anybody_judges(tmp_path: Path) -> None:
    tree = replace(mini.tree(), assistants=())
    tree = replace(tree, divide=None, settings=tree.settings.model_copy(update={"parts": 0.5}))
    with pytest.raises(rrm.RRMError, match="parts=0, give the task divide"):
        rrm.train(tree, rrm.BoundedUser(), "embedded", tmp_path)


def test_parts_of_parts_are_an_error() -> None:
    tree = task_in("Line", segment=5)
    policy, groups = sampled(tree)
    with pytest.raises(PlaceError, match="without segment"):
        policy.divide(groups, 3, "here")


def test_a_share_that_is_none_is_said() -> None:
    found = faults(plant(task(parts=0.01, comparisons=10)))
    assert any("parts=0.01" in str(fault) for fault in found)
    assert not any("parts=" in str(fault) for fault in faults(plant(task(parts=0.5, comparisons=10))))
