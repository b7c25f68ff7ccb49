"""What assistance costs and saves: accuracy against the user's attention, against how many answers are read, who does
how much of the work at each depth, when the training of assistants has paid, and how many labels a score takes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rrm.core.errors import RRMError
from rrm.core.judgements import Pair
from rrm.core.records import Assistance, digest
from rrm.measure.experiment import Result, Summary, agreement, bounded, by_case, error_bars, lift, misses, packed, shown
from rrm.measure.experiments import active
from rrm.measure.oversight import Show, another, everything, judged, pruned
from rrm.measure.stage import Material, Stage, attention_below
from rrm.measure.stats import Interval, of_numbers, over_seeds
from rrm.users.bounded import BoundedUser

QUESTION = (
    "How right is the user for how much attention, with how many of the assistants' answers read; what share of the "
    "work is the user's when assistants help down to depth k; after how many comparisons has the attention spent on "
    "training the assistants paid; and how many labels does a true score take, chosen actively or at random?"
)
ATTENTION = (0, 2, 4, 6, 8, 12, 16, 24, 36)
USUAL = 6
"""The attention at which training assistants is held against checking more alone: the user's default."""
TARGETS = (0.7, 0.75, 0.8)
"""True scores whose price in labels is asked for."""
SHARE = "user's share of the work"
READ = (0, 1, 2, 4, 8)


def run(stage: Stage) -> Result:
    """Verdicts by attention and arm, by answers read, by depth shown; the assistants' work on the same pairs."""
    user = stage.user()
    if not isinstance(user, BoundedUser):
        raise RRMError(
            f"budget counts the user's attention in facts that are checked, one by one, and {user.name} checks none: "
            "use the bounded user (--user bounded)"
        )
    deep = stage.assisted
    materials = {"alone": stage.alone, "flat critic": stage.alone.assisted(stage.critic)}
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
    trained = {"flat critic": stage.critic} | {
        f"depth {levels}": stage.helpers_at(levels) for levels in range(1, stage.depth + 1)
    }
    found["training attention"] = {arm: sum(map(attention_below, helpers)) for arm, helpers in trained.items()}
    found["labels"] = active.run(stage)
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
    """A row per arm and attention; tables by answers read, by depth shown, of break-even, of labels."""
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[Any]] = {}
    alone = {n: [r["attention"]["alone"][str(n)] for r in results] for n in ATTENTION}
    for arm in results[0]["attention"]:
        for n in ATTENTION:
            verdicts = [r["attention"][arm][str(n)] for r in results]
            curves.setdefault(arm, []).append(agreement(verdicts))
            row: dict[str, Any] = {"assistance": arm, "attention given": n, "agreement": curves[arm][-1]}
            row |= misses(verdicts)
            if arm != "alone":
                row["lift at equal attention"] = bounded(agreement(alone[n])) or lift(verdicts, alone[n])
            rows.append(row | {"attention spent": spent(verdicts)})
    whole = list(curves)[-1]
    read: list[dict[str, Any]] = []
    for most in results[0]["read"]:
        verdicts = [r["read"][most] for r in results]
        read_row: dict[str, Any] = {"answers read of each outcome": most, "agreement": agreement(verdicts)}
        read.append(read_row | {"attention spent": spent(verdicts)})
    depths: list[dict[str, Any]] = []
    for levels in results[0]["shown"]:
        verdicts = [r["shown"][levels] for r in results]
        share = of_numbers([user_share(r, levels) for r in results])
        done = np.mean([np.sum([*r["work"][levels].values()] or [[0, 0, 0]], axis=0) for r in results], axis=0)
        depths.append({
            "depth shown": levels, "agreement": agreement(verdicts), "attention spent": spent(verdicts),
            SHARE: share, "facts assistants spoke of": float(done[0]),
            "assistants' answers": float(done[1]), "assistants' tokens": float(done[2]),
        })  # fmt: skip
    even, labels, chosen = break_even(results, curves), label_rows(results), active_rows(results)
    notes = [
        *(f"{row['assistance']}: to be as right as with it and attention {USUAL}, the user alone needs attention "
          f"{row['attention alone for the same']}; its training took {row['attention of training']:.0f} of the user's "
          f"attention, saved after {row['comparisons to break even']} comparisons." for row in even),
        f"With {whole} the user is right most often at attention {peak_of(curves[whole])}: "
        f"{shown(max_of(curves[whole]))}; at {ATTENTION[-1]}, {shown(curves[whole][-1])}.",
        "User's share of the work, a pair, by depth shown: "
        + ", ".join(f"{d['depth shown']}: {shown(d[SHARE])}" for d in depths) + ".",
        "Labels for a true score (median over seeds; best of 16 by the reward model): "
        + "; ".join(f"{row['labels']}, {row['pairs chosen']}: "
                    + ", ".join(f"{row[f'labels for {t:g}']} for {t:g}" for t in TARGETS) for row in labels) + ".",
        "Active less random, in true score: "
        + "; ".join(f"{row['labels']}: " + ", ".join(f"{shown(v)} at {name.split()[-1]}" for name, v in row.items()
                                                     if name != "labels") for row in chosen) + ".",
    ]  # fmt: skip
    limits = [
        "The user's share of the work is the attention spent over it plus the facts that assistants spoke of, at all "
        "levels shown. Attention spent is for both outcomes. Assistants' answers and tokens are those given, a pair; "
        "drafts that were not given, and training, are not in them.",
        "Break-even counts the user's attention only, by linear interpolation of the mean curve alone; the assistants' "
        "computing is free in it, and the user alone is taken to check without tiring. The comparisons that trained "
        "the assistants were made with this user's usual attention.",
        "Depth shown hides what assistants said of assistants trained together; the arms depth 1, ... under attention "
        "were trained without.",
        "Labels: one pool of outcomes of the starting agent, nothing is optimized and labeled again; alone, the "
        "reward model reads the outcome only, assisted it reads the assistance too (the two doors together). The "
        f"mean outcome has a true score of {shown(labels[0]['mean outcome'])}, the truly best of 16 "
        f"{shown(labels[0]['truly best'])}.",
    ]

    def draw(axes: Any) -> None:
        for arm, points in curves.items():
            axes.errorbar(ATTENTION, [p["mean"] for p in points], yerr=error_bars(points), label=arm, capsize=3)
        axes.set_xlabel("attention given for a pair (facts the user can check)")
        axes.set_ylabel("user agrees with the truth")
        axes.legend()

    def draw_labels(axes: Any) -> None:
        for n, (arm, choose) in enumerate(itertools.product(active.ARMS, active.CHOOSE)):
            sizes = [*results[0]["labels"][f"{arm}, {choose}"]]
            points = [label_score(results, f"{arm}, {choose}", size) for size in sizes]
            axes.errorbar([int(size) * (1 + 0.03 * n) for size in sizes], [p["mean"] for p in points],
                          yerr=error_bars(points), label=f"{arm}, {choose}", color=f"C{n // 2}",
                          linestyle=("-", "--")[n % 2], capsize=2)  # fmt: skip
        axes.axhline(labels[0]["mean outcome"]["mean"], color="gray", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("labels")
        axes.set_ylabel("true score of the best of 16 (gray: the mean outcome)")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    tables = {"How many answers are read": read, "Down to which depth": depths, "When training has paid": even,
              "Labels for a true score": labels, "Choosing actively": chosen}  # fmt: skip
    by_depth = {d["depth shown"]: d[SHARE] for d in depths}
    return Summary(rows, notes, draw, {"user_share": by_depth, "whole": whole}, limits, tables, (draw_labels,))


def break_even(results: Sequence[Result], curves: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Per arm with assistants: how much attention alone is as right, and after how many comparisons the attention that
    trained the assistants is saved."""
    rows: list[dict[str, Any]] = []
    for arm, cost in results[0]["training attention"].items():
        aim = curves[arm][ATTENTION.index(USUAL)]["mean"]
        same = attention_for(ATTENTION, [p["mean"] for p in curves["alone"]], aim)
        cost = float(np.mean([r["training attention"][arm] for r in results]))
        saved = same - USUAL
        rows.append({
            "assistance": arm, "agreement": curves[arm][ATTENTION.index(USUAL)],
            "attention alone for the same": f"{same:.1f}" if np.isfinite(same) else f"more than {ATTENTION[-1]}",
            "attention of training": cost,
            "comparisons to break even": f"{cost / saved:.0f}" if np.isfinite(same) and saved > 0 else
            (f"fewer than {cost / (ATTENTION[-1] - USUAL):.0f}" if saved > 0 else "never"),
        })  # fmt: skip
    return rows


def attention_for(given: Sequence[int], right: Sequence[float], aim: float) -> float:
    """The least attention at which a curve is as right as `aim`, by linear interpolation; infinity if it never is."""
    for k, value in enumerate(right):
        if value >= aim:
            if k == 0:
                return float(given[0])
            return given[k - 1] + (given[k] - given[k - 1]) * (aim - right[k - 1]) / (value - right[k - 1])
    return float("inf")


def label_score(results: Sequence[Result], arm: str, size: str) -> Interval:
    """The true score that `size` labels reach in an arm, over seeds and cases."""
    return over_seeds([by_case((case, value) for case, value in r["labels"][arm][size]) for r in results])


def label_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Per arm and way to choose: the true score by number of labels, and the labels that the targets take."""
    rows: list[dict[str, Any]] = []
    for arm, choose in itertools.product(active.ARMS, active.CHOOSE):
        name = f"{arm}, {choose}"
        sizes = [*results[0]["labels"][name]]
        row: dict[str, Any] = {"labels": arm, "pairs chosen": choose}
        row |= {f"score at {size}": label_score(results, name, size) for size in sizes}
        for target in TARGETS:
            each = [
                active.needed([int(s) for s in sizes], [label_score([r], name, s)["mean"] for s in sizes], target)
                for r in results
            ]
            middle = float(np.median(each))
            reached = sum(np.isfinite(each))
            row[f"labels for {target:g}"] = (
                f"{middle:.0f}" if np.isfinite(middle) else f"more than {sizes[-1]}"
            ) + ("" if reached == len(each) else f" ({reached} of {len(each)} seeds reach it)")
        row["mean outcome"] = over_seeds([by_case(r["labels"]["mean"]) for r in results])
        row["truly best"] = over_seeds([by_case(r["labels"]["best"]) for r in results])
        rows.append(row)
    return rows


def active_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Per arm, by number of labels: the true score with pairs chosen actively, less that with pairs at random."""
    rows: list[dict[str, Any]] = []
    for arm in active.ARMS:
        row: dict[str, Any] = {"labels": arm}
        random, chosen = (f"{arm}, {choose}" for choose in active.CHOOSE)
        for size in results[0]["labels"][random]:
            less = [
                [[mine - other] for (_, mine), (_, other) in zip(r["labels"][chosen][size], r["labels"][random][size],
                                                                strict=True)]
                for r in results
            ]  # fmt: skip
            row[f"active less random at {size}"] = over_seeds(less)
        rows.append(row)
    return rows


def peak_of(points: Sequence[Interval]) -> int:
    """The attention at which a curve is highest."""
    return ATTENTION[max(range(len(points)), key=lambda k: points[k]["mean"])]


def max_of(points: Sequence[Interval]) -> Interval:
    """The point with the highest mean."""
    return max(points, key=lambda point: point["mean"])


def spent(verdicts: Sequence[Sequence[Sequence[float]]]) -> float:
    """Mean attention a pair."""
    return float(np.mean([attention for rows in verdicts for *_, attention in rows]))


def user_share(result: Result, levels: str) -> float:
    """The user's attention, of all facts looked at for a pair by anyone."""
    mine = spent([result["shown"][levels]])
    theirs = sum(facts for facts, *_ in result["work"][levels].values())
    return mine / (mine + theirs) if mine + theirs else float("nan")
