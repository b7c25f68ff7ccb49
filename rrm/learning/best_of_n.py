"""Imitate the best of n: sample a group, keep what the judge likes best, and raise its likelihood.

Filtered supervised fine-tuning (RAFT: Dong et al. 2023, arXiv 2304.06767; Gulcehre et al. 2023, arXiv
2308.08998). The cheapest improver, and the least able to exploit its judge: a step aims at the best-of-n
policy, whose KL is at most log n - (n - 1)/n.
"""

from __future__ import annotations

from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.learning.improving import StepTally, Updater, collect, observe
from rrm.models.agent import TextAgent


def improve(
    agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log
) -> ImproveReport:
    """Take `settings.steps` steps of maximum likelihood on the best outcome of each group."""
    updater = Updater(agent.fork, settings.lr, settings.steps)
    tally = StepTally()
    with agent.backbone.remember():  # the reward model and the KL ask for the same log-probabilities
        for step in range(settings.steps):
            batch = collect(agent, judge, cases, settings, key, step)
            best = batch.rewards.argmax(1).tolist()
            signal = (batch.rewards.amax(1) - batch.rewards.amin(1) > 1e-6).nonzero()[:, 0].tolist()
            skipped = len(batch.groups) - len(signal)
            if tally.over(batch, skipped, settings.max_kl):
                log(step, observe(batch, skipped, 0.0))
                break
            chosen = [Group(batch.groups[i].case, (batch.groups[i].outcomes[best[i]],)) for i in signal]
            parts = (-part.logprobs.sum() / len(signal) for part in agent.microbatches(chosen))
            norm = updater.step(parts)
            log(step, observe(batch, skipped, norm))
    return tally.report()
