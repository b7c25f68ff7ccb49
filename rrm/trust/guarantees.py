"""What can be bounded of a node from its run's own records: what its assistants' wrong claims can add to the judge's
error, how often the reward model differs from the judge, and, where the truth was measured, the whole.

The records say of a claim whether it is right only where the judge looked, and of a verdict nowhere. So most of what a
bound would need is not there, and that is said (`rrm.trust.bounding` has the mathematics, and its assumptions).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rrm.core.shares import most
from rrm.trust.bounding import Count, hoeffding
from rrm.trust.gathering import held_out
from rrm.view.comparisons import PARTS
from rrm.view.reading import Reader

_CURRENT = "c.task = ? AND NOT EXISTS (SELECT 1 FROM comparisons later WHERE later.supersedes = c.seq)"
DRAWN = (
    "What was looked at was drawn at random, whatever was claimed (spot checks). Facts that cost more than the judge "
    "had to spend were not: claims about these are no more often wrong."
)
EVEN = "An assistant that claims more of one pair than of another is wrong in no other share of its claims."
MOST = "No pair brings more claims of an assistant than the most that was seen of one."
LOOKED = "Where the judge looked it saw the truth."
CASES = "Cases are independent, and drawn as those are for which the bound is used."
LATER = "The agent is the one that was judged: optimizing it further moves it to where nothing was counted."


@dataclass(frozen=True)
class Bounded:
    """A statement with a number that is not exceeded, or the reason why there is none."""

    says: str
    """What is bounded."""
    value: float | None
    why: str
    """What it was counted of; without a value, why there is none."""
    assumptions: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        if self.value is None:
            return {"statement": self.says, "not known": self.why}
        return {"statement": self.says, "at most": round(self.value, 6), "counted": self.why,
                "assumptions": [*self.assumptions]}  # fmt: skip


@dataclass(frozen=True)
class Spots:
    """What was drawn at random to be looked at, of what one assistant claimed at a node.

    Attributes
    ----------
    wrong: in how many cases its claim was found wrong, of those in which one was drawn; of each case the first counts,
        as values of one case are not independent.
    claims: the most that it claimed of one pair.
    """

    wrong: Count
    claims: int


def spot_checked(run: Reader, node: str) -> dict[str, Spots]:
    """Of each assistant, at any level, that claimed something at a node. What the judge chose to check is left out:
    nobody knows how often what it did not choose is wrong. So is what earlier versions of an assistant claimed, and
    what was claimed of parts of outcomes, whose cases are those of the whole ones again."""
    cases: dict[str, dict[str, bool]] = {}
    claims: Counter[str] = Counter()
    newest: dict[str, str] = {}
    rows = []
    for case, checks, *sides in run.rows(
        "SELECT c.case_id, c.checks, sa.body, sb.body FROM comparisons c JOIN blobs sa ON sa.id = c.assistance_a"
        f" JOIN blobs sb ON sb.id = c.assistance_b WHERE {_CURRENT} AND NOT {PARTS} AND c.purpose != 'derived'"
        " ORDER BY c.seq",
        (node,),
    ):
        said = [json.loads(side) for side in sides]
        versions = {name: version for side in said for one in side for name, version in _versions(one)}
        newest |= versions
        claimed = Counter(by for side in said for one in side for by in _claimed(one))
        rows.append((case, json.loads(checks), versions, claimed))
    for case, checks, versions, claimed in rows:
        now = {name for name, version in versions.items() if version == newest[name]}
        claims |= Counter({name: n for name, n in claimed.items() if name in now})
        for check in checks:
            if check["by"] in now and check.get("spot") is not None:
                cases.setdefault(check["by"], {}).setdefault(case, not check["right"])
    found = {name: cases.get(name, {}) for name in sorted({*claims, *cases})}
    return {
        name: Spots(Count(float(sum(wrong.values())), float(len(wrong))), max(1, claims[name]))
        for name, wrong in found.items()
    }


def _versions(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(assistant, version) of all who said something, down the tree of assistance as it is kept."""
    yield one["assistant"], one["version"]
    for answer in one["answers"]:
        for below in answer["below"]:
            yield from _versions(below)


def _claimed(one: Mapping[str, Any]) -> Iterator[str]:
    """Who claims, once for each claim, down the tree of assistance as it is kept."""
    for answer in one["answers"]:
        yield from (one["assistant"] for _ in answer["findings"])
        for below in answer["below"]:
            yield from _claimed(below)


def bounded(
    run: Reader, node: str, confidence: float = 0.95, agreement: Mapping[str, Any] | None = None
) -> list[Bounded]:
    """All that can be bounded of a node, together with this confidence (Bonferroni).

    agreement: "mean" and "n" of how often the judge preferred the better, empty if nobody measured it; by default as
    it was measured beside the run.
    """
    spots = spot_checked(run, node)
    held = held_out(run, run.nodes[node])
    truth = _measured(run.report.get("agreement") if agreement is None and node == run.root else agreement)
    drawn = sum(one.wrong.n > 0 for one in spots.values())
    each = 1 - (1 - confidence) / max(1, drawn + bool(held) + (truth is not None))
    adds = _adds(spots, each)
    differs = _differs(held, each)
    judge = _judge(truth, adds, each)
    return [*(_errs(name, one, each) for name, one in spots.items()), adds, differs, judge, _whole(differs, judge)]


def _errs(name: str, spots: Spots, each: float) -> Bounded:
    says = f"How often what {name} claims here of a fact, drawn at random, is wrong."
    if not spots.wrong.n:
        return Bounded(says, None, f"no claim of {name} was checked at random")
    counted = f"wrong in {spots.wrong.k:g} of {spots.wrong.n:g} cases in which one was drawn"
    return Bounded(says, most(spots.wrong.k, spots.wrong.n, each), counted, (DRAWN, LOOKED, CASES, LATER))


def _adds(spots: Mapping[str, Spots], each: float) -> Bounded:
    """By the union bound over assistants and their claims: of m claims, each wrong with a chance of at most q, one or
    more are with a chance of at most m q."""
    says = "What wrong claims of its assistants can add to the chance that the judge's verdict is wrong."
    if not spots:
        return Bounded(says, None, "no assistant claimed anything here")
    if unseen := [name for name, one in spots.items() if not one.wrong.n]:
        return Bounded(says, None, f"no claim of {', '.join(unseen)} was checked at random")
    total = sum(min(1.0, one.claims * most(one.wrong.k, one.wrong.n, each)) for one in spots.values())
    parts = [
        f"{name}: wrong in {one.wrong.k:g} of {one.wrong.n:g} cases, at most {one.claims} claims of a pair"
        for name, one in spots.items()
    ]
    if total >= 1:
        return Bounded(says, None, f"so little was checked at random that it may be anything ({'; '.join(parts)})")
    return Bounded(says, total, "; ".join(parts), (DRAWN, EVEN, MOST, LOOKED, CASES, LATER))


def _differs(held: Mapping[str, list[tuple[float, float, float]]], each: float) -> Bounded:
    says = "How often the reward model prefers what the judge does not."
    if not held:
        return Bounded(says, None, "nothing was held out of the last fit, or its scores were not kept")
    errors = [1 - sum(right for right, _, _ in some) / len(some) for some in held.values()]
    value, n = hoeffding(sum(errors), len(errors), each), len(errors)
    if value >= 1:
        return Bounded(says, None, f"{n} cases were held out, too few for any bound")
    drawn = "Pairs that were held out are like those that it will score; with choose=disagreement they are harder."
    return Bounded(says, value, f"{sum(errors):.3g} of {n} cases held out", (drawn, CASES, LATER))


def _measured(found: Any) -> Count | None:
    """Of pairs of known truth, on how many the judge did not prefer the better; None: nobody measured it."""
    if not isinstance(found, dict) or not {"mean", "n"} <= {*found}:
        return None
    n = float(found["n"])
    return Count((1 - float(found["mean"])) * n, n)


def _judge(truth: Count | None, adds: Bounded, each: float) -> Bounded:
    says = "How often the judge, with its assistants, prefers the worse of two outcomes."
    if truth is None:
        beyond = "" if adds.value is None else f"; what wrong claims add to that is at most {adds.value:.3f}"
        return Bounded(says, None, "nobody measured how often it is wrong though all claims are right, which takes the "
                       f"truth{beyond}")  # fmt: skip
    drawn = "The pairs that were measured are independent, and like those that the judge was asked about."
    counted = f"{truth.k:.3g} of {truth.n:g} pairs of known truth"
    return Bounded(says, hoeffding(truth.k, truth.n, each), counted, (drawn,))


def _whole(differs: Bounded, judge: Bounded) -> Bounded:
    says = "How often the reward model prefers the worse of two outcomes."
    missing = [one.says[0].lower() + one.says[1:-1] for one in (differs, judge) if one.value is None]
    if missing:
        return Bounded(says, None, f"it is at most the sum of two, of which is not known {' and '.join(missing)}")
    assert differs.value is not None and judge.value is not None
    total = min(1.0, differs.value + judge.value)
    assumed = tuple(dict.fromkeys(differs.assumptions + judge.assumptions))
    return Bounded(says, total, "the sum of the two before", assumed)
