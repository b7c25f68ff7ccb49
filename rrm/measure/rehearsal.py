"""A dry run of a tree: some cases through every facts, frame, findings, surface and locate, and before the user.

With a model, or another maker of agents, its outcomes are tried; without one, made-up texts: such as the case's form
allows where it has one, else some that few trees can read, so that what lies below the first node that reads none of
them is not reached. Nothing is trained and nothing kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rrm.core import border
from rrm.core.blame import at
from rrm.core.errors import Malformed, RRMError
from rrm.core.judgements import Pair
from rrm.core.parties import Maker, User
from rrm.core.protocols import Agent
from rrm.core.records import Answer, Assistance, Case, Fact, Group, Outcome
from rrm.core.seeding import seed_of
from rrm.core.task import Assistant, Task, assist
from rrm.core.validation import Fault
from rrm.measure.made_up import NoSample, texts_of_form
from rrm.users.bounded import BoundedUser

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone

X = TypeVar("X")
CASES = 3
"""Cases of each node that are tried."""
OUTCOMES = 4
"""Outcomes that a model writes for each, or that are made up from its form."""
MADE_UP = ("", "yes", "no", "This is the first step. 1 + 1 = 2, so it holds.")
"""Outcomes of a case without a form."""


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
    if _own(user) and not any(fault.level == "error" for fault in found.faults):
        found.faults += [Fault(path, "warning", f"the user was not tried at {path}") for path in found.untried]
    return found


def _node(
    task: Task, asked: Sequence[tuple[Case, tuple[Fact, ...] | None]], user: User, model: Backbone | Maker | None,
    found: Rehearsal,
) -> Outcome:  # fmt: skip
    """Try a node on these cases, each with the facts of the parent's outcome that it is about; then what is below, and
    the user, who reads what that says. Returns an outcome of the node."""
    before = len(found.faults)
    about = {case.id: facts for case, facts in asked}
    read: list[Tried] = []
    groups = _outcomes(task, [case for case, _ in asked], model, found)
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
    sound = len(found.faults) == before  # otherwise it would only say the same again
    if sound:
        found.faults += _seen(task, read, user, model is not None)
    below: dict[str, Outcome] = {}
    for sub in task.assistants:
        if isinstance(sub, Assistant):
            _finished(found, sub, groups)
        elif (answer := _below(task, sub, read, user, model, found)) is not None:
            below[sub.path] = answer
    if sound:
        _judged(found, task, groups[0], read, user, below, model is not None)
    return groups[0].outcomes[0]


def _below(
    task: Task, sub: Task, read: Sequence[Tried], user: User, model: Backbone | Maker | None, found: Rehearsal
) -> Outcome | None:
    """The cases that a subtask makes of what could be read, and what becomes of them: an outcome, if there are any."""
    framed: dict[str, tuple[Case, tuple[Fact, ...]]] = {}
    for one in read:
        cases = _call(found, sub, "frame", sub.framed, one.case, one.outcome)
        framed |= {case.id: (case, one.facts) for case in cases or ()}
    if any(not case.prompt.strip() for case, _ in framed.values()):
        level = "error" if model is not None else "warning"
        text = "frame made a case with an empty prompt: a language model would be given nothing to read"
        found.faults.append(Fault(sub.path, level, text))
    if framed:
        return _node(sub, list(framed.values())[:CASES], user, model, found)
    found.untried += [node.path for node in sub.walk()]  # N/A, maybe, for good reasons
    return None


def _outcomes(task: Task, cases: Sequence[Case], model: Backbone | Maker | None, found: Rehearsal) -> list[Group]:
    if model is None:
        return [Group(case, tuple(_formed(found, task, case) if case.form else _formless(case))) for case in cases]
    from rrm.models.agent import TextAgent  # late, both: they take seconds, and are needed with a model only
    from rrm.models.backbone import Backbone

    if isinstance(model, Backbone):
        agent: Agent = TextAgent(model, model.start, task.settings.max_tokens)
    else:
        agent = model.policy(task, 0)
    return list(agent.sample(cases, OUTCOMES, f"rehearsal {task.path}", task.settings.temperature))


def _formless(case: Case) -> Iterator[Outcome]:
    yield from map(Outcome, (*MADE_UP, case.prompt))


def _formed(found: Rehearsal, task: Task, case: Case) -> Iterator[Outcome]:
    """What a model might write that is held to the case's form, and what it would if it were cut off."""
    try:
        texts = texts_of_form(case.form, OUTCOMES, seed_of("made up", case.id))
    except NoSample as error:
        start = "the form of its cases"
        if not any(one.path == task.path and one.what.startswith(start) for one in found.faults):
            text = f"{start} gives no made-up outcome: {error}; --model tries those of a model"
            found.faults.append(Fault(task.path, "warning", text))
        yield from _formless(case)
        return
    yield Outcome(texts[0])
    yield Outcome(texts[0][: len(texts[0]) // 2], finished=False)
    yield from map(Outcome, texts[1:])


def _call(found: Rehearsal, task: Task, what: str, call: Callable[..., X], *given: Any) -> X | None:
    """What somebody's function gives; None if an outcome has no form, or if it failed, which is said once a function.
    Whatever they raise is an error: it would stop a run."""
    try:
        return _theirs(f"{what} of {task.path!r}", call, *given)
    except Malformed:
        return None
    except RRMError as error:
        text = str(error)
    if not any(fault.path == task.path and fault.what.startswith(f"{what} ") for fault in found.faults):
        text = text if text.startswith(f"{what} ") else f"{what} failed: {text}"
        found.faults.append(Fault(task.path, "error", text))
    return None


def _theirs(where: str, call: Callable[..., X], *given: Any) -> X:
    """Whatever somebody's code raises, their own exceptions too, as an error of ours."""
    try:
        return call(*given)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, RRMError):
            said = f"{where} raised {type(error).__name__}: {border.plain(str(error))}{at(error)}"
            raise border.BorderError(said) from error
        raise


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


def _own(user: User) -> bool:
    """Whether a user is code of somebody's own."""
    return type(user).__module__.partition(".")[0] != "rrm"


def _judged(
    found: Rehearsal, task: Task, group: Group, read: Sequence[Tried], user: User, below: Mapping[str, Outcome],
    sampled: bool,
) -> None:  # fmt: skip
    """One pair before the user, of what could be read if anything could, with what assistants say of it, as in a run; a
    simulated one of ours forgets it. What a user makes of texts that were made up without a form, and that nobody can
    read, is a warning only.

    below: an outcome of each subtask that has some, by its path: its answer to whatever it is asked.
    """
    if not (isinstance(user, BoundedUser) or _own(user)):  # people, and models that cost, are not asked
        return
    readable = [one.outcome for one in read if one.case.id == group.case.id]
    some = readable if len(readable) > 1 else group.outcomes
    two = Group(group.case, (some[0], some[-1]))
    told = [
        tuple(_assistance(found, sub, two.case, outcome, below) for sub in task.assistants) for outcome in two.outcomes
    ]
    pair = Pair.of(task.path, Group(two.case, two.outcomes, tuple(told)), 0, 1)
    judge = (user.model_copy() if isinstance(user, BoundedUser) else user).judge
    where = f"judging by {user.name!r}"

    def judged() -> None:
        try:
            with border.told(where):
                border.judged(judge(task, pair), where)
        except Malformed as error:  # who judges is not excused by an outcome without form
            raise border.BorderError(f"{where} raised Malformed: {error}{at(error)}") from error

    before = len(found.faults)
    _call(found, task, "judging", judged)
    if not (sampled or group.case.form or some is readable):
        found.faults[before:] = [replace(fault, level="warning") for fault in found.faults[before:]]


def _assistance(
    found: Rehearsal, sub: Task | Assistant, case: Case, outcome: Outcome, below: Mapping[str, Outcome]
) -> Assistance:
    """What an assistant says of an outcome: N/A where it makes no case of it, or its answer cannot be read."""
    if isinstance(sub, Assistant):
        groups = _call(found, sub.task, "answering", assist, [sub], [Group(case, (outcome,))])
        return groups[0].seen(0)[0] if groups else Assistance(sub.task.path, "rehearsal", ())
    answers = []
    for asked in _call(found, sub, "frame", sub.framed, case, outcome) or ():
        if (answer := below.get(sub.path)) is not None:
            said = _call(found, sub, "findings", sub.findings_of, asked, answer)
            answers.append(Answer(asked, answer, said or (), 0.5, unreadable="" if said is not None else "made up"))
    return Assistance(sub.path, "rehearsal", tuple(answers))


def _finished(found: Rehearsal, sub: Assistant, groups: Sequence[Group]) -> None:
    """A finished assistant (a tool, say) at work on the first outcome of each case."""
    few = [Group(group.case, group.outcomes[:1]) for group in groups]
    _call(found, sub.task, "answering", assist, [sub], few)
