"""The benchmark run again as a tool: right when it runs as long as the truth does, at times wrong when it does not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from rrm import BoundedUser, Outcome, faults, train
from rrm.core.tools import consult
from rrm.core.validation import plant
from rrm.measure.oracle import matter
from rrm.store.store import Store
from rrm.worlds.chip import Spec, Specs, facts, write
from rrm.worlds.chip.cache import ACCESSES
from rrm.worlds.chip.corpus import Corpus
from rrm_assistants.tools.simulation import Simulation, simulated_benchmark
from rrm_tasks.chip import chip
from tests.chip import standin


def verdicts(accesses: int, n: int = 25) -> list[bool]:
    """Whether each of the tool's verdicts on designs of the corpus is right."""
    corpus, right = Corpus(random.Random(0)), []
    for case in Specs(0, "held-out").draw(n, "tool"):
        outcome = Outcome(write(Spec.of(case), corpus.design(Spec.of(case))))
        truth = {fact.name: matter(fact) for fact in facts(case, outcome) if fact.aspect == "benchmark"}
        report = consult(Simulation(accesses), case, outcome)
        assert [f.fact for f in report.findings] == list(truth)
        right += [finding.holds == truth[finding.fact] for finding in report.findings]
    return right


def test_the_long_run_is_the_truth_and_a_short_one_is_not() -> None:
    assert all(verdicts(ACCESSES))
    short = verdicts(Simulation().accesses)
    assert 0.6 < sum(short) / len(short) < 1


def test_it_abstains_from_what_is_no_design() -> None:
    (case,) = Specs(0).draw(1, "one")
    report = consult(Simulation(), case, Outcome("a very good cache"))
    assert not report.findings and "no design" in report.abstained


def test_its_version_tells_settings_apart() -> None:
    assert Simulation(100).version != Simulation(200).version == Simulation(200).version


def test_it_assists_in_the_place_of_the_trained_critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.employ(monkeypatch)
    small = standin.small(chip())
    tree = replace(small, assistants=(simulated_benchmark(), *small.assistants[1:]))
    assert faults(plant(tree)) == []
    train(tree, BoundedUser(), standin.backbone(), tmp_path / "run")
    for comparison in Store(tmp_path / "run" / "run.db").comparisons("chip"):
        (said,) = [a for a in comparison.assistance_a if a.name == "benchmark"]
        assert {f.fact for f in said.findings} == {"A", "B", "ns", "fast"} and said.answers[0].confidence is None
