"""The tree of word problems: sound, its tools at work, its truth sealed; and it trains."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rrm import BoundedUser, Case, Group, Malformed, Outcome, Pair, Pool, Task, check, faults, train
from rrm.core.errors import SealedOracle
from rrm.core.judgements import Judgement
from rrm.core.settings import Settings
from rrm.core.task import Assistant, assist
from rrm_tasks.gsm8k import PROBLEMS
from rrm_tasks.word_problems import case_of, facts, surface, word_problems
from tests.text.material import QUESTION, RIGHT, WRONG, published, write

SMALL = Settings(
    rounds=1, cases=4, outcomes=2, comparisons=4, max_tokens=8, heads=2, steps=1, batch=2, group=2, accept=0,
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"question": f"How many are {n} and {n}?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}
        for n in range(2, 10)
    ]
    return write(tmp_path / PROBLEMS.file, rows).parents[1]


def helpers() -> list[Assistant]:
    return [one for one in word_problems().assistants if isinstance(one, Assistant)]


def test_the_tree_has_no_fault(data: Path) -> None:
    assert faults(check(word_problems(data))) == []


def test_the_truth_of_a_solution_is_sealed() -> None:
    case = case_of(QUESTION, RIGHT)
    by_name = {fact.name: fact for fact in facts(case, Outcome(WRONG))}
    assert set(by_name) == {"calc1", "calc2", "step1", "step2", "givens", "units", "stated", "answer"}
    assert by_name["answer"].price > by_name["calc1"].price
    with pytest.raises(SealedOracle):
        bool(by_name["answer"].truth)
    with pytest.raises(Malformed):
        facts(case, Outcome("Who knows?"))
    with pytest.raises(Malformed, match="ends without a number"):
        case_of(QUESTION, "no idea")
    assert surface(case, Outcome(RIGHT))["length"] == 0.2


def test_the_assistants_say_what_betrays_a_wrong_solution() -> None:
    (group,) = assist(helpers(), [Group(case_of(QUESTION, RIGHT), (Outcome(RIGHT), Outcome(WRONG)))])
    right, wrong = (" ".join(one.text for one in group.seen(i)) for i in range(2))
    assert right == "arithmetic right follows right answered right"
    assert "wrong step2 (9 from nowhere)" in wrong


def test_a_user_who_cannot_check_all_gains_where_a_tool_points() -> None:
    """Six lines, attention for one: only whoever is shown which line to check finds the wrong one."""
    case = Case("x", {"question": "x", "answer": "1"})
    good = "\n".join(f"{n} + 1 = <<{n}+1={n + 1}>>{n + 1}" for n in range(6)) + "\nA: 6"
    bad = good.replace("<<4+1=5>>5", "<<4+1=6>>6")
    preferred, task = {}, word_problems()
    for shown in (True, False):
        (group,) = assist(helpers() if shown else [], [Group(case, (Outcome(good), Outcome(bad)))])
        user = BoundedUser(attention=2, error=0, spot_checks=0, biases={})
        preferred[shown] = [user.judge(task, Pair.of(task.path, group, 0, 1)).preference for _ in range(8)]
    assert preferred[True] == [1.0] * 8 and preferred[False] != [1.0] * 8


@dataclass(frozen=True)
class Shorter:
    """Prefers the shorter text."""

    name = "shorter"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        a, b = len(pair.a.text), len(pair.b.text)
        return Judgement(0.5 if a == b else float(a < b))

    def recall(self, task: Task, judgement: Judgement) -> None:
        pass


def test_it_trains_and_keeps_what_the_tools_said(data: Path, tmp_path: Path) -> None:
    """With a model that cannot do it, so form is not asked for; the tools say N/A, and why."""
    problems = word_problems(data, SMALL)
    free = Pool(tuple(replace(case, form="") for case in problems.cases.draw(2, "all")))  # it cannot be held to a form
    tree = replace(problems, facts=lambda case, outcome: [], cases=free)
    root = train(tree, Shorter(), "embedded", tmp_path / "run")
    assert [helper.task.name for helper in root.helpers] == ["arithmetic", "follows", "answered"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "arithmetic" in json.dumps(config)
    assert root.reward is not None and tree.cases is not None
    groups = assist(root.helpers, root.agent.sample(tree.cases.draw(2, "x"), 2, "y"))
    assert {one.why for group in groups for i in range(2) for one in group.seen(i)} <= {
        "no computation in it", "no answer at its end",
    }  # fmt: skip
    assert all(score.mean.isfinite().all() for score in root.reward.score(groups))


def test_every_published_problem_is_a_case() -> None:
    folder = published()
    cases = word_problems(folder).cases
    assert cases is not None and len({case.id for case in cases.draw(1319, "all")}) == 1319
    row = PROBLEMS.read(folder)[0]
    assert case_of(row.question, row.answer).data["answer"] == row.answer.rsplit("#### ")[-1]
