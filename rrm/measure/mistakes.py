"""Errors put into what assistants say, and what may dampen them: votes, and a second opinion where two differ."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rrm.core.errors import Malformed
from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Answer, Assistance, Fact, Finding, digest
from rrm.core.task import Task
from rrm.measure.arms import HeldOut
from rrm.measure.oracle import matter
from rrm.measure.oversight import rewritten
from rrm.users.bounded import BoundedUser
from rrm.users.retelling import claiming, withholding

Change = Callable[[Sequence[Assistance]], tuple[Assistance, ...]]
"""What each member of an ensemble says of an outcome -> what is shown instead."""
TRIES = 4
"""Ways to err among which the one that misleads the user most is chosen."""


def spoiled(task: Task, some: HeldOut, child: str, kind: str, share: float, seed: int) -> HeldOut:
    """The same pairs with errors in what `child` found.

    random: each finding, with chance `share`, is set against the truth. systematic: all findings about a `share` of
    the fact names are, the same ones throughout. adversarial: with chance `share`, set to hold on the worse and not to
    hold on the better outcomes of its case (by the pairs they win), whatever is true. A larger share spoils what a
    smaller one spoils, and more. A false accusation points at a part if the child does that, at any of them. An answer
    that was spoiled cannot be read by who follows answers down: see `rewritten`.
    """
    found = [f for g in some.groups for i in range(len(g.outcomes)) for top in g.seen(i) for a in top.tree()
             if a.assistant == child for f in a.findings]  # fmt: skip
    names = sorted({f.fact for f in found}, key=lambda name: digest(seed, "systematic", child, name))
    always = set(names[: round(share * len(names))])
    points = any(f.part is not None for f in found)
    better = winners(some)
    facts = {
        (g, i): _facts(task, some, g, i) for g, group in enumerate(some.groups) for i in range(len(group.outcomes))
    }

    def change(by: str, g: int, i: int, f: Finding) -> Finding:
        if by != child or (fact := facts[g, i].get(f.fact)) is None:
            return f
        group = some.groups[g]
        rng = random.Random(digest(seed, child, kind, group.case.id, group.outcomes[i].id, f.fact))
        if not (f.fact in always if kind == "systematic" else rng.random() < share):
            return f
        holds = (g, i) not in better if kind == "adversarial" else not matter(fact)
        if f.holds == holds:
            return f
        return Finding(f.fact, holds, rng.randrange(len(fact.parts)) if points and fact.parts and not holds else None)

    return rewritten(some, change)


def winners(some: HeldOut) -> set[tuple[int, int]]:
    """The (group, outcome) that win more than half of their pairs."""
    wins = Counter((g, i if truth else j) for (g, i, j), truth in zip(some.pairs, some.truth, strict=True))
    games = Counter((g, k) for g, *both in some.pairs for k in both)
    return {place for place in games if 2 * wins[place] > games[place]}


def _facts(task: Task, some: HeldOut, g: int, i: int) -> Mapping[str, Fact]:
    try:
        return {fact.name: fact for fact in task.facts(some.groups[g].case, some.groups[g].outcomes[i])}
    except Malformed:
        return {}


class Unlearning(BoundedUser):
    """A user who never learns whom to believe: what an adversary may try things out on."""

    def recall(self, task: Task, judgement: Judgement) -> None:
        """It learns nothing."""


def optimized(task: Task, some: HeldOut, child: str, share: float, seed: int, user: BoundedUser) -> HeldOut:
    """Errors optimized against the user. `TRIES` times a `share` of the child's findings is drawn and set to favor the
    worse outcomes; of these, for every outcome, the one is taken that moves this user's perceived value furthest: down
    where the outcome is the better, up where it is the worse. The user tried on has met no assistant yet."""
    victim, task = Unlearning.model_validate(user.model_dump()), withholding(task)
    tried = [spoiled(task, some, child, "adversarial", share, seed + 7919 * k) for k in range(TRIES)]
    better = winners(some)

    def worst(g: int, i: int) -> tuple[Assistance, ...]:
        group, sign = some.groups[g], 1 if (g, i) in better else -1
        plain = group.seen(i)

        def moved(said: tuple[Assistance, ...]) -> float:
            pair = Pair(task.path, group.case, group.outcomes[i], group.outcomes[i], said, plain)
            return sign * (victim.judge(task, pair).margin or 0.0)

        return min((one.groups[g].seen(i) for one in tried), key=moved)

    judged = {(g, k) for g, *both in some.pairs for k in both}
    groups = [
        replace(group, assistance=tuple(worst(g, i) if (g, i) in judged else group.seen(i)
                                        for i in range(len(group.outcomes))))
        for g, group in enumerate(some.groups)
    ]  # fmt: skip
    return replace(some, groups=groups)


# --- what may dampen them ----------------------------------------------------------------------------


def voted(members: Sequence[HeldOut], child: str) -> HeldOut:
    """An ensemble of assistants: of each fact, `child` (one of the root's own) says what most members say; a part is
    pointed at if one of the majority does. What is below them is not shown. A tie goes to the first member."""

    def of(said: Sequence[Assistance]) -> Assistance:
        by: dict[str, list[Finding]] = {}
        for one in said:
            for finding in one.findings:
                by.setdefault(finding.fact, []).append(finding)
        findings = []
        for fact, votes in by.items():
            holding = 2 * sum(vote.holds for vote in votes)
            holds = votes[0].holds if holding == len(votes) else holding > len(votes)
            parts = [vote.part for vote in votes if vote.holds == holds and vote.part is not None]
            findings.append(Finding(fact, holds, parts[0] if parts else None))
        return _saying(said[0], tuple(findings))

    return _exchanged(members, child, lambda said: (of(said),))


def disputed(members: Sequence[HeldOut], child: str) -> HeldOut:
    """Assistants that seek each other's errors: the first member speaks in full, the others only where they contradict
    it. The user sees both sides, and has to check or to believe one."""

    def of(said: Sequence[Assistance]) -> tuple[Assistance, ...]:
        first = {f.fact: f.holds for f in said[0].findings}
        against = [
            replace(_saying(one, tuple(f for f in one.findings if first.get(f.fact, f.holds) != f.holds)),
                    assistant=f"{child} {k}")
            for k, one in enumerate(said[1:], start=2)
        ]  # fmt: skip
        return (_saying(said[0], said[0].findings), *against)

    return _exchanged(members, child, of)


def shallow(some: HeldOut, child: str) -> HeldOut:
    """What `child` itself says, without what was said below it: what one member of an ensemble is compared by."""
    return _exchanged([some], child, lambda said: (_saying(said[0], said[0].findings),))


def _saying(one: Assistance, findings: tuple[Finding, ...]) -> Assistance:
    """The assistance with one answer that makes these findings; to be read only if it says them itself."""
    if not one.answers:
        return one
    answer: Answer = replace(claiming(one.answers[0], findings), below=())
    return replace(one, answers=(answer,))


def _exchanged(members: Sequence[HeldOut], child: str, of: Change) -> HeldOut:
    """The first member's pairs, `child`'s assistance exchanged for what `of` makes of all members'."""
    groups = []
    for g, group in enumerate(members[0].groups):
        seen = []
        for i in range(len(group.outcomes)):
            said = [a for member in members for a in member.groups[g].seen(i) if a.assistant == child]
            seen.append(tuple(x for a in group.seen(i) for x in (of(said) if a.assistant == child else (a,))))
        groups.append(replace(group, assistance=tuple(seen)))
    return replace(members[0], groups=groups)
