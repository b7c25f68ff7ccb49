"""A dry run of a tree: some cases through every facts, frame, findings, surface and locate, and before the user.

With a model, or another maker of agents, its outcomes are tried; without one, made-up texts, which few trees can read,
so that what lies below the first node that reads none of them is not reached. Nothing is trained and nothing kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rrm.core import border
from rrm.core.errors import Malformed, RRMError
from rrm.core.judgements import Pair
from rrm.core.parties import Maker, User
from rrm.core.protocols import Agent
from rrm.core.records import Case, Fact, Group, Outcome
from rrm.core.task import Assistant, Task, assist
from rrm.core.validation import Fault
from rrm.users.bounded import BoundedUser

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone

X = TypeVar("X")
CASES = 3
"""Cases of each node that are tried."""
OUTCOMES = 4
"""Outcomes that a model writes for each."""


@dataclass
class Rehearsal:
    """What was found.

    untried: paths of nodes that no case reached.
    """

    faults: list[Fault] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """An outcome that could be read, and its facts."""

    case: Case
    outcome: Outcome
    facts: tuple[Fact, ...]


def rehearse(task: Task, user: User, model: Backbone | Maker | None = None) -> Rehearsal:
    """Try a planted tree that has no error yet. A task's function that raises, or gives what it must not, is an error
    of its node; what only may be a mistake is a warning."""
    assert task.cases is not None  # checked when the tree is built
    found = Rehearsal()
    _node(task, [(case, None) for case in task.cases.draw(CASES, "rehearsal")], user, model, found)
    return found


def _node(
    task: Task, asked: Sequence[tuple[Case, tuple[Fact, ...] | None]], user: User, model: Backbone | Maker | None,
    found: Rehearsal,
) -> None:  # fmt: skip
    """Try a node on these cases, each with the facts of the parent's outcome that it is about; then what is below."""
    before = len(found.faults)
    about = {case.id: facts for case, facts in asked}
    read: list[Tried] = []
    groups = _outcomes(task, [case for case, _ in asked], model)
    for group in groups:
        for outcome in group.outcomes:
            facts = _call(found, task, "facts", task.facts_of, group.case, outcome)
            if facts is not None:
                read.append(Tried(group.case, outcome, facts))
                _call(found, task, "surface", task.surface_of, group.case, outcome)
                _call(found, task, "locate", _spans, task, group.case, outcome)
            if task.findings is not None and about[group.case.id] is not None:
                said = _call(found, task, "findings", task.findings_of, group.case, outcome)
                if isinstance(user, BoundedUser):
                    _known(found, task, [finding.fact for finding in said or ()], about[group.case.id] or ())
    if len(found.faults) == before:  # otherwise it would only say the same again
        found.faults += _seen(task, read, user, model is not None)
        _judged(found, task, groups, user)
    for sub in task.assistants:
        if isinstance(sub, Assistant):
            _finished(found, sub, groups)
        else:
            _below(task, sub, read, user, model, found)


def _below(
    task: Task, sub: Task, read: Sequence[Tried], user: User, model: Backbone | Maker | None, found: Rehearsal
) -> None:
    """The cases that a subtask makes of what could be read, and what becomes of them."""
    framed: dict[str, tuple[Case, tuple[Fact, ...]]] = {}
    for one in read:
        cases = _call(found, sub, "frame", sub.framed, one.case, one.outcome)
        framed |= {case.id: (case, one.facts) for case in cases or ()}
    if any(not case.prompt.strip() for case, _ in framed.values()):
        level = "error" if model is not None else "warning"
        text = "frame made a case with an empty prompt: a language model would be given nothing to read"
        found.faults.append(Fault(sub.path, level, text))
    if framed:
        _node(sub, list(framed.values())[:CASES], user, model, found)
    else:  # N/A, maybe, for good reasons
        found.untried += [node.path for node in sub.walk()]


def _outcomes(task: Task, cases: Sequence[Case], model: Backbone | Maker | None) -> list[Group]:
    if model is None:
        made_up = ("", "yes", "no", "This is the first step. 1 + 1 = 2, so it holds.")
        return [Group(case, tuple(map(Outcome, (*made_up, case.prompt)))) for case in cases]
    from rrm.models.agent import TextAgent  # late, both: they take seconds, and are needed with a model only
    from rrm.models.backbone import Backbone

    if isinstance(model, Backbone):
        agent: Agent = TextAgent(model, model.start, task.settings.max_tokens)
    else:
        agent = model.policy(task, 0)
    return list(agent.sample(cases, OUTCOMES, f"rehearsal {task.path}", task.settings.temperature))


def _call(found: Rehearsal, task: Task, what: str, call: Callable[..., X], *given: Any) -> X | None:
    """What somebody's function gives; None if an outcome has no form, or if it failed, which is said once a function.
    """
    try:
        return call(*given)
    except Malformed:
        return None
    except RRMError as error:
        text = str(error)
    except (*border.BROKEN, ImportError) as error:
        text = f"{what} of {task.path!r} raised {type(error).__name__}: {border.plain(str(error))}"
    if not any(fault.path == task.path and fault.what.startswith(f"{what} ") for fault in found.faults):
        text = text if text.startswith(f"{what} ") else f"{what} failed: {text}"
        found.faults.append(Fault(task.path, "error", text))
    return None


def _spans(task: Task, case: Case, outcome: Outcome) -> None:
    spans = task.located(case, outcome)
    where = f"locate of {task.path!r}"
    if not isinstance(spans, Mapping):
        raise border.BorderError(f"{where} gave a {type(spans).__name__}, not a mapping of names to (start, stop)")
    for name, span in spans.items():
        if not (isinstance(span, tuple | list) and len(span) == 2 and all(isinstance(end, int) for end in span)):
            raise border.BorderError(f"{where}: {name!r} is at {border.plain(repr(span), 60)}, not (start, stop)")


def _known(found: Rehearsal, task: Task, named: Sequence[str], facts: Sequence[Fact]) -> None:
    """Findings about facts that the parent's outcome has not got: a simulated user does nothing with them."""
    strange = [name for name in named if name not in {fact.name for fact in facts}]
    start = "findings are about"
    if not strange or any(fault.path == task.path and fault.what.startswith(start) for fault in found.faults):
        return
    has = border.plain(", ".join(repr(fact.name) for fact in facts), 200) or "none"
    found.faults.append(
        Fault(
            task.path, "warning",
            f"{start} {strange[0]!r}, which is no fact of its parent's outcome (it has {has}): a simulated user cannot "
            "check that, and people may",
        )
    )  # fmt: skip


def _seen(task: Task, read: Sequence[Tried], user: User, sampled: bool) -> Iterator[Fault]:
    """A simulated user sees facts that it can pay for, and the surface."""
    if not isinstance(user, BoundedUser) or not read:
        return
    features = {name for one in read for name in task.surface_of(one.case, one.outcome)}
    moved = sorted(name for name in features if user.biases.get(name))
    prices = [part.price for one in read for fact in one.facts for part in (fact, *fact.parts)]
    if not prices:
        sees = f"nothing but its surface ({', '.join(moved)})" if moved else "nothing"
        level = "error" if sampled and not moved else "warning"
        kind = "" if sampled else " that were made up; with --model, the model's are tried"
        yield Fault(
            task.path, level,
            f"the simulated user sees {sees}: facts gave none for any of {len(read)} outcomes{kind}. List in facts= "
            "what can be checked about an outcome, or let others judge: --user human",
        )  # fmt: skip
    elif min(prices) > user.attention // 2 and not _follows(task, user):
        yield Fault(
            task.path, "warning",
            f"the simulated user can check nothing: the cheapest fact costs {min(prices)}, and of its attention "
            f"({user.attention}) half is for each outcome; raise user.attention{_mend(task, user)}",
        )  # fmt: skip


def _follows(task: Task, user: BoundedUser) -> bool:
    """Whether a claim that is too dear may be followed down: there are answers, and one can be read and checked."""
    return bool(user.descent and task.assistants) and user.attention // 2 > user.reading


def _mend(task: Task, user: BoundedUser) -> str:
    """What else than more attention would help."""
    return ", or let it follow answers down: user.descent" if task.assistants and not user.descent else ""


def _judged(found: Rehearsal, task: Task, groups: Sequence[Group], user: User) -> None:
    """One pair before a simulated user, who forgets it; people, and models that cost, are not asked."""
    if isinstance(user, BoundedUser):
        pair = Pair.of(task.path, groups[0], 0, len(groups[0].outcomes) - 1)
        _call(found, task, "judging", user.model_copy().judge, task, pair)


def _finished(found: Rehearsal, sub: Assistant, groups: Sequence[Group]) -> None:
    """A finished assistant (a tool, say) at work on the first outcome of each case."""
    few = [Group(group.case, group.outcomes[:1]) for group in groups]
    _call(found, sub.task, "answering", assist, [sub], few)
