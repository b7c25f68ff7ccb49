"""Episodes of a policy, many environments side by side; each hangs on (weights, case, key) and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rrm.acting.episodes import Array, Episode
from rrm.acting.places import Factories, Place, PlaceError, WatchedEnv, same_spaces
from rrm.core.seeding import generator

TOGETHER = 64
"""Episodes that are played side by side."""
NOISE = 128
"""Steps whose noise is drawn at once."""

Act = Callable[[Tensor, Tensor], Tensor]
"""Observations (n, numbers) and noise (n, numbers) -> actions (n,) or (n, numbers)."""


@dataclass
class Player:
    """One episode as it is played."""

    env: WatchedEnv
    seen: list[Array] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    hidden: dict[str, list[float]] = field(default_factory=lambda: {"reward": []})
    ended: bool = False
    done: bool = False

    def begin(self) -> None:
        """At the place's start."""
        self.seen, self.actions, self.hidden, self.ended, self.done = [], [], {"reward": []}, False, False
        seen, info = self.env.reset(seed=self.env.place.seed)
        self._heard(seen, info)

    def act(self, action: Any) -> None:
        """One step."""
        seen, reward, self.ended, cut, info = self.env.step(action)
        self.actions.append(action)
        self.hidden["reward"].append(reward)
        self._heard(seen, info)
        self.done = self.ended or cut

    def _heard(self, seen: Array, info: Mapping[str, Any]) -> None:
        """An observation, and the numbers of an info; what is missing at a time is no number there."""
        self.seen.append(seen)
        kinds = (int, float, np.number, np.bool_)
        now = {key: float(value) for key, value in info.items() if isinstance(value, kinds)}
        now = {str(key).encode("utf-8", "backslashreplace").decode(): value for key, value in now.items()}
        for key in {*self.hidden, *now} - {"reward"}:
            row = self.hidden.setdefault(key, [float("nan")] * (len(self.seen) - 1))
            row.append(now.get(key, float("nan")))

    def episode(self) -> Episode:
        """What happened."""
        hidden = {key: np.asarray(values, np.float64) for key, values in self.hidden.items()}
        kind = np.int64 if np.issubdtype(np.asarray(self.actions[0]).dtype, np.integer) else np.float32
        return Episode(np.stack(self.seen), np.asarray(self.actions, kind), self.ended, hidden, self.env.place.name)


def play(
    places: Sequence[Place], keys: Sequence[str], act: Act, noises: int, kinds: Sequence[spaces.Space[Any]],
    factories: Factories,
) -> list[Episode]:
    """An episode in each place.

    Parameters
    ----------
    keys: names of the random streams, one a place.
    noises: numbers of noise that `act` takes for an action, uniform in [0, 1).
    kinds: the spaces of observations and actions that `act` knows. Raises `PlaceError` for a place with others.
    """
    episodes: list[Episode] = []
    for first in range(0, len(places), TOGETHER):
        some = slice(first, first + TOGETHER)
        episodes += _played(places[some], keys[some], act, noises, kinds, factories)
    return episodes


def _played(
    places: Sequence[Place], keys: Sequence[str], act: Act, noises: int, kinds: Sequence[spaces.Space[Any]],
    factories: Factories,
) -> list[Episode]:
    players: list[Player] = []
    try:
        for place in places:
            players.append(Player(place.make(factories)))
            fits(players[-1].env, kinds)
            players[-1].begin()
        streams = [generator("acting", key) for key in keys]
        drawn = torch.empty(0)
        time = 0
        while active := [i for i, player in enumerate(players) if not player.done]:
            if time % NOISE == 0:
                drawn = torch.stack([torch.rand((NOISE, noises), generator=stream) for stream in streams])
            with torch.no_grad():
                seen = torch.as_tensor(np.stack([players[i].seen[-1] for i in active]))
                chosen = act(seen, drawn[active, time % NOISE]).numpy()
            for i, action in zip(active, chosen, strict=True):
                players[i].act(action)
            time += 1
    finally:
        for player in players:
            player.env.close()
    return [player.episode() for player in players]


def fits(env: WatchedEnv, kinds: Sequence[spaces.Space[Any]]) -> None:
    """Raise `PlaceError` if a policy over other spaces would act here."""
    if not same_spaces((env.observation_space, env.action_space), kinds):
        raise PlaceError(
            f"{env.place.env} with {dict(env.place.kwargs)} has other spaces than the agent learned in: "
            f"{env.observation_space}, {env.action_space}, not {kinds[0]}, {kinds[1]}"
        )
