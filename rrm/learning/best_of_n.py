"""Imitate the best of n: sample a group, keep what the judge likes best, and raise its likelihood.

Filtered supervised fine-tuning (RAFT: Dong et al. 2023, arXiv 2304.06767; Gulcehre et al. 2023, arXiv
2308.08998). The cheapest improver, and the least able to exploit its judge: a step aims at the best-of-n
policy, whose KL is at most log n - (n - 1)/n.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.learning.improving import Batch, distinguished, optimize
from rrm.models.agent import TextAgent


def improve(agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
    """Take `settings.steps` steps of maximum likelihood on the best outcome of each group."""
    explored = int(settings.explore * settings.group)  # an imitator may learn from what others found
    return optimize(agent, judge, cases, settings, key, log, _objective, explored)


def _objective(agent: TextAgent, batch: Batch, settings: Settings) -> tuple[int, Iterator[Tensor]]:
    """A group whose outcomes are rewarded alike has no best."""
    best = batch.rewards.argmax(1).tolist()
    signal = distinguished(batch).tolist()
    chosen = [Group(batch.groups[i].case, (batch.groups[i].outcomes[best[i]],)) for i in signal]
    return len(signal), (-part.logprobs.sum() / len(signal) for part in agent.microbatches(chosen))
