"""Rows out of files: JSONL, JSON, parquet, any of them in gzip; a folder of such files; a data set of the hub."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rrm.exchange.exporting import ExchangeError

SUFFIXES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
ASIDE = ("parsed_pdfs", "pdfs")
"""Folders of PeerRead that hold no rows of their own."""
HUB = "datasets:"


class LeftOut(ExchangeError):
    """A row that is as it should be, yet holds no comparison: it is counted, and nothing is guessed."""


@dataclass(frozen=True)
class SourceRow:
    """One row, and where it stands."""

    values: Mapping[str, Any]
    file: str
    number: int
    """From 1; in a JSONL file the line."""
    path: Path | None = None

    @property
    def place(self) -> str:
        """ "FILE:NUMBER", for messages."""
        return f"{self.file}:{self.number}"


@dataclass(frozen=True)
class Source:
    """Where rows come from. `rows()` reads them anew each time, in the same order."""

    name: str
    rows: Callable[[], Iterator[SourceRow]]
    _digest: Callable[[], str]

    @cached_property
    def sha256(self) -> str:
        """A hash of the content, computed once; it may read all of it."""
        return self._digest()


def source(where: str | Path, split: str = "train", subset: str | None = None) -> Source:
    """A file, a folder, or a data set: "datasets:NAME", read by `datasets.load_dataset(NAME, subset, split=split)`.

    Raises `ExchangeError` if there is no such thing; what is wrong inside is raised when it is read.
    """
    if isinstance(where, str) and where.startswith(HUB):
        return _hub(where.removeprefix(HUB), split, subset)
    path = Path(where)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        hint = f"; a data set of the hub is written {HUB}{where}" if str(where).count("/") == 1 else ""
        raise ExchangeError(f"cannot read {where}: there is no such file or folder{hint}")
    return Source(path.name, lambda: _file(path, path.name), lambda: _hash(path))


def _folder(folder: Path) -> Source:
    files = [
        path for path in sorted(folder.rglob("*"))
        if path.name.endswith(SUFFIXES) and path.is_file()
        and not any(part in ASIDE or part.startswith(".") for part in path.relative_to(folder).parts)
    ]  # fmt: skip
    if not files:
        raise ExchangeError(f"{folder}: no file in it ends in {', '.join(SUFFIXES)}")

    def rows() -> Iterator[SourceRow]:
        for path in files:
            yield from _file(path, path.relative_to(folder).as_posix())

    def digest() -> str:
        parts = [[path.relative_to(folder).as_posix(), _hash(path)] for path in files]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    return Source(folder.resolve().name, rows, digest)


def _hub(name: str, split: str, subset: str | None) -> Source:
    from datasets import load_dataset  # late: it takes seconds
    from datasets.exceptions import DatasetsError

    title = f"{name}[{split}]" if subset is None else f"{name}/{subset}[{split}]"
    try:
        data = load_dataset(name, subset, split=split)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise ExchangeError(
            f"{HUB}{name}: cannot be loaded ({error}); give the name of a data set, its --subset and --split, "
            "or load it elsewhere and save it as JSONL or parquet"
        ) from error

    def rows() -> Iterator[SourceRow]:
        for number, values in enumerate(data, 1):
            yield SourceRow(values, title, number)

    def digest() -> str:
        found = hashlib.sha256()
        for row in rows():
            found.update(json.dumps(row.values, sort_keys=True, default=str).encode())
        return found.hexdigest()

    return Source(title, rows, digest)


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ExchangeError(f"cannot read {path} ({error})") from error


# --- one file ----------------------------------------------------------------------------------------


def _file(path: Path, name: str) -> Iterator[SourceRow]:
    """The rows of a file, whichever of the formats it is in: its first bytes tell, not its name."""
    try:
        with path.open("rb") as opened:
            start = opened.read(4)
        if start == b"PAR1":
            number = 0
            for batch in pq.ParquetFile(path).iter_batches(500):
                for values in batch.to_pylist():
                    number += 1
                    yield SourceRow(values, name, number, path)
            return
        yield from _json(path, name, zipped=start[:2] == b"\x1f\x8b")
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise ExchangeError(f"cannot read {path} ({error}); give JSONL, JSON or parquet") from error


def _json(path: Path, name: str, zipped: bool) -> Iterator[SourceRow]:
    """JSONL; or one JSON value over the whole file: a list of rows, or a single row printed over several lines."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if zipped else path.open(encoding="utf-8-sig") as lines:
        first = next((line for line in lines if line.strip()), "")
        if first.lstrip().startswith("[") or (first.strip() and _parse(first) is None):
            lines.seek(0)
            yield from _whole(lines.read(), path, name)
            return
        lines.seek(0)
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield SourceRow(_object(line, f"{path}:{number}"), name, number, path)


def _whole(text: str, path: Path, name: str) -> Iterator[SourceRow]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{path}:1: not JSON ({error}); give JSONL, JSON or parquet") from error
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(row, dict):
            raise ExchangeError(f"{path}:{number}: {_short(row)} is not an object with the columns as keys")
        yield SourceRow(row, name, number, path)


def _parse(line: str) -> object:
    """The value of a line; None if it is not JSON (nor is `null` a row)."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{place}: not JSON ({error}); give JSONL, JSON or parquet") from error
    if not isinstance(value, dict):
        raise ExchangeError(f"{place}: {_short(value)} is not an object with the columns as keys")
    return value


# --- what a row may hold -----------------------------------------------------------------------------


def text_of(value: object, what: str) -> str:
    """A text that can be stored. Raises `ExchangeError` for anything else."""
    if not isinstance(value, str):
        raise ExchangeError(f"{what} is {_short(value)}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ExchangeError(f"{what} is no valid unicode ({error.reason} at character {error.start})") from error
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
