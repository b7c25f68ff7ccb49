"""Assistants that mislead, in two ways.

`Misleading` turns around what an honest one found. Only the claim changes, so it is quoted without the answer that it
was read from, which would give it away at once: whoever follows answers down can read no such answer
(`rrm.users.retelling`). `contrary` gives other answers, whole ones, of which everything can be read, checked, or
played: for users who do something else with an answer than read its claims, and to be found out at the price at which
a false answer is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rrm.core.protocols import Agent
from rrm.core.records import Answer, Assistance, Case, Finding, Group, Outcome, digest
from rrm.core.task import Assistant, Task
from rrm.measure.oracle import true_score
from rrm.users.retelling import claiming, withholding

OFFERED = 16
"""Outcomes sampled for a question, of which an agent that does not do its best takes one."""


# --- findings turned around --------------------------------------------------------------------------


@dataclass(frozen=True)
class Misleading(Assistant):
    """An assistant that says the opposite of what it found, for a `share` of its findings."""

    share: float = 1.0
    seed: int = 0

    @classmethod
    def of(cls, assistant: Assistant, share: float = 1.0, seed: int = 0) -> Misleading:
        """A finished assistant, misleading with a `share` of its findings, 0 to 1; of answers that say something else
        than they did, nothing can be read."""
        a = assistant
        return cls(withholding(a.task, itself=True), a.agent, a.reward, a.helpers, a.memo, share, seed)

    def examine(self, groups: Sequence[Group], quick: bool = False) -> list[tuple[Assistance, ...]]:
        """What it found, `share` of it turned around; see `mislead`."""
        return [tuple(mislead(one, self.share, self.seed) for one in row) for row in super().examine(groups, quick)]


def mislead(assistance: Assistance, share: float = 1.0, seed: int = 0) -> Assistance:
    """The same assistance with a share of its findings turned around, down its whole tree: what it called right it then
    calls wrong, and the other way round. Confidence and form stay. Which ones, the seed decides."""

    def turned(answer: Answer) -> Answer:
        rng = random.Random(digest(seed, assistance.assistant, answer.case.id, answer.outcome.id))
        findings = tuple(
            Finding(f.fact, not f.holds, None) if rng.random() < share else f for f in answer.findings
        )
        return replace(claiming(answer, findings), below=tuple(mislead(sub, share, seed) for sub in answer.below))

    return replace(assistance, answers=tuple(turned(answer) for answer in assistance.answers))


# --- whole answers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contrary:
    """An agent that does what another does, but for a `share` of its cases: there it takes one of several outcomes that
    are offered to it. `worst`: one of those that the truth likes least; else any.

    options: who offers; it should know how outcomes are written, and little else, so that bad ones are among them.
    """

    agent: Agent
    options: Agent
    task: Task
    share: float
    worst: bool
    seed: int

    @property
    def version(self) -> str:
        """Another for another share, or another way to choose."""
        return digest("contrary", self.agent.version, self.options.version, self.share, self.worst, self.seed)

    @property
    def repeatable(self) -> bool:
        """If both are."""
        return self.agent.repeatable and self.options.repeatable

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """As the agent; a case that is answered contrarily gets the same outcome `n` times, whatever the key. A larger
        share holds the cases of a smaller."""
        turned = [case for case in cases if self._draw(case).random() < self.share]
        offers = self.options.sample(turned, OFFERED, f"contrary {self.seed}") if turned else []
        chosen = {group.case.id: self._choose(group) for group in offers}
        return [
            group if (outcome := chosen.get(group.case.id)) is None else Group(group.case, (outcome,) * n)
            for group in self.agent.sample(cases, n, key, temperature, greedy)
        ]

    def _draw(self, case: Case) -> random.Random:
        return random.Random(digest(self.seed, "contrary", self.task.path, case.id))

    def _choose(self, group: Group) -> Outcome | None:
        """Of the different outcomes that can be read; None if there is none."""
        different = {outcome.content: outcome for outcome in group.outcomes}
        scores = {key: true_score(self.task, group.case, outcome) for key, outcome in different.items()}
        readable = sorted(key for key, score in scores.items() if score >= 0)
        if self.worst:
            readable = [key for key in readable if scores[key] <= min(scores[one] for one in readable)]
        rng = self._draw(group.case)
        rng.random()  # which said whether
        return different[rng.choice(readable)] if readable else None

    def state(self) -> dict[str, Any]:
        """The agent's."""
        return self.agent.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Into the agent."""
        self.agent.load(state)


def contrary(
    assistant: Assistant, options: Callable[[Task], Agent], share: float = 1.0, worst: bool = True, below: bool = False,
    seed: int = 0,
) -> Assistant:  # fmt: skip
    """A finished assistant that gives other answers than its best for a `share` of the questions.

    worst: by the truth turned around; else lazy: any answer, without looking. What makes an answer bad is the truth at
    the assistant's own node: a reply that loses helps the side whose move it should test.
    below: so do all assistants below it, each at its own node; else those are asked about these answers, honestly.
    """
    a = assistant
    helpers = tuple(contrary(sub, options, share, worst, below, seed) for sub in a.helpers) if below else a.helpers
    return Assistant(a.task, Contrary(a.agent, options(a.task), a.task, share, worst, seed), a.reward, helpers)
