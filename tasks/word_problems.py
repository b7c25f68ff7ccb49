"""Solve a word problem; with help, judge a solution (GSM8K: real questions, and an answer key for measuring).

word_problems
├── arithmetic   does every computation come out as it is written?
├── follows      do the numbers of each step come from the question or earlier steps?
└── answered     was the question asked answered, with all that it gives?

The assistants are tools: their reports are evidence, and can be wrong. What is known of an outcome is whether its
computations come out and whether its answer is the key's; whether a step follows, nobody has labeled, so there is no
fact of it that a simulated user could check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from assistants.answered import answered
from assistants.arithmetic import arithmetic, computed
from assistants.expressions import numbers
from assistants.follows import follows
from assistants.solution import answer, lines
from rrm import Case, Fact, Malformed, Outcome, Pool, Sealed, Settings, Task
from tasks.gsm8k import PROBLEMS

SETTINGS = Settings(max_tokens=192, cases=32, comparisons=96, steps=4, batch=4, group=4)
FORM = r"([^\n]{5,120}\n){1,5}A: -?[0-9]{1,7}(\.[0-9]{1,2})?"
"""Up to five steps and a number: what is in them is the agent's."""
HOW = 'Solve it step by step, each step on a line of its own. The last line is "A: " and the number.'


def case_of(question: str, worked: str) -> Case:
    """A question as a case. `worked` is its worked answer; only the number at its end is kept."""
    key = answer(worked)
    if key is None:
        raise Malformed(f"the worked answer of {question[:60]!r} ends without a number ('#### 18' or 'A: 18')")
    return Case(f"{question}\n\n{HOW}", {"question": question, "answer": str(key)})


class Problems:
    """The published problems as cases, read when they are first asked for; `where` as in `rrm.data.Table.read`."""

    def __init__(self, where: Path | None = None) -> None:
        self._where = where
        self._pool: Pool | None = None

    def draw(self, n: int, key: str) -> list[Case]:
        if self._pool is None:
            read = (case_of(row.question, row.answer) for row in PROBLEMS.read(self._where))
            self._pool = Pool(tuple(replace(case, form=FORM) for case in read))
        return self._pool.draw(n, key)


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """Per line with arithmetic, that it comes out; and that the answer is the key's, which costs a user as much
    attention as it takes to solve the problem. Raises `Malformed` without an answer."""
    said = answer(outcome.text)
    if said is None:
        raise Malformed('no line "A: " with a number')
    right = said == Fraction(case.data["answer"])
    per_line = computed(outcome.text).items()
    checks = [Fact(f"calc{n}", "arithmetic", Sealed(not wrong)) for n, wrong in per_line]
    return [*checks, Fact("answer", "answer", Sealed(right), cost=max(2, len(lines(outcome.text))))]


def surface(case: Case, outcome: Outcome) -> Mapping[str, float]:
    """What a hurried reader goes by: lines, and numbers, each per ten."""
    return {"length": len(lines(outcome.text)) / 10, "numbers": len(numbers(outcome.text)) / 10}


def word_problems(where: Path | None = None, settings: Settings = SETTINGS) -> Task:
    """The tree over the problems in `where`; by default those in $RRM_DATA, or the published ones."""
    return Task(
        "word_problems",
        instruction="Which solution is better: computed rightly, each step following, the question answered?",
        cases=Problems(where),
        facts=facts,
        surface=surface,
        assistants=(arithmetic(), follows(), answered()),
        aspects=("arithmetic", "steps", "answer"),
        difficulty=8,
        settings=settings,
    )


task = word_problems()
