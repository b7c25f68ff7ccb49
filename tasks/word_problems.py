"""Solve a word problem; with help, judge a solution (GSM8K: real questions, and an answer key for measuring).

word_problems
├── arithmetic   does every computation come out as it is written?
├── follows      do the numbers of each step come from the question or earlier steps?
├── answered     was the question asked answered, with all that it gives?
└── steps        which line is the first that is wrong? In words, with critics=1 and 2
    └── step     does this one line follow? With critics=2

The first three are tools: their reports are evidence, and can be wrong. The critics are trained language models. What
is known of an outcome is whether its computations come out, whether its answer is the key's, whether it has to do with
the question at all (by the definitions of `rrm_assistants.relevance`), and, by a proxy, which line is the first that is
wrong (`rrm_assistants.worked`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rrm import Case, Fact, Malformed, Outcome, Pool, Sealed, Settings, Task
from rrm.core.errors import TaskError
from rrm.core.records import Spans
from rrm.core.task import Assistant
from rrm_assistants.answered import answered
from rrm_assistants.arithmetic import arithmetic, computed
from rrm_assistants.expressions import numbers
from rrm_assistants.follows import follows
from rrm_assistants.relevance import relevance
from rrm_assistants.solution import answer, lines, question_of
from rrm_assistants.text import first_mistake
from rrm_assistants.worked import lines_hold
from rrm_tasks.gsm8k import PROBLEMS

SETTINGS = Settings(
    max_tokens=200, cases=24, outcomes=4, comparisons=96, rounds=2, improver="best_of_n", steps=4, batch=6, group=6,
    accept=12,
)  # fmt: skip
_BEGINNING = r"([A-KM-SU-Z][A-Za-z0-9 ']|L([a-df-z]|e[a-su-z])|T([a-np-z]|o(m|tal|gether)))"
_REST = r"([A-Za-z0-9 ,;'$%()/+=-]|\*[ 0-9(.$]|\.[0-9])"
_NUMBER = r"([0-9]{1,3}(,[0-9]{3}){1,3}|[0-9]{1,9})(\.[0-9]{1,2})?"
FORM = rf"({_BEGINNING}{_REST}{{2,160}}\.?\n){{1,7}}A: \$?-?{_NUMBER}"
"""Up to seven steps, a plain sentence each, and a number: what they say is the agent's.

A step has no colon, so no heading and no list; a full stop at its end only, so one sentence a line; no backslash, no
backtick and no two asterisks, so no LaTeX and no markdown. It does not begin with "To" or "Let" ("Let's solve this step
by step"): a chat model that may say so goes on with what is none of these, and one that may write "To" at all writes
"Todetermine"; so of words in "To" there are Tom, Total and Together. 95 % of GSM8K's worked answers have so few and so
short lines.
"""
PROMPT = """Solve each problem step by step, each step on a line of its own with its computation. The last line is \
"A: " and the number.

Problem: Tom has 3 boxes of 4 pens each and gives away 5 pens. How many pens does he have left?
Solution:
Tom has 3 * 4 = 12 pens in all.
He has 12 - 5 = 7 pens left.
A: 7

Problem: A shirt costs $20 and is sold at 25% off. Ann buys 2 shirts and pays with $50. How much change does she get?
Solution:
The discount on a shirt is 20 * 0.25 = $5.
A shirt then costs 20 - 5 = $15.
Two shirts cost 2 * 15 = $30.
The change is 50 - 30 = $20.
A: 20

Problem: Leo runs 3 miles a day on weekdays and twice as much on each day of the weekend. How many miles does he run \
in 2 weeks?
Solution:
On weekdays he runs 3 * 5 = 15 miles a week.
On a day of the weekend he runs 3 * 2 = 6 miles.
On a weekend he runs 6 * 2 = 12 miles.
In a week he runs 15 + 12 = 27 miles.
In 2 weeks he runs 27 * 2 = 54 miles.
A: 54

Problem: {question}
Solution:
"""
"""What an agent is asked. The examples are made up, none is of GSM8K."""
HOW = 'Solve it step by step, each step on a line of its own. The last line is "A: " and the number.'


def case_of(question: str, worked: str) -> Case:
    """A question as a case, for solutions from elsewhere. `worked` is its worked answer, which is kept for the truth:
    nobody who answers sees it."""
    key = answer(worked)
    if key is None:
        raise Malformed(f"the worked answer of {question[:60]!r} ends without a number ('#### 18' or 'A: 18')")
    return Case(f"{question}\n\n{HOW}", {"question": question, "answer": str(key), "worked": worked})


def problems(where: Path | None = None) -> tuple[Case, ...]:
    """The published problems as an agent is asked to solve them; `where` as in `rrm.worlds.tables.Table.read`."""
    read = (case_of(row.question, row.answer) for row in PROBLEMS.read(where))
    return tuple(replace(case, prompt=PROMPT.format(question=case.data["question"]), form=FORM) for case in read)


class Problems:
    """`problems`, read when they are first asked for."""

    def __init__(self, where: Path | None = None) -> None:
        self._where = where
        self._pool: Pool | None = None

    def draw(self, n: int, key: str) -> list[Case]:
        """As `Pool.draw`. Raises `DataError` if the problems cannot be read."""
        if self._pool is None:
            self._pool = Pool(problems(self._where))
        return self._pool.draw(n, key)


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """Per line with arithmetic, that it comes out; per line, where the worked answer is known, that it is not the first
    wrong one; that the question's numbers are used, what was asked for is named and the last step gives the answer
    (`rrm_assistants.relevance`); and that the answer is the key's, which costs a user as much attention as it takes to
    solve the problem. Raises `Malformed` without an answer."""
    said = answer(outcome.text)
    if said is None:
        raise Malformed('no line "A: " with a number')
    right = said == Fraction(case.data["answer"])
    per_line = computed(outcome.text).items()
    checks = [Fact(f"calc{n}", "arithmetic", Sealed(not wrong)) for n, wrong in per_line]
    hold = lines_hold(case.data, outcome.text).items()
    checks += [Fact(f"step{n}", "steps", Sealed(holds), cost=first_mistake.PRICE) for n, holds in hold]
    checks += relevance(question_of(case), outcome.text)
    return [*checks, Fact("answer", "answer", Sealed(right), cost=max(2, len(lines(outcome.text))))]


def _places(text: str) -> list[tuple[int, int]]:
    """Where its lines are (`rrm_assistants.solution.lines`): first character, and the one after the last."""
    found, at = [], 0
    for line in text.splitlines(keepends=True):
        if lines(line):
            found.append((at, at + len(line.splitlines()[0])))
        at += len(line)
    return found


def locate(case: Case, outcome: Outcome) -> Spans:
    """Each fact of a line, in its line. Raises `Malformed`."""
    known = {fact.name for fact in facts(case, outcome)}
    named = ((f"{kind}{n}", place) for n, place in enumerate(_places(outcome.text), 1) for kind in ("calc", "step"))
    return {name: place for name, place in named if name in known}


def divide(case: Case, outcome: Outcome) -> Spans:
    """The first steps of a solution, 1 and up to all but the last: lines before its answer."""
    places = _places(outcome.text)
    return {
        "step 1" if n == 1 else f"steps 1 to {n}": (places[0][0], places[n - 1][1]) for n in range(1, len(places))
    }


def surface(case: Case, outcome: Outcome) -> Mapping[str, float]:
    """What a hurried reader goes by: lines, and numbers, each per ten."""
    return {"length": len(lines(outcome.text)) / 10, "numbers": len(numbers(outcome.text)) / 10}


def word_problems(
    where: Path | None = None, settings: Settings = SETTINGS, tools: bool = True, critics: int = 0,
    critic_settings: Settings = first_mistake.SETTINGS,
) -> Task:  # fmt: skip
    """The tree over the problems in `where`; by default those in $RRM_DATA, or the published ones.

    Parameters
    ----------
    tools: whether the tools assist.
    critics: levels of critics in words: 0, 1 (`steps`) or 2 (`steps`, judged with the help of `step`).
    critic_settings: of each of them.
    """
    if critics not in (0, 1, 2):
        raise TaskError(f"critics={critics}: give 0, 1 or 2 levels of critics")
    below = (first_mistake.step(critic_settings),) if critics == 2 else ()
    words: tuple[Task | Assistant, ...] = (first_mistake.steps(below, critic_settings),) if critics else ()
    return Task(
        "word_problems",
        instruction="Which solution is better: computed rightly, each step following, the question answered?",
        cases=Problems(where),
        facts=facts,
        surface=surface,
        locate=locate,
        divide=divide,
        assistants=((arithmetic(), follows(), answered()) if tools else ()) + words,
        aspects=("arithmetic", "steps", "relevance", "answer"),
        difficulty=8,
        settings=settings,
    )


task = word_problems()
