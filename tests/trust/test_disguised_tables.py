"""Tables and indices of a run's databases are those that rrm makes, by their columns too: what stands in a column of
another kind compares otherwise, and so gives other figures of the very same rows."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rrm.core.errors import RunError
from rrm.store.upgrades import LABELS, RUN
from rrm.trust.certifying import certify, file_of
from rrm.trust.snapshot import Disguised, copied, look
from tests.trust.test_certificates import certified, checked, key, kinds, rewritten, run

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")


def made_otherwise(run: Path, name: str, old: str, new: str) -> None:
    """Change the definition of a table or an index, and no row."""
    with closing(sqlite3.connect(run / "run.db")) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        assert old in sql
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql.replace(old, new, 1), name))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("comparisons", "preference REAL", "preference TEXT"),
        ("comparisons", "purpose TEXT", "purpose TEXT COLLATE NOCASE"),
        ("comparisons", "seconds REAL", "seconds REAL CHECK (1)"),
        ("comparisons", "supersedes INTEGER NOT NULL DEFAULT 0,", "supersedes INTEGER NOT NULL DEFAULT 0, zzz TEXT,"),
        ("comparisons", "UNIQUE (task, round, pair, supersedes)", "UNIQUE (task, round, pair, supersedes, seq)"),
        ("scores", "round INTEGER", "round TEXT"),
        ("comparisons_task", "(task)", "(round)"),
        ("comparisons_task", "(task)", "(task) WHERE round > 5"),
    ],
)
def test_another_definition_is_found(name: str, old: str, new: str, run: Path, key: Path) -> None:
    made_otherwise(run, name, old, new)
    assert kinds(checked(run, key)) == {"changed"}
    with pytest.raises(RunError):
        certify(run, key=key)


def test_what_an_upgrade_makes_of_an_older_table_is_ours(certified: Path, tmp_path: Path) -> None:
    """Columns that were added later stand behind the constraints there."""
    for name, table, columns, scripts in (
        ("run.db", "comparisons", ("purpose TEXT NOT NULL DEFAULT '', again INTEGER NOT NULL DEFAULT 0,\n    ",), RUN),
        ("labels.db", "labels", (", remarks TEXT NOT NULL DEFAULT ''",), LABELS),
    ):
        with copied(certified) as copy:
            if name == "labels.db":
                from rrm.labels.queue import Labels

                Labels(copy).close()
            with closing(sqlite3.connect(copy / name)) as db:
                (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
                for column in columns:
                    assert column in sql
                    sql = sql.replace(column, "")
                for kind, other in db.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"
                                              ).fetchall():  # fmt: skip
                    db.execute(f'DROP {kind} "{other}"')
                db.execute(f"DROP TABLE {table}")
                db.execute(sql)
                db.commit()
                look(copy)
                for line in "\n".join(scripts).splitlines():
                    if line.startswith(f"ALTER TABLE {table}"):
                        db.execute(line)
                db.commit()
                look(copy)
                db.execute(f"ALTER TABLE {table} ADD COLUMN mine TEXT")
                db.commit()
                with pytest.raises(Disguised, match=f"the table '{table}'"):
                    look(copy)


def test_the_truth_is_a_file_in_the_run_and_files_are_named_as_they_are(run: Path, key: Path, tmp_path: Path) -> None:
    from rrm.store.truths import Truths

    Truths(tmp_path).close()
    (run / "truth.db").symlink_to(tmp_path / "truth.db")
    with pytest.raises(RunError, match="symbolic link"):
        certify(run, key=key)
    (run / "truth.db").unlink()
    with closing(sqlite3.connect(tmp_path / "truth.db")) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    shutil.copy(tmp_path / "truth.db", run / "truth.db")
    certify(run, key=key)
    assert checked(run, key).code == 0
    (run / "truth.db").unlink()
    (run / "truth.db").symlink_to(tmp_path / "truth.db")
    assert any("truth.db is a symbolic link" in fault.what for fault in checked(run, key).faults)
    (run / "truth.db").unlink()
    certify(run, key=key)
    path = file_of(run / "certificates", "toy/sub")
    for name in ("./config.json", "nodes//toy", "nodes/../config.json", str(run.resolve() / "config.json")):
        good = path.read_bytes()
        rewritten(path, naming(name), key)
        assert any("no path within a run" in fault.what for fault in checked(run, key, "toy/sub").faults), name
        path.write_bytes(good)


def naming(name: str) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["files"][name] = "0" * 64

    return change
