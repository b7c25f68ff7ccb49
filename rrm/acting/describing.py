"""An episode in words, for people and for models that read: the environment's own, or a table of its steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rrm.acting.episodes import Episode
from rrm.acting.places import Factories, Place
from rrm.core import border

Describe = Callable[[Place, Episode], str]
SHOWN = 12
"""Steps of a table, half of them from the beginning and half from the end."""
WIDE = 8
"""Numbers of an observation that a table shows."""


def in_words(factories: Factories) -> Describe:
    """By the environment's method `describe(episode)`, if it has one; else `table`. An environment describes what the
    agent saw and did (`observations`, `actions`); what is hidden it must not tell, since the user reads this."""
    known: dict[str, Callable[[Episode], str] | None] = {}

    def describe(place: Place, episode: Episode) -> str:
        name = place.kind
        if name not in known:
            env = place.make(factories)
            own = getattr(env.unwrapped, "describe", None)
            known[name] = own if callable(own) else None
            env.close()
        found = known[name]
        if found is None:
            return table(episode)
        where = f"describe of {place.env}"
        with border.told(where):
            return border.said(found(episode), where)

    return describe


def table(episode: Episode) -> str:
    """A line for each step: its number, what was seen, what was done; the middle of a long one is left out."""
    steps = len(episode)
    chosen = range(steps) if steps <= SHOWN else [*range(SHOWN // 2), *range(steps - SHOWN // 2, steps)]
    lines = [f"{steps} steps, {'ended' if episode.ended else 'cut off'}"]
    for step in chosen:
        if step == steps - SHOWN // 2 and steps > SHOWN:
            lines.append("...")
        lines.append(f"{step + 1}: saw {_numbers(episode.observations[step])}; did {_numbers(episode.actions[step])}")
    return "\n".join(lines)


def _numbers(value: object) -> str:
    flat = np.asarray(value).ravel()
    shown = " ".join(f"{number:.3g}" for number in flat[:WIDE].tolist())
    return f"{shown} ..." if len(flat) > WIDE else shown
