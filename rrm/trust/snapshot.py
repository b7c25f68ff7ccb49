"""A run as it was: its databases copied as bytes, and cut to the rows of then. Neither the run nor its folder is
changed, and nothing is read through what another program may have put into a database: its schema is looked at first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rrm.core.errors import RunError
from rrm.labels.queue import Labels
from rrm.store import links
from rrm.store.database import Database, newest_rows
from rrm.store.store import LINKED, Store
from rrm.store.truths import FILE as TRUTH
from rrm.store.truths import Truths
from rrm.store.upgrades import CALLS, LABELS, RUN
from rrm.store.upgrades import TRUTHS as TRUTH_STEPS
from rrm.view.damage import damaged, torn

OTHERS = ("labels.db", "calls.db")
KEPT: Mapping[str, Mapping[str, str]] = {
    "labels.db": {"questions": "seq", "labels": "seq", "closed": "at, question"}, "calls.db": {"calls": "seq"},
}  # fmt: skip
"""Other databases -> tables that are only added to -> the order in which their rows came."""
TRUTHS: Mapping[str, str] = {
    "origin": "code", "outcomes": "task, case_id, outcome", "facts": "task, case_id, outcome, fact",
    "said": "task, case_id, outcome, assistance, assistant",
}  # fmt: skip
"""Tables of truth.db, which is measured beside a run -> by what their rows are in order."""
Rows = Mapping[str, Mapping[str, tuple[int, str]]]
"""Database -> table -> how many rows, and their SHA-256."""


TRIES = 20
"""Times that a run is copied until nobody wrote to it meanwhile."""


class Disguised(RunError):
    """A database whose tables are not what they seem."""


@contextmanager
def copied(run: Path, measured: bool = True, truth: bool = False) -> Iterator[Path]:
    """A folder with copies of a run's databases, its config.json, and a measurement beside it (report.json), which is
    no part of it: without, if `measured` is False. truth: with truth.db, which nothing that trains may find there.
    Raises `RunError` where there is no run, or one of these is no file."""
    with TemporaryDirectory(prefix="rrm-") as made:
        folder = Path(made) / run.resolve().name
        folder.mkdir()
        names = ("run.db", *OTHERS, *([TRUTH] if truth else []))
        sources = [(run / name, folder / name) for name in (*names, "config.json")]
        sources += [(newest_rows(run / name), folder / f"{name}-wal") for name in names]
        if measured:
            sources.append((run.resolve().parent / "report.json", folder.parent / "report.json"))
        for _ in range(TRIES):  # a run that trains may write in between, and halves of two states are none
            before = _states(sources)
            for path, to in sources:
                to.unlink(missing_ok=True)
                if path.is_file():
                    shutil.copyfile(path, to)
                elif os.path.lexists(path):
                    raise RunError(f"{path} is no file")
            if _states(sources) == before:
                break
        else:
            raise RunError(f"{run} is being written to all the time; try again when it trains no more")
        if not (folder / "run.db").exists():
            raise RunError(f"{run}: no run there (a run's folder holds run.db)")
        yield folder


LINK = "{} is a symbolic link, and a certificate is of files: put there what it leads to"
NEWEST = ", with its newest rows, which lie beside that in a -wal (cp leaves them): docs/errors.md has a command"
"""What is to be said, too, of a database."""


def link_told(where: str | Path) -> str:
    """What is wrong with a symbolic link, and what to do."""
    return LINK.format(where) + (NEWEST if str(where).endswith(".db") else "")


def first_link(run: Path, names: Iterable[str] | None = None) -> str:
    """The first of `all_links`; empty if there is none."""
    return next(all_links(run, names), "")


def all_links(run: Path, names: Iterable[str] | None = None) -> Iterator[str]:
    """The symbolic links in a run's folder, or on the way to one of these names within it, by their paths there, each
    once. The folder itself may be one. names: by default the databases, with what SQLite puts beside
    them, the configuration, and all that lies in RUN/trust."""
    if names is None:
        named = ("run.db", *OTHERS, TRUTH)
        names = [f"{name}{more}" for name in named for more in ("", "-wal", "-shm", "-journal")]
        shelved = (path.relative_to(run).as_posix() for path in sorted((run / "trust").rglob("*")))
        names = [*names, "config.json", "trust", *shelved]
    told: set[str] = set()
    for name in names:
        path = run
        for part in Path(name).parts:
            path = path / part
            called = path.relative_to(run).as_posix()
            if path.is_symlink():
                if called not in told:
                    yield called
                told.add(called)
                break


def are_files(run: Path, name: str) -> bool:
    """Whether a database of a run, and what is being written to it, are files where they are anything."""
    paths = [run / f"{name}{more}" for more in ("", "-wal")]
    return all(path.is_file() or not os.path.lexists(path) for path in paths)


def _states(sources: Iterable[tuple[Path, Path]]) -> list[tuple[int, int] | None]:
    """Size and time of the last change of each file that is there."""
    found: list[tuple[int, int] | None] = []
    for path, _ in sources:
        try:
            told = path.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((told.st_size, told.st_mtime_ns))
    return found


def beside(run: Path, copy: Path, names: Iterable[str] | None = None) -> None:
    """Put a run's weights and episodes beside the copies of its databases, linked where that can be: nothing is written
    in place there, and no symbolic link is followed. names: paths in the run of those wanted; by default all."""
    if names is None:
        names = [path.relative_to(run).as_posix() for path in sorted(run.rglob("*"))]
    for name in names:
        folders = Path(name).parts[:-1]
        if not folders or folders[0] in ("trust", "certificates", "films", "lock"):
            continue
        if (path := within(run, name)) is not None and not (copy / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            _linked(str(path), str(copy / name))


def within(run: Path, name: str) -> Path | None:
    """Where a file of a run is; None where there is none, or the way to it leads through a symbolic link or out."""
    whole = run.resolve()
    path = whole / name
    return path if path.is_file() and path.resolve() == path and path.is_relative_to(whole) else None


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def linked(folder: Path) -> None:
    """Bring a run of before up to date, so that its rows have links."""
    Store(folder / "run.db").close()


def up_to_date(copy: Path) -> None:
    """Bring a copy of an older version's run up to date, if its databases are what they seem: what reads it asks for
    columns of today. Raises `Disguised`."""
    with closing(sqlite3.connect(copy / "run.db")) as db:
        tables = {table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        old = db.execute("PRAGMA user_version").fetchone()[0] < len(RUN) and "comparisons" in tables
    if old:  # a newer one, or none of ours, is refused by whoever reads it
        look(copy)
        linked(copy)


def look(folder: Path) -> None:
    """Raise `Disguised` if a copy's databases have other tables, indices, views or triggers than rrm makes, or with
    other columns: rows that are read through these may be others for others. Older ones may lack some."""
    for name in ("run.db", *OTHERS, TRUTH):
        if not (folder / name).exists():
            continue
        with closing(sqlite3.connect(folder / name)) as db:
            try:
                found = db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            except sqlite3.DatabaseError as error:
                raise Disguised(f"{name} is damaged: {error}") from error
        known = _known(name)
        for kind, called, sql in found:
            if called.startswith("sqlite_"):
                continue
            if (kind, called) not in known:
                raise Disguised(f"{name} has a {kind} {called!r}, which rrm does not make")
            mine = known[kind, called]
            if not _same_table(sql or "", mine) if kind == "table" else _plain(sql) != _plain(mine):
                raise Disguised(f"the {kind} {called!r} of {name} is not the one that rrm makes")


@cache
def _known(name: str) -> Mapping[tuple[str, str], str]:
    """(type, name) -> SQL of what rrm makes, as it stands there."""
    from rrm.models.endpoints import Ledger

    with TemporaryDirectory(prefix="rrm-") as made:
        path = Path(made)
        fresh: Database = Store(path / name) if name == "run.db" else Truths(path) if name == TRUTH else (
            Labels(path) if name == "labels.db" else Ledger(path / name)
        )
        with closing(fresh):
            rows = fresh._db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {(kind, called): sql or "" for kind, called, sql in rows}


def _plain(sql: str | None) -> str:
    return " ".join((sql or "").replace("IF NOT EXISTS ", "").split())


def _same_table(sql: str, mine: str) -> bool:
    """Whether a table is one that rrm makes: every column and constraint as it is there, in any order, as those that an
    upgrade adds stand at the end; only such may be missing."""
    (around, parts), (known_around, known) = _parts(sql), _parts(mine)
    added = {_plain(line.partition(" ADD COLUMN ")[2].rstrip(";")) for script in (*RUN, *LABELS, *CALLS, *TRUTH_STEPS)
             for line in script.splitlines()}  # fmt: skip
    return around == known_around and len(parts) == len({*parts}) and {*parts} <= {*known} <= {*parts} | added


def _parts(sql: str) -> tuple[tuple[str, str], list[str]]:
    """What stands before and after the brackets of a table, and what is in them, from comma to comma."""
    flat = _plain("\n".join(line.partition("--")[0] for line in sql.splitlines()))
    head, _, rest = flat.partition("(")
    found, depth = [""], 1
    for i, letter in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return (head.strip(), rest[i + 1 :].strip()), [one.strip() for one in found]
        if letter == "," and depth == 1:
            found.append("")
        else:
            found[-1] += letter
    return (head, ""), found


def cut(folder: Path, size: int, others: Rows) -> None:
    """Take out of a copy whatever came after its first `size` links, and after so many rows of its other databases."""
    with closing(sqlite3.connect(folder / "run.db", isolation_level=None)) as db:
        if db.execute("SELECT MAX(seq) FROM links").fetchone()[0] not in (None, size):
            kept = {*db.execute("SELECT name, key FROM links WHERE seq <= ?", (size,))}
            db.execute("BEGIN")
            _without_triggers(db)
            there = {table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table, (_, keys) in LINKED.items():
                if table not in there:  # of later than the run
                    continue
                rows = db.execute(f"SELECT {keys} FROM {table}")
                gone = [row for row in rows if (table, links.key_of(table, row)) not in kept]
                where = " AND ".join(f"{key.strip()} = ?" for key in keys.split(","))
                db.executemany(f"DELETE FROM {table} WHERE {where}", gone)
            db.execute("DELETE FROM links WHERE seq > ?", (size,))
            db.execute("COMMIT")
    for name in OTHERS:
        if name not in others:
            for more in ("", "-wal", "-shm"):
                (folder / f"{name}{more}").unlink(missing_ok=True)
        elif (folder / name).exists():
            with closing(sqlite3.connect(folder / name)) as db, db:
                _without_triggers(db)
                for table, (n, _) in others[name].items():
                    key = "question" if table == "closed" else "seq"
                    order = KEPT[name][table]
                    later = f"SELECT {key} FROM {table} ORDER BY {order} LIMIT -1 OFFSET {int(n)}"
                    db.execute(f"DELETE FROM {table} WHERE {key} IN ({later})")


    if TRUTH in others:
        only_judged(folder)
    else:
        without_truth(folder)


def without_truth(folder: Path) -> None:
    """Take truth.db out of a copy."""
    for more in ("", "-wal", "-shm"):
        (folder / f"{TRUTH}{more}").unlink(missing_ok=True)


def without_torn(folder: Path) -> list[str]:
    """Take what is damaged beside run.db out of a copy, for what is shown and not signed; returns a line for each."""
    told = damaged(folder)
    for name in OTHERS:
        if torn(folder / name):
            for more in ("", "-wal", "-shm"):
                (folder / f"{name}{more}").unlink(missing_ok=True)
    if not (folder / TRUTH).exists():
        return told
    try:
        with closing(sqlite3.connect(folder / TRUTH)) as db:
            whole = [said for (said,) in db.execute("PRAGMA quick_check(1)")] == ["ok"] and not lacking(db)
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        without_truth(folder)
    return told


def lacking(db: sqlite3.Connection) -> list[str]:
    """Tables of truth.db, and columns of them (`outcomes.score`), that a database does not have."""
    found = []
    for table, columns in _columns().items():
        there = {name for _, name, *_ in db.execute(f"PRAGMA main.table_info({table})")}
        found += [f"{table}.{one}" if there else table for one in columns if one not in there]
    return [*dict.fromkeys(found)]


@cache
def _columns() -> Mapping[str, Sequence[str]]:
    """Table -> columns of truth.db, as rrm makes it."""
    with TemporaryDirectory(prefix="rrm-") as made, closing(Truths(Path(made))) as fresh:
        return {table: [name for _, name, *_ in fresh._db.execute(f"PRAGMA table_info({table})")] for table in TRUTHS}


def only_judged(folder: Path) -> None:
    """Leave in a copy's truth.db what is of outcomes that its run.db compared: more may be measured when more was.
    Raises `Disguised` where it is none."""
    if not (folder / TRUTH).exists():
        return
    with closing(sqlite3.connect(folder / TRUTH)) as db:
        if missing := lacking(db):
            raise Disguised(f"{TRUTH} has no {', '.join(missing)}; take it away, or measure the truth again")
        db.execute("ATTACH DATABASE ? AS run", (str(folder / "run.db"),))
        sides = "SELECT task, case_id, a, assistance_a FROM run.comparisons UNION SELECT task, case_id, b, assistance_b"
        for name, columns, sql in (
            ("shown", "task, case_id, outcome, assistance", f"{sides} FROM run.comparisons"),
            ("judged", "task, case_id, outcome", "SELECT DISTINCT task, case_id, outcome FROM temp.shown"),
        ):
            db.execute(f"CREATE TEMP TABLE {name} ({columns}, PRIMARY KEY ({columns})) WITHOUT ROWID")
            db.execute(f"INSERT INTO temp.{name} {sql}")
        for table, kept in (("outcomes", "judged"), ("facts", "judged"), ("said", "shown")):
            columns = "task, case_id, outcome" + (", assistance" if kept == "shown" else "")
            try:
                db.execute(f"DELETE FROM main.{table} WHERE ({columns}) NOT IN (SELECT * FROM temp.{kept})")
            except sqlite3.DatabaseError as error:
                raise Disguised(f"{TRUTH} is damaged: {error}; take it away, or measure the truth again") from error
        db.commit()


def databases_of(copy: Path) -> dict[str, dict[str, tuple[int, str]]]:
    """The rows of a copy's other databases, in the order in which they came."""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for name in OTHERS:
        if (copy / name).exists():
            with closing(sqlite3.connect(copy / name)) as db:
                there = {table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                found[name] = {table: _hashed(db, table, by) for table, by in KEPT[name].items() if table in there}
    if (copy / TRUTH).exists():
        with closing(sqlite3.connect(copy / TRUTH)) as db:
            found[TRUTH] = {table: _hashed(db, table, by) for table, by in TRUTHS.items()}
    return found


def _hashed(db: sqlite3.Connection, table: str, order: str) -> tuple[int, str]:
    whole, count = hashlib.sha256(), 0
    for row in db.execute(f"SELECT * FROM {table} ORDER BY {order}"):
        whole.update(links.leaf_of(b"", table, row))
        count += 1
    return count, whole.hexdigest()


def _without_triggers(db: sqlite3.Connection) -> None:
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')


def hash_of(path: Path) -> str | None:
    """A file's SHA-256; None where there is no file, or something that is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_in(copy: Path, node: str) -> dict[str, str]:
    """Path -> SHA-256 of a node's weights, as a copy's run.db has them."""
    with closing(sqlite3.connect(copy / "run.db")) as db:
        rows: list[Any] = db.execute("SELECT path, sha256 FROM checkpoints WHERE task = ?", (node,)).fetchall()
    return {str(path): str(digest) for path, digest in rows}
