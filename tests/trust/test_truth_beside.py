"""What lies where truth.db should be, and truths of which half is missing: what is signed says so, and what is shown
goes on without."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rrm.core.errors import RunError
from rrm.store.truths import FILE
from rrm.trust import reporting
from rrm.trust.certifying import certify, file_of
from rrm.trust.report_figures import DrawnFigure
from rrm.trust.reported import run_told
from rrm.trust.reporting import report
from rrm.trust.snapshot import Disguised
from rrm.trust.statement import Figure, NotKnown
from tests.trust.test_by_truth import lie, run, said, whole  # noqa: F401 (fixtures)
from tests.trust.test_certificates import checked, key, kinds, rewritten  # noqa: F401 (key is a fixture)


def folder(run: Path) -> None:  # noqa: F811
    (run / FILE).mkdir()


def nowhere(run: Path) -> None:  # noqa: F811
    (run / FILE).symlink_to(run / "nowhere")


def log(run: Path) -> None:  # noqa: F811
    (run / f"{FILE}-wal").mkdir()


def torn(run: Path) -> None:  # noqa: F811
    shutil.copy(run.parent / FILE, run / FILE)
    body = bytearray((run / FILE).read_bytes())
    for at in range(4096, len(body), 4096):
        body[at : at + 200] = bytes([255]) * 200
    (run / FILE).write_bytes(body)


def bare(run: Path) -> None:  # noqa: F811
    shutil.copy(run.parent / FILE, run / FILE)
    with closing(sqlite3.connect(run / FILE)) as db, db:
        db.execute("DROP TABLE outcomes")


def empty(run: Path) -> None:  # noqa: F811
    (run / FILE).write_bytes(b"")


def test_a_certificate_of_before_holds_whatever_has_the_name(run: Path, key: Path) -> None:  # noqa: F811
    (run / FILE).rename(run.parent / FILE)
    certify(run, key=key)
    for put in (folder, nowhere, log, torn):
        put(run)
        found = checked(run, key)
        assert found.code == 0, (put.__name__, found.faults)
        told = run_told(run)
        assert told.nodes["toy"].testing.by_truth is None, put.__name__
        for path in (run / FILE, run / f"{FILE}-wal"):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("put", [torn, bare, empty])
def test_nothing_is_signed_of_a_truth_that_cannot_be_read(
    run: Path, key: Path, put: Callable[[Path], None]  # noqa: F811
) -> None:  # fmt: skip
    (run / FILE).rename(run.parent / FILE)
    put(run)
    with pytest.raises(Disguised, match=r"truth.db (has no|is damaged)"):
        certify(run, key=key)
    (run / FILE).unlink()
    folder(run)
    with pytest.raises(RunError, match="no file"):
        certify(run, key=key)


def test_half_a_truth_is_said_to_be_half(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(reporting, "draw", lambda runs, node: DrawnFigure(b"<svg/>", b"%PDF"))
    with closing(sqlite3.connect(run / "run.db")) as db:
        counts = dict(db.execute("SELECT task, COUNT(*) FROM comparisons GROUP BY task"))
        ((outcome,),) = db.execute("SELECT a FROM comparisons WHERE task = 'toy' LIMIT 1").fetchall()
        having = "SELECT COUNT(*) FROM comparisons WHERE task = 'toy' AND ? IN (a, b)"
        (gone,) = db.execute(having, (outcome,)).fetchone()
    with closing(sqlite3.connect(run / FILE)) as db, db:
        db.execute("DELETE FROM outcomes WHERE outcome = ?", (outcome,))
    certify(run, key=key)
    below, top = said(run, "toy/sub")[1].testing.by_truth, said(run)[1].testing.by_truth
    assert below is not None and below.unmeasured == counts["toy/sub"] > 0
    for one in (below.user, below.reward_model, below.held_out):
        assert isinstance(one, NotKnown) and one.not_known == "the truth was not measured at this node"
    assert top is not None and 0 < top.unmeasured == gone < counts["toy"] and isinstance(top.user, Figure)
    assert checked(run, key).code == 0
    text = report([run], run.parent / "report", "rrm report").markdown.read_text().partition("### By the truth")[2]
    assert f"toy: {gone} comparison" in text and f"toy/sub: {counts['toy/sub']} comparisons count nowhere" in text
    rewritten(file_of(run / "certificates", "toy"), lie(lambda p: p["testing"]["by_truth"].update(unmeasured=0)), key)
    assert kinds(checked(run, key)) == {"changed"}


def test_how_much_was_not_measured_cannot_be_left_out(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    rewritten(file_of(run / "certificates", "toy"), lie(lambda p: p["testing"]["by_truth"].pop("unmeasured")), key)
    assert checked(run, key).code not in (0, 10)
