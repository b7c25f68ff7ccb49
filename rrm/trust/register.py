"""What was computed of a node's weights and put into RUN/trust, as run.db notes it: a register that is only added to.

`rrm.trust.shelf` notes each file there with its hash, in rows that are linked like all others (`rrm.store.links`). So a
file that was taken away leaves a hole, and what a certificate says of the folder follows from the rows it is of. What
lay there before there was a register, or was put there by hand, is noted nowhere, which a certificate says of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.core.border import plain
from rrm.store.files import file_name
from rrm.trust.snapshot import hash_of, within
from rrm.trust.statement import Lies, Predicate, Shelved
from rrm.view.reading import Reader

FOLDER = "trust"
CHAPTERS = ("interpretability", "formal_verification", "guarantees", "audits")
HERE: tuple[Lies, ...] = ("there", "not noted")
"""What lay there, and could be read, when it was certified."""
STALE = "is of other weights or judgements than the node has now, or does not say from what it was found"
AGAIN = "The command that made it (rrm prove, bound, explain or audit) finds it again"
NO_REGISTER = "it is of version {}, which leaves out what was computed of the weights (run.db notes {} such files)"


@dataclass(frozen=True)
class Noted:
    """A row of the register."""

    task: str
    chapter: str
    name: str
    nth: int
    """How many were noted of this name before."""
    sha256: str
    """Of its file."""
    weights: str
    """`weights_digest` of what it is of."""
    rows: int | None
    """How many rows of the node's judgements it is of; None: of the weights alone."""

    @property
    def place(self) -> tuple[str, str]:
        """Chapter and name."""
        return self.chapter, self.name


def weights_digest(weights: Mapping[str, str]) -> str:
    """What tells weights from others. weights: part -> SHA-256."""
    return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()


def noted(run: Reader, node: str | None = None) -> list[Noted]:
    """The rows of a node, or of all, in their order; none where run.db is of before there was a register."""
    if "computed" not in run.tables:
        return []
    query = "SELECT task, chapter, name, nth, sha256, weights, rows FROM computed"
    found = [Noted(*row) for row in run.rows(f"{query} ORDER BY task, chapter, name, nth")]
    return [one for one in found if node in (None, one.task)]


def newest(rows: Iterable[Noted]) -> dict[tuple[str, str], Noted]:
    """Chapter and name -> the last that was noted of a node."""
    return {one.place: one for one in rows}


def called(node: str, chapter: str, name: str) -> str:
    """Path within the run's folder."""
    return f"{FOLDER}/{file_name(node)}/{chapter}/{name}.json"


def digest_at(folder: Path, path: str) -> str | None:
    """SHA-256 of a file of the run; None if there is none, or it lies elsewhere."""
    where = within(folder, path)
    return None if where is None else hash_of(where)


def shelf_of(folder: Path, run: Reader, node: str) -> tuple[Shelved, ...]:
    """What lies in RUN/trust of a node, and what run.db notes of it. folder: the run itself, of which `run` may read a
    copy."""
    rows = noted(run, node)
    last, found = newest(rows), []
    for one in rows:
        now = digest_at(folder, called(node, *one.place))
        state: Lies = "there" if now == one.sha256 else "gone" if now is None else "altered"
        found.append(_kept(*one.place, one.sha256, state if last[one.place] == one else "replaced"))
    for chapter in CHAPTERS:
        for path in sorted((folder / FOLDER / file_name(node) / chapter).glob("*.json")):
            digest = digest_at(folder, path.relative_to(folder).as_posix())
            if digest is not None and (chapter, path.stem) not in last:
                found.append(_kept(chapter, path.stem, digest, "not noted"))
    return tuple(found)


def _kept(chapter: str, name: str, sha256: str, lies: Lies) -> Shelved:
    return Shelved(chapter=chapter, name=name, sha256=sha256, lies=lies)


def altered(shelf: Sequence[Shelved]) -> frozenset[tuple[str, str]]:
    """Chapter and name of what is not what was noted: nobody knows who made it."""
    return frozenset((one.chapter, one.name) for one in shelf if one.lies == "altered")


def holes(shelf: Sequence[Shelved]) -> Iterator[str]:
    """What of a shelf cannot be read any more, in words, for `not_shown`."""
    for one in shelf:
        if one.lies in ("gone", "altered"):
            what = "is not there any more" if one.lies == "gone" else "is there no more as it was: another is"
            yield f"What {_named(one)} said: run.db notes that it was computed, and its file {what}. {AGAIN}."
    for place in dict.fromkeys((one.chapter, one.name) for one in shelf if one.lies == "replaced"):
        n = sum((one.chapter, one.name) == place and one.lies == "replaced" for one in shelf)
        times = "once before" if n == 1 else f"{n} times before"
        name = f"{place[0]}/{plain(place[1], 60)}"
        yield f"What {name} said earlier: it was computed {times}, and the last took its place."


def aside(shelf: Sequence[Shelved], chapters: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Shelved]:
    """What lies there, and no chapter has: it is of other weights or other judgements than the node has, or does not
    say from what it was found. chapters: chapter -> what was found."""
    said = {(name, str(one.get("name"))) for name, found in chapters.items() for one in found}
    return [one for one in shelf if one.lies in HERE and (one.chapter, one.name) not in said]


def unsaid(shelf: Sequence[Shelved], chapters: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What lies there and no chapter has, in words, for `not_shown`. chapters: as for `aside`."""
    for one in aside(shelf, chapters):
        yield f"What {_named(one)} says, which lies there, and {STALE}."


def _named(one: Shelved | Noted) -> str:
    return f"{one.chapter}/{plain(one.name, 60)} (SHA-256 {plain(one.sha256, 16)})"


def downgraded(run: Reader, predicate: Predicate) -> Iterator[str]:
    """That a certificate has no shelf where run.db notes something: whoever made one of an older version had no rrm
    that notes it. run: cut to the certificate's rows."""
    if predicate.shelf is None and (rows := noted(run)):
        yield NO_REGISTER.format(predicate.version, len(rows))


def off_the_shelf(folder: Path, run: Reader, predicate: Predicate, later: Sequence[Noted]) -> Iterator[str]:
    """Where a certificate's shelf says otherwise than run.db does, or than what lies there now.

    folder: the run itself. run: of the run as it was, cut to the certificate's rows. later: of the node, what was noted
    after those rows.
    """
    node, since = predicate.node, newest(later)
    rows = noted(run, node)
    last, shelf = newest(rows), [one for one in predicate.shelf or () if one.lies != "not noted"]
    said = {(one.chapter, one.name, one.sha256, one.lies == "replaced") for one in shelf}
    so = {(*one.place, one.sha256, last[one.place] != one) for one in rows}
    if len(shelf) != len(rows) or said != so:
        for one in rows:
            if (*one.place, one.sha256, last[one.place] != one) not in said:
                yield f"shelf leaves out {_named(one)}, which run.db notes"
        extra = [one for one in shelf if (one.chapter, one.name, one.sha256, one.lies == "replaced") not in so]
        yield from (f"shelf names {_named(one)} as {one.lies}, which run.db does not note so" for one in extra)
        if not extra and said == so:
            yield f"shelf has {len(shelf)} entries, and run.db notes {len(rows)}"
    for other in predicate.shelf or ():
        place = (other.chapter, other.name)
        if other.lies == "not noted" and place in last:
            yield f"shelf calls {_named(other)} not noted, and run.db notes one of that name"
        if other.lies == "replaced" or place in since:  # another was to take its place
            continue
        path = called(node, *place)
        now = digest_at(folder, path)
        if other.lies in HERE and now != other.sha256:
            what = "is missing" if now is None else "is not the file that it was"
            yield f"{plain(path)} {what}: the certificate counts it, and run.db notes nothing that took its place"
        elif other.lies not in HERE and now == other.sha256:
            yield f"shelf says that {_named(other)} is {other.lies}, and it is there: certify again"


def missing_since(
    folder: Path, run: Reader, predicate: Predicate, rows: Sequence[Noted], weights: Mapping[str, str], n: int
) -> Iterator[Noted]:
    """What run.db notes of a node's very weights and n rows of its judgements, and what neither lies there nor lay
    there when it was certified. run: cut to the certificate's rows. rows: the node's, of the whole database."""
    then = {*noted(run, predicate.node)}
    known = {(one.chapter, one.name, one.sha256) for one in predicate.shelf or () if one.lies in HERE}
    for one in newest(rows).values():
        fresh = one.weights == weights_digest(weights) and one.rows in (None, n)
        there = digest_at(folder, called(predicate.node, *one.place)) == one.sha256
        if fresh and not there and (one not in then or (*one.place, one.sha256) not in known):
            yield one
