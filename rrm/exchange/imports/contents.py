"""The rows of one file, whatever its name: JSONL, JSON, either of them in gzip, parquet; what a file is that is none of
these, in words.

Files come from anywhere, so no more of one is in memory than some rows: a line of more than `LINE` bytes is an error,
however small the file is that unpacks to it.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import SourceRow, short

LINE = 1 << 26
"""Most bytes of a row."""
WHOLE = 1 << 28
"""Most bytes of a file that is one JSON value: its rows are in memory at once."""
BATCH = 500
SWELLS = 1000
"""A column of parquet that unpacks to more times its size in the file is no data of people's."""
BLANK = codecs.BOM_UTF8 + b" \t\r\n"
"""Bytes before a value that say nothing."""
GIVE = "give JSONL, JSON or parquet"

KINDS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"version https://git-lfs",), "a git-lfs pointer, not the data", "fetch the data with `git lfs pull`"),
    ((b"/annex/objects/", b"../.git/annex"), "a git-annex pointer, not the data", "fetch it with `git annex get`"),
    ((b"<!doctype html", b"<html", b"<head", b"<?xml"), "a page of HTML or XML (an error or a login, saved as data?)",
     "download the file itself"),
    ((b"PK\x03\x04",), "a zip archive", "unpack it"),
    ((b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd"), "packed (xz, bzip2 or zstd)", "unpack it, or pack it with gzip"),
    ((b"ARROW1",), "an Arrow file", "write it as parquet: pyarrow.parquet.write_table(...)"),
    ((b"\xff\xff\xff\xff",), "an Arrow stream, as `save_to_disk` writes",
     "write it as parquet: datasets.load_from_disk(FOLDER).to_parquet(FILE)"),
    ((b"SQLite format 3",), "an SQLite database", "write its rows as JSONL"),
    ((b"\x80\x04", b"\x80\x05"), "a pickle, which is never opened: it could run anything", "write it as JSONL"),
    ((b"\x89HDF",), "an HDF5 file", "write it as JSONL"),
)  # fmt: skip
"""What a file begins with (of letters, in small ones), what it is then, and the mend."""


def rows_of(path: Path, name: str) -> Iterator[SourceRow]:
    """The rows of a file: its first bytes tell its kind. Raises `ExchangeError` naming file and row, or what it is."""
    try:
        with path.open("rb") as opened:
            start = opened.read(512)
        if start.startswith(b"PAR1"):
            yield from _parquet(path, name)
        elif start.startswith(b"\x1f\x8b"):
            with gzip.open(path) as unpacked:
                _known(unpacked.read(512), path)
                yield from _json(unpacked, path, name)
        else:
            _known(start, path)
            with path.open("rb") as opened:
                yield from _json(opened, path, name)
    except EOFError as error:
        raise ExchangeError(f"cannot read {path}: the gzip ends early, so it was cut; download it again") from error
    except (OSError, zlib.error, pa.ArrowException) as error:
        raise ExchangeError(f"cannot read {path} ({error}); {GIVE}") from error


def json_in(path: Path) -> Any:
    """The JSON value that is a whole file. Raises `ExchangeError`, or `FileNotFoundError`."""
    try:
        with path.open("rb") as opened:
            body = opened.read(WHOLE + 1)
        if len(body) > WHOLE:
            raise ExchangeError(f"{path} has more than {WHOLE >> 20} MiB; it is not read")
        return json.loads(body)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ExchangeError(f"{path} cannot be read ({error})") from error


def _known(start: bytes, path: Path) -> None:
    """Raise `ExchangeError` if a file that begins like this is something else."""
    lowered = start.lstrip()[:64].lower()
    for beginnings, what, mend in KINDS:
        if any(start.startswith(one) or lowered.startswith(one) for one in beginnings):
            raise ExchangeError(f"cannot read {path}: it is {what}; {mend}")
    wide = next((kind for bom, kind in _BOMS if start.startswith(bom)), None)
    if start[:2] in (b"{\0", b"\0{", b"[\0", b"\0["):
        wide = "UTF-16"
    if wide:
        raise ExchangeError(
            f"cannot read {path}: it is {wide}, not UTF-8; convert it: iconv -f {wide} -t UTF-8 {path.name} > new.jsonl"
        )
    if b"\0" in start:
        raise ExchangeError(f"cannot read {path}: it is binary; {GIVE}")


_BOMS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
         (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))  # fmt: skip


# --- JSON --------------------------------------------------------------------------------------------


def _json(opened: BinaryIO | gzip.GzipFile, path: Path, name: str) -> Iterator[SourceRow]:
    """JSONL; or one JSON value over the whole file: a list of rows, or a single row printed over several lines."""
    opened.seek(0)
    first, number = b"", 0
    while not first.strip(BLANK) and (line := _line(opened, path, number + 1, first=True)):
        first, number = line, number + 1
    if not first.strip(BLANK):
        return
    opened.seek(0)
    if len(first) > LINE or first.lstrip(BLANK).startswith(b"[") or _spread(first, opened, path):
        opened.seek(0)
        yield from _whole(opened, path, name)
        return
    opened.seek(0)
    number = 0
    while line := _line(opened, path, number + 1):
        number += 1
        if line.strip(BLANK):
            yield SourceRow(_object(line, path, number), name, number, path)


def _line(opened: BinaryIO | gzip.GzipFile, path: Path, number: int, first: bool = False) -> bytes:
    """The next line. Of the first, which may be a whole file, a little more than `LINE`: it is longer."""
    line = opened.readline(LINE + 1)
    if len(line) > LINE and not (first and line.lstrip(BLANK).startswith(b"[")):
        raise ExchangeError(
            f"{path}:{number}: a line of more than {LINE >> 20} MiB, of which no more was read; no row of texts is so "
            "long. Give one row a line"
        )
    return line


def _spread(first: bytes, opened: BinaryIO | gzip.GzipFile, path: Path) -> bool:
    """Whether the first line is the beginning of a JSON value that is printed over several lines."""
    if not first.lstrip(BLANK).startswith(b"{"):
        if any(mark in first for mark in (b",", b"\t", b";")) and not first.lstrip(BLANK).startswith(b'"'):
            columns = " ".join(first.decode("utf-8", "replace").split())[:80]
            raise ExchangeError(
                f"{path}:1: not JSON: {columns!r} looks like the columns of a CSV file; write its rows as JSONL: "
                "pandas.read_csv(FILE).to_json(NEW, orient='records', lines=True)"
            )
        return False
    try:
        json.loads(first)
    except ValueError:
        opened.seek(len(first))
        second = opened.readline(LINE + 1)
        return bool(second.strip()) and not second.lstrip().startswith(b"{")
    except RecursionError:
        pass  # said where the row is read
    return False


def _whole(opened: BinaryIO | gzip.GzipFile, path: Path, name: str) -> Iterator[SourceRow]:
    body = opened.read(WHOLE + 1)
    if len(body) > WHOLE:
        raise ExchangeError(
            f"{path}: one JSON value of more than {WHOLE >> 20} MiB, of which no more was read; write one row a line "
            "(JSONL), or parquet"
        )
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _broken(error, body, f"{path}:1") from error
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ExchangeError(f"{path}:{number}: {short(row)} is not an object with the columns as keys")
        yield SourceRow(row, name, number, path)


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    place = f"{path}:{number}"
    try:
        value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise _broken(error, line, place) from error
    if not isinstance(value, dict):
        raise ExchangeError(f"{place}: {short(value)} is not an object with the columns as keys")
    return value


def _broken(error: Exception, body: bytes, place: str) -> ExchangeError:
    """What is wrong with JSON that cannot be read."""
    if isinstance(error, UnicodeDecodeError) and error.end < len(body) - 4:
        return ExchangeError(
            f"{place}: cannot read it: not UTF-8 at byte {error.start}; convert it: iconv -f WINDOWS-1252 -t UTF-8"
        )
    whole = body.rstrip()
    begun = whole.lstrip(BLANK)[:1] in (b"{", b"[")
    if begun and not body.endswith(b"\n") and not whole.endswith((b"}", b"]")):
        return ExchangeError(f"{place}: not JSON: it ends within a value, so it was cut; download it again")
    return ExchangeError(f"{place}: not JSON ({error}); {GIVE}")


# --- parquet -----------------------------------------------------------------------------------------


def _parquet(path: Path, name: str) -> Iterator[SourceRow]:
    with path.open("rb") as opened:
        opened.seek(0, 2)
        opened.seek(max(0, opened.tell() - 4))
        if opened.read() != b"PAR1":
            raise ExchangeError(f"cannot read {path}: a parquet file without its end, so it was cut; download it again")
    file = pq.ParquetFile(path)
    number = 0
    for batch in file.iter_batches(_batch(file.metadata, path)):
        for values in batch.to_pylist():
            number += 1
            yield SourceRow(values, name, number, path)


def _batch(metadata: Any, path: Path) -> int:
    """Rows that may be unpacked at once. A column's values may refer to one and the same long value, so that what a row
    holds is bounded by nothing but the size of its column; raises `ExchangeError` if that swells beyond belief."""
    most = 1
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
        for chunk in chunks:
            small, large = chunk.total_compressed_size, chunk.total_uncompressed_size
            if large > LINE and large > SWELLS * max(small, 1):
                raise ExchangeError(
                    f"{path}: column {chunk.path_in_schema!r} unpacks from {small} bytes to {large}, {large // small} "
                    "times as much; it was not read"
                )
        most = max(most, sum(chunk.total_uncompressed_size for chunk in chunks))
    return int(max(1, min(BATCH, LINE // most)))
