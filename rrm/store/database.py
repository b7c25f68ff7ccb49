"""An append-only SQLite file that several processes and threads may share, and that a kill does not harm."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rrm.core.errors import StoreError
from rrm.core.interrupts import interrupts_held

TICK = 1e-6
"""What is written later is at least so many seconds later, whatever the clock says, where its order is told by it."""


class Database:
    """A connection, its lock, and the errors in words. What is committed is on the disk (synchronous=FULL).

    The file says which version of the schema it has (`PRAGMA user_version`; files from before versions say 0). An older
    one is brought up to date when it is opened, a step of `upgrades` at a time, all in one transaction; a newer one is
    refused.

    Parameters
    ----------
    path: the file; made if it is not there. ":memory:" is kept nowhere.
    schema: its tables, indices and views as they are now, CREATE ... IF NOT EXISTS.
    append_only: tables whose rows are never updated or deleted; triggers see to it.
    upgrades: SQL scripts (`rrm.store.upgrades`); the n-th (from 0) takes a file of version n to version n + 1. Their
        number is the schema's version. What `schema` makes anew anyway (a table, an index) needs no statement here; an
        added column does.
    """

    def __init__(
        self, path: Path, schema: str, append_only: Sequence[str] = (), upgrades: Sequence[str] = ("",)
    ) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._explained():
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._look(append_only)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA recursive_triggers=ON")  # else INSERT OR REPLACE slips past the triggers below
            if check_version(self._db, path, len(upgrades)) != len(upgrades):
                self._set_up(schema, append_only, upgrades)

    def _look(self, ours: Sequence[str]) -> None:
        """Raise `StoreError` for another program's database, before anything of it is changed."""
        rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        there = [name for (name,) in rows if not name.startswith("sqlite_")]
        if there and ours and not {*there} & {*ours}:
            self._db.close()
            raise StoreError(
                f"{self.path} is another program's database: it has the tables {', '.join(there[:5])}. Nothing was "
                "changed; use another folder"
            )

    def _set_up(self, schema: str, append_only: Sequence[str], upgrades: Sequence[str]) -> None:
        """Make the tables, or bring those that are there up to date."""
        with self._writing():
            before = check_version(self._db, self.path, len(upgrades))  # another process may have been first
            if self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                for script in upgrades[before:]:
                    self._run(script)
            self._run(schema)
            self._seal(append_only)
            self._db.execute(f"PRAGMA user_version={len(upgrades)}")

    def _seal(self, tables: Sequence[str]) -> None:
        for table in tables:
            for verb in ("UPDATE", "DELETE"):
                self._db.execute(
                    f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )

    @contextmanager
    def rewriting(self, tables: Sequence[str]) -> Iterator[None]:
        """A transaction in which these tables' rows may be changed, and after which nothing is left in the file of what
        they were: for what must be forgotten. Raises `StoreError` if another process has the file open and that cannot
        be seen to; what was changed is changed then, and the same again sees to the rest."""
        with self._lock, self._explained():
            self._db.execute("PRAGMA secure_delete=ON")
            with self._writing():
                for table in tables:
                    for verb in ("update", "delete"):
                        self._db.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
                yield
                self._seal(tables)
            self._db.execute("VACUUM")  # pages that were free before
            busy, *_ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise StoreError(
                    f"{self.path}: another process reads it, so what was there cannot be wiped from "
                    f"{self.path.name}-wal; end it (rrm label, rrm view), and give the same command again"
                )

    def _run(self, script: str) -> None:
        """A script's statements, one by one: `executescript` would commit before it."""
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._db.execute(statement)
                statement = ""
        if statement.strip():
            raise ValueError(f"a statement of the schema does not end with ';': {statement.strip()[:60]!r}")

    def close(self) -> None:
        """Close the connection; nothing is lost without it."""
        self._db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"{self.path}: {error}. Nothing judged so far is lost. If the disk is full or read-only, "
                "make room and give the same command again; if another process holds the run, stop it first."
            ) from error
        except sqlite3.IntegrityError as error:
            raise StoreError(
                f"{self.path} refused a row ({error}), and all that was to be written with it. A value that may not be "
                "missing is (NaN is stored as none), or what is there may not be changed."
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} is not a run's database ({error}); use another folder") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # One thread at a time: SQLite holds its own lock while it calls a function of ours (`rrm.store.links`), which
        # waits for Python's, which another thread that waits for SQLite's may hold.
        with self._lock, self._explained():
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: all of it is kept, or none. Other processes' writes wait, and so does Ctrl-C: in a function
        of ours that a trigger calls (`rrm.store.links`) it would be lost."""
        # the connection commits, or rolls back whatever was raised
        with self._lock, interrupts_held(), self._explained(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield


def read_only(path: Path, timeout: float = 5.0) -> closing[sqlite3.Connection]:
    """A database that somebody else may be writing, opened for looking only; within `with`, its connection. `timeout`:
    seconds to wait for who writes. What is no database is found by the first query (`sqlite3.DatabaseError`)."""
    return closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=timeout))


@contextmanager
def hurried(db: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Within, a query that takes longer raises `sqlite3.OperationalError`, and Ctrl-C ends it."""
    end = time.monotonic() + seconds
    with interrupts_held() as came:
        db.set_progress_handler(lambda: int(bool(came) or time.monotonic() > end), 20_000)
        try:
            yield
        finally:
            db.set_progress_handler(None, 0)


def newest_rows(path: Path) -> Path:
    """Where SQLite keeps what is not in a database yet: beside the file that a symbolic link leads to."""
    path = path.resolve() if path.is_symlink() else path
    return path.with_name(f"{path.name}-wal")


def rows_beside(path: Path) -> bool:
    """Whether there are rows that are not in a database yet: who opens it as unchanging (`immutable`) misses them."""
    try:
        return newest_rows(path).stat().st_size > 0
    except OSError:
        return False


def check_version(db: sqlite3.Connection, path: Path, known: int) -> int:
    """The version of the schema of an open file; 0 where it does not say. Raises `StoreError` if it is newer than
    `known`: what a newer rrm wrote, this one would misread."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise StoreError(
            f"{path} was written by a newer rrm: its schema has version {version}, and this rrm knows versions up to "
            f"{known}. Use that rrm, or a later one, to open it (`about` in config.json names it); nothing was changed."
        )
    return version
