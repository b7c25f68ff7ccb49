"""harper as a tool: right on plain mistakes, silent on what it cannot read, and alive after hostile text."""

from __future__ import annotations

import time

import pytest

from rrm import Case, Finding, Outcome
from rrm.core.tools import consult

pytest.importorskip("harper", reason="harper-py is not installed; pip install -e '.[tools]'")

from rrm.core.errors import Abstain
from rrm_assistants.tools.grammar import LONGEST, Grammar, _worker

TOOL = Grammar()


def said(text: str, tool: Grammar = TOOL):
    report = consult(tool, Case("q"), Outcome(text))
    return {f.fact: f.note if not f.holds else True for f in report.findings} or report.abstained


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The cat sat on the mat. It was warm and quiet.", {"spelling": True, "grammar": True}),
        ("They receive the letter, and she goes home.", {"spelling": True, "grammar": True}),
        ("They recieve the letter.", {"spelling": '"recieve"', "grammar": True}),
        ("She go to school every day.", {"spelling": True, "grammar": '"go"'}),
        ("He could of gone home.", {"spelling": True, "grammar": '"could of"'}),
        ("When Mirelle came home, they saw Mirelle.", {"spelling": True, "grammar": True}),
        ("The sum is easy:\n```\nprint(smu(xs))\n```\nIt is six.", {"spelling": True, "grammar": True}),
    ],
)
def test_examples(text, expected):
    assert said(text) == expected


def test_names_can_be_looked_up_too():
    assert said("They saw Mirelle come home.", Grammar(names=False))["spelling"] == '"Mirelle"'


def test_it_overlooks_much():
    """It is evidence and can be wrong: this is a mistake, and harper-py 0.2.0 says yes."""
    assert said("This are a test.") == {"spelling": True, "grammar": True}


@pytest.mark.parametrize("text", ["", " \n", "12 + 4 = 16", "!!!", "\x00", "a" * (LONGEST + 1)])
def test_nothing_to_read_is_no_verdict(text):
    assert said(text) == "there are no words to read"


def test_of_a_text_that_is_too_long_only_faults_are_told():
    assert "rest was not read" in said("The cat sat on the mat. " * 2000)
    assert said("The catt sat on the mat. " * 2000) == {"spelling": '"catt"'}


@pytest.mark.parametrize(
    "text",
    ["word " + "x" * 10**6, "ab " * 10**5, "([" * 5000 + " word", "\ud800 word", "\u202eword 你好 \U0001f600",
     "word\x00" * 9, "A. " * 6000, "word " + "'" * 10**5],
    ids=lambda text: f"{text[:6]!r}",
)  # fmt: skip
def test_hostile_text_does_no_harm(text):
    began = time.monotonic()
    assert said(text)
    assert time.monotonic() - began < 30
    assert said("They recieve it.")["spelling"] == '"recieve"'


def test_a_checker_that_dies_abstains_and_comes_back():
    """What kills the library kills its process only: here, a word that it needs 30 GB for."""
    with pytest.raises(Abstain, match="died"):
        _worker().ask({"text": "a" * 100_000, "dialect": "AMERICAN"}, 60)
    assert said("They recieve it.")["spelling"] == '"recieve"'


def test_a_checker_that_is_late_abstains():
    assert "more than 0.0001 seconds" in said("The cat sat. " * 500, Grammar(seconds=0.0001))
    assert said("The cat sat on the mat.") == {"spelling": True, "grammar": True}


def test_its_version_knows_its_library_and_settings():
    assert TOOL.version.startswith("harper-py ")
    assert len({TOOL.version, Grammar(names=False).version, Grammar(dialect="BRITISH").version}) == 3
    assert consult(TOOL, Case("q"), Outcome("teh")).findings[0] == Finding("spelling", False, note='"teh"')
