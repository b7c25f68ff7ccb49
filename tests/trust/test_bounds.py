"""A bound is not exceeded more often than is said."""

from __future__ import annotations

import numpy as np
import pytest

from rrm.core.shares import most
from rrm.trust.bounding import Count, Edge, Level, added, bound, hoeffding, shares
from scripts import bounds as trees


def test_each_share_is_bounded_as_often_as_is_said() -> None:
    rng = np.random.default_rng(0)
    for p in (0.02, 0.3):
        for upper in (most, hoeffding):
            held = [upper(float(k), 40, 0.9) >= p for k in rng.binomial(40, p, 300)]
            assert np.mean(held) >= 0.86


def test_the_bound_of_a_tree_is_the_sum_that_it_is_said_to_be() -> None:
    def exact(k: float, n: float, confidence: float) -> float:
        return k / n

    leaf = Level(Count(1, 10))
    top = Level(Count(2, 100), (Edge(leaf, Count(1, 20), (Count(1, 10), Count(4, 10))), Edge(leaf, Count(0, 20))))
    assert shares(top) == 1 + (1 + 2 + 1) + (1 + 1)
    assert bound(top, upper=exact) == pytest.approx(0.02 + 0.4 * (0.05 + 0.1) + 1.0 * (0.0 + 0.1))
    many = Level(Count(20, 1000), (Edge(Level(Count(50, 1000)), Count(50, 1000), (Count(300, 1000),)),))
    assert bound(many, upper=exact) < bound(many, 0.9) < bound(many) < bound(many, upper=hoeffding) < 1
    assert bound(Level(Count(0, 0))) == 1 and added((Count(0, 0),)) == 1 and added(()) == 0


def test_shares_of_simulated_trees_are_what_happens_in_them() -> None:
    """The exact arithmetic of the simulation, against drawing every fact, look and claim."""
    rng = np.random.default_rng(1)
    tree = trees.drawn(np.random.default_rng(5), 1, trees.Settings(flaw=(0.2, 0.3), look=(0.1, 0.2), slip=(0.05, 0.1)))
    n = 40_000
    truths, beliefs = [], []
    for own, leaf in tree.below:
        flaw = rng.random((n, leaf.facts)) < leaf.flaw
        look = flaw ^ (rng.random(flaw.shape) < leaf.look)
        look[:, leaf.seen :] = False
        claim = look.any(1) ^ (rng.random(n) < leaf.slip) ^ (rng.random(n) < own)
        truth = flaw.any(1)
        checked = rng.random(n) < np.where(claim, tree.pointed, tree.other)
        truths.append(truth)
        beliefs.append(np.where(checked, truth ^ (rng.random(n) < tree.look), claim))
    verdict = np.any(beliefs, axis=0) ^ (rng.random(n) < tree.slip)
    seen = float((verdict != np.any(truths, axis=0)).mean())
    assert seen == pytest.approx(trees.wrong(trees.verdict(tree)), abs=0.01)


def test_the_bound_holds_in_simulated_trees_and_fails_where_its_assumptions_do() -> None:
    s = trees.Settings(trials=200)
    rows = trees.measured(7, 40, s)
    assert sum(row["bound"] >= row["truth"] for row in rows) >= 0.95 * len(rows)
    rich = trees.measured(7, 40, trees.Settings(trials=20_000, other=(0.0, 0.0), pointed=(0.0, 0.0)))
    assert any(row["shifted"] < row["truth"] for row in rich)
    assert all(row["bound"] >= row["truth"] for row in rich)
