"""Whether a text is English, by its commonest words: what tools that know English only ask before they judge."""

from __future__ import annotations

import re

WORDS = 12
"""Shorter texts, in words, are taken for English: of so few, none need be a common one."""
SHARE = 0.08
"""Least share of the commonest words in what is English; prose has 0.3 and more, headlines 0.1."""
LATIN = "\u024f"
"""The last of the Latin letters."""
_COMMON = frozenset(
    """the of and a to in is was it for on are as with his her they at be this from i have or by one had not but what
    all were when we there can an your which their if do will each about how up out them then she many some so these
    would into has more its no he that you my me our""".split()  # noqa: SIM905
)


def is_english(text: str) -> bool:
    """False of a text in another script or language, or of a mere list of words."""
    letters = [c for c in text if c.isalpha()]
    if 2 * sum(c > LATIN for c in letters) > len(letters):
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) < WORDS or sum(word in _COMMON for word in words) >= SHARE * len(words)
