"""The tree of word problems: sound, its tools at work, its truth sealed; and it trains."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Case, Group, Malformed, Outcome, Pair, Pool, Task, check, faults, train
from rrm.core.errors import SealedOracle
from rrm.core.judgements import Judgement
from rrm.core.settings import Settings
from rrm.core.task import Assistant, assist
from rrm.core.tools import consult
from rrm_assistants.answered import Answered
from rrm_assistants.arithmetic import Arithmetic
from rrm_assistants.follows import Follows
from rrm_assistants.relevance import held
from rrm_assistants.solution import answer, lines
from rrm_tasks.gsm8k import PROBLEMS
from rrm_tasks.word_problems import FORM, PROMPT, case_of, facts, surface, word_problems
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


TOOLS = (Arithmetic(), Follows(), Answered())
EXAMPLES = re.findall(r"Solution:\n((?:.+\n)+)", PROMPT)


def test_the_prompts_own_examples_have_the_form_and_are_right() -> None:
    assert len(EXAMPLES) == 3
    questions = re.findall(r"Problem: (.+)\nSolution:\n\w", PROMPT)
    for question, example in zip(questions, EXAMPLES, strict=True):
        text = example.rstrip("\n")
        assert re.fullmatch(FORM, text), text
        for tool in TOOLS:
            report = consult(tool, Case(question), Outcome(text))
            assert report.findings and all(one.holds for one in report.findings), (tool.name, text)
        assert all(held(question, text).values())


@given(st.from_regex(FORM, fullmatch=True))
def test_whatever_has_the_form_can_be_read(text: str) -> None:
    """Its answer, with thousands marked or not, and its facts; and no line of it is taken for the answer."""
    case = case_of(QUESTION, RIGHT)
    *steps, last = text.split("\n")
    figures = last.removeprefix("A: ").replace("$", "").replace(",", "")
    assert answer(text) == Fraction(figures)
    assert {"stated", "answer"} <= {fact.name for fact in facts(case, Outcome(text))}
    assert len(lines(text)) == len(steps) <= 7


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("He has 12 - 5 = 7 pens left.", True), ("So 3*(4 + .5) = 13.5", True), ("Ann's 2 dogs eat 50% of it.", True),
        ("Tom has 7.", True), ("Total = 7", True), ("Leo has 7", True), ("A DVD costs $7", True), ("Lee has 7", True),
        ("### Step 1", False), ("**Step 1**", False), ("Step 1: Add.", False), ("To solve this problem, add.", False),
        ("Let's add.", False), ("Todetermine it, add.", False), ("Together it is 7", True),
        ("It is \\frac{1}{2}.", False), ("So `x`.", False), ("He has 7. She has 8.", False),
        ("he has 7", False), ("A: 7", False), ("2 + 2 = 4", False),
    ],
)  # fmt: skip
def test_a_step_is_one_plain_sentence(line: str, fits: bool) -> None:
    assert bool(re.fullmatch(FORM, f"{line}\nA: 7")) is fits


@pytest.mark.parametrize("said", ["50,000", "$1,234.50", "-3", "0.5", "$-3", "1,000,000"])
def test_numbers_as_people_write_them(said: str) -> None:
    text = f"He has it.\nA: {said}"
    assert re.fullmatch(FORM, text) and answer(text) == Fraction(said.replace(",", "").replace("$", ""))
    assert not re.fullmatch(FORM, "He has it.\nA: 1,2") and not re.fullmatch(FORM, "He has it.\nA: 50,0000")
