"""An append-only SQLite file that several processes and threads may share, and that a kill does not harm."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rrm.task import RRMError


class StoreError(RRMError, OSError):
    """A database cannot be read or written."""


class Database:
    """A connection, its lock, and the errors in words. What is committed is on the disk (synchronous=FULL).

    Parameters
    ----------
    path: the file; made if it is not there.
    schema: its tables and views, CREATE ... IF NOT EXISTS.
    append_only: tables whose rows are never updated or deleted; triggers see to it.
    """

    def __init__(self, path: Path, schema: str, append_only: Sequence[str]) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._explained():
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA recursive_triggers=ON")  # else INSERT OR REPLACE slips past the triggers below
            self._db.executescript(schema)
            for table in append_only:
                for verb in ("UPDATE", "DELETE"):
                    self._db.execute(
                        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                    )

    def close(self) -> None:
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
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} is not a run's database ({error}); use another folder") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, self._explained():
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: all of it is kept, or none. Other processes' writes wait."""
        with self._lock, self._explained(), self._db:  # the connection commits, or rolls back whatever was raised
            self._db.execute("BEGIN IMMEDIATE")
            yield
