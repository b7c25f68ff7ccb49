"""The figures of a certificate that follow from truth.db: who is right by the truth, of what was judged."""

from __future__ import annotations

import math

from rrm.trust.statement import ByTruth, Figure, Found, NotKnown, Testing, TrueHelper
from rrm.view.reading import NodeView, Reader
from rrm.view.truth import Rightness, attached, measured, rightness

UNASKED = "nobody measured it: the truth is not known here, or was not asked for"
"""Why a certificate holds no agreement with the truth, and no `by_truth` either."""
JUDGED = "nobody measured it of new outcomes; by_truth is of those that were judged"
"""Why it holds none, though it has `by_truth`."""


def by_truth_of(run: Reader, node: NodeView, signed: Testing | None = None) -> ByTruth | None:
    """What truth.db beside a run says of a node; None without one. signed: what a certificate that names
    truth.db says, which is taken where the file it was found from is not there (any more)."""
    if not attached(run):
        return None if signed is None else signed.by_truth
    found = rightness(run, node.path, math.inf) or []
    known, unknown = measured(run, node.path)
    nobody = "nothing was judged here of which one is truly better"
    none_held = "nothing of which one is truly better was held out of its fit"
    if unknown and not known:
        nobody = none_held = "the truth was not measured at this node"
    codes = sorted(code for (code,) in run.rows("SELECT code FROM truth.origin"))
    told = {(one.what, one.node): one for one in found}
    return ByTruth(
        code=", ".join(codes),
        user=_found(told.get(("user", "")), nobody), reward_model=_found(told.get(("reward model", "")), nobody),
        held_out=_found(told.get(("held out", "")), none_held),
        assistants=tuple(
            TrueHelper(
                node=name, right_of_holding=_found(told.get(("holds", name)), "it said nothing about what holds"),
                right_of_failing=_found(told.get(("fails", name)), "it said nothing about what does not hold"),
            ) for name in dict.fromkeys(one.node for one in found if one.node)
        ),
        unmeasured=unknown,
    )  # fmt: skip


def _found(one: Rightness | None, why: str) -> Found:
    if one is None or one.share is None:
        return NotKnown(not_known=why)
    known = one.share
    low, high = (None if math.isnan(end) else end for end in (known.low, known.high))
    return Figure(value=known.mean, low=low, high=high, n=known.n, cases=known.cases)
