"""Behavior cloning: maximum likelihood of what was demonstrated, before the agent is optimized against anybody.

Leike et al. 2018, section 5.3; as a start for reward learning, Ibarz et al. 2018 (arXiv 1811.06521, section 2.1) and
Ouyang et al. 2022 (arXiv 2203.02155, section 3.4). The KL of later optimization is still to the starting model: what
cloning has moved is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rrm.core.protocols import Log
from rrm.core.records import Case, Group, Outcome
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.learning.improving import Updater
from rrm.learning.rates import rate
from rrm.models.agent import TextAgent


def clone(agent: TextAgent, shown: Sequence[tuple[Case, Outcome]], settings: Settings, key: str, log: Log) -> None:
    """`settings.clone` passes over demonstrations, `settings.batch` of them a step, in place. Raises `ModelError` for
    one that is too long for the model."""
    groups = [Group(case, (outcome,)) for case, outcome in shown]
    steps = -(-len(groups) // settings.batch) * settings.clone
    with agent.fork.training():
        updater = Updater(agent.fork, rate(settings, "lr", agent.backbone), steps)
        for number in range(settings.clone):
            order = torch.randperm(len(groups), generator=generator("clone", key, number)).tolist()
            loss = 0.0
            for start in range(0, len(order), settings.batch):
                batch = [groups[i] for i in order[start : start + settings.batch]]
                told: list[float] = []
                updater.step(_losses(agent, batch, told))
                loss += agent.backbone.world.add_up([], sum(told))
            log(number, {"loss": loss / len(groups)})


def _losses(agent: TextAgent, batch: Sequence[Group], told: list[float]) -> Iterator[Tensor]:
    """Parts of minus the mean log-probability of a demonstration; tells each part's sum, in nats."""
    for part in agent.microbatches(batch):
        total = -part.logprobs.sum()
        told.append(total.item())
        yield total / len(batch)
