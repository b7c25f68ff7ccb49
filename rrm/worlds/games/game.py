"""Games for two with exact values: who cannot move has lost, so whoever makes the last move wins.

A game says its positions, what may be done in them, and how both are written; everything else is worked out here:
who wins with best play (`wins`), and how often whoever is to move wins if both play at random (`chance`). The first is
the truth; only `rrm.measure` may look at it. The second is what a user who cannot play well sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from rrm.core.errors import Malformed

Position = tuple[int, ...]
"""Whole numbers, by the game's own reckoning; whoever is to move is no part of it."""


class Game(ABC):
    """Rules. Hashable and without state: positions are worked out once per game."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def start(self) -> Position:
        """Where a whole game begins; all positions that can be reached from it are the game's."""

    @abstractmethod
    def steps(self, position: Position) -> Mapping[str, Position]:
        """The legal moves, as they are written, and where each leads. Empty: the game is over, and who is to move has
        lost."""

    @abstractmethod
    def words(self, position: Position) -> str:
        """A position as players read it: words of the world's vocabulary."""

    @abstractmethod
    def drawn(self, position: Position) -> str:
        """A position as people look at it: a drawing of a few lines."""

    @abstractmethod
    def larger(self) -> Game:
        """The next larger game of its kind: it has all of this one's positions, and some that this one has not."""

    @abstractmethod
    def rules(self) -> Mapping[str, Any]:
        """What makes this game again; JSON-able: see `rrm.worlds.games.game_of`."""


@cache
def after(game: Game, position: Position) -> Mapping[str, Position]:
    """The legal moves of a position and where they lead, worked out once."""
    return game.steps(position)


def moved(game: Game, position: Position, text: str) -> Position:
    """Where a move that is written down leads. Raises `Malformed` for one that is none, or is against the rules."""
    move = " ".join(text.split())
    steps = after(game, position)
    if move not in steps:
        raise Malformed(f"{text[:60]!r} is no move here; there are: {', '.join(steps) or 'none, the game is over'}")
    return steps[move]


@cache
def wins(game: Game, position: Position) -> bool:
    """The truth: whether whoever is to move wins, if both play their best."""
    return any(not wins(game, there) for there in after(game, position).values())


@cache
def chance(game: Game, position: Position) -> float:
    """How often whoever is to move wins, if both take every legal move equally often."""
    steps = after(game, position).values()
    return sum(1 - chance(game, there) for there in steps) / len(steps) if steps else 0.0


@cache
def below(game: Game, position: Position) -> int:
    """How many positions may follow: what it takes to see for certain who wins."""
    found: set[Position] = set()
    fresh = [position]
    while fresh:
        for there in after(game, fresh.pop()).values():
            if there not in found:
                found.add(there)
                fresh.append(there)
    return len(found)


@cache
def positions(game: Game) -> tuple[Position, ...]:
    """Every position of the game in which there is a move, the smallest first."""
    found, fresh = {game.start}, [game.start]
    while fresh:
        for there in after(game, fresh.pop()).values():
            if there not in found:
                found.add(there)
                fresh.append(there)
    return tuple(sorted((one for one in found if after(game, one)), key=lambda one: (sum(one), one)))
