"""Whether the databases beside a run's records are whole. What is torn is left out of whatever is shown, in a line that
says so: a truth that cannot be read is no reason not to show what was judged.

A file is read from end to end once for each change of it, if it has at most `MOST` bytes. Of a larger one a tear is
found when it is met (`met`), and remembered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from rrm.store.database import newest_rows, read_only, rows_beside
from rrm.store.truths import FILE as TRUTH

MEND: Mapping[str, str] = {
    TRUTH: "remove it, and `rrm measure truth RUN` makes it again",
    "labels.db": "what was judged with it is in run.db; for the rest put a copy back, or what sqlite3's .recover saves",
    "calls.db": "put a copy back, or remove it: endpoints are then asked again if the run goes on",
}
"""Database beside run.db -> how to have it back."""
MOST = 16 << 20
KINDS = {"INTEGER": "('integer', 'null')", "REAL": "('real', 'integer', 'null')", "TEXT": "('text', 'null')"}
"""Type of a column -> what its values are, as SQLite calls it, where rrm wrote them."""
TORN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite says of a database that is damaged. What else it says passes: somebody holds it, a disk fails."""
State = tuple[tuple[int, int, int] | None, ...]
_KNOWN: dict[Path, tuple[State, bool]] = {}


def torn(path: Path) -> bool:
    """Whether a database is there and damaged, as far as that is known without reading much."""
    return _torn(path, MOST)


def met(folder: Path) -> bool:
    """Look for a tear in whatever lies beside run.db, however large, after something could not be read. Returns
    whether there is one that was not known."""
    known = [name for name in MEND if torn(folder / name)]
    return any([_torn(folder / name, None) for name in MEND if name not in known])


def damaged(folder: Path, called: str = "RUN") -> list[str]:
    """A line for each database beside run.db that cannot be read, and how to mend it. called: the run, in a command."""
    return [
        f"{name} cannot be read, and is left out here: it is damaged; {mend.replace('RUN', called)}."
        for name, mend in MEND.items() if torn(folder / name)
    ]  # fmt: skip


def _torn(path: Path, most: int | None) -> bool:
    state = _state(path)
    if state[0] is None:
        return False
    before, found = _KNOWN.get(path, ((), False))
    if before != state or (most is None and not found):
        now = _looked(path, most is None or sum(one[0] for one in state if one) <= most)
        if now is None:
            return False
        _KNOWN[path] = (state, found := now)
    return found


def _state(path: Path) -> State:
    """Size, time of the last change and number of a database, and of what was not written into it yet."""
    found: list[tuple[int, int, int] | None] = []
    for one in (path, newest_rows(path)):
        try:
            told = one.stat()
            found.append((told.st_size, told.st_mtime_ns, told.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def _looked(path: Path, whole: bool) -> bool | None:
    """Whether it is damaged; None where that cannot be told now."""
    for opened in (read_only,) if rows_beside(path) else (read_only, _unchanging):
        try:
            with opened(path) as db:
                return any(_faults(db, whole))
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in TORN:  # none: a text that is none
                return True
    return None


def _unchanging(path: Path) -> closing[sqlite3.Connection]:
    """In a folder that cannot be written SQLite opens no file in WAL otherwise."""
    return closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True))


def _faults(db: sqlite3.Connection, whole: bool) -> Iterator[str]:
    """What is wrong with it. Raises `sqlite3.DatabaseError` for more."""
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if not whole or not tables:  # without any it is not made yet
        return
    yield from (text for (text,) in db.execute("PRAGMA quick_check(1)") if text != "ok")
    for table in (one for one in tables if not one.startswith("sqlite_")):
        columns = db.execute(f'PRAGMA table_info("{table}")').fetchall()
        kinds = {name: KINDS[kind] for _, name, kind, *_ in columns if kind in KINDS}
        wrong = " OR ".join(f'typeof("{name}") NOT IN {kind}' for name, kind in kinds.items())
        if wrong and db.execute(f'SELECT 1 FROM "{table}" WHERE {wrong} LIMIT 1').fetchone():
            yield table
        texts = ", ".join(f'"{name}"' for name, kind in kinds.items() if kind == KINDS["TEXT"])
        for _ in db.execute(f'SELECT {texts} FROM "{table}"') if texts else ():
            pass  # what is no text raises
