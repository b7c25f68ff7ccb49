"""Reward models fitted to imported labels: held out by case, and able to learn what the labels say."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrm import BoundedUser, Settings, train
from rrm.core.judgements import Comparison, FitReport
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.peerread import ASPECTS
from rrm.learning.fitting import fit_reward
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel, trunk
from rrm.store.store import Store
from rrm.view.accuracy import Predicted
from tests import mini, toy
from tests.label.reviews import lines, papers, stored


def fitted(comparisons: list[Comparison], settings: Settings) -> FitReport:
    backbone = Backbone.load("embedded")
    reward = TextRewardModel(backbone, trunk(backbone, "reward", "frozen"), settings, assistants=len(ASPECTS))
    return fit_reward(reward, comparisons, settings, "labels")


def test_a_reward_model_learns_from_reviews_and_is_tested_on_other_papers(tmp_path: Path) -> None:
    load(lines(tmp_path / "acl.jsonl", papers(80)), tmp_path / "run", "paper")
    comparisons = stored(tmp_path / "run", "paper")
    settings = Settings(heads=2, holdout=0.25)
    found = fitted(comparisons, settings)
    assert found.n + found.n_holdout == len(comparisons) == 120 and found.n_holdout >= 12
    held = {margin.comparison: margin.heldout for margin in found.margins}
    texts = {True: set[str](), False: set[str]()}
    for c in comparisons:
        texts[held[c.id]] |= {c.a.text, c.b.text}
    assert not texts[True] & texts[False], "a paper that is held out is in no pair that was trained on"
    assert found.holdout_accuracy is not None and found.holdout_accuracy > 0.75
    blind = fitted(comparisons, settings.model_copy(update={"reward_sees": "outcome"}))
    assert blind.holdout_accuracy is not None and blind.holdout_accuracy < found.holdout_accuracy, (
        "the papers' texts say nothing; it is the reviewers' findings that do"
    )


@pytest.mark.slow
def test_a_tree_of_the_aspects_is_trained_on_imported_reviews(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    load(lines(tmp_path / "acl.jsonl", papers(40)), folder, "paper")
    changes = {"rounds": 1, "cases": 4, "comparisons": 5, "max_tokens": 8, "temperature": 4.0}
    small = mini.SMALL.model_copy(update=changes)
    blank = {"facts": lambda case, outcome: [], "settings": small}
    subs = [toy.sub(aspect, **blank, covers=(aspect,)) for aspect in ASPECTS]
    train(toy.task("paper", assistants=tuple(subs), **blank), BoundedUser(), "embedded", folder)
    store = Store(folder / "run.db")
    fits = {task: {} for task in ("paper", "paper/clarity")}
    for task, of in fits.items():
        of |= {name: value for _, _, _, _, name, value in store.metrics(task, "fit")}
        imported = sum(c.round < 0 for c in store.comparisons(task))
        assert imported == 60 and of["n"] + of["n_holdout"] + of["abstentions"] > imported
    store.close()


def test_of_forty_pairs_of_one_prompt_some_are_held_out_and_the_run_says_by_what(tmp_path: Path) -> None:
    texts = [(f"Who did {i} see?", f"Who did see {i}?") for i in range(40)]
    rows = [{"prompt": "Write a sentence.", "chosen": good, "rejected": bad} for good, bad in texts]
    load(lines(tmp_path / "in.jsonl", rows), tmp_path / "run", "n")
    report = fitted(stored(tmp_path / "run", "n"), Settings(heads=2))
    assert report.n_holdout == report.holdout_pairs > 0 and report.n + report.n_holdout == 40
    said = Predicted.of_fit(report.metrics())
    assert said is not None and said.by == "pairs"
