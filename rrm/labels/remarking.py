"""What a person can be asked of each outcome of a pair, beside which is better, and what they said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from rrm.core import border
from rrm.core.records import CUT_FROM, Outcome
from rrm.core.remarks import KINDS, Kind, Remark
from rrm.labels.questions import LabelError
from rrm.store.encoding import dumped

Sides = tuple[tuple[Remark, ...], tuple[Remark, ...]]
_sides = TypeAdapter(Sides)


def offered(asked: Mapping[Kind, int], outcome: Outcome) -> dict[Kind, int]:
    """The kinds that are asked of this outcome -> levels. What it should have been can be typed of a text, not of what
    is data (a move, an episode). Of a part of a text only a note is asked (`rrm.core.parts.asked_alone`)."""
    if CUT_FROM in (outcome.data or {}):
        return {kind: levels for kind, levels in asked.items() if kind == "note"}
    return {kind: levels for kind, levels in asked.items() if kind != "correction" or outcome.data is None}


def remark_of(kind: Kind, value: float | None = None, text: str = "", levels: int = 0) -> Remark:
    """A remark as it is typed: of a correction, `text` is what the outcome should have been, blanks around it aside."""
    if kind == "correction":
        return Remark(kind, better=Outcome(text.strip()))
    return Remark(kind, value, levels if kind == "rating" else 0, text)


def heard(
    asked: Mapping[Kind, int], outcome: Outcome, said: Sequence[Remark], judged: bool, where: str
) -> tuple[Remark, ...]:
    """What a person said of an outcome, as it is kept. Raises `LabelError` if it was not asked for or means nothing.

    judged: whether they judged the pair, and did not skip it. Who judges it and does not mark an outcome unacceptable,
    where that is asked, has looked and found that it is not.
    """
    offer = offered(asked, outcome)
    try:
        found = [replace(one, by="") for one in border.remarked(said, where)]
    except border.BorderError as error:
        raise LabelError(str(error)) from error
    kinds = [one.kind for one in found]
    for one in found:
        if one.kind not in offer:
            listed = ", ".join(offer) or "nothing"
            raise LabelError(f"{where}: nobody asked for a {one.kind}; asked for is {listed}. Load the page again")
        if kinds.count(one.kind) > 1:
            raise LabelError(f"{where}: two remarks of the kind {one.kind}; give one")
        if one.kind == "rating" and one.levels != offer["rating"]:
            raise LabelError(f"{where}: a rating of {one.levels} levels; there are {offer['rating']} here")
        if one.better is not None:
            _check_correction(one.better, outcome, where)
    if judged and "unacceptable" in offer and "unacceptable" not in kinds:
        found.append(Remark("unacceptable", 0.0))
    return tuple(sorted(found, key=lambda one: KINDS.index(one.kind)))


def _check_correction(better: Outcome, outcome: Outcome, where: str) -> None:
    if better != Outcome(better.text):
        raise LabelError(f"{where}: a correction that is more than a text; give what it should have been, as text")
    if not better.text.strip():
        raise LabelError(f"{where}: an empty correction; write what it should have been, or leave it as it was")
    if better.content == outcome.content:
        raise LabelError(f"{where}: the correction is the outcome itself; change it, or take it back")


def written(sides: Sides) -> str:
    """Remarks on the pair's own A and B, for a column; empty without any."""
    return dumped(_sides, sides) if any(sides) else ""


def read(body: str) -> Sides:
    """The same back."""
    return _sides.validate_json(body) if body else ((), ())
