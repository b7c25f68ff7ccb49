"""Parts of outcomes, judged beside whole ones as outcomes of their own (hierarchical feedback: Leike et al. 2018, 5.4).

A part stands in a case of its own, beside parts of the same kind. Agents that act cut parts out of their episodes
(`rrm.core.parties.Dividing`). Where a task says which parts its outcomes have (`rrm.core.task.Task.divide`), a part
carries what it was cut from, and whatever is known of it is what is known of the whole, as far as it lies in the part:
its facts and their truth, and what assistants say of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rrm.core.records import CUT_FROM, Answer, Assistance, Case, Outcome
from rrm.core.remarks import Kind

CUT = "cut_of"
"""In the data of a case of parts: the id of the case that they were cut from."""
NAME, FORM = "cut_name", "cut_form"
"""There, too, if the task divided them: what its parts are called, and the form of whole outcomes, if they have one."""


def is_part(case: Case) -> bool:
    """Whether the outcomes of a case are parts of those of another."""
    return CUT in case.data


def whole_case(case: Case) -> str:
    """The id of the case whose outcomes a case's own are parts of, or are."""
    return str(case.data.get(CUT, case.id))


def named_part(case: Case) -> str:
    """What the parts in a case are called ("proof"); empty for those that an agent cut anywhere, and for whole ones."""
    return str(case.data.get(NAME, ""))


def instruction_for(instruction: str, case: Case) -> str:
    """What whoever judges outcomes of a case is asked: of parts, that they are parts, and which."""
    if not is_part(case):
        return instruction
    name = f": {named_part(case)}" if named_part(case) else ""
    return f"{instruction} Only a part of each is shown and judged{name}."


def asked_alone(asked: Mapping[Kind, int], case: Case) -> Mapping[Kind, int]:
    """What of `Settings.asked` is asked of outcomes of a case: of a part of a text only a note, since its levels are
    not those of whole ones, and nobody's work shall be lost."""
    return {kind: levels for kind, levels in asked.items() if kind == "note" or NAME not in case.data}


def part_case(case: Case, name: str) -> Case:
    """The case of the parts with this name. It has no form: a part need not have that of the whole."""
    data = {**case.data, CUT: case.id, NAME: name} | ({FORM: case.form} if case.form else {})
    return replace(case, data=data, form="")


def cut_out(outcome: Outcome, begin: int, end: int, facts: Collection[str]) -> Outcome:
    """The part of an outcome's text from one character to before another, in which these facts lie."""
    whole: dict[str, Any] = {"text": outcome.text}
    whole |= {} if outcome.data is None else {"data": dict(outcome.data)}
    whole |= {} if outcome.finished else {"finished": False}
    cut = {"whole": whole, "begin": begin, "end": end, "facts": sorted(facts)}
    return Outcome(outcome.text[begin:end], data={CUT_FROM: cut})


@dataclass(frozen=True)
class Cut:
    """What a part was cut from, where, and the names of the facts that lie in it."""

    case: Case
    outcome: Outcome
    begin: int
    end: int
    facts: frozenset[str]


def cut_from(case: Case, outcome: Outcome) -> Cut | None:
    """What `cut_out` made an outcome from; None for what it did not, as somebody's file may have it."""
    cut = (outcome.data or {}).get(CUT_FROM)
    if cut is None or not is_part(case) or around(outcome.text, outcome.data) is None:
        return None
    data = {name: value for name, value in case.data.items() if name not in (CUT, NAME, FORM)}
    whole = cut["whole"]
    return Cut(
        replace(case, data=data, form=case.data.get(FORM, "")),
        Outcome(whole["text"], data=whole.get("data"), finished=whole.get("finished", True)),
        cut["begin"], cut["end"], frozenset(cut["facts"]),
    )  # fmt: skip


def around(text: str, data: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """What stands before and behind a part with this text, in what it was cut from; None for what is no such part."""
    match (data or {}).get(CUT_FROM):
        case {"whole": {"text": str(whole)}, "begin": int(begin), "end": int(end), "facts": [*names]} if (
            whole[begin:end] == text and all(isinstance(name, str) for name in names)
        ):
            return whole[:begin], whole[end:]
    return None


def concerning(said: Assistance, facts: Collection[str]) -> Assistance:
    """What of an assistance on a whole outcome concerns a part, in which these facts lie. An answer that speaks of
    other facts only is left out; one that speaks of none of them stays whole, with all that was said of it."""
    kept = (_concerning(answer, facts) for answer in said.answers)
    return replace(said, answers=tuple(answer for answer in kept if answer is not None))


def _concerning(answer: Answer, facts: Collection[str]) -> Answer | None:
    inside = tuple(finding for finding in answer.findings if finding.fact in facts)
    if len(inside) == len(answer.findings):
        return answer
    if not inside:
        return None
    return replace(answer, findings=inside, below=tuple(concerning(sub, facts) for sub in answer.below))
