"""Moves as pictures, for people to step through: the position, what the move makes of it, and every reply."""

from __future__ import annotations

from collections.abc import Sequence

from rrm.core.errors import Malformed
from rrm.core.records import Assistance, Case, Outcome
from rrm.core.task import Picture
from rrm.worlds.games.game import Game, Position, after
from rrm.worlds.games.moves import behind, line

LONGEST = 60
"""Characters of what is no move, in a caption."""


def pictures(case: Case, outcome: Outcome, assistance: Sequence[Assistance]) -> list[Picture]:
    """The position as it is, then one picture for each position of the line (`line`). What is no legal move leaves the
    position as it is, and the caption says so."""
    game, position = behind(case)
    found = [Picture("before the move", game.drawn(position))]
    try:
        there = line(case, outcome, assistance)
    except Malformed:
        shown = " ".join(outcome.text.split())[:LONGEST] or "nothing"
        return [*found, Picture(f"no legal move: {shown}", game.drawn(position))]
    for turn, led in enumerate(there):
        who = "the opponent replies" if turn % 2 else "the mover replies" if turn else "the move"
        found.append(Picture(f"{who}: {_move(game, position, led)}{_end(game, led, turn)}", game.drawn(led)))
        position = led
    return found


def _move(game: Game, position: Position, led: Position) -> str:
    """How it was moved; where several moves lead there, the first of them."""
    return next(move for move, there in after(game, position).items() if there == led)


def _end(game: Game, position: Position, turn: int) -> str:
    """Whose the game is, if that was its last move: a rule, and no judgement."""
    return "" if after(game, position) else f" (the last move: the {'opponent' if turn % 2 else 'mover'} has won)"
