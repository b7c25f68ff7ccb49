"""Recorded outcomes in a policy's place: an agent with nothing to optimize, whose runs resume to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rrm import BoundedUser, Case, Fact, Finding, Outcome, Pool, RRMError, Sealed, Settings, Task, train
from rrm.measure.recorded import Recorded, RecordedMaker
from rrm.models.backbone import Backbone
from rrm.testing import check_agent
from tests.bandits import Impatient, Interrupted

CASES = tuple(Case(f"n {n}") for n in range(6))
KEPT = {case.id: tuple(Outcome(f"{case.prompt} {word}") for word in ("one", "four", "three")) for case in CASES}
SMALL = Settings(
    rounds=1, cases=4, outcomes=3, comparisons=8, max_tokens=6, heads=2, steps=1, batch=2, group=2, accept=0,
    reward_epochs=1, frame_cases=0, drafts=1,
)  # fmt: skip


def tree() -> Task:
    """A root of recorded outcomes; its assistant is a language model that says whatever it says."""

    def odd(case: Case, outcome: Outcome) -> list[Fact]:
        return [Fact("odd", "odd", Sealed(len(outcome.text) % 2 == 1))]

    said = Task(
        "said", instruction="Which is right?", facts=odd, covers=("odd",), settings=SMALL,
        frame=lambda case, outcome: [Case(f"Title: {outcome.text}")],
        findings=lambda case, outcome: [Finding("odd", len(outcome.text) % 3 > 0)],
    )  # fmt: skip
    root = SMALL.model_copy(update={"steps": 0})
    return Task(
        "root", instruction="Which is better?", facts=odd, aspects=("odd",), cases=Pool(CASES), settings=root,
        assistants=(said,),
    )  # fmt: skip


def maker(backbone: Backbone) -> RecordedMaker:
    return RecordedMaker(backbone, "root", Recorded(KEPT))


def test_it_is_an_agent_whose_outcomes_were_written_before() -> None:
    policy = Recorded(KEPT)
    check_agent(policy, CASES, n=3, weights=False)
    (group,) = policy.sample(CASES[:1], 3, "key")
    assert set(group.outcomes) == set(KEPT[CASES[0].id])
    assert len(set(policy.sample(CASES[:1], 5, "key")[0].outcomes)) == 3
    orders = {tuple(o.text for o in policy.sample(CASES[:1], 3, f"{n}")[0].outcomes) for n in range(20)}
    assert len(orders) > 3
    assert policy.version == Recorded(KEPT).version != Recorded({CASES[0].id: KEPT[CASES[0].id]}).version


def test_it_refuses_what_it_cannot() -> None:
    with pytest.raises(RRMError, match="no outcome of 'another'"):
        Recorded(KEPT).sample([Case("another")], 1, "key")
    with pytest.raises(RRMError, match="cannot be optimized"):
        Recorded(KEPT).improve(lambda groups: [], Pool(CASES), SMALL, "key", lambda step, metrics: None)
    with pytest.raises(RRMError, match="no recorded outcome"):
        Recorded({"x": ()})


def test_a_run_over_recorded_outcomes_resumes_to_the_bit(tmp_path: Path) -> None:
    backbone = Backbone.load("embedded")
    whole = train(tree(), BoundedUser(), maker(backbone), tmp_path / "whole", 3)
    with pytest.raises(Interrupted):
        train(tree(), Impatient(patience=11), maker(backbone), tmp_path / "cut", 3)
    again = train(tree(), Impatient(), maker(Backbone.load("embedded")), tmp_path / "cut", 3)
    assert again.helpers[0].version.split("/")[-1] == whole.helpers[0].version.split("/")[-1]
    assert again.reward is not None and whole.reward is not None and again.reward.version == whole.reward.version
    assert again.agent.version == Recorded(KEPT).version


def test_other_recordings_are_another_run(tmp_path: Path) -> None:
    backbone = Backbone.load("embedded")
    lone = replace(tree(), assistants=())
    train(lone, BoundedUser(), maker(backbone), tmp_path)
    fewer = {case: found[:2] for case, found in KEPT.items()}
    with pytest.raises(RRMError, match="other settings"):
        train(lone, BoundedUser(), RecordedMaker(backbone, "root", Recorded(fewer)), tmp_path)
