"""What an off-policy agent remembers: steps of its episodes, which are paid anew when the reward model has changed.

A step that was made stays true of the environment; only what it is worth is said otherwise (Lee et al. 2021, PEBBLE,
arXiv 2106.05091, section 4.2). Stable-Baselines3's buffer holds a row of environments for each step, and forgets which
episode a step was of; a reward that hangs on the episode so far (`rrm.acting.rewarding`) could not be told again. So
this one is flat, and knows of each step the episode and the time in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from rrm.core.errors import ModelError, RRMError

PARTS = ("seen", "after", "actions", "final", "apart", "episode", "time")
"""Of a step, as they are kept; what it is worth is not, since it is told anew."""
LEFT = "left"
"""Kept, too, where the end of an episode is worth something."""
Paid = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""What steps are worth (steps,), of observations before and after them (steps, numbers), actions (steps, numbers),
starts (steps,) bool, and the steps (steps,) that were left after an episode's end, 0 elsewhere; in the order of their
episodes."""


class Replay(BaseBuffer):
    """The last `buffer_size` steps, whatever environments they were made in. Raises `RRMError` for a size below 1.

    Its parts, `replay[name]`: "seen", "after" (steps, numbers) float32 observations, before and after an action;
    "actions" (steps, numbers) as the algorithm takes them: a choice, or shares of the bounds in [-1, 1]; "final"
    (steps,) 1 where the episode ended and nothing comes after; "apart" (steps,) bool, whether the end of an episode was
    paid for what lies in no step; "episode", "time" (steps,) int64, episodes numbered as they begin.

    ends: whether it keeps "left", too (steps,) float32: after the end of an episode, the steps until its limit.

    Attributes
    ----------
    rewards: (steps,) float32, and room for more.
    n: steps that it holds.
    """

    def __init__(
        self, buffer_size: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any],
        device: Any = "cpu", n_envs: int = 1, optimize_memory_usage: bool = False, ends: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(buffer_size, observation_space, action_space, device, n_envs)
        if isinstance(buffer_size, bool) or not isinstance(buffer_size, int) or buffer_size < 1:
            raise RRMError(f"buffer_size={buffer_size!r}: give a whole number of steps, 1 or more")
        if optimize_memory_usage:
            raise RRMError("optimize_memory_usage: not of a replay that is paid anew; leave it out, lower buffer_size")
        whole = isinstance(action_space, spaces.Discrete)
        kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
            "seen": (np.float32, self.obs_shape), "after": (np.float32, self.obs_shape),
            "actions": (np.int64 if whole else np.float32, (self.action_dim,)), "final": (np.float32, ()),
            "apart": (np.bool_, ()), "episode": (np.int64, ()), "time": (np.int64, ()),
        }  # fmt: skip
        kinds |= {LEFT: (np.float32, ())} if ends else {}
        self.parts = tuple(kinds)
        self._rows = {name: np.zeros((buffer_size, *shape), kind) for name, (kind, shape) in kinds.items()}
        self.rewards: NDArray[np.float32] = np.zeros(buffer_size, np.float32)
        self.n = 0
        self._open: list[tuple[int, int]] = []  # per environment: number of its episode, and the time in it
        self._episodes = 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._rows[name][: self.n]

    # --- as Stable-Baselines3's ----------------------------------------------------------------------

    def add(
        self, obs: NDArray[Any], next_obs: NDArray[Any], action: NDArray[Any], reward: NDArray[Any],
        done: NDArray[Any], infos: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """A step of each environment, the oldest steps making room. See Stable-Baselines3; of `infos`: whether an end
        was a cut only ("TimeLimit.truncated"), and was paid for what lies in no step ("apart")."""
        if not self._open:
            self._open = [self._begun() for _ in range(len(obs))]
        action = action.reshape(len(obs), self.action_dim)
        for i, info in enumerate(infos):
            number, time = self._open[i]
            cut = bool(info.get("TimeLimit.truncated", False))
            row = {
                "seen": obs[i], "after": next_obs[i], "actions": action[i], "final": float(done[i] and not cut),
                "apart": bool(info.get("apart", False)), "episode": number, "time": time,
                LEFT: info.get(LEFT, 0.0),
            }  # fmt: skip
            for name in self.parts:
                self._rows[name][self.pos] = row[name]
            self.rewards[self.pos] = reward[i]
            self.pos = (self.pos + 1) % self.buffer_size
            self.n = min(self.n + 1, self.buffer_size)
            self.full = self.n == self.buffer_size
            self._open[i] = self._begun() if done[i] else (number, time + 1)

    def _begun(self) -> tuple[int, int]:
        self._episodes += 1
        return self._episodes - 1, 0

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """Any of its steps, alike likely, from numpy's global stream."""
        chosen = np.random.randint(0, self.n, size=batch_size)
        return self._get_samples(chosen, env)

    def _get_samples(self, batch_inds: NDArray[Any], env: Any = None) -> ReplayBufferSamples:
        parts = (self._rows[name][batch_inds] for name in ("seen", "actions", "after"))
        seen, actions, after = (torch.as_tensor(part) for part in parts)
        column = (torch.as_tensor(part[batch_inds])[:, None] for part in (self._rows["final"], self.rewards))
        final, rewards = column
        return ReplayBufferSamples(seen, actions, after, final, rewards)

    # --- when the reward changes ---------------------------------------------------------------------

    def relabel(self, paid: Paid) -> int:
        """Pay all steps anew. Returns how many were forgotten: those of an episode whose beginning made room for later
        steps, and those of one whose end was paid for what lies in no step (it had no form): neither can be told again.
        """
        order = np.lexsort((self["time"], self["episode"]))
        episode, time, apart = (self[name][order] for name in ("episode", "time", "apart"))
        whole = np.isin(episode, episode[time == 0]) & ~np.isin(episode, episode[apart])
        forgotten = self.n - int(whole.sum())
        self._put({name: self[name][order[whole]] for name in self.parts})
        if self.n:
            starts = torch.as_tensor(self["time"] == 0)
            left = torch.as_tensor(self[LEFT]) if LEFT in self.parts else torch.zeros(self.n)
            seen, after, actions = (torch.as_tensor(self[name]) for name in ("seen", "after", "actions"))
            rewards = paid(seen, after, actions, starts, left).numpy()
            if not np.isfinite(rewards).all():
                raise RRMError("a reward is no finite number; nothing was learned of it")
            self.rewards[: self.n] = rewards
        return forgotten

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.n = self.pos = 0
        self._open, self._episodes = [], 0

    def _put(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Hold these steps and no others, the oldest first."""
        self.reset()
        self.n = len(rows["time"])
        for name, values in rows.items():
            self._rows[name][: self.n] = values
        self.pos = self.n % self.buffer_size
        self._episodes = int(rows["episode"].max()) + 1 if self.n else 0

    # --- storage -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """A copy of its steps, the oldest first. After `load` of it, episodes that were open are not gone on with."""
        oldest = self.pos if self.n == self.buffer_size else 0
        return {name: torch.as_tensor(np.roll(self[name], -oldest, 0).copy()) for name in self.parts}

    def load(self, state: Mapping[str, Tensor], who: str) -> None:
        """Hold what `state` was taken of. Raises `ModelError` for what was remembered of another environment."""
        rows = {name: state[name].numpy() for name in self.parts}
        n = len(rows["time"])
        for name, values in rows.items():
            own = self._rows[name]
            if values.shape != (n, *own.shape[1:]) or values.dtype != own.dtype or n > self.buffer_size:
                raise ModelError(
                    f"{who}: what it remembers ({name}: {values.shape}, {values.dtype}) is of another environment, or "
                    f"more than buffer_size={self.buffer_size}"
                )
        self._put(rows)
