"""Climb: train a chain of agents, each judged with the help of the one before, and see what every level is worth.

    python scripts/demo_moves.py --out runs/demo

A game with exact truth (a pile of 21 stones, take 1 to 3, last stone wins), a user who judges a move by the expectation
of random play after it, and a tiny model that knows how moves are written and nothing of playing. Simulated throughout.
Writes OUT/report.json and OUT/depth.svg; the same command again resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rrm.core.errors import RRMError
from rrm.core.judgements import Event
from rrm.core.parties import Watched
from rrm.core.records import Group
from rrm.core.task import Assistant, assist
from rrm.core.validation import check
from rrm.measure.experiment import error_bars, shown
from rrm.measure.experiments.move37 import hidden
from rrm.measure.games import Board, Graded, chain
from rrm.measure.stage import Stage
from rrm.measure.stats import Interval, clipped, interval
from rrm.models.backbone import Backbone
from rrm.models.precision import limit_threads
from rrm.worlds.games import Pile, PlayoutUser, Position, ceilings, chance, line
from rrm.worlds.games.game import after
from rrm_tasks.moves import moves

WIDE = 30
"""Characters of a bar that stands for 1."""


def main() -> None:
    """Train what is not trained yet, measure every level, and print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stones", type=int, default=21, help="size of the pile: the larger, the deeper it must be")
    parser.add_argument("--levels", type=int, default=5, help="levels of replies")
    parser.add_argument("--attention", type=int, help="playouts for a comparison, instead of their expectation")
    args = parser.parse_args()

    began = time.monotonic()
    limit_threads()
    console = Console(width=max(Console().width, 110), highlight=False)
    stage = stage_of(args, console, began)
    board, units = Board.of(stage), args.levels + 1
    console.print(f"A chain of {units} agents on a pile of {args.stones}; then all of its budget for fewer of them.")
    deep = chain(stage, args.levels)
    nodes = [deep]
    while nodes[-1].helpers:
        nodes.append(nodes[-1].helpers[0])
    rows = [graded(board, stage, node, f"depth {depth}", depth) for depth, node in enumerate(reversed(nodes))]
    for depth in (0, 1):
        rounds = units // (depth + 1)
        rows.append(graded(board, stage, chain(stage, depth, rounds), f"depth {depth}, all the budget", depth))
    show(console, rows)
    tell(console, board, deep)
    seconds = round(time.monotonic() - began, 1)
    draw(rows, args.out / "depth.svg")
    report = {"arms": rows, "seconds": seconds, "seed": args.seed, "user": stage.user().name}
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"{seconds:.0f} s; everything is in {args.out}: depth.svg, report.json, and runs for `rrm inspect`")


def stage_of(args: argparse.Namespace, console: Console, began: float) -> Stage:
    """The pile, its user, and a line for every level that is finished."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def watch(node: Watched, event: Event) -> None:
        if event.phase == "done":
            what = f"level {node.task.path.count('/')} from the top, round {event.round + 1}"
            took = time.monotonic() - began
            console.print(Text(f"{took:4.0f} s: {what}, {len(node.comparisons)} judgements", "dim"))

    def user() -> PlayoutUser:
        if args.attention:
            return PlayoutUser(attention=args.attention, seed=args.seed)
        return PlayoutUser(exact=True, seed=args.seed)

    task = check(moves(Pile(args.stones), args.levels))
    return Stage(task, Backbone.load("embedded-games"), user, args.seed, args.out, watch=(watch,))


def graded(board: Board, stage: Stage, node: Assistant, arm: str, depth: int) -> dict[str, Any]:
    """A row: agreement and skill over deciding positions, and what a recursion that converged would reach."""

    def over(rows: Graded) -> Interval:
        by: dict[float, list[float]] = {}
        for place, value in rows:
            by.setdefault(place, []).append(value)
        return clipped(interval(list(by.values())))

    return {
        "arm": arm,
        "agreement": over(board.agreement(stage.user(), node, board.trained)),
        "agreement, converged": ceilings.agreement(board.game, board.trained, depth),
        "skill": over(board.skill(node.agent, board.trained, str(stage.seed))),
        "skill, converged": ceilings.policy(board.game, board.trained, depth),
        "skill, unseen": over(board.skill(node.agent, board.unseen, str(stage.seed))),
    }


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """The table, then the same as bars."""
    table = Table("", "user is right", "converged", "winning moves", "converged", "larger piles")
    for row in rows:
        table.add_row(
            row["arm"], shown(row["agreement"], 2), f"{row['agreement, converged']:.2f}", shown(row["skill"], 2),
            f"{row['skill, converged']:.2f}", shown(row["skill, unseen"], 2), end_section=row is rows[-3],
        )  # fmt: skip
    console.print(table)
    for row in rows:
        console.print(f"{row['arm']:25} {bar(row['agreement']['mean'])} {bar(row['skill']['mean'])}")
    console.print(f"{'':25} {'user agrees':{WIDE + 5}} winning moves")


def bar(share: float) -> str:
    """A share as a bar of fixed width, and its number."""
    full = round(share * WIDE)
    return f"{'█' * full}{'·' * (WIDE - full)} {share:.2f}"


def tell(console: Console, board: Board, deep: Assistant) -> None:
    """One winning move that the user alone dislikes, with the line of replies that shows what it is worth."""
    places = hidden(board, board.trained)
    if not places:
        return

    def gap(place: tuple[Position, str]) -> float:
        """How much more the user alone thinks of the move that looks best than of the best winning one."""
        seen = {move: 1 - chance(board.game, there) for move, there in after(board.game, place[0]).items()}
        return seen[place[1]] - max(value for move, value in seen.items() if board.wins(place[0], move))

    position, alluring = max(places, key=gap)
    (group,) = board.groups([position])
    (said,) = assist(deep.helpers, [Group(group.case, group.outcomes)])
    console.print(f"\nA move 37, at {board.game.words(position)}. How often each move wins, as the user sees it:")
    for i, outcome in enumerate(said.outcomes):
        there = line(said.case, outcome, said.seen(i))
        alone = 1 - chance(board.game, after(board.game, position)[outcome.text])
        won = chance(board.game, there[-1])
        helped = won if len(there) % 2 == 0 else 1 - won
        path = " → ".join(str(one[0]) for one in there)
        truth = "wins" if board.wins(position, outcome.text) else "loses"
        what = ", the alluring one" if outcome.text == alluring else ""
        console.print(f"  {outcome.text}: {alone:.2f} alone, {helped:.2f} with replies ({path}); it {truth}{what}")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The picture: by depth, and the rivals at equal budget beside."""
    import matplotlib  # late: it takes a second

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "rrm"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    places = [float(i) for i in range(len(rows) - 2)] + [len(rows) - 1.5, len(rows) - 0.5]
    shown_as = {"agreement": ("tab:blue", "user agrees with the truth"), "skill": ("tab:orange", "winning moves")}
    for what, (color, label) in shown_as.items():
        found = [row[what] for row in rows]
        axes.errorbar(places[:-2], [f["mean"] for f in found[:-2]], yerr=error_bars(found[:-2]), fmt="o-", color=color,
                      capsize=3, label=label)  # fmt: skip
        axes.errorbar(places[-2:], [f["mean"] for f in found[-2:]], yerr=error_bars(found[-2:]), fmt="o", color=color,
                      capsize=3, mfc="white")  # fmt: skip
        axes.plot(places[:-2], [row[f"{what}, converged"] for row in rows[:-2]], "--", color=color, lw=0.8)
    axes.set_xticks(places, [*map(str, range(len(rows) - 2)), "0, all\nthe budget", "1, all\nthe budget"])
    axes.set_xlabel("levels of replies (dashed: a recursion that converged)")
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    try:
        main()
    except RRMError as error:  # such as a run that another rrm began: what to do is said, and needs no traceback
        raise SystemExit(f"error: {error}") from error
