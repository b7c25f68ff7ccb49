"""Do errors accumulate or dampen on the way up? Errors of a known share are put into one child's answers, and the
user's verdict on the parent is watched (Leike et al. 2018, section 3.2, leaves it open)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rrm.measure.arms import HeldOut
from rrm.measure.experiment import Result, Summary, agreement, packed, shown
from rrm.measure.judging import assistants_in, judged, rewritten
from rrm.measure.oracle import matter
from rrm.measure.stage import Stage
from rrm.measure.stats import Interval, of_numbers
from rrm.task import Fact, Finding, Malformed, Task, digest

QUESTION = (
    "When a share e of one assistant's findings is wrong, how much more often is the user wrong about the outcome? "
    "Random errors, systematic ones (always the same facts), and findings chosen to favor the worse outcome."
)
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
KINDS = ("random", "systematic", "adversarial")


def run(stage: Stage) -> Result:
    """Per child (direct or below), kind and share: the user's verdicts. Share 0 is what the child found itself."""
    found: dict[str, Any] = {
        "alone": packed(judged(stage.task, stage.user(), stage.alone)),
        "as found": packed(judged(stage.task, stage.user(), stage.assisted)),
        "children": {},
    }
    shares = SHARES[-1:] if stage.quick else SHARES[1:]
    for child in assistants_in(stage.assisted):
        rows: dict[str, Any] = {}
        for kind in KINDS:
            rows[kind] = {}
            for share in shares:
                worse = stage.assisted.each(lambda some: spoiled(stage.task, some, child, kind, share, stage.seed))  # noqa: B023
                rows[kind][str(share)] = packed(judged(stage.task, stage.user(), worse))
        found["children"][child] = rows
    return found


def spoiled(task: Task, some: HeldOut, child: str, kind: str, share: float, seed: int) -> HeldOut:
    """The same pairs with errors in what `child` found.

    random: each finding, with chance `share`, is set against the truth. systematic: all findings about a `share` of
    the fact names are, the same ones throughout. adversarial: with chance `share`, set to hold on the worse and not to
    hold on the better outcomes of its case (by the pairs they win), whatever is true. A larger share spoils what a
    smaller one spoils, and more. A false accusation points at a part if the child does that, at any of them.
    """
    found = [f for g in some.groups for i in range(len(g.outcomes)) for top in g.seen(i) for a in top.tree()
             if a.assistant == child for f in a.findings]  # fmt: skip
    names = sorted({f.fact for f in found}, key=lambda name: digest(seed, "systematic", child, name))
    always = set(names[: round(share * len(names))])
    points = any(f.part is not None for f in found)
    wins = Counter((g, i if truth else j) for (g, i, j), truth in zip(some.pairs, some.truth, strict=True))
    games = Counter((g, k) for g, *both in some.pairs for k in both)
    facts = {
        (g, i): _facts(task, some, g, i) for g, group in enumerate(some.groups) for i in range(len(group.outcomes))
    }

    def change(by: str, g: int, i: int, f: Finding) -> Finding:
        fact = facts[g, i].get(f.fact)
        if by != child or fact is None:
            return f
        group = some.groups[g]
        rng = random.Random(digest(seed, child, kind, group.case.id, group.outcomes[i].id, f.fact))
        if not (f.fact in always if kind == "systematic" else rng.random() < share):
            return f
        better = wins[g, i] * 2 > games[g, i]
        holds = not better if kind == "adversarial" else not matter(fact)
        if f.holds == holds:
            return f
        return Finding(f.fact, holds, rng.randrange(len(fact.parts)) if points and fact.parts and not holds else None)

    return rewritten(some, change)


def _facts(task: Task, some: HeldOut, g: int, i: int) -> Mapping[str, Fact]:
    try:
        return {fact.name: fact for fact in task.facts(some.groups[g].case, some.groups[g].outcomes[i])}
    except Malformed:
        return {}


def summarize(results: Sequence[Result]) -> Summary:
    """The user's error against the share of errors put in; its slope per child and kind is the edge's gain."""
    names = [name for name in results[0]["children"] if all(name in r["children"] for r in results)]
    shares = [0.0, *(float(share) for share in results[0]["children"][names[0]][KINDS[0]])]
    points: dict[tuple[str, str], list[Interval]] = {}
    rows: list[dict[str, Any]] = []
    alone = agreement([r["alone"] for r in results])
    for child in names:
        for kind in KINDS:
            by_seed = [[r["as found"], *r["children"][child][kind].values()] for r in results]
            points[child, kind] = [agreement([seed[s] for seed in by_seed]) for s in range(len(shares))]
            errors = [[1 - agreement([rows])["mean"] for rows in seed] for seed in by_seed]
            row: dict[str, Any] = {"child": child, "errors": kind, "gain": slopes(errors, shares)}
            named = {f"agreement at {share}": p for share, p in zip(shares, points[child, kind], strict=True)}
            rows.append(row | named)
    worst = max(rows, key=lambda row: row["gain"]["mean"])
    above = [f"{r['child']} ({r['errors']})" for r in rows if r["gain"]["low"] > 1]
    below = sum(row["gain"]["high"] < 1 for row in rows)
    harmed = [
        f"{child} ({kind})" for (child, kind), p in points.items() if p[-1]["high"] < alone["low"]
    ]  # fmt: skip
    notes = [
        f"Gain: increase of the user's error on pairs per unit share of wrong findings of the child (least "
        f"squares over "
        f"the shares, a line per seed). Below 1 contracts. {below} of {len(rows)} edges contract (interval below 1); "
        + (f"amplified: {', '.join(above)}." if above else "none amplifies."),
        f"The largest of {len(rows)} gains is {shown(worst['gain'])}, {worst['child']} with {worst['errors']} "
        f"errors; the "
        "largest of many is too large by chance too.",
        f"The user alone agrees with the truth at {shown(alone)}. Below that, with everything the child says spoiled: "
        + (", ".join(harmed) or "no edge") + ".",
        "Each user practiced on pairs with the same kind and share of errors, so trust had a chance to fall.",
        "One child is spoiled at a time, after training; this says nothing about errors that several children "
        "share, or "
        "that training builds in.",
    ]  # fmt: skip

    def draw(axes: Any) -> None:
        styles = dict(zip(KINDS, ("-", "--", ":"), strict=True))
        for (child, kind), row in points.items():
            label = child.partition("/")[2] if kind == "random" else None
            color = f"C{names.index(child) % 10}"
            axes.plot(shares, [1 - p["mean"] for p in row], styles[kind], color=color, label=label)
        axes.axhline(1 - alone["mean"], color="gray", linewidth=1)
        axes.set_xlabel("share of the child's findings made wrong (— random, -- systematic, ··· adversarial)")
        axes.set_ylabel("user's error on pairs (gray: alone)")
        axes.legend(fontsize=8)

    return Summary(rows, notes, draw, {"largest_gain": worst["gain"]})


def slopes(errors: Sequence[Sequence[float]], shares: Sequence[float]) -> Interval:
    """Least-squares slope of error against share, per seed; mean and 95 % t-interval over seeds."""
    from scipy import stats  # late: it takes half a second

    return of_numbers([float(stats.linregress(shares, row).slope) for row in errors])
