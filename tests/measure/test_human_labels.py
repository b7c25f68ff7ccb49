"""What children's labels say of the parent's: planted relations are found, and independent labels say nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Answer, Assistance, Case, Finding, Outcome
from rrm.exchange.imports.loading import load
from rrm.measure.experiments.human_labels import ENOUGH, LabelsTable, over_cases, predict, report, right, table
from rrm.measure.stats import Interval
from tests.label.reviews import lines, papers

RUN = CliRunner()
GROUP = 4


def planted(rng: np.random.Generator, cases: int, weights: tuple[float, ...], long: float = 0.0) -> LabelsTable:
    """Groups of four outcomes with scores from 1 to 5, a tenth of them missing; the parent scores their weighted sum,
    `long` times the length, and noise, rounded. The children's scores go together (a correlation of about a third)."""
    case, parent, signals, length = [], [], [], []
    for c in range(cases):
        scores = rng.normal(size=(GROUP, len(weights))) + 0.7 * rng.normal(size=(GROUP, 1))
        lengths = rng.normal(size=GROUP)
        quality = np.round(scores @ np.array(weights) + long * lengths + rng.normal(size=GROUP))
        scores = np.clip(np.round(scores + 3), 1, 5)
        scores[rng.random(scores.shape) < 0.1] = math.nan
        for i in range(GROUP):
            for j in range(i + 1, GROUP):
                case.append(c)
                parent.append(float(np.sign(quality[i] - quality[j])))
                signals.append((scores[i] - scores[j]) / 4)
                length.append(lengths[i] - lengths[j])
    names = tuple("abcdefgh"[: len(weights)])
    made = (np.array(case), np.array(parent), np.array(signals), np.array(length))
    return LabelsTable(names, ("assistance",) * len(names), *made)


def share(found: object) -> Interval:
    assert isinstance(found, dict)
    return Interval(**found)  # type: ignore[typeddict-item]


def test_children_that_make_the_parents_judgement_are_found_to_predict_it() -> None:
    found = report(planted(np.random.default_rng(0), 60, (1.5, 1.5, 0.0)))
    by_name = {row["predictor"]: row for row in found.rows}
    every = share(by_name["all children"]["right"])
    assert every["low"] > 0.7 and every["mean"] > share(by_name["length"]["right"])["high"]
    assert share(by_name["all children"]["nats"])["high"] < math.log(2)
    assert share(by_name["all children, minus length"]["right"])["low"] > 0
    a, b, c = found.children
    for child in (a, b):
        assert share(child["agrees"])["low"] > 0.6
        assert share(child["adds (nats)"])["low"] > 0 and share(child["adds (right)"])["low"] > 0
    assert share(c["adds (nats)"])["low"] < 0, "the third says nothing that the two do not"
    assert share(c["agrees"])["low"] > 0.5, "yet it goes with them, and so with the parent"
    assert all(share(row["correlation"])["low"] > 0 for row in found.correlations)
    text = " ".join(found.notes)
    assert "Together the children predict" in text
    assert "Adds something that the others do not say (in nats): a, b" in text


def test_length_is_found_where_length_decides() -> None:
    found = report(planted(np.random.default_rng(1), 60, (0.0, 0.0), long=-2.0))
    by_name = {row["predictor"]: row for row in found.rows}
    assert by_name["length"]["how"].startswith("the shorter") and share(by_name["length"]["right"])["low"] > 0.7
    assert share(by_name["all children, minus length"]["right"])["high"] < 0
    assert share(by_name["all children and length"]["right"])["low"] > 0.7
    assert any("length alone predicts it better" in note for note in found.notes)


@pytest.mark.parametrize("cases", [ENOUGH, 50])
def test_children_that_say_nothing_are_called_something_about_as_often_as_claimed(cases: int) -> None:
    """The interval's lower end is above chance in 2.5 % of worlds if it is right; 5 % are let pass, and 100 worlds have
    a standard error of 2.2 %. (Of 300 worlds it was 3.7 % with 20 cases, 5.3 % with 40.)"""
    rng = np.random.default_rng(2)
    alarms = gains = 0
    for _ in range(100):
        one = planted(rng, cases, (0.0, 0.0, 0.0))
        decided = one.parent != 0
        case, parent, signals = one.case[decided], one.parent[decided], np.nan_to_num(one.signals[decided])
        every, less = predict(signals, parent, case), predict(signals[:, 1:], parent, case)
        alarms += share_over_cases(right(every, parent), case)["low"] > 0.5
        gains += share_over_cases(right(every, parent) - right(less, parent), case)["low"] > 0
    assert alarms <= 100 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 100))
    assert gains <= 100 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 100))


def share_over_cases(values: np.ndarray, case: np.ndarray) -> Interval:
    return over_cases(np.stack([values, np.ones(len(values))], 1), case, lambda s: s[..., 0] / s[..., 1])


def test_no_pair_of_a_case_helps_to_predict_another_of_it() -> None:
    """A child whose signal names the case, and a parent whose preference is the case's: nothing can be learned."""
    rng = np.random.default_rng(3)
    side = rng.choice([-1.0, 1.0], 40)
    case = np.repeat(np.arange(40), 6)
    features = np.eye(40)[case]
    odds = predict(features, side[case], case)
    assert np.abs(odds).max() < 1e-3


def test_swapping_a_and_b_changes_nothing() -> None:
    one = planted(np.random.default_rng(4), 30, (1.0, 0.5))
    flip = np.where(np.random.default_rng(5).random(len(one.parent)) < 0.5, -1.0, 1.0)
    other = replace(one, parent=one.parent * flip, signals=one.signals * flip[:, None], length=one.length * flip)
    for here, there in zip(report(one).rows, report(other).rows, strict=True):
        assert here["right"] == pytest.approx(there["right"], abs=1e-6)


def test_too_few_cases_have_no_interval_and_it_is_said() -> None:
    found = report(planted(np.random.default_rng(6), ENOUGH - 1, (2.0, 2.0)))
    every = share(found.rows[2]["right"])
    assert every["mean"] > 0.7 and math.isnan(every["low"])
    assert any("Too little data for intervals: 19 cases" in note for note in found.notes)
    assert not any("predict" in note for note in found.notes)
    with pytest.raises(RRMError, match="nothing to predict"):
        report(replace(planted(np.random.default_rng(6), 20, (1.0,)), parent=np.zeros(20 * 6)))


# --- where the labels come from ----------------------------------------------------------------------


def comparison(task: str, i: int, preference: float | None, shares: tuple[float, ...] = ()) -> Comparison:
    """`shares`: of A's facts, those that hold by assistant c0's, c1's, ...; of B's, half do."""

    def says(held: float, name: str) -> Assistance:
        facts = tuple(Finding(f"{name}{k}", k < round(4 * held)) for k in range(4))
        return Assistance(f"p/{name}", "v", (Answer(Case("q"), Outcome("o"), facts, None),))

    sides = [tuple(says(one, f"c{k}") for k, one in enumerate(side)) for side in (shares, (0.5,) * len(shares))]
    pair = Pair(task, Case(f"case {i}"), Outcome(f"long {i}" * 2), Outcome(f"s{i}"), *sides)
    return Comparison(pair, Judgement(preference), -1, "u")


def test_children_are_assistants_or_nodes_below_that_judged_the_same_outcomes() -> None:
    some = [comparison("p", i, p) for i, p in enumerate((1.0, 0.0, 0.75, None, 0.5))]
    swapped = comparison("p/x", 1, 1.0)
    swapped = replace(swapped, pair=swapped.pair.swapped())
    below = [comparison("p/x", 0, 1.0), swapped, comparison("p/x", 4, 0.5), comparison("p/x/deep", 2, 1.0)]
    found = table([*some, *below], "p")
    assert found.children == ("x",) and found.origin == ("comparisons",)
    assert found.parent.tolist() == [1, -1, 1, 0], "the abstention is left out"
    assert found.signals[:, 0].tolist() == pytest.approx([1, -1, math.nan, 0], nan_ok=True)
    assert (found.length > 0).all()

    helped = table([comparison("p", i, 1.0, (s, 0.5)) for i, s in enumerate((1.0, 0.0, 0.75))], "p")
    assert helped.children == ("c0", "c1") and helped.origin == ("assistance",) * 2
    assert helped.signals.tolist() == [[0.5, 0], [-0.5, 0], [0.25, 0]]


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(RRMError, match="no comparison at 'q'"):
        table([comparison("p", 0, 1.0)], "q")
    with pytest.raises(RRMError, match="no child of 'p'"):
        table([comparison("p", 0, 1.0), comparison("p/x", 1, 1.0)], "p")


def test_reviews_are_measured_from_the_shell(tmp_path: Path) -> None:
    file = lines(tmp_path / "acl.jsonl", papers(120))
    load(file, tmp_path / "run", "paper")
    pages = []
    for where in (tmp_path / "run", file):
        done = RUN.invoke(
            app, ["measure", "human-labels", str(where), "--node", "paper", "--out", str(tmp_path / "out")]
        )
        assert done.exit_code == 0, done.output
        assert "Together the children predict" in done.output and "| clarity | assistance |" in done.output
        summary = json.loads((tmp_path / "out/human-labels/summary.json").read_text(), parse_constant=pytest.fail)
        assert summary["users"] == {"reviewers(acl)": 180} and not summary["simulated"]
        pages.append(summary["rows"])
    assert pages[0] == pages[1], "a run and the file it was imported from say the same"
    children = {child["child"]: child for child in summary["children"]}
    for name, matters in (("clarity", True), ("soundness", True), ("originality", False), ("substance", False)):
        assert (children[name]["adds (nats)"]["low"] > 0) == matters

    for command, message in (
        (["measure", "human-labels"], "of which labels"),
        (["measure", "budget", str(file)], "only human-labels"),
        (["measure", "human-labels", str(tmp_path / "none")], "no such file"),
        (["measure", "human-labels", str(tmp_path / "run"), "--node", "other"], "no comparison at 'other'"),
    ):
        bad = RUN.invoke(app, [*command, "--out", str(tmp_path / "out")])
        assert bad.exit_code == 2 and message in bad.output and "Traceback" not in bad.output
    assert "human-labels" in RUN.invoke(app, ["measure"]).output
