"""Every script can be started, and says what it is for."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
MODULES = {"frozen.py"}
"""Imported by other scripts."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help(script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.syspath_prepend(str(script.parent))
    if script.name in MODULES:
        runpy.run_path(str(script))
        return
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
    except ModuleNotFoundError as error:  # the bench's extra
        pytest.skip(f"{error}")
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5
