"""A run's journal: its store, and the weights that were learned; in a folder, or in memory for a job done elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.core.errors import RunError
from rrm.core.parallel import World
from rrm.store.files import read_checked, write_atomically
from rrm.store.shared import SharedStore
from rrm.store.store import KEYS, TABLES

if TYPE_CHECKING:
    from torch import Tensor

Row = tuple[Any, ...]
BESIDE = "episodes"
"""In a run's folder: what outcomes name by a hash of what is in it, and databases are no place for."""
_BESIDE = re.compile(BESIDE + r"/[0-9a-f]{2}/[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True)
class Records:
    """All that a journal holds, as data: what a job is given of what is known, and what it gives back."""

    tables: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    """Table -> its rows, in order; of `comparisons` and `remarks` without their number."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path under the run's folder -> the weights, as safetensors."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Path under the run's folder -> what outcomes name by a hash: the arrays of episodes (`BESIDE`). Also what cases
    name that were made from them."""


class Journal(SharedStore):
    """The journal in a run's folder, used by all of its processes in step.

    Attributes
    ----------
    folder: of the run.
    """

    def __init__(self, folder: Path | str, world: World | None = None) -> None:
        self.folder = Path(folder)
        super().__init__(self._database(), world or World())

    def _database(self) -> Path:
        return self.folder / "run.db"

    def save_weights(self, task: str, round: int, part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Keep weights (`part`: reward, agent or candidate). Returns what this process must go on with instead of its
        own, if anything: all go on with the bits that were kept, whatever their processors made of them."""
        from safetensors.torch import load, save  # late, with torch: looking at a run does without

        body = self.world.once(lambda: save({name: t.contiguous().clone() for name, t in state.items()}))
        if not self.world.main:
            return load(body)
        self._put(task, round, part, body, hashlib.sha256(body).hexdigest())
        return None

    def _put(self, task: str, round: int, part: str, body: bytes, sha256: str) -> None:
        path = f"nodes/{task}/{round}/{part}.safetensors"
        self._write(path, body)
        self.checkpoint(task, round, part, path, sha256)

    def keep_body(self, task: str, round: int, part: str, body: bytes, sha256: str) -> bytes | None:
        """Keep weights that another process learned, as safetensors; where others are kept, returns those."""
        saved = self.checkpoints(task).get((round, part))
        if saved is not None:
            return None if saved[1] == sha256 else self._read(*saved)
        self._put(task, round, part, body, sha256)
        return None

    def body(self, path: str, sha256: str) -> bytes:
        """Weights that were kept, as safetensors, for another process. Raises `RunError` if they are other ones."""
        return self._read(path, sha256)

    def weights(self, task: str, round: int, part: str) -> dict[str, Tensor] | None:
        """Weights that were kept; None if there are none. Raises `RunError` if they are not what was kept."""
        from safetensors.torch import load

        saved = self.checkpoints(task).get((round, part))
        return None if saved is None else load(self.world.once(lambda: self._read(*saved)))

    def _write(self, path: str, body: bytes) -> None:
        write_atomically(self.folder / path, body)

    def _read(self, path: str, sha256: str) -> bytes:
        return read_checked(self.folder / path, sha256)

    # --- as data -----------------------------------------------------------------------------------

    def records(self) -> Records:
        """Everything in it, as of one moment."""
        with self._writing():  # nobody writes between two tables
            tables = {
                table: tuple(self._db.execute(f"SELECT {', '.join(self._columns(table))} FROM {table}{_order(table)}"))
                for table in TABLES
            }
            saved = self._db.execute("SELECT path, sha256 FROM checkpoints").fetchall()
        beside = {path: (self.folder / path).read_bytes() for path in self._beside()}
        return Records(tables, {path: self._read(path, sha256) for path, sha256 in saved}, beside)

    def pour(self, records: Records) -> None:
        """Keep what another journal held: all of it, or none. What is here already adds nothing.

        Raises `RunError` for records that do not belong together (weights that no row names, or other weights than it
        names), and for those of another attempt: a run has one history, so where weights or kept outcomes differ from
        what is here, nothing is added.
        """
        unknown = set(records.tables) - set(TABLES)
        if unknown:
            raise RunError(f"records have tables that a journal has not: {', '.join(sorted(unknown))}")
        named = self._weights_of(records)
        with self._writing():
            for table, own in (("checkpoints", "sha256"), ("samples", "body")):
                self._agree(table, own, records.tables.get(table, ()))
            for path in named:
                if not self._has(path):
                    self._write(path, records.files[path])
            self.put_beside(records)
            for table, rows in records.tables.items():
                self._keep(table, ", ".join(self._columns(table)), rows)

    def put_beside(self, records: Records) -> None:
        """Keep what the records' outcomes name in files. Raises `RunError` for what is no such file, or is another than
        the one that is here."""
        for path, body in records.beside.items():
            if not _BESIDE.fullmatch(path):
                raise RunError(f"records hold {path[:99]!r} beside them, and only {BESIDE}/ab/ab12.safetensors may be")
            there = self.folder / path
            if not there.exists():
                write_atomically(there, body)
            elif there.read_bytes() != body:
                raise RunError(f"{path} of these records is another than that in {self.folder}: of another attempt")

    def _beside(self) -> list[str]:
        """Paths of what lies beside it."""
        found = (self.folder / BESIDE).glob("*/*.safetensors")
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def _weights_of(self, records: Records) -> list[str]:
        """The files that the records' checkpoints name, each looked at."""
        columns = self._columns("checkpoints")
        rows = [dict(zip(columns, row, strict=True)) for row in records.tables.get("checkpoints", ())]
        for row in rows:
            right = f"nodes/{row['task']}/{row['round']}/{row['part']}.safetensors"
            body = records.files.get(row["path"])
            if row["path"] != right or ".." in right.split("/"):
                raise RunError(f"records name weights at {row['path']!r}, which should be at {right!r}")
            if body is None or hashlib.sha256(body).hexdigest() != row["sha256"]:
                raise RunError(f"{row['path']}: the records lack these weights, or have other weights than they name")
        named = [row["path"] for row in rows]
        if set(records.files) - set(named):
            raise RunError(f"records hold files that they do not name: {sorted(set(records.files) - set(named))[:3]}")
        return named

    def _agree(self, table: str, own: str, rows: Iterable[Row]) -> None:
        """Raise `RunError` if a row that is here says otherwise than the same row of the records."""
        columns, keys = self._columns(table), KEYS[table].split(", ")
        for row in (dict(zip(columns, one, strict=True)) for one in rows):
            where = " AND ".join(f"{key} = ?" for key in keys)
            found = self._db.execute(f"SELECT {own} FROM {table} WHERE {where}", [row[key] for key in keys]).fetchone()
            if found is not None and found[0] != row[own]:
                raise RunError(
                    f"{row['task']}, round {row['round']}: these records are of another attempt than what is kept in "
                    f"{self.folder}; nothing was added. Pour them into a folder of their own"
                )

    def _has(self, path: str) -> bool:
        return (self.folder / path).exists()

    def _columns(self, table: str) -> list[str]:
        """A table's columns, but for the number that a database gives to rows of its own."""
        return [name for _, name, *_ in self._db.execute(f"PRAGMA table_info({table})") if name != "seq"]


class MemoryJournal(Journal):
    """A journal that is kept nowhere, for a job whose records somebody else will keep. Of one process.

    `folder`: where what outcomes name is put while the job is done; without one, nothing is.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self._files: dict[str, bytes] = {}
        self._apart = folder is None
        super().__init__(folder or ".")

    def put_beside(self, records: Records) -> None:
        """See `Journal`."""
        if records.beside and self._apart:
            raise RunError("records that name files need a folder: MemoryJournal(folder)")
        super().put_beside(records)

    def _beside(self) -> list[str]:
        return [] if self._apart else super()._beside()

    def _database(self) -> Path:
        return Path(":memory:")

    def _write(self, path: str, body: bytes) -> None:
        self._files[path] = body

    def _has(self, path: str) -> bool:
        return path in self._files

    def _read(self, path: str, sha256: str) -> bytes:
        body = self._files.get(path, b"")
        if hashlib.sha256(body).hexdigest() != sha256:
            raise RunError(f"{path}: the job was given other weights than its records name")
        return body


def _order(table: str) -> str:
    return " ORDER BY seq" if table in ("comparisons", "remarks") else ""
