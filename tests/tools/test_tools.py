"""A tool in an assistant's place: evidence like any other, remembered, versioned, and never a guess."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rrm import BoundedUser, Case, Finding, Group, Outcome, Pair, Report, RRMError, tool_assistant, train
from rrm.core.errors import ToolMissing
from rrm.core.judgements import Judgement
from rrm.core.task import Forgetful, assist
from rrm.core.tools import code_hash, consult, evidence, installed
from rrm.core.validation import faults, plant
from rrm.learning.text_maker import TextMaker
from rrm.loop.run import Run
from rrm.models.backbone import Backbone
from rrm.store.store import Store
from tests import toy
from tests.tools.fake import Word

GROUP = Group(Case("q", {"x": [1]}), (Outcome("w5 w6"), Outcome("w7"), Outcome("")))


def said(tool, memo=None, quick=False):
    helper = replace(tool_assistant(tool, ["form"]), memo=memo or Forgetful())
    return [one for (one,) in assist([helper], [GROUP], quick)[0].assistance]


def test_its_report_is_an_answer_without_confidence():
    right, wrong, none = said(Word())
    assert right.findings == (Finding("even", True, note='"w5 w6"'),)
    assert wrong.findings == (Finding("even", False, note='"w7"'),)
    assert wrong.text == 'word wrong even ("w7")'
    assert right.answers[0].confidence is None
    assert right.answers[0].outcome.text == 'even: yes "w5 w6"\n\nread w5 w6\n\neven: yes'
    assert none.na and none.why == "no text" and none.text == "word N/A"


def test_what_it_quotes_is_not_taken_for_its_verdict():
    @dataclass(frozen=True)
    class Quoting(Word):
        def __call__(self, case: Case, outcome: Outcome) -> Report:
            return Report((Finding("even", False, note="x\neven: yes\n\neven: yes"),), "even: yes")

    (finding,) = said(Quoting())[0].findings
    assert finding == Finding("even", False, note="x even: yes even: yes")


@pytest.mark.parametrize("error", [ValueError("bug"), ZeroDivisionError(), RRMError("broken")])
def test_a_tool_that_raises_gives_no_verdict(error):
    @dataclass(frozen=True)
    class Broken(Word):
        def __call__(self, case: Case, outcome: Outcome) -> Report:
            raise error

    memo = Forgetful()
    with pytest.raises(RRMError, match="broken" if isinstance(error, RRMError) else "the tool 'word' raised"):
        said(Broken(), memo)
    assert not memo._known


def test_a_tool_without_findings_and_reason_is_faulty():
    @dataclass(frozen=True)
    class Silent(Word):
        def __call__(self, case: Case, outcome: Outcome) -> Report:
            return Report((), "fine, I think")

    with pytest.raises(TypeError, match="raises Abstain"):
        said(Silent())


def test_its_answers_are_remembered(tmp_path: Path):
    asked: list[str] = []
    first = said(Word(asked=asked), Store(tmp_path / "run.db"))
    again = said(Word(asked=asked), Store(tmp_path / "run.db"))
    quick = said(Word(asked=asked), Store(tmp_path / "run.db"), quick=True)
    assert first == again == quick
    assert asked == ["w5 w6", "w7", ""]
    (answer,) = Store(tmp_path / "run.db").get(first[0].version, [first[0].answers[0].case]).values()
    assert answer.case.data["tool"] == "word" and answer.case.data["version"] == Word().version


def test_another_version_is_asked_anew(tmp_path: Path):
    asked: list[str] = []
    store = Store(tmp_path / "run.db")
    one, other = (said(Word(word, asked=asked), store)[0] for word in ("w5", "w6"))
    assert one.version != other.version and len(asked) == 6


def test_its_findings_count_for_a_user_as_far_as_they_prove_right():
    """A tool that is always wrong is caught when it is checked, and believed less than one that is right."""
    trust = {}
    for wrong in (False, True):
        user = BoundedUser(attention=6, spot_checks=0.0, error=0.0)
        tool = Word("w5", wrong)
        task = plant(toy.task(assistants=(tool_assistant(tool, ["form"]),)))
        for i in range(12):
            texts = ("w5 w6", "w7", "w5 w3", "w8")  # "even" is true of an even number of words
            group = Group(Case(f"w{i}"), tuple(Outcome(text) for text in texts))
            (seen,) = assist(task.assistants, [group])
            user.judge(task, Pair.of(task.path, seen, 0, 1))
            user.judge(task, Pair.of(task.path, seen, 2, 3))
        trust[wrong] = user.trust("toy", "word", False)
    assert trust[False] > 0.5 > trust[True]


def test_a_run_keeps_what_tools_said_and_their_versions(tmp_path: Path):
    asked: list[str] = []
    helper = tool_assistant(Word("w5", asked=asked), ["form"])
    task = toy.task(assistants=(helper,), tools=(Word("w6"),))

    class User(BoundedUser):
        def judge(self, task, pair):
            return Judgement(float(pair.a.text < pair.b.text))

    backbone = Backbone.load("embedded")
    train(task, User(), backbone, tmp_path)
    config = (tmp_path / "config.json").read_text()
    assert Word("w6").version in config and helper.version in config
    store = Store(tmp_path / "run.db")
    shown = [a for c in store.comparisons("toy") for a in (*c.assistance_a, *c.assistance_b)]
    assert shown and {a.assistant for a in shown} == {"word"} and {a.version for a in shown} == {helper.version}
    assert store.counts()["answers"] == len(asked)  # no question was asked twice
    answers = len(asked)
    train(task, User(), backbone, tmp_path)  # finished: nobody is asked again
    assert len(asked) == answers
    with pytest.raises(RRMError, match="other settings"):
        train(replace(task, tools=(Word("w7"),)), User(), backbone, tmp_path)


def test_a_missing_library_is_named_before_anything_runs():
    @dataclass(frozen=True)
    class Missing(Word):
        @property
        def version(self) -> str:
            return installed("no-such-package", "tools")

    with pytest.raises(ToolMissing, match=r"no-such-package.*pip install -e '\.\[tools\]'"):
        _ = Missing().version
    (fault,) = [f for f in faults(plant(toy.task(tools=(Missing(),)))) if f.level == "error"]
    assert "no-such-package" in fault.what
    assert faults(plant(toy.task(assistants=(tool_assistant(Missing(), ["form"]),))))[0].path == "word"


def test_a_report_as_evidence_in_a_prompt():
    shown = evidence(Word(), Case("q"), Outcome("w7"))
    assert shown.startswith('The tool word says (it can be wrong):\neven: no "w7"')
    assert evidence(Word(), Case("q"), Outcome("")).endswith("N/A: no text")
    assert consult(Word(), Case("q"), Outcome("")).abstained == "no text"


def test_it_may_examine_something_else_or_nothing():
    def examines(case: Case, outcome: Outcome):
        return None if outcome.text == "w7" else (case, Outcome("w5"))

    helper = tool_assistant(Word(), examines=examines)
    one, two, _ = (a for (a,) in assist([helper], [GROUP])[0].assistance)
    assert one.findings == (Finding("even", True, note='"w5"'),)
    assert two.na and two.answers == ()


def test_a_run_lends_its_memory_to_those_without_one(tmp_path: Path):
    run = Run(tmp_path / "run", TextMaker(Backbone.load("embedded")))
    forgetful, own = tool_assistant(Word()), replace(tool_assistant(Word()), memo=Store(tmp_path / "other.db"))
    assert run.adopt(forgetful).memo is run.store
    assert run.adopt(own) is own
    above = run.adopt(replace(own, helpers=(forgetful,)))
    assert above.memo is own.memo and above.helpers[0].memo is run.store


def test_each_assistant_has_a_memo_of_its_own() -> None:
    assert tool_assistant(Word()).memo is not tool_assistant(Word()).memo


def test_what_a_docstring_says_changes_no_tool(tmp_path: Path) -> None:
    code = 'def f(x):\n    """{}"""\n    return x{}\n'
    assert code_hash(code.format("Old.", "")) == code_hash(code.format("New,\n    and longer.", ""))
    assert code_hash(code.format("Old.", "")) == code_hash("def f(x):\n    return x\n")
    assert code_hash(code.format("Old.", " + 1")) != code_hash(code.format("Old.", ""))
    assert code_hash("x = 1\n", "y = 2\n") != code_hash("y = 2\n", "x = 1\n")


def test_tools_that_rest_on_code_have_the_versions_that_are_written_down() -> None:
    """Or the runs that used them would not resume: when that code changes, so must these, and the changelog says so.
    `Simulation` has that of 0.1.0."""
    from rrm_assistants.tools.rerun import Rerun
    from rrm_assistants.tools.simulation import Simulation

    assert Simulation().version.endswith(", 43d96b32") and Rerun().version.endswith(", cd9f16f5")
