"""What scripts/words.py measures with: recorded solutions, the tree of critics over them, and critics that are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rrm import BoundedUser, Case, Group, Malformed, Outcome, Pool, Settings, Task
from rrm.core.parties import User
from rrm.core.protocols import Agent
from rrm.core.records import digest
from rrm.core.task import Assistant, assist
from rrm.measure.arms import HeldOut
from rrm.measure.oversight import another
from rrm.measure.stage import Material, Stage
from rrm.measure.stats import Interval, share_over_seeds
from rrm.store.store import Store
from rrm_assistants.reading import bare
from rrm_assistants.solution import answer, lines
from rrm_assistants.text import first_mistake
from rrm_assistants.worked import first_wrong
from rrm_tasks.gsm8k import SOLUTIONS
from rrm_tasks.word_problems import case_of, problems, word_problems

NAME = "word_problems"
CRITICS = first_mistake.SETTINGS.model_copy(update={"cases": 12, "comparisons": 40, "drafts": 2, "accept": 6})
ROOT = Settings(
    rounds=1, cases=12, outcomes=4, comparisons=48, frame_cases=4, steps=0, accept=0, drafts=1, max_tokens=160
)
"""The root judges one round, to fit its reward model. It is not optimized: its solutions are recorded."""
KEPT = ("whole", "alone")
"""Trees whose root's reward model is used."""
FEW = 4
"""Cases that the root of any other tree judges."""
CHUNK = 8
"""Pairs that are examined at a time."""


@dataclass(frozen=True)
class Solutions:
    """Published solutions of one half of the questions for training, and of the other for measuring.

    recorded: case id -> its solutions, at least one right and one wrong of each case.
    """

    training: tuple[Case, ...]
    held_out: tuple[Case, ...]
    recorded: Mapping[str, tuple[Outcome, ...]]
    unsolved: Mapping[str, Case]
    """Question -> the case that an agent is asked, with prompt and form."""

    @classmethod
    def read(cls, data: Path | None) -> Solutions:
        """Of questions with right and wrong solutions that a critic can be shown: with lines, an answer, and not too
        many. The marks `<<...>>` are taken out. Which half a question is in, its digest says."""
        halves: tuple[list[Case], list[Case]] = ([], [])
        recorded: dict[str, tuple[Outcome, ...]] = {}
        for row in sorted(SOLUTIONS.read(data), key=lambda row: digest("order", row.question)):
            case = case_of(row.question, row.ground_truth)
            texts = ("\n".join(map(bare, one.solution.splitlines())) for one in row.solutions.values())
            found = tuple(Outcome(text) for text in texts if readable(text))
            if len({right(case, one) for one in found}) == 2:
                recorded[case.id] = found
                halves[int(digest("half", row.question), 16) % 2].append(case)
        asked = {case.data["question"]: case for case in problems(data)} if data is None or data.is_dir() else {}
        return cls(tuple(halves[0]), tuple(halves[1]), recorded, asked)


def readable(text: str) -> bool:
    """Whether a critic can be shown this solution."""
    return answer(text) is not None and 1 <= len(lines(text)) <= first_mistake.MOST


def right(case: Case, outcome: Outcome) -> bool:
    """Whether the solution's answer is the key's."""
    said = answer(outcome.text)
    return said is not None and said == answer(case.data["worked"])


def mistake(case: Case, outcome: Outcome) -> int | None:
    """The first wrong line of a solution, from 1."""
    return first_wrong(case.data["question"], case.data["worked"], outcome.text)


def tree(solutions: Solutions, levels: int = 2, critics: Settings = CRITICS, root: Settings = ROOT) -> Task:
    """The critics in words over recorded solutions, without tools."""
    task = word_problems(settings=root, tools=False, critics=levels, critic_settings=critics)
    return replace(task, cases=Pool(solutions.training))


@dataclass(frozen=True)
class WordStage(Stage):
    """A stage whose held-out pairs are of a right and a wrong solution of questions that training never sees."""

    solutions: Solutions | None = None
    acting: int = 20
    """Held-out questions that the agent itself solves."""
    say: Callable[[str], None] = print

    @property
    def known(self) -> Solutions:
        """Where its questions and solutions come from."""
        assert self.solutions is not None
        return self.solutions

    def bounded(self, **changes: Any) -> BoundedUser:
        """The simulated user, with some settings changed, who has met nobody."""
        user = self.user()
        assert isinstance(user, BoundedUser)
        return another(user, **changes)

    @cached_property
    def asked(self) -> list[Case]:
        """Held-out questions in the seed's order."""
        return sorted(self.known.held_out, key=lambda case: digest("held out", self.seed, case.id))

    def assistants(self, name: str, task: Task, user: User | None = None, few: bool = False) -> Assistant:
        """As of any stage; but where only the assistants are wanted, the root judges next to nothing. Their cases are
        framed from the same outcomes in every arm."""
        if name not in KEPT:
            size = {"cases": FEW, "frame_cases": ROOT.cases + ROOT.frame_cases - FEW, "comparisons": 3 * FEW}
            task = replace(task, settings=task.settings.model_copy(update=size))
        return super().assistants(name, task, user)

    @cached_property
    def alone(self) -> Material:
        """One pair of each question, the right one first or second by its digest."""
        held, practice = (4, 2) if self.quick else (self.pairs, self.practice)
        return Material(self._pairs(self.asked[:held]), self._pairs(self.asked[held : held + practice]))

    @cached_property
    def assisted(self) -> Material:
        """The pairs with the assistance of the whole tree."""
        return self.shown("depth 2", self.helpers)

    def shown(self, what: str, helpers: Sequence[Assistant]) -> Material:
        """The pairs with these assistants' assistance, a few at a time: what they said of those is kept, should it be
        interrupted."""
        for some in (self.alone.held, self.alone.practice):
            for first in range(0, len(some.groups), CHUNK):
                assist(helpers, some.groups[first : first + CHUNK])
            self.say(f"{what}: {len(some.groups)} pairs examined")
        return self.alone.assisted(helpers)

    def _pairs(self, cases: Sequence[Case]) -> HeldOut:
        groups, truth = [], []
        for case in cases:
            drawn = sorted(self.known.recorded[case.id], key=lambda one: digest(self.seed, "pair", case.id, one.id))
            two = [next(one for one in drawn if right(case, one) == good) for good in (True, False)]
            first = int(digest(self.seed, "first", case.id), 16) % 2
            groups.append(Group(case, (two[first], two[1 - first])))
            truth.append(1.0 - first)
        return HeldOut(groups, [(g, 0, 1) for g in range(len(groups))], truth)

    def told(self, agent: Callable[[Task], Agent]) -> tuple[Assistant, ...]:
        """The tree's critics with other agents, untrained ones or scripted, and without reward models. What they say is
        kept beside the trees."""
        self.out.mkdir(parents=True, exist_ok=True)
        memo = Store(self.out / f"told-{self.seed}.db")

        def of(task: Task) -> Assistant:
            below = tuple(of(sub) for sub in task.subtasks)
            return Assistant(replace(task, assistants=below), agent(task), None, below, memo)

        return tuple(of(sub) for sub in self.task.subtasks)


@dataclass(frozen=True)
class Drawn:
    """An agent's draw instead of its likeliest answer: what an untrained critic would say."""

    agent: Agent
    seed: int

    @property
    def version(self) -> str:
        """The agent's, and the seed."""
        return digest("drawn", self.agent.version, self.seed)

    @property
    def repeatable(self) -> bool:
        """The agent's."""
        return self.agent.repeatable

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """As the agent, never greedily."""
        return self.agent.sample(cases, n, f"{key} {self.seed}", temperature)

    def state(self) -> dict[str, torch.Tensor]:
        """The agent's."""
        return self.agent.state()

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Into the agent."""
        self.agent.load(state)


# --- critics that are told the truth -----------------------------------------------------------------


@dataclass(frozen=True)
class Scripted:
    """An agent that knows where the mistake is and says so; `contrary`: and says the opposite. For the ends of the
    scale: what would critics be worth that were always right, or always wrong?"""

    task: Task
    contrary: bool = False

    repeatable = True

    @property
    def version(self) -> str:
        """Which of the two."""
        return f"scripted {'contrary' if self.contrary else 'perfect'}"

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """The one thing that it says of each case, `n` times."""
        return [Group(case, (Outcome(self._say(case)),) * n) for case in cases]

    def _say(self, case: Case) -> str:
        if self.task.name == "step":
            return "Yes: it follows." if case.data["holds"] != self.contrary else "No: it does not follow."
        wrong = first_wrong(case.data["question"], case.data["worked"], case.data["solution"])
        if self.contrary:
            wrong = None if wrong is not None else len(lines(case.data["solution"]))
        return first_mistake.RIGHT if wrong is None else f"No, line {wrong} is wrong: it does not follow."

    def state(self) -> dict[str, torch.Tensor]:
        """Empty."""
        return {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing to load."""


# --- what critics say against what is so -------------------------------------------------------------


def claims(held: HeldOut) -> dict[str, list[list[Any]]]:
    """Of every held-out solution. steps: [case, the first wrong line or None, the line accused or None, lines], without
    the unreadable; step: [case, whether the line holds, whether it is said to]."""
    found: dict[str, list[list[Any]]] = {"steps": [], "step": []}
    for g, group in enumerate(held.groups):
        for i, outcome in enumerate(group.outcomes):
            for a in (a for top in group.seen(i) for a in top.tree()):
                for said in a.answers:
                    if a.name == "step" and said.findings:
                        found["step"].append([held.case[g], said.case.data["holds"], said.findings[0].holds])
                    elif a.name in ("steps", "critic") and "solution" in said.case.data:
                        try:
                            line, _ = first_mistake.accused(said.case, said.outcome)
                        except Malformed:
                            continue
                        wrong = mistake(group.case, outcome)
                        found["steps"].append([held.case[g], wrong, line, len(lines(outcome.text))])
    return found


def quality(seeds: Sequence[Sequence[Sequence[Any]]]) -> dict[str, Interval]:
    """How right `steps` claims are, over seeds: precision and recall of calling a solution wrong, and of the line."""

    def share(
        value: Callable[[int | None, int | None], bool], among: Callable[[int | None, int | None], bool]
    ) -> Interval:
        return share_over_seeds(
            [_by_case((case, float(value(wrong, line))) for case, wrong, line, _ in rows if among(wrong, line))
             for rows in seeds]
        )  # fmt: skip

    return {
        "calls wrong": share(lambda wrong, line: line is not None, lambda wrong, line: True),
        "wrong: precision": share(lambda wrong, line: wrong is not None, lambda wrong, line: line is not None),
        "wrong: recall": share(lambda wrong, line: line is not None, lambda wrong, line: wrong is not None),
        "line: precision": share(lambda wrong, line: line == wrong, lambda wrong, line: line is not None),
        "line: recall": share(lambda wrong, line: line == wrong, lambda wrong, line: wrong is not None),
    }


def _by_case(values: Any) -> list[list[float]]:
    by: dict[int, list[float]] = {}
    for case, value in values:
        by.setdefault(case, []).append(value)
    return list(by.values())


def always(solutions: Solutions, cases: Sequence[Case]) -> int:
    """The line that is most often the first wrong one in recorded solutions of these cases."""
    places = Counter(mistake(case, one) for case in cases for one in solutions.recorded[case.id])
    del places[None]
    return min(places, key=lambda line: (-places[line], line or 0)) or 1
