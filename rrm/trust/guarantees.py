"""What can be bounded of a node from its run's own records: what its assistants' wrong claims can add to the judge's
error, how often the reward model differs from the judge, and, where the truth was measured, the whole.

The records say of a claim whether it is right only where the judge looked, and of a verdict nowhere. So most of what a
bound would need is not there, and that is said (`rrm.trust.bounding` has the mathematics, and its assumptions).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rrm.core.shares import most
from rrm.trust.bounding import Count, hoeffding
from rrm.trust.gathering import held_out
from rrm.view.reading import Reader

_CURRENT = "c.task = ? AND NOT EXISTS (SELECT 1 FROM comparisons later WHERE later.supersedes = c.seq)"
CHECKED = (
    "Claims that the judge did not check are no more often wrong than those it did. The judge chose what to check, and "
    "which of it were spot checks drawn at random is not in the records."
)
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


def checked_claims(run: Reader, node: str) -> tuple[dict[str, Count], list[str]]:
    """Of each assistant whose claims the judge at a node checked: in how many cases it did, and in how many of those
    one was wrong. And the assistants that were met there of whose claims none was checked."""
    cases: dict[str, dict[str, bool]] = {}
    met: set[str] = set()
    for case, checks, *sides in run.rows(
        "SELECT c.case_id, c.checks, sa.body, sb.body FROM comparisons c JOIN blobs sa ON sa.id = c.assistance_a"
        f" JOIN blobs sb ON sb.id = c.assistance_b WHERE {_CURRENT} AND c.purpose != 'derived' ORDER BY c.seq",
        (node,),
    ):
        met |= {one["assistant"] for side in sides for one in json.loads(side)}
        for check in json.loads(checks):
            if check["by"] != node:
                where = cases.setdefault(check["by"], {})
                where[case] = where.get(case, False) or not check["right"]
    counts = {name: Count(float(sum(found.values())), float(len(found))) for name, found in sorted(cases.items())}
    return counts, sorted(met - {*cases})


def bounded(
    run: Reader, node: str, confidence: float = 0.95, agreement: Mapping[str, Any] | None = None
) -> list[Bounded]:
    """All that can be bounded of a node, together with this confidence (Bonferroni).

    agreement: "mean" and "n" of how often the judge preferred the better, empty if nobody measured it; by default as
    it was measured beside the run.
    """
    claims, unchecked = checked_claims(run, node)
    held = held_out(run, run.nodes[node])
    truth = _measured(run.report.get("agreement") if agreement is None and node == run.root else agreement)
    each = 1 - (1 - confidence) / max(1, len(claims) + bool(held) + (truth is not None))
    adds = _adds(claims, unchecked, each)
    differs = _differs(held, each)
    judge = _judge(truth, adds, each)
    return [adds, differs, judge, _whole(differs, judge)]


def _adds(claims: Mapping[str, Count], unchecked: list[str], each: float) -> Bounded:
    says = "What wrong claims of its assistants can add to the chance that the judge's verdict is wrong."
    if unchecked:
        return Bounded(says, None, f"the judge checked no claim of {', '.join(unchecked)}")
    if not claims:
        return Bounded(says, None, "no assistant's claim was checked here: there are none, or the judge looks at none")
    total = sum(most(one.k, one.n, each) for one in claims.values())
    parts = [f"{name}: wrong in {one.k:g} of {one.n:g} cases" for name, one in claims.items()]
    if total >= 1:
        return Bounded(says, None, f"so little was checked that it may be anything ({'; '.join(parts)})")
    return Bounded(says, total, "; ".join(parts), (CHECKED, LOOKED, CASES, LATER))


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
