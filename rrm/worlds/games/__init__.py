"""Games with exact values: a world in which a critic's answer cannot be judged without help, and its skill must come
from the recursion."""

from rrm.worlds.games.game import Game, Position, chance, positions
from rrm.worlds.games.moves import Positions, behind, case_of, facts, findings, frame, line
from rrm.worlds.games.playout import PlayoutUser
from rrm.worlds.games.rules import King, Nim, Pile, game_of

__all__ = [
    "Game",
    "King",
    "Nim",
    "Pile",
    "PlayoutUser",
    "Position",
    "Positions",
    "behind",
    "case_of",
    "chance",
    "facts",
    "findings",
    "frame",
    "game_of",
    "line",
    "positions",
]
