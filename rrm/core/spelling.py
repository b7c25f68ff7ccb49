"""What a misspelled name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str:
    """Names that may have been meant: "; did you mean ...?", or nothing. Of a path, its end may be meant."""
    by_end = {end: path for path in names for end in (path.rsplit("/", 1)[-1], path)}
    close = difflib.get_close_matches(name, by_end, n=3, cutoff=0.55)
    found = list(dict.fromkeys(by_end[end] for end in close))
    return f"; did you mean {' or '.join(repr(one) for one in found)}?" if found else ""
