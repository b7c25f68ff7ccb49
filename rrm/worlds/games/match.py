"""Games as environments: an agent plays against an opponent who knows the game, and errs as often as is said.

The position is seen as ones and zeros, a row for each of its numbers; an action is one of all moves of the game, legal
here or not. Episodes are described as the moves world writes moves and lines of play (`rrm.worlds.games.moves`): so its
users, facts, replies and pictures, which are for models that write, read what an agent did that acts.

"Move 37" (AlphaGo against Lee Sedol, 2016) is here a move that wins and that who judges by the looks of it thinks worse
than one that loses (`surprising`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rrm.core.errors import ConfigError
from rrm.core.records import Case
from rrm.worlds.games.game import Game, Position, after, chance, positions, wins
from rrm.worlds.games.moves import case_of
from rrm.worlds.games.rules import game_of

ENV = "rrm.worlds.games.match:Match"
WORTH = 1.0
"""The environment's own reward for a game won; as much is lost with one that is lost."""


@cache
def moves_of(game: Game) -> tuple[str, ...]:
    """Every move that is legal in some position: what the actions mean."""
    return tuple(dict.fromkeys(move for position in positions(game) for move in after(game, position)))


@cache
def won(game: Game) -> tuple[Position, ...]:
    """The positions that whoever is to move wins, if it plays its best."""
    return tuple(one for one in positions(game) if wins(game, one))


def surprising(game: Game, position: Position) -> list[tuple[str, str]]:
    """(winning move, losing move) for each pair of which random play, to the end and exactly, shows the loser ahead."""
    there = after(game, position)
    good = [move for move, led in there.items() if not wins(game, led)]
    return [
        (one, other) for one in good for other in there
        if other not in good and chance(game, there[one]) > chance(game, there[other])  # of whoever moves next
    ]  # fmt: skip


class Match(gym.Env[np.ndarray, np.int64]):
    """A game against an opponent; the agent moves first.

    Observation (float32): for each number of the position as many places as it has values, a one at its own. Action: a
    move, of `moves_of`; an illegal one loses the game. The opponent plays a move that wins, drawn at random among them,
    if there is any, else any; and any at all with the chance `errs`. Reward: 1 for a game won, -1 for one lost.
    Hidden: `won` and `lost`, each 0 or 1. Raises `ConfigError` for rules of no game, and for a position that is none of
    it.

    Parameters
    ----------
    rules: of the game (`Game.rules`).
    position: where it begins; by default drawn by the seed among those that the agent wins if it plays its best.
    errs: chance that a move of the opponent's is any.
    moves: the game is broken off after so many moves of the agent, before the opponent replies; 0: never.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self, rules: Mapping[str, Any], position: Sequence[int] | None = None, errs: float = 0.0, moves: int = 0,
        render_mode: str | None = None,
    ) -> None:  # fmt: skip
        if not 0 <= errs <= 1 or moves < 0:
            raise ConfigError(f"errs={errs}, moves={moves}: give a chance, and a number of moves, or 0 for all")
        self.game, self.errs, self.moves, self.render_mode = game_of(rules), errs, moves, render_mode
        self.words = moves_of(self.game)
        self._start = None if position is None else tuple(position)
        if self._start is not None and self._start not in positions(self.game):
            raise ConfigError(f"{dict(rules)}: {self._start} is no position in which there is a move")
        self.observation_space = spaces.Box(0.0, 1.0, (sum(self._sizes),), np.float32)
        self.action_space = spaces.Discrete(len(self.words))
        self.at, self.time, self.won, self.lost = self._start or self.game.start, 0, False, False

    @property
    def _sizes(self) -> list[int]:
        """Values of each number of a position; it is never more than in the beginning of the game."""
        return [most + 1 for most in self.game.start]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new game; the seed decides where it begins, unless that was said, and how the opponent plays."""
        super().reset(seed=seed)
        among = won(self.game)
        self.at = self._start or among[int(self.np_random.integers(len(among)))]
        self.time, self.won, self.lost = 0, False, False
        return self._seen(), self._info()

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """A move, and the opponent's."""
        self.time += 1
        there = after(self.game, self.at).get(self.words[int(action)])
        cut = False
        if there is None:
            self.lost = True
        else:
            self.at = there
            self.won = not after(self.game, there)
            cut = not self.won and self.time == self.moves
            if not self.won and not cut:
                self.at = self._reply()
                self.lost = not after(self.game, self.at)
        return self._seen(), WORTH * (self.won - self.lost), self.won or self.lost, cut, self._info()

    def _reply(self) -> Position:
        """Where the opponent's move leads."""
        there = list(after(self.game, self.at).values())
        erring = self.np_random.random() < self.errs
        best = there if erring else [one for one in there if not wins(self.game, one)] or there
        return best[int(self.np_random.integers(len(best)))]

    def _seen(self) -> np.ndarray:
        rows = [np.arange(size) == value for size, value in zip(self._sizes, self.at, strict=True)]
        return np.concatenate(rows).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {"won": int(self.won), "lost": int(self.lost)}

    def render(self) -> str | None:
        """The position, drawn."""
        return self.game.drawn(self.at) if self.render_mode == "ansi" else None

    def positions_of(self, observations: np.ndarray) -> list[Position]:
        """The positions that (n, numbers) observations show."""
        ends = np.cumsum(self._sizes)[:-1]
        return [tuple(int(row.argmax()) for row in np.split(one, ends)) for one in observations]

    def describe(self, episode: Any) -> str:
        """See `rrm.acting.describing`, in the words of the moves world: the move, of a game that is broken off after
        one; else the line of play, each move with what it leaves, and what is no legal move as it is."""
        seen, acts = self.positions_of(episode.observations), [self.words[int(one)] for one in episode.actions]
        if self.moves == 1:
            return acts[0]
        told = []
        for here, move, then in zip(seen[:-1], acts, seen[1:], strict=True):
            there = after(self.game, here).get(move)
            told.append(move if there is None else _left(move, there))
            if there is not None and there != then:
                reply = next(reply for reply, led in after(self.game, there).items() if led == then)
                told.append(_left(reply, then))
        return " ".join(told)


def _left(move: str, there: Position) -> str:
    return f"{move} leaves {' '.join(map(str, there))}"


def openings(game: Game, errs: float = 0.0) -> tuple[Case, ...]:
    """Every position of a game as a case of an agent that acts: one move is made, and judged before the game goes on.
    Also a case of the moves world, whose users, facts and replies read it."""
    return tuple(_acting(case_of(game, one), game, {"position": list(one), "errs": errs, "moves": 1}, 1)
                 for one in positions(game))  # fmt: skip


def _acting(case: Case, game: Game, kwargs: Mapping[str, Any], steps: int) -> Case:
    data = {"env": ENV, "kwargs": {"rules": dict(game.rules()), **kwargs}, "seed": 0, "steps": steps}
    return Case(case.prompt, {**case.data, **data})
