"""How a pair may be judged: alone, with all kinds of assistance, by debate. Each protocol changes only what the
same user is shown, so that their accuracies can be compared pair by pair.

Every protocol has a user of its own, who first judges the stage's practice pairs under that protocol: whom to
believe is learned, never given. A user who can know an assistant from its own node knows those who speak.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rrm.core.errors import Malformed
from rrm.core.judgements import Check, Judgement, Pair
from rrm.core.parties import User
from rrm.core.records import Answer, Assistance, Case, Finding, Outcome, digest
from rrm.core.settings import Explained
from rrm.core.task import Task
from rrm.measure.arms import HeldOut
from rrm.measure.oracle import OracleUser
from rrm.measure.stage import Material, Stage
from rrm.measure.users import acquainted, plays
from rrm.users.retelling import retold, withheld, withholding

Show = Callable[[Pair], Pair]
"""Changes what is shown with a pair."""
E = TypeVar("E", bound=Explained)
Change = Callable[[str, int, int, Finding], Finding]
"""(assistant, group, outcome, what it found there) -> what it says instead."""


@dataclass(frozen=True)
class Verdict:
    """A judged pair: its cluster, whether the first is truly better (1.0 or 0.0), and what was said."""

    case: int
    truth: float
    preference: float
    attention: int
    checks: tuple[Check, ...] = ()
    margin: float | None = None
    """How much better the first looked, by the mean over users; None if a user does not say."""


# --- protocols: what is shown ------------------------------------------------------------------------


def nothing(pair: Pair) -> Pair:
    """The user alone."""
    return replace(pair, assistance_a=(), assistance_b=())


def everything(pair: Pair) -> Pair:
    """All assistance, with all that was said below it."""
    return pair


def pruned(levels: int) -> Show:
    """Assistance down to a level; at 1, what assistants say of assistants is not shown, at 0 nothing is."""

    def cut(a: Assistance, left: int) -> Assistance:
        answers = []
        for answer in a.answers:
            below = tuple(cut(sub, left - 1) for sub in answer.below) if left > 1 else ()
            answers.append(replace(answer, below=below))
        return replace(a, answers=tuple(answers))

    return lambda pair: _each(pair, lambda a: cut(a, levels)) if levels else nothing(pair)


def placebo(material: Material, seed: int) -> Show:
    """Assistance of the same form that knows nothing of the outcome: each finding's verdict is one that the assistant
    gave on the same fact of some outcome drawn at random, so that the rates of accusations stay as they were.

    No answer can be read: what it says itself would tell what the assistant truly found, and a claim that is the same
    by chance would stand. So whoever follows answers down pays for reading, and finds nothing.
    """
    given: dict[tuple[str, str], list[tuple[bool, int | None]]] = {}
    for some in (material.held, material.practice):
        for a in _all(some):
            for f in a.findings:
                given.setdefault((a.assistant, f.fact), []).append((f.holds, f.part))

    def dealt(a: Assistance) -> Assistance:
        answers = []
        for answer in a.answers:
            rng = random.Random(digest(seed, "placebo", a.assistant, answer.case.id))
            findings = tuple(Finding(f.fact, *rng.choice(given[a.assistant, f.fact])) for f in answer.findings)
            answers.append(withheld(replace(answer, findings=findings, below=tuple(map(dealt, answer.below)))))
        return replace(a, answers=tuple(answers))

    return lambda pair: _each(pair, dealt)


def exchanged(task: Task, material: Material, seed: int) -> Show:
    """A placebo for a user who does something with the answers themselves: to every question an answer that the
    assistant gave to some question, drawn at random among those that can be read as an answer to this. What is below
    an answer is asked anew about the one that was drawn, and drawn likewise; a whole answer can be followed, checked
    and played, and knows nothing of the outcome. N/A if no answer fits."""
    nodes = {node.path: node for node in task.walk()}
    given: dict[str, list[Answer]] = {}
    for some in (material.held, material.practice):
        for a in _all(some):
            given.setdefault(a.assistant, []).extend(a.answers)

    def asked(by: str, version: str, case: Case, outcome: Outcome) -> Assistance:
        answers = (drawn(by, version, one) for one in nodes[by].framed(case, outcome))
        return Assistance(by, version, tuple(answer for answer in answers if answer is not None))

    def drawn(by: str, version: str, case: Case) -> Answer | None:
        pool = list(given.get(by, ()))
        rng = random.Random(digest(seed, "exchanged", by, case.id))
        rng.shuffle(pool)
        for one in pool:
            try:
                findings = nodes[by].findings_of(case, one.outcome)
            except Malformed:
                continue
            below = tuple(asked(sub.path, version, case, one.outcome) for sub in nodes[by].subtasks)
            return Answer(case, one.outcome, findings, one.confidence, below)
        return None

    def show(pair: Pair) -> Pair:
        a, b = (
            tuple(asked(one.assistant, one.version, pair.case, outcome) for one in side)
            for outcome, side in ((pair.a, pair.assistance_a), (pair.b, pair.assistance_b))
        )
        return replace(pair, assistance_a=a, assistance_b=b)

    return show


def debate(pair: Pair) -> Pair:
    """Two advocates, one for A and one for B, who may say only what the assistants found (Irving et al. 2018,
    arXiv 1805.00899). Each names two faults of the other's outcome and two merits of its own; faults first where an
    assistant points at the part that fails, which is cheapest to check and so the strongest case. Their claims are
    quoted: nobody can follow them down."""
    return replace(
        pair,
        assistance_a=_argued(pair.assistance_a, ("advocate-b", False), ("advocate-a", True)),
        assistance_b=_argued(pair.assistance_b, ("advocate-a", False), ("advocate-b", True)),
    )


def consultancy(seed: int) -> Show:
    """One advocate for a side drawn at random (Khan et al. 2024, arXiv 2402.06782), with all that serves it: the
    faults of the one and the merits of the other outcome."""

    def show(pair: Pair) -> Pair:
        for_a = random.Random(digest(seed, pair.a.id, pair.b.id)).random() < 0.5
        a, b = pair.assistance_a, pair.assistance_b
        return replace(
            pair,
            assistance_a=_argued(a, ("consultant", for_a), most=None),
            assistance_b=_argued(b, ("consultant", not for_a), most=None),
        )

    return show


def _argued(side: Sequence[Assistance], *parties: tuple[str, bool], most: int | None = 2) -> tuple[Assistance, ...]:
    """What each (party, what it claims: that facts hold or that they do not) picks from what was found."""
    found = [(answer, f) for top in side for a in top.tree() for answer in a.answers for f in answer.findings]
    said = []
    for party, holds in parties:
        fit = sorted((row for row in found if row[1].holds == holds), key=lambda row: row[1].part is None)
        once = {f.fact: (answer, f) for answer, f in reversed(fit)}  # the strongest way to say it
        picked = [row for row in fit if once[row[1].fact][1] is row[1]][:most]
        said.append(Assistance(party, "argued", tuple(replace(x, findings=(f,), below=()) for x, f in picked)))
    return tuple(said)


def _each(pair: Pair, change: Callable[[Assistance], Assistance]) -> Pair:
    return replace(
        pair,
        assistance_a=tuple(change(a) for a in pair.assistance_a),
        assistance_b=tuple(change(a) for a in pair.assistance_b),
    )


def _all(some: HeldOut) -> Iterable[Assistance]:
    """Everything assistants said of a held-out set, at all levels."""
    return (a for g in some.groups for i in range(len(g.outcomes)) for top in g.seen(i) for a in top.tree())


def assistants_in(material: Material) -> list[str]:
    """Every assistant that was asked anything, at any level, by path."""
    return sorted({a.assistant for a in _all(material.held) if a.answers})


def rewritten(some: HeldOut, change: Change) -> HeldOut:
    """The same pairs, assistants saying something else than what they found: see `rrm.users.retelling.retold`. They are
    found out less than whole false answers would be (`rrm.measure.adversary.contrary` gives those)."""

    def of(one: Assistance, g: int, i: int) -> Assistance:
        return retold(one, lambda by, finding: change(by, g, i, finding))

    groups = [
        replace(
            group, assistance=tuple(tuple(of(a, g, i) for a in group.seen(i)) for i in range(len(group.outcomes)))
        )
        for g, group in enumerate(some.groups)
    ]
    return replace(some, groups=groups)


# --- judging -----------------------------------------------------------------------------------------


def judged(task: Task, users: User | Sequence[User], material: Material, show: Show = everything) -> list[Verdict]:
    """Judge the held-out pairs, after the practice pairs, shown in a certain way. Several users decide together: by
    the mean of their margins, or, if some do not say how sure they are, by most of their votes. They know the
    assistants who speak: how to read their answers, whatever tree they are from, and what was judged at their nodes."""
    users = [*users] if isinstance(users, Sequence) else [users]
    task = withholding(replace(task, assistants=material.helpers or task.assistants))
    for user in users:
        acquainted(user, material.helpers)
    for g, i, j in material.practice.pairs:
        pair = show(Pair.of(task.path, material.practice.groups[g], i, j))
        for user in users:
            user.judge(task, pair)
    out = []
    for (g, i, j), truth in zip(material.held.pairs, material.held.truth, strict=True):
        pair = show(Pair.of(task.path, material.held.groups[g], i, j))
        said = [user.judge(task, pair) for user in users]
        checks = tuple(check for s in said for check in s.checks)
        margins = [s.margin for s in said if s.margin is not None]
        margin = sum(margins) / len(users) if len(margins) == len(users) else None
        spent = sum(s.attention for s in said)
        out.append(Verdict(material.held.case[g], truth, together(said, margin), spent, checks, margin))
    return out


def together(said: Sequence[Judgement], margin: float | None) -> float:
    """One user's preference, an abstention counting as a tie; or the decision of several, who would otherwise be
    right as often as one of them is on average."""
    preferences = [0.5 if s.preference is None else s.preference for s in said]
    if len(said) == 1:
        return preferences[0]
    lead = sum(preferences) / len(said) - 0.5 if margin is None else margin
    return 0.5 if abs(lead) < 1e-9 else float(lead > 0)


def another(user: E, **changes: Any) -> E:
    """A user with other settings, who has met no assistant yet."""
    return type(user).model_validate({**user.model_dump(), **changes})


def assistants_alone(held: HeldOut) -> list[Verdict]:
    """The assistants' own verdict, without a user: the outcome with the larger share of facts said to hold, by the
    mean over assistants; what they say of a fact is the deepest that was said."""

    def value(side: Sequence[Assistance]) -> float:
        shares = []
        for top in side:
            said: dict[str, bool] = {}
            for a in top.tree():
                said |= {f.fact: f.holds for f in a.findings}
            if said:
                shares.append(sum(said.values()) / len(said))
        return sum(shares) / len(shares) if shares else 0.5

    out = []
    for (g, i, j), truth in zip(held.pairs, held.truth, strict=True):
        difference = value(held.groups[g].seen(i)) - value(held.groups[g].seen(j))
        out.append(Verdict(held.case[g], truth, 0.5 if abs(difference) < 1e-9 else float(difference > 0), 0))
    return out


def arms(stage: Stage) -> dict[str, list[Verdict]]:
    """Every protocol on the same pairs.

    Four arms spend more on judging alone (of a user who has attention to give): twice, and as much as the assisted arm
    spends in all, the user's attention in training the assistants spread over the root's comparisons in training; each
    as several users who decide together, and as one user with all of it.

    For a user who plays the answers (`plays`) the placebo is of whole answers, and there is no debate, no consultancy
    and no verdict of the assistants alone: these are made of claims, and such a user looks at none.
    """
    task, alone, deep = stage.task, stage.alone, stage.assisted
    user = stage.user()
    playing = plays(user)
    found = {"alone": judged(task, user, alone)}
    attention = getattr(user, "attention", None)
    if isinstance(user, Explained) and attention is not None and not (playing and not spent(found["alone"])):
        for times, name in ((2, "twice"), (matched(stage, attention), "matched")):
            several = [another(user, seed=getattr(user, "seed", 0) + 1_000_003 * k) for k in range(times)]
            found[f"alone, {name}: several users"] = judged(task, several, alone)
            found[f"alone, {name}: all attention at once"] = judged(
                task, another(user, attention=times * attention), alone
            )
    sham = exchanged(task, deep, stage.seed) if playing else placebo(deep, stage.seed)
    found["placebo"] = judged(task, stage.user(), deep, sham)
    found["flat critic"] = judged(task, stage.user(), alone.assisted(stage.critic))
    for levels in range(1, stage.depth):
        found[f"depth {levels}"] = judged(task, stage.user(), alone.assisted(stage.helpers_at(levels)))
    found[f"depth {stage.depth}"] = judged(task, stage.user(), deep)
    if not playing:
        found["debate"] = judged(task, stage.user(), deep, debate)
        found["consultancy"] = judged(task, stage.user(), deep, consultancy(stage.seed))
        found["assistants alone"] = assistants_alone(deep.held)
    found["oracle"] = judged(task, OracleUser(), alone)
    return found


def spent(verdicts: Sequence[Verdict]) -> int:
    """The attention that all of these took: none of a user who sees the expectation at once."""
    return sum(verdict.attention for verdict in verdicts)


def matched(stage: Stage, attention: int) -> int:
    """How many times the user's attention for a pair the assisted arm spends on one of the root's comparisons, if what
    was spent on training the assistants is spread over those that the root asks for in its own training; rounded up,
    so in favor of judging alone."""
    asked = stage.task.settings.rounds * stage.task.settings.comparisons
    return math.ceil(1 + stage.training_attention / (asked * max(1, attention)))
