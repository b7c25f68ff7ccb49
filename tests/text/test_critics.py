"""Critics in words: what they are shown, what their answers mean, and what of them can be checked."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rrm import Abstain, Assistance, Case, Finding, Malformed, Outcome
from rrm.core.records import Answer, unseal
from rrm.core.verdicts import SHOWN
from rrm_assistants.text import critic
from tests.tools.fake import Word

QUESTIONS = {"plot": "Does it hang together?", "flow": "Does it flow?"}
CASE = Case("write", {"x": 1})


def test_it_is_shown_the_text_the_questions_and_the_tool():
    node = critic("c", QUESTIONS, tool=Word())
    (case,) = node.frame(CASE, Outcome("the dog w5"))
    said = "The tool word says (it can be wrong):\neven: yes"
    for part in ("the dog w5", said, *QUESTIONS.values(), "plot: yes, or"):
        assert part in case.prompt
    (alone,) = critic("c", {"plot": "Does it hang together?"}).frame(CASE, Outcome("the dog"))
    assert "Begin your answer with yes" in alone.prompt
    assert case.data["prompt"] == "write" and case.data["data"] == {"x": 1}
    assert (case.data["tool"], case.data["version"]) == ("word", Word().version)


def test_a_tool_that_abstains_says_so_in_the_prompt():
    node = critic("c", QUESTIONS, tool=Word(), select=lambda text: text)
    assert node.frame(CASE, Outcome("")) == []
    @dataclass(frozen=True)
    class Shy(Word):
        def __call__(self, case, outcome):
            raise Abstain("too long")

    (case,) = critic("c", QUESTIONS, tool=Shy()).frame(CASE, Outcome("dog"))
    assert "N/A: too long" in case.prompt


def test_another_version_of_the_tool_makes_another_case():
    """So that the memo does not answer with what was said of another tool's report."""
    cases = [critic("c", QUESTIONS, tool=Word(w)).frame(CASE, Outcome("w5 w6"))[0] for w in ("w5", "w6")]
    assert cases[0].id != cases[1].id


def test_long_texts_are_cut_and_the_critic_is_told():
    (case,) = critic("c", QUESTIONS).frame(CASE, Outcome("a " * SHOWN))
    assert " [...]" in case.prompt and len(case.prompt) < SHOWN + 500


@pytest.mark.parametrize(
    "answer, findings, points",
    [
        ("plot: yes\nflow: no \"the moon\"", [("plot", True), ("flow", False)], [True, True]),
        ("plot: no \"a sun\"\nflow: N/A", [("plot", False)], [False, True]),
        ("plot: no\nflow: yes", [("plot", False), ("flow", True)], [False, True]),
    ],
)  # fmt: skip
def test_what_it_calls_wrong_must_be_there(answer, findings, points):
    node = critic("c", QUESTIONS)
    (case,) = node.frame(CASE, Outcome("They ate the\nmoon."))
    assert [(f.fact, f.holds) for f in node.findings(case, Outcome(answer))] == findings
    assert [unseal(f.truth) for f in node.facts(case, Outcome(answer))] == points


@pytest.mark.parametrize("answer", ["", "plot: yes", "fine", "plot: yes\nflow: yes\nflow: no"])
def test_an_unclear_answer_is_malformed(answer):
    node = critic("c", QUESTIONS)
    (case,) = node.frame(CASE, Outcome("text"))
    for read in (node.facts, node.findings):
        with pytest.raises(Malformed):
            read(case, Outcome(answer))


def test_a_note_reaches_whoever_reads_the_assistance():
    node = critic("plot", {"plot": "?"})
    (case,) = node.frame(CASE, Outcome("text"))
    answer = Outcome("plot: yes. A girl sails home.")
    said = Assistance("novel/plot", "v", (Answer(case, answer, tuple(node.findings(case, answer)), 0.5),))
    assert said.text == "plot right (A girl sails home.)"
    assert said.findings == (Finding("plot", True, note="A girl sails home."),)
