"""The score of an episode is what its steps are worth and what was found of it."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces

from rrm.acting.step_parts import STEPS, parts_in_steps
from rrm.acting.step_reward import StepReward
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.models.attribution import finding_part
from tests.acting.test_parts import sampled, task
from tests.models.test_attribution import said


def test_steps_and_findings_sum_to_the_score() -> None:
    _, groups = sampled(task(), 2)
    reward = StepReward("r", 2, spaces.Discrete(2), Settings(heads=3), assistants=2)
    reward.parameters["findings"] = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    reward.norm |= {"shift": torch.tensor([0.5, -1.0, 2.0]), "scale": torch.tensor(0.7)}
    reward.fitted = True
    judged = [Group(one.case, one.outcomes, (said(True, False), said(True, True))) for one in groups]
    for scores, found in zip(reward.score(judged), parts_in_steps(reward, judged, ["top/minded"]), strict=True):
        assert [sum(one.parts.values()) for one in found] == pytest.approx(scores.mean.tolist(), abs=1e-4)
        for one in found:
            assert len(one.steps) == 12 and sum(one.steps) == pytest.approx(one.parts[STEPS])
            assert {finding_part("top/minded"), finding_part("assistant 2")} < {*one.parts}
        assert found[0].parts[finding_part("top/minded")] != 0.0
