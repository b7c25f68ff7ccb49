"""A critic of texts: it is asked questions about a text, and answers each, pointing at what is wrong.

    No, "the dog run home".
    plot: no "the moon", and on the next line flow: yes     (of several questions)

Every assistant in this package is such a critic. Its text may come from any tree, so critics are shared among trees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rrm import Case, Fact, Finding, Outcome, Sealed, Settings, Task, TaskError
from rrm.core.task import Assistant
from rrm.core.tools import Tool, evidence
from rrm.core.verdicts import SHOWN, form, prompt, quotes, read

SETTINGS = Settings(
    rounds=1, cases=12, outcomes=4, comparisons=24, frame_cases=0, max_tokens=40, temperature=0.8, drafts=1,
    steps=4, batch=4, group=4, accept=8,
)  # fmt: skip
"""Small: a real model on a CPU takes seconds for an answer."""

Select = Callable[[str], str]
"""The part of a text that a critic is shown; empty: there is nothing to judge, which is N/A."""


def critic(
    name: str,
    questions: Mapping[str, str],
    covers: Sequence[str] = (),
    select: Select = str.strip,
    tool: Tool | None = None,
    shows: Sequence[str] = (),
    assistants: Sequence[Task | Assistant] = (),
    difficulty: float = 4,
    settings: Settings | None = None,
) -> Task:
    """A critic as a subtask.

    Parameters
    ----------
    questions: name -> question, to be answered yes or no, of several also N/A; the findings carry these names.
    select: the part of the text that it is shown; "" where there is nothing to judge, which is N/A.
    tool: what it examines that part with; the report stands in the prompt, and the critic may distrust it.
    shows: what else it is shown, by its name in the data of the case that the text was written for, or of the case
        that this one was made from, and so on up to the root's: ["passage"]. Not there: `TaskError`.
    assistants: who helps the user judge this critic's answers; see `examined` for tools.
    """

    def frame(case: Case, outcome: Outcome) -> list[Case]:
        text = select(outcome.text)
        if not text:
            return []
        data = {"prompt": case.prompt, "data": dict(case.data), "outcome": outcome.text, "text": text[:SHOWN]}
        said = [f"{key.capitalize()}:\n{material(case, key)}" for key in shows]
        said += [evidence(tool, case, Outcome(text))] if tool is not None else []
        if tool is not None:
            data |= {"tool": tool.name, "version": tool.version}
        return [Case(prompt(questions, text, said), data, form(list(questions)))]

    return Task(
        name,
        instruction=f"Which answer judges the text rightly? {' '.join(questions.values())}",
        frame=frame,
        facts=lambda case, outcome: _facts(case, outcome, list(questions)),
        findings=lambda case, outcome: read(outcome.text, list(questions)),
        assistants=tuple(assistants),
        covers=tuple(covers),
        difficulty=difficulty,
        settings=settings or SETTINGS,
        tools=() if tool is None else (tool,),
    )


def material(case: Case, key: str) -> str:
    """What the root's case, or one on the way down from it, has under this key: a critic's case keeps the data of the
    case that it was made from. Raises `TaskError` if none has."""
    data: Any = case.data
    while isinstance(data, Mapping) and key not in data:
        data = data.get("data")
    if not isinstance(data, Mapping):
        raise TaskError(f"no case above has {key!r} in its data; give it at the root: Case(prompt, {{{key!r}: ...}})")
    return str(data[key])


def examined(case: Case, outcome: Outcome) -> tuple[Case, Outcome]:
    """For a tool below a critic (`tool_assistant(tool, examines=examined)`): it examines the text that the critic was
    asked about, not the critic's answer."""
    return Case(case.data["prompt"], case.data["data"]), Outcome(case.data["outcome"])


def _facts(case: Case, outcome: Outcome, names: Sequence[str]) -> list[Fact]:
    """What can be checked about a critic's answer: that what it calls wrong is quoted from the text. Whether the text
    is wrong there is for the user to say. Raises `Malformed` if a question is not answered."""
    found = {finding.fact: finding for finding in read(outcome.text, names)}
    text = " ".join(case.data["text"].split())
    return [Fact(f"{name}-points", "points", Sealed(_points(found.get(name), text))) for name in names]


def _points(finding: Finding | None, text: str) -> bool:
    if finding is None or finding.holds:
        return True
    quoted = quotes(finding.note)
    return bool(quoted) and all(" ".join(quote.split()) in text for quote in quoted)
