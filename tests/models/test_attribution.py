"""What a score is made of: parts that sum to it, whoever reads; a network's first order, and what it misses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rrm.core.records import Answer, Assistance, Case, Finding, Group, Outcome
from rrm.core.settings import Settings
from rrm.models.attribution import LIMITED, OFFSET, READING, SURPRISED, finding_part, gradients, less, parts_of
from rrm.models.backbone import Backbone
from rrm.models.reward import LIMIT, TextRewardModel, trunk

NAMES = ("top/minded", "top/other")


def said(*holds: bool) -> tuple[Assistance, ...]:
    """What two assistants said; the second has nothing to judge."""
    findings = tuple(Finding(f"f{i}", value) for i, value in enumerate(holds))
    return Assistance(NAMES[0], "v", (Answer(Case("c"), Outcome("w8"), findings, None),)), Assistance(NAMES[1], "v", ())


GROUPS = [
    Group(Case(f"w{i} w9"), (Outcome(f"w{i + 4}"), Outcome(f"w{i + 7} w{i + 2} w{i + 11}")),
          (said(True, False), said(False, False)))
    for i in range(3, 7)
]  # fmt: skip


def reward(backbone: Backbone, how: str, scale: float = 2.0, **settings: object) -> TextRewardModel:
    """As if it had been fitted."""
    chosen = Settings(**({"heads": 3} | settings))  # type: ignore[arg-type]
    model = TextRewardModel(backbone, trunk(backbone, "r", how), chosen, assistants=2)  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.fork.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    model.normalize(torch.randn(9, 3) * scale + torch.tensor([1.0, -3.0, 0.5]))
    return model


@pytest.mark.parametrize("how", ["frozen", "trained"])
@pytest.mark.parametrize("settings", [{}, {"surprise": False}, {"findings": False}])
def test_the_parts_are_the_score(tiny: Callable[..., Backbone], how: str, settings: dict[str, object]) -> None:
    model = reward(tiny(), how, **settings)
    found = parts_of(model, GROUPS, NAMES)
    for scores, parts in zip(model.score(GROUPS), found, strict=True):
        assert [sum(one.values()) for one in parts] == pytest.approx(scores.mean.tolist(), abs=1e-4)
        assert sum(less(*parts).values()) == pytest.approx(float(scores.mean[0] - scores.mean[1]), abs=1e-4)
    named = {READING, OFFSET} | ({SURPRISED} if "surprise" not in settings else set())
    assert {*found[0][0]} == named | ({finding_part(name) for name in NAMES} if "findings" not in settings else set())


def test_the_ends_of_a_score_are_a_part(tiny: Callable[..., Backbone]) -> None:
    model = reward(tiny(), "frozen", scale=0.001)
    found = [one for parts in parts_of(model, GROUPS, NAMES) for one in parts]
    assert any(LIMITED in one for one in found)
    assert max(abs(sum(one.values())) for one in found) <= LIMIT + 1e-6


def test_an_assistant_moves_its_own_part_only(tiny: Callable[..., Backbone]) -> None:
    model = reward(tiny(), "frozen", reward_sees="assistance")
    model.said = lambda group, index: ""  # type: ignore[method-assign]  # its words are not read here
    case, (outcome, _) = GROUPS[0].case, GROUPS[0].outcomes
    ((one, other),) = parts_of(model, [Group(case, (outcome, outcome), (said(True, True), said(False, True)))], NAMES)
    moved = {name for name, value in less(one, other).items() if abs(value) > 1e-9}
    assert moved == {finding_part(NAMES[0])}


@pytest.mark.parametrize("how", ["frozen", "trained"])
def test_gradients_and_what_they_miss_are_what_is_read(tiny: Callable[..., Backbone], how: str) -> None:
    model = reward(tiny(), how)
    ((_, parts),) = parts_of(model, GROUPS[:1], NAMES)
    found = gradients(model, GROUPS[0], 1)
    assert found.case + found.outcome + found.assistance + found.gap == pytest.approx(parts[READING], abs=1e-4)
    assert min(abs(found.case), abs(found.outcome), abs(found.assistance)) > 1e-6
    embedding = model.fork.network.get_input_embeddings()  # type: ignore[operator]
    assert not embedding._forward_hooks, "nobody else's pass is watched"
    assert not model.fork.stay.graph, "it may wait on the host again"


def test_a_gradient_is_the_first_order(tiny: Callable[..., Backbone]) -> None:
    """All embeddings of a pass a little longer: what is read changes by the gradient times them."""
    model, tie = reward(tiny(), "frozen"), 1e-3
    found = gradients(model, GROUPS[0], 1)
    embedding = model.fork.network.get_input_embeddings()  # type: ignore[operator]
    read = []
    for longer in (1 - tie, 1 + tie):
        handle = embedding.register_forward_hook(lambda module, given, out, longer=longer: out * longer)
        model.cache.keep(set())
        read.append(parts_of(model, GROUPS[:1], NAMES)[0][1][READING])
        handle.remove()
    slope = (read[1] - read[0]) / (2 * tie)
    assert found.case + found.outcome + found.assistance == pytest.approx(slope, abs=0.02 * max(1.0, abs(slope)))
