"""Do errors of a level grow or fade in the levels above it? (Leike et al. 2018, section 3.2: "an important open
question is whether errors accumulate".)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrm.core.task import Assistant
from rrm.measure.experiment import Result, Summary, by_case, error_bars, shown
from rrm.measure.experiments.depth import given
from rrm.measure.games import Board, chain, erring, step
from rrm.measure.stage import Stage
from rrm.measure.stats import over_seeds, share_over_seeds
from rrm.worlds.games import ceilings, positions
from rrm.worlds.games.rules import game_of

QUESTION = (
    "A share of the first replier's answers is made random. How wrong are the levels above it then, and does that "
    "depend on how many judgements each level is trained on: where do errors fade, and where do they grow?"
)
SHARES = (0.0, 0.3)
LABELS = (0.125, 0.25, 0.5, 1.0)
"""Judgements of a level, as a share of the tree's own."""


def run(stage: Stage) -> Result:
    """Per budget and share of errors: how right user and agent are at every level, from the first."""
    board = Board.of(stage)
    found: dict[str, Any] = {}
    for labels in LABELS[-1:] if stage.quick else LABELS:
        s = step(stage).settings
        fewer = s.model_copy(
            update={"comparisons": max(8, round(s.comparisons * labels)), "cases": max(8, round(s.cases * labels))}
        )
        first = chain(stage, 0, name=f"labels {labels} first", settings=fewer)
        for share in SHARES:
            below = erring(first, share, stage.seed)
            name = f"labels {labels} errors {share}"
            root = chain(stage, max(0, stage.depth - 1), name=name, settings=fewer, below=below)
            nodes = [first, *reversed(line(root))]
            found[f"{labels} {share}"] = [
                board.measured(stage.user(), node, f"{stage.seed} {level}") | {"given": given(node, alone=True)}
                for level, node in enumerate(nodes)
            ]
    asked = {str(labels): round(step(stage).settings.comparisons * labels) for labels in LABELS}
    return {"rules": dict(board.game.rules()), "levels": found, "comparisons": asked}


def line(root: Assistant) -> list[Assistant]:
    """The nodes that were trained with this root, itself first."""
    found, node = [root], root
    while node.helpers and node.helpers[0].reward is not None:
        node = node.helpers[0]
        found.append(node)
    return found


def summarize(results: Sequence[Result]) -> Summary:
    """Per budget and level: agreement without and with the errors, and what is left of them."""
    game = game_of(results[0]["rules"])
    places = ceilings.deciding(game, positions(game))
    budgets = list(dict.fromkeys(key.split()[0] for key in results[0]["levels"]))

    def graded(labels: str, share: float, level: int, what: str) -> list[list[list[float]]]:
        return [
            by_case((n, v) for n, v in result["levels"][f"{labels} {share}"][level][f"{what} trained"])
            for result in results
        ]

    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    lines: dict[str, list[Any]] = {}
    for labels in budgets:
        excess: list[float] = []
        for level in range(len(results[0]["levels"][f"{labels} {SHARES[0]}"])):
            clean, wrong = (graded(labels, share, level, "agreement") for share in SHARES)
            lost = [
                [[x - y for x, y in zip(a, b, strict=True)] for a, b in zip(s, t, strict=True)]
                for s, t in zip(clean, wrong, strict=True)
            ]
            converged = ceilings.agreement(game, places, level)
            row: dict[str, Any] = {
                "asked at most": results[0]["comparisons"].get(labels, ""),
                "given": round(sum(r["levels"][f"{labels} {SHARES[0]}"][level].get("given", 0) for r in results)
                               / len(results)) or "",
                "level": level,
                "agreement, converged": round(converged, 3), "agreement": share_over_seeds(clean),
                f"with {SHARES[1]:.0%} errors at 0": share_over_seeds(wrong), "lost": over_seeds(lost),
                "skill": share_over_seeds(graded(labels, SHARES[0], level, "skill")),
                "skill, with errors": share_over_seeds(graded(labels, SHARES[1], level, "skill")),
                "skill, unseen": share_over_seeds(
                    [by_case((n, v) for n, v in r["levels"][f"{labels} {SHARES[0]}"][level]["skill unseen"])
                     for r in results]
                ),
            }  # fmt: skip
            rows.append(row)
            lines.setdefault(labels, []).append(row["agreement"])
            excess.append(converged - row["agreement"]["mean"])
        notes.append(
            f"At most {results[0]['comparisons'].get(labels)} judgements a level: short of the converged recursion by "
            + ", ".join(f"{value:.3f}" for value in excess)
            + f" from level 0 on; of the errors put in, the last level keeps {shown(rows[-1]['lost'])}."
        )
    limits = [
        "Errors are random legal moves, for a share of positions that hangs on the seed: systematic or chosen errors "
        "are another matter (`misleading`).",
        "A pair is asked once, so fewer judgements are given than may be asked; with fewer of them come fewer cases.",
        "Level 0 is judged without assistance, so errors in its answers show from level 1 on.",
    ]

    def draw(axes: Any) -> None:
        for labels, found in lines.items():
            axes.errorbar(range(len(found)), [f["mean"] for f in found], yerr=error_bars(found), capsize=3,
                          label=f"at most {results[0]['comparisons'].get(labels)} judgements a level")  # fmt: skip
        depths = range(len(lines[budgets[0]]))
        axes.plot(depths, [ceilings.agreement(game, places, d) for d in depths], "k--", label="converged")
        axes.set_xlabel("level")
        axes.set_ylabel("agreement with the truth")
        axes.legend(fontsize=8)

    return Summary(rows, notes, draw, limits=limits)
