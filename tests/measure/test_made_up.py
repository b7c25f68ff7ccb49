"""Texts that a form allows: all of them match, few are alike, and what cannot be sampled says so."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrm.measure.made_up import LONGEST, NoSample, texts_of_form

QUERY = r"SELECT (name|COUNT\(\*\)) FROM (customer|product)( WHERE (city|age) [=<>] [0-9]{1,4})?;"
PIECES = st.sampled_from([r"[a-c]", r"\d{1,3}", r"(yes|no)", r"[^\n]+", r".{0,5}", r"\s*", r"(?:x|yz)?", r"\w", r"\.",
                          "é", r"(?i:Yes)", r"[\W]", r"a{2,}?"])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=6), st.integers(0, 2**40))
def test_what_is_made_up_matches(pieces: list[str], seed: int) -> None:
    form = "".join(pieces)
    texts = texts_of_form(form, 4, seed)
    assert texts and all(re.fullmatch(form, text) for text in texts) and len(set(texts)) == len(texts) <= 4
    assert texts == texts_of_form(form, 4, seed)


def test_many_ways_are_tried() -> None:
    texts = texts_of_form(QUERY, 12, 0)
    assert len(texts) == 12
    assert {"WHERE" in text for text in texts} == {"COUNT" in text for text in texts} == {True, False}


def test_a_group_is_written_again() -> None:
    assert all(text[0] == text[-1] for text in texts_of_form(r"(?P<mark>['\"])\w+(?P=mark)", 4, 0))


@pytest.mark.parametrize(
    ("form", "why"),
    [(r"\p{L}+", "Python reads no such"), (r"a{5000}", "longer than"), (r"(?=x)y", "none of"), ("(", "Python reads")],
)
def test_what_cannot_be_sampled_says_why(form: str, why: str) -> None:
    with pytest.raises(NoSample, match=re.escape(why)):
        texts_of_form(form, 4, 0)


def test_repeats_within_repeats_end() -> None:
    began = time.process_time()
    with pytest.raises(NoSample):
        texts_of_form(r"(?:(?:(?:(?:){900}){900}){900}){900}", 1, 0)
    assert all(len(text) <= LONGEST for text in texts_of_form(r"(?:(?:(?:(?:a{3,})+)+)+)+", 2, 0))
    assert time.process_time() - began < 5
