"""The games: a pile, nim, and a king on a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from rrm.core.errors import ConfigError
from rrm.worlds.games.game import Game, Position


@dataclass(frozen=True)
class Pile(Game):
    """Some stones; a player takes 1 to `most` of them. Lost for whoever finds a multiple of most + 1."""

    stones: int = 21
    most: int = 3
    name: ClassVar[str] = "pile"

    def __post_init__(self) -> None:
        if not 1 <= self.stones <= 400 or self.most < 1:
            raise ConfigError(f"a pile has 1 to 400 stones, and 1 or more are taken, not {self.stones}, {self.most}")

    @property
    def start(self) -> Position:
        """See `Game`."""
        return (self.stones,)

    def steps(self, position: Position) -> Mapping[str, Position]:
        """See `Game`."""
        (left,) = position
        return {f"take {n}": (left - n,) for n in range(1, min(self.most, left) + 1)}

    def words(self, position: Position) -> str:
        """See `Game`."""
        return f"pile {position[0]} take up to {self.most}"

    def drawn(self, position: Position) -> str:
        """Stones in rows of ten."""
        (left,) = position
        rows = [" ".join("o" * min(10, left - first)) for first in range(0, left, 10)]
        return "\n".join([*rows, f"{left} left, take 1 to {self.most}" if left else "nothing left"])

    def larger(self) -> Pile:
        """Stones for one more turn of both."""
        return replace(self, stones=self.stones + self.most + 1)

    def rules(self) -> Mapping[str, Any]:
        """See `Game`."""
        return {"game": self.name, **asdict(self)}


LETTERS = "ABCD"


@dataclass(frozen=True)
class Nim(Game):
    """Several heaps; a player takes any number from one. Lost where the heaps' exclusive or is 0 (Bouton 1901)."""

    heaps: tuple[int, ...] = (2, 3, 4, 5)
    name: ClassVar[str] = "nim"

    def __post_init__(self) -> None:
        if not 1 <= len(self.heaps) <= len(LETTERS):
            raise ConfigError(f"nim has 1 to {len(LETTERS)} heaps, not {len(self.heaps)}")

    @property
    def start(self) -> Position:
        """See `Game`."""
        return tuple(self.heaps)

    def steps(self, position: Position) -> Mapping[str, Position]:
        """See `Game`."""
        return {
            f"{LETTERS[i]} {n}": (*position[:i], heap - n, *position[i + 1 :])
            for i, heap in enumerate(position)
            for n in range(1, heap + 1)
        }

    def words(self, position: Position) -> str:
        """See `Game`."""
        return "heaps " + " ".join(f"{LETTERS[i]} {heap}" for i, heap in enumerate(position))

    def drawn(self, position: Position) -> str:
        """A heap a row."""
        return "\n".join(f"{LETTERS[i]} {' '.join('o' * heap) or '-'}" for i, heap in enumerate(position))

    def larger(self) -> Nim:
        """A stone more in each heap."""
        return Nim(tuple(heap + 1 for heap in self.heaps))

    def rules(self) -> Mapping[str, Any]:
        """See `Game`."""
        return {"game": self.name, "heaps": list(self.heaps)}


@dataclass(frozen=True)
class King(Game):
    """A king on a board of side x side steps left, down, or across (both at once), towards the corner (0, 0)."""

    side: int = 7
    name: ClassVar[str] = "king"

    def __post_init__(self) -> None:
        if not 2 <= self.side <= 100:
            raise ConfigError(f"a board has 2 to 100 rows, not {self.side}")

    @property
    def start(self) -> Position:
        """See `Game`."""
        return (self.side - 1, self.side - 1)

    def steps(self, position: Position) -> Mapping[str, Position]:
        """See `Game`."""
        x, y = position
        found = {"left": (x - 1, y), "down": (x, y - 1), "across": (x - 1, y - 1)}
        return {move: there for move, there in found.items() if min(there) >= 0}

    def words(self, position: Position) -> str:
        """See `Game`."""
        return f"king column {position[0]} row {position[1]}"

    def drawn(self, position: Position) -> str:
        """The board, the corner to reach at the lower left."""
        rows = []
        for y in range(self.side - 1, -1, -1):
            row = ["K" if (x, y) == position else "*" if (x, y) == (0, 0) else "." for x in range(self.side)]
            rows.append(f"{y} {' '.join(row)}")
        return "\n".join([*rows, f"  {' '.join(str(x % 10) for x in range(self.side))}"])

    def larger(self) -> King:
        """A column and a row more."""
        return King(self.side + 1)

    def rules(self) -> Mapping[str, Any]:
        """See `Game`."""
        return {"game": self.name, **asdict(self)}


GAMES: Mapping[str, type[Pile] | type[Nim] | type[King]] = {kind.name: kind for kind in (Pile, Nim, King)}


def game_of(rules: Mapping[str, Any]) -> Game:
    """The game that `Game.rules` describes, also after a round trip through JSON. Raises `ConfigError` for another."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in rules.items()}
    kind = GAMES.get(str(given.pop("game", None)))
    try:
        if kind is not None:
            return kind(**given)
    except TypeError as error:
        raise ConfigError(f"{dict(rules)} is no game: {error}") from error
    raise ConfigError(f"{dict(rules)} is no game; there are {', '.join(GAMES)}")
