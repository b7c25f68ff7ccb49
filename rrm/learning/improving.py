"""What the policy improvers share: their interface, one optimizer step, and what every step logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from rrm.core.errors import RRMError
from rrm.core.judgements import ImproveReport
from rrm.core.protocols import Cases, Judge, Log
from rrm.core.records import Group
from rrm.core.settings import Settings
from rrm.learning.losses import kl_estimates
from rrm.learning.rates import rate
from rrm.models.agent import TextAgent, reference_logprobs
from rrm.models.fork import Fork
from rrm.models.repeating import repeatable


class Improve(Protocol):
    """What every improver of language models is: the interface by which they replace one another."""

    def __call__(
        self, agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log
    ) -> ImproveReport: ...


@dataclass(frozen=True)
class Batch:
    """One step's samples, all with the same number of outcomes `n`."""

    groups: list[Group]
    rewards: Tensor  # (groups, n) the judge's
    logprobs: Tensor  # (groups, n) per outcome, under the agent
    reference: Tensor  # (groups, n) per outcome, under the starting policy
    explored: int = 0
    """How many outcomes of each group, the last, the starting policy sampled."""

    @property
    def own(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the outcomes that the agent itself sampled, under it and under the starting policy."""
        n = self.logprobs.shape[1] - self.explored
        return self.logprobs[:, :n], self.reference[:, :n]

    @property
    def kl(self) -> float:
        """Mean nats per outcome: k1 of `kl_estimates`."""
        return kl_estimates(*self.own)[0].mean().item()


def collect(
    agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, step: int, explored: int = 0
) -> Batch:
    """Draw cases, sample their groups, judge them, and find their log-probabilities under the reference.

    explored: see `Batch`.

    Samples at temperature 1 whatever `settings.temperature` says: another distribution than the policy's own
    would bias the KL, by which `max_kl` stops, and a policy gradient.

    Raises `RRMError` if the judge does not give one finite reward per outcome: a judgement that failed must
    never pass for a number.
    """
    drawn = cases.draw(settings.batch, f"{key}/{step}")
    if not drawn:
        raise RRMError(f"no cases to improve on (key {key!r}); the task's `cases` drew none")
    groups = agent.sample(drawn, settings.group - explored, f"{key}/{step}")
    if explored:
        start = TextAgent(agent.backbone, agent.backbone.start, agent.max_tokens)
        others = start.sample(drawn, explored, f"{key}/{step}/explore")
        groups = [Group(one.case, (*one.outcomes, *more.outcomes)) for one, more in zip(groups, others, strict=True)]
    judged = list(judge(groups))
    if [tuple(r.shape) for r in judged] != [(settings.group,)] * len(groups):
        raise RRMError(
            f"judge gave shapes {[tuple(r.shape) for r in judged]}, not ({settings.group},) for each group"
        )
    rewards = torch.stack([r.detach().float() for r in judged])
    if not rewards.isfinite().all():
        raise RRMError(
            "the judge gave a reward that is not finite; a judge that cannot judge must raise or abstain"
        )
    reference = torch.stack(
        [torch.stack([v.sum() for v in row]) for row in reference_logprobs(agent.backbone, groups)]
    )
    logprobs = torch.tensor([[sum(o.logprobs) for o in g.outcomes] for g in groups])
    return Batch(groups, rewards, logprobs, reference, explored)


def distinguished(batch: Batch) -> Tensor:
    """(groups,) the indices of those whose outcomes are not all rewarded alike."""
    return (batch.rewards.amax(1) - batch.rewards.amin(1) > 1e-6).nonzero()[:, 0]


def observe(batch: Batch, skipped: int, grad_norm: float) -> dict[str, float]:
    """A step's metrics.

    reward, reward_std: mean over outcomes; mean over groups of the spread within (without it, no signal). Of what the
        agent itself sampled, as all others
    kl, kl_k3: nats per outcome to the starting policy, two estimates (Schulman 2020)
    entropy: nats per token, estimated as minus the mean log-probability of the sampled tokens
    length, finished: mean tokens per outcome, and the share of outcomes that ended by themselves
    skipped: groups without signal; grad_norm: before clipping
    """
    logprobs, reference = batch.own
    n = logprobs.shape[1]
    outcomes = [o for g in batch.groups for o in g.outcomes[:n]]
    tokens = sum(len(o.tokens) for o in outcomes)
    k1, k3 = kl_estimates(logprobs, reference)
    rewards = batch.rewards[:, :n]
    return {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(1).mean().item() if n > 1 else 0.0,
        "kl": k1.mean().item(),
        "kl_k3": k3.mean().item(),
        "entropy": -logprobs.sum().item() / tokens,
        "length": tokens / len(outcomes),
        "finished": sum(o.finished for o in outcomes) / len(outcomes),
        "skipped": float(skipped),
        "grad_norm": grad_norm,
    }


class Updater:
    """AdamW, fresh for each call of an improver, with a clipped gradient, a warm-up and a linear decay.

    Fresh, so that a node's round is a function of its weights and data alone: nothing else to checkpoint.
    Warmed up over 3 steps, because Adam's first steps have full size whatever the gradient; decayed, because a
    round has few steps and keeps the weights of the last one, with whatever noise that had.
    """

    def __init__(self, fork: Fork, lr: float, steps: int, warmup: int = 3, clip: float = 1.0) -> None:
        self.parameters, self.world, self.device = fork.parameters(), fork.backbone.world, fork.backbone.device
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=0.0, fused=True)
        self.optimizer.zero_grad()  # somebody's, of a pass before
        self.lr, self.steps, self.warmup, self.clip, self.done = lr, steps, warmup, clip, 0

    def step(self, losses: Iterable[Tensor]) -> float:
        """Add up the gradients of the losses (parts of one batch, this process's share of them) and update once.
        Returns the norm."""
        parts = 0
        for loss in losses:
            with repeatable(self.device):
                loss.backward()  # type: ignore[no-untyped-call]
            parts += 1
        if not self.world.add_up(self.parameters, parts):
            return 0.0
        self.done += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, self.done / self.warmup, (self.steps - self.done + 1) / self.steps)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if not norm.isfinite():
            raise RRMError("the policy's gradient is not finite; lower lr")
        self.optimizer.step()
        increment_version(self.parameters)  # the fused step does not, and `Fork.version` would miss the change
        self.optimizer.zero_grad()
        return norm.item()


Objective = Callable[[TextAgent, Batch, Settings], tuple[int, Iterable[Tensor]]]
"""What makes one algorithm another: how many of a batch's groups give a signal, and the batch's loss, in parts that are
computed one by one as they are asked for."""


def optimize(
    agent: TextAgent, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log, objective: Objective,
    explored: int = 0,
) -> ImproveReport:  # fmt: skip
    """The loop that all improvers share: `settings.steps` steps on fresh batches, each on the objective's loss.
    `explored`: see `Batch`.

    A batch over the KL limit ends it. Groups without signal cost no forward or backward pass.
    """
    tally = StepTally()
    with agent.fork.training(), agent.backbone.remember():  # reward model and KL ask for the same log-probabilities
        updater = Updater(agent.fork, rate(settings, "lr", agent.backbone), settings.steps)
        for step in range(settings.steps):
            batch = collect(agent, judge, cases, settings, key, step, explored)
            signal, losses = objective(agent, batch, settings)
            skipped = len(batch.groups) - signal
            if tally.over(batch, skipped, settings.max_kl):
                log(step, observe(batch, skipped, 0.0))
                break
            norm = updater.step(losses)
            log(step, observe(batch, skipped, norm))
    return tally.report()


class StepTally:
    """Gathers an `ImproveReport` over the steps."""

    def __init__(self) -> None:
        self.steps = self.skipped = 0
        self.rewards: list[float] = []
        self.kl = 0.0
        self.stopped = False

    def over(self, batch: Batch, skipped: int, limit: float) -> bool:
        """Note a step's samples. Whether their KL is over the limit; then the step is not taken, nor counted."""
        self.skipped += skipped
        self.rewards.append(batch.rewards[:, : batch.own[0].shape[1]].mean().item())
        self.kl = batch.kl
        self.stopped = self.kl > limit
        self.steps += not self.stopped
        return self.stopped

    def report(self) -> ImproveReport:
        """The report so far."""
        first, last = (self.rewards[0], self.rewards[-1]) if self.rewards else (0.0, 0.0)
        return ImproveReport(self.steps, first, last, self.kl, self.skipped, self.stopped)
