"""What holds no rows is named for what it is, one split is read, and memory does not grow with what is unpacked."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from rrm.core.errors import RunError
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import contents
from rrm.exchange.imports.contents import rows_of
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.sources import source, split_of
from tests.label.reviews import lines, papers, stored, venue

ROW = {"prompt": "p", "chosen": "c", "rejected": "r"}
TEXT = json.dumps(ROW)


def zipped() -> bytes:
    with io.BytesIO() as held:
        with zipfile.ZipFile(held, "w") as archive:
            archive.writestr("a.jsonl", TEXT)
        return held.getvalue()


def parquet() -> bytes:
    with io.BytesIO() as held:
        pq.write_table(pa.Table.from_pylist([ROW] * 50), held)
        return held.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (POINTER, "git-lfs pointer.*git lfs pull"),
        (b"/annex/objects/SHA256E-s1--a.jsonl\n", "git-annex.*git annex get"),
        (TEXT.encode("utf-16"), "UTF-16.*iconv"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        ('{"prompt": "é", "chosen": 1}'.encode("latin-1") + b" " * 20, "not UTF-8"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"\n <html>", "HTML"),
        (b"<?xml version='1.0'?>", "XML"),
        (b"prompt,chosen,rejected\np,c,r\n", "CSV.*JSONL"),
        (b"prompt\tchosen\np\tc\n", "CSV"),
        (b"a;b\n1;2\n", "CSV"),
        (zipped(), "zip"),
        (b"\xfd7zXZ\x00abc", "xz"),
        (b"\x80\x04\x95abc", "pickle"),
        (b"ARROW1\0\0", "Arrow"),
        (f"{TEXT}\n{TEXT[:30]}".encode(), ":2: .*it was cut"),
        (json.dumps([ROW, ROW])[:60].encode(), ":1: .*it was cut"),
        (json.dumps(ROW, indent=1)[:25].encode(), "it was cut"),
        (gzip.compress(TEXT.encode() * 99, mtime=0)[:40], "it was cut"),
        (parquet()[:300], "it was cut"),
        (b"", "no rows"),
        (b"\xef\xbb\xbf", "no rows"),
        (b"\0\1\2\3" * 9, "binary"),
        (json.dumps({"prompt": ["p"], "chosen": ["c"], "rejected": ["r"]}).encode(), "table by columns"),
        (json.dumps({"data": [ROW]}).encode(), "the columns are data"),
        (f"{TEXT}\n{TEXT} {TEXT}\n".encode(), ":2: not JSON"),
    ],
)
def test_what_is_no_file_of_rows_is_named_for_what_it_is(tmp_path: Path, body: bytes, match: str) -> None:
    for name, content in (("in.jsonl", body), ("in.parquet", body), ("in.json.gz", gzip.compress(body, mtime=0))):
        (tmp_path / name).write_bytes(content)
        if name.endswith("gz") and body[:4] in (b"PAR1", b"\x1f\x8b\x08\0"):
            continue
        with pytest.raises(ExchangeError, match=match):
            load(tmp_path / name, tmp_path / "run", "n")
    assert not (tmp_path / "run").exists()


@given(st.integers(1, 200), st.booleans())
def test_no_cut_of_a_file_is_read_as_if_it_were_whole(tmp_path_factory: Any, at: int, packed: bool) -> None:
    """All rows of what is left, or an error: never a row that is a part of one."""
    whole = "".join(json.dumps(ROW | {"prompt": f"p{i}"}) + "\n" for i in range(4))
    body = gzip.compress(whole.encode(), mtime=0) if packed else whole.encode()
    if at >= len(body):
        return
    file = tmp_path_factory.mktemp("cut") / "in.jsonl"
    file.write_bytes(body[:at])
    try:
        found = [dict(row.values) for row in rows_of(file, "in.jsonl")]
    except ExchangeError:
        return
    assert all(row == ROW | {"prompt": f"p{i}"} for i, row in enumerate(found)) and not packed


# --- memory ------------------------------------------------------------------------------------------


READ = """
import resource, sys
from pathlib import Path
from rrm.core.errors import RRMError
from rrm.exchange.imports.contents import rows_of
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(sum(len(row.values["prompt"]) for row in rows_of(Path(sys.argv[1]), "in")))
except RRMError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


def alone(path: Path) -> tuple[str, int]:
    """What a process of its own says on reading a file (characters of prompts, or an error), and how much it grew."""
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said, _, grown = done.stdout.strip().rpartition("\n")
    return said, int(grown)


@pytest.mark.parametrize("start", [b'{"prompt": "', TEXT.encode() + b"\n" + b'{"prompt": "'])
def test_a_line_of_gigabytes_in_a_gzip_of_megabytes_is_not_read(tmp_path: Path, start: bytes) -> None:
    with gzip.open(tmp_path / "in.jsonl.gz", "wb", compresslevel=1) as packed:
        packed.write(start)
        for _ in range(512):
            packed.write(b"a" * (1 << 20))
        packed.write(b'"}\n')
    said, grown = alone(tmp_path / "in.jsonl.gz")
    assert f"in.jsonl.gz:{1 + start.count(b'}')}: a line of more than 64 MiB" in said
    assert grown < 1 << 28, "half of what it unpacks to"


def test_a_list_of_rows_is_in_memory_at_once_and_so_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "WHOLE", 1000)
    (tmp_path / "in.json").write_text(json.dumps([ROW] * 100))
    with pytest.raises(ExchangeError, match="one JSON value of more than"):
        load(tmp_path / "in.json", tmp_path / "run", "n")


def test_a_parquet_of_some_kilobytes_that_unpacks_to_gigabytes_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    long = "ab" * 750_000  # 1.5 MB, and four hundred rows that refer to it
    table = pa.table({"prompt": pa.array([long] * 400).dictionary_encode(), "chosen": ["c"] * 400})
    pq.write_table(table, tmp_path / "in.parquet", compression="zstd")
    assert (tmp_path / "in.parquet").stat().st_size < 10_000
    said, grown = alone(tmp_path / "in.parquet")
    assert said == "600000000" and grown < 3 << 27, "less than two thirds of it"


def test_one_value_that_swells_is_refused(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a" * (200 << 20)], "chosen": ["c"]})
    pq.write_table(table, tmp_path / "in.parquet", compression="zstd", use_dictionary=False)
    said, grown = alone(tmp_path / "in.parquet")
    assert "column 'prompt' unpacks from" in said and grown < 1 << 26


# --- splits ------------------------------------------------------------------------------------------


def split(folder: Path, **names: int) -> Path:
    """A folder with a file of so many rows for each name."""
    for name, n in names.items():
        lines(folder / f"{name.replace('__', '/')}.jsonl", [ROW | {"prompt": f"{name} {i}"} for i in range(n)])
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("train.jsonl", "train"),
        ("data/test-00000-of-00002.parquet", "test"),
        ("data/train_prefs-00000-of-00001.parquet", "train_prefs"),
        ("hh_test.jsonl.gz", "test"),
        ("askbaking/validation.json", "validation"),
        ("dev/a.jsonl", "dev"),
        ("a.jsonl", None),
        ("latest.jsonl", None),
        ("training.json", "training"),
        ("x/trainer/a.json", None),
    ],
)
def test_the_split_of_a_file_is_told_by_its_name(file: str, name: str | None) -> None:
    assert split_of(Path(file)) == name


def test_the_splits_of_a_folder_are_not_merged(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder = split(tmp_path / "data", train=3, test=2, more=1)
    done = load(folder, tmp_path / "run", "n")
    assert done.added == 3 and {c.case.prompt[:5] for c in stored(tmp_path / "run")} == {"train"}
    assert "split train is read, of test, train; --split says otherwise" in done.lines()
    assert "not read: 1 files that are of no split" in done.lines()
    assert load(source(folder, "test"), tmp_path / "test", "n").added == 2
    with pytest.raises(ExchangeError, match="no split 'val'; its splits: test, train"):
        source(folder, "val")
    (tmp_path / "prefs").mkdir()
    prefs = {"train_prefs-00000-of-00001": 1, "test_prefs-00000-of-00001": 1}
    with pytest.raises(ExchangeError, match="none is called train; say which with --split: test_prefs, train_prefs"):
        source(split(tmp_path / "prefs", **prefs))
    (tmp_path / "one").mkdir()
    assert load(split(tmp_path / "one", test=1, more=1), tmp_path / "both", "n").added == 2, "one split is not several"


def test_nor_are_the_splits_that_rows_name(tmp_path: Path) -> None:
    rows = [ROW | {"prompt": f"{name}{i}", "split": name} for name in ("val", "train") for i in range(3)]
    file = lines(tmp_path / "in.jsonl", rows)
    done = load(file, tmp_path / "run", "n")
    assert done.added == 3 and "split train is read, of val, train; --split says otherwise" in done.lines()
    assert load(source(file, "val"), tmp_path / "val", "n").added == 3
    other = lines(tmp_path / "other.jsonl", [ROW | {"prompt": f"p{i}", "split": f"part {i}"} for i in range(3)])
    assert load(other, tmp_path / "other", "n").added == 3, "a column of that name may say something else"
    with pytest.raises(ExchangeError, match="leave out --split"):
        load(source(lines(tmp_path / "none.jsonl", [ROW]), "train"), tmp_path / "none", "n")


def test_peerread_s_splits_meet_in_no_pair_so_all_are_read_unless_one_is_asked_for(tmp_path: Path) -> None:
    venue(tmp_path / "data", "acl", papers(4))
    venue(tmp_path / "data", "acl", papers(3, seed=1), split="dev")
    assert load(tmp_path / "data", tmp_path / "run", "paper").rows == 7
    assert load(source(tmp_path / "data", "dev"), tmp_path / "dev", "paper").rows == 3


# --- the run -----------------------------------------------------------------------------------------


def test_a_run_that_is_being_trained_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    held = FileLock(tmp_path / "run" / "lock")
    held.acquire()
    try:
        with pytest.raises(RunError, match="is being trained"):
            load(lines(tmp_path / "in.jsonl", [ROW]), tmp_path / "run", "n")
        assert not (tmp_path / "run" / "run.db").exists()
    finally:
        held.release()
    assert load(tmp_path / "in.jsonl", tmp_path / "run", "n").added == 1
