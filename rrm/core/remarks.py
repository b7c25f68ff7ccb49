"""Remarks: what a user says of one outcome, beside which of two is better.

Leike et al. 2018, sections 5.3, 5.5 and 5.7, and Jeon et al. 2020 (arXiv 2002.04833), who read every kind of feedback
as a choice that tells of the reward. What each kind teaches:

    rating          a level of several (Likert)       the reward, by an ordinal likelihood (`rrm.learning.ordinal`)
    approval        yes or no                         the same, of two levels
    unacceptable    a mark, or that there is none     a constraint of its own, never the reward
    correction      what it should have been          that this is better than the outcome: a comparison
    demonstration   somebody's own outcome            that it is better than the agent's: comparisons; a start
    note            in words                          to foretell it, if `Settings.notes` says so; kept and shown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field as Kept

from rrm.core.records import Assistance, Case, Outcome, digest

Kind = Literal["rating", "approval", "unacceptable", "correction", "demonstration", "note"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ASKED: tuple[Kind, ...] = ("rating", "approval", "unacceptable", "correction", "note")
"""What a user can be asked for beside a comparison."""
LEVELS = 5
"""Of a rating, unless it is said."""
MOST_LEVELS = 100
"""Of an imported rating."""


@dataclass(frozen=True)
class Remark:
    """What somebody says of one outcome. Which fields have a meaning hangs on the kind; `faulty` says what is wrong."""

    kind: Kind
    value: Annotated[float | None, Kept(exclude_if=lambda value: value is None)] = None
    """rating: the level, from 1, the worst, to `levels`. approval: 1 approves, 0 does not. unacceptable: 1 it is; 0 it
    was looked at and is not."""
    levels: Annotated[int, Kept(exclude_if=lambda levels: levels == 0)] = 0
    """How many there are in a rating."""
    text: Annotated[str, Kept(exclude_if=lambda text: not text)] = ""
    """note: itself. Of other kinds: why."""
    better: Annotated[Outcome | None, Kept(exclude_if=lambda better: better is None)] = None
    """correction: what it should have been."""
    by: Annotated[str, Kept(exclude_if=lambda by: not by)] = ""
    """Who says it, if that is not simply the judgement's user: of several people each has a scale of their own."""

    @property
    def id(self) -> str:
        """A hash of what it says."""
        better = None if self.better is None else self.better.id
        return digest(self.kind, self.value, self.levels, self.text, better, self.by)

    def faulty(self) -> str:
        """What is wrong with it, in words; empty if nothing is."""
        if self.kind not in KINDS:
            return f"{self.kind!r} is no kind of remark; there are {', '.join(KINDS)}"
        if self.kind == "rating":
            if not 2 <= self.levels <= MOST_LEVELS:
                return f"a rating of {self.levels} levels; give 2 to {MOST_LEVELS}"
            if self.value is None or self.value != self.value or not 1 <= self.value <= self.levels or self.value % 1:
                return f"the rating {self.value} of {self.levels} levels; give a whole number from 1 to {self.levels}"
        if self.kind in ("approval", "unacceptable") and self.value not in (0, 1):
            return f"{self.kind}={self.value}; give 1 for yes or 0 for no"
        if self.kind == "correction" and self.better is None:
            return "a correction without the better outcome"
        if self.kind == "note" and not self.text.strip():
            return "a note without words"
        return ""

    @property
    def level(self) -> tuple[int, int] | None:
        """(level from 0, number of levels) of what is on a scale: a rating or an approval; None for the rest."""
        if self.kind == "rating":
            return int(self.value or 1) - 1, self.levels
        return (int(self.value or 0), 2) if self.kind == "approval" else None


@dataclass(frozen=True)
class Remarked:
    """A remark, and the outcome that it is about, with the assistance that was there when it was made."""

    task: str
    case: Case
    outcome: Outcome
    remark: Remark
    user: str
    round: int = -1
    """That it was made in; below 0: it was imported."""
    assistance: tuple[Assistance, ...] = ()

    @property
    def stream(self) -> str:
        """A name for what is random about it; which assistants were there does not matter."""
        return digest(self.task, self.case.id, self.outcome.id, self.remark.id, self.user, self.round)

    @property
    def scale(self) -> str:
        """Whose scale its level is on: people use the same levels differently."""
        return digest(self.remark.by or self.user, self.remark.kind, self.remark.levels)


def parse(ask: str) -> Mapping[Kind, int]:
    """The kinds that a setting `ask` names -> levels (0 where there are none): "rating=7,unacceptable".

    Raises `ValueError` in words.
    """
    found: dict[Kind, int] = {}
    for part in (one.strip() for one in ask.split(",") if one.strip()):
        name, said, levels = part.partition("=")
        kind = next((one for one in ASKED if one == name), None)
        if kind is None:
            raise ValueError(f"{part!r} is nothing that a user is asked for; there are {', '.join(ASKED)}")
        if kind in found:
            raise ValueError(f"{kind} is named twice")
        if said and (kind != "rating" or not levels.isdecimal() or not 2 <= int(levels) <= 9):
            raise ValueError(f"{part!r}: only a rating has levels, 2 to 9 of them, as in rating=7")
        found[kind] = (int(levels) if said else LEVELS) if kind == "rating" else 0
    return found


def of_kind(remarks: Sequence[Remarked], *kinds: Kind) -> list[Remarked]:
    """Those of these kinds, in order."""
    return [one for one in remarks if one.remark.kind in kinds]
