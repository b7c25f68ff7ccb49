"""Reward models that know little: scores are bounded, and one that has learned nothing says so, up to the screen."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rrm import Case, Group, Judgement, Outcome, Pair, Pool, Settings, Task, train
from rrm.core.judgements import FitReport
from rrm.core.protocols import Knowing
from rrm.core.task import Assistant
from rrm.learning.fitting import fit_reward
from rrm.models.reward import LIMIT, TextRewardModel
from rrm.store.store import Store
from rrm.view.live import Live
from tests import toy
from tests.models import test_reward as usual

HOW = Settings(heads=3, holdout=0, reward_epochs=2, reward_batch=4, reward_lr=3e-3)


class Torn:
    """A user who cannot tell, but prefers what has `likes` in it, if that is given."""

    name = "torn"

    def __init__(self, likes: str = "") -> None:
        self.likes = likes

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """A tie, unless only one has it."""
        liked = [bool(self.likes) and self.likes in outcome.text for outcome in (pair.a, pair.b)]
        return Judgement(0.5 + 0.5 * (liked[0] - liked[1]))

    def recall(self, task: Task, judgement: Judgement) -> None:
        """Nothing to remember."""

    def describe(self) -> dict[str, object]:
        """It has no settings."""
        return {"name": self.name, "likes": self.likes}


def made(b, frozen, comparisons, name="r", settings=HOW):
    reward = TextRewardModel(b, b.frozen(name) if frozen else b.fork(name), settings)
    return reward, fit_reward(reward, comparisons, settings, "k")


def tied(comparisons):
    return [replace(c, preference=0.5) for c in comparisons]


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_ties_teach_nothing_and_that_is_said(tiny, frozen, n):
    b = tiny()
    reward, report = made(b, frozen, tied(usual.pairs(n, per=1)))
    assert report.ignorant == ("the one comparison it was fitted to is a tie" if n == 1 else
                               f"all {n} comparisons it was fitted to are ties")  # fmt: skip
    assert report.metrics()["ignorant"] == 1 and report.decided == 0 and report.accuracy is None
    assert reward.ignorant and isinstance(reward, Knowing)
    assert report.disagreement == 0 and all(margin.mean == margin.std == 0 for margin in report.margins)
    for score in reward.score(usual.groups_of(usual.pairs(20))):
        assert not score.mean.any() and not score.std.any() and not score.heads.any()
    again = TextRewardModel(b, b.frozen("r") if frozen else b.fork("again"), HOW)
    again.load(reward.state())
    assert again.ignorant and again.version == reward.version
    report = fit_reward(again, usual.pairs(24), HOW, "k")  # with preferences it learns
    assert not report.ignorant and "ignorant" not in report.metrics() and not again.ignorant


@pytest.mark.parametrize("frozen", [True, False])
def test_outcomes_that_all_score_alike_teach_nothing(tiny, frozen):
    same = Outcome("w5 w6")
    alike = [usual.Pair(Case("w7"), same, same, float(i % 2)) for i in range(6)]
    reward, report = made(tiny(), frozen, alike)
    assert report.ignorant == "it scores all outcomes alike" and reward.ignorant
    assert all(not score.mean.any() for score in reward.score(usual.groups_of(usual.pairs(9))))


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_bounded_and_ordinary_ones_are_untouched(tiny, seed):
    g = torch.Generator().manual_seed(seed)
    n = int(torch.randint(1, 6, (), generator=g))
    comparisons = usual.pairs(n, per=1 + seed % 2)
    shared = [replace(c, b=Outcome(f"{c.a.text} w9")) for c in comparisons]  # little differs
    reward, report = made(tiny(), True, shared if seed % 3 else comparisons, f"r{seed}")
    far = [Group(Case(usual.text(g, k)), (Outcome(usual.text(g, k)), Outcome("w1"))) for k in (1, 3, 20, 40)]
    for raw, score in zip(reward.raw_scores(far), reward.score(far), strict=True):
        heads = (raw - reward.shift) / reward.scale
        assert score.heads.isfinite().all() and score.heads.abs().max() <= LIMIT
        assert torch.equal(score.mean, score.heads.mean(1))
        assert torch.equal(score.std, score.heads.std(1, correction=0))
        assert torch.equal(score.heads, heads) or heads.abs().max() > LIMIT
    assert 0 <= report.disagreement < 1e3


def test_the_score_of_what_is_unlike_anything_compared_ends_at_the_limit(tiny):
    reward, _ = made(tiny(), True, usual.pairs(2, per=1))
    reward.scale = torch.tensor(1e-6)  # as of outcomes that hardly differed
    scores = torch.cat([score.heads.flatten() for score in reward.score(usual.groups_of(usual.pairs(9)))])
    assert scores.abs().max() == LIMIT


def test_no_score_is_too_great_for_a_confidence():
    class Sure:
        version = "s"

        def __init__(self, score: float, ignorant: bool | None = None) -> None:
            self.value = score
            if ignorant is not None:
                self.ignorant = ignorant

    helper = {}
    for score in (-1e9, -2711.0, -10.0, 0.0, 10.0, 2711.0, 1e9):
        helper[score] = Assistant(toy.sub(), None, Sure(score))._confidence(score)
        assert 0 <= helper[score] <= 1
        assert Assistant(toy.sub(), None, Sure(score, ignorant=True))._confidence(score) is None
    assert list(helper.values()) == sorted(helper.values()) and helper[0.0] == 0.5


def test_a_tree_whose_user_cannot_tell_trains_and_says_which_nodes_learned_nothing(tiny, tmp_path: Path):
    few = toy.SMALL.model_copy(update={"comparisons": 2, "rounds": 2, "accept": 1})
    task = toy.task(settings=few, assistants=[toy.sub(settings=few)])
    out = io.StringIO()
    watch = Live(task, Console(file=out, width=300))
    root = train(task, Torn(), tiny(), tmp_path / "run", 0, watch=[watch])
    said = [line for line in out.getvalue().splitlines() if "has learned nothing" in line]
    assert len(said) == 4 and {line.split("] ")[1].split(" round")[0] for line in said} == {"toy", "toy/sub"}
    assert "all 2 comparisons it was fitted to are ties; its scores are 0 and its confidence is unknown" in said[0]
    assert watch.rows["toy"].ignorant
    (helper,) = root.helpers
    answers = helper.examine([Group(Case("w3"), (Outcome("w4 w5"),))])[0][0].answers
    assert answers and all(one.confidence is None for one in answers)
    metrics = Store(tmp_path / "run" / "run.db").metrics("toy", "fit")
    kept = [value for *_, name, value in metrics if name == "ignorant"]
    assert kept == [1.0, 1.0]

    # adopted by a parent with other cases
    other = toy.task("other", settings=few, cases=Pool(tuple(Case(f"w{i} w{2 * i} w9 w9 w9") for i in range(1, 9))),
                     assistants=[replace(helper, task=helper.task)])  # fmt: skip
    assert train(other, Torn("w5"), tiny(), tmp_path / "other", 0).task.path == "other"


def test_a_report_of_a_third_party_needs_none_of_it():
    assert FitReport(n=3).metrics() == {"n": 3.0, "n_holdout": 0.0, "ties": 0.0, "abstentions": 0.0}
