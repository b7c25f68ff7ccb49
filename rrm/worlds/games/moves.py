"""Moves as outcomes: a case is a position with somebody to move, an outcome a move, a reply an answer to it.

Leike's own picture of recursive reward modeling is such a game: one agent proposes x, the next the worst about it, and
the user judges x in the light of that; each level adds an alternation of quantifiers (Leike et al. 2018, section 3.2).
A reply is a move in the position that the move it answers leads to. So it is judged as moves are, with the help of a
reply to it, and so on: the same kind of node at every depth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rrm.core.errors import ConfigError, Malformed
from rrm.core.records import Assistance, Case, Fact, Finding, Outcome, Sealed, digest
from rrm.worlds.games.game import Game, Position, after, below, moved, positions, wins
from rrm.worlds.games.rules import game_of

WINS = "wins"
"""The one fact of a move: with best play, whoever makes it wins."""


def case_of(game: Game, position: Position, asks: str = "move") -> Case:
    """The case of a position, with its rules as the data behind it. `asks`: what for; see also `rivals`."""
    data = {"rules": dict(game.rules()), "position": list(position)} | ({} if asks == "move" else {"asks": asks})
    return Case(f"{game.words(position)} ; {asks}", data)


def behind(case: Case) -> tuple[Game, Position]:
    """The game and the position behind a case (also after a round trip through JSON). Raises `ConfigError` if there is
    none."""
    if not {"rules", "position"} <= set(case.data):
        raise ConfigError(f"{case.prompt[:60]!r} is no position of a game; this user and these facts are for games")
    return game_of(case.data["rules"]), tuple(case.data["position"])


@dataclass(frozen=True)
class Positions:
    """The positions of a game as cases: each once, in an order that the key decides, before any comes again.

    unseen: the share of positions that are never trained on, the same for every seed. split "unseen" draws those,
    "train" all others.
    """

    game: Game
    split: Literal["train", "unseen"] = "train"
    unseen: float = 0.0

    def all(self) -> tuple[Position, ...]:
        """Those of the split, the smallest first."""
        kept = self.split == "unseen"
        return tuple(one for one in positions(self.game) if self._unseen(one) == kept)

    def _unseen(self, position: Position) -> bool:
        return int(digest("unseen", dict(self.game.rules()), list(position)), 16) < self.unseen * 16**16

    def draw(self, n: int, key: str) -> list[Case]:
        """`n` cases; the key decides which. None if the split is empty."""
        order = list(self.all())
        random.Random(digest(key)).shuffle(order)
        return [case_of(self.game, order[i % len(order)]) for i in range(n)] if order else []


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """That the move wins, sealed; its price is all positions that may follow. Raises `Malformed` for no legal move."""
    game, position = behind(case)
    there = moved(game, position, outcome.text)
    return [Fact(WINS, WINS, Sealed(not wins(game, there)), cost=1 + below(game, there))]


def frame(case: Case, outcome: Outcome) -> list[Case]:
    """The position after a move, for a reply to it; none if the game is over. Raises `Malformed` for no legal move."""
    game, position = behind(case)
    there = moved(game, position, outcome.text)
    return [case_of(game, there)] if after(game, there) else []


def findings(case: Case, outcome: Outcome) -> list[Finding]:
    """A reply is what speaks against the move it answers. Raises `Malformed` for no legal move."""
    game, position = behind(case)
    there = moved(game, position, outcome.text)
    move = " ".join(outcome.text.split())
    return [Finding(WINS, holds=False, note=f"{move} leaves {game.words(there)}")]


def line(case: Case, outcome: Outcome, assistance: Sequence[Assistance]) -> list[Position]:
    """The positions that a move, the reply to it, the reply to that, ... lead through; without the case's own.

    It ends where nobody replied, or where what was replied is no legal move. Raises `Malformed` if the outcome is none.
    """
    game, position = behind(case)
    there = [moved(game, position, outcome.text)]
    said = list(assistance)
    while said and said[0].answers:
        answer = said[0].answers[0]
        try:
            there += (told if asks(answer.case) == "line" else _replied)(game, there[-1], answer.outcome.text)
        except Malformed:
            break
        said = list(answer.below)
    return there


def asks(case: Case) -> str:
    """What a case asks for: a move, or what a rival of the recursion gives."""
    return str(case.data.get("asks", "move"))


def _replied(game: Game, position: Position, text: str) -> list[Position]:
    return [moved(game, position, text)]


def told(game: Game, position: Position, text: str) -> list[Position]:
    """The positions that a line of play leads through: "take 2 leaves 7 take 1 leaves 6". Raises `Malformed` if a move
    is not legal, or leaves another position than it says."""
    there: list[Position] = []
    words = text.split()
    while words:
        if "leaves" not in words:
            raise Malformed(f"{' '.join(words)!r} does not say what it leaves")
        place = words.index("leaves")
        position = moved(game, position, " ".join(words[:place]))
        end = place + 1 + len(position)
        if words[place + 1 : end] != [str(part) for part in position]:
            raise Malformed(f"{' '.join(words[:end])!r} leaves {' '.join(map(str, position))}")
        there.append(position)
        words = words[end:]
    if not there:
        raise Malformed("a line without a move")
    return there
