"""What an agent is optimized for: its node's reward model, cautiously, and form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rrm.core.protocols import Learner
from rrm.core.records import Group
from rrm.core.task import Assistant, assist
from rrm.loop.state import NodeState

MULTIPLIER = "multiplier"
"""Name of the metric of an improvement."""


def _last_multiplier(node: NodeState) -> float:
    """Where the constraint's multiplier was at the end of the round before; 0 in the first."""
    if not node.task.settings.constrained:
        return 0.0
    found = [
        value for round, phase, _, name, value in node.history()
        if round == node.round - 1 and (phase, name) == ("improve", MULTIPLIER)
    ]  # fmt: skip
    return found[-1] if found else 0.0


class CautiousJudge:
    """The reward model, cautiously: mean - caution * standard deviation; and within the constraint, if
    `settings.unacceptable` asks for one.

    The constraint is no price that somebody chose. Its multiplier grows with every outcome as long as more of them are
    unacceptable than may be, and falls, down to 0, where there are fewer (dual ascent on a Lagrangian: Altman 1999;
    Dai et al. 2023, arXiv 2310.12773, section 3.3):

        reward - multiplier * P(unacceptable),      multiplier += rate * sum over outcomes of (P(unacceptable) - limit)

    It goes on in the next round from where it was.

    It has seen few outcomes without form, and an optimizer finds those it overrates; so form, which anyone sees at
    a glance and no truth is needed for, is a constraint (Settings.malformed).
    """

    def __init__(
        self, node: NodeState, helpers: Sequence[Assistant], caution: float | None = None, holds: bool = True
    ) -> None:
        """caution: that of the settings, unless it is given. holds: whether the agent is held back: by the constraint,
        and where it acts by what it falls back on."""
        self._node, self._helpers = node, tuple(helpers)
        self._caution = node.task.settings.caution if caution is None else caution
        self.holds = holds
        self._holds = holds and node.task.settings.constrained
        self.multiplier = _last_multiplier(node) if self._holds else 0.0
        self._chance: float | None = None

    @property
    def reward(self) -> Learner:
        """The reward model that it goes by, for a policy that is paid while it acts (`rrm.acting`)."""
        return self._node.reward

    def __call__(self, groups: Sequence[Group]) -> list[torch.Tensor]:
        """Per group (n,) rewards."""
        s = self._node.task.settings
        if s.reward_sees == "assistance":
            groups = assist(self._helpers, groups, quick=True)
        scores = self._node.scores(groups)
        rewards = [score.mean - self._caution * score.std for score in scores]
        floor = s.malformed - self.multiplier  # of no outcome with form is more taken away
        chances = [chance for score in scores if (chance := getattr(score, "unacceptable", None)) is not None]
        if self._holds and len(chances) == len(scores) > 0:  # else nobody has marked anything: nothing is known
            rewards = [r - self.multiplier * chance for r, chance in zip(rewards, chances, strict=True)]
            self._hold(torch.cat(chances))
        return [
            torch.where(self._without_form(group), reward.clamp(max=floor), reward)
            for group, reward in zip(groups, rewards, strict=True)
        ]

    def held(self) -> dict[str, float]:
        """Of the constraint, for the metrics: its multiplier, and the mean chance that an outcome of the last call was
        unacceptable. Nothing without one."""
        if self._chance is None:
            return {}
        return {MULTIPLIER: self.multiplier, "unacceptable": self._chance}

    def _hold(self, chances: torch.Tensor) -> None:
        s = self._node.task.settings
        beyond = float((chances - s.unacceptable).sum())
        self.multiplier = max(0.0, self.multiplier + s.multiplier * beyond)
        self._chance = float(chances.mean())

    def _without_form(self, group: Group) -> torch.Tensor:
        """(n,) bool: which outcomes do not parse."""
        return torch.tensor([bool(self._node.task.fault(group.case, outcome)) for outcome in group.outcomes])
