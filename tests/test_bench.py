"""The benchmark runs, and what it reports is what it measured. With a tiny model: nothing here is about speed."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parent.parent
TRL = importlib.util.find_spec("trl") is not None


def bench(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["scripts/bench.py", "--tiny", "--quick", "--json", out / "b.json"]
    where = {"PYTHONPATH": f"{out}{os.pathsep}{ROOT}", "HOME": str(out), "OMP_NUM_THREADS": "1"}
    return forked.run([*command, "--markdown", out / "b.md", *arguments], env=os.environ | where)


@pytest.mark.slow
def test_what_needs_no_trl(tmp_path: Path) -> None:
    done = bench(tmp_path, "--case", "sampling", "--case", "limit")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    raw = report["cases"]["sampling"]["raw"]["sampling"]
    assert all(len(values) == 3 and min(values) > 0 for values in raw.values())
    medians = {side: statistics.median(values) for side, values in raw.items()}
    assert report["medians"]["sampling"] == medians
    assert report["ratios"] == {"sampling": pytest.approx(medians["rrm"] / medians["generate"])}
    assert 0 < report["limit"]["training_step"] < 1
    assert report["machine"]["cores"] and report["versions"]["torch"] and report["settings"]["threads"] == 1
    page = (tmp_path / "b.md").read_text()
    assert report["command"] in page and "`ratios.sampling`" in page and report["machine"]["processor"] in page


@pytest.mark.slow
def test_without_trl_it_says_how_to_get_it_and_reports_no_ratio(tmp_path: Path) -> None:
    if TRL:  # hidden behind one that cannot be imported
        (tmp_path / "trl.py").write_text("raise ImportError('no trl here')")
    done = bench(tmp_path, "--case", "reward_fit")
    report = json.loads((tmp_path / "b.json").read_text())
    assert done.returncode == 1 and report["ratios"] == {}
    assert "[bench]" in report["cases"]["reward_fit"]["failed"]


@pytest.mark.slow
@pytest.mark.skipif(not TRL, reason="needs trl: pip install -e '.[bench]'")
def test_against_trl(tmp_path: Path) -> None:
    names = ["policy_step_assistance", "policy_step_writing", "reward_fit"]
    done = bench(tmp_path, "--runs", "1", *(part for name in names for part in ("--case", name)))
    assert done.returncode == 0, done.stderr
    ratios = json.loads((tmp_path / "b.json").read_text())["ratios"]
    assert set(ratios) == {*names, "reward_fit_lora"} and min(ratios.values()) > 0


@pytest.mark.slow
@pytest.mark.skipif(not TRL, reason="needs trl: pip install -e '.[bench]'")
def test_the_gpus_bench_runs_anywhere_and_its_ratios_are_of_what_it_lists(tmp_path: Path) -> None:
    parts = [part for name in ("sampling", "policy", "fit", "bits") for part in ("--part", name)]
    done = forked.run(
        ["scripts/bench_gpu.py", "--tiny", "--runs", "1", "--json", tmp_path / "g.json", *parts],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "g.json").read_text())
    raw = found["sampling"]["raw"]
    assert found["sampling"]["times generate"] == pytest.approx(raw["rrm"][0] / raw["generate"][0])
    assert found["policy"]["times faster"] == pytest.approx(
        found["policy"]["raw"]["trl"][0] / found["policy"]["raw"]["rrm"][0]
    )
    assert sum(found["policy"]["parts"].values()) == pytest.approx(found["policy"]["raw"]["rrm"][0], rel=0.05)
    assert found["bits"]["same"] and min(found["fit"].values()) > 0
