"""What users note of a judgement in numbers, named in words: perceived values, and the chance of A in both orders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PERCEIVED = re.compile(
    r"(-?\d{1,9}\.\d{3}) against (-?\d{1,9}\.\d{3})(?:; answers read: (\d{1,9}), stood: (\d{1,9}))?"
)
"""Of `rrm.users.bounded`, and of users of a world that look at it in the same way."""
_ORDERS = re.compile(r"p\(A\) (\d\.\d{3}), orders (\d\.\d{3}) and (\d\.\d{3})")
"""Of `rrm.users.pairwise.weigh`."""
_ABSTAINED = re.compile(r"(abstained: [^;]{1,200}); ")


@dataclass(frozen=True)
class UserNote:
    """A note: its figures, each with its name, and what else it says."""

    figures: Sequence[tuple[str, str]] = ()
    text: str = ""


def named_note(user: str, note: str) -> UserNote:
    """A user's note. What people wrote is left as it is: it may look like anything."""
    if user.startswith(("human(", "imported(", "reviewers(")):
        return UserNote(text=note)
    told = _ABSTAINED.match(note)
    rest = note[told.end() :] if told else note
    if found := _ORDERS.fullmatch(rest):
        mean, first, second = map(float, found.groups())
        figures = [
            ("probability that A is better, asked in the order A B", f"{first:.3f}"),
            ("probability that A is better, asked in the order B A", f"{second:.3f}"),
            ("mean of both, which decides", f"{mean:.3f}"),
            ("position bias: the first less the second", f"{first - second:+z.3f}".replace("-", "−")),
        ]
        return UserNote(figures, told[1] if told else "")
    if found := _PERCEIVED.fullmatch(note):
        a, b, read, stood = found.groups()
        figures = [(f"{_what(user)} of {side}", _value(value)) for side, value in (("A", a), ("B", b))]
        figures.append(("A less B", f"{float(a) - float(b):+z.3f}".replace("-", "−")))
        if read is not None:
            figures += [("answers read to follow a claim down", read), ("of which stood", stood)]
        return UserNote(figures)
    return UserNote(text=note)


def _what(user: str) -> str:
    return "share of playouts won, after the move" if user.startswith("playout(") else "perceived value"


def _value(text: str) -> str:
    return "−1, as for anything that is not what was asked for" if text == "-1.000" else text.replace("-", "−")
