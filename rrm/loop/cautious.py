"""What an agent is optimized for: its node's reward model, cautiously, and form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rrm.core.protocols import Learner
from rrm.core.records import Group
from rrm.core.task import Assistant, assist
from rrm.loop.state import NodeState


class CautiousJudge:
    """The reward model, cautiously: mean - caution * standard deviation.

    It has seen few outcomes without form, and an optimizer finds those it overrates; so form, which anyone sees at
    a glance and no truth is needed for, is a constraint (Settings.malformed).
    """

    def __init__(self, node: NodeState, helpers: Sequence[Assistant], caution: float | None = None) -> None:
        """caution: that of the settings, unless it is given."""
        self._node, self._helpers = node, tuple(helpers)
        self._caution = node.task.settings.caution if caution is None else caution

    @property
    def reward(self) -> Learner:
        """The reward model that it goes by, for a policy that is paid while it acts (`rrm.acting`)."""
        return self._node.reward

    def __call__(self, groups: Sequence[Group]) -> list[torch.Tensor]:
        """Per group (n,) rewards."""
        s = self._node.task.settings
        if s.reward_sees == "assistance":
            groups = assist(self._helpers, groups, quick=True)
        rewards = [score.mean - self._caution * score.std for score in self._node.scores(groups)]
        return [
            torch.where(self._without_form(group), reward.clamp(max=s.malformed), reward)
            for group, reward in zip(groups, rewards, strict=True)
        ]

    def _without_form(self, group: Group) -> torch.Tensor:
        """(n,) bool: which outcomes do not parse."""
        return torch.tensor([bool(self._node.task.fault(group.case, outcome)) for outcome in group.outcomes])
