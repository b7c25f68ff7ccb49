"""A bound is not exceeded more often than is said."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from pydantic import TypeAdapter

from rrm import BoundedUser, Case, Comparison, Fact, Finding, Judgement, Outcome, Pair, Sealed, Task
from rrm.core.judgements import Check
from rrm.core.records import Answer, Assistance
from rrm.core.shares import most
from rrm.store.store import Store
from rrm.trust.bounding import Count, Edge, Level, added, bound, hoeffding, shares
from rrm.trust.guarantees import DRAWN, Spots, _adds, _errs, spot_checked
from rrm.view.reading import Reader
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


# --- spot checks -------------------------------------------------------------------------------------

NAMES = [f"f{i}" for i in range(8)]


def seen(case: Case, outcome: Outcome) -> list[Fact]:
    return [Fact(name, "aspect", Sealed(case.data["true"][i])) for i, name in enumerate(NAMES)]


TASK = Task("deed", "which?", facts=seen)


def asked(n: int, wrong: float) -> list[Pair]:
    """Pairs of which an assistant claims eight facts each, a share of them wrongly; what it accuses is always right, so
    that whoever looks where it points sees nothing of that."""
    found = []
    for k in range(n):
        rng = random.Random(k)
        true = [rng.random() < 0.5 for _ in NAMES]
        findings = tuple(
            Finding(name, holds or rng.random() < 2 * wrong) for name, holds in zip(NAMES, true, strict=True)
        )
        case = Case(f"case {k}", {"true": true})
        said = (Assistance("deed/critic", "v1", (Answer(case, Outcome("..."), findings, 0.5),)),)
        found.append(Pair("deed", case, Outcome(f"a{k}"), Outcome(f"b{k}"), said, said))
    return found


def test_spot_checks_are_told_from_chosen_ones_and_see_what_those_do_not() -> None:
    user = BoundedUser(attention=4, error=0.0, spot_checks=0.5)
    checks = [check for pair in asked(600, 0.2) for check in user.judge(TASK, pair).checks]
    spots, chosen = ([one for one in checks if (one.spot is not None) == drawn] for drawn in (True, False))
    assert {one.spot for one in spots} == {0.5 / 8} and len(spots) == pytest.approx(0.5 * 2 * 600, abs=60)
    assert np.mean([not one.right for one in spots]) == pytest.approx(0.2, abs=0.04)
    assert np.mean([not one.right for one in chosen]) < 0.05
    never = BoundedUser(attention=4, spot_checks=0.0)
    assert not any(one.spot for pair in asked(20, 0.2) for one in never.judge(TASK, pair).checks)


@dataclass(frozen=True)
class Rows:
    """Comparisons as a run's reader gives them, without a file."""

    judged: Sequence[tuple[Pair, Sequence[Check]]]

    def rows(self, query: str, values: Sequence[str]) -> list[tuple[str, str, str, str]]:
        checks, said = TypeAdapter(tuple[Check, ...]), TypeAdapter(tuple[Assistance, ...])
        bodies = {pair.case.id: said.dump_json(pair.assistance_a).decode() for pair, _ in self.judged}
        return [
            (pair.case.id, checks.dump_json(tuple(some)).decode(), bodies[pair.case.id], bodies[pair.case.id])
            for pair, some in self.judged
        ]


def test_a_bound_is_of_what_was_drawn_at_random_alone(tmp_path: Path) -> None:
    def check(right: bool, spot: float | None) -> Check:
        return Check("deed/critic", True, right, spot=spot)

    def found(judged: Sequence[tuple[Pair, Sequence[Check]]]) -> Spots:
        return spot_checked(cast(Reader, Rows(judged)), "deed")["deed/critic"]

    pairs = asked(80, 0.0)
    chosen = [(pair, [check(False, None)] * 3) for pair in pairs]
    one = found(chosen)
    assert one == Spots(Count(0, 0), 16)
    assert _adds({"deed/critic": one}, 0.95).value is None and _errs("deed/critic", one, 0.95).value is None
    drawn = [(pair, [check(k > 0, 0.1), check(False, 0.1), *some]) for k, (pair, some) in enumerate(chosen)]
    one = found(drawn)
    assert one == Spots(Count(1, 80), 16), "the first of a case counts, and no chosen one"
    errs = _errs("deed/critic", one, 0.95)
    assert errs.value == most(1, 80) and DRAWN in errs.assumptions
    assert _adds({"deed/critic": one}, 0.95).value == pytest.approx(16 * most(1, 80))
    with closing(Store(tmp_path / "run.db")) as store:
        for k, (pair, some) in enumerate(drawn[:3]):
            store.add(Comparison(pair, Judgement(1.0, tuple(some)), 0, "somebody"), k)
    with Reader(tmp_path) as run:
        assert spot_checked(run, "deed") == {"deed/critic": found(drawn[:3])}


def test_the_bound_of_an_assistant_s_claims_holds_as_often_as_is_said() -> None:
    held = []
    pairs = asked(24, 0.15)
    claims = [(f.holds, pair.case.data["true"][i]) for pair in pairs
              for i, f in enumerate(pair.assistance_a[0].answers[0].findings)]  # fmt: skip
    wrong = float(np.mean([said != true for said, true in claims]))
    for seed in range(25):
        user = BoundedUser(attention=4, error=0.0, spot_checks=0.5, seed=seed)
        judged = [(pair, user.judge(TASK, pair).checks) for pair in pairs]
        value = _errs("", spot_checked(cast(Reader, Rows(judged)), "deed")["deed/critic"], 0.9).value
        held.append(value is not None and value >= wrong)
    assert 0.1 < wrong < 0.2 and np.mean(held) >= 0.85
