"""When does recursion pay? Depths and their rivals at equal total budget, in a game (Leike et al. 2018, section 3.2;
Engels et al. 2025, arXiv 2504.18530, derive an optimal depth on a modified nim)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rrm.core.parties import User
from rrm.core.task import Assistant, Task
from rrm.measure.experiment import Result, Summary, by_case, error_bars, shown
from rrm.measure.games import REPLY, Board, chain, spent, step
from rrm.measure.oracle import OracleUser
from rrm.measure.stage import Stage
from rrm.measure.stats import over_seeds, share_over_seeds
from rrm.worlds.games import Game, PlayoutUser, ceilings, positions
from rrm.worlds.games.game import after
from rrm.worlds.games.rivals import verdict, written_out
from rrm.worlds.games.rules import game_of

QUESTION = (
    "A user who plays on at random judges moves with the help of replies, replies to these, and so on. At the same "
    "budget of judgements and sampled tokens in all: how deep should the chain be, and what do its rivals reach?"
)
TRUTH = "truth's labels"
MORE = "depth 0, 64 times the attention"


def run(stage: Stage) -> Result:
    """Per arm: how right its user judges and how often its agent wins, position by position; what it cost."""
    board, found = Board.of(stage), {}
    for name, (depth, train) in arms(stage).items():
        node, user = train(), attentive(stage.user()) if name == MORE else stage.user()
        graded: dict[str, Any] = board.measured(user, node, str(stage.seed))
        if name == TRUTH:  # nobody assisted this user
            graded = {what: rows for what, rows in graded.items() if what.startswith("skill")}
        found[name] = graded | {"spent": spent(node), "depth": depth}
    return {"rules": dict(board.game.rules()), "arms": found}


def arms(stage: Stage) -> dict[str, tuple[int | None, Callable[[], Assistant]]]:
    """By name: the depth of a chain whose levels are all trained, and what trains the arm, or loads it."""
    units, deep = stage.depth + 1, stage.depth
    depths = [levels for levels in range(units) if units % (levels + 1) == 0]
    found: dict[str, tuple[int | None, Callable[[], Assistant]]] = {
        f"depth {levels}": (levels, partial(chain, stage, levels, units // (levels + 1)))
        for levels in (depths[:2] if stage.quick else depths)
    }
    if not stage.quick:
        found[f"depth {deep}, a tree"] = deep, partial(chain, stage, deep, name="tree", cases="framed")
        found[f"depth {deep}, warm start"] = deep, partial(chain, stage, deep, name="warm", warm=True)
        found[f"depth {deep}, every second level trained"] = None, partial(every_second, stage)
    for name, task in rivals(stage).items():
        found[name] = None, partial(stage.train, name, task)
    if attentive(stage.user()) != stage.user():
        found[MORE] = 0, partial(chain, stage, 0, units, "attentive", attentive(stage.user()))
    found[TRUTH] = None, partial(chain, stage, 0, units, "truth", OracleUser())
    return found


def attentive(user: User) -> User:
    """The user with 64 times the attention, if it plays out at all."""
    if not isinstance(user, PlayoutUser) or user.exact:
        return user
    return user.model_copy(update={"attention": 64 * user.attention})


def every_second(stage: Stage) -> Assistant:
    """A chain in which every second replier stays as it began (its greedy move is always the same), at the budget of
    the whole one."""
    base = step(stage)
    trained = base.settings.model_copy(update={"rounds": 2})
    still = base.settings.model_copy(update={"rounds": 1, "steps": 0, "comparisons": 8, "cases": 8, "drafts": 1})
    task = replace(base, settings=trained if stage.depth % 2 == 0 else still)
    for level in range(1, stage.depth + 1):
        own = trained if (stage.depth - level) % 2 == 0 else still
        task = replace(base, settings=own, assistants=(replace(task, name=REPLY, path=""),))
    return stage.train("every second", replace(task, covers=()))


def rivals(stage: Stage) -> dict[str, Task]:
    """One critic with all of the budget: half of it the critic's, half the agent's."""
    base, units = step(stage), stage.depth + 1
    half = base.settings.model_copy(update={"rounds": max(1, units // 2)})
    game = Board.of(stage).game
    move = 1 + len(next(iter(after(game, game.start))).split())  # tokens, end-of-text included
    words = move + len(game.start)  # of a move in a line, with what it leaves
    cap = 1 + words * stage.depth  # as many moves as the chain has replies
    line = half.model_copy(update={"max_tokens": cap})
    less = line.model_copy(update={"steps": max(1, round(line.steps * move / cap))})

    def root(critic: Task) -> Task:
        return replace(base, settings=half, assistants=(critic,), covers=())

    found = {"a verdict": root(verdict(half)), "the line, equal tokens": root(written_out(less))}
    return found if stage.quick else found | {"the line, equal steps": root(written_out(line))}


def summarize(results: Sequence[Result]) -> Summary:
    """A row per arm; what depth is worth over depth 1, and over the best rival."""
    game = game_of(results[0]["rules"])
    places = ceilings.deciding(game, positions(game))
    names = [name for name in results[0]["arms"] if all(name in result["arms"] for result in results)]

    def graded(arm: str, what: str) -> list[list[list[float]]]:
        return [by_case((n, v) for n, v in result["arms"][arm].get(what, [])) for result in results]

    rows = []
    deep = max(result["arms"][name]["depth"] or 0 for result in results for name in names)
    for arm in names:
        depth = results[0]["arms"][arm]["depth"]
        row: dict[str, Any] = {"arm": arm}
        for what, of in (("agreement", ceilings.agreement), ("skill", ceilings.policy)):
            row[what] = share_over_seeds(graded(arm, f"{what} trained"))
            row[f"{what}, converged"] = "" if depth is None else round(of(game, places, depth), 3)
            if arm.startswith("the line"):
                row[f"{what}, converged"] = round(of(game, places, deep, ceilings.written), 3)
            row[f"{what}, unseen"] = share_over_seeds(graded(arm, f"{what} unseen"))
        for what in results[0]["arms"][arm]["spent"]:
            row[what] = round(sum(result["arms"][arm]["spent"][what] for result in results) / len(results))
        rows.append(row)
    notes = []
    plain = [name for name in names if name.startswith("depth ") and "," not in name]
    for what in ("agreement", "skill"):
        means = {name: share_over_seeds(graded(name, f"{what} trained")) for name in names if name != TRUTH}
        best = max(plain, key=lambda name: means[name]["mean"])
        other = max((name for name in means if not name.startswith("depth")), key=lambda name: means[name]["mean"])
        pairs = [(best, other)] + ([(best, "depth 1")] if "depth 1" in means and best != "depth 1" else [])
        for one, two in dict.fromkeys(pairs):
            less = [
                [[x - y for x, y in zip(a, b, strict=True)] for a, b in zip(s, t, strict=True)]
                for s, t in zip(graded(one, f"{what} trained"), graded(two, f"{what} trained"), strict=True)
            ]
            more = shown(over_seeds(less))
            notes.append(f"{what}: {one}, {shown(means[one])}, less {two}, {shown(means[two])}: {more}.")
    limits = [
        "Converged: exact recursion over the user's own view, with expectations and without learning "
        "(`rrm.worlds.games.ceilings`); of the line, one whose every move is best by that view. An agent may be above "
        "it: of moves that the user cannot tell apart it happens to choose one.",
        "Trained: every position was trained on at every level of a chain (a tree and the critics have those that "
        "moves lead to), so a game this small may be learned by heart. "
        "Unseen: deciding positions of the next larger game, which no level met.",
        "Equal budget: an arm with fewer nodes has more rounds at each, which an exact user answers as it did before: "
        "it cannot use more. A verdict has one pair a position, so its critic is asked less. Judgements are those "
        "given; tokens those sampled to be optimized. Tokens of assistants at work are not counted: deeper arms "
        "use more.",
        "The notes compare the best depth with the best rival, chosen on these figures; no correction for that.",
        "What an exact user sees is the expectation of random play; what playouts cost, `share` says.",
    ]

    def draw(axes: Any) -> None:
        shown_arms = [row for row in rows if row["arm"] != TRUTH]
        ticks = range(len(shown_arms))
        for offset, what in ((-0.15, "agreement"), (0.15, "skill")):
            found = [row[what] for row in shown_arms]
            axes.errorbar([t + offset for t in ticks], [f["mean"] for f in found], yerr=error_bars(found), fmt="o",
                          label=what, capsize=3)  # fmt: skip
        axes.set_xticks(list(ticks), [row["arm"] for row in shown_arms], rotation=35, ha="right", fontsize=8)
        axes.set_ylim(0, 1.03)
        axes.set_title(f"{game.name}: equal budget", fontsize=10)
        axes.legend()

    return Summary(rows, notes, draw, limits=limits, tables={"What each size needs, converged": by_size(game)})


def by_size(game: Game) -> list[dict[str, Any]]:
    """Agreement by depth of a recursion that converged, in this game and the two next larger: exact."""
    rows = []
    for _ in range(3):
        places = ceilings.deciding(game, positions(game))
        agreed = {f"depth {d}": round(ceilings.agreement(game, places, d), 3) for d in range(9)}
        rows.append({"positions": len(positions(game)), **agreed})
        game = game.larger()
    return rows
