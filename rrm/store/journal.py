"""A run's journal: its store, and the weights that were learned; in a folder, or in memory for a job done elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.core.errors import RunError
from rrm.core.parallel import World
from rrm.store.files import read_checked, write_atomically
from rrm.store.shared import SharedStore
from rrm.store.store import TABLES

if TYPE_CHECKING:
    from torch import Tensor

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Records:
    """All that a journal holds, as data: what a job is given of what is known, and what it gives back."""

    tables: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    """Table -> its rows, in order; of `comparisons` without their number."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path under the run's folder -> the weights, as safetensors."""


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
        path = f"nodes/{task}/{round}/{part}.safetensors"
        self._write(path, body)
        self.checkpoint(task, round, part, path, hashlib.sha256(body).hexdigest())
        return None

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
        """Everything in it."""
        with self._reading():
            tables = {
                table: tuple(self._db.execute(f"SELECT {', '.join(self._columns(table))} FROM {table}{_order(table)}"))
                for table in TABLES
            }
            saved = self._db.execute("SELECT path, sha256 FROM checkpoints").fetchall()
        return Records(tables, {path: self._read(path, sha256) for path, sha256 in saved})

    def pour(self, records: Records) -> None:
        """Keep what another journal held; what is here already adds nothing."""
        for path, body in records.files.items():
            self._write(path, body)
        with self._writing():
            for table, rows in records.tables.items():
                self._keep(table, ", ".join(self._columns(table)), rows)

    def _columns(self, table: str) -> list[str]:
        """A table's columns, but for the number that a database gives to rows of its own."""
        return [name for _, name, *_ in self._db.execute(f"PRAGMA table_info({table})") if name != "seq"]


class MemoryJournal(Journal):
    """A journal that is kept nowhere, for a job whose records somebody else will keep. Of one process.

    `folder`: where a user that wants one may put things.
    """

    def __init__(self, folder: Path | str = ".") -> None:
        self._files: dict[str, bytes] = {}
        super().__init__(folder)

    def _database(self) -> Path:
        return Path(":memory:")

    def _write(self, path: str, body: bytes) -> None:
        self._files[path] = body

    def _read(self, path: str, sha256: str) -> bytes:
        body = self._files.get(path, b"")
        if hashlib.sha256(body).hexdigest() != sha256:
            raise RunError(f"{path}: the job was given other weights than its records name")
        return body


def _order(table: str) -> str:
    return " ORDER BY seq" if table == "comparisons" else ""
