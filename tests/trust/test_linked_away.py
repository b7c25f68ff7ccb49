"""What lies elsewhere is no part of a run: a symbolic link in the place of a file is refused, and it is said which."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrm.core.errors import RunError
from rrm.trust.certifying import certify
from tests.trust.test_certificates import certified, checked, key, kinds, run
from tests.trust.test_left_out import found_in

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")


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


def test_a_run_s_folder_may_be_reached_through_a_link(run: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run)
    assert checked(tmp_path / "latest", key).code == 0
    certify(tmp_path / "latest", key=key)
