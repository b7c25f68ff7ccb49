"""An experiment of many arms: each is kept as it ends, and only what is missing is computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rrm.core.errors import RRMError
from rrm.measure import experiment
from rrm.measure.catalog import EXPERIMENTS, there_is
from rrm.measure.experiment import OfArms, Result, Summary, document, kept_so_far, made_by, measure
from rrm.measure.experiments import challenges
from rrm.measure.stage import Stage
from rrm.users.bounded import BoundedUser
from rrm_tasks.paper import paper


class Toy:
    """Each arm's result is its name's length; `made` lists what was computed."""

    QUESTION = "How long are names?"

    def __init__(self, *names: str) -> None:
        self.names, self.made, self.broken = names, list[str](), ""

    def _make(self, name: str) -> dict[str, float]:
        if name == self.broken:
            raise KeyboardInterrupt
        self.made.append(name)
        return {"length": len(name), "nothing": float("nan")}

    def by_arm(self, stage: Stage) -> dict[str, Callable[[], Any]]:
        return {name: lambda name=name: self._make(name) for name in self.names}  # type: ignore[misc]

    def summarize(self, results: Sequence[Result]) -> Summary:
        rows = [{"arm": arm, "length": of["length"]} for result in results for arm, of in result.items()]
        return Summary(rows, ["Names have lengths."], lambda axes: None)


class OneRun(Toy):
    """The same, as an experiment without arms."""

    by_arm = None  # type: ignore[assignment]

    def run(self, stage: Stage) -> Result:
        return {name: self._make(name) for name in self.names}


@pytest.fixture(autouse=True)
def _no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "plot", lambda summary, folder: None)


def ran(what: Any, out: Path, by: str, monkeypatch: pytest.MonkeyPatch, about: str = "it") -> dict[str, Any]:
    """Measured on seed 7 by the code `by`; the record of the summary."""
    monkeypatch.setattr(experiment, "code", lambda: by)
    stage = SimpleNamespace(about=lambda: {"settings": about}, user=lambda: SimpleNamespace(name="nobody"))
    measure("toy", what, lambda seed: stage, [7], out, "rrm measure toy", lambda text: None)  # type: ignore[arg-type, return-value]
    record: dict[str, Any] = json.loads((out / "toy" / "summary.json").read_text())
    return record


def kept(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "toy" / "7.json").read_text())
    return found


def test_an_interruption_loses_no_finished_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy("a", "bb", "ccc")
    toy.broken = "ccc"
    with pytest.raises(KeyboardInterrupt):
        ran(toy, tmp_path, "commit 1", monkeypatch)
    assert list(kept(tmp_path)["result"]) == ["a", "bb"] and not (tmp_path / "toy" / "summary.json").exists()
    again = Toy("a", "bb", "ccc")
    record = ran(again, tmp_path, "commit 1", monkeypatch)
    assert again.made == ["ccc"] and record["code"] == "commit 1"
    assert kept(tmp_path)["result"]["ccc"] == {"length": 3, "nothing": None}
    ran(again, tmp_path, "commit 2", monkeypatch)
    assert again.made == ["ccc"]


def test_what_was_kept_before_there_were_arms_is_completed_by_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new arm stands where the code has it; the file, and the page, say which code made which."""
    ran(OneRun("a", "ccc", "old"), tmp_path, "commit 1", monkeypatch)
    before = kept(tmp_path)
    assert "codes" not in before
    toy = Toy("a", "bb", "ccc")
    record = ran(toy, tmp_path, "commit 2", monkeypatch)
    assert toy.made == ["bb"] and [row["arm"] for row in record["rows"]] == ["a", "bb", "ccc"]
    after = kept(tmp_path)
    assert {arm: after["result"][arm] for arm in before["result"]} == before["result"]  # also what is no arm now
    assert after["codes"] == {"a": "commit 1", "bb": "commit 2", "ccc": "commit 1", "old": "commit 1"}
    assert record["code"] == "commit 1; bb of seeds 7 by commit 2" and record["code"] in document(record)
    with pytest.raises(RRMError, match="another --out"):
        ran(toy, tmp_path, "commit 2", monkeypatch, about="other settings")


def test_an_experiment_of_one_run_is_kept_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = OneRun("a", "bb")
    first = ran(one, tmp_path, "commit 1", monkeypatch)
    assert one.made == ["a", "bb"] and list(kept(tmp_path)) == ["about", "seconds", "code", "result"]
    more = OneRun("a", "bb", "ccc")
    assert ran(more, tmp_path, "commit 2", monkeypatch) == first and more.made == []


def test_code_is_told_by_arm_and_seeds() -> None:
    def of(code: str, **codes: str) -> dict[str, Any]:
        return {"code": code, "codes": codes, "result": codes}

    assert made_by({1: of("x", a="x"), 2: of("x", a="x")}) == "x"
    assert made_by({1: of("x", a="x", b="z"), 2: of("y", a="y", b="y"), 3: of("x", a="x", b="z")}) == (
        "x, y; b of seeds 1, 3 by z"
    )


def test_of_the_challenges_only_the_missing_arm_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bases, which another arm would be added to, are not trained for it."""
    assert [name for name, one in EXPERIMENTS.items() if isinstance(one, OfArms)] == ["challenges"]
    trained: list[str] = []

    def train(stage: Any, name: str, settings: Any) -> dict[str, float]:
        trained.append(name)
        return dict.fromkeys([*challenges.FIGURES, "unbearable", "distribution before", "kl", "judgements",
                              "attention"], 0.5)  # fmt: skip

    monkeypatch.setattr(challenges, "_run", train)
    stage = SimpleNamespace(task=paper(), quick=False, user=BoundedUser)
    every = {arm: make() for arm, make in challenges.by_arm(stage).items()}  # type: ignore[arg-type]
    assert len(trained) == len(set(trained)) == len(every)
    every.pop("hierarchical feedback")
    path = tmp_path / "7.json"
    trained.clear()
    code = {"about": {}, "seconds": 1.0, "code": "commit 1", "result": every}
    found = experiment._completed(challenges.by_arm(stage), code, path, lambda arm: None)  # type: ignore[arg-type]
    assert trained == ["with hierarchical feedback"] and len(found["result"]) == len(every) + 1
    assert "4 hierarchical feedback" in {row["approach"] for row in challenges.summarize([found["result"]]).rows}


def test_what_there_is_meanwhile_is_of_whole_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever seed is the half one; and one experiment without a whole seed hides no other."""
    toy = Toy("a", "bb")
    toy.broken = "bb"
    with pytest.raises(KeyboardInterrupt):
        ran(toy, tmp_path, "commit 1", monkeypatch)
    with pytest.raises(RRMError, match=r"none of its seeds is whole yet: 7 \(1 of 2 arms\)"):
        kept_so_far("toy", toy, [7], tmp_path)
    whole = kept(tmp_path) | {"result": {"a": {"length": 1}, "bb": {"length": 2}}}
    for seed in (6, 8):
        (tmp_path / "toy" / f"{seed}.json").write_text(json.dumps(whole))
        page = kept_so_far("toy", toy, [7, seed, 9], tmp_path)
        assert f"Seeds {seed}; half run, and left out: 7 (1 of 2 arms); not run: 9." in page and "| bb | 2 |" in page
    old = {key: value for key, value in whole.items() if key != "arms"}  # it does not say which arms there are
    (tmp_path / "toy" / "6.json").write_text(json.dumps(old | {"result": {"a": {"length": 1}}}))
    (tmp_path / "toy" / "8.json").write_text(json.dumps(old))
    assert "Seeds 8; half run, and left out: 6 (1 of 2 arms)." in kept_so_far("toy", toy, [6, 8], tmp_path)
    monkeypatch.setattr("rrm.measure.catalog.EXPERIMENTS", {"toy": toy, "other": toy})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "7.json").write_text((tmp_path / "toy" / "7.json").read_text())
    (tmp_path / "toy" / "7.json").write_text(json.dumps(whole))
    both = there_is("all", tmp_path, [7])
    assert "Seeds 7." in both and "# other\n\nNothing yet: " in both and "1 of 2 arms" in both
