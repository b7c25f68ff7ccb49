"""What the library `datasets` opens is imported: files by their suffix, what it saved, and one split of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.mapped import Columns
from rrm.exchange.imports.sources import Source, source
from tests.label.reviews import stored

ROWS = [{"q": f'Question {i}, "so"?', "one": f"good {i}", "two": f"bad\n{i}", "better": i % 2} for i in range(4)]
MAP = Columns.parse(["prompt=q", "a=one", "b=two", "prefers=better:1,0"])


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def imported(given: Source, folder: Path) -> set[tuple[str, str, str]]:
    load(given, folder, "n", columns=MAP)
    kept = stored(folder, "n")
    return {(c.case.prompt, *((c.a.text, c.b.text) if c.preference == 1 else (c.b.text, c.a.text))) for c in kept}


WANTED = {(r["q"], *((r["one"], r["two"]) if r["better"] else (r["two"], r["one"]))) for r in ROWS}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_file_is_read_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    made, file = datasets.Dataset.from_list(ROWS), tmp_path / f"rows.{suffix}"
    if suffix in ("csv", "tsv"):
        made.to_csv(file, sep="\t" if suffix == "tsv" else ",")
    else:
        made.to_json(file) if suffix == "jsonl" else made.to_parquet(file)
    assert imported(source(f"datasets:{file}"), tmp_path / "run") == WANTED
    if suffix == "csv":  # such a file needs no prefix
        assert imported(source(file), tmp_path / "other") == WANTED
    with pytest.raises(ExchangeError, match="--subset"):
        source(f"datasets:{file}", subset="default")


def test_what_was_saved_is_opened_and_its_splits_are_not_merged(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "alone")
    parts = datasets.DatasetDict(train=whole.select([0, 1]), test=whole.select([2, 3]))
    parts.save_to_disk(tmp_path / "parts")
    assert imported(source(f"datasets:{tmp_path / 'alone'}"), tmp_path / "a") == WANTED
    opened = source(f"datasets:{tmp_path / 'parts'}")
    assert "split train is read, of train, test" in opened.said[0] and opened.name == "parts[train]"
    assert len(imported(opened, tmp_path / "b")) == 2
    test = imported(source(f"datasets:{tmp_path / 'parts'}", split="test"), tmp_path / "c")
    assert test | imported(source(f"datasets:{tmp_path / 'parts'}"), tmp_path / "d") == WANTED
    with pytest.raises(ExchangeError, match="no split 'dev'"):
        source(f"datasets:{tmp_path / 'parts'}", split="dev")
    with pytest.raises(ExchangeError, match=r"datasets saved it: datasets:"):
        source(tmp_path / "alone")


def test_another_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.xyz").write_text("a")
    with pytest.raises(ExchangeError, match=r"\.csv"):
        source(f"datasets:{tmp_path / 'x.xyz'}")
