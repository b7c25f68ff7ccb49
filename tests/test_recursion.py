"""The recursion end to end in miniature: who is asked what, what reaches whom, and what nobody may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rrm import Assistant, BoundedUser, Outcome, Pair, RRMError, Task, train
from rrm.core.errors import SealedOracle
from rrm.core.judgements import Event, ImproveReport, Judgement
from rrm.core.records import Answer, Case, Group, digest
from rrm.core.seeding import generator
from rrm.core.task import Forgetful, assist
from rrm.learning.text_maker import IMPROVERS
from rrm.measure.adversary import Misleading
from rrm.measure.arms import compare_arms, train_arms
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.store.store import Store
from rrm.worlds.papers import Briefs
from tests import mini


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


@pytest.fixture(scope="module")
def trained(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Assistant, Path, list[Event]]:
    events: list[Event] = []
    out = tmp_path_factory.mktemp("run")
    root = train(mini.tree(), BoundedUser(), backbone, out, watch=[lambda node, event: events.append(event)])
    return root, out, events


def shorter(task: Task, rounds: int = 1) -> Task:
    """Few rounds of one step, at all nodes."""
    subs = tuple(shorter(sub, rounds) if isinstance(sub, Task) else sub for sub in task.assistants)
    few = task.settings.model_copy(update={"rounds": rounds, "steps": 1, "accept": 0})
    return replace(task, assistants=subs, settings=few)


def test_nodes_are_finished_from_the_leaves_up(trained: tuple[Assistant, Path, list[Event]]) -> None:
    _, _, events = trained
    finished = list(dict.fromkeys(e.task for e in events if e.phase == "done"))
    assert finished == ["paper/writing", "paper/proofs/steps", "paper/proofs", "paper"]


def test_every_comparison_says_which_assistance_was_shown(trained: tuple[Assistant, Path, list[Event]]) -> None:
    root, out, _ = trained
    versions = {a.task.path: a.version for a in (*root.helpers, *root.helpers[1].helpers)}
    for comparison in Store(out / "run.db").comparisons("paper"):
        for shown in (comparison.assistance_a, comparison.assistance_b):
            for one in (a for top in shown for a in top.tree()):
                assert versions[one.assistant] == one.version
        assert [a.name for a in comparison.assistance_a] == ["writing", "proofs"]
    assert not Store(out / "run.db").comparisons("paper/proofs/steps")[0].assistance_a


def test_an_outcome_is_examined_once(trained: tuple[Assistant, Path, list[Event]], backbone: Backbone) -> None:
    root, _, _ = trained
    (writing, proofs) = root.helpers
    asked: Counter[str] = Counter()

    class Counting:
        def __init__(self, agent: object) -> None:
            self.agent = agent

        def __getattr__(self, name: str) -> object:
            return getattr(self.agent, name)

        def sample(self, cases: Sequence[Case], *args: object, **kwargs: object) -> object:
            asked.update(case.id for case in cases)
            return self.agent.sample(cases, *args, **kwargs)  # type: ignore[attr-defined]

    counting = replace(proofs, agent=Counting(proofs.agent), memo=Forgetful())  # type: ignore[arg-type]
    groups = root.agent.sample(Briefs(5).draw(4, "x"), 3, "x")
    first = assist([writing, counting], [*groups, *groups])
    second = assist([writing, counting], groups)
    assert asked and max(asked.values()) == 1
    assert first[: len(groups)] == first[len(groups) :] == second


def test_malformed_outcomes_get_na(trained: tuple[Assistant, Path, list[Event]]) -> None:
    root, _, _ = trained
    (group,) = root.agent.sample(Briefs(5).draw(1, "x"), 2, "x")
    bad = replace(group, outcomes=(Outcome("title title"), Outcome("")))
    for said in assist(root.helpers, [bad])[0].assistance:
        assert [one.na for one in said] == [True, True]
        assert [one.text for one in said] == ["writing N/A", "proofs N/A"]


def test_an_assistant_that_is_unsure_abstains(trained: tuple[Assistant, Path, list[Event]]) -> None:
    root, _, _ = trained
    (_, proofs), groups = root.helpers, root.agent.sample(Briefs(5).draw(6, "unsure"), 3, "unsure")
    assert proofs.reward is not None

    def answers(abstain: float) -> list[Answer]:
        settings = proofs.task.settings.model_copy(update={"abstain": abstain})
        asked = replace(proofs, task=replace(proofs.task, settings=settings), memo=Forgetful())
        assert (asked.version == proofs.version) == (abstain == 0)
        said = assist([asked], groups)
        return [answer for group in said for (one,) in group.assistance for answer in one.answers]

    always, never, some = answers(0), answers(1e-9), answers(0.3)
    assert any(answer.findings for answer in always)
    assert all(not answer.findings and "abstains" in answer.unreadable for answer in never)
    assert [answer.outcome for answer in always] == [answer.outcome for answer in some]
    groups_of = [Group(answer.case, (answer.outcome,), ((*answer.below,),)) for answer in always]
    doubts = [float(score.std[0]) for score in proofs.reward.score(groups_of)]
    assert [("abstains" in answer.unreadable) for answer in some] == [doubt > 0.3 for doubt in doubts]


def test_the_loop_never_reads_the_truth(backbone: Backbone, tmp_path: Path) -> None:
    """A user who tries to read a fact's truth outside a paid check stops the run."""

    class Peeking(BoundedUser):
        def judge(self, task: Task, pair: Pair) -> Judgement:
            fact = next(f for f in task.facts(pair.case, pair.a) if f.truth is not None)
            return Judgement(1.0 if fact.truth else 0.0)

    with pytest.raises(SealedOracle):
        train(replace(mini.tree(), assistants=()), Peeking(), backbone, tmp_path)


def test_an_agent_without_the_skill_is_told_so(backbone: Backbone, tmp_path: Path) -> None:
    def never(case: Case, outcome: Outcome) -> list[object]:
        from rrm import Malformed

        raise Malformed("word 1: not what was asked for")

    task = replace(mini.tree(), assistants=(), facts=never)  # type: ignore[arg-type]
    with pytest.raises(RRMError, match="nothing to build on"):
        train(task, BoundedUser(), backbone, tmp_path)


def test_a_user_who_sees_no_difference_stops_the_run(backbone: Backbone, tmp_path: Path) -> None:
    class Indifferent(BoundedUser):
        def judge(self, task: Task, pair: Pair) -> Judgement:
            return Judgement(0.5)

    with pytest.raises(RRMError, match="nothing to learn from"):
        train(replace(mini.tree(), assistants=()), Indifferent(), backbone, tmp_path)


@pytest.mark.parametrize("harm", [True, False])
def test_an_improvement_that_the_user_does_not_want_is_undone(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: bool
) -> None:
    """The improver here ruins the agent, or sharpens it towards what it writes most; the user tells which."""

    def improve(agent: TextAgent, *rest: object) -> ImproveReport:
        with torch.no_grad():
            for name, parameter in agent.fork.trainable.items():
                if harm:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator("harm", name)))
                elif "norm" in name and "layers" not in name:
                    parameter.mul_(2.0)  # larger logits: a lower temperature, so fewer slips
        return ImproveReport(steps=1, first_reward=0.0, last_reward=0.0, kl=0.0, skipped=0, stopped=False)

    monkeypatch.setitem(IMPROVERS, "rloo", improve)
    task = replace(mini.tree(), assistants=())
    task = replace(task, settings=task.settings.model_copy(update={"rounds": 1, "accept": 32}))
    events: list[Event] = []
    root = train(task, BoundedUser(attention=40), backbone, tmp_path, watch=[lambda node, event: events.append(event)])
    (verdict,) = [e.metrics for e in events if e.phase == "accept"]
    assert (verdict["preferred"] < 0.5) is harm, verdict
    assert verdict["kept"] == (not harm) and (root.agent.version == backbone.fork("start").version) is harm


def test_a_finished_assistant_is_used_as_it_is(
    trained: tuple[Assistant, Path, list[Event]], backbone: Backbone, tmp_path: Path
) -> None:
    root, _, _ = trained
    task = replace(mini.tree(), assistants=(root.helpers[0],))
    again = train(shorter(task), BoundedUser(), backbone, tmp_path)
    assert again.helpers == root.helpers[:1]
    assert not (tmp_path / "nodes" / "paper" / "writing").exists()


def test_refreshing_trains_assistants_in_later_rounds(backbone: Backbone, tmp_path: Path) -> None:
    task = shorter(mini.tree(), 2)
    settings = task.settings.model_copy(update={"refresh": 1})
    (writing, _) = task.assistants
    events: list[Event] = []
    train(
        replace(task, assistants=(writing,), settings=settings), BoundedUser(), backbone, tmp_path,
        watch=[lambda node, event: events.append(event)],
    )  # fmt: skip
    done = [(e.task, e.round) for e in events if e.phase == "done"]
    assert done == [("paper/writing", 0), ("paper/writing", 1), ("paper", 0), ("paper/writing", 2), ("paper", 1)]


@pytest.mark.slow
def test_the_demo_in_miniature(backbone: Backbone, tmp_path: Path) -> None:
    arms = train_arms(shorter(mini.tree()), BoundedUser, backbone, tmp_path, seed=0)
    report = compare_arms(arms, backbone, Briefs(0, "held-out"), 12)
    assert list(arms) == ["unassisted", "one-level", "recursive", "oracle"]
    for name in arms:
        assert set(report[name]) >= {"agreement", "score", "aspects"}
        for value in (report[name]["agreement"], report[name]["score"], *report[name]["aspects"].values()):
            assert set(value) == {"mean", "low", "high", "n"}
            assert value["low"] <= value["mean"] <= value["high"]
    assert report["oracle"]["agreement"]["mean"] == 1.0
    assert arms["one-level"].root.helpers[0] is arms["recursive"].root.helpers[0]
    assert arms["one-level"].root.helpers[1].helpers == ()


def test_misleading_assistants_reach_the_user(trained: tuple[Assistant, Path, list[Event]]) -> None:
    root, _, _ = trained
    groups = root.agent.sample(Briefs(5).draw(6, "x"), 2, "x")
    honest = assist(root.helpers, groups)
    misled = assist([Misleading.of(helper) for helper in root.helpers], groups)
    for one, other in zip(honest, misled, strict=True):
        for said, turned in zip(one.assistance, other.assistance, strict=True):
            for a, b in zip(said, turned, strict=True):
                assert [f.holds for f in a.findings] == [not f.holds for f in b.findings]



def test_outcomes_for_all_subtasks_are_sampled_once_a_round(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two children that are refreshed in the second round: two samples to frame, not four."""
    calls: Counter[str] = Counter()
    sample = TextAgent.sample

    def counted(self: TextAgent, cases: Sequence[Case], n: int, key: str, **given: float) -> object:
        calls[key] += 1
        return sample(self, cases, n, key, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(TextAgent, "sample", counted)
    whole = mini.tree()
    small = {"rounds": 1, "steps": 1, "accept": 0, "cases": 3, "comparisons": 4, "frame_cases": 1}
    subs = tuple(
        replace(sub, assistants=(), settings=sub.settings.model_copy(update=small))
        for sub in whole.assistants if isinstance(sub, Task)
    )  # fmt: skip
    settings = whole.settings.model_copy(update=small | {"rounds": 2, "refresh": 1})
    train(replace(whole, assistants=subs, settings=settings), BoundedUser(), backbone, tmp_path)
    keys = [digest(0, "paper", round, "frame") for round in (0, 1)]
    assert [calls[key] for key in keys] == [1, 1]
