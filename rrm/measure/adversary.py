"""The switch that makes an assistant mislead: a share of its findings is turned around.

What it called right it then calls wrong, and the other way round, down its whole tree. Confidence and form
stay.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rrm.core.records import Answer, Assistance, Finding, Group, digest
from rrm.core.task import Assistant


@dataclass(frozen=True)
class Misleading(Assistant):
    """An assistant that says the opposite of what it found, for a `share` of its findings."""

    share: float = 1.0
    seed: int = 0

    @classmethod
    def of(cls, assistant: Assistant, share: float = 1.0, seed: int = 0) -> Misleading:
        """A finished assistant, misleading with a `share` of its findings, 0 to 1."""
        a = assistant
        return cls(a.task, a.agent, a.reward, a.helpers, a.memo, share, seed)

    def examine(self, groups: Sequence[Group], quick: bool = False) -> list[tuple[Assistance, ...]]:
        """What it found, `share` of it turned around; see `mislead`."""
        return [tuple(mislead(one, self.share, self.seed) for one in row) for row in super().examine(groups, quick)]


def mislead(assistance: Assistance, share: float = 1.0, seed: int = 0) -> Assistance:
    """The same assistance with a share of its findings turned around; which ones, the seed decides."""

    def turned(answer: Answer) -> Answer:
        rng = random.Random(digest(seed, assistance.assistant, answer.case.id, answer.outcome.id))
        findings = tuple(
            Finding(f.fact, not f.holds, None) if rng.random() < share else f for f in answer.findings
        )
        return replace(
            answer, findings=findings, below=tuple(mislead(sub, share, seed) for sub in answer.below)
        )

    return replace(assistance, answers=tuple(turned(answer) for answer in assistance.answers))
