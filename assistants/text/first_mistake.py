"""Critics of worked solutions, in words: which line is the first that is wrong, and, below that, does this line follow?

    steps   Yes, every line is right.  /  No, line 2 is wrong: 6 - 2 is the number of cats, not of dogs.
    └── step    Yes: 4 * 2 = 8 is what the line says.  /  No: he gave away 2, not 3.

Both are trained language models, held to a form in which what they say can be read; whether it is true is another
matter. `step` is shown one line and those before it, so its question is narrower than the one it serves. Where `steps`
says that every line is right, nothing is accused that `step` could be asked about; it is then asked about one line with
a computation, which the solution's digest draws. Not the last one always: most first mistakes are in the first lines.

What is true of a line is known where the worked answer of the problem is (`rrm_assistants.worked`, a proxy); elsewhere
there are no facts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rrm import Case, Fact, Finding, Malformed, Outcome, Sealed, Settings, Task
from rrm.core.records import digest
from rrm.core.task import Assistant
from rrm_assistants.reading import bare
from rrm_assistants.solution import answer, lines, question_of
from rrm_assistants.worked import computing, lines_hold

SETTINGS = Settings(
    rounds=1, cases=24, outcomes=4, comparisons=60, frame_cases=0, max_tokens=40, drafts=3, steps=4, batch=4, group=4,
    lr=1e-4, accept=8,
)  # fmt: skip
"""Small: a real model on a CPU takes seconds for an answer. Several drafts, since a small model's likeliest verdict is
the same whatever it is shown; its reward model, reading what `step` says of each draft, picks one."""
PRICE = 1
"""Attention that a user pays to look whether one line follows."""
MOST = 9
"""Lines of a solution that are numbered; of a longer one nothing is said."""
RIGHT = "Yes, every line is right."
WHY = r"[ -~]{5,80}"
"""A few plain words: left free, small models explain until they are cut off."""
_WRONG = re.compile(rf"No, line ([1-9]) is wrong: ({WHY})")
_SAID = re.compile(rf"(Yes|No): ({WHY})")

STEPS = """Problem: {question}

A student's solution:
{numbered}
Answer: {answer}

Is the solution right? Answer "Yes, every line is right." or "No, line N is wrong: " with the number of the first line \
that is wrong, and why in a few words."""
"""The verdict comes first, as the answer to a plain question: what small models know of a solution is how likely yes is
(docs/results/model_skills.md). Told to name the first wrong line, or that all are right, they tend to say one thing."""
STEP = """Question: {question}

Solution so far:
{before}{line}

Is the last line right? Answer Yes or No, and why in a few words."""
"""Neither has examples in it: the small models at hand copy them, and they are most of what is to be read."""


def steps(assistants: Sequence[Task | Assistant] = (), settings: Settings = SETTINGS) -> Task:
    """The critic of a whole solution. Its findings are `step<n>`: an accused line does not hold, those before it do;
    and `answer`, which is right if every line is."""
    return Task(
        "steps",
        instruction="Which answer says rightly which line of the solution is the first that is wrong, if any?",
        frame=_frame_steps,
        facts=_facts_steps,
        findings=_findings_steps,
        assistants=tuple(assistants),
        covers=("steps", "answer"),
        aspects=("verdict", "accused"),
        difficulty=5,
        settings=settings,
    )


def step(settings: Settings = SETTINGS) -> Task:
    """The critic of one line. Its findings carry the name of the line that its parent's answer speaks of."""
    return Task(
        "step",
        instruction="Which answer says rightly whether the line follows from the question and the lines before it?",
        frame=_frame_step,
        facts=_facts_step,
        findings=_findings_step,
        covers=("verdict", "accused"),
        aspects=("line",),
        difficulty=2,
        settings=settings.model_copy(update={"drafts": 1}),
    )


# --- the whole solution ------------------------------------------------------------------------------


def _frame_steps(case: Case, outcome: Outcome) -> list[Case]:
    """The solution with its lines numbered; N/A without lines, without an answer, and beyond `MOST` lines."""
    shown, said = [bare(line).strip() for line in lines(outcome.text)], answer(outcome.text)
    if said is None or not 1 <= len(shown) <= MOST:
        return []
    question = question_of(case)
    numbered = "\n".join(f"{n}. {line}" for n, line in enumerate(shown, 1))
    prompt = STEPS.format(question=question, numbered=numbered, answer=_plain(outcome.text))
    form = rf"Yes, every line is right\.|No, line [1-{len(shown)}] is wrong: {WHY}"
    known = {key: case.data[key] for key in ("worked",) if key in case.data}
    return [Case(prompt, {"question": question, "solution": outcome.text, **known}, form)]


def _plain(text: str) -> str:
    """The number of the line that gives the answer, as it is written there."""
    return next(line for line in reversed(text.splitlines()) if answer(line) is not None).split(maxsplit=1)[-1].strip()


def accused(case: Case, outcome: Outcome) -> tuple[int | None, str]:
    """The line that an answer of `steps` calls wrong, and why; None if it calls none so. Raises `Malformed`."""
    text, most = outcome.text.strip(), len(lines(case.data["solution"]))
    if text == RIGHT:
        return None, ""
    if (found := _WRONG.fullmatch(text)) is None or int(found[1]) > most:
        raise Malformed(f'expected "{RIGHT}" or "No, line N is wrong: why", N from 1 to {most}, not {text[:60]!r}')
    return int(found[1]), found[2].strip()


def _findings_steps(case: Case, outcome: Outcome) -> tuple[Finding, ...]:
    line, why = accused(case, outcome)
    last = len(lines(case.data["solution"])) if line is None else line - 1
    sound = tuple(Finding(f"step{n}", True) for n in range(1, last + 1))
    if line is None:
        return (*sound, Finding("answer", True))
    return (*sound, Finding(f"step{line}", False, note=why), Finding("answer", False))


def _facts_steps(case: Case, outcome: Outcome) -> list[Fact]:
    """What the answer claims: that the solution's answer is right or wrong, which is the conjunction of its lines, each
    of which can be looked at alone; and that the accused line is the first wrong one. What it says of the lines before
    that follows, and has no fact of its own."""
    line, _ = accused(case, outcome)
    hold = lines_hold(case.data, case.data["solution"])
    if not hold:
        return []
    parts = tuple(Fact(f"line{n}", "verdict", Sealed(holds), cost=PRICE) for n, holds in hold.items())
    verdict = Fact("answer", "verdict", parts=parts, claims=line is None)
    if line is None:
        return [verdict]
    return [verdict, Fact(f"step{line}", "accused", Sealed(hold[line]), cost=PRICE, claims=False)]


# --- one line ----------------------------------------------------------------------------------------


def _frame_step(case: Case, outcome: Outcome) -> list[Case]:
    """The accused line and what stands before it, and nothing of what stands after it or of what the critic said."""
    line, _ = accused(case, outcome)
    solution = case.data["solution"]
    all_lines = [bare(one).strip() for one in lines(solution)]
    if line is None:
        able = computing(lines(solution))
        line = able[int(digest("which line", case.data["question"], solution), 16) % len(able)]
    before = "".join(f"{one}\n" for one in all_lines[: line - 1])
    prompt = STEP.format(question=case.data["question"], before=before, line=all_lines[line - 1])
    hold = lines_hold(case.data, solution)
    known = {"holds": hold[line]} if hold else {}
    return [Case(prompt, {"line": line, **known}, rf"(Yes|No): {WHY}")]


def _said(outcome: Outcome) -> tuple[bool, str]:
    """Raises `Malformed`."""
    if (found := _SAID.fullmatch(outcome.text.strip())) is None:
        raise Malformed(f'expected "Yes: why" or "No: why", not {outcome.text[:60]!r}')
    return found[1] == "Yes", found[2].strip()


def _findings_step(case: Case, outcome: Outcome) -> tuple[Finding, ...]:
    """Of the line; and if that is wrong, of the solution's answer, which the line betrays."""
    (holds, why), line = _said(outcome), case.data["line"]
    if holds:
        return (Finding(f"step{line}", True),)
    return Finding(f"step{line}", False, note=why), Finding("answer", False, part=line - 1)


def _facts_step(case: Case, outcome: Outcome) -> list[Fact]:
    holds, _ = _said(outcome)
    if "holds" not in case.data:
        return []
    return [Fact(f"step{case.data['line']}", "line", Sealed(case.data["holds"]), cost=PRICE, claims=holds)]
