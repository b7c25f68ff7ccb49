"""Tasks and assistants: a node of the tree before it is trained, and after.

A task is an instruction, the assistants that help the user judge its outcomes, and how a user may look at an outcome
(its facts and its surface; Leike et al. 2018, section 3.2). A finished node, put to work, is its parent's assistant: it
asks its agent for drafts, lets its own assistants examine them, and gives the draft its reward model likes best (reward
models chained up the tree). Every case is examined once per version of the assistant, whoever asks: the memo.

Nothing here knows about models: an outcome may be text, or the description of a trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rrm.core import border
from rrm.core.errors import Malformed, TaskError
from rrm.core.parts import concerning, cut_from, cut_out
from rrm.core.protocols import Agent, Cases, Knowing, Memo, RewardModel
from rrm.core.records import Answer, Assistance, Case, Fact, Finding, Group, Outcome, Spans, digest
from rrm.core.settings import Settings
from rrm.core.tools import Tool

Frame = Callable[[Case, Outcome], Sequence[Case]]
Facts = Callable[[Case, Outcome], Sequence[Fact]]
Findings = Callable[[Case, Outcome], Sequence[Finding]]
Surface = Callable[[Case, Outcome], Mapping[str, float]]


Locate = Callable[[Case, Outcome], Spans]
Divide = Callable[[Case, Outcome], Spans]


@dataclass(frozen=True)
class Picture:
    """A drawing in lines of text, and a caption that says what it shows."""

    caption: str
    text: str


Drawing = Callable[[Case, Outcome, Sequence[Assistance]], Sequence[Picture]]


def no_surface(case: Case, outcome: Outcome) -> Mapping[str, float]:
    """A surface without features."""
    return {}


def no_spans(case: Case, outcome: Outcome) -> Spans:
    """Nothing is located."""
    return {}


def no_pictures(case: Case, outcome: Outcome, assistance: Sequence[Assistance]) -> Sequence[Picture]:
    """Nothing is drawn."""
    return ()


@dataclass(frozen=True)
class Task:
    """A node of the tree.

    Parameters
    ----------
    name: unique among its siblings; no "/" or ".".
    instruction: what a person is told to judge, in words.
    facts: the checkable facts of an outcome, their truth sealed; raises `Malformed` if it does not parse.
    cases: where cases come from (the root). A subtask that has none is trained on cases framed from its parent's
        outcomes; one that has is trained on those (a chain: `climb`), and framed only when it is at work.
    frame: makes this subtask's cases from one outcome of the parent; no cases means N/A.
    findings: reads this task's outcome as claims about the parent outcome's facts; raises `Malformed`.
    surface: named surface features of an outcome that carry no truth (confident words, length).
    locate: where facts and their parts are in an outcome's text, to show what assistants point at; raises
        `Malformed`.
    drawing: an outcome in pictures, for people to step through: the case as it is, what the outcome makes of it, and
        what follows if its assistants are right. It is also asked without assistance, for who judges without; raises
        `Malformed`.
    divide: the parts of an outcome's text that can be judged by themselves: what each is called -> where it is. Parts
        of one name, of outcomes of one case, are compared with one another (`Settings.parts`), by the facts that lie
        in them as `locate` says; raises `Malformed`. None: only whole outcomes are judged.
    assistants: subtasks, or finished assistants, that help the user judge this task's outcomes.
    covers: the aspects of the parent that this task assesses (for the exhaustiveness check).
    aspects: the aspects of this task's own outcomes.
    unacceptable: those of its aspects in which nothing may be wrong: a simulated user who is asked for it
        (`Settings.ask`) marks an outcome of which it believes that something is. People mark what they find so.
    difficulty: a rough size of one evaluation; a subtask must be narrower than its parent (section 3.2).
    usual: at a root, what the command line takes for "model" and "user" unless it is told.
    tools: the programs that this task's answers rest on; `check` sees that they are there, and a run keeps their
        versions.
    """

    name: str
    instruction: str
    facts: Facts
    cases: Cases | None = None
    frame: Frame | None = None
    findings: Findings | None = None
    surface: Surface = no_surface
    locate: Locate = no_spans
    drawing: Drawing = no_pictures
    divide: Divide | None = None
    assistants: Sequence[Task | Assistant] = ()
    covers: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    unacceptable: tuple[str, ...] = ()
    difficulty: float | None = None
    tools: tuple[Tool, ...] = ()
    usual: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    path: str = ""

    def __post_init__(self) -> None:
        self._listed()
        object.__setattr__(self, "assistants", tuple(self.assistants))
        if not self.path:
            object.__setattr__(self, "path", self.name)

    def _listed(self) -> None:
        """Raise `TaskError` where one thing was given for a tuple of them: (one) is one, and (one,) a tuple."""
        texts = ("covers", "aspects", "unacceptable")
        for name, kinds in (("assistants", (Task, Assistant)), ("tools", ()), *((name, (str,)) for name in texts)):
            given = getattr(self, name)
            shown = repr(given) if isinstance(given, str) else getattr(given, "name", type(given).__name__)
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise TaskError(
                    f"{self.name}: {name}=({shown}) is one {type(given).__name__}, not a tuple; write "
                    f"{name}=({shown},), with the comma"
                )
            for one in given if kinds and isinstance(given, Collection) else ():
                if not isinstance(one, kinds):
                    kind = " or ".join(kind.__name__ for kind in kinds)
                    raise TaskError(f"{self.name}: {name} has a {type(one).__name__} in it; each must be a {kind}")

    # What its functions give, checked: each raises `BorderError` naming the task where one raises or gives another kind
    # of thing, and `Malformed` as the function does. What is asked of a part is answered of what it was cut from.

    def facts_of(self, case: Case, outcome: Outcome) -> tuple[Fact, ...]:
        """The facts of an outcome, of different names and with prices of 0 or more."""
        if (cut := cut_from(case, outcome)) is not None:
            return tuple(fact for fact in self.facts_of(cut.case, cut.outcome) if fact.name in cut.facts)
        where = f"facts of {self.path!r}"
        with border.told(where):
            found = border.items(self.facts(case, outcome), Fact, where)
        border.distinct((fact.name for fact in found), where)
        for fact in found:
            if fact.price < 0:
                raise border.BorderError(f"{where}: {fact.name!r} has the price {fact.price}, below 0")
        return found

    def findings_of(self, case: Case, outcome: Outcome) -> tuple[Finding, ...]:
        """What an outcome of this task says of its parent's facts."""
        if (cut := cut_from(case, outcome)) is not None:
            return tuple(finding for finding in self.findings_of(cut.case, cut.outcome) if finding.fact in cut.facts)
        where = f"findings of {self.path!r}"
        assert self.findings is not None  # checked when the tree is built
        with border.told(where):
            return border.items(self.findings(case, outcome), Finding, where)

    def framed(self, case: Case, outcome: Outcome) -> tuple[Case, ...]:
        """The cases that this subtask makes of an outcome of its parent; none if that does not parse."""
        if self.frame is None:
            raise TaskError(f"{self.path!r} has no frame: it cannot be asked about an outcome")
        where = f"frame of {self.path!r}"
        if (cut := cut_from(case, outcome)) is not None:
            case, outcome = cut.case, cut.outcome
        try:
            with border.told(where):
                found = border.items(self.frame(case, outcome), Case, where)
        except Malformed:
            return ()
        for one in found:
            border.json_able(one.data, where)
        return found

    def surface_of(self, case: Case, outcome: Outcome) -> Mapping[str, float]:
        """The surface features of an outcome, finite."""
        where = f"surface of {self.path!r}"
        with border.told(where):
            return border.numbers(self.surface(case, outcome), where)

    def fault(self, case: Case, outcome: Outcome) -> str:
        """Why an outcome does not parse; empty if it does."""
        try:
            self.facts_of(case, outcome)
        except Malformed as error:
            return str(error) or "malformed"
        return ""

    def located(self, case: Case, outcome: Outcome) -> Spans:
        """Where the facts are in an outcome's text; nowhere if it does not parse."""
        if (cut := cut_from(case, outcome)) is not None:
            return {
                name: (begin - cut.begin, end - cut.begin)
                for name, (begin, end) in self.located(cut.case, cut.outcome).items()
                if cut.begin <= begin and end <= cut.end
            }
        try:
            with border.told(f"locate of {self.path!r}"):
                return self.locate(case, outcome)
        except Malformed:
            return {}

    def divided(self, case: Case, outcome: Outcome) -> Mapping[str, Outcome]:
        """An outcome's parts by their names, without those in which none of its facts lies; none if it does not parse,
        or if this task divides nothing."""
        where = f"divide of {self.path!r}"
        if self.divide is None:
            return {}
        try:
            with border.told(where):
                spans = {str(name): (int(begin), int(end)) for name, (begin, end) in self.divide(case, outcome).items()}
            facts = {fact.name for fact in self.facts_of(case, outcome)}
        except Malformed:
            return {}
        places = self.located(case, outcome)
        parts = {}
        for name, (begin, end) in spans.items():
            if not 0 <= begin < end <= len(outcome.text):
                raise border.BorderError(
                    f"{where}: {name!r} is from {begin} to {end} of a text of {len(outcome.text)} characters; a part "
                    "ends in the text, behind its beginning"
                )
            inside = [fact for fact, (first, last) in places.items() if begin <= first and last <= end]
            if not facts or facts.intersection(inside):
                parts[name] = cut_out(outcome, begin, end, inside)
        return parts

    def pictured(self, case: Case, outcome: Outcome, assistance: Sequence[Assistance]) -> tuple[Picture, ...]:
        """An outcome in pictures; none if this task draws none, or it does not parse, or is a part."""
        where = f"drawing of {self.path!r}"
        if cut_from(case, outcome) is not None:
            return ()
        try:
            with border.told(where):
                found = border.items(self.drawing(case, outcome, assistance), Picture, where)
        except Malformed:
            return ()
        for text in (text for one in found for text in (one.caption, one.text)):
            border.said(text, where)
        return found

    @property
    def subtasks(self) -> tuple[Task, ...]:
        """The assistants' tasks, finished or not."""
        return tuple(a if isinstance(a, Task) else a.task for a in self.assistants)

    def walk(self) -> Iterator[Task]:
        """Every task of the tree, children before parents: the order in which nodes are finished."""
        for sub in self.subtasks:
            yield from sub.walk()
        yield self


@dataclass(frozen=True)
class Pool:
    """A finite list of cases, drawn in an order that `key` decides: each once before any comes again."""

    cases: tuple[Case, ...]

    def draw(self, n: int, key: str) -> list[Case]:
        """`n` cases by `key`; none if the pool is empty."""
        order = sorted(range(len(self.cases)), key=lambda i: digest(key, i))
        return [self.cases[order[i % len(order)]] for i in range(n)] if order else []


# --- assistants at work ------------------------------------------------------------------------------


class Forgetful:
    """A memo in memory only."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Answer] = {}

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """See `Memo`."""
        return {c.id: self._known[version, c.id] for c in cases if (version, c.id) in self._known}

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
        """See `Memo`."""
        self._known.update({(version, case): answer for case, answer in answers.items()})


@dataclass(frozen=True)
class Assistant:
    """A finished node put to work for its parent."""

    task: Task
    agent: Agent
    reward: RewardModel | None
    """Picks the best of its drafts and says how good it is. Without one (a tool, somebody else's model) the agent's
    greedy answer is given, without a confidence."""
    helpers: tuple[Assistant, ...] = ()
    memo: Memo = field(default_factory=Forgetful)

    @property
    def version(self) -> str:
        """Changes when anything that decides its answers changes: agent, reward model, its own assistants."""
        below = [helper.version for helper in self.helpers]
        reward = None if self.reward is None else self.reward.version
        s = self.task.settings
        return digest(self.task.path, self.agent.version, reward, below, s.drafts, *([s.abstain] if s.abstain else []))

    def examine(self, groups: Sequence[Group], quick: bool = False) -> list[tuple[Assistance, ...]]:
        """What this assistant says of every outcome of every group. An outcome without form gets N/A. Of a part it is
        what it says of the whole, as far as that concerns the part.

        `quick` asks for the greedy answer, unscored: for the many outcomes of policy optimization, which no
        user looks at.
        """
        quick = quick and (self.reward is not None or bool(self.helpers))  # a tool alone has one way to answer
        version = f"{self.version}q" if quick else self.version
        framed = [[self.task.framed(group.case, outcome) for outcome in group.outcomes] for group in groups]
        answers = self._ask(version, [case for row in framed for cases in row for case in cases], quick)
        found = []
        for group, row in zip(groups, framed, strict=True):
            said = [Assistance(self.task.path, version, tuple(answers[c.id] for c in cases)) for cases in row]
            cuts = [cut_from(group.case, outcome) for outcome in group.outcomes]
            found.append(tuple(
                one if cut is None else concerning(one, cut.facts) for one, cut in zip(said, cuts, strict=True)
            ))  # fmt: skip
        return found

    def _ask(self, version: str, cases: Sequence[Case], quick: bool) -> Mapping[str, Answer]:
        known = dict(self.memo.get(version, cases))
        new = list({case.id: case for case in cases if case.id not in known}.values())
        if not new:
            return known
        drafts = 1 if quick or self.reward is None else self.task.settings.drafts
        found = self.agent.sample(new, drafts, key=f"{self.task.path} drafts", greedy=drafts == 1)
        groups = border.sampled(found, new, drafts, f"{self.task.path}: the agent's sample(n={drafts})")
        if quick or self.reward is None:
            groups = assist(self.helpers, groups, quick)
            fresh = {group.case.id: self._answer(group, None) for group in groups}
        else:
            # Drafts are told apart with quick answers about them; only the draft that is given is examined in full.
            # Examining every draft in full would ask for drafts ** depth answers at the bottom of the tree.
            if drafts > 1:
                scores = self.reward.score(assist(self.helpers, groups, quick=True))
                best = [int(score.mean.argmax()) for score in scores]
                groups = [Group(group.case, (group.outcomes[i],)) for group, i in zip(groups, best, strict=True)]
            groups = assist(self.helpers, groups)
            fresh = {
                group.case.id: self._answer(group, self._confidence(float(score.mean[0])), float(score.std[0]))
                for group, score in zip(groups, self.reward.score(groups), strict=True)
            }
        self.memo.put(version, fresh)
        return known | fresh

    def _confidence(self, score: float) -> float | None:
        """How an answer with this score ranks among those its reward model was fitted to; None: it knows nothing."""
        if isinstance(self.reward, Knowing) and self.reward.ignorant:
            return None
        return 1 / (1 + math.exp(min(-score, 700.0)))  # beyond that a float ends

    def _answer(self, group: Group, confidence: float | None, doubt: float = 0.0) -> Answer:
        (outcome,) = group.outcomes
        findings: tuple[Finding, ...] = ()
        unreadable, most = "", self.task.settings.abstain
        if most and doubt > most:
            unsure = f"abstains: its reward model's heads differ by {doubt:.2f} standard deviations, beyond {most:g}"
            return Answer(group.case, outcome, (), confidence, group.seen(0), unsure)
        try:
            findings = self.task.findings_of(group.case, outcome)
        except Malformed as error:
            unreadable = str(error)
        return Answer(group.case, outcome, findings, confidence, group.seen(0), unreadable)


def assist(helpers: Sequence[Assistant], groups: Sequence[Group], quick: bool = False) -> list[Group]:
    """The groups, with every helper's assistance on every outcome beside what was there already."""
    if not helpers:
        return list(groups)
    said = [helper.examine(groups, quick) for helper in helpers]  # (helpers, groups, outcomes)
    return [
        replace(group, assistance=tuple(zip(*(one[g] for one in said), strict=True))) for g, group in enumerate(groups)
    ]


def climb(
    task: Task, levels: int, name: str = "assistant", cases: Literal["own", "framed"] = "own", warm: bool = False,
    below: Assistant | None = None,
) -> Task:  # fmt: skip
    """The paper's chain: "in step k we use the agent A_(k-1) to assist the user in evaluating outcomes when training
    agent A_k" (Leike et al. 2018, section 3.2).

    A tree of one task: it is assisted by itself, `levels` deep, the first step at the bottom. So it is trained,
    resumed, inspected and exported as any tree is. Raises `TaskError` for a task with assistants of its own.

    Parameters
    ----------
    task: with `cases`, and with `frame` and `findings`: how its agent assists in judging its own kind of outcomes.
    levels: of assistants below; 0 is plain reward modeling.
    name: of the assistants.
    cases: each step is trained on the task's own cases, or on those framed from the outcomes of the step above.
    warm: each step begins with the weights of the step below.
    below: a finished assistant under the lowest step, to go on from.
    """
    if task.assistants:
        raise TaskError(f"{task.name}: a chain is of one task without assistants of its own; give it without them")
    if levels < 0:
        raise TaskError(f"levels={levels}: give 0 or more levels of assistants")
    begun = task.settings.model_copy(update={"begin": "assistant"})
    bottom = replace(task, assistants=() if below is None else (below,))
    if warm and below is not None:
        bottom = replace(bottom, settings=begun)
    for _ in range(levels):
        step = replace(bottom, name=name, path="", cases=task.cases if cases == "own" else None)
        bottom = replace(task, settings=begun if warm else task.settings, assistants=(step,))
    return bottom
