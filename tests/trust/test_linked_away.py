"""What lies elsewhere is no part of a run: a symbolic link in the place of a file is refused, and it is said which."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from rrm.core.errors import RunError
from rrm.store.store import Store
from rrm.trust import certifying
from rrm.trust.certifying import certify
from rrm.trust.snapshot import copied
from rrm.view.reading import Reader
from tests.trust.test_certificates import certified, checked, key, kinds, run
from tests.trust.test_left_out import found_in

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")
ERRORS = Path(__file__).parents[2] / "docs" / "errors.md"
LATE = "SELECT COUNT(*) FROM metrics WHERE task = 'toy' AND round = 9"


@pytest.mark.parametrize(
    "name",
    ["run.db", "run.db-wal", "labels.db", "calls.db", "truth.db", "config.json", "nodes", "nodes/toy/0", "trust",
     "trust/toy", "trust/toy/guarantees/bounds.json"],
)  # fmt: skip
def test_a_link_in_the_place_of_a_file_or_on_the_way_to_one_is_refused(
    name: str, run: Path, key: Path, tmp_path: Path
) -> None:
    found_in(run, "guarantees", "bounds")
    certify(run, key=key)
    path, elsewhere = run / name, tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    path.symlink_to(elsewhere)
    if name != "truth.db":  # of which the certificate does not speak
        found = checked(run, key)
        assert kinds(found) == {"changed"}
        assert any(f"{name} is a symbolic link" in one.what and "put there" in one.what for one in found.faults)
    else:
        assert any("truth.db lies there" in note for note in checked(run, key).notes)
    with pytest.raises(RunError, match=f"{name} is a symbolic link.* put there what it leads to"):
        certify(run, key=key)


def test_the_command_that_errors_md_gives_loses_no_row_of_a_linked_database(
    run: Path, key: Path, tmp_path: Path
) -> None:
    """SQLite puts what is not in a database yet beside the file that a link leads to; whoever was killed left it."""
    elsewhere = tmp_path / "elsewhere" / "run.db"
    elsewhere.parent.mkdir()
    with closing(Store(run / "run.db")) as store:
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.log("toy", 9, "fit", 0, {"accuracy": 0.5})
        for more in ("", "-wal"):
            shutil.copy(run / f"run.db{more}", elsewhere.with_name(f"run.db{more}"))
    for path in run.glob("run.db*"):
        path.unlink()
    (run / "run.db").symlink_to(elsewhere)
    with copied(run) as copy, Reader(copy) as reader:
        assert reader.row(LATE) == (1,), "a report, too, reads all of it"
    with pytest.raises(RunError, match=r"newest rows.* docs/errors\.md has a command"):
        certify(run, key=key)
    (line,) = (one for one in ERRORS.read_text().splitlines() if "`is a symbolic link" in one)
    (command,) = re.findall(r"`(python -c [^`]*)`", line)
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, cwd=run, check=True)
    (*_, done) = certify(run, key=key)
    with Reader(run) as reader:
        assert reader.row(LATE) == (1,)
    assert not (run / "run.db").is_symlink() and done.predicate.evidence.size and checked(run, key).code == 0


def test_each_link_is_told_and_none_hides_another(run: Path, key: Path, tmp_path: Path) -> None:
    """Not by one of a database of which the certificate does not speak."""
    found_in(run, "guarantees", "bounds")
    certify(run, key=key)
    (run / "truth.db").symlink_to(tmp_path / "nowhere")
    for name in ("trust", "labels.db", "config.json"):
        if (run / name).exists():
            (run / name).rename(tmp_path / name)
        (run / name).symlink_to(tmp_path / name)
    told = [one.what.split(" is a symbolic link")[0] for one in checked(run, key).faults]
    assert sorted(told) == ["config.json", "labels.db", "trust"]


@pytest.mark.parametrize("name", ["run.db", "trust", "truth.db"])
def test_a_certificate_of_before_version_three_holds_where_a_link_was_followed_then(
    name: str, run: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifying, "predicate_of", partial(certifying.predicate_of, version=2))
    certify(run, key=key)
    (run / "trust").mkdir()
    path = run / name
    if path.exists():
        path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    found = checked(run, key)
    assert found.code == 0, [one.what for one in found.faults]
    assert any(note.startswith(f"{name} is a symbolic link") for note in found.notes) == (name != "truth.db")


def test_a_run_s_folder_may_be_reached_through_a_link(run: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run)
    assert checked(tmp_path / "latest", key).code == 0
    certify(tmp_path / "latest", key=key)
