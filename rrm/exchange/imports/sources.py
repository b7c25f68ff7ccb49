"""Where rows come from: a file, a folder of files, a data set of the hub. One split of it, never several together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import SourceRow
from rrm.exchange.imports.contents import rows_of

SUFFIXES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
ASIDE = ("parsed_pdfs", "pdfs")
"""Folders of PeerRead that hold no rows of their own."""
ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files of a data set that say what it is."""
HUB = "datasets:"
BY_DATASETS = {
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".arrow": "arrow",
}  # fmt: skip
"""Suffix of a file -> who reads it in `datasets`."""
SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation")
NUMBERED = re.compile(r"-\d{5}-of-\d{5}\Z")
"""How the hub names the files of a split."""


@dataclass(frozen=True)
class Source:
    """Where rows come from. `rows()` reads them anew each time, in the same order."""

    name: str
    rows: Callable[[], Iterator[SourceRow]]
    _digest: Callable[[], str]
    said: tuple[str, ...] = ()
    """What was decided about it, in words: which split is read."""
    split: str | None = None
    """The split that was asked for."""

    @cached_property
    def sha256(self) -> str:
        """A hash of the content, computed once; it may read all of it."""
        return self._digest()


def source(where: str | Path, split: str | None = None, subset: str | None = None) -> Source:
    """A file, a folder, or a data set: "datasets:NAME", read by `datasets.load_dataset(NAME, subset, split=split)`, or,
    where NAME is a file (CSV among them) or what `save_to_disk` wrote, by what reads that.

    split: which split of a folder or data set that has several; None: "train". A folder of PeerRead, whose splits are
    kept apart in what is compared, is read whole unless one is asked for.

    Raises `ExchangeError` if there is no such thing, or if it has several splits of which none is "train"; what is
    wrong inside is raised when it is read.
    """
    if isinstance(where, str) and where.startswith(HUB):
        return _hub(where.removeprefix(HUB), split, subset)
    if subset is not None:
        raise ExchangeError(f"--subset counts for data sets of the hub; to read a part of {where}, name its folder")
    path = Path(where)
    if path.is_dir():
        return _folder(path, split)
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".arrow"):
        return _hub(str(path), split, None)
    if not path.is_file():
        hint = f"; a data set of the hub is written {HUB}{where}" if str(where).count("/") == 1 else ""
        raise ExchangeError(f"cannot read {where}: there is no such file or folder{hint}")
    return Source(path.name, lambda: rows_of(path, path.name), lambda: _hash(path), split=split)


def of_one_split(given: Source, names: Sequence[str]) -> Source:
    """The source without the rows whose column `split` names another split than the one that is read.

    names: what that column says in all rows, in the order in which it does. Raises as `source` does.
    """
    known = [name for name in names if name.lower() in SPLITS]
    if len(known) < 2 and given.split is None:
        return given
    if not known:
        raise ExchangeError(f"{given.name} has no splits, neither files nor rows; leave out --split")
    chosen, said = _chosen(known, given.split, given.name)

    def rows() -> Iterator[SourceRow]:
        return (row for row in given.rows() if row.values.get("split") == chosen)

    return Source(given.name, rows, lambda: given.sha256, (*given.said, *said), given.split)


def _chosen(names: Sequence[str], asked: str | None, what: object) -> tuple[str, tuple[str, ...]]:
    """Which of several splits is read, and what to say of that. Raises `ExchangeError` if it is not clear."""
    there = ", ".join(names)
    if asked is not None:
        if asked not in names:
            raise ExchangeError(f"{what} has no split {asked!r}; its splits: {there}")
        return asked, ()
    if len(names) == 1:
        return names[0], ()
    if "train" not in names:
        raise ExchangeError(f"{what} has several splits, and none is called train; say which with --split: {there}")
    return "train", (f"split train is read, of {there}; --split says otherwise",)


def _folder(folder: Path, split: str | None) -> Source:
    files = [
        path for path in sorted(folder.rglob("*"))
        if path.name.endswith(SUFFIXES) and path.is_file() and path.name not in ABOUT
        and not any(part in ASIDE or part.startswith(".") for part in path.relative_to(folder).parts)
    ]  # fmt: skip
    if not files:
        saved = any(folder.rglob("*.arrow"))
        mend = f"; if datasets saved it: {HUB}{folder}" if saved else ""
        raise ExchangeError(f"{folder}: no file in it ends in {', '.join(SUFFIXES)}{mend}")
    of = {path: split_of(path.relative_to(folder)) for path in files}
    names = list(dict.fromkeys(name for name in of.values() if name))
    reviews = all(path.parent.name == "reviews" for path in files)
    said: tuple[str, ...] = ()
    inside: str | None = None
    if names and (split is not None or (len(names) > 1 and not reviews)):
        chosen, said = _chosen(names, split, folder)
        if aside := sum(name is None for name in of.values()):
            said += (f"not read: {aside} files that are of no split",)
        files = [path for path in files if of[path] == chosen]
    else:
        inside = split  # there may be rows that name one

    def rows() -> Iterator[SourceRow]:
        for path in files:
            yield from rows_of(path, path.relative_to(folder).as_posix())

    def digest() -> str:
        parts = [[path.relative_to(folder).as_posix(), _hash(path)] for path in files]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    return Source(folder.resolve().name, rows, digest, said, inside)


def split_of(file: Path) -> str | None:
    """The split that a file is of, by its name or that of a folder above it; None if they name none.

    What stands before "-00000-of-00001" is one ("train_prefs"), and so is a word of a name ("test" in "hh_test.jsonl").
    """
    stem = file.name.split(".")[0]
    if (found := NUMBERED.search(stem)) and found.start():
        return stem[: found.start()]
    for part in (stem, *reversed(file.parts[:-1])):
        words = [word for word in re.split(r"[-_. ]", part.lower()) if word in SPLITS]
        if words:
            return words[-1]
    return None


def _hub(name: str, split: str | None, subset: str | None) -> Source:
    from datasets.exceptions import DatasetsError  # late: it takes seconds

    said: tuple[str, ...] = ()
    try:
        data, split, said = _loaded(name, split, subset)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(
            f"{HUB}{name}: cannot be loaded ({error}); give the name of a data set, its --subset and --split, "
            "or load it elsewhere and save it as JSONL or parquet"
        ) from error
    named = Path(name).name if Path(name).exists() else name  # a path says nothing of the rows, and much of the machine
    title = f"{named}[{split}]" if subset is None else f"{named}/{subset}[{split}]"

    def rows() -> Iterator[SourceRow]:
        for number, values in enumerate(data, 1):
            yield SourceRow(values, title, number)

    def digest() -> str:
        found = hashlib.sha256()
        for row in rows():
            found.update(json.dumps(row.values, sort_keys=True, default=str).encode())
        return found.hexdigest()

    return Source(title, rows, digest, said)


def _loaded(name: str, split: str | None, subset: str | None) -> tuple[Any, str, tuple[str, ...]]:
    """One split of what `datasets` opens by this name, which it is, and what was decided: a file by its suffix, a
    folder that `save_to_disk` wrote, or else what `load_dataset` makes of it."""
    from datasets import Dataset, get_dataset_split_names, load_dataset, load_from_disk

    path = Path(name)
    saved = path.is_dir() and any((path / one).is_file() for one in ("dataset_dict.json", "state.json"))
    if (saved or path.is_file()) and subset is not None:
        raise ExchangeError(f"--subset counts for data sets with configurations; {name} has none")
    if path.is_file():
        if (kind := BY_DATASETS.get(path.suffix.lower())) is None:
            raise ExchangeError(f"{HUB}{name}: a file ends in {', '.join(BY_DATASETS)}")
        more = {"sep": "\t"} if path.suffix.lower() == ".tsv" else {}
        found: Any = load_dataset(kind, data_files=str(path), **more)
    elif saved:
        found = load_from_disk(name)
        found = {"train": found} if isinstance(found, Dataset) else found
    else:
        split, said = (split, ()) if split else _chosen(get_dataset_split_names(name, subset), None, f"{HUB}{name}")
        return load_dataset(name, subset, split=split), split, said
    split, said = _chosen(list(found), split, f"{HUB}{name}")
    return found[split], split, said


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ExchangeError(f"cannot read {path} ({error})") from error
