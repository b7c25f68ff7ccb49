"""What lies in a run's folder beside what a certificate names. It decides nothing of whether the certificate holds, and
a reader is told of it: who signs less than there is may have had a reason."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Container, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rrm.core.border import BROKEN, plain
from rrm.core.errors import RRMError
from rrm.store import links
from rrm.store.files import file_name
from rrm.store.store import LINKED
from rrm.store.truths import FILE as TRUTH
from rrm.store.upgrades import TRUTHS
from rrm.trust.deriving import Taken
from rrm.trust.gathering import skipped
from rrm.trust.register import CHAPTERS, FOLDER, HERE, Noted, called, digest_at, missing_since, noted
from rrm.trust.shelf import OLD, entry_in, rows_of, weights_of
from rrm.trust.snapshot import KEPT, OTHERS, Rows, copied, look, within
from rrm.trust.statement import Predicate
from rrm.view.reading import Reader

ABOUT = {"labels.db": "design.judges", "calls.db": "databases"}
"""Database -> the place of what would follow from it."""
MOST = 12
"""Most files that are named."""


def too_new(copy: Path) -> str:
    """Why the truth.db of a copy cannot be read here, if a newer rrm made it; else empty."""
    if not (copy / TRUTH).exists():
        return ""
    with closing(sqlite3.connect(copy / TRUTH)) as db:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version <= len(TRUTHS):
        return ""
    return f"{TRUTH} is of version {version}, and this rrm reads those up to {len(TRUTHS)}: use the rrm that made it"


def left_out(copy: Path, named: Container[str]) -> list[str]:
    """Databases of a copy, not cut yet, that a certificate does not name, and that would say more."""
    return [name for name in OTHERS if (copy / name).exists() and name not in named]


def unheard(predicate: Predicate, aside: Sequence[str]) -> Iterator[Taken]:
    """What of a certificate is the word of whoever signed, as it leaves out a database that would say more.

    aside: those that are there and not named (`left_out`).
    """
    for name in aside:
        why = f"{name} is there, and the certificate does not speak of it: nothing was found again from its rows"
        yield Taken(predicate.node, ABOUT[name], why)
    for i, judge in enumerate(predicate.design.judges):
        if judge.kind == "people" and "labels.db" not in predicate.databases:
            why = "how far people agree follows from labels.db, of which the certificate does not speak"
            yield Taken(predicate.node, f"design.judges[{i}].alpha", why)


def other_files(run: Path, named: Container[str]) -> list[str]:
    """The files of a run that a certificate does not name, in words: one line, or none."""
    found = [
        path.relative_to(run).as_posix() for path in sorted(run.rglob("*")) if path.is_symlink() or path.is_file()
    ]
    more = [plain(name) for name in found if name not in named and not skipped(name)]
    if not more:
        return []
    return [f"files that the certificate does not speak of: {_listed(more)}"]


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"{', '.join(names[:MOST])}{rest}"


def later_rows(copy: Path, named: Rows) -> Iterator[str]:
    """How many rows of a copy's databases, not cut yet, came after those that a certificate names, in words."""
    for name in OTHERS:
        if name not in named or not (copy / name).exists():
            continue
        with closing(sqlite3.connect(copy / name)) as db:
            there = {table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in sorted({*KEPT[name]} & there):
                total = db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
                known = named[name][table][0] if table in named[name] else 0
                if total > known:
                    yield f"{name}: {total - known} rows of {table} came later; they are left out of what follows"


def register_now(run: Path) -> list[Noted] | None:
    """What run.db notes of RUN/trust by now: a command that runs beside this one may have put something there since the
    run was copied. None where that cannot be read."""
    try:
        with copied(run, measured=False) as copy:
            look(copy)
            with closing(sqlite3.connect(copy / "run.db")) as db:
                broken = links.faults(db, LINKED)
            if broken:
                return None
            with Reader(copy) as reader:
                return noted(reader)
    except (RRMError, sqlite3.Error):
        return None


def there(run: Path, name: str) -> bool:
    """Whether there is anything of this name in a run's folder, a link that leads nowhere included."""
    return os.path.lexists(run / name)


def unspoken(run: Path, reader: Reader, predicate: Predicate) -> Iterator[str]:
    """What a certificate says lay in RUN/trust, still lies there, is of the node's very weights and rows, and is not in
    its chapters as it is there: whoever certified had to put it there."""
    node, weights, rows = predicate.node, weights_of(reader, predicate.node), rows_of(reader, predicate.node)
    for kept in predicate.shelf or ():
        path = called(node, kept.chapter, kept.name)
        if kept.lies not in HERE or kept.chapter not in CHAPTERS or digest_at(run, path) != kept.sha256:
            continue
        try:
            one = entry_in(run / path, kept.chapter, weights, rows, derivable=True)
        except (RRMError, *BROKEN):
            continue  # which is told beside it
        if one is None:
            continue
        named = predicate.testing.audits if kept.chapter == "audits" else getattr(predicate, kept.chapter).found
        said = [_as_json(entry) for entry in named if entry["name"] == one["name"]]
        if _as_json(one) not in said:
            what = "says otherwise than" if said else "leaves out"
            yield f"it {what} {plain(path)}, which is the file that lay there, of these very weights"


def beside_chapters(
    run: Path, reader: Reader, predicate: Predicate, register: Sequence[Noted] = ()
) -> Iterator[Taken | str]:
    """What was computed of the node's very weights, lies in the run's folder (trust) and is not in its certificate, or
    is noted in run.db and lies there no more: as taken, since whoever signed may have left it out. In words what lies
    there in another form, or cannot be read.

    reader: of the run as it was. register: of the node, what is noted later included.
    """
    node, weights, rows = predicate.node, weights_of(reader, predicate.node), rows_of(reader, predicate.node)
    for lost in missing_since(run, reader, predicate, register, weights, rows):
        place = "testing.audits" if lost.chapter == "audits" else lost.chapter
        why = "run.db notes that it was computed of these very weights, and its file is not there as it was: nobody "
        yield Taken(node, place, f"{plain(lost.name, 60)}: {why}knows what it said")
    for kind in CHAPTERS:
        place = "testing.audits" if kind == "audits" else kind
        named = predicate.testing.audits if kind == "audits" else getattr(predicate, kind).found
        known = {one["name"]: _as_json(one) for one in named}
        left, others, old = [], [], 0
        for path in sorted((run / FOLDER / file_name(node) / kind).glob("*.json")):
            called = path.relative_to(run).as_posix()
            try:
                if within(run, called) is None:
                    raise OSError("it is no file, or lies elsewhere")
                one = entry_in(path, kind, weights, rows, derivable=True)
                name = None if one is None else str(one["name"])
                said = "" if one is None else _as_json(one)
            except (RRMError, *BROKEN):
                yield f"{node}: {plain(called)} cannot be read: nobody knows whether the certificate left it out"
                continue
            old += name is None
            if name is not None and name not in known:
                left.append(plain(name, 60))
            elif name is not None and known[name] != said:
                others.append(plain(name, 60))
        if left:
            why = "there in the folder trust, of these very weights, and not in the certificate: whoever signed left "
            yield Taken(node, place, f"{_listed(left)}: {why}it out, or it was found later")
        if others:
            yield f"{node}: {place}: {_listed(others)}: the folder trust has it, too, and says otherwise there"
        if kind != "audits" and getattr(predicate, kind).empty == OLD and not old:
            why = "it says that something was found, of other weights or fewer judgements: no such thing is there"
            yield Taken(node, kind, why)


def _as_json(one: object) -> str:
    return json.dumps(one, sort_keys=True, default=dict)
