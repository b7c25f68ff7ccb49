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
from rrm.learning.improving import StepTally, Updater, collect, observe
from rrm.learning.losses import policy_gradient, rloo_advantages
from rrm.models.agent import TextAgent


def improve(
    agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log
) -> ImproveReport:
    """Take `settings.steps` policy-gradient steps on

        reward(outcome) - kl * (log pi(outcome) - log start(outcome))

    Rewards are not divided by the batch's standard deviation: the reward model's scores have unit variance already,
    Adam forgets a constant factor, and a changing one would turn the last differences of a solved batch into large
    advantages.
    """
    updater = Updater(agent.fork, settings.lr, settings.steps)
    tally = StepTally()
    with agent.backbone.remember():  # the reward model and the KL ask for the same log-probabilities
        for step in range(settings.steps):
            batch = collect(agent, judge, cases, settings, key, step)
            penalized = batch.rewards - settings.kl * (batch.logprobs - batch.reference)
            advantages = rloo_advantages(penalized)
            # A group whose outcomes are rewarded alike teaches nothing: no forward or backward pass for it.
            signal = (advantages.abs().amax(1) > 1e-6).nonzero()[:, 0].tolist()
            skipped = len(batch.groups) - len(signal)
            if tally.over(batch, skipped, settings.max_kl):
                log(step, observe(batch, skipped, 0.0))
                break
            groups, advantage = [batch.groups[i] for i in signal], advantages[signal].flatten()
            norm = updater.step(_losses(agent, groups, advantage, batch.rewards.numel()))
            log(step, observe(batch, skipped, norm))
    return tally.report()


def _losses(agent: TextAgent, groups: list[Group], advantage: Tensor, outcomes: int) -> Iterator[Tensor]:
    """Parts of the batch's loss; `advantage` has one number per outcome of `groups`."""
    for part in agent.microbatches(groups):
        yield policy_gradient(part.logprobs, None, advantage[part.outcome], outcomes)
