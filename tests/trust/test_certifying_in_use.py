"""The commands `rrm certify` and `rrm verify` in use: what comes and goes beside a run, and what they say of what is
wrong with what they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.trust.certifying import certify, outdated
from tests.trust.test_certificates import certified, checked, key, run

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")


def test_what_comes_and_goes_or_is_for_finding_a_run_changes_no_certificate(run: Path, key: Path) -> None:
    """Tags and the lock of whoever trains."""
    from rrm.store.tags import FILE

    for there in (True, False):
        for name in (FILE, "lock.json"):
            if there:
                (run / name).write_text("here")
            else:
                (run / name).unlink()
        found = checked(run, key)
        assert found.code == 0 and not any("does not speak of" in note for note in found.notes)
        (*_, done) = certify(run, key=key)
        assert not {FILE, "lock.json", "lock"} & {*done.predicate.files}


def test_a_node_certified_alone_says_which_certificates_above_hold_no_more(run: Path, key: Path) -> None:
    def said(*more: str) -> str:
        done = CliRunner().invoke(app, ["certify", str(run), *more, "--key", str(key)])
        assert done.exit_code == 0
        return " ".join(done.output.split())

    assert "hold no more" in said("toy/sub") and "hold no more" not in said()
    assert checked(run, key).code == 0
    assert outdated(run / "certificates", "toy/sub/deep") == ["toy/sub", "toy"]
