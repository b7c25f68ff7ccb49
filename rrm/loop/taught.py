"""What a reward model is taught beside a node's comparisons: remarks, and comparisons that follow from them.

A correction says that what should have been is better than what was. A demonstration is better than what the agent
makes of the same case (Ibarz et al. 2018, arXiv 1811.06521, section 2.2), of which outcomes are sampled in each round
for this. Both are seen by fits alone (`DERIVED`): nobody was asked, so nothing counts them or is measured by them. The
node's assistants say, of both sides of each that was not imported, what they quickly say of outcomes in training.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

from rrm.core.errors import ConfigError, Notice
from rrm.core.judgements import DERIVED, Comparison, Judgement, Pair
from rrm.core.protocols import Heeding
from rrm.core.records import Case, Group, Outcome, digest
from rrm.core.remarks import KINDS, Kind, Remarked, of_kind
from rrm.core.task import Assistant, assist
from rrm.loop.state import NodeState

DEMONSTRATED = "demonstrated"
"""The purpose of the agent's outcomes of demonstrations' cases, kept among the samples of a round."""
ANYWAY: tuple[Kind, ...] = ("correction", "demonstration", "note")
"""Kinds that ask nothing of a reward model."""

SCALES: tuple[Kind, ...] = ("rating", "approval", "unacceptable")
"""Kinds of which somebody says one thing of an outcome."""


def expect_heed(node: NodeState) -> None:
    """Raise `ConfigError` if the user will be asked for what the node's reward model cannot learn from, or if a
    constraint is to be held that it cannot have."""
    s, path = node.task.settings, node.task.path
    heeds = (*ANYWAY, *(node.reward.heeds if isinstance(node.reward, Heeding) else ()))
    if lost := [kind for kind in s.asked if kind not in heeds]:
        raise ConfigError(
            f"{path}: ask={s.ask} asks for {', '.join(lost)}, of which its reward model, a "
            f"{type(node.reward).__name__}, learns nothing; leave that out (it learns from comparisons"
            f"{''.join(f', {kind}s' for kind in KINDS if kind in heeds and kind != 'note')})"
        )
    if s.constrained and "unacceptable" not in heeds:
        raise ConfigError(
            f"{path}: unacceptable={s.unacceptable} is to be held by a constraint, which its reward model, a "
            f"{type(node.reward).__name__}, does not learn; leave the setting out"
        )


def tell_unheeded(node: NodeState) -> None:
    """Say which imported remarks the node's reward model learns nothing of."""
    heeds = (*ANYWAY, *(node.reward.heeds if isinstance(node.reward, Heeding) else ()))
    lost = Counter(one.remark.kind for one in node.alone if one.remark.kind not in heeds)
    if lost:
        counts = ", ".join(f"{n} of {kind}" for kind, n in lost.items())
        warnings.warn(
            f"{node.task.path}: its reward model, a {type(node.reward).__name__}, learns nothing of imported remarks: "
            f"{counts}; they are kept, and have no effect here",
            Notice, stacklevel=2,
        )  # fmt: skip


def remarks_of(node: NodeState) -> list[Remarked]:
    """All of a node's so far: of outcomes alone, as they were imported, and beside comparisons. Of what somebody said
    several times of one outcome, which is in several pairs, the last stands: it is no further evidence."""
    found: dict[tuple[str, ...], Remarked] = {}
    for one in (*node.alone, *(remark for pair in node.comparisons for remark in pair.remarks)):
        once = "" if one.remark.kind in SCALES else one.remark.id
        name = (one.case.id, one.outcome.id, one.remark.by or one.user, one.remark.kind, once)
        found.pop(name, None)
        found[name] = one
    return list(found.values())


def drawn_demonstrated(node: NodeState) -> list[Case]:
    """The cases of demonstrations of which the agent's own outcomes are sampled in this round."""
    cases = {one.case.id: one.case for one in of_kind(node.alone, "demonstration")}
    order = sorted(cases, key=lambda id: digest(node.key(DEMONSTRATED), id))
    return [cases[id] for id in order[: node.task.settings.demonstrated]]


def derived(node: NodeState, helpers: Sequence[Assistant]) -> list[Comparison]:
    """The comparisons that follow from corrections and demonstrations so far."""
    found: list[tuple[Remarked, Outcome, Outcome]] = []  # whose remark, better, worse
    for one in of_kind(remarks_of(node), "correction"):
        assert one.remark.better is not None  # it was checked when it came in
        found.append((one, one.remark.better, one.outcome))
    shown: dict[str, list[Remarked]] = {}
    for one in of_kind(node.alone, "demonstration"):
        shown.setdefault(one.case.id, []).append(one)
    for round in range(node.round + 1) if shown else ():
        for group in node.journal.sampled(node.task.path, round, DEMONSTRATED) or ():
            some = shown.get(group.case.id, ())  # what was demonstrated may have been taken back since
            found += [(one, one.outcome, worse) for one in some for worse in group.outcomes]
    said = {(c.case.id, frozenset((c.a.content, c.b.content))) for c in node.comparisons}
    kept = [
        (one, Group(one.case, (better, worse))) for one, better, worse in found
        if better.content != worse.content
        and (one.case.id, frozenset((better.content, worse.content))) not in said  # it was asked about: that stands
    ]  # fmt: skip
    # Assistants examine what belongs to this run; of an imported case they may not know what they need.
    own = iter(assist(helpers, [group for one, group in kept if one.round >= 0], quick=True))
    groups = [next(own) if one.round >= 0 else group for one, group in kept]
    return [
        Comparison(
            Pair.of(node.task.path, group, 0, 1), Judgement(1.0), one.round, one.remark.by or one.user, 0.0, DERIVED
        )
        for (one, _), group in zip(kept, groups, strict=True)
    ]  # fmt: skip
