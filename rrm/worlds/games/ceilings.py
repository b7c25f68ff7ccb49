"""What a recursion that converged would reach, exactly: no sampling, no learning, expectations instead of playouts.

At depth k the user follows a move with the best reply of depth k - 1, the best reply of depth k - 2 to that, and so on,
and goes on at random; "best" is by that user's own view, so the ceiling has the user's bias in it. Of replies that are
equally good the mean is taken, where an agent makes one of them. Only for measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from rrm.worlds.games.game import Game, Position, after, chance, wins

NEAR = 1e-9
View = Callable[[Game, Position, int], float]


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


@cache
def written(game: Game, there: Position, moves: int) -> float:
    """How often whoever moved to `there` wins, as the user sees it after a line of so many moves that are each best by
    the user's own view without replies: what a critic that writes lines out comes to (`rrm.worlds.games.rivals`)."""
    if moves == 0 or not after(game, there):
        return 1 - chance(game, there)
    replies = best(game, there, 0)
    return sum(1 - written(game, reply, moves - 1) for reply in replies) / len(replies)


def deciding(game: Game, among: Sequence[Position]) -> list[Position]:
    """Those in which the choice of the move decides the game, and no move ends it at once."""
    return [
        one for one in among
        if len({wins(game, there) for there in after(game, one).values()}) == 2
        and all(after(game, there) for there in after(game, one).values())
    ]  # fmt: skip


def agreement(game: Game, among: Sequence[Position], depth: int, seen: View = view) -> float:
    """How often the user prefers a winning to a losing move, over the pairs of such moves; a tie counts half. The mean
    over positions. `seen`: with what help; `view` or `written`."""
    shares = []
    for position in among:
        there = after(game, position).values()
        pairs = [(good, bad) for good in there for bad in there if not wins(game, good) and wins(game, bad)]
        more = [seen(game, good, depth) - seen(game, bad, depth) for good, bad in pairs]
        shares.append(sum(1.0 if d > NEAR else 0.5 if d > -NEAR else 0.0 for d in more) / len(more))
    return sum(shares) / len(shares)


def policy(game: Game, among: Sequence[Position], depth: int, seen: View = view) -> float:
    """The share of winning moves of an agent that is best under the user, over these positions."""
    chosen = []
    for position in among:
        values = {there: seen(game, there, depth) for there in after(game, position).values()}
        chosen.append([there for there, value in values.items() if value > max(values.values()) - NEAR])
    return sum(sum(not wins(game, one) for one in some) / len(some) for some in chosen) / len(chosen)
