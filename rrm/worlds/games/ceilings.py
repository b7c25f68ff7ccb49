"""What a recursion that converged would reach, exactly: no sampling, no learning, expectations instead of playouts.

At depth k the user follows a move with the best reply of depth k - 1, the best reply of depth k - 2 to that, and so on,
and goes on at random; "best" is by that user's own view, so the ceiling has the user's bias in it. Only for measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rrm.worlds.games.game import Game, Position, after, chance, wins

NEAR = 1e-9


@cache
def view(game: Game, there: Position, depth: int) -> float:
    """How often whoever moved to `there` wins, as the user sees it with `depth` levels of converged replies."""
    if depth == 0 or not after(game, there):
        return 1 - chance(game, there)
    replies = best(game, there, depth - 1)
    return sum(1 - view(game, reply, depth - 1) for reply in replies) / len(replies)


@cache
def best(game: Game, position: Position, depth: int) -> tuple[Position, ...]:
    """Where the moves lead that a converged agent makes under that user: several, if it cannot tell them apart."""
    there = tuple(after(game, position).values())
    values = [view(game, one, depth) for one in there]
    return tuple(one for one, value in zip(there, values, strict=True) if value > max(values) - NEAR)


def deciding(game: Game, among: Sequence[Position]) -> list[Position]:
    """Those in which the choice of the move decides the game, and no move ends it at once."""
    return [
        one for one in among
        if len({wins(game, there) for there in after(game, one).values()}) == 2
        and all(after(game, there) for there in after(game, one).values())
    ]  # fmt: skip


def agreement(game: Game, among: Sequence[Position], depth: int) -> float:
    """How often the user prefers a winning to a losing move, over the pairs of such moves; a tie counts half. The mean
    over positions."""
    shares = []
    for position in among:
        there = after(game, position).values()
        pairs = [(good, bad) for good in there for bad in there if not wins(game, good) and wins(game, bad)]
        seen = [view(game, good, depth) - view(game, bad, depth) for good, bad in pairs]
        shares.append(sum(1.0 if d > NEAR else 0.5 if d > -NEAR else 0.0 for d in seen) / len(seen))
    return sum(shares) / len(shares)


def policy(game: Game, among: Sequence[Position], depth: int) -> float:
    """The share of winning moves of an agent that is best under the user, over these positions."""
    chosen = [best(game, position, depth) for position in among]
    return sum(sum(not wins(game, one) for one in some) / len(some) for some in chosen) / len(chosen)
