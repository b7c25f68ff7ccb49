"""Rows too long are named, and left out, cut, or an error, as it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.exchange.imports.columns import LeftOut
from rrm.exchange.imports.lengths import Limit
from rrm.exchange.imports.preferences import comparison_of
from tests.label.reviews import lines, stored

ROWS = [{"prompt": f"p{i}", "chosen": "yes " * (30 if i == 2 else 1), "rejected": "no"} for i in range(4)]


def bring(folder: Path, *more: str) -> tuple[int, str]:
    lines(folder / "in.jsonl", ROWS)
    done = CliRunner().invoke(
        app, ["import", str(folder / "in.jsonl"), "--out", str(folder / "run"), "--node", "n", *more]
    )
    return done.exit_code, " ".join(done.output.split())


def test_skipped_cut_or_refused(tmp_path: Path) -> None:
    code, said = bring(tmp_path, "--longest", "20", "--too-long", "error")
    assert code == 2 and "in.jsonl:3: longer than 20 characters: 2 of its prompt, 120 of its longer outcome" in said
    assert not (tmp_path / "run").exists()
    code, said = bring(tmp_path, "--longest", "20", "--too-long", "cut")
    assert code == 0 and "4 added; 1 cut" in said
    (long,) = [one for one in stored(tmp_path / "run") if one.case.prompt == "p2"]
    assert {long.a.text, long.b.text} == {
        "no",
        "yes yes yes yes ye"[:18],
    } and "cut to 20 characters" in long.judgement.note
    (tmp_path / "skip").mkdir()
    code, said = bring(tmp_path / "skip", "--longest", "20")
    assert code == 0 and "left out: 1, longer than 20 characters (first: in.jsonl:3)" in said and "3 added" in said


def test_by_a_model_s_tokens(tmp_path: Path) -> None:
    ROWS[2]["chosen"] = "yes " * 4000
    code, said = bring(tmp_path, "--model", "embedded")
    assert code == 0 and "tokens of embedded (first: in.jsonl:3)" in said and "3 added" in said


@pytest.mark.parametrize(
    "wrong",
    [["--too-long", "cut"], ["--too-long", "maybe"], ["--longest", "9", "--model", "embedded"], ["--longest", "0"]],
)
def test_limits_that_are_none(tmp_path: Path, wrong: list[str]) -> None:
    code, said = bring(tmp_path, *wrong)
    assert code == 2 and "Traceback" not in said


@given(
    st.text("ab ", max_size=30),
    st.text("abc", min_size=1, max_size=30),
    st.text("abc", min_size=1, max_size=30),
    st.integers(1, 60),
)
def test_what_is_cut_fits_and_is_a_beginning(prompt: str, one: str, other: str, most: int) -> None:
    if one == other:
        return
    comparison = comparison_of({"prompt": prompt, "chosen": one, "rejected": other}, "n", "f")
    long = len(prompt) + max(len(one), len(other)) > most
    try:
        cut = Limit(most, "cut", outcome=lambda text: len(text)).kept(comparison)
    except LeftOut:
        room = max(0, most - len(prompt))
        assert long and (not room or one[:room] == other[:room])
        return
    assert (cut is comparison) == (not long) and cut.preference == comparison.preference
    assert len(cut.case.prompt) + max(len(cut.a.text), len(cut.b.text)) <= max(most, len(prompt))
    assert comparison.a.text.startswith(cut.a.text) and comparison.b.text.startswith(cut.b.text)
