"""Online direct preference optimization: the best of each group against its worst, by the judge.

Rafailov et al. 2023 (arXiv 2305.18290); online, with fresh pairs each step: Guo et al. 2024 (arXiv
2402.04792). The reference is the starting policy, so `beta` is the price of KL.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.learning.improving import Batch, distinguished, optimize
from rrm.learning.losses import dpo_loss
from rrm.models.agent import TextAgent


def improve(agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
    """Take `settings.steps` DPO steps, each on a fresh batch with one (best, worst) pair per group."""
    return optimize(agent, judge, cases, settings, key, log, _objective)


def _objective(agent: TextAgent, batch: Batch, settings: Settings) -> tuple[int, Iterator[Tensor]]:
    """A group whose outcomes are rewarded alike has neither a best nor a worst."""
    best, worst = batch.rewards.argmax(1), batch.rewards.argmin(1)
    signal = distinguished(batch)
    pairs = []
    for i in signal.tolist():
        outcomes = batch.groups[i].outcomes
        pairs.append(Group(batch.groups[i].case, (outcomes[best[i]], outcomes[worst[i]])))
    reference = batch.reference.gather(1, torch.stack([best, worst], 1))[signal]  # (pairs, 2)
    return len(signal), _losses(agent, pairs, reference, settings.beta)


def _losses(agent: TextAgent, pairs: list[Group], reference: Tensor, beta: float) -> Iterator[Tensor]:
    """Parts of the batch's mean loss, of whole pairs (best, worst); `reference` is (pairs, 2)."""
    for part in agent.microbatches(pairs, whole=True):
        outcomes, order = part.outcomes.sort()  # outcomes 2i and 2i + 1 are pair i's
        policy = part.sums()[order].view(-1, 2)
        start = reference.view(-1)[outcomes].view(-1, 2)
        yield dpo_loss(policy[:, 0], policy[:, 1], start[:, 0], start[:, 1], beta).sum() / len(pairs)
