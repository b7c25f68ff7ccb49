"""Labels of steps: which step of a worked-out answer is the first that is wrong, as comparisons of a critic's answers.

The case is what a critic with one question is asked about the steps (`rrm_assistants.text.critic`), the outcomes are
answers to it, and the answer that agrees with the label is preferred:

    no, "3 * 4 = 13"    against   yes
    no, "3 * 4 = 13"    against   no, "2 + 2 = 4"    a step before the first wrong one, drawn
    yes                 against   no, "2 + 2 = 4"    where no step is wrong; a step, drawn

What comes after the first wrong step has no label, and is named in no answer. The label is in the preference and
nowhere else: neither it nor the right answer to the problem enters the case. Five kinds of rows are read:

- BIG-Bench-Mistake (Tyen et al. 2023, arXiv 2311.08516): `input`, `steps`, `mistake_index` (from 0; null: none).
- PRM800K (Lightman et al. 2023, arXiv 2305.20050): `question.problem`, `label.steps` with `completions` rated -1 to 1.
- Math-Shepherd (Wang et al. 2023, arXiv 2312.08935): `input`, whose steps end in a sign; `label`, with + or - there.
- TRL's stepwise supervision: `prompt`, `completions`, `labels` (true or false).
- ProcessBench (Zheng et al. 2024, arXiv 2412.06559): `problem`, `steps`, `label` (from 0; -1: none).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Case, Outcome, digest
from rrm.core.verdicts import QUOTED, SHOWN, form, prompt
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import LeftOut, Row, short, text_of
from rrm.exchange.imports.preferences import drawn

QUESTION = "Is every step of the text right?"
SIGN = "ки"
"""Where a step ends in Math-Shepherd."""
FIRST = "Step 1:"


@dataclass(frozen=True)
class Labeled:
    """The steps of an answer, and which is the first that is wrong.

    mistake: from 0; None: none is.
    """

    problem: str
    steps: tuple[str, ...]
    mistake: int | None


def looks(row: Mapping[str, Any]) -> bool:
    """Whether a row is of one of the kinds."""
    raw = Row.of(row).raw
    return _kind(raw) is not None


def comparisons_of(row: Mapping[str, Any], node: str, source: str, question: str = QUESTION) -> list[Comparison]:
    """A row's comparisons at a critic's node. Raises `ExchangeError` if it is of no kind, `LeftOut` if it has no label
    that tells two answers apart."""
    labeled = labeled_of(row)
    steps = labeled.steps
    case = case_of(labeled, question)
    if len(case.data["outcome"]) > SHOWN:
        raise LeftOut(f"its steps have more than the {SHOWN} characters that a critic is shown")
    rng = random.Random(digest("which step", case.id))
    if labeled.mistake is None:
        right, wrong = "yes", [_no(steps, rng.randrange(len(steps)))]
    else:
        right, wrong = _no(steps, labeled.mistake), ["yes"]
        if labeled.mistake:
            wrong.append(_no(steps, rng.randrange(labeled.mistake)))
    if not right:
        raise LeftOut("its wrong step has no words of its own that can be quoted")
    found = [
        drawn(Comparison(Pair(node, case, Outcome(right), Outcome(one)), Judgement(1.0), -1, f"imported({source})"))
        for one in wrong
        if one
    ]
    if not found:
        raise LeftOut("its steps have no words of their own that can be quoted")
    return found


def case_of(labeled: Labeled, question: str = QUESTION) -> Case:
    """What the critic is asked about the steps."""
    text = "\n".join(labeled.steps).strip()
    data = {"prompt": labeled.problem, "data": {}, "outcome": text, "text": text[:SHOWN]}
    return Case(prompt({"steps": question}, text), data, form(["steps"]))


def answers_of(labeled: Labeled) -> dict[int | None, str]:
    """What a critic can answer: that a step is the first wrong one (from 0), or None: none is. Steps that have no words
    of their own are left out."""
    named: dict[int | None, str] = {None: "yes"}
    return named | {i: said for i in range(len(labeled.steps)) if (said := _no(labeled.steps, i))}


def _no(steps: Sequence[str], which: int) -> str:
    """The answer that names a step, by words that no other has; empty if it has none."""
    pieces = [piece.strip() for line in steps[which].splitlines() for piece in line.split('"')]
    quote = max(pieces, key=len, default="")[:QUOTED].strip()
    others = " ".join(" ".join(step.split()) for i, step in enumerate(steps) if i != which)
    return f'no, "{quote}"' if len(quote) > 1 and " ".join(quote.split()) not in others else ""


# --- the kinds ---------------------------------------------------------------------------------------


def labeled_of(row: Mapping[str, Any]) -> Labeled:
    """The label that a row has. Raises `ExchangeError` if it is of no kind, `LeftOut` if nobody labeled it."""
    row = Row.of(row)
    kind = _kind(row.raw)
    if kind is None:
        raise ExchangeError(
            f"no labels of steps; its columns: {', '.join(row) or 'none'}. There must be steps and mistake_index, or "
            "completions and labels, or question and label (PRM800K), or input and label (Math-Shepherd), or problem, "
            "steps and label (ProcessBench)"
        )
    readers = {
        "mistake": _mistake, "stepwise": _stepwise, "prm800k": _prm800k, "shepherd": _shepherd,
        "processbench": _processbench,
    }  # fmt: skip
    found = readers[kind](row)
    if not found.steps:
        raise LeftOut("an answer without steps")
    if found.mistake is not None and not 0 <= found.mistake < len(found.steps):
        raise ExchangeError(f"step {found.mistake} is called wrong, of {len(found.steps)}")
    return found


def _kind(raw: Mapping[str, Any]) -> str | None:
    if {"steps", "mistake_index"} <= set(raw):
        return "mistake"
    if {"problem", "steps", "label"} <= set(raw) and isinstance(raw["steps"], list):
        return "processbench"
    if {"prompt", "completions", "labels"} <= set(raw):
        return "stepwise"
    if isinstance(raw.get("question"), Mapping) and isinstance(raw.get("label"), Mapping):
        return "prm800k"
    if isinstance(raw.get("label"), str) and isinstance(raw.get("input"), str) and SIGN in raw["input"]:
        return "shepherd"
    return None


def _mistake(row: Row) -> Labeled:
    index = row["mistake_index"]
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise ExchangeError(f"mistake_index is {short(index)}, not the number of a step")
    return Labeled(text_of(row.get("input"), "input"), _texts(row["steps"], "steps"), index)


def _processbench(row: Row) -> Labeled:
    label = row["label"]
    if isinstance(label, bool) or not isinstance(label, int) or label < -1:
        raise ExchangeError(f"label is {short(label)}, not the number of a step, or -1")
    return Labeled(text_of(row["problem"], "problem"), _texts(row["steps"], "steps"), None if label < 0 else label)


def _stepwise(row: Row) -> Labeled:
    steps, labels = _texts(row["completions"], "completions"), row["labels"]
    if not isinstance(labels, list) or len(labels) != len(steps) or not all(isinstance(one, bool) for one in labels):
        raise ExchangeError(f"labels are {short(labels)}, not true or false for each of {len(steps)} completions")
    return Labeled(text_of(row["prompt"], "prompt"), steps, labels.index(False) if False in labels else None)


def _prm800k(row: Row) -> Labeled:
    """The way that was taken through the steps, as far as the first one rated -1."""
    problem, label = text_of(row["question"].get("problem"), "question.problem"), row["label"]
    steps: list[str] = []
    for step in _list(label.get("steps"), "label.steps"):
        completions, chosen = _list(step.get("completions") or [], "completions"), step.get("chosen_completion")
        if chosen is None and step.get("human_completion") is not None:
            written = step["human_completion"]
            steps.append(text_of(written.get("text") if isinstance(written, Mapping) else written, "human_completion"))
            continue
        if not completions or not (chosen is None or (isinstance(chosen, int) and 0 <= chosen < len(completions))):
            break
        taken = completions[chosen or 0]
        steps.append(text_of(taken.get("text"), "a completion's text"))
        if taken.get("rating") is None:
            raise LeftOut("nobody rated one of its steps, before any that is wrong")
        if taken.get("rating") == -1:
            return Labeled(problem, tuple(steps), len(steps) - 1)
    if label.get("finish_reason") != "solution":
        raise LeftOut(f"nobody labeled it to the end (finish_reason: {label.get('finish_reason')})")
    return Labeled(problem, tuple(steps), None)


def _shepherd(row: Row) -> Labeled:
    parts, label, signs, place = row["input"].split(SIGN), row["label"], [], 0
    for part in parts[:-1]:
        place += len(part)
        signs.append(label[place : place + 1])
        place += 1
    if set(signs) - {"+", "-"} or not label.startswith(parts[0]):
        raise ExchangeError(f"label is not the input with + or - for every {SIGN!r}")
    problem, first, rest = parts[0].partition(FIRST)
    if not first:
        raise ExchangeError(f"input has no {FIRST!r}, where its question would end")
    steps = [f"{first}{rest}".strip(), *(part.strip() for part in parts[1:-1])]
    mistake = signs.index("-") if "-" in signs else None
    return Labeled(text_of(problem.strip(), "input"), tuple(text_of(step, "a step") for step in steps), mistake)


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ExchangeError(f"{what} are {short(value)}, not a list of texts")
    return tuple(text_of(one, f"one of {what}") for one in value)


def _list(value: object, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise ExchangeError(f"{what}: {short(value)} is not a list of objects")
    return value
