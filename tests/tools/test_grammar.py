"""harper as a tool: right on plain mistakes, silent on what it cannot read, and alive after hostile text."""

from __future__ import annotations

import time

import pytest

from rrm import Case, Finding, Outcome
from rrm.core.tools import consult

pytest.importorskip("harper", reason="harper-py is not installed; pip install -e '.[tools]'")

from rrm.core.errors import Abstain
from rrm_assistants.tools.grammar import LONGEST, Grammar, _worker, detokenized, tokenized

TOOL = Grammar()
PLAIN = [
    "I don't think it's right, and he can't say “no” to it. They won't come.",
    "The game's battle system, the first of its kind, is old: it was made in 1998 (or so). Players like it!",
    "She said that the well-known house, which they'd seen, wasn't for sale; they bought 1,000 others.",
    "We propose a method (see the first figure), which is fast. Is it right? We hope so.",
]
APART = [
    "I do n't think it 's right , and he ca n't say `` no '' to it . They wo n't come .",
    "The game 's battle system , the first of its kind , is old : it was made in 1998 ( or so ) . Players like it !",
    "She said that the well @-@ known house , which they 'd seen , was n't for sale ; they bought 1 @,@ 000 others .",
    "We propose a method -LRB- see the first figure -RRB- , which is fast . Is it right ? We hope so .",
]
"""The same as tokenizers leave it: Penn's, and WikiText's."""


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
    assert said("The catt sat on the mat. " * 2000)["spelling"].startswith('"catt"')
    assert "grammar" not in said("The catt sat on the mat. " * 2000)


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


@pytest.mark.parametrize(("plain", "apart"), list(zip(PLAIN, APART, strict=True)))
def test_a_tokenized_text_is_judged_as_the_text_it_was(plain, apart):
    assert tokenized(apart) and not tokenized(plain)
    assert detokenized(apart) == plain and said(apart) == said(plain) == {"spelling": True, "grammar": True}
    assert "tokenized; it was put together" in consult(TOOL, Case("q"), Outcome(apart)).text
    assert "tokenized" not in consult(TOOL, Case("q"), Outcome(plain)).text


def test_its_mistakes_are_found_all_the_same():
    found = said("They do n't recieve it , and she go home . It 's late .")
    assert found == {"spelling": '"recieve"', "grammar": '"go"'}


def test_a_single_blank_too_many_is_the_writers():
    assert not tokenized("The cat sat , on the mat. It was warm and quiet.")
    assert "grammar" in said("The cat sat , on the mat. It was warm and quiet.")


@pytest.mark.parametrize(
    "text",
    [
        "Die Katze sass auf der Matte und schlief den ganzen Tag, bis der Hund kam und sie weckte.",
        "Le chat dort : il est tard ! Pourquoi ? La nuit est tombée sur la ville et tout le monde dort.",
        "Кошка сидит на коврике.", "猫坐在垫子上。", "apple pear plum cherry lemon melon fig date kiwi lime mango nut",
    ],
)  # fmt: skip
def test_another_language_is_no_verdict(text):
    assert said(text) == "it is not English, or no sentences"


def faults(text: str) -> int:
    """How many questions fail: what a comparison of two reports sees."""
    return sum(not f.holds for f in consult(TOOL, Case("q"), Outcome(text)).findings)


def test_more_faults_are_no_tie():
    text = "They {} the letter, and {} of them {} it in the {}. It was {} to read."
    right = ("receive", "some", "left", "garden", "easy")
    wrong = ("recieve", "sme", "leftt", "gardenn", "eazy")
    counts = [faults(text.format(*wrong[:n], *right[n:])) for n in range(6)]
    assert counts[0] == 0 and counts == sorted(counts) and counts[5] > counts[2] > counts[1] == 1


def test_long_texts_may_have_more_faults():
    """By the hundred words: a fault in each of ten paragraphs is as bad as one in one of them."""
    paragraph = "They recieve the letter. " + "The cat sat on the mat, and it was warm and quiet there. " * 8
    assert faults(paragraph) == faults(paragraph * 10) == 1
    report = consult(TOOL, Case("q"), Outcome(paragraph * 10))
    assert report.findings[0].note == '"recieve", and 5 more'


def test_a_fault_where_nothing_stands_is_quoted_by_the_words_around_it() -> None:
    """What is quoted is what a critic can point at: it is never blank."""
    text = "The owl calls more before rain on the 4th day when it is 4 nights before rain."
    (grammar,) = [one for one in consult(Grammar(), Case("q"), Outcome(text)).findings if one.fact == "grammar"]
    assert grammar.note == '"4th day"' and not grammar.holds
