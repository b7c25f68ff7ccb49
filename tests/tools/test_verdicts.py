"""Verdicts in words: what is meant is read, what is not clear is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import Finding, Malformed
from rrm.core.verdicts import NOTE, parse, quotes, read, write

names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)


@given(st.lists(st.builds(Finding, names, st.booleans(), st.none(), st.text(max_size=300)), min_size=1, max_size=4))
def test_what_is_written_is_read_back(findings):
    back = parse(write(findings) + "\n\nmore: yes\nwords")
    assert [(f.fact, f.holds) for f in back] == [(f.fact, f.holds) for f in findings]
    assert all(len(f.note) <= NOTE for f in back)
    assert write(back) == write(findings)


@pytest.mark.parametrize(
    "text, holds, note",
    [
        ("plot: yes", True, ""),
        ("Plot: Yes. A girl sails home.", True, "A girl sails home."),
        ("**plot:** no, \"the moon\"", False, '"the moon"'),
        ("- plot: No", False, ""),
        ("1. plot: no", False, ""),
        ("Let me see.\nplot: no", False, ""),
        ("Yes, it does.", True, "it does."),
        ("Answer: no - it jumps", False, "it jumps"),
        ("plot: yes\nplot: yes", True, ""),
        ("plot: right", True, ""),
        ("The answer is yes. It does.", True, "It does."),
    ],
)  # fmt: skip
def test_what_models_write(text, holds, note):
    assert read(text, ["plot"]) == (Finding("plot", holds, note=note),)


@pytest.mark.parametrize("text", ["N/A", "plot: N/A", "plot: n/a, there is none", "plot: not applicable"])
def test_not_applicable_is_no_finding(text):
    assert read(text, ["plot"]) == ()


@pytest.mark.parametrize(
    "text",
    ["", "The plot is good.", "plot: maybe", "plot: nowhere", "plot: yes\nplot: no", "yesterday", "It is fine.\nno",
     "flow: yes", "plot:", "note: yes",
     "The answer is unknown", "Not all of it is.", "Nothing is wrong"],
)  # fmt: skip
def test_no_verdict_is_guessed(text):
    with pytest.raises(Malformed, match="plot"):
        read(text, ["plot"])


def test_several_questions_must_all_be_answered():
    assert read("b: no\na: yes", ["a", "b"]) == (Finding("a", True), Finding("b", False))
    with pytest.raises(Malformed, match="'b'"):
        read("a: yes", ["a", "b"])
    with pytest.raises(Malformed):
        read("yes", ["a", "b"])


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        found = read(text, ["plot"])
    except Malformed:
        return
    assert len(found) <= 1


def test_quotes():
    assert quotes('"the moon" and “a botle”, not this') == ["the moon", "a botle"]
    assert quotes("none") == []
