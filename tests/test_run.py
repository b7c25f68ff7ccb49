"""Parts of a round, by hand: which pairs are asked about, and which improvement stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rrm import BoundedUser, Case, Group, Outcome
from rrm.check import plant
from rrm.models.backbone import Backbone
from rrm.models.reward import Scores
from rrm.run import Node, Run
from tests import toy


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("embedded")


def test_one_head_has_no_disagreement_so_pairs_are_asked_at_random(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(groups: Sequence[Group]) -> list[Scores]:
        values = [torch.arange(float(len(group.outcomes)))[:, None] for group in groups]
        return [Scores(value[:, 0], torch.zeros(len(value)), value) for value in values]

    settings = toy.SMALL.model_copy(update={"heads": 1, "comparisons": 100})
    node = Node(plant(toy.task(settings=settings)), Run(tmp_path, backbone), BoundedUser())
    node.round = 1
    monkeypatch.setattr(node.reward, "score", score)
    groups = [Group(Case(f"w{g}"), tuple(Outcome(f"w{g} w{i}") for i in range(6))) for g in range(4)]
    chosen = node.choose(groups)
    node.task = replace(node.task, settings=settings.model_copy(update={"choose": "random"}))
    assert [pair.id for pair in chosen] == [pair.id for pair in node.choose(groups)]
