"""Names: what a misspelled one may have meant, and one that is too long for its place."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from rrm.core.errors import NodeError


def nearest(name: str, names: Iterable[str]) -> str:
    """Names that may have been meant: "; did you mean ...?", or nothing. Of a path, its end may be meant."""
    by_end = {end: path for path in names for end in (path.rsplit("/", 1)[-1], path)}
    close = difflib.get_close_matches(name, by_end, n=3, cutoff=0.55)
    found = list(dict.fromkeys(by_end[end] for end in close))
    return f"; did you mean {' or '.join(repr(one) for one in found)}?" if found else ""


def named_node(name: str, paths: Collection[str], where: str) -> str:
    """The path of the node that is called this: by its path, or by an end of it ("proofs", "proofs/steps") that no
    other has. Raises `NodeError`, which names the nearest.

    where: what has these nodes, for the error.
    """
    if name in paths:
        return name
    found = [path for path in paths if path.endswith(f"/{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise NodeError(f"{where} has several nodes {name!r}; give the path of one: {', '.join(found)}")
    raise NodeError(f"{where} has no node {name!r}{nearest(name, paths)}\nIts nodes: {', '.join(paths)}")


def end_of(path: str, most: int, others: Collection[str] = ()) -> str:
    """A path in that many characters: shortened from the left, as its end tells it from `others`; at a slash
    ("…/steps") if no other ends so, else anywhere ("…ments/steps")."""
    if len(path) <= most:
        return path
    parts = path.split("/")
    ends = (f"…/{'/'.join(parts[i:])}" for i in range(1, len(parts)))
    alone = (end for end in ends if not any(one.endswith(end[1:]) for one in others if one != path))
    return next((end for end in alone if len(end) <= most), f"…{path[len(path) - most + 1 :]}")
