"""Does the bound on a tree's error hold, and is it of any use? Simulated trees of which every share is known exactly.

    python scripts/bounds.py --seeds 100-104 --doc docs/results/bounds.md

A leaf has some facts, each wrong with a small chance, and is judged by a user who looks at as many as attention allows,
with an error; what was not looked at is believed. Above, a user hears from each assistant whether anything is wrong
below it, checks some of that (a claim that something is wrong more often than one that nothing is, as it says where to
look), believes the rest, and may slip. An assistant claims what the user at its own node found, or, sometimes, the
opposite. So truths, verdicts and claims depend on each other as in a tree of rrm; but each tree's shares can be worked
out exactly. Counted are samples of each share (`rrm.trust.bounding.Level`), and the bound is compared with the tree's
true error, and with that of the user alone, who looks at the facts with what attention there is and no assistants.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rrm.core.shares import most
from rrm.trust.bounding import ASSUMPTIONS, Count, Edge, Level, bound, hoeffding, shares

Joint = tuple[float, float, float, float]
"""Chances of (nothing wrong, said so), (nothing wrong, said wrong), (wrong, said nothing), (wrong, said so)."""


@dataclass(frozen=True)
class Settings:
    """Between what the parts of a tree are drawn. Chosen on seeds 0 to 4."""

    facts: tuple[int, int] = (3, 6)
    """Of a leaf."""
    flaw: tuple[float, float] = (0.03, 0.12)
    """Chance that a fact is wrong."""
    unseen: tuple[int, int] = (0, 1)
    """Facts of a leaf for which there is no attention, at most one in a leaf."""
    look: tuple[float, float] = (0.002, 0.02)
    """Error of a look."""
    slip: tuple[float, float] = (0.0, 0.02)
    own: tuple[float, float] = (0.01, 0.08)
    """How often an assistant claims something else than the user at its node found."""
    pointed: tuple[float, float] = (0.5, 0.95)
    """How often a claim that something is wrong is checked."""
    other: tuple[float, float] = (0.0, 0.3)
    """The same of a claim that nothing is."""
    attention: float = 0.35
    """Of the facts of the tree, the share that the user alone looks at."""
    trials: int = 1000
    """Of each share."""


@dataclass(frozen=True)
class Tree:
    """A node, drawn."""

    facts: int
    seen: int
    flaw: float
    look: float
    slip: float
    pointed: float
    other: float
    below: tuple[tuple[float, Tree], ...]
    """(how often it claims the opposite of what was found, node)"""


def drawn(rng: np.random.Generator, depth: int, s: Settings) -> Tree:
    """A random tree with so many levels of assistants on its longest path; every other path may be shorter."""
    flaw, look, slip, _, pointed, other = (
        float(rng.uniform(*between)) for between in (s.flaw, s.look, s.slip, s.own, s.pointed, s.other)
    )
    below = []
    if depth:
        for i in range(int(rng.integers(1, 4))):
            deep = depth - 1 if i == 0 else int(rng.integers(0, depth))
            below.append((float(rng.uniform(*s.own)), drawn(rng, deep, s)))
    facts = int(rng.integers(s.facts[0], s.facts[1] + 1))
    return Tree(facts, facts - int(rng.integers(s.unseen[0], s.unseen[1] + 1)), flaw, look, slip, pointed, other,
                tuple(below))  # fmt: skip


def leaves(tree: Tree) -> list[Tree]:
    """Those that have facts."""
    return [leaf for _, node in tree.below for leaf in leaves(node)] or [tree]


def looked(facts: Sequence[tuple[float, float, float]], slip: float) -> Joint:
    """Of facts as (chance of a flaw, share that is looked at, error of a look)."""
    clean = math.prod(1 - p for p, _, _ in facts)
    quiet = math.prod(a * ((1 - p) * (1 - e) + p * e) + 1 - a for p, a, e in facts)
    both = math.prod((1 - p) * (1 - a * e) for p, a, e in facts)
    return slipped((both, clean - both, quiet - both, 1 - clean - quiet + both), slip)


def slipped(joint: Joint, slip: float) -> Joint:
    """With the opposite verdict in a share of the cases."""
    a, b, c, d = joint
    return (a + slip * (b - a), b + slip * (a - b), c + slip * (d - c), d + slip * (c - d))


def wrong(joint: Joint) -> float:
    """The share of verdicts that is wrong."""
    return joint[1] + joint[2]


def believed(tree: Tree, claim: Joint) -> tuple[Joint, Joint, Joint]:
    """What the user believes of one assistant's claim: (of all, of right claims only, of wrong ones only)."""

    def after(truth: int, said: int) -> tuple[float, float]:
        """Chances to believe that nothing is wrong, and that something is."""
        check = tree.pointed if said else tree.other
        right = (1 - tree.look, tree.look) if not truth else (tree.look, 1 - tree.look)
        kept = (0.0, 1.0) if said else (1.0, 0.0)
        return check * right[0] + (1 - check) * kept[0], check * right[1] + (1 - check) * kept[1]

    parts = {(t, s): claim[2 * t + s] for t in (0, 1) for s in (0, 1)}

    def of(some: Sequence[tuple[int, int]]) -> Joint:
        found = [0.0] * 4
        for t, s in some:
            for b, chance in enumerate(after(t, s)):
                found[2 * t + b] += parts[t, s] * chance
        return found[0], found[1], found[2], found[3]

    return of([*parts]), of([(0, 0), (1, 1)]), of([(0, 1), (1, 0)])


def together(beliefs: Sequence[Joint], slip: float) -> Joint:
    """The verdict that something is wrong if it is believed of any; truths and claims of assistants are independent. Of
    parts of all cases (not summing to 1) the same part."""
    total = math.prod(sum(one) for one in beliefs)
    clean = math.prod(one[0] + one[1] for one in beliefs)
    quiet = math.prod(one[0] + one[2] for one in beliefs)
    both = math.prod(one[0] for one in beliefs)
    return slipped((both, clean - both, quiet - both, total - clean - quiet + both), slip)


def verdict(tree: Tree) -> Joint:
    """Truth and verdict at a node, exactly."""
    if not tree.below:
        return looked([(tree.flaw, float(i < tree.seen), tree.look) for i in range(tree.facts)], tree.slip)
    return together([believed(tree, slipped(verdict(node), own))[0] for own, node in tree.below], tree.slip)


def counted(tree: Tree, trials: int, rng: np.random.Generator) -> Level:
    """What is counted at a node and below, in samples."""

    def seen(chance: float) -> Count:
        return Count(float(rng.binomial(trials, min(1.0, max(0.0, chance)))), trials)

    if not tree.below:
        return Level(seen(wrong(verdict(tree))))
    claims = [slipped(verdict(node), own) for own, node in tree.below]
    parts = [believed(tree, claim) for claim in claims]
    edges = []
    for i, (own, node) in enumerate(tree.below):
        gains = []
        for kind in (1, 2):  # a false alarm, a miss
            alone: list[float] = [0.0] * 4
            alone[kind] = 1.0
            planted = believed(tree, (alone[0], alone[1], alone[2], alone[3]))[0]
            others = [part[0] for k, part in enumerate(parts) if k != i]
            gains.append(seen(wrong(together([planted, *others], tree.slip))))
        edges.append(Edge(counted(node, trials, rng), seen(own), tuple(gains)))
    return Level(seen(wrong(together([part[1] for part in parts], tree.slip))), tuple(edges))


def alone(tree: Tree, attention: float) -> float:
    """The error of the user without assistants, whose attention is for a share of all facts, drawn at random."""
    facts = [(leaf.flaw, attention, tree.look) for leaf in leaves(tree) for _ in range(leaf.facts)]
    return wrong(looked(facts, tree.slip))


def measured(seed: int, trees: int, s: Settings) -> list[dict[str, float]]:
    """A row per tree."""
    trees_rng, rng = (np.random.default_rng([seed, k]) for k in (0, 1))  # the same trees, if trials differ
    rows = []
    for _ in range(trees):
        depth = int(trees_rng.integers(1, 4))
        tree = drawn(trees_rng, depth, s)
        truth, level = wrong(verdict(tree)), counted(tree, s.trials, rng)
        direct = float(rng.binomial(s.trials, truth))
        rows.append({
            "depth": depth, "leaves": len(leaves(tree)), "shares": shares(level), "truth": truth,
            "alone": alone(tree, s.attention), "bound": bound(level), "hoeffding": bound(level, upper=hoeffding),
            "flat": bound(without_gains(level)), "direct": most(direct, s.trials),
            "shifted": bound(counted(easier(tree), s.trials, rng)),
        })  # fmt: skip
    return rows


def without_gains(level: Level) -> Level:
    """The same, had nobody counted gains."""
    return Level(level.wrong, tuple(Edge(without_gains(edge.node), edge.rejected) for edge in level.edges))


def easier(tree: Tree) -> Tree:
    """The tree on other cases than those that it is used on: a tenth of the flaws, and assistants err as much less."""
    return replace(tree, flaw=tree.flaw / 10, below=tuple((own / 10, easier(node)) for own, node in tree.below))


KINDS = {
    "bound": "exact shares, counted gains", "flat": "gains taken to be 1", "hoeffding": "Hoeffding's shares",
    "direct": "truth at the root only, as many trials",
    "shifted": "counted on other cases: a tenth of flaws and errors",
}  # fmt: skip


def summary(rows: Sequence[dict[str, float]], kind: str) -> dict[str, float]:
    """Coverage, use, and looseness of a kind of bound."""
    loose = [row[kind] - row["truth"] for row in rows]
    low, middle, high = statistics.quantiles(loose, n=4)
    return {
        "trees": len(rows), "holds": sum(row[kind] >= row["truth"] for row in rows) / len(rows),
        "below": sum(row[kind] < row["alone"] for row in rows) / len(rows), "loose": middle, "low": low, "high": high,
    }  # fmt: skip


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def line(name: str, rows: Sequence[dict[str, float]], kind: str) -> list[str]:
    """A row of a table."""
    found = summary(rows, kind)
    return [
        name, f"{found['trees']:g}", f"{found['holds']:.3f}", f"{found['below']:.3f}",
        f"{found['loose']:.3f} [{found['low']:.3f}, {found['high']:.3f}]",
        *(f"{statistics.median(row[what] for row in rows):.3f}" for what in (kind, "truth", "alone")),
    ]  # fmt: skip


COLUMNS = ("", "trees", "holds", "below the user alone", "bound less truth: median [quartiles]", "bound", "truth",
           "user alone")  # fmt: skip


def page(seeds: Sequence[int], trees: int, command: str, s: Settings) -> str:
    """The page of results."""
    by_seed = {seed: measured(seed, trees, s) for seed in seeds}
    rows = [row for some in by_seed.values() for row in some]
    by_depth = [line(f"depth {d}", [row for row in rows if row["depth"] == d], "bound") for d in (1, 2, 3)]
    by_trials = [
        line(f"{n} trials of each", [r for seed in seeds for r in measured(seed, trees, replace(s, trials=n))], "bound")
        for n in (100, 400, 1000, 4000)
    ]  # fmt: skip
    covered = min(summary(some, "bound")["holds"] for some in by_seed.values())
    used = min(summary(some, "bound")["below"] for some in by_seed.values())
    demands = [
        f"- It must hold in at least 95 % of the trees of a seed: the least is {covered:.3f}, so "
        f"{'it does' if covered >= 0.95 else 'IT DOES NOT'}.",
        f"- It must be below the unaided user's error in at least half of them: the least is {used:.3f}, so "
        f"{'it is' if used >= 0.5 else 'IT IS NOT'}.",
    ]  # fmt: skip
    return "\n".join([
        "# bounds", "",
        "A bound on the error at the root of a tree, from what was counted at each level "
        "([how](../proofs-and-bounds.md#bounds)): does it hold, and is it of any use? Simulated trees with exact "
        "truth.",
        "", f"    {command}", "",
        f"Simulated; {trees} trees a seed, seeds {', '.join(map(str, seeds))}, {s.trials} trials of each share, "
        f"confidence 0.95 for all shares of a tree together; settings chosen on seeds 0 to 4: `{s}`. Medians over "
        "trees.", "",
        table(COLUMNS, [line(f"seed {seed}", some, "bound") for seed, some in by_seed.items()]), "",
        *demands, "", "## By depth", "", table(COLUMNS, by_depth), "", "## Other bounds, the same trees", "",
        table(COLUMNS, [line(name, rows, kind) for kind, name in KINDS.items()]), "",
        "## By how much was counted", "", table(COLUMNS, by_trials), "",
        "## What it rests on", "", *(f"- {one}" for one in ASSUMPTIONS), "",
    ])  # fmt: skip


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=200, help="trees of each seed")
    parser.add_argument("--seed", "--seeds", dest="seeds", default="100-104", help="one seed, or several: 100-104")
    parser.add_argument("--trials", type=int, default=Settings.trials, help="of each share that is counted")
    parser.add_argument("--doc", type=Path, help="write the page there; what was written by hand below it stays")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    command = f"python scripts/bounds.py --trees {args.trees} --seeds {args.seeds} --doc docs/results/bounds.md"
    text = page(seeds, args.trees, command, Settings(trials=args.trials))
    print(text)
    if args.doc is not None:
        mark = "<!-- below: written by hand"
        old = args.doc.read_text() if args.doc.exists() else ""
        args.doc.write_text(text + (f"\n{old[old.index(mark):]}" if mark in old else ""))


if __name__ == "__main__":
    main()
