"""tasks/chip.py end to end: the tree is whole, a bounded user can judge with its help, it trains and is measured."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm import BoundedUser, Pair, Task, faults, train
from rrm.command.cli import app
from rrm.core.records import Answer, Assistance, Case, Finding, Group, Outcome
from rrm.core.validation import plant
from rrm.measure.arms import HeldOut, differing
from rrm.measure.catalog import Size, run, stages
from rrm.measure.oracle import matter
from rrm.store.store import Store
from rrm.worlds.chip import Specs
from rrm.worlds.chip.corpus import Corpus
from rrm_tasks.chip import chip
from tests.chip import standin
from tests.test_layout import FILES, imports, inside, name


def test_the_tree_is_whole() -> None:
    assert faults(plant(chip())) == []
    done = CliRunner().invoke(app, ["check", "tasks/chip.py"])
    assert done.exit_code == 0 and "6 nodes, 0 errors, 0 warnings" in done.output


@pytest.mark.parametrize("left_out", ["benchmark", "heat", "lifetime", "security"])
def test_every_aspect_has_its_assistant(left_out: str) -> None:
    tree = chip()
    without = replace(tree, assistants=tuple(sub for sub in tree.subtasks if sub.name != left_out))
    (warning,) = faults(plant(without))
    assert f"no assistant covers the aspect {left_out!r}" in str(warning)


def test_the_framework_knows_nothing_of_chips() -> None:
    """Training can only meet the simulator through a task; measuring may."""
    apart = ("rrm/worlds/", "rrm/measure/")
    others = [path for path in FILES if name(path).startswith("rrm/") and not name(path).startswith(apart)]
    assert len(others) > 40
    for path in others:
        assert not any(inside(module, "rrm.worlds.chip") for module in imports(path)), name(path)


# --- judging -----------------------------------------------------------------------------------------


@cache
def held() -> HeldOut:
    corpus = Corpus(random.Random(0))
    groups = [
        Group(case, tuple(Outcome(corpus.write("chip", case)) for _ in range(4)))
        for case in Specs(0, "held-out").draw(30, "judge")
    ]
    return differing(plant(chip()), groups)


def told(task: Task, case: Case, outcome: Outcome, honest: bool) -> tuple[Assistance, ...]:
    """One assistant for each aspect that knows the truth and says it, or its opposite, about every fact."""
    by: dict[str, list[Finding]] = {}
    for fact in task.facts(case, outcome):
        wrong = [k for k, part in enumerate(fact.parts) if not matter(part)]
        by.setdefault(fact.aspect, []).append(
            Finding(fact.name, matter(fact) == honest, wrong[0] if wrong and honest else None)
        )
    return tuple(
        Assistance(f"chip/{aspect}", "1", (Answer(Case(f"{aspect} {outcome.text}"), Outcome(""), tuple(found), None),))
        for aspect, found in by.items()
    )


def agreement(user: BoundedUser, honest: bool | None) -> float:
    """How often the user prefers the truly better, without assistance if `honest` is None."""
    task, right = plant(chip()), []
    for (g, i, j), truth in zip(held().pairs, held().truth, strict=True):
        group = held().groups[g]
        if honest is not None:
            said = tuple(told(task, group.case, outcome, honest) for outcome in group.outcomes)
            group = replace(group, assistance=said)
        preference = user.judge(task, Pair.of(task.path, group, i, j)).preference
        assert preference is not None
        right.append(1 - abs(truth - preference))
    assert len(right) > 80
    return sum(right) / len(right)


def test_a_bounded_user_judges_chips_better_with_true_assistance_and_not_with_false() -> None:
    """The facts cost more than the user has (24 for each design, 3 to spend), so where to look is worth something."""
    alone, helped, misled = (agreement(BoundedUser(), honest) for honest in (None, True, False))
    assert 0.45 < alone < 0.9
    assert helped > alone + 0.1
    assert misled < helped - 0.1
    assert agreement(BoundedUser(attention=100, error=0, biases={}), None) == 1.0


def test_facts_cost_more_than_a_user_has_but_none_is_out_of_reach() -> None:
    task, user = plant(chip()), BoundedUser()
    for group in held().groups:
        found = task.facts(group.case, group.outcomes[0])
        assert sum(fact.price for fact in found) > 5 * user.attention // 2
        assert all(fact.price <= user.attention // 2 for fact in found)


# --- training and measuring --------------------------------------------------------------------------


def test_a_round_of_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.employ(monkeypatch)
    tree = standin.small(chip())
    root = train(tree, BoundedUser(), standin.backbone(), tmp_path / "run")
    assert [helper.task.name for helper in root.helpers] == ["benchmark", "heat", "lifetime", "security"]
    store = Store(tmp_path / "run" / "run.db")
    comparisons = {node.path: store.comparisons(node.path) for node in plant(tree).walk()}
    assert all(comparisons.values())  # every node was judged
    shown = [a for c in comparisons["chip"] for a in (*c.assistance_a, *c.assistance_b)]
    assert {a.name for a in shown if not a.na} == {"benchmark", "heat", "lifetime", "security"}
    no_attacker = [c for c in comparisons["chip"] if c.pair.case.data["noise"] is None]
    for comparison in comparisons["chip"]:
        (security,) = [a for a in comparison.assistance_a if a.name == "security"]
        assert security.na == (comparison in no_attacker)
    below = {a.name for one in shown for a in one.tree()}
    assert "segments" in below
    names = {fact.name for c in comparisons["chip"] for fact in chip().facts(c.pair.case, c.pair.a)}
    assert {f.fact for a in shown for f in a.findings} == names  # nobody speaks of what is not there
    checks = list(itertools.chain(*(c.judgement.checks for c in comparisons["chip"])))
    assert checks and any(not check.said for check in checks)  # accusations were looked into

    trained = {p: version for p, version in store.checkpoints("chip").items()}
    again = train(tree, BoundedUser(), standin.backbone(), tmp_path / "run")  # resumes: nothing is left to do
    assert again.version == root.version and store.checkpoints("chip") == trained


@pytest.mark.slow
def test_sandwich_measures_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.employ(monkeypatch)
    monkeypatch.setattr("rrm.measure.catalog.Backbone.load", lambda model: standin.backbone())
    stage = stages(chip(), lambda seed: BoundedUser(seed=seed), "stand-in", tmp_path, Size(quick=True))
    run(["sandwich"], stage, [100], tmp_path, "rrm measure sandwich --tree tasks/chip.py --quick")
    page = (tmp_path / "sandwich" / "index.html").read_text()
    for word in ("alone", "assistants alone", "oracle", "chip/benchmark/segments", "chip/security"):
        assert word in page
