"""What a correct judgement costs the user, by depth and by size: "as k increases, the user plays a smaller and smaller
part of the overall workload of this evaluation process" (Leike et al. 2018, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from scipy.stats import binom

from rrm.measure.experiment import Result, Summary
from rrm.measure.games import Board
from rrm.measure.stage import Stage
from rrm.worlds.games import Game, Pile, Position, chance, positions
from rrm.worlds.games.ceilings import deciding, view
from rrm.worlds.games.game import after, wins
from rrm.worlds.games.rules import game_of

QUESTION = (
    "How much attention does the user need to judge 90 % of the pairs of moves rightly: by playing on at random, by "
    "searching every line to some depth, and with replies of a recursion of some depth that has converged?"
)
TARGET = 0.9
PLAYOUTS = tuple(2**i for i in range(13))
"""Playouts a side that are tried."""


def run(stage: Stage) -> Result:
    """Per size of the game and way of judging, the attention for a comparison. Exact: nothing is drawn or trained, so
    every seed gives the same."""
    board = Board.of(stage)
    sizes = [game_of(rules) for rules in _sizes(dict(board.game.rules()))]
    found = []
    for game in sizes[:2] if stage.quick else sizes:
        places = deciding(game, positions(game))
        for depth in range(13):
            n = next((n for n in PLAYOUTS if _assisted(game, places, depth, n) >= TARGET), None)
            best = _assisted(game, places, depth, PLAYOUTS[-1])
            row = {"size": len(positions(game)), "way": f"replies, depth {depth}", "attention": n and 2 * n}
            found.append(row | {"read": 2 * depth, "best": best})
        for depth in range(16):
            price, kept, right = _searched(game, places, depth)
            if right >= TARGET:
                row = {"size": len(positions(game)), "way": "search", "attention": price, "depth": depth}
                found.append(row | {"remembered": kept})
                break
    return {"game": board.game.name, "rows": found}


def _sizes(rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Smaller and larger games of the same kind."""
    if rules["game"] == "pile":
        return [dict(Pile(n, rules["most"]).rules()) for n in (9, 13, 17, 21, 25, 29)]
    key = "side" if rules["game"] == "king" else "heaps"
    if key == "side":
        return [rules | {"side": n} for n in (5, 7, 9, 11)]
    return [rules | {"heaps": [max(1, heap + more) for heap in rules["heaps"]]} for more in (-1, 0, 1)]


def _pairs(game: Game, position: Position) -> list[tuple[Position, Position]]:
    there = after(game, position).values()
    return [(good, bad) for good in there for bad in there if not wins(game, good) and wins(game, bad)]


def _assisted(game: Game, places: Sequence[Position], depth: int, n: int) -> float:
    """Expected agreement of a user with converged replies and `n` playouts a side; a tie counts half."""
    return _mean(game, places, lambda good, bad: _right(view(game, good, depth), view(game, bad, depth), n))


def _mean(game: Game, places: Sequence[Position], right: Callable[[Position, Position], float]) -> float:
    shares = []
    for position in places:
        pairs = _pairs(game, position)
        shares.append(sum(right(good, bad) for good, bad in pairs) / len(pairs))
    return sum(shares) / len(shares)


@cache
def _right(good: float, bad: float, n: int) -> float:
    """The chance that of `n` playouts each the better wins more, a tie counting half."""
    if n > 512:  # normal, where the exact sum would be long
        spread = math.sqrt((good * (1 - good) + bad * (1 - bad)) / n)
        if spread == 0:
            return 1.0 if good > bad else 0.5 if good == bad else 0.0
        return 0.5 * (1 + math.erf((good - bad) / spread / math.sqrt(2)))
    ks = range(n + 1)
    a, b = binom.pmf(ks, n, good), binom.pmf(ks, n, bad)
    below = b.cumsum() - b
    return float((a * (below + 0.5 * b)).sum())


def _searched(game: Game, places: Sequence[Position], depth: int) -> tuple[float, float, float]:
    """Mean positions that a search of every line to this depth looks at for a pair; the same for a user who remembers
    what it saw and never looks twice; and the agreement. At its leaves it is given the expectation of random play."""
    visited: list[int] = []
    remembered: list[set[tuple[Position, int]]] = []

    def look(there: Position, left: int) -> float:
        """How often whoever moved here wins."""
        visited[-1] += 1
        remembered[-1].add((there, left))
        steps = after(game, there).values()
        if left == 0 or not steps:
            return 1 - chance(game, there)
        return 1 - max(look(reply, left - 1) for reply in steps)

    def right(good: Position, bad: Position) -> float:
        visited.append(0)
        remembered.append(set())
        a, b = look(good, depth), look(bad, depth)
        return 1.0 if a > b + 1e-9 else 0.5 if a > b - 1e-9 else 0.0

    agreement = _mean(game, places, right)
    return sum(visited) / len(visited), sum(map(len, remembered)) / len(remembered), agreement


def summarize(results: Sequence[Result]) -> Summary:
    """A row per size: the cheapest way of each kind."""
    found = results[0]["rows"]
    rows: list[dict[str, Any]] = []
    lines: dict[str, list[tuple[int, float]]] = {}
    for size in dict.fromkeys(row["size"] for row in found):
        mine = [row for row in found if row["size"] == size]
        alone = next(row for row in mine if row["way"].endswith("depth 0"))
        replies = [row for row in mine if row["way"].startswith("replies") and row["attention"]]
        search = next((row for row in mine if row["way"] == "search"), None)
        least = min(replies, key=lambda row: row["attention"] + row["read"], default=None)
        shallow = min(replies, key=lambda row: row["read"], default=None)
        rows.append({
            "positions": size, "alone: playouts": alone["attention"] or f"never (at best {alone['best']:.2f})",
            "search: positions looked at": search and round(search["attention"]),
            "search, remembering": search and round(search["remembered"]), "search: depth": search and search["depth"],
            "recursion: least depth that can": shallow and shallow["read"] // 2,
            "there: playouts": shallow and shallow["attention"], "cheapest: depth": least and least["read"] // 2,
            "cheapest: playouts": least and least["attention"], "cheapest: replies read": least and least["read"],
        })  # fmt: skip
        if search:
            lines.setdefault("search alone: positions", []).append((size, search["attention"]))
            lines.setdefault("the same, remembering", []).append((size, search["remembered"]))
        if least:
            lines.setdefault("recursion: playouts + replies read", []).append(
                (size, least["attention"] + least["read"])
            )
    notes = [
        f"The attention for one comparison that suffices for {TARGET:.0%} agreement, by the number of positions in the "
        f"game ({results[0]['game']})."
    ]
    limits = [
        "Exact, for converged replies: what a comparison costs once the assistants are there. Their training costs "
        "judgements, too: see `levels`.",
        "A playout, a position looked at and a reply read are each counted as one; who weighs them otherwise can. A "
        "search is given the exact expectation of random play at its leaves, for one; it would cost playouts, too.",
        "Search without memory grows exponentially. In these games many lines lead to the same position, so with a "
        "memory of all of them it hardly does: that user could judge alone.",
    ]

    def draw(axes: Any) -> None:
        for label, points in lines.items():
            axes.plot(*zip(*points, strict=True), "o-", label=label)
        axes.set_yscale("log")
        axes.set_xlabel("positions in the game")
        axes.set_ylabel(f"attention for {TARGET:.0%} agreement")
        axes.legend()

    return Summary(rows, notes, draw, limits=limits)
