"""Episodes as one table of steps, as reward models over steps read them; and how they go on after their end.

A sum over steps pays for every step, so it pays an agent for staying where a step is worth something, and for ending
soon where it costs: the length of an episode is worth something, whatever it says of what the user wants. Kostrikov et
al. 2019 (Discriminator-Actor-Critic, arXiv 1809.02925, section 4.1) mend it for rewards that imitate: an episode that
the environment ended is in an absorbing state from then on, until the limit of its time, and what a step there is worth
is learned as that of any other. Then all episodes have equally many steps. Here the absorbing state is the last
observation with a mark that it is over, so that it is told apart where episodes end well and where they end badly; one
row of the table stands for all its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn


def readable(actions: spaces.Space[Any]) -> tuple[int, Callable[[Tensor], Tensor]]:
    """How many numbers an action is read as, and the reading: (steps,) or (steps, numbers) -> (steps, numbers)."""
    if isinstance(actions, spaces.Discrete):
        n = int(actions.n)
        return n, lambda taken: nn.functional.one_hot(taken.long(), n).float()
    if isinstance(actions, spaces.MultiDiscrete):
        sizes = [int(n) for n in actions.nvec.ravel()]
        return sum(sizes), lambda taken: torch.cat(
            [nn.functional.one_hot(taken[:, i].long(), n).float() for i, n in enumerate(sizes)], 1
        )
    width = int(np.prod(actions.shape or (1,)))
    return width, lambda taken: taken.float().reshape(len(taken), width)


class StepRows:
    """Outcomes as one table of steps.

    Parameters
    ----------
    steps: of each outcome (steps, numbers), those that were made; behind them one of the absorbing state, if there are
        any in it. left: of each outcome, how many there are in it.
    beside: (outcomes, numbers) of what assistants found.

    Attributes
    ----------
    steps: (rows, numbers) of all. owner: (rows,) of which outcome. times: (rows,) how many steps a row stands for.
    made: (rows,) bool, whether it is a step that was made.
    length: mean steps of an outcome, those of the absorbing state, too.
    """

    def __init__(self, steps: Sequence[Tensor], left: Sequence[int], beside: Tensor) -> None:
        self._parts, self._left = [*steps], [*left]
        self.beside = beside
        self.steps = torch.cat(self._parts)
        sizes = torch.tensor([len(rows) for rows in steps])
        self.owner = torch.arange(len(steps)).repeat_interleave(sizes)
        self.times = torch.ones(len(self.steps))
        self.made = torch.ones(len(self.steps), dtype=torch.bool)
        many = torch.tensor(self._left)
        last = (sizes.cumsum(0) - 1)[many > 0]
        self.times[last], self.made[last] = many[many > 0].float(), False
        self.length = float((sizes + (many - 1).clamp(min=0)).float().mean())

    def of(self, outcomes: Tensor) -> StepRows:
        """Some of the outcomes, in this order."""
        chosen = outcomes.tolist()
        return StepRows([self._parts[i] for i in chosen], [self._left[i] for i in chosen], self.beside[outcomes])

    def summed(self, values: Tensor) -> Tensor:
        """(rows, heads), what a step of each is worth -> (outcomes, heads)."""
        if not bool(self.made.all()):
            values = values * self.times[:, None]
        return torch.zeros((len(self.beside), values.shape[1])).index_add(0, self.owner, values)
