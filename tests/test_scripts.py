"""Every script can be started, and says what it is for."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
MODULES = {
    "acting_lander.py", "acting_match.py", "acting_walks.py", "acting_watching.py", "addressing_agent.py",
    "audited_shift.py", "audited_tree.py",
    "beside_pendulum.py", "frozen.py",
    "kept_rows.py", "published_pairs.py",
    "skill_parts.py", "skill_page.py", "words_page.py", "words_stage.py",
}  # fmt: skip
"""Imported by other scripts, or trees."""


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


@pytest.mark.slow
def test_the_demo_climbs_and_a_second_call_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a pile of 9, which two levels of replies are enough for."""
    script = SCRIPTS[0].parent / "demo_moves.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--out", str(tmp_path), "--stones", "9", "--levels", "2"])
    runpy.run_path(str(script), run_name="__main__")
    first = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["arm"] for row in report["arms"]][:3] == ["depth 0", "depth 1", "depth 2"]
    for row in report["arms"][:3]:
        assert abs(row["agreement"]["mean"] - row["agreement, converged"]) < 0.15, "its levels converge"
    assert (tmp_path / "depth.svg").stat().st_size > 500 and "judgements" in first
    runpy.run_path(str(script), run_name="__main__")
    assert "judgements" not in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["arms"] == report["arms"]
