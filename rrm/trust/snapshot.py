"""A run as it was: a copy of its databases cut to the rows of then. Neither the run nor its folder is changed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rrm.core.errors import RunError
from rrm.store import links
from rrm.store.store import LINKED, Store

OTHERS = ("labels.db", "calls.db")


@contextmanager
def copied(run: Path) -> Iterator[Path]:
    """A folder with copies of a run's databases, its config.json, and a measurement beside it (report.json)."""
    with TemporaryDirectory(prefix="rrm-") as made:
        folder = Path(made) / run.resolve().name
        folder.mkdir()
        for name in ("run.db", *OTHERS):
            if (run / name).exists():
                _copy(run / name, folder / name)
        if not (folder / "run.db").exists():
            raise RunError(f"{run}: no run there (a run's folder holds run.db)")
        for path, to in ((run / "config.json", folder), (run.resolve().parent / "report.json", folder.parent)):
            if path.is_file():
                shutil.copy(path, to / path.name)
        yield folder


def linked(folder: Path) -> None:
    """Bring a copy of a run of before up to date, so that its rows have links."""
    Store(folder / "run.db").close()


def cut(folder: Path, size: int) -> None:
    """Take out of a copy whatever came after its first `size` links."""
    with closing(sqlite3.connect(folder / "run.db", isolation_level=None)) as db:
        if db.execute("SELECT MAX(seq) FROM links").fetchone()[0] in (None, size):
            return
        kept = {*db.execute("SELECT name, key FROM links WHERE seq <= ?", (size,))}
        db.execute("BEGIN")
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        for table, (_, keys) in LINKED.items():
            rows = db.execute(f"SELECT {keys} FROM {table}")
            gone = [row for row in rows if (table, links.key_of(table, row)) not in kept]
            where = " AND ".join(f"{key.strip()} = ?" for key in keys.split(","))
            db.executemany(f"DELETE FROM {table} WHERE {where}", gone)
        db.execute("DELETE FROM links WHERE seq > ?", (size,))
        db.execute("COMMIT")


def _copy(source: Path, target: Path) -> None:
    try:
        uri = f"{source.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as db, closing(sqlite3.connect(target)) as other:
            db.backup(other)
    except sqlite3.Error as error:
        raise RunError(f"{source} cannot be read ({error}); is it a run's database, and readable by you?") from error
