"""The constraint of a reward model over steps: from marks of whole episodes to the danger of each step.

A user says of an episode that it is unacceptable, not at which step it became so. Each step has a hazard of its own,
and an episode is unacceptable if anything in it was:

    h_t = softplus(net(observation, action)),      P(unacceptable) = 1 - exp(-sum over steps of h_t)

This is a noisy-or over steps (Maron and Lozano-Perez 1998, A framework for multiple-instance learning), and what
hazards add up to in survival analysis. Fitted by the likelihood of the marks as they are, without weights for the
rarer kind: the chance is held to a limit (`Settings.unacceptable`), so it must be one. Rare marks are not lost: hazards
begin at what the share of marks says of a step, and every step of the fit sees all marks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rrm.acting.step_network import begun, scale_of, through
from rrm.core.seeding import generator

STEPS = 150
"""Of the fit, each on all marks."""
LR = 1e-2
DECAY = 0.01
"""Learning rate and weight decay of AdamW; the rate falls to 0."""
LEAST = 1e-6
"""Added to sums of hazards in the likelihood, so that it is finite."""
NAME = "constraint."
"""Begins the names of its tensors in a state."""


class Hazard:
    """An ensemble of networks over (observation, action).

    Parameters
    ----------
    parameters: of the networks. center, spread: (numbers,) of the steps that it was fitted on.
    """

    def __init__(self, parameters: Mapping[str, Tensor], center: Tensor, spread: Tensor) -> None:
        self.parameters, self.center, self.spread = dict(parameters), center, spread

    @classmethod
    def fitted(cls, steps: Tensor, owner: Tensor, marks: Tensor, weight: Tensor, name: str) -> Hazard:
        """Of marked episodes.

        Parameters
        ----------
        steps: (steps of all, numbers). owner: (steps of all,) the place of a step's episode among the marked ones.
        marks: (episodes,) 1 unacceptable, 0 not. Where all are alike there is nothing to tell apart: the rate alone.
        weight: (episodes, heads) of the bootstrap.
        name: of the random beginning.
        """
        heads, n = weight.shape[1], len(marks)
        found = cls(begun(steps.shape[1], heads, generator("hazard", name)), *scale_of(steps))
        rate = -torch.log1p(-(marks.sum() + 0.5) / (n + 1)) * n / len(steps)  # of a step, where all are alike
        found.parameters["three.bias"] += torch.expm1(rate).log()  # softplus of it is the rate
        learned = [value.requires_grad_() for value in found.parameters.values()]
        optimizer = torch.optim.AdamW(learned, lr=LR, weight_decay=DECAY)
        zero = torch.zeros(n, heads)
        for step in range(0 if bool((marks == marks[0]).all()) else STEPS):
            for group in optimizer.param_groups:
                group["lr"] = LR * (STEPS - step) / STEPS
            sums = zero.index_add(0, owner, found.of(steps)) + LEAST
            loss = torch.where(marks[:, None] > 0, -(-torch.expm1(-sums)).log(), sums)
            optimizer.zero_grad()
            (weight * loss).sum().div(n).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
        found.parameters = {name: value.detach() for name, value in found.parameters.items()}
        return found

    def of(self, steps: Tensor) -> Tensor:
        """(steps, numbers) -> (steps, heads), 0 or more."""
        return nn.functional.softplus(through(self.parameters, (steps - self.center) / self.spread))

    def tensors(self) -> dict[str, Tensor]:
        """All that it is, by name."""
        own = {**self.parameters, "center": self.center, "spread": self.spread}
        return {NAME + name: value for name, value in own.items()}

    @classmethod
    def of_tensors(cls, state: Mapping[str, Tensor]) -> Hazard:
        """From what `tensors` gave."""
        own = {name.removeprefix(NAME): value.clone() for name, value in state.items()}
        center, spread = own.pop("center"), own.pop("spread")
        return cls(own, center, spread)


def chance(hazards: Tensor) -> Tensor:
    """(n, heads) sums of hazards -> (n,) the chance that it is unacceptable, the ensemble's mean."""
    return -torch.expm1(-hazards).mean(1)
