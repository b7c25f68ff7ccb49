"""Episodes of a policy, many environments side by side; each hangs on (weights, case, key) and on nothing else.

Not on how many are played together, to the bit: a policy is always asked for `TOGETHER` actions at once, the rest of
them about nothing, since a product of matrices of another size rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rrm.acting.episodes import Array, Episode
from rrm.acting.falling_back import FallbackGuard
from rrm.acting.imagining import WorldModel, opened
from rrm.acting.places import Factories, Place, PlaceError, WatchedEnv, numbers_of, same_spaces
from rrm.core.parties import TAMPERED, UNACCEPTABLE
from rrm.core.seeding import generator

TOGETHER = 64
"""Most episodes that are played side by side, and how many do unless it is said."""
BEFORE = 100_000
"""Actions before a part of an episode that are remembered, so that it can be played again."""
HELD = 4 << 30
"""Bytes of observations that episodes which are played side by side may hold; longer ones want `segment`."""
NOISE = 128
"""Steps whose noise is drawn at once."""

Act = Callable[[Tensor, Tensor], Tensor]
"""Observations (n, numbers) and noise (n, numbers) -> actions (n,) or (n, numbers)."""


@dataclass
class Player:
    """One episode as it is played.

    Parameters
    ----------
    window: of an episode of more steps, keep so many that follow one another, wherever they lie, alike likely; 0: all.
    stream: decides which.
    """

    env: WatchedEnv
    window: int = 0
    stream: torch.Generator | None = None
    seen: list[Array] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    hidden: dict[str, list[float]] = field(default_factory=lambda: {"reward": []})
    ended: bool = False
    done: bool = False
    steps: int = 0
    fell_back: int | None = None
    """Steps of it in which a safe action stood in for what the agent wanted; None: nobody looked (`FallbackGuard`)."""
    harm: bool | None = None
    """Whether something unacceptable happened so far; None: the environment does not say what that is."""
    tampered: bool | None = None
    """Whether what judges see of it was tampered with so far; None as above."""
    _past: list[Any] = field(default_factory=list)
    _first: int = 0
    _chosen: Episode | None = None

    def begin(self) -> None:
        """At the place's start."""
        self.seen, self.actions, self.hidden, self.ended, self.done = [], [], {"reward": []}, False, False
        self._past, self.steps, self._first, self._chosen = [], 0, 0, None
        self.harm = self.tampered = self.fell_back = None
        seen, info = self.env.reset(seed=self.env.place.seed)
        self._heard(seen, info)

    def act(self, action: Any, safe: bool | None = None) -> None:
        """One step. safe: whether it is one that was fallen back on."""
        if safe is not None:
            self.fell_back = (self.fell_back or 0) + bool(safe)
        seen, reward, self.ended, cut, info = self.env.step(action)
        self.actions.append(action)
        self.hidden["reward"].append(reward)
        self._heard(seen, info)
        self.done = self.ended or cut
        self.steps += 1
        if self.window and self.steps >= self.window:
            self._choose()

    def _heard(self, seen: Array, info: Mapping[str, Any]) -> None:
        """An observation, and the numbers of an info; what is missing at a time is no number there."""
        self.seen.append(seen)
        now = numbers_of(info)
        if UNACCEPTABLE in now:
            self.harm = bool(self.harm) or now[UNACCEPTABLE] > 0
        if TAMPERED in now:
            self.tampered = bool(self.tampered) or now[TAMPERED] > 0
        for key in {*self.hidden, *now} - {"reward"}:
            row = self.hidden.setdefault(key, [float("nan")] * (len(self.seen) - 1))
            row.append(now.get(key, float("nan")))

    def _choose(self) -> None:
        """The last `window` steps in the place of those that were chosen, with the chance that makes all alike likely
        (one of as many as there were: Vitter 1985), and forget what came before them."""
        if len(self.actions) > self.window:
            if len(self._past) < BEFORE:
                self._past.append(self.actions[0])
            for row in (self.seen, self.actions, *self.hidden.values()):
                del row[0]
        draw = float(torch.rand((), generator=self.stream, dtype=torch.float64))
        if self._chosen is None or draw * (self.steps - self.window + 1) < 1:
            self._first = self.steps - self.window
            whole = self._episode()
            self._chosen = replace(whole, where=f"{whole.where} from {self._first}") if self._first else whole

    @property
    def before(self) -> Array | None:
        """The actions before the part that was chosen; None if there were more than are remembered."""
        return np.asarray(self._past[: self._first]) if self._first <= len(self._past) else None

    def episode(self) -> Episode:
        """What happened, or the part of it that was chosen."""
        return self._episode() if self._chosen is None else self._chosen

    def _episode(self) -> Episode:
        hidden = {key: np.asarray(values, np.float64) for key, values in self.hidden.items()}
        kind = np.int64 if np.issubdtype(np.asarray(self.actions[0]).dtype, np.integer) else np.float32
        return Episode(np.stack(self.seen), np.asarray(self.actions, kind), self.ended, hidden, self.env.name)


def play(
    places: Sequence[Place], keys: Sequence[str], act: Act, noises: int, kinds: Sequence[spaces.Space[Any]],
    factories: Factories, together: int = TOGETHER, parts: Sequence[str] | None = None,
    count: Callable[[Sequence[Player]], None] = lambda players: None, model: WorldModel | None = None,
    guard: FallbackGuard | None = None,
) -> Iterator[tuple[Episode, Array | None]]:
    """An episode in each place, or the part of it that is an outcome (`Place.segment`), and the actions before it
    (None where those are too many).

    Parameters
    ----------
    keys: names of the random streams, one a place.
    noises: numbers of noise that `act` takes for an action, uniform in [0, 1).
    kinds: the spaces of observations and actions that `act` knows. Raises `PlaceError` for a place with others, and for
        episodes that hold too much to be kept whole.
    together: how many are played side by side, `TOGETHER` at most.
    parts: names of the streams that decide which part it is; by default `keys`.
    count: is told of what was played.
    model: it is played in this.
    guard: what the agent falls back by, if it does.
    """
    for first in range(0, len(places), together):
        some = slice(first, first + together)
        yield from _played(
            places[some], keys[some], act, noises, kinds, factories, (parts or keys)[some], count, model, guard
        )


def _played(
    places: Sequence[Place], keys: Sequence[str], act: Act, noises: int, kinds: Sequence[spaces.Space[Any]],
    factories: Factories, parts: Sequence[str], count: Callable[[Sequence[Player]], None],
    model: WorldModel | None, guard: FallbackGuard | None,
) -> list[tuple[Episode, Array | None]]:
    players: list[Player] = []
    try:
        for place, part in zip(places, parts, strict=True):
            players.append(Player(opened(place, factories, model), place.segment, generator("part", part)))
            fits(players[-1].env, kinds)
            players[-1].begin()
        streams = [generator("acting", key) for key in keys]
        seen, noise = torch.zeros(TOGETHER, *players[0].seen[0].shape), torch.full((TOGETHER, noises), 0.5)
        drawn = torch.empty(0)
        time = 0
        while active := [i for i, player in enumerate(players) if not player.done]:
            if time % NOISE == 0:
                drawn = torch.stack([torch.rand((NOISE, noises), generator=stream) for stream in streams])
                _few(players)
            seen[active] = torch.as_tensor(np.stack([players[i].seen[-1] for i in active]))
            noise[active] = drawn[active, time % NOISE]
            with torch.no_grad():
                wanted = act(seen, noise)
            unsure = None if guard is None else guard.unsure(seen, wanted)
            for i in active:
                if guard is None or unsure is None:
                    players[i].act(wanted[i].numpy())
                else:
                    players[i].act(guard.safe(players[i].env) if unsure[i] else wanted[i].numpy(), unsure[i])
            time += 1
    finally:
        count(players)
        for player in players:
            player.env.close()
    return [(player.episode(), player.before) for player in players]


def _few(players: Sequence[Player]) -> None:
    """Raise `PlaceError` if what they hold outgrows the memory."""
    held = sum(len(player.seen) * player.seen[0].nbytes for player in players)
    if held > HELD:
        place, longest = players[0].env.place, max(len(player.actions) for player in players)
        raise PlaceError(
            f"{place.env}: {len(players)} episodes of {longest} steps so far hold {held >> 20} MiB of observations; "
            "compare parts of them (rrm.acting.cases with segment=), cut them off earlier (steps=), or play fewer side "
            "by side (Acting(places=))"
        )


def fits(env: WatchedEnv, kinds: Sequence[spaces.Space[Any]]) -> None:
    """Raise `PlaceError` if a policy over other spaces would act here."""
    if not same_spaces((env.observation_space, env.action_space), kinds):
        raise PlaceError(
            f"{env.place.env} with {dict(env.place.kwargs)} has other spaces than the agent learned in: "
            f"{env.observation_space}, {env.action_space}, not {kinds[0]}, {kinds[1]}"
        )
