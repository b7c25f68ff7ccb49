"""What is judged after a reward model's fit is scored by it, as its fit would have, and training does not know."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rrm
from rrm.core.errors import RunError
from rrm.core.judgements import ACCEPT, Comparison, Margin
from rrm.loop import judging, node
from rrm.loop.foreseeing import margins
from rrm.loop.reopen import reward_of, score_ahead
from rrm.models.reward import EnsembleScores
from rrm.store.store import Store
from rrm.view.challenge_records import Unknown
from rrm.view.five_figures import challenges_of
from rrm.view.reading import Reader
from tests.bandits import example
from tests.mini import tree

BANDIT = example("custom_agent")
Scored = dict[tuple[int, str], tuple[float, float, int]]


def train(out: Path) -> Path:
    """A paper without assistants, two rounds, whether each improvement stands."""
    whole = tree()
    root = replace(whole, assistants=(), settings=whole.settings.model_copy(update={"lr": 3e-3, "accept": 6}))
    rrm.train(root, rrm.BoundedUser(), "embedded", out)
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the same one by a loop that scores nothing ahead."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for module in (judging, node):
            patch.setattr(module, "foresee", lambda *_: None)
        train(folder / "without")
    return train(folder / "with"), folder / "without"


def scored(folder: Path) -> Scored:
    db = sqlite3.connect(folder / "run.db")
    return {(r, pair): tuple(row) for r, pair, *row in db.execute("SELECT round, pair, margin, std, held FROM scores")}


def judged(folder: Path, task: str) -> list[Comparison]:
    store = Store(folder / "run.db")
    found = store.comparisons(task)
    store.close()
    return found


def fit_before(one: Comparison) -> int:
    """The round whose fit was the last before it was judged."""
    return one.round if one.purpose == ACCEPT else one.round - 1


def test_what_is_judged_after_a_fit_is_scored_by_it(runs: tuple[Path, Path]) -> None:
    comparisons, kept = judged(runs[0], "paper"), scored(runs[0])
    assert {one.purpose for one in comparisons} == {"", ACCEPT} and {one.round for one in comparisons} == {0, 1}
    later = [one for one in comparisons if fit_before(one) >= 0]
    assert later and all((fit_before(one), one.id) in kept for one in later)
    known = {one.id for one in comparisons if one.round == 0 and not one.purpose}
    assert all(kept[fit_before(one), one.id][2] for one in later if one.id not in known), "it was not fitted to them"


def test_training_does_not_hang_on_it(runs: tuple[Path, Path]) -> None:
    def learned(folder: Path) -> list[Any]:
        db = sqlite3.connect(folder / "run.db")
        return db.execute("SELECT task, round, part, sha256 FROM checkpoints ORDER BY 1, 2, 3").fetchall()

    assert len(learned(runs[0])) == 4 and learned(runs[0]) == learned(runs[1])


def test_a_margin_is_in_the_units_of_the_fits_own(runs: tuple[Path, Path]) -> None:
    """The saved reward model gives what was fitted the margins that its fit kept."""
    kept = scored(runs[1])  # of fits alone
    for round in (0, 1):
        reward = reward_of(runs[1], "paper", round)
        fitted = [one for one in judged(runs[1], "paper") if (round, one.id) in kept]
        assert len(fitted) >= 12
        for one in margins(reward, reward.score, fitted):
            assert (one.mean, one.std) == pytest.approx(kept[round, one.comparison][:2], abs=2e-3)


def test_a_finished_run_is_scored_later_as_it_would_have_been(runs: tuple[Path, Path]) -> None:
    with Reader(runs[1]) as run:
        found = challenges_of(run, run.nodes["paper"]).distribution
        assert not isinstance(found, Unknown)
        assert isinstance(found[0].ahead, Unknown) and "--score" in found[0].ahead.why
    before = scored(runs[1])
    assert score_ahead(runs[1], "paper") > 0
    after, wanted = scored(runs[1]), scored(runs[0])
    assert after.keys() == wanted.keys() > before.keys()
    for name, row in wanted.items():
        assert after[name] == pytest.approx(row, abs=2e-3)
    with Reader(runs[1]) as run:
        found = challenges_of(run, run.nodes["paper"]).distribution
        assert not isinstance(found, Unknown) and not isinstance(found[0].ahead, Unknown)
    score_ahead(runs[1], "paper")
    assert scored(runs[1]) == after, "a second time adds nothing"


def test_a_node_that_is_not_there_is_said(runs: tuple[Path, Path]) -> None:
    with pytest.raises(RunError, match="no node"):
        score_ahead(runs[1], "nothing")


def test_any_reward_model_is_asked(tmp_path: Path) -> None:
    """Also one of forty lines that knows of no scale."""
    rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path / "all")
    comparisons, kept = judged(tmp_path / "all", "pull"), scored(tmp_path / "all")
    known = {one.id for one in comparisons if one.round == 0 and not one.purpose}
    later = [one for one in comparisons if fit_before(one) == 0 and one.id not in known]
    assert later and all((0, one.id) in kept for one in later)


def test_what_is_asked_after_rounds_of_silence_is_scored_by_the_reward_model_of_then(tmp_path: Path) -> None:
    settings = BANDIT.pull.settings.model_copy(update={"feedback": "refresh=2", "rounds": 3, "accept": 0})
    rrm.train(replace(BANDIT.pull, settings=settings), rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path)
    comparisons, kept = judged(tmp_path, "pull"), scored(tmp_path)
    first = {one.id for one in comparisons if one.round == 0}
    later = {one.id for one in comparisons if one.round == 2}
    assert later - first and {pair for round, pair in kept if round == 1} == later - first


class Pretended:
    """A node whose reward model cannot read long outcomes, and scores 2 or 4 for what is not b, and 1 for b."""

    task = rrm.Task("x", "Which is better?", facts=lambda case, outcome: [])

    def __init__(self, scale: float = 3.0) -> None:
        self.reward = self.journal = self
        self.scale = scale
        self.kept: list[Margin] = []

    def too_long(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        return [one for one in comparisons if len(one.a.text) > 4]

    def scores(self, groups: Sequence[rrm.Group]) -> list[EnsembleScores]:
        read = [(group.case.id, outcome.id) for group in groups for outcome in group.outcomes]
        assert len(read) == len(set(read)), "an outcome of a case is read once"
        assert all(len(outcome.text) < 5 for group in groups for outcome in group.outcomes)
        heads = [torch.tensor([[1.0, 1.0] if o.text == "b" else [2.0, 4.0] for o in g.outcomes]) for g in groups]
        return [EnsembleScores(one.mean(1), one.std(1, correction=0), one) for one in heads]

    def score(self, task: str, round: int, found: Sequence[Margin]) -> None:
        self.kept += found


def judged_once(a: str, case: str = "case") -> Comparison:
    pair = rrm.Pair("x", rrm.Case(case), rrm.Outcome(a), rrm.Outcome("b"))
    return Comparison(pair, rrm.Judgement(1.0), 0, "somebody")


def test_what_is_too_long_is_left_out_and_the_rest_is_in_nats() -> None:
    some = [judged_once("a"), judged_once("too long"), judged_once("c", "another"), judged_once("d")]
    state: Any = Pretended()
    judging.foresee(state, 0, some)
    assert {one.comparison: (one.mean, one.std, one.heldout) for one in state.kept} == {
        some[i].id: (6.0, 3.0, True) for i in (0, 2, 3)
    }


def test_one_that_has_learned_nothing_says_nothing() -> None:
    state: Any = Pretended(float("inf"))
    judging.foresee(state, 0, [judged_once("a")])
    assert [(one.mean, one.std) for one in state.kept] == [(0.0, 0.0)]


def test_margins_of_a_reward_model_over_steps_are_in_the_units_of_its_fits_own() -> None:
    """Also of one whose agents act."""
    pytest.importorskip("stable_baselines3")
    from tests.acting.test_learning import SEES, maker
    from tests.acting.test_places import task_in

    task = task_in("Line")
    policy, reward = maker().policy(task, 0), maker().reward(task, 0)
    assert task.cases is not None
    groups = policy.sample(task.cases.draw(8, "fit"), 2, "fit")
    pairs = [rrm.Pair.of(task.path, group, 0, 1) for group in groups]
    some = [Comparison(pair, SEES.judge(task, pair), 0, "user") for pair in pairs]
    report = reward.fit(some, task.settings, "fit")
    kept = {one.comparison: (one.mean, one.std) for one in report.margins}
    found = margins(reward, reward.score, some)
    assert len(found) == len(some) and any(abs(mean) > 0.01 for mean, _ in kept.values())
    for one in found:
        assert (one.mean, one.std) == pytest.approx(kept[one.comparison], abs=1e-3)
