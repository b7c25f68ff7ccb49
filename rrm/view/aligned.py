"""What assistants said of the two outcomes of a comparison, a row for each, so that the two can be compared by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rrm.view.comparisons import ShownAnswer


@dataclass(frozen=True)
class AlignedRow:
    """One assistant's answer about A beside its answer about B; None where it said nothing of one.

    Attributes
    ----------
    under: the name of the assistant on whose answers this one spoke; empty for the judged task's own.
    depth: 0 for the judged task's own assistants, 1 for theirs, and so on.
    nth: which of its answers it is, from 1.
    of: how many it gave, of the outcome of which it gave more.
    """

    assistant: str
    under: str
    depth: int
    nth: int
    of: int
    a: ShownAnswer | None
    b: ShownAnswer | None

    @property
    def name(self) -> str:
        """The last part of the assistant's path."""
        return self.assistant.rsplit("/", 1)[-1]


def align(
    a: Sequence[ShownAnswer], b: Sequence[ShownAnswer], under: str = "", depth: int = 0
) -> list[AlignedRow]:
    """The rows of two sides' answers, every assistant followed by those that spoke of its answer. Where one gave
    several answers, those about the same facts stand beside one another, and what is left in its order."""
    rows: list[AlignedRow] = []
    for assistant in dict.fromkeys(one.assistant for one in (*a, *b)):
        left, right = ([one for one in side if one.assistant == assistant] for side in (a, b))
        both = _together(left, right)
        for nth, (one, other) in enumerate(both, 1):
            row = AlignedRow(assistant, under, depth, nth, len(both), one, other)
            below_a, below_b = (side.below if side else () for side in (one, other))
            rows += [row, *align(below_a, below_b, row.name, depth + 1)]
    return rows


def _together(
    left: Sequence[ShownAnswer], right: Sequence[ShownAnswer]
) -> list[tuple[ShownAnswer | None, ShownAnswer | None]]:
    """One assistant's answers about A, in their order, each with the one about B that stands beside it."""
    rest = list(right)
    found: list[tuple[ShownAnswer, ShownAnswer | None]] = []
    for one in left:
        same = next((other for other in rest if _facts(other) == _facts(one) != frozenset()), None)
        rest = [other for other in rest if other is not same]
        found.append((one, same))
    both: list[tuple[ShownAnswer | None, ShownAnswer | None]] = []
    for one, same in found:
        both.append((one, same or (rest.pop(0) if rest else None)))
    return both + [(None, other) for other in rest]


def _facts(one: ShownAnswer) -> frozenset[str]:
    return frozenset(str(finding["fact"]) for finding in one.findings)
