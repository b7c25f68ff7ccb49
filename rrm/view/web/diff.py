"""Two texts side by side: which words differ, and which words a fact is about, as pieces to be shown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

MOST = 3000
"""Words compared; of longer texts no differences are marked: it would take too long."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text that is shown alike: whether the other text differs here, and which facts are here."""

    text: str
    differs: bool
    facts: tuple[str, ...]


def differences(a: str, b: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]] | None:
    """Where A and B differ, as (start, stop) in characters of each, by words; None if they are too long for it."""
    words_a, words_b = ([match.span() for match in re.finditer(r"\S+", text)] for text in (a, b))
    if len(words_a) > MOST or len(words_b) > MOST:
        return None
    matcher = SequenceMatcher(None, [a[i:j] for i, j in words_a], [b[i:j] for i, j in words_b], autojunk=False)
    found_a, found_b = [], []
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            continue
        if i < j:
            found_a.append((words_a[i][0], words_a[j - 1][1]))
        if k < m:
            found_b.append((words_b[k][0], words_b[m - 1][1]))
    return found_a, found_b


def pieces(
    text: str, differing: Sequence[tuple[int, int]] = (), spans: Mapping[str, tuple[int, int]] | None = None
) -> list[Piece]:
    """The text cut wherever a difference or a fact begins or ends. Joined, the pieces are the text."""
    spans = spans or {}
    ends = [min(len(text), max(0, at)) for span in (*differing, *spans.values()) for at in span]
    cuts = sorted({0, len(text), *ends})
    return [
        Piece(
            text[start:stop],
            any(low <= start < high for low, high in differing),
            tuple(name for name, (low, high) in spans.items() if low <= start < high),
        )
        for start, stop in itertools.pairwise(cuts)
    ]
