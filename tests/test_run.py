"""Parts of a round, by hand: which pairs are asked about, and which improvement stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rrm import BoundedUser, Case, Group, Outcome
from rrm.core.judgements import Event, ImproveReport
from rrm.core.validation import plant
from rrm.learning.text_maker import IMPROVERS, TextMaker
from rrm.loop.judging import stands
from rrm.loop.run import Run
from rrm.models.backbone import Backbone
from rrm.models.reward import EnsembleScores
from tests import toy


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


def test_one_head_has_no_disagreement_so_pairs_are_asked_at_random(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(groups: Sequence[Group]) -> list[EnsembleScores]:
        values = [torch.arange(float(len(group.outcomes)))[:, None] for group in groups]
        return [EnsembleScores(value[:, 0], torch.zeros(len(value)), value) for value in values]

    settings = toy.SMALL.model_copy(update={"heads": 1, "comparisons": 100})
    node = Run(tmp_path, TextMaker(backbone)).open(plant(toy.task(settings=settings)), BoundedUser())
    node.round = 1
    monkeypatch.setattr(node.reward, "score", score)
    groups = [Group(Case(f"w{g}"), tuple(Outcome(f"w{g} w{i}") for i in range(6))) for g in range(4)]
    chosen = node.choose(groups)
    node.task = replace(node.task, settings=settings.model_copy(update={"choose": "random"}))
    assert [pair.id for pair in chosen] == [pair.id for pair in node.choose(groups)]


def test_an_improvement_that_the_kl_limit_stopped_is_recorded(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def improve(*given: object) -> ImproveReport:
        return ImproveReport(steps=0, first_reward=0.0, last_reward=0.0, kl=9.0, skipped=0, stopped=True)

    monkeypatch.setitem(IMPROVERS, "rloo", improve)
    events: list[Event] = []
    run = Run(tmp_path, TextMaker(backbone), watch=[lambda node, event: events.append(event)])
    node = run.open(plant(toy.task()), BoundedUser())
    node.improve((), toy.CASES, BoundedUser())
    said = [(e.phase, e.step, e.of, dict(e.metrics)) for e in events]
    assert said == [("open", 0, 0, {}), ("improve", 0, 2, {"stopped": 1.0})]
    assert run.store.metrics("toy", "improve") == [("toy", 0, "improve", 0, "stopped", 1.0)]


@pytest.mark.parametrize(("n", "least"), [(1, 0.0), (2, 0.5), (3, 1.0), (4, 1.0), (8, 3.0), (24, 10.0)])
def test_an_improvement_stands_unless_it_lost_by_more_than_a_standard_error(n: int, least: float) -> None:
    """One comparison decides nothing. `least`: the fewest wins, in halves for ties, that let it stand."""
    halves = [half / 2 for half in range(2 * n + 1)]
    wins = {half: [1.0] * int(half) + [0.5] * (half % 1 > 0) for half in halves}
    assert [stands(won + [0.0] * (n - len(won))) for won in wins.values()] == [half >= least for half in halves]


def test_the_seed_decides_where_heads_begin(backbone: Backbone, tmp_path: Path) -> None:
    """Where comparisons are silent a head stays near its anchor: two seeds must not share it."""
    nodes = [Run(tmp_path / str(i), TextMaker(backbone), seed).open(plant(toy.task()), BoundedUser())
             for i, seed in enumerate((0, 0, 1))]  # fmt: skip
    one, same, other = (node.reward.anchor for node in nodes)
    assert torch.equal(one, same) and not torch.equal(one, other)
