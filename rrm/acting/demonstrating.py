"""Demonstrations for agents that act: episodes that somebody else played, brought into a run's folder.

    demonstrate("runs/walk", task, expert, task.cases.draw(48, "shown"))
    rrm.train(task, user, rrm.acting.Acting("ppo"), "runs/walk")

There they are kept as the run's own episodes are (`rrm.acting.episodes`), and as demonstrations of their cases: what
the agent clones before its first round (`Settings.clone`), and what is better than what it does in the same case
(`Settings.demonstrated`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rrm.acting.describing import Describe, in_words
from rrm.acting.episodes import ARCHIVE, Array, Episode, episode_of
from rrm.acting.places import Factories, Place, PlaceError
from rrm.acting.playing import Player
from rrm.acting.policy import ActingPolicy, outcome_of
from rrm.core.errors import RRMError
from rrm.core.records import Case, Outcome
from rrm.core.remarks import Remark, Remarked
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.store.store import Store


def demonstrate(
    folder: str | Path, task: Task, act: Callable[[Array], Any] | ActingPolicy, cases: Sequence[Case],
    factories: Factories | None = None, describe: Describe | None = None, by: str = "demonstrator",
) -> list[Outcome]:  # fmt: skip
    """Play an episode of each case, and keep it in a run's folder as a demonstration; before the run begins, since an
    agent clones before its first round. Raises `PlaceError` for a case whose outcomes are parts of episodes.

    Parameters
    ----------
    task: the run's, or a node of it that was planted.
    act: an observation (numbers,) -> an action, as the environment takes it; or a policy, which does what it thinks
        best.
    factories, describe: as of `Acting`.
    by: who shows it.
    """
    task, folder = task if task.path else plant(task), Path(folder)
    places = [Place.of(case) for case in cases]
    if parts := [place for place in places if place.segment]:
        raise PlaceError(
            f"{parts[0].env}: a demonstration is a whole episode, and the outcomes of its cases are parts "
            f"(segment={parts[0].segment}); compare whole ones, and parts of them by the setting parts"
        )
    if isinstance(act, ActingPolicy):
        outcomes = [group.outcomes[0] for group in act.sample(cases, 1, "demonstrations", greedy=True)]
        episodes = [episode_of(outcome) for outcome in outcomes]
    else:
        words = describe or in_words(factories or {})
        episodes = [_played(place, act, factories or {}) for place in places]
        outcomes = [outcome_of(place, episode, words) for place, episode in zip(places, episodes, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    for episode in episodes:  # on disk before anything names them
        ARCHIVE.keep(episode, folder)
    store = Store(folder / "run.db")
    try:
        store.bring_remarks([
            (Remarked(task.path, case, outcome, Remark("demonstration"), by), ())
            for case, outcome in zip(cases, outcomes, strict=True)
        ])  # fmt: skip
    finally:
        store.close()
    return outcomes


def _played(place: Place, act: Callable[[Array], Any], factories: Factories) -> Episode:
    player = Player(place.make(factories))
    try:
        player.begin()
        while not player.done:
            player.act(act(player.seen[-1]))
        return player.episode()
    finally:
        player.env.close()


def steps_of(outcome: Outcome, kinds: tuple[spaces.Space[Any], spaces.Space[Any]], who: str) -> tuple[Tensor, Tensor]:
    """What was seen (steps, numbers) and done (steps,) or (steps, numbers) in a demonstration, as a policy of these
    spaces learns it. Raises `RRMError` for one of other spaces, and for one without steps."""
    episode, (sight, acts) = episode_of(outcome), kinds
    seen, actions = episode.observations[:-1], np.asarray(episode.actions)
    if not len(episode) or seen.shape[1:] != sight.shape or actions.shape[1:] != acts.shape:
        raise RRMError(
            f"{who}: the demonstration {episode.name[:12]} ({episode.where}) is of {len(episode)} steps, observations "
            f"of shape {seen.shape[1:]} and actions of shape {actions.shape[1:]}; the agent's are {sight.shape} and "
            f"{acts.shape}"
        )
    whole = not isinstance(acts, spaces.Box)
    return torch.as_tensor(seen).float(), torch.as_tensor(actions).long() if whole else torch.as_tensor(actions).float()
