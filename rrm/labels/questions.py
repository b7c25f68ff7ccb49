"""A question for a person, what they say of it, and how several people's labels make one judgement."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rrm.core.errors import RRMError
from rrm.core.judgements import Check, Judgement, Pair
from rrm.core.parts import instruction_for
from rrm.core.records import Answer, Assistance, Case, Outcome, Spans, digest
from rrm.core.remarks import Kind, Remark, parse
from rrm.core.task import Drawing, Picture

STRENGTHS: Mapping[str, float] = {"slightly": 0.75, "clearly": 1.0}
"""How much the better one is preferred. The default, "clearly", is what the simulated users say."""

Choice = Literal["first", "second", "tie", "skip"]
"""What was chosen, in the order the outcomes were shown."""
Verdict = Literal["yes", "no", "n/a"]


class LabelError(RRMError, ValueError):
    """A label that cannot be kept: of an unknown question, or with a value that means nothing."""


@dataclass(frozen=True)
class Said:
    """One assistant's answer about one outcome of a pair, as a labeler may mark it."""

    at: str
    """Where: "a/0", "a/1", ... down the assistance on A, depth first; "b/0", ... on B."""
    depth: int
    by: Assistance
    answer: Answer | None
    """None: there was nothing to ask this assistant about."""

    @property
    def verdict(self) -> str:
        """What it comes down to, in the words of the viewer: "yes", "no" or "N/A"."""
        if self.answer is None or not self.answer.findings:
            return "N/A"
        return "no" if self.accused else "yes"

    @property
    def accused(self) -> list[str]:
        """What it says does not hold: "step1, part 2"."""
        return [plainly(f.fact, f.part) for f in (self.answer.findings if self.answer else ()) if not f.holds]

    @property
    def markable(self) -> bool:
        """Whether it can be right or wrong: N/A is neither."""
        return self.answer is not None and bool(self.answer.findings)


def said(pair: Pair) -> list[Said]:
    """Every answer on a pair, down the tree: an assistant's answer, then what was said of that answer."""
    out: list[Said] = []

    def walk(side: str, assistance: Iterable[Assistance], depth: int) -> None:
        for one in assistance:
            for answer in one.answers or (None,):
                out.append(Said(f"{side}/{sum(s.at.startswith(side) for s in out)}", depth, one, answer))
                walk(side, answer.below if answer else (), depth + 1)

    walk("a", pair.assistance_a, 0)
    walk("b", pair.assistance_b, 0)
    return out


def plainly(fact: str, part: int | None = None) -> str:
    """A fact by the name that its task gives it, or a part of it: "step1, part 2"."""
    return fact if part is None else f"{fact}, part {part + 1}"


@dataclass(frozen=True)
class Drawn:
    """An outcome in pictures (`Task.drawing`), as it stands alone, and with what its assistants said of it."""

    alone: tuple[Picture, ...] = ()
    assisted: tuple[Picture, ...] = ()

    @classmethod
    def of(cls, draw: Drawing, case: Case, outcome: Outcome, assistance: Sequence[Assistance]) -> Drawn:
        """Drawn twice, so that what is shown alone cannot hang on the assistance."""
        return cls(tuple(draw(case, outcome, ())), tuple(draw(case, outcome, assistance)))


@dataclass(frozen=True)
class Pictured:
    """Both outcomes of a pair in pictures, A first; without any where the task draws none."""

    drawn: tuple[Drawn, Drawn] = (Drawn(), Drawn())

    @classmethod
    def of(cls, pair: Pair, draw: Drawing) -> Pictured:
        """Those of a pair."""
        return cls((
            Drawn.of(draw, pair.case, pair.a, pair.assistance_a), Drawn.of(draw, pair.case, pair.b, pair.assistance_b)
        ))  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A pair that a person is asked about."""

    id: str
    task: str
    round: int
    instruction: str
    pair: Pair
    spans: tuple[Spans, Spans]
    """Where the facts are in the text of A and of B."""
    overlap: int
    unassisted: float
    drawn: tuple[Drawn, Drawn] = (Drawn(), Drawn())
    """A and B."""
    ask: str = ""
    """What is asked of each outcome beside which is better, as `Settings.ask` says it."""

    @property
    def asks(self) -> str:
        """The instruction, and, where parts of outcomes are shown, that and which."""
        return instruction_for(self.instruction, self.pair.case)

    @property
    def asked(self) -> Mapping[Kind, int]:
        """The kinds of remarks that are asked for -> levels, of ratings."""
        return parse(self.ask)

    @property
    def assistable(self) -> bool:
        """Whether there is assistance on it, shown or not."""
        return bool(self.pair.assistance_a or self.pair.assistance_b)

    def swapped(self, labeler: str) -> bool:
        """Whether this person sees B first. Random, and the same however often the page is loaded."""
        return random.Random(digest("order", self.id, labeler)).random() < 0.5

    def assisted(self, labeler: str) -> bool:
        """Whether this person sees the assistance: a random share of pairs, `unassisted`, is shown without. Always the
        same for the same person."""
        if not self.assistable:
            return False
        return random.Random(digest("assisted", self.id, labeler)).random() >= self.unassisted

    def pictures(self, assisted: bool) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
        """Those of A and of B. `assisted`: with what follows from the assistance; it is in no other picture."""
        a, b = (one.assisted if assisted else one.alone for one in self.drawn)
        return a, b

    @property
    def opening(self) -> int:
        """The picture to begin with, from 0: the last that shows no assistance."""
        return max(0, *(len(one.alone) - 1 for one in self.drawn))


@dataclass(frozen=True)
class Label:
    """What one person said of one question. `preference` is for the pair's own A; None: skipped."""

    seq: int
    key: str
    question: str
    labeler: str
    preference: float | None
    strength: str
    swapped: bool
    assisted: bool
    """Whether the assistance was there to be seen."""
    looked: bool
    """Whether it was there and not hidden all the time."""
    seconds: float
    note: str
    marks: Mapping[str, Verdict]
    """Where (`Said.at`) -> whether this person finds the answer right."""
    at: float
    remarks_a: tuple[Remark, ...] = ()
    """What this person says of the pair's own A alone, without their name; of B: `remarks_b`."""
    remarks_b: tuple[Remark, ...] = ()


def combine(pair: Pair, labels: Sequence[Label]) -> Judgement:
    """Several people's labels of a pair as one judgement: the mean preference of those who did not skip. What they said
    of one outcome stays each person's own, who is named in it: nobody's levels mean the same as another's."""
    given = [label.preference for label in labels if label.preference is not None]
    people = list(dict.fromkeys(label.labeler for label in labels))
    notes = [f"{label.labeler}: {label.note}" if len(people) > 1 else label.note for label in labels if label.note]
    return Judgement(
        preference=sum(given) / len(given) if given else None,
        checks=tuple(check for label in labels for check in checks_of(pair, label.marks)),
        note="\n".join(notes),
        assisted=any(label.looked for label in labels),
        by=f"human({', '.join(people)})",
        seconds=sum(label.seconds for label in labels),
        remarks_a=tuple(replace(one, by=label.labeler) for label in labels for one in label.remarks_a),
        remarks_b=tuple(replace(one, by=label.labeler) for label in labels for one in label.remarks_b),
    )


def checks_of(pair: Pair, marks: Mapping[str, Verdict]) -> list[Check]:
    """A person's marks as checks: the answer as a whole was right or wrong. N/A checks nothing."""
    found = []
    for one in said(pair):
        verdict = marks.get(one.at, "n/a")
        if verdict == "n/a" or one.answer is None or not one.answer.findings:
            continue
        findings = one.answer.findings
        below = {f.fact: f.holds for sub in one.answer.below for under in sub.tree() for f in under.findings}
        contested = any(below.get(f.fact, f.holds) != f.holds for f in findings)
        side: Literal["a", "b"] = "a" if one.at.startswith("a") else "b"
        fact = findings[0].fact if len(findings) == 1 and findings[0].part is None else ""
        right = verdict == "yes"
        found.append(
            Check(one.by.assistant, all(f.holds for f in findings), right, contested, side=side, fact=fact)
        )
    return found


def named(labeler: str) -> str:
    """A labeler's name as it is kept. Raises `LabelError` if it is none."""
    name = " ".join(labeler.split())
    if not name or len(name) > 40 or not name.isprintable() or any(c in name for c in "(),"):
        raise LabelError(f"name {labeler[:60]!r}: give 1 to 40 letters, without brackets and commas")
    return name


def side(preference: float) -> float:
    """B, tie or A: a preference without its strength."""
    return 0.5 if preference == 0.5 else float(preference > 0.5)


def preference_of(choice: str, strength: str, swapped: bool) -> float | None:
    """The preference for the pair's own A."""
    if choice == "skip":
        return None
    if choice not in ("first", "second", "tie"):
        raise LabelError(f"choice {choice!r}: give first, second, tie or skip")
    if choice == "tie":
        return 0.5
    return STRENGTHS[strength] if (choice == "first") != swapped else 1 - STRENGTHS[strength]
