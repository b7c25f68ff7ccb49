"""Which comparisons a fit does not see: by case, and by pair where there are too few cases.

What is held out is told by identity, and stays held out in every later round: a comparison never goes from one side to
the other. A case is held out whole, so that nothing about it was trained on. But to hold out one case of a handful
leaves a hole in what the reward model knows, and of one case nothing could be: such cases are trained on, and some of
their pairs are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rrm.core.judgements import ACCEPT, DERIVED, Comparison
from rrm.core.records import Case
from rrm.core.remarks import Remarked
from rrm.core.seeding import seed_of
from rrm.core.settings import Settings

CASES = 10
"""Cases that appear when there are fewer than this, themselves included, are held out by pair."""


@dataclass(frozen=True)
class Sides:
    """What a fit sees, and what it is measured on."""

    train: Sequence[Comparison]
    heldout: Sequence[Comparison]
    by_pair: int
    """How many of those are held out by pair."""
    remarks: Sequence[Remarked]
    """Those that say nothing of an outcome that is held out."""


def split(
    comparisons: Sequence[Comparison], settings: Settings, remarks: Sequence[Remarked] = (),
    named: Callable[[Case], str] = lambda case: case.id,
) -> Sides:  # fmt: skip
    """Comparisons with a preference, and remarks, by side. What is derived is trained on, or, where it is of a case
    that is held out, left out: it measures nothing. If nothing was left to train on, nothing is held out. `named`: see
    `hold_out`."""
    given = [c for c in comparisons if c.purpose != DERIVED]
    derived = [c for c in comparisons if c.purpose == DERIVED]
    by_case, by_pair = hold_out(given, settings.holdout, settings.holdout_by, named)
    away = by_case | by_pair
    if given and len(away) == len(given):  # every case happens to be one to hold out
        return Sides([*given, *derived], [], 0, remarks)
    cases = {named(given[i].case) for i in by_case}
    outcomes = {(given[i].case.id, o.id) for i in by_pair for o in (given[i].a, given[i].b)}
    return Sides(
        [*(c for i, c in enumerate(given) if i not in away), *(c for c in derived if named(c.case) not in cases)],
        [c for i, c in enumerate(given) if i in away],
        len(by_pair),
        [one for one in remarks if named(one.case) not in cases and (one.case.id, one.outcome.id) not in outcomes],
    )


def hold_out(
    comparisons: Sequence[Comparison], share: float, by: Literal["auto", "case", "pair"] = "auto",
    named: Callable[[Case], str] = lambda case: case.id,
) -> tuple[set[int], set[int]]:
    """The places of the comparisons that are held out by case, and of those that are held out by pair; what is chosen
    by `by`: see `Settings.holdout_by`. `named`: the name of a case; that of parts of outcomes is that of the whole
    ones.

    Of a case that is held out by pair the first pair that was judged is trained on. If no other pair happens to be
    held out, that of the smallest hash is, among the first to be seen at once that have one to spare.
    """
    by_case: set[int] = set()
    by_pair: set[int] = set()
    if not share:
        return by_case, by_pair
    few: set[str] = set()  # cases held out by pair
    seen: set[str] = set()
    side: dict[tuple[str, ...], bool] = {}  # pair -> held out
    # In the order in which fits came to see them, so that what is seen later changes no side.
    turns = [(c.round, c.purpose == ACCEPT) for c in comparisons]
    for turn in sorted(set(turns)):
        here = [i for i, one in enumerate(turns) if one == turn]
        fresh = {named(comparisons[i].case) for i in here} - seen
        seen |= fresh
        if by == "pair" or (by == "auto" and len(seen) < CASES):
            few |= fresh
        spare: list[tuple[float, tuple[str, ...]]] = []
        known = {case for case, *_ in side}
        for i in here:
            case = named(comparisons[i].case)
            pair = _pair(case, comparisons[i])
            if case not in few:
                if _draw(case) < share:
                    by_case.add(i)
            elif pair not in side:
                draw = _draw(*pair)
                side[pair] = case in known and draw < share
                if case in known:
                    spare.append((draw, pair))
                known.add(case)
        if spare and not by_case and not any(side.values()):
            side[min(spare)[1]] = True
        by_pair |= {i for i in here if side.get(_pair(named(comparisons[i].case), comparisons[i]), False)}
    return by_case, by_pair


def _pair(case: str, comparison: Comparison) -> tuple[str, ...]:
    """What was compared, whichever was shown as A."""
    return (case, *sorted((comparison.a.id, comparison.b.id)))


def _draw(*identity: str) -> float:
    return seed_of("holdout", *identity) / 2**63
