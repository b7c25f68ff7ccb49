"""scripts/challenges_acting.py: what its effects and its page say of runs whose answer is known."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import rrm
from rrm.acting import demonstrate, episode_of
from rrm.core.shares import most
from rrm.core.validation import faults, plant
from rrm.loop.training import maker_of

SCRIPT = Path(__file__).parents[2] / "scripts" / "challenges_acting.py"
ROW: dict[str, Any] = {
    "amount": 0.5, "amount before": 0.1, "distribution": 0.9, "gaming": 0.0, "harm in training": 100.0,
    "harm after": 0.02, "gap": 0.3, "harmed": 6, "walks": 300, "judgements": 48, "real episodes": 500.0,
    "real steps": 9000.0, "seconds": 40.0, "code": "here",
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def planted(arm: str, **changes: Any) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """A baseline and one arm that differs from it, a little otherwise on each seed."""
    base = {seed: {**ROW, "amount": 0.5 + 0.01 * seed} for seed in range(4)}
    other = {seed: {**row, **{k: row[k] + v + 1e-3 * seed for k, v in changes.items()}} for seed, row in base.items()}
    return {("vase", "baseline"): base, ("vase", arm): other}


@pytest.mark.parametrize(
    "arm, changes, figure, so",
    [
        ("parts", {"amount": 0.2}, "amount", "helps"),  # the arm has the approach
        ("explore", {"amount": 0.2}, "amount", "worse"),  # the arm lacks it
        ("model", {"harm in training": -50.0}, "harm in training", "helps"),
        ("doubt", {"gaming": 0.5}, "gaming", "helps"),
        ("adversary", {"gap": 0.5}, "gap", "worse"),
        ("findings", {}, "distribution", "no effect seen"),
    ],
)
def test_a_planted_effect_is_seen_with_its_sign(
    script: dict[str, Any], arm: str, changes: dict[str, float], figure: str, so: str
) -> None:
    found = script["effect"](planted(arm, **changes), "vase", arm, figure)
    assert script["verdict"](found) == so and found["n"] == 4


def test_the_page_says_worse_and_nothing_seen_and_what_was_not_known(script: dict[str, Any]) -> None:
    results = planted("explore", amount=0.2)
    for row in results["vase", "explore"].values():
        row |= {"harm in training": None, "harm after": None, "harmed": 0, "walks": 0}
    text = script["page"](results, "the command", "by whom")
    assert "2 off-policy feedback | 4 | -0.20" in text and "worse |" in text and "no effect seen" in text
    row = next(line for line in text.splitlines() if line.startswith("| explore | ") and "–" in line)
    assert "nan" not in text and row.endswith("– | – |") and f"24 of 1200 | {most(24, 1200):.2%}" in text


def test_every_arm_is_a_run_that_can_be_begun(script: dict[str, Any]) -> None:
    for world in script["WORLDS"].values():
        for arm in script["ARMS"].values():
            settings = world.settings.model_copy(update=dict(arm.changes(world.settings)))
            settings = rrm.Settings.model_validate(settings.model_dump())
            task = plant(world.tree(settings=settings))
            assert not [fault for fault in faults(task) if "does nothing" in str(fault) or fault.level == "error"]
            assert maker_of(script["named"](task.usual["model"], arm.model)).name


def test_experts_do_what_is_wanted(script: dict[str, Any], tmp_path: Path) -> None:
    """In every wind that was tried."""
    for name, world in script["WORLDS"].items():
        task = world.tree(n=24)
        for outcome in demonstrate(tmp_path / name, task, world.expert, task.cases.cases):
            hidden = episode_of(outcome).hidden
            if name == "boat":
                assert hidden["progress"][-1] == len(hidden["reward"]) and not hidden["bumps"][-1]
            else:
                assert hidden["arrived"][-1] and not hidden["unacceptable"].any() and len(hidden["reward"]) < 12


def test_a_second_call_computes_nothing(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--worlds", "vase", "--seeds", "0,1", "--out", str(tmp_path), "--doc", str(tmp_path / "page.md")]
    (tmp_path / "vase-parts-1.json").write_text(json.dumps(ROW))
    for name in ("baseline-0", "baseline-1", "parts-0"):
        (tmp_path / f"vase-{name}.json").write_text(json.dumps(ROW))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given, "--arms", "baseline", "parts"])
    script["main"]()
    assert len(capsys.readouterr().out.splitlines()) == 4 and not (tmp_path / "trees").exists()
    assert "4 hierarchical feedback | 2 | +0.00" in (tmp_path / "page.md").read_text()
