"""Assistants at work: a finished node examines its parent's outcomes and says what it finds.

An assistant asks its agent for drafts, lets its own assistants examine them, and gives the draft its reward
model likes best (reward models chained up the tree). Every case is examined once per version of the
assistant, whoever asks: the memo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from rrm.task import Case, Finding, Group, Malformed, Outcome, Task, TaskError, digest

if TYPE_CHECKING:
    import torch  # looking at a run needs no torch, which takes seconds and 200 MB


@dataclass(frozen=True)
class Answer:
    """What an assistant answered to one case, and what its own assistants said of that answer."""

    case: Case
    outcome: Outcome
    findings: tuple[Finding, ...]
    confidence: float | None
    """How good its reward model thinks the answer, 0 to 1 (0.5: as its training outcomes); None if unasked."""
    below: tuple[Assistance, ...] = ()
    unreadable: str = ""
    """Why the answer could not be read; then there are no findings, and it counts as N/A."""


@dataclass(frozen=True)
class Assistance:
    """An assistant's answers about one outcome: what they point at, with which confidence, or N/A."""

    assistant: str
    version: str
    answers: tuple[Answer, ...]

    @property
    def name(self) -> str:
        return self.assistant.rsplit("/", 1)[-1]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for answer in self.answers for finding in answer.findings)

    @property
    def below(self) -> tuple[Assistance, ...]:
        return tuple(sub for answer in self.answers for sub in answer.below)

    @property
    def na(self) -> bool:
        """Nothing to judge, or nothing readable."""
        return not self.findings

    @property
    def why(self) -> str:
        """Why it is N/A, if somebody was asked and gave nothing readable."""
        return "; ".join(a.unreadable for a in self.answers if a.unreadable) if self.na else ""

    @property
    def text(self) -> str:
        """As the reward model and a model user read it: "proofs wrong step1 ( steps wrong step1 )"."""
        below = " ".join(sub.text for sub in self.below if not (self.na and sub.na))
        said = f" ( {below} )" if below else ""  # a tool's evidence stands where the critic above it says nothing
        if self.na:
            return f"{self.name} N/A{said}"
        wrong = " ".join(f"wrong {f.fact}{_noted(f)}" for f in self.findings if not f.holds)
        right = f"right{''.join(map(_noted, self.findings))}"
        return f"{self.name} {wrong or right}{said}"

    def tree(self) -> tuple[Assistance, ...]:
        """This assistance and all that was said of its answers, outermost first."""
        return (self, *(a for sub in self.below for a in sub.tree()))


def _noted(finding: Finding) -> str:
    return f" ({finding.note})" if finding.note else ""


class Scores(Protocol):
    """A reward model's judgement of a group's outcomes: its ensemble's mean and standard deviation, (n,)."""

    @property
    def mean(self) -> torch.Tensor: ...
    @property
    def std(self) -> torch.Tensor: ...


class Agent(Protocol):
    """Produces outcomes. A language model here; anything that can sample elsewhere."""

    @property
    def version(self) -> str: ...
    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]: ...
    def state(self) -> dict[str, torch.Tensor]: ...
    def load(self, state: dict[str, torch.Tensor]) -> None: ...


class RewardModel(Protocol):
    """Predicts the user's judgement, with its own uncertainty."""

    @property
    def version(self) -> str: ...
    def score(self, groups: Sequence[Group]) -> Sequence[Scores]: ...
    def state(self) -> dict[str, torch.Tensor]: ...
    def load(self, state: dict[str, torch.Tensor]) -> None: ...


class Memo(Protocol):
    """What was already asked. `put` is atomic: all answers of one call are remembered, or none."""

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]: ...
    def put(self, version: str, answers: Mapping[str, Answer]) -> None: ...


class Forgetful:
    """A memo in memory only."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Answer] = {}

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        return {c.id: self._known[version, c.id] for c in cases if (version, c.id) in self._known}

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
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
        return digest(self.task.path, self.agent.version, reward, below, self.task.settings.drafts)

    def examine(self, groups: Sequence[Group], quick: bool = False) -> list[tuple[Assistance, ...]]:
        """What this assistant says of every outcome of every group. An outcome without form gets N/A.

        `quick` asks for the greedy answer, unscored: for the many outcomes of policy optimization, which no
        user looks at.
        """
        quick = quick and (self.reward is not None or bool(self.helpers))  # a tool alone has one way to answer
        version = f"{self.version}q" if quick else self.version
        framed = [[self._frame(group.case, outcome) for outcome in group.outcomes] for group in groups]
        answers = self._ask(version, [case for row in framed for cases in row for case in cases], quick)
        return [
            tuple(Assistance(self.task.path, version, tuple(answers[c.id] for c in cases)) for cases in row)
            for row in framed
        ]

    def _frame(self, case: Case, outcome: Outcome) -> Sequence[Case]:
        if self.task.frame is None:
            raise TaskError(f"assistant {self.task.path!r} has no frame: it cannot be asked about an outcome")
        try:
            return self.task.frame(case, outcome)
        except Malformed:
            return ()

    def _ask(self, version: str, cases: Sequence[Case], quick: bool) -> Mapping[str, Answer]:
        known = dict(self.memo.get(version, cases))
        new = list({case.id: case for case in cases if case.id not in known}.values())
        if not new:
            return known
        drafts = 1 if quick or self.reward is None else self.task.settings.drafts
        groups = self.agent.sample(new, drafts, key=f"{self.task.path} drafts", greedy=drafts == 1)
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
                group.case.id: self._answer(group, 1 / (1 + math.exp(-float(score.mean[0]))))
                for group, score in zip(groups, self.reward.score(groups), strict=True)
            }
        self.memo.put(version, fresh)
        return known | fresh

    def _answer(self, group: Group, confidence: float | None) -> Answer:
        (outcome,) = group.outcomes
        assert self.task.findings is not None  # checked when the tree is built
        findings: tuple[Finding, ...] = ()
        unreadable = ""
        try:
            findings = tuple(self.task.findings(group.case, outcome))
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
