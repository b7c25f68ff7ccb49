"""Films of episodes that are about to be judged: as their task draws them, or as their environment renders them.

A rendered film is made by playing the episode again, from its seed and its actions: so only what somebody may look at
costs anything, and training renders nothing. An environment that then does otherwise than it did gets no film.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rrm.acting.episodes import Array, Episode, episode_of
from rrm.acting.imagining import IMAGINED
from rrm.acting.places import Factories, Place, PlaceError, WatchedEnv
from rrm.core.blame import at
from rrm.core.border import BROKEN, plain
from rrm.core.errors import Notice
from rrm.core.judgements import Pair
from rrm.core.records import Case, Outcome
from rrm.core.task import Picture, Task
from rrm.store.films import BYTES, MOST_DRAWN, MOST_PAINTED, Film, FilmError, keep, painted, path_of, spread

MODES = ("rgb_array", "ansi")
"""Of rendering, as Gymnasium names them, in the order in which they are tried."""
PARTS = 4096
"""Parts of episodes of which it is remembered what went before."""
COLORED = re.compile(r"\x1b\[[1-9][0-9;]*m(.*?)\x1b\[0?m", re.DOTALL)


class Camera:
    """Makes the films of an agent's episodes.

    Parameters
    ----------
    repeatable: whether its environments do the same again; of those that do not only drawings can be shown.
    """

    def __init__(self, factories: Factories, repeatable: bool) -> None:
        self.factories, self.repeatable = factories, repeatable
        self._before: OrderedDict[str, Array | None] = OrderedDict()
        self._blind: set[str] = set()
        """Environments of which there are no pictures to be had."""

    def cut(self, part: Episode, before: Array | None) -> None:
        """Remember the actions before a part of an episode: its film begins there. None: of it there is no film."""
        self._before[part.name] = before
        while len(self._before) > PARTS:
            self._before.popitem(last=False)

    def film(self, folder: Path, task: Task, pairs: Sequence[Pair]) -> None:
        """Keep films of both outcomes of each pair in a run's folder. Where there is nothing to show, none is kept; if
        that is a fault, it is said once: what cannot be looked at is judged all the same."""
        for pair in pairs:
            for outcome in (pair.a, pair.b):
                if path_of(folder, pair.case.id, outcome.id).exists():
                    continue
                if (found := self._made(task, pair.case, outcome)) is not None:
                    keep(folder, pair.case.id, outcome.id, found)

    def _made(self, task: Task, case: Case, outcome: Outcome) -> Film | None:
        episode = episode_of(outcome)
        if (found := drawn(task, case, outcome, episode)) is not None or not self.repeatable:
            return found
        if IMAGINED in episode.where:  # it cannot be played again: it never was
            return None
        place = Place.of(case)
        name = f"{place.env} {sorted(place.kwargs.items())}"
        if name in self._blind or self._before.get(episode.name, ()) is None:
            return None
        if place.segment and episode.name not in self._before:
            return None  # a part whose beginning was played elsewhere, or so long ago that it is forgotten
        try:
            found = rendered(place, self.factories, episode, self._before.get(episode.name))
        except (PlaceError, FilmError) as error:
            warnings.warn(f"{task.path}: no pictures of an episode: {error}", Notice, stacklevel=2)
        if found is None:
            self._blind.add(name)
        return found


def drawn(task: Task, case: Case, outcome: Outcome, episode: Episode) -> Film | None:
    """As the task draws it (`Task.drawing`), without assistance; None if it draws nothing."""
    pictures = task.pictured(case, outcome, ())
    if not pictures:
        return None
    last = max(1, len(pictures) - 1)
    chosen = spread(len(pictures), MOST_DRAWN)  # of one picture a step, and one before the first, each has its own
    return _of_texts(len(episode), [i * len(episode) // last for i in chosen], [pictures[i] for i in chosen])


def rendered(place: Place, factories: Factories, episode: Episode, before: Array | None = None) -> Film | None:
    """As the environment renders it; None if it renders nothing.

    Parameters
    ----------
    before: the actions before the episode's first, if it is a part of one.

    Raises
    ------
    FilmError: it does otherwise than it did, or its pictures are none.
    PlaceError: it cannot be made to render, or raises.
    """
    with _without_a_window():
        opened = _rendering(place, factories)
        return None if opened is None else _played(place, *opened, episode, before)


def _played(place: Place, env: WatchedEnv, mode: str, episode: Episode, before: Array | None) -> Film:
    """The episode again, with a frame of each moment that is shown."""
    steps = spread(len(episode) + 1, MOST_PAINTED if mode == "rgb_array" else MOST_DRAWN)
    frames: list[Any] = []
    try:
        seen, _ = env.reset(seed=place.seed)
        for action in () if before is None else before:
            seen, *_ = env.step(action)
        for step in range(len(episode) + 1):
            if not np.array_equal(seen, episode.observations[step]):
                raise FilmError(f"{place.env} did otherwise than it had done, at step {step}")
            if step in steps:
                frames.append(_frame(env))
            if step < len(episode):
                seen, *_ = env.step(episode.actions[step])
    finally:
        env.close()
    captions = [f"after {step} of {len(episode)} steps" for step in steps]
    if mode == "ansi":
        texts = [COLORED.sub(r"[\1]", str(frame)) for frame in frames]  # what stood out by its color still does
        return _of_texts(len(episode), steps, [Picture(*both) for both in zip(captions, texts, strict=True)])
    images = painted([np.asarray(frame) for frame in frames])
    return Film(len(episode), tuple(steps), tuple(captions), ("",) * len(steps), images)


@contextmanager
def _without_a_window() -> Iterator[None]:
    """Within it pygame, which many environments render with, looks for no screen, and says nothing of itself."""
    quiet = {"SDL_VIDEODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    new = {name: value for name, value in quiet.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _rendering(place: Place, factories: Factories) -> tuple[WatchedEnv, str] | None:
    """The environment made so that it renders, and in which mode; None if it has no way to."""
    asked = place.make(factories)
    modes = asked.metadata.get("render_modes") or ()
    asked.close()
    mode = next((mode for mode in MODES if mode in modes), None)
    if mode is None:
        return None
    return replace(place, kwargs={**place.kwargs, "render_mode": mode}).make(factories), mode


def _frame(env: WatchedEnv) -> Any:
    try:
        return env.render()
    except (*BROKEN, ImportError, gym.error.Error) as error:
        raise FilmError(f"render raised {type(error).__name__}: {plain(str(error))}{at(error)}") from error


def _of_texts(of: int, steps: Sequence[int], pictures: Sequence[Picture]) -> Film:
    """What is longer than may be kept is cut, each picture to its share."""
    share = BYTES // len(pictures)
    captions, texts = (tuple(p.caption[:200] for p in pictures), tuple(p.text[:share] for p in pictures))
    return Film(of, tuple(steps), captions, texts)
