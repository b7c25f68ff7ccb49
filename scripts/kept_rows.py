"""Results that are kept as they come: a JSONL file a part, and a second file of what each chunk cost.

For scripts whose measurement takes hours. A file's first line says by what it was made; its other lines are items, in
an order that is settled beforehand. What was killed goes on: the file is cut to whole chunks, so that the rows that
follow are computed in the company they would have had, and the file is the same as if nothing had happened. (What a
chunk cost is never the same twice, and so stands elsewhere.)
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rrm.core.errors import RRMError
from rrm.store.files import write_atomically

Row = dict[str, Any]
COSTS = "costs.jsonl"
"""Beside the parts' files: part, how many items, tokens, seconds of processors and by the clock."""


def processor() -> float:
    """Seconds of processor time of this process, all its threads, and the processes it waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


@dataclass(frozen=True)
class Part:
    """What is measured of one model and kept in one file.

    name: of the file.
    settings: what the rows hang on besides the items (JSON-able).
    ids: of the items, in order: hashes of all that a model is asked.
    work: the rows of some of the items, by their places; each with its "tokens".
    """

    name: str
    settings: Mapping[str, Any]
    ids: Sequence[str]
    work: Callable[[range], list[Row]]
    chunk: int = 16

    def __post_init__(self) -> None:
        if len(set(self.ids)) < len(self.ids):
            raise RRMError(f"{self.name}: an item comes twice, and would count twice; leave one out")

    def kept(self, folder: Path) -> list[Row]:
        """The rows that are there already. Raises `RRMError` if they were made otherwise: by other settings, or of
        other items."""
        path = folder / f"{self.name}.jsonl"
        settings, rows = read(path)
        mend = f"move {path} away to measure afresh, or give another --out"
        if settings is not None and settings != dict(self.settings):
            changed = sorted(k for k in {*settings, *self.settings} if settings.get(k) != self.settings.get(k))
            was = ", ".join(f"{k}: {settings.get(k)!r}, now {self.settings.get(k)!r}" for k in changed)
            raise RRMError(f"{path} was made otherwise ({was}); {mend}")
        for n, (row, wanted) in enumerate(zip(rows, self.ids, strict=False), 1):
            if row["id"] != wanted:
                raise RRMError(f"{path}: item {n} is not what would be asked now (prompt, form or data differ); {mend}")
        return rows

    def run(self, folder: Path, label: str) -> None:
        """Compute what is missing, a chunk at a time, and say on stderr how far it is. Raises `RRMError` if another
        process is at it."""
        path = folder / f"{self.name}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{self.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RRMError(f"another process is writing {path}; wait for it, or give another --out") from None
        try:
            self._go_on(path, label)
        finally:
            lock.release()

    def _go_on(self, path: Path, label: str) -> None:
        folder = path.parent
        rows = self.kept(folder)
        whole = len(rows) if len(rows) >= len(self.ids) else len(rows) // self.chunk * self.chunk
        lines = [{"settings": dict(self.settings)}, *rows[:whole]]
        write_atomically(path, "".join(map(_line, lines)).encode())
        began, start, tokens = time.monotonic(), whole, 0
        for first in range(whole, len(self.ids), self.chunk):
            places = range(first, min(first + self.chunk, len(self.ids)))
            spent, clock = processor(), time.monotonic()
            found = [{"id": self.ids[i], **row} for i, row in zip(places, self.work(places), strict=True)]
            append(path, found)
            own = sum(row["tokens"] for row in found)
            cost = {"cpu": round(processor() - spent, 2), "wall": round(time.monotonic() - clock, 2)}
            append(folder / COSTS, [{"part": self.name, "first": first, "items": len(found), "tokens": own, **cost}])
            tokens, done, taken = tokens + own, places.stop, time.monotonic() - began
            left = taken / (done - start) * (len(self.ids) - done) / 60
            print(f"{label} {self.name}: {done} of {len(self.ids)}, {tokens / taken:.0f} tokens/s, {left:.1f} minutes "
                  "left", file=sys.stderr, flush=True)  # fmt: skip


def read(path: Path) -> tuple[Row | None, list[Row]]:
    """A file's settings (None without a file) and its rows; a last line that was cut off is left out."""
    if not path.exists():
        return None, []
    body = path.read_text(encoding="utf-8")
    lines = body.split("\n")[:-1]  # not splitlines: texts have other line ends in them
    try:
        rows = [json.loads(line) for line in lines]
        return (rows[0]["settings"], rows[1:]) if rows else (None, [])
    except (ValueError, KeyError, TypeError) as error:
        raise RRMError(f"{path} is not a file of results ({error!r}); move it away, or give another --out") from error


def costs(folder: Path) -> dict[str, dict[str, float]]:
    """Per part, the sums of what its chunks cost; a chunk that was computed again counts again."""
    out: dict[str, dict[str, float]] = {}
    path = folder / COSTS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # cut off when it was killed
            continue
        sums = out.setdefault(row["part"], dict.fromkeys(("items", "tokens", "cpu", "wall"), 0.0))
        for name in sums:
            sums[name] += row[name]
    return out


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def append(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a file, on disk before this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(map(_line, rows)))
        file.flush()
        os.fsync(file.fileno())
