"""REINFORCE with the group's other outcomes as the baseline (RLOO; Ahmadian et al. 2024, arXiv 2402.14740).

On-policy: every step samples anew and updates once, so the log-probabilities kept while decoding are the
policy's own, no ratio is needed, and no value model.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.learning.improving import Batch, optimize
from rrm.learning.losses import policy_gradient, rloo_advantages
from rrm.models.agent import TextAgent


def improve(agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
    """Take `settings.steps` policy-gradient steps on

        reward(outcome) - kl * (log pi(outcome) - log start(outcome))

    Rewards are not divided by the batch's standard deviation: the reward model's scores have unit variance already,
    Adam forgets a constant factor, and a changing one would turn the last differences of a solved batch into large
    advantages.
    """
    return optimize(agent, judge, cases, settings, key, log, _objective)


def _objective(agent: TextAgent, batch: Batch, settings: Settings) -> tuple[int, Iterator[Tensor]]:
    """A group whose outcomes are rewarded alike has no advantages, and teaches nothing."""
    penalized = batch.rewards - settings.kl * (batch.logprobs - batch.reference)
    advantages = rloo_advantages(penalized)
    signal = (advantages.abs().amax(1) > 1e-6).nonzero()[:, 0].tolist()
    groups, advantage = [batch.groups[i] for i in signal], advantages[signal].flatten()
    return len(signal), _losses(agent, groups, advantage, batch.rewards.numel())


def _losses(agent: TextAgent, groups: list[Group], advantage: Tensor, outcomes: int) -> Iterator[Tensor]:
    """Parts of the batch's loss; `advantage` has one number per outcome of `groups`."""
    for part in agent.microbatches(groups):
        yield policy_gradient(part.logprobs, None, advantage[part.outcome], outcomes)
