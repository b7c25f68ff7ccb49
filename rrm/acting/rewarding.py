"""Environments whose reward is a judge's: what an agent is optimized for while it acts.

The judge gives an outcome one reward. A reward model over steps (`StepReward`) says which steps it lies in: each is
paid what it adds to the judge's reward of the episode so far, mean and caution (the ensemble's spread in the sum so
far), and the first step also what an episode of no steps would get; where an episode goes on after its end
(`rrm.acting.step_rows`), its last step all that is still to come. So what an episode is paid adds up to what the
judge gives it, and nobody gains by ending early or late, as far as an algorithm does not discount. What is known at the
end only (what assistants found; no form) is paid then. Where parts of episodes are compared (`segment`), there is no
whole that the judge knows of: nothing is paid at the end, and an episode that is cut off counts as going on.

Where the judge holds a constraint (`rrm.loop.cautious`), a step is also charged for what it adds to the chance that the
episode so far is unacceptable, times the multiplier of then: the harm costs where it is done. The multiplier moves
while an episode goes on; what that makes of the charge is settled at the end, as all else that lies in no step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv
from torch import Tensor

from rrm.acting.episodes import ARCHIVE, Episode
from rrm.acting.hazard import chance
from rrm.acting.imagining import WorldModel, opened
from rrm.acting.places import Factories, Place
from rrm.acting.playing import Player, fits
from rrm.acting.remembering import LEFT
from rrm.acting.step_reward import StepReward
from rrm.core.border import plain
from rrm.core.errors import RRMError
from rrm.core.protocols import Cases, Judge
from rrm.core.records import Case, Group, Outcome

PROXY = "proxy"
"""Name of the metric of what the environment itself paid."""
HIDDEN = "hidden "
"""Begins the names of the metrics of what its infos said in the end."""
NAMED = 8
"""Numbers of infos, at most, of which there are metrics."""


@dataclass(frozen=True)
class Finished:
    """An episode that is over: the judge's reward, its length, and what is hidden of it, for metrics that people see
    and nothing learns from."""

    reward: float
    steps: int
    hidden: Mapping[str, float]


def ends_of(hidden: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What the environment itself paid in all (`PROXY`), and the last number of each info (`HIDDEN` and its name)."""
    infos = sorted(hidden.keys() - {"reward"})[:NAMED]
    found = {PROXY: float(sum(hidden["reward"]))}
    found |= {f"{HIDDEN}{plain(name, 60)}": hidden[name][-1] for name in infos}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def hidden_means(done: Sequence[Finished]) -> dict[str, float]:
    """Name -> mean over the episodes that have it."""
    names = dict.fromkeys(name for one in done for name in one.hidden)
    rows = {name: [one.hidden[name] for one in done if name in one.hidden] for name in names}
    means = {name: sum(row) / len(row) for name, row in rows.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
APART = 1e-3
"""Share of an episode's reward, above which what is paid at its end is more than rounding."""


def cautiously(heads: Tensor, caution: float) -> Tensor:
    """(n,) what scores (n, heads) are worth, as the judge takes them (`rrm.loop.cautious`)."""
    return heads.mean(1) - caution * heads.std(1, correction=0)


def paid(
    reward: StepReward, caution: float, seen: Tensor, actions: Tensor, starts: Tensor, ends: Tensor | float = 0.0
) -> Tensor:
    """(steps,) what each step of whole episodes is paid, one episode after the other: as `Rewarded` pays it.

    seen: (steps, numbers). actions: as environments take them. starts: (steps,) bool, of which an episode begins.
    ends: (steps, heads) what is still to come after a step for having ended.
    """
    worth = reward.worth(seen, actions) + ends
    found = []
    for episode in torch.tensor_split(worth, starts.nonzero()[1:, 0]):
        sofar = cautiously(reward.nothing + episode.cumsum(0), caution)
        found.append(torch.diff(sofar, prepend=torch.zeros(1)))
    return torch.cat(found)


def multiplier_of(judge: Judge) -> float:
    """What the judge charges now for an unacceptable episode, in units of reward; 0 where it holds no constraint."""
    return float(getattr(judge, "multiplier", 0.0))


class Rewarded(VecEnv):
    """Environments side by side, each episode of another case, rewarded by a judge. Raises `RRMError` for a reward that
    is no number.

    Parameters
    ----------
    outcome: makes an outcome of an episode, kept in memory.
    count: is told of what was played, of episodes that are over and in the end of those that are not.
    model: it is played in this.

    Attributes
    ----------
    finished: the episodes since it was last emptied.
    """

    def __init__(
        self, cases: Cases, n: int, key: str, judge: Judge, caution: float, kinds: tuple[Any, Any],
        factories: Factories, outcome: Callable[[Case, Episode], Outcome],
        count: Callable[[Sequence[Player]], None] = lambda players: None, model: WorldModel | None = None,
    ) -> None:  # fmt: skip
        super().__init__(n, *kinds)
        self.cases, self.key, self.judge, self.caution = cases, key, judge, caution
        self.kinds, self.factories, self.outcome = kinds, factories, outcome
        self.count, self.model = count, model
        reward = getattr(judge, "reward", None)
        self.reward = reward if isinstance(reward, StepReward) else None
        self.finished: list[Finished] = []
        self._begun = [0] * n
        self._at: list[Case] = []
        self._players: list[Player] = []
        self._paid = np.zeros(n)
        self._apart = [False] * n
        self._sofar = torch.zeros(n, 1)  # (environments, heads) the reward model's score of the episodes so far
        self._dangers = torch.zeros(n, 1)  # (environments, heads) its hazards, added up
        self._actions: NDArray[Any] = np.zeros(0)

    def reset(self) -> NDArray[np.float32]:
        """The first observations."""
        self.close()
        for i in range(self.num_envs):
            self._at.append(self._case(i))
            self._players.append(Player(opened(Place.of(self._at[i]), self.factories, self.model)))
            fits(self._players[i].env, self.kinds)
            self._players[i].begin()
        self._paid[:] = 0
        self._sofar = self._nothing()
        self._dangers = torch.zeros_like(self._sofar)
        return np.stack([player.seen[-1] for player in self._players])

    def step_async(self, actions: NDArray[Any]) -> None:
        """See Stable-Baselines3."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """A step in each environment. What is done begins anew, in another case."""
        before = torch.as_tensor(np.stack([player.seen[-1] for player in self._players]))
        parts = self._parts(before, torch.as_tensor(self._actions))
        for player, action in zip(self._players, self._actions, strict=True):
            player.act(action)
        self._end(parts)
        rewards = parts.copy()
        self._paid += parts
        done = [i for i, player in enumerate(self._players) if player.done]
        if done:
            self._settle(done, rewards)
        if not np.isfinite(rewards).all():
            raise RRMError("a reward is no finite number; a failed judgement is no reward: nothing was learned of it")
        infos: list[dict[str, Any]] = [{} for _ in self._players]
        for i in done:
            cut = bool(self._players[i].env.place.segment) and not self._players[i].ended
            last = self._players[i].seen[-1]
            infos[i] = {"terminal_observation": last, "TimeLimit.truncated": cut, "apart": self._apart[i]}
            infos[i][LEFT] = self._left(self._players[i])
            self._next(i)
        seen = np.stack([player.seen[-1] for player in self._players])
        dones = np.array([i in done for i in range(self.num_envs)])
        return seen, rewards.astype(np.float32), dones, infos

    def _parts(self, seen: Tensor, actions: Tensor) -> NDArray[np.float64]:
        """(environments,) what each step is paid as it is made."""
        if self.reward is None:
            return np.zeros(self.num_envs)
        new = torch.tensor([not player.actions for player in self._players])
        before = torch.where(new, 0.0, self._judged(self._sofar))
        self._sofar = self._sofar + self.reward.worth(seen, actions)
        parts = self._judged(self._sofar) - before
        if (price := multiplier_of(self.judge)) and self.reward.constraint is not None:
            dangers = self._dangers + self.reward.danger(seen, actions)
            parts = parts - price * (chance(dangers) - chance(self._dangers))
            self._dangers = dangers
        return parts.double().numpy()

    def _end(self, parts: NDArray[np.float64]) -> None:
        """Add to what the last step of an episode is paid, which the environment ended, what it is worth to have ended
        there until the limit of its time."""
        over = [i for i, player in enumerate(self._players) if player.ended]
        if self.reward is None or not self.reward.absorbs or not over:
            return
        seen = torch.as_tensor(np.stack([self._players[i].seen[-1] for i in over]))
        left = torch.tensor([self._left(self._players[i]) for i in over])
        sofar = self._sofar[over] + self.reward.after(seen, left)
        parts[over] += (self._judged(sofar) - self._judged(self._sofar[over])).double().numpy()
        self._sofar[over] = sofar

    def _left(self, player: Player) -> float:
        """Steps of an episode that go on after its end, if it has ended."""
        if self.reward is None or not player.ended:
            return 0.0
        return float(max(0, self.reward.limit_of(player.env.place) - player.steps))

    def _nothing(self) -> Tensor:
        """(environments, heads) the score of episodes of no steps."""
        one = torch.zeros(1) if self.reward is None else self.reward.nothing
        return one.repeat(self.num_envs, 1)

    def _judged(self, heads: Tensor) -> Tensor:
        """(environments,) cautiously."""
        return cautiously(heads, self.caution)

    def _settle(self, done: Sequence[int], rewards: NDArray[np.float64]) -> None:
        """Pay finished episodes what their reward is more than they were paid."""
        with ARCHIVE.held():
            outcomes = [self.outcome(self._at[i], self._players[i].episode()) for i in done]
            groups = [Group(self._at[i], (outcome,)) for i, outcome in zip(done, outcomes, strict=True)]
            whole = [float(one[0]) for one in self.judge(groups)]
        for i, total in zip(done, whole, strict=True):
            if not np.isfinite(total):
                raise RRMError("the judge gave an episode a reward that is no finite number")
            rest = 0.0 if self._players[i].env.place.segment else total - self._paid[i]
            rewards[i] += rest
            self._apart[i] = abs(rest) > APART * max(1.0, abs(total))
            self.finished.append(Finished(total, len(self._players[i].actions), ends_of(self._players[i].hidden)))
            self._paid[i] = 0
            self._sofar[i] = self._nothing()[i]
            self._dangers[i] = 0

    def _case(self, i: int) -> Case:
        """The next case of environment `i`."""
        found = self.cases.draw(1, f"{self.key}/{i}/{self._begun[i]}")
        if not found:
            raise RRMError("there are no cases to act in")
        self._begun[i] += 1
        return found[0]

    def _next(self, i: int) -> None:
        """Begin another episode. An environment of the same making is reset, not made again."""
        player, case = self._players[i], self._case(i)
        self.count([player])
        place = Place.of(case)
        self._at[i] = case
        if (place.env, place.kwargs) == (player.env.place.env, player.env.place.kwargs):
            player.env.place = place
        else:
            player.env.close()
            player.env = opened(place, self.factories, self.model)
            fits(player.env, self.kinds)
        player.begin()

    def close(self) -> None:
        """All environments."""
        self.count(self._players)
        for player in self._players:
            player.env.close()
        self._players, self._at = [], []

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """See Stable-Baselines3; there is nothing of them to be had but how they render, which they do not."""
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing can be set."""
        raise NotImplementedError(f"{attr_name} of environments in training cannot be set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Nothing can be called."""
        raise NotImplementedError(f"{method_name} of environments in training cannot be called")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """In nothing of Stable-Baselines3's."""
        return [False for _ in self._get_indices(indices)]


class Blank(VecEnv):
    """Spaces without environments: what an algorithm is made with before it acts anywhere."""

    def __init__(self, seen: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        super().__init__(1, seen, actions)

    def reset(self) -> Any:
        """There is nowhere to be."""
        raise NotImplementedError("nobody acts here")

    def step_async(self, actions: Any) -> None:
        """There is nowhere to act."""
        raise NotImplementedError("nobody acts here")

    def step_wait(self) -> Any:
        """There is nowhere to act."""
        raise NotImplementedError("nobody acts here")

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """None."""
        return [None]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing."""

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """None."""
        return [None]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No."""
        return [False]
