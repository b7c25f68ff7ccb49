"""What a fit does not see: by case where there are enough, by pair otherwise, and on the same side for ever."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rrm import Case, Outcome, Settings
from rrm.core.judgements import ACCEPT
from rrm.core.seeding import seed_of
from rrm.learning.fitting import fit_reward
from rrm.learning.heldout import CASES, hold_out
from rrm.models.reward import TextRewardModel
from rrm.view.accuracy import Predicted
from tests.models.test_reward import Pair


def some(rng: random.Random, cases: int, n: int, round: int = 0, purpose: str = "", start: int = 0) -> list[Pair]:
    """`n` comparisons of `cases` cases."""
    return [
        Pair(Case(f"case {start + rng.randrange(cases)}"), Outcome(f"a{rng.randrange(99)}"),
             Outcome(f"b{rng.random()}"), rng.choice((0.0, 0.5, 1.0)), round=round, purpose=purpose)
        for _ in range(n)
    ]  # fmt: skip


def identity(c: Pair) -> tuple[str, ...]:
    return (c.case.id, *sorted((c.a.id, c.b.id)))


@pytest.mark.parametrize("seed", range(20))
def test_enough_cases_are_held_out_whole_as_they_always_were(seed: int) -> None:
    rng = random.Random(seed)
    share, found = rng.choice((0.1, 0.3, 0.6)), some(rng, 40, 150)
    assert len({c.case.id for c in found}) >= CASES
    before = {i for i, c in enumerate(found) if seed_of("holdout", c.case.id) / 2**63 < share}
    assert hold_out(found, share) == (before, set())


@pytest.mark.parametrize("cases", [1, 2, 5, CASES - 1])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_a_handful_of_cases_leaves_something_held_out_and_every_case_to_train_on(
    cases: int, share: float, seed: int
) -> None:
    found = some(random.Random(seed), cases, 3 * cases + 2)
    by_case, by_pair = hold_out(found, share)
    assert not by_case and by_pair
    trained = {c.case.id for i, c in enumerate(found) if i not in by_pair}
    assert trained == {c.case.id for c in found}


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(30))
def test_nothing_changes_sides_from_fit_to_fit(seed: int, share: float) -> None:
    """Rounds come, with what decided on the improvement in between, and cases from few to many."""
    rng = random.Random(seed)
    found: list[Pair] = []
    was: dict[tuple[str, ...], bool] = {}
    for round in range(-1, 5):
        found = found + some(rng, rng.randrange(1, 8), rng.randrange(1, 12), round, start=rng.randrange(10))
        found.append(replace(found[-1], a=found[-1].b, b=found[-1].a))  # the other way round
        away = set().union(*hold_out(found, share))
        for i, c in enumerate(found):
            assert was.setdefault(identity(c), i in away) == (i in away), "a comparison changed sides"
        shuffled = [(c, i in away) for i, c in enumerate(found)]
        assert len(shuffled) > len(away), "nothing is left to train on"
        found = found + some(rng, 4, rng.randrange(4), round, ACCEPT, start=rng.randrange(10))


def test_nothing_is_held_out_where_nothing_shall_be() -> None:
    for cases in (1, 40):
        assert hold_out(some(random.Random(0), cases, 50), 0.0) == (set(), set())
    assert hold_out([], 0.5) == (set(), set())
    assert hold_out(some(random.Random(0), 1, 1), 0.9) == (set(), set())  # the only one


def test_one_prompt_of_forty_pairs(tiny) -> None:  # type: ignore[no-untyped-def]
    """As a data set comes that has one instruction for all rows."""
    rng = random.Random(1)
    case = Case("w5")
    pairs = [
        Pair(case, Outcome(f"w7 w{rng.randrange(9, 30)} w{rng.randrange(9, 30)}"),
             Outcome(f"w8 w{rng.randrange(9, 30)} w{rng.randrange(9, 30)}"), 1.0) for _ in range(40)
    ]  # fmt: skip
    b, settings = tiny(), Settings(heads=2, holdout=0.3)
    report = fit_reward(TextRewardModel(b, b.frozen("r"), settings), pairs, settings, "k")
    assert report.n + report.n_holdout == 40 and 4 <= report.n_holdout <= 20
    assert report.holdout_pairs == report.n_holdout == report.holdout_decided
    found = Predicted.of_fit(report.metrics())
    assert found is not None and found.by == "pairs" and found.of == report.n_holdout
    assert str(found) == f"{report.holdout_right}/{report.n_holdout}"
