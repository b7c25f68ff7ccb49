"""A model of an environment, in which an agent plans: what is judged, and what it learns by, has not happened.

Leike et al. 2018 (arXiv 1811.07871), section 5.6: the user judges predicted outcomes before they are acted out. What is
real is a few episodes a round, of which the model is made; counted are those (`rrm.acting.acted`).

The model is the steps that were really made. After a step that was made before, what came of it then, each of several
as likely as it came; else what came of the nearest one with the same action. So it needs no training, says of a seen
place exactly what is known of it, whatever the wind, and never makes up an observation that nobody saw: with small
observations, as in a grid, a network would first have to learn that they are few (Ormoneit and Sen 2002, Kernel-Based
Reinforcement Learning, Machine Learning 49, with a kernel of one neighbor). Where steps are never twice alike it is
crude: an agent may find ways that are none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rrm.acting.episodes import Array, Episode
from rrm.acting.places import Factories, Place, WatchedEnv, numbers_of
from rrm.acting.step_rows import readable
from rrm.core.errors import RRMError
from rrm.core.records import digest
from rrm.core.seeding import seed_of

APART = 1e3
"""How much farther than any observation another action is, where actions are choices."""


@dataclass(frozen=True)
class Imagine:
    """How an agent plans. Raises `RRMError` for what cannot be.

    Parameters
    ----------
    episodes: that it plays for real in each round, for the model to be learned of.
    model: "learned"; or "given": the environment is a simulation and counts as a model of itself. Then nothing that is
        played in training is real, and nothing else changes.
    """

    episodes: int = 12
    model: Literal["learned", "given"] = "learned"

    def __post_init__(self) -> None:
        if isinstance(self.episodes, bool) or not isinstance(self.episodes, int) or self.episodes < 1:
            raise RRMError(f"imagine={self.episodes!r}: give how many episodes are real in each round, 1 or more")
        if self.model not in ("learned", "given"):
            raise RRMError(f'imagine={self.model!r}: give "learned" or "given", or how many episodes are real')

    @classmethod
    def of(cls, option: object) -> Imagine:
        """As the option `imagine` says it: how many episodes are real, or which model. Raises `RRMError`."""
        return cls(model=option) if isinstance(option, str) else cls(option)  # type: ignore[arg-type]


class WorldModel:
    """What really happened, as a model of what would happen. Raises `RRMError` if nothing did.

    Parameters
    ----------
    episodes: that were played for real.
    actions: their space.
    """

    def __init__(self, episodes: Sequence[Episode], actions: spaces.Space[Any]) -> None:
        episodes = [one for one in episodes if len(one)]
        if not episodes:
            raise RRMError("a model of an environment needs episodes of it")
        _, self._read = readable(actions)
        self._seen = np.concatenate([one.observations[:-1] for one in episodes])
        self.after: Array = np.concatenate([one.observations[1:] for one in episodes])
        acted = np.concatenate([one.actions for one in episodes])
        self._kind = acted.dtype
        self.ended = np.zeros(len(self._seen), np.bool_)
        self.ended[np.cumsum([len(one) for one in episodes]) - 1] = [one.ended for one in episodes]
        self.rewards = np.concatenate([one.hidden["reward"] for one in episodes])
        names = sorted({name for one in episodes for name in one.hidden} - {"reward"})
        self._infos = {name: np.concatenate([_around(one, name) for one in episodes]) for name in names}
        spread = self._seen.std(0)
        self._spread = np.where(spread < 1e-6, 1.0, spread)
        reading = self._reading(acted)
        between = reading.std(0)
        choice = not isinstance(actions, spaces.Box)
        self._weight = np.full(reading.shape[1], APART) if choice else 1 / np.where(between < 1e-6, 1.0, between)
        self._keys = self._key(self._seen, reading)
        self._rows: dict[bytes, list[int]] = {}
        self._names = [one.tobytes() + other.tobytes() for one, other in zip(self._seen, acted, strict=True)]
        for row, name in enumerate(self._names):
            self._rows.setdefault(name, []).append(row)

    @cached_property
    def version(self) -> str:
        """A name of everything in it that an agent may learn by."""
        parts = (self._keys, self.after, self.ended)
        return digest("world model", *(part.tobytes().hex() for part in parts))

    def _reading(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        return self._read(torch.as_tensor(actions)).numpy().astype(np.float32)

    def _key(self, seen: Array, reading: Array) -> NDArray[np.float32]:
        return np.concatenate([seen / self._spread, reading * self._weight], 1).astype(np.float32)

    def step(self, seen: Array, action: Any, draw: float) -> int:
        """Which of the steps that were made is made again, by a draw from [0, 1).

        seen: (numbers,). action: as environments take it.
        """
        taken = np.asarray(action, self._kind)
        name = seen.tobytes() + taken.tobytes()
        rows = self._rows.get(name)
        if rows is None:
            key = self._key(seen[None], self._reading(taken[None]))[0]
            near = int(np.square(self._keys - key).sum(1).argmin())
            rows = self._rows[name] = self._rows[self._names[near]]
        return rows[min(int(draw * len(rows)), len(rows) - 1)]

    def infos(self, row: int, now: Mapping[str, float]) -> dict[str, float]:
        """The numbers of infos after a step, which change as they did then."""
        found = {}
        for name, values in self._infos.items():
            before, after = values[row]
            changed = now.get(name, math.nan) + after - before
            found[name] = float(after) if math.isnan(changed) else float(changed)
        return found


def _around(episode: Episode, name: str) -> NDArray[np.float64]:
    """(steps, 2) an info before and after each step; what there was none of is no number."""
    values = episode.hidden.get(name, np.full(len(episode) + 1, math.nan))
    return np.stack([values[:-1], values[1:]], 1)


IMAGINED = ", imagined by "
"""In `Episode.where` of what never happened."""


class ImaginedEnv(WatchedEnv):
    """An environment that is only looked at as it begins: from there on it is a model's."""

    imagined = True

    def __init__(self, env: WatchedEnv, model: WorldModel) -> None:
        super().__init__(env.env, env.place)
        self.model = model
        self._at: Array = np.zeros(0)
        self._infos: dict[str, float] = {}
        self._draws = np.random.default_rng(0)

    @property
    def name(self) -> str:
        """See `WatchedEnv`; and by which model."""
        return f"{super().name}{IMAGINED}{self.model.version}"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """The environment's own beginning; `seed` decides what comes, too."""
        self._at, info = super().reset(seed=seed, options=options)
        self._infos = numbers_of(info)
        self._draws = np.random.default_rng(seed_of("imagined", seed))
        return self._at, info

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """As the model has it; truncated after the place's `steps`."""
        row = self.model.step(self._at, action, float(self._draws.random()))
        self.time += 1
        self._at, self._infos = self.model.after[row], self.model.infos(row, self._infos)
        cut = self.time >= self.place.steps
        return self._at, float(self.model.rewards[row]), bool(self.model.ended[row]), cut, dict(self._infos)


def opened(place: Place, factories: Factories, model: WorldModel | None = None) -> WatchedEnv:
    """An environment, or what a model makes of it. Raises `PlaceError`."""
    env = place.make(factories)
    return env if model is None else ImaginedEnv(env, model)
