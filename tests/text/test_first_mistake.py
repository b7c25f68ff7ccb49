"""Critics in words over worked solutions: the truth of lines, forms and findings, what each is shown, what truth is
worth to a user who can check little; and the experiment on them runs and goes on."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rrm import BoundedUser, Case, Group, Malformed, Outcome, Pair, Pool, check, faults
from rrm.core.errors import TaskError
from rrm.core.task import Assistant, assist
from rrm.measure.catalog import BY_HAND
from rrm.measure.oracle import true_score
from rrm_assistants.text import first_mistake
from rrm_assistants.worked import first_wrong, lines_hold, result, results
from rrm_tasks.word_problems import case_of, facts, word_problems
from tests.bandits import Interrupted
from tests.text.material import QUESTION, RIGHT, WRONG, published, solved, write

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

import words  # noqa: E402
from words_stage import Scripted, Solutions, quality, right  # noqa: E402

CASE = case_of(QUESTION, RIGHT)
OTHER_WAY = "One of each gives 3 * 2 = 6.\nThe others give 4 * 2 = 8.\nAll: 6 + 8 = 14\nA: 14"
FIRST = "Tom has 3 * 4 = 12 apples.\nHe gets 12 * 2 = 24.\nA: 24"
NONE_OF_IT = "He has 3 + 4 = 7 apples.\nHe sells all.\nA: 7"


# --- the truth of lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"), [(RIGHT, None), (WRONG, 2), (FIRST, 1), (OTHER_WAY, None), (NONE_OF_IT, 2), ("A: 3", None)]
)
def test_the_first_wrong_line(text: str, line: int | None) -> None:
    """By the results of the worked answer; of a right answer none; the last where no result gives it away."""
    assert first_wrong(QUESTION, RIGHT, text) == line


def test_what_a_worked_answer_gives() -> None:
    assert results(RIGHT) == {7, 14}
    assert result("So 3 + 4 = <<3+4=7>>7 and 7 * 2 = <<7*2=14>>14.") == "14" and result("He sells all.") is None


def test_at_most_one_line_is_wrong_and_then_the_answer_is(published_solutions: Solutions) -> None:
    some = published_solutions.held_out[:40]
    for case in some:
        for one in published_solutions.recorded[case.id]:
            hold = lines_hold(case.data, one.text)
            assert sum(not holds for holds in hold.values()) == (0 if right(case, one) else 1)


def test_without_a_worked_answer_nothing_is_known_of_lines() -> None:
    case = Case("x", {"question": QUESTION, "answer": "14"})
    assert not [fact for fact in facts(case, Outcome(WRONG)) if fact.name.startswith("step")]
    (asked,) = first_mistake.steps().framed(case, Outcome(WRONG))
    assert first_mistake.steps().facts_of(asked, Outcome(first_mistake.RIGHT)) == ()


# --- forms, findings, facts --------------------------------------------------------------------------


def asked(text: str) -> Case:
    (case,) = first_mistake.steps().framed(CASE, Outcome(text))
    return case


@pytest.mark.parametrize(
    "said", ["No, line 2 is wrong: 9 is from nowhere.", "No, line 1 is wrong: no, it is.", "Yes, every line is right."]
)
def test_what_has_the_form_can_be_read(said: str) -> None:
    case, steps = asked(WRONG), first_mistake.steps()
    assert re.fullmatch(case.form, said)
    found = {f.fact: f.holds for f in steps.findings_of(case, Outcome(said))}
    named = {f.name: f for f in steps.facts_of(case, Outcome(said))}
    assert set(named) <= set(found) and all(fact.claims == found[name] for name, fact in named.items())
    assert {name for name, holds in found.items() if not holds} <= set(named)


@pytest.mark.parametrize(
    "said", ["No, line 3 is wrong: there is none.", "No, line 2 is wrong", "Right.", "", "No, line 2 is wrong: no"]
)
def test_what_has_not_the_form_is_malformed(said: str) -> None:
    case = asked(WRONG)
    assert not re.fullmatch(case.form, said)
    with pytest.raises(Malformed):
        first_mistake.steps().findings_of(case, Outcome(said))


def test_the_first_mistake_named_is_all_true_and_anything_else_is_not() -> None:
    case, steps = asked(WRONG), first_mistake.steps()
    scores = {
        said: true_score(steps, case, Outcome(said))
        for said in ("No, line 2 is wrong: it is 7.", "No, line 1 is wrong: it is 9.", "Yes, every line is right.")
    }
    assert scores["No, line 2 is wrong: it is 7."] == 1.0 > scores["No, line 1 is wrong: it is 9."]
    assert scores["Yes, every line is right."] == 0.0
    assert true_score(steps, asked(RIGHT), Outcome("Yes, every line is right.")) == 1.0
    assert true_score(steps, asked(RIGHT), Outcome("No, line 1 is wrong: it is 9.")) == 0.0


def test_the_critic_is_not_shown_the_truth() -> None:
    case = asked(WRONG)
    assert RIGHT.splitlines()[1] not in case.prompt and "<<" not in case.prompt and "14" not in case.prompt
    (below,) = first_mistake.step().framed(case, Outcome("No, line 2 is wrong: secret words"))
    assert "secret words" not in below.prompt


def test_the_critic_of_a_line_is_shown_that_line_and_those_before_it() -> None:
    three = "Tom has 3 + 4 = 7 apples.\nHe sells 7 * 2 = 14 of them.\nHe buys 14 + 3 = 17 more.\nA: 17"
    (below,) = first_mistake.step().framed(asked(three), Outcome("No, line 2 is wrong: why not"))
    assert "7 apples.\nHe sells 7 * 2 = 14 of them.\n\nIs the last line" in below.prompt
    assert "14 + 3" not in below.prompt and "A: 17" not in below.prompt
    line, whole = first_mistake.step().findings_of(below, Outcome("No: not so many."))
    assert (line.fact, line.holds, line.note) == ("step2", False, "not so many.")
    assert (whole.fact, whole.holds, whole.part) == ("answer", False, 1)
    assert [f.fact for f in first_mistake.step().findings_of(below, Outcome("Yes: 7 * 2 = 14."))] == ["step2"]
    (drawn,) = first_mistake.step().framed(asked(three), Outcome("Yes, every line is right."))
    assert drawn.data["line"] in (1, 2, 3)
    assert first_mistake.step().framed(asked(three), Outcome("Yes, every line is right.")) == (drawn,)


def test_too_long_a_solution_is_not_applicable() -> None:
    long = "".join(f"{n} + 1 = {n + 1}\n" for n in range(10)) + "A: 3"
    assert first_mistake.steps().framed(CASE, Outcome(long)) == () == first_mistake.steps().framed(CASE, Outcome("?"))


@pytest.mark.parametrize(("tools", "critics", "depth"), [(True, 0, 1), (True, 2, 2), (False, 1, 1), (False, 2, 2)])
def test_the_switches_of_the_tree(tools: bool, critics: int, depth: int) -> None:
    tree = replace(word_problems(tools=tools, critics=critics), cases=Pool((CASE,)))
    errors = [fault for fault in faults(check(tree)) if fault.level == "error"]
    assert not errors and (sub_depth(tree) == depth)
    with pytest.raises(TaskError, match="critics=3"):
        word_problems(critics=3)


def sub_depth(task: object) -> int:
    below = task.task.assistants if isinstance(task, Assistant) else task.assistants  # type: ignore[attr-defined]
    return 1 + max(map(sub_depth, below)) if below else 0


# --- a property of the pipe: truth helps, its contrary hurts ------------------------------------------


@pytest.fixture(scope="module")
def published_solutions() -> Solutions:
    return Solutions.read(published())


def test_halves_share_no_question_and_every_case_has_both_kinds(published_solutions: Solutions) -> None:
    s = published_solutions
    assert not {c.id for c in s.training} & {c.id for c in s.held_out}
    assert all({right(c, o) for o in s.recorded[c.id]} == {True, False} for c in (*s.training, *s.held_out))
    assert min(len(s.training), len(s.held_out)) > 200


def test_a_perfect_critic_raises_agreement_and_a_contrary_one_lowers_it(published_solutions: Solutions) -> None:
    """Scripted, so a property of what carries words to the user, and of the user; no benefit is written anywhere."""
    task = replace(word_problems(tools=False, critics=2), cases=Pool(published_solutions.training))
    task = check(task)

    def agreement(contrary: bool | None) -> float:
        user, agrees = BoundedUser(attention=6, descent=2, own_record=True), []
        for case in published_solutions.held_out[:60]:
            some = published_solutions.recorded[case.id]
            pair = tuple(next(o for o in some if right(case, o) == good) for good in (True, False))
            group = Group(case, pair)
            if contrary is not None:
                (group,) = assist(critics(task, contrary), [group])
            agrees.append(user.judge(task, Pair.of(task.path, group, 0, 1)).preference)
        return sum(one for one in agrees if one is not None) / len(agrees)

    alone = agreement(None)
    assert agreement(False) > alone + 0.1
    assert agreement(True) < alone


def critics(task: object, contrary: bool) -> tuple[Assistant, ...]:
    def of(sub: object) -> Assistant:
        below = tuple(of(one) for one in sub.subtasks)  # type: ignore[attr-defined]
        return Assistant(replace(sub, assistants=below), Scripted(sub, contrary), None, below)  # type: ignore[type-var, arg-type]

    return tuple(of(sub) for sub in task.subtasks)  # type: ignore[attr-defined]


def test_precision_and_recall() -> None:
    rows = [[0, 2, 2, 3], [0, None, None, 3], [1, 1, 2, 3], [1, None, 1, 3]]  # case, wrong, accused, lines
    found = {name: one["mean"] for name, one in quality([rows]).items()}
    assert found["calls wrong"] == 0.75 and found["wrong: precision"] == 2 / 3 and found["wrong: recall"] == 1.0
    assert found["line: precision"] == 1 / 3 and found["line: recall"] == 0.5


# --- the experiment ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of made questions, each with right and wrong solutions."""
    folder, rows = tmp_path_factory.mktemp("data"), [solved(n) for n in range(3, 43)]
    write(folder / "gsm8k" / "example_model_solutions.jsonl", rows)
    write(folder / "gsm8k" / "test.jsonl", [
        {"question": row["question"], "answer": row["ground_truth"].replace("A: ", "#### ")} for row in rows
    ])  # fmt: skip
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_goes_on_and_the_same_again_computes_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted when its first critics are trained; what it gives is what it would have given."""

    def arguments(out: Path) -> list[str]:
        return ["--quick", "--seeds", "0,", "--data", str(made), "--out", str(out)]

    def interrupted(stage: object) -> None:
        raise Interrupted

    out, whole = tmp_path / "out", tmp_path / "whole"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(words, "arms", interrupted)
        words.main(arguments(out))
    assert not (out / "judging").exists()
    words.main(arguments(out))
    first = capsys.readouterr().out
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    assert {path.parent.name for path in files} >= set(words.PARTS)

    def judged(folder: Path) -> dict[str, object]:
        found: dict[str, object] = json.loads((folder / "judging" / "0.json").read_text())["result"]
        return found

    arms = judged(out)["arms"]
    assert isinstance(arms, dict) and len({len(rows) for rows in arms.values()}) == 1
    assert {"alone", "flat critic", "depth 1", "depth 2", "untrained", "tools", "perfect", "oracle"} <= set(arms)
    words.main([*arguments(whole), "--part", "judging"])
    assert judged(whole) == judged(out)
    capsys.readouterr()
    words.main(arguments(out))
    again = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json")} == files
    assert first.endswith(again) and again.startswith("# words")  # nothing but the page
    with pytest.raises(SystemExit, match="was made with attention 6, now 2"):
        words.main([*arguments(out), "--attention", "2"])
    doc = tmp_path / "words.md"
    doc.write_text(f"old\n{BY_HAND}\nMy own words.\n")
    words.main([*arguments(out), "--doc", str(doc)])
    assert "## weak-judge" in doc.read_text() and doc.read_text().endswith("My own words.\n")
