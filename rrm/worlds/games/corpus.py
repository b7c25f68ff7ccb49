"""What the model of this world is pretrained on: positions and random legal moves. It knows the rules of writing and
nothing of playing; every skill comes from the recursion."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from rrm.core.records import Case, Fact, Outcome, Sealed
from rrm.worlds.games.game import Game, Position, after, moved
from rrm.worlds.games.moves import asks, behind, case_of, told
from rrm.worlds.games.rivals import read_verdict
from rrm.worlds.games.rules import LETTERS, King, Nim, Pile

ROLES = ("pile", "nim", "king", "verdict", "line")
LONGEST = 10
"""Moves of a line of play, at most."""
NUMBERS = 41
"""Numbers of which there is a word: 0 to 40."""
PILES = tuple(Pile(NUMBERS - 1, most) for most in (2, 3, 4, 5))
HEAPS = 7
SIDE = 12


def vocabulary() -> list[str]:
    """Every word: of positions, moves, and what assistance is written with."""
    words = "pile take up to heaps king column row left down across ; move verdict line leaves"
    words += " reply moves wrong right wins N/A"
    return ["<pad>", "<eos>", "<unk>", *words.split(), *LETTERS, "(", ")", *map(str, range(NUMBERS))]


@dataclass
class Corpus:
    """Writes documents as (prompt, outcome) pairs; `rng` decides everything."""

    rng: random.Random
    errors: Mapping[str, float] = field(default_factory=dict)

    def document(self, role: str) -> tuple[str, str]:
        """(position, random legal move) of a game; of a verdict, a coin; of a line, a random game."""
        case = self.case(role)
        return case.prompt, self.write(role, case)

    def case(self, role: str) -> Case:
        """A position of a game in which there is a move, drawn at random."""
        rng = self.rng
        if role in ("verdict", "line"):
            return case_of(*behind(self.case(rng.choice(ROLES[:3]))), role)
        game: Game
        position: Position
        if role == "pile":
            game = rng.choice(PILES)
            return case_of(game, (rng.randrange(1, NUMBERS),))
        if role == "king":
            game, position = King(SIDE), (rng.randrange(SIDE), rng.randrange(SIDE))
        else:
            game, position = Nim(), tuple(rng.randrange(HEAPS + 1) for _ in range(rng.randrange(2, len(LETTERS) + 1)))
        return case_of(game, position) if after(game, position) else self.case(role)

    def write(self, role: str, case: Case) -> str:
        """What is asked for, drawn at random: a legal move, a verdict, or a line of legal moves of random length."""
        game, position = behind(case)
        if role == "verdict":
            return self.rng.choice(("right", "wrong"))
        if role != "line":
            return self.rng.choice(list(after(game, position)))
        words: list[str] = []
        for _ in range(self.rng.randrange(1, LONGEST + 1)):
            if not (steps := after(game, position)):
                break
            move = self.rng.choice(list(steps))
            position = steps[move]
            words += [move, "leaves", *map(str, position)]
        return " ".join(words)


def legal(case: Case, outcome: Outcome) -> list[Fact]:
    """That it has the form asked for, and is by the rules: what pretraining teaches. Raises `Malformed` otherwise."""
    if asks(case) == "verdict":
        read_verdict(outcome)
    else:
        (told if asks(case) == "line" else moved)(*behind(case), outcome.text)
    return [Fact("legal", "legal", Sealed(True))]
