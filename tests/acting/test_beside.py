"""scripts/beside_imitation.py: its pendulum is Gymnasium's, its user is imitation's, and all of it runs."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rrm.acting.episodes import ARCHIVE, Episode
from rrm.core.judgements import Pair
from rrm.core.records import Case, Outcome

SCRIPTS = Path(__file__).parents[2] / "scripts"
OTHER = os.environ.get("RRM_IMITATION_PYTHON", "")
"""The interpreter of an environment that has imitation."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return runpy.run_path(str(SCRIPTS / "beside_imitation.py"))


def test_the_pendulum_is_that_of_gymnasium(script: dict[str, Any]) -> None:
    own, known = script["Pendulum"](), gym.make("Pendulum-v1").unwrapped
    rng = np.random.default_rng(0)
    own.reset(seed=1)
    known.reset(seed=1)
    known.state = np.array([own.angle, own.speed])  # type: ignore[attr-defined]
    for _ in range(script["LENGTH"]):
        action = rng.uniform(-2, 2, 1).astype(np.float32)
        seen, reward, *_ = own.step(action)
        its, its_reward, *_ = known.step(action)
        assert np.allclose(seen, its, atol=1e-3) and abs(reward - its_reward) < 1e-3


def test_the_user_prefers_by_the_logistic_of_the_returns(script: dict[str, Any]) -> None:
    def outcome(reward: float, number: int) -> Outcome:
        hidden = {"reward": np.array([reward / 2, reward / 2])}
        episode = Episode(np.full((3, 1), number, np.float32), np.zeros(2), hidden=hidden, where=f"{number}")
        return Outcome(f"{number}", data={"episode": ARCHIVE.remember(episode)})

    user = script["Returns"](0)
    far = [Pair("swing", Case("x"), outcome(-1.0, n), outcome(-99.0, n + 1000)) for n in range(50)]
    assert all(user.judge(None, pair).preference == 1.0 for pair in far)
    assert all(user.judge(None, pair.swapped()).preference == 0.0 for pair in far)
    near = [Pair("swing", Case("x"), outcome(-1.0, n + 2000), outcome(-2.0, n + 3000)) for n in range(400)]
    share = np.mean([user.judge(None, pair).preference for pair in near])
    assert abs(share - 1 / (1 + np.exp(-1))) < 0.1


@pytest.mark.slow
@pytest.mark.skipif(not OTHER, reason="RRM_IMITATION_PYTHON names no interpreter that has imitation")
def test_both_sides_run_and_a_second_call_computes_nothing(
    tmp_path: Path, script: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--python", OTHER, "--quick", "--seeds", "0,", "--comparisons", "40", "--out", str(tmp_path)]
    script["main"](given)
    first = capsys.readouterr().out
    assert "| rrm | 1 |" in first and "| imitation | 1 |" in first and "smoke test" in first
    files = {path: path.read_text() for path in tmp_path.glob("*.json")}
    assert len(files) == 3 and all(json.loads(text)["steps"] > 0 for text in files.values())
    script["main"]([*given, "--doc", str(tmp_path / "page.md")])
    script["main"](given)
    assert {path: path.read_text() for path in tmp_path.glob("*.json")} == files
    assert "imitation-40-0:" not in capsys.readouterr().out and "smoke test" in (tmp_path / "page.md").read_text()


@pytest.mark.slow
def test_one_side_alone_needs_no_other(tmp_path: Path, script: dict[str, Any]) -> None:
    with pytest.raises(SystemExit):
        script["main"](["--quick", "--out", str(tmp_path)])
    script["main"](["--quick", "--sides", "rrm", "--seeds", "0,", "--comparisons", "40", "--out", str(tmp_path)])
    assert (tmp_path / "rrm-40-0.json").exists()
