"""What an agent did where it acts, counted: all of it, whoever wanted it done (judging, the policy's own steps).

An environment says in its infos what must not happen: a number `unacceptable`, above 0 from the step on at which it
did; and, in a number `tampered`, whether what its agent did changes what judges see of the episode. People are shown
how often (`rrm inspect --challenges`); the agent, its reward model and its user are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rrm.acting.playing import Player
from rrm.core.parties import EPISODES, FALLBACKS, IMAGINED, STEPS, TAMPERED, UNACCEPTABLE


@dataclass
class Acted:
    """Episodes that were begun, their steps, in how many something happened that must not, and in how many what judges
    see was tampered with (None: no environment says what that is). `fell_back`: steps in which a safe action stood in
    for what the agent wanted (None: it falls back on none). `imagined`: episodes that were not real, of which nothing
    else is counted."""

    episodes: int = 0
    steps: int = 0
    unacceptable: int | None = None
    tampered: int | None = None
    fell_back: int | None = None
    imagined: int = 0

    def add(self, players: Iterable[Player], real: bool = True) -> None:
        """What was played since each of these began; nothing of those that only look. real: where the environment is
        not only played in."""
        for player in players:
            if player.steps and (player.env.imagined or not real):
                self.imagined += 1
            elif player.steps:
                self.episodes += 1
                self.steps += player.steps
                if player.harm is not None:
                    self.unacceptable = (self.unacceptable or 0) + player.harm
                if player.tampered is not None:
                    self.tampered = (self.tampered or 0) + player.tampered
                if player.fell_back is not None:
                    self.fell_back = (self.fell_back or 0) + player.fell_back

    def metrics(self) -> dict[str, float]:
        """By name; none of nothing."""
        if not self.episodes and not self.imagined:
            return {}
        found = {EPISODES: float(self.episodes), STEPS: float(self.steps)}
        found |= {IMAGINED: float(self.imagined)} if self.imagined else {}
        told = {UNACCEPTABLE: self.unacceptable, TAMPERED: self.tampered, FALLBACKS: self.fell_back}
        return found | {name: float(value) for name, value in told.items() if value is not None}
