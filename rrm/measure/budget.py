"""What assistance costs and saves: accuracy against the user's attention, against how many answers are read, and who
does how much of the work at each depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rrm.assistance import Assistance
from rrm.measure.experiment import Result, Summary, agreement, error_bars, packed, shown
from rrm.measure.judging import Show, another, everything, judged, pruned
from rrm.measure.stage import Material, Stage
from rrm.measure.stats import of_numbers
from rrm.task import RRMError, digest
from rrm.user import BoundedUser, Pair

QUESTION = (
    "How right is the user for how much attention, with how many of the assistants' answers read, and what share of "
    "the work is the user's when assistants help down to depth k?"
)
ATTENTION = (0, 2, 4, 6, 8, 12, 16)
READ = (0, 1, 2, 4, 8)


def run(stage: Stage) -> Result:
    """Verdicts by attention and arm, by answers read, by depth shown; the assistants' work on the same pairs."""
    user = stage.user()
    if not isinstance(user, BoundedUser):
        raise RRMError(f"budget varies the user's attention; {user.name} has none: use the bounded user")
    deep = stage.assisted
    materials = {"alone": stage.alone}
    for levels in range(1, stage.depth):
        materials[f"depth {levels}"] = stage.alone.assisted(stage.helpers_at(levels))
    materials[f"depth {stage.depth}"] = deep
    found: dict[str, Any] = {"attention": {}, "read": {}, "shown": {}, "work": {}}
    for arm, material in materials.items():
        found["attention"][arm] = {
            str(n): packed(judged(stage.task, another(user, attention=n), material)) for n in ATTENTION
        }
    for most in READ:
        found["read"][str(most)] = packed(judged(stage.task, stage.user(), deep, reading(most, stage.seed)))
    found["read"]["all"] = packed(judged(stage.task, stage.user(), deep))
    for levels in range(stage.depth + 1):
        found["shown"][str(levels)] = packed(judged(stage.task, stage.user(), deep, pruned(levels)))
        found["work"][str(levels)] = work(deep, pruned(levels))
    found["work"]["all"] = work(deep, everything)
    return found


def reading(most: int, seed: int) -> Show:
    """Only so many answers on each outcome, drawn at random from all levels. An answer is read without what was said
    of it unless that was drawn too; it is then shown beside it."""

    def cut(side: Sequence[Assistance]) -> tuple[Assistance, ...]:
        answers = [(a, answer) for top in side for a in top.tree() for answer in a.answers]
        answers.sort(key=lambda row: digest(seed, "read", row[0].assistant, row[1].case.id, row[1].outcome.id))
        return tuple(replace(a, answers=(replace(answer, below=()),)) for a, answer in answers[:most])

    def show(pair: Pair) -> Pair:
        return replace(pair, assistance_a=cut(pair.assistance_a), assistance_b=cut(pair.assistance_b))

    return show


def work(material: Material, show: Show) -> dict[str, list[float]]:
    """Per pair and level, what assistants did: [facts they spoke of, answers, tokens of these answers]. Drafts that
    were not given are not counted."""
    total: dict[int, np.ndarray] = {}
    pairs = material.held.pairs
    for g, i, j in pairs:
        group = material.held.groups[g]
        pair = show(Pair("", group.case, group.outcomes[i], group.outcomes[j], group.seen(i), group.seen(j)))
        level, side = 0, [*pair.assistance_a, *pair.assistance_b]
        while side:
            answers = [answer for a in side for answer in a.answers]
            done = [sum(len(a.findings) for a in side), len(answers), sum(len(x.outcome.tokens) for x in answers)]
            total[level] = total.get(level, np.zeros(3)) + done
            level, side = level + 1, [sub for a in side for sub in a.below]
    return {str(level + 1): (done / max(1, len(pairs))).tolist() for level, done in total.items()}


def summarize(results: Sequence[Result]) -> Summary:
    """A row per arm and attention, per number of answers read, and per depth shown."""
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[Any]] = {}
    for arm in results[0]["attention"]:
        for n in ATTENTION:
            verdicts = [r["attention"][arm][str(n)] for r in results]
            curves.setdefault(arm, []).append(agreement(verdicts))
            row = {"varied": "attention", "assistance": arm, "given": n, "agreement": curves[arm][-1]}
            rows.append(row | {"attention spent": spent(verdicts)})
    whole = list(curves)[-1]
    for most in results[0]["read"]:
        verdicts = [r["read"][most] for r in results]
        row = {"varied": "answers read, of each outcome", "assistance": whole, "given": most}
        rows.append(row | {"agreement": agreement(verdicts), "attention spent": spent(verdicts)})
    shares = []
    for levels in results[0]["shown"]:
        verdicts = [r["shown"][levels] for r in results]
        share = of_numbers([user_share(r, levels) for r in results])
        shares.append((levels, share))
        row = {"varied": "depth shown", "assistance": whole, "given": levels, "agreement": agreement(verdicts)}
        done = np.mean([np.sum([*r["work"][levels].values()] or [[0, 0, 0]], axis=0) for r in results], axis=0)
        rows.append(
            row | {"attention spent": spent(verdicts), "user's share of the work": share,
                   "assistants' answers": float(done[1]), "assistants' tokens": float(done[2])}
        )  # fmt: skip
    unhelped = next(n for n in (*ATTENTION, None) if n is None or reaches(curves, whole, n))
    notes = [
        f"With assistance and the least attention that lets it point ({ATTENTION[1]}), the user reaches "
        f"{shown(curves[whole][1])}; alone, "
        + (f"attention {unhelped} does." if unhelped is not None else f"no attention up to {ATTENTION[-1]} does."),
        "User's share of the work, a pair: attention spent over attention spent plus facts that assistants "
        "spoke of, at "
        "all levels shown; by depth shown " + ", ".join(f"{k}: {shown(share)}" for k, share in shares) + ".",
        "Attention spent is for both outcomes. Assistants' answers and tokens are those given, a pair; drafts "
        "that were "
        "not given and the training are not in them.",
        "Depth shown hides what assistants said of assistants trained together; the arms depth 1, ... under attention "
        "were trained without.",
    ]

    def draw(axes: Any) -> None:
        for arm, points in curves.items():
            axes.errorbar(ATTENTION, [p["mean"] for p in points], yerr=error_bars(points), label=arm, capsize=3)
        axes.set_xlabel("attention given for a pair (facts the user can check)")
        axes.set_ylabel("user agrees with the truth")
        axes.legend()

    return Summary(rows, notes, draw, {"user_share": dict(shares)})


def reaches(curves: dict[str, list[Any]], whole: str, attention: int) -> bool:
    """Whether the user alone, with so much attention, is as right as with assistance and the least of it."""
    return bool(curves["alone"][ATTENTION.index(attention)]["mean"] >= curves[whole][1]["mean"])


def spent(verdicts: Sequence[Sequence[Sequence[float]]]) -> float:
    """Mean attention a pair."""
    return float(np.mean([attention for rows in verdicts for *_, attention in rows]))


def user_share(result: Result, levels: str) -> float:
    """The user's attention, of all facts looked at for a pair by anyone."""
    mine = spent([result["shown"][levels]])
    theirs = sum(facts for facts, *_ in result["work"][levels].values())
    return mine / (mine + theirs) if mine + theirs else float("nan")
