"""Agreement and uplift: from labels whose answer is known."""

from __future__ import annotations

import math
import random
import uuid
from pathlib import Path

import krippendorff
import numpy as np
import pytest

from rrm.core.judgements import Margin, Pair
from rrm.core.records import Case, Outcome
from rrm.labels.agreement import alpha, report, uplifts, with_others
from rrm.labels.questions import Choice, Question, side
from rrm.labels.queue import Labels
from rrm.measure.oracle import true_score
from rrm.measure.people import true_uplifts
from rrm.store.store import Store
from rrm.view.reading import Reader
from rrm.view.uplift import by_reward_model, told
from tests import toy
from tests.label.material import assistance, pair


def judge(labels: Labels, question: Question, name: str, prefers_a: bool | None) -> None:
    choice: Choice = "tie" if prefers_a is None else "first" if prefers_a != question.swapped(name) else "second"
    labels.answer(str(uuid.uuid4()), question.id, name, choice, seconds=2.0 if question.assisted(name) else 5.0)


def test_alpha_is_that_of_the_reference_implementation(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    ids = labels.ask("t", 0, "Which?", [pair(i) for i in range(40)], 3, 0.0)
    rng = random.Random(1)
    table = np.full((3, 40), np.nan)
    for j, id in enumerate(ids):
        truth = rng.random() < 0.5
        for i, name in enumerate(("ann", "ben", "eve")[: 3 if j % 4 else 1]):
            said = None if rng.random() < 0.2 else truth if rng.random() < 0.8 else not truth
            judge(labels, labels.question(id), name, said)
            table[i, j] = 0.5 if said is None else float(said)
    found = alpha(labels.labels(), labels.cases())
    assert found.pairs == 30
    for estimate, level in ((found.ordinal, "ordinal"), (found.nominal, "nominal")):
        assert estimate.value == pytest.approx(krippendorff.alpha(table, level_of_measurement=level))
        assert estimate.low < estimate.value < estimate.high


def test_without_overlap_nothing_is_said_of_agreement(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    ids = labels.ask("t", 0, "Which?", [pair(i) for i in range(5)], 1, 0.5)
    for id in ids:
        judge(labels, labels.question(id), "ann", True)
    found = report(labels, "ann")
    assert math.isnan(found.alpha.ordinal.value) and math.isnan(found.people[0].difference.value)
    assert "--overlap 2" in "\n".join(found.lines()) and "uplift (" not in "\n".join(found.lines())


@pytest.mark.parametrize("cases", [1, 19, 20])
def test_few_cases_give_no_interval_and_say_why(tmp_path: Path, cases: int) -> None:
    labels = Labels(tmp_path)
    asked = [Pair("t", Case(f"w{i}"), Outcome("w1"), Outcome("w2")) for i in range(cases)]
    asked += [Pair("t", Case(f"w{i}"), Outcome("w3"), Outcome("w4")) for i in range(cases)]
    for i, id in enumerate(labels.ask("t", 0, "Which?", asked, 2, 0.0)):
        judge(labels, labels.question(id), "ann", i % 3 > 0)
        judge(labels, labels.question(id), "ben", i % 3 > 0)
    found = report(labels, "ann")
    (said,) = [line for line in found.lines() if "alpha" in line]
    assert found.alpha.ordinal.value == 1.0 and math.isnan(found.alpha.ordinal.low) == (cases < 20)
    assert ("1.00 [1.00, 1.00]" if cases == 20 else f"1.00 (no interval: it takes 20 cases, not {cases})") in said


def test_everybody_always_alike_has_no_alpha(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    for id in labels.ask("t", 0, "Which?", [pair(i) for i in range(5)], 2, 0.0):
        judge(labels, labels.question(id), "ann", True)
        judge(labels, labels.question(id), "ben", True)
    assert math.isnan(alpha(labels.labels(), labels.cases()).ordinal.value)


def test_a_persons_uplift_is_found_in_agreement_and_in_truth(tmp_path: Path) -> None:
    """ann is right with assistance and guesses without; ben is always right."""
    labels, rng, task = Labels(tmp_path), random.Random(2), toy.task()
    pairs = []
    for i in range(120):
        shown = (assistance(f"a{i}"), assistance(f"b{i}"))
        pairs.append(Pair("toy", Case(f"w{i}"), Outcome("w1 w2" + " x x" * i), Outcome("w1 w1 w1"), *shown))
    ids = labels.ask("toy", 0, "Which?", pairs, 2, 0.5)
    for id in ids:
        question = labels.question(id)
        one = question.pair
        truth = true_score(task, one.case, one.a) > true_score(task, one.case, one.b)
        judge(labels, question, "ben", truth)
        judge(labels, question, "ann", truth if question.assisted("ann") else rng.random() < 0.5)
    by_agreement = {u.labeler: u for u in uplifts(labels.labels(), labels.cases(), with_others(labels.labels()))}
    by_truth = {u.labeler: u for u in true_uplifts(task, labels)}
    for found in (by_agreement, by_truth):
        ann = found["ann"]
        assert ann.assisted.worth.value == 1.0 and 0.25 < ann.unassisted.worth.value < 0.75
        assert ann.difference.low > 0.1 and ann.assisted.n + ann.unassisted.n == 120
        assert (ann.assisted.seconds, ann.unassisted.seconds) == (2.0, 5.0)
    assert by_truth["ben"].difference.value == 0.0
    assert "uplift (agreement" in "\n".join(report(labels, "ann").lines())


def test_strength_is_no_matter_of_agreement() -> None:
    assert [side(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_with_one_person_the_reward_model_is_what_can_be_agreed_with(tmp_path: Path) -> None:
    """On pairs that it was never trained on, and with the latest round's."""
    labels, store = Labels(tmp_path), Store(tmp_path / "run.db")
    ids = labels.ask("t", 0, "Which?", [pair(i) for i in range(60)], 1, 0.5)
    margins = []
    for i, id in enumerate(ids):
        question = labels.question(id)
        judge(labels, question, "ann", True)
        held, right = i % 3 > 0, question.assisted("ann")
        margins.append(Margin(question.pair.id, 1.0 if right else -1.0, 0.1, held))
    store.score("t", 0, [Margin(m.comparison, -m.mean, m.std, m.heldout) for m in margins])
    store.score("t", 1, margins)
    store.close()
    with Reader(tmp_path) as run:
        (found,) = by_reward_model(run, labels, "ann")
    assert found.assisted.worth.n + found.unassisted.worth.n == 40
    assert (found.assisted.worth.value, found.unassisted.worth.value, found.difference.value) == (1.0, 0.0, 1.0)
    assert "on 40 held-out pairs" in "\n".join(told(tmp_path, labels, "ann"))
