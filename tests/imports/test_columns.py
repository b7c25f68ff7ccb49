"""Every column of somebody's rows is read, known to be harmless, or named as unread; and no text is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.judgements import Comparison
from rrm.core.records import Outcome
from rrm.exchange.exporting import ExchangeError, row_of
from rrm.exchange.imports import preferences as trl
from rrm.exchange.imports.columns import LeftOut, harmless
from rrm.exchange.imports.loading import Imported, load
from tests.label.reviews import dialogue, lines, stored

PAIR = {"prompt": "Q", "chosen": "Yes", "rejected": "No"}
U, A = (lambda text: {"role": "user", "content": text}), (lambda text: {"role": "assistant", "content": text})


def bring(folder: Path, *rows: dict[str, Any], **how: Any) -> tuple[list[Comparison], Imported]:
    done = load(lines(folder / "in.jsonl", list(rows)), folder / "run", "n", **how)
    return stored(folder / "run"), done


def said(comparison: Comparison) -> tuple[str, str, str, float | None]:
    """(prompt, the outcomes in alphabetical order, the preference for the first of them)."""
    a, b, p = comparison.a.text, comparison.b.text, comparison.preference
    return (comparison.case.prompt, a, b, p) if a < b else (comparison.case.prompt, b, a, None if p is None else 1 - p)


# --- the prompt --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"question": "Is it?"}, "question"),
        ({"system": "", "question": "Is it?"}, "question"),
        ({"instruction": "Say", "input": "cat"}, "instruction"),
        ({"trajectory": [{"from": "user", "value": "Sort."}], "task": "Coding"}, "trajectory"),
        ({"conversations": [U("Hi")]}, "conversations"),
        ({"anything at all": "Is it?"}, "anything at all"),
        ({"prompt": "", "post": "Is it?"}, "post"),
        ({"prompt": None, "post": "Is it?"}, "post"),
        ({"prompt": " \n", "post": "Is it?"}, "post"),
        ({"user": "What is it?"}, "user"),
        ({"note": "Tell me what is blue."}, "note"),
        ({"source": "Which color has it?"}, "source"),
        ({"topic": "Say something of the sky"}, "topic"),
    ],
)
def test_a_prompt_in_another_column_is_not_made_out_of_the_answers(tmp_path: Path, more: Any, name: str) -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green.", **more}
    match = rf"in\.jsonl:1: no prompt, but another text: {name}.*--map prompt=.*--ignore"
    with pytest.raises(ExchangeError, match=match):
        bring(tmp_path, row)
    assert not (tmp_path / "run").exists()
    done = CliRunner().invoke(
        app,
        [
            "import",
            str(tmp_path / "in.jsonl"),
            "--out",
            str(tmp_path / "run"),
            "--node",
            "n",
            "--map",
            f"prompt={name}",
        ],
    )
    assert done.exit_code == 0, done.output
    (one,) = stored(tmp_path / "run")
    assert said(one)[1:] == ("The sky is blue.", "The sky is green.", 1.0) and one.case.prompt
    assert one.case.prompt in ("Is it?", "Say", "Sort.", "Hi", *more.values())


def test_ignored_columns_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    row = {
        "chosen": "The sky is blue.",
        "rejected": "The sky is green.",
        "by": "me",
        "score_chosen": 1,
        "score_rejected": 2,
    }
    (one,), done = bring(tmp_path, row, ignore=["by", "score_chosen"])
    assert said(one) == ("The sky is", " blue.", " green.", 1.0)
    assert done.tally.columns.state("by") == "harmless" and set(done.tally.columns.unread()) == {"score_rejected"}
    with pytest.raises(ExchangeError, match="nothing in a column 'bye'"):
        bring(tmp_path, row, ignore=["by", "score_chosen", "bye"])


def test_a_system_message_is_read_into_the_prompt(tmp_path: Path) -> None:
    whole = {"chosen": dialogue("Q", last="Yes"), "rejected": dialogue("Q", last="No")}
    rows = [
        PAIR | {"system": "Be kind."},
        PAIR | {"prompt": [U("Q")], "system_prompt": "Be kind."},
        {"chosen": [U("Q"), A("Yes")], "rejected": [U("Q"), A("No")], "system": "Be kind."},
        whole | {"system": "Be kind."},
    ]
    for i, row in enumerate(rows):
        (tmp_path / str(i)).mkdir()
        (one,), done = bring(tmp_path / str(i), row)
        assert said(one) == ("system: Be kind.\n\nuser: Q", "No", "Yes", 0.0)
        assert not done.tally.columns.unread()
    with pytest.raises(ExchangeError, match="another system message"):
        bring(tmp_path, PAIR | {"prompt": [{"role": "system", "content": "Be rude."}, U("Q")], "system": "Be kind."})


@pytest.mark.parametrize(
    "row",
    [
        PAIR | {"tools": [{"name": "search"}]},
        PAIR | {"images": ["a.png"]},
        PAIR | {"image": {"bytes": "00"}},
        PAIR | {"prompt": [U("Q") | {"images": ["a.png"]}]},
        PAIR | {"chosen": [A("") | {"tool_calls": [{"function": {"name": "f"}}]}], "rejected": [A("No")]},
        PAIR | {"chosen": [A("") | {"function_call": {"name": "f"}}], "rejected": [A("No")]},
    ],
)
def test_what_no_text_shows_leaves_the_row_out_by_name(tmp_path: Path, row: dict[str, Any]) -> None:
    _, done = bring(tmp_path, PAIR, row)
    (why,) = done.tally.left
    assert done.added == 1 and "only text can be imported" in why and done.tally.first[why] == "in.jsonl:2"


def test_fields_of_messages_that_are_not_read_are_named_with_their_count(tmp_path: Path) -> None:
    row = {"chosen": [U("Q") | {"name": "ann"}, A("Yes") | {"thinking": "hm"}], "rejected": [U("Q"), A("No")]}
    _, done = bring(tmp_path, row, row | {"rejected": [U("Q"), A("Maybe")], "toxic": True})
    assert done.tally.columns.unread() == {"toxic": 1, "chosen: name": 2, "chosen: thinking": 2}
    assert "not read: toxic (1 rows), chosen: name (2 rows), chosen: thinking (2 rows)" in done.lines()


@pytest.mark.parametrize("name", ["chosen", "rejected", "prompt"])
def test_messages_written_as_a_text_are_refused(tmp_path: Path, name: str) -> None:
    for written in (json.dumps([U("Q")]), str([U("Q")]), ' [ {"from": "human", "value": "Q"}]'):
        with pytest.raises(ExchangeError, match=rf"{name} is a list of messages written as a text"):
            bring(tmp_path, PAIR | {name: written})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": [U("Hi"), A("a"), U("x")], "rejected": [U("Hi"), A("a"), U("y")]}, "not the assistant's turn"),
        ({"prompt": [U("Hi")], "chosen": [A("a")], "rejected": [U("b")]}, "not the assistant's turn"),
        ({"prompt": "Hi", "chosen": [A("a"), U("b")], "rejected": [A("a")]}, "not the assistant's turn"),
        ({"chosen": [U("Hi"), A("a"), U("x"), A("1")], "rejected": [U("Hi"), A("b"), U("x"), A("2")]}, "part before"),
        ({"chosen": [U("Hi"), A("a"), U("x"), A("1")], "rejected": [U("Hi"), A("b")]}, "part before"),
        (
            {"prompt": [U("Hi")], "chosen": [A("a"), U("x"), A("1")], "rejected": [A("b"), U("x"), A("2")]},
            "part before",
        ),
    ],
)
def test_only_two_last_turns_of_the_assistant_are_compared(row: dict[str, Any], why: str) -> None:
    with pytest.raises(LeftOut, match=why):
        trl.comparison_of(row, "n", "f")


# --- ratings -----------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "{}_score",
        "score_{}",
        "{}-rating",
        "rating_{}",
        "{}_avg_rating",
        "Rating-{}",
        "{}.reward",
        "{} score",
        "{}_quality",
    ]
)


@given(NAMES, st.integers(-5, 5), st.integers(-5, 5), st.booleans())
def test_ratings_by_any_name_make_ties_and_contradictions(name: str, chosen: int, rejected: int, words: bool) -> None:
    value = str if words else float
    row = PAIR | {name.format("chosen"): value(chosen), name.format("rejected"): value(rejected)}
    if chosen < rejected:
        with pytest.raises(LeftOut, match="says that the rejected outcome is better"):
            trl.comparison_of(row, "n", "f")
    else:
        assert said(trl.comparison_of(row, "n", "f"))[3] == (0.5 if chosen == rejected else 0.0)


@pytest.mark.parametrize(
    ("more", "right"),
    [
        ({"chosen_rank": 1, "rejected_rank": 3}, 0.0),
        ({"chosen_rank": 3, "rejected_rank": 1}, None),
        ({"rating": [9.0, 2.0]}, 0.0),
        ({"rating": [2.0, 9.0]}, None),
        ({"rating": [9, 9]}, 0.5),
        ({"rating": [2, 9], "generations": ["No", "Yes"]}, 0.0),
        ({"rating": [9, 2], "generations": ["No", "Yes"]}, None),
        ({"rating": [2, 9], "order": ["rejected", "chosen"]}, 0.0),
        ({"status": "tie"}, 0.5),
        ({"tie": True}, 0.5),
        ({"winner": "tie (bothbad)"}, 0.5),
        ({"margin": 0}, 0.5),
        ({"score_diff": -1}, None),
        ({"margin": 2}, 0.0),
        ({"chosen_length": 3, "rejected_length": 9}, 0.0),
        ({"chosen_score_count": 1, "rejected_score_count": 3}, 0.0),
        ({"chosen_score": 5}, 0.0),
        ({"rating": [1, 2, 3]}, 0.0),
        ({"status": "swapped"}, 0.0),
        ({"rating": 7}, 0.0),
        ({"score_chosen": 3, "score_rejected": 3, "preference": 1.0}, 0.0),
    ],
)
def test_what_the_numbers_beside_a_pair_say(more: dict[str, Any], right: float | None) -> None:
    if right is None:
        with pytest.raises(LeftOut, match="rejected outcome is better"):
            trl.comparison_of(PAIR | more, "n", "f")
    else:
        assert said(trl.comparison_of(PAIR | more, "n", "f"))[3] == right


# --- properties --------------------------------------------------------------------------------------

WORDS = st.text("abc XYZ.?", min_size=1, max_size=12).filter(str.strip)
VALUES = st.one_of(st.none(), st.integers(-3, 3), st.booleans(), st.lists(st.integers(0, 2), max_size=2), WORDS)
OTHERS = st.dictionaries(
    st.sampled_from(
        ["id", "source", "model", "chosen_model", "toxic", "remark", "messages", "length_chosen", "xyz", "lang"]
    ),
    VALUES,
    max_size=6,
)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, OTHERS), min_size=1, max_size=4))
def test_every_column_is_read_or_harmless_or_unread_and_the_counts_add_up(tmp_path_factory: Any, drawn: Any) -> None:
    rows = [{"prompt": p, "chosen": c, "rejected": r, **more} for p, c, r, more in drawn]
    folder = tmp_path_factory.mktemp("columns")
    try:
        comparisons, done = bring(folder, *rows)
    except ExchangeError as error:
        assert "none of its" in str(error)
        return
    account = done.tally.columns
    filled = {name: sum(row.get(name) not in (None, "", []) for row in rows) for row in rows for name in row}
    assert {name: n for name, n in filled.items() if n} == dict(account.rows)
    states = {name: account.state(name) for name in account.rows}
    assert all(states[name] == "read" for name in ("prompt", "chosen", "rejected"))
    assert all(
        (state == "harmless") == harmless(name)
        for name, state in states.items()
        if state != "read"
    )
    assert account.unread() == {name: filled[name] for name, state in states.items() if state == "unread"}
    texts = {row[name] for row in rows for name in ("chosen", "rejected")}
    for one in comparisons:
        assert one.case.prompt in {row["prompt"] for row in rows} and {one.a.text, one.b.text} <= texts
    assert done.rows == len(rows) == done.again + sum(done.tally.left.values()) + len(comparisons)


@given(WORDS, st.lists(st.sampled_from("ua"), min_size=1, max_size=4), WORDS, WORDS, st.booleans())
def test_texts_are_those_of_columns_or_messages_whole(first: str, turns: list[str], c: str, r: str, own: bool) -> None:
    asked = [U(first), *(U(f"t{i}") if kind == "u" else A(f"t{i}") for i, kind in enumerate(turns))]
    row = (
        {"prompt": asked, "chosen": [A(c)], "rejected": [A(r)]}
        if own
        else {"chosen": [*asked, A(c)], "rejected": [*asked, A(r)]}
    )
    try:
        found = trl.comparison_of(row, "n", "f")
    except LeftOut:
        assert c == r
        return
    assert {found.a.text, found.b.text} == {c, r}
    assert found.case.prompt == "\n\n".join(f"{m['role']}: {m['content']}" for m in asked)


@given(WORDS, WORDS, WORDS)
def test_swapping_chosen_and_rejected_flips_the_preference_and_which_is_a_is_drawn(p: str, c: str, r: str) -> None:
    if c == r:
        return
    one = trl.comparison_of({"prompt": p, "chosen": c, "rejected": r}, "n", "f")
    other = trl.comparison_of({"prompt": p, "chosen": r, "rejected": c}, "n", "f")
    assert one.pair == other.pair and one.preference == 1 - (other.preference or 0.0)


def test_the_chosen_one_is_a_as_often_as_b() -> None:
    rows = [{"prompt": f"p{i}", "chosen": "c", "rejected": "r"} for i in range(400)]
    first = sum(trl.comparison_of(row, "n", "f").a.text == "c" for row in rows)
    assert 160 < first < 240  # 4 standard deviations


def test_what_an_older_version_imported_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "c", "rejected": "r"} for i in range(20)]
    monkeypatch.setattr(trl, "drawn", lambda comparison: comparison)  # chosen was always A
    before, _ = bring(tmp_path, *rows)
    monkeypatch.undo()
    after, done = bring(tmp_path, *rows)
    assert (done.added, done.known) == (0, 20) and after == before


def test_an_agent_s_outcome_that_is_json_comes_back_from_an_export() -> None:
    one = trl.comparison_of(PAIR, "n", "f")
    written = replace(one, pair=replace(one.pair, a=Outcome('[{"role": "user", "content": "x"}]')))
    assert trl.comparison_of(row_of(written), "n", "f") == written


def test_the_chosen_column_s_own_lists_are_not_taken_for_another_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": ["a", "b"], "rejected": ["c"], "id": str(i)} for i in range(2)]
    comparisons, done = bring(tmp_path, *rows)
    assert len(comparisons) == 4 and not done.tally.columns.unread()


def test_a_prompt_within_metadata_is_found_there(tmp_path: Path) -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green.", "metadata": {"n": 1, "ask": "What is it?"}}
    with pytest.raises(ExchangeError, match=r"no prompt, but another text: metadata\..*--map prompt=metadata\.ask;"):
        bring(tmp_path, row)


# --- columns that mean something else here -----------------------------------------------------------


def test_short_values_of_harmless_names_are_no_prompts(tmp_path: Path) -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    more = {"user": "Ann", "source": "wiki dump", "model": "Some Model 3 8B Instruct", "metadata": {"n": 3}}
    (found,), _ = bring(tmp_path, row | more)
    assert found.case.prompt == "The sky is" and found.user == "Ann"


@pytest.mark.parametrize("name", trl.OURS)
def test_what_only_an_export_says_is_not_read_of_other_rows(tmp_path: Path, name: str) -> None:
    (found,), done = bring(tmp_path, PAIR | {name: 1})
    assert (found.round, found.seconds, found.judgement.attention, found.judgement.assisted) == (-1, 0.0, 0, True)
    assert done.tally.columns.unread() == {name: 1}


@pytest.mark.parametrize("user", ["x" * 201, "Ann\nasks why"])
def test_a_user_that_is_no_name_is_an_error(tmp_path: Path, user: str) -> None:
    with pytest.raises(ExchangeError, match=r"in\.jsonl:1: user .* no name of who judged.*--ignore user"):
        bring(tmp_path, PAIR | {"user": user})


@pytest.mark.parametrize("record", [{"q": "Why?"}, '{"q": 1}', "Why?", [1]])
def test_a_record_of_anothers_is_an_error_that_says_so(tmp_path: Path, record: Any) -> None:
    with pytest.raises(ExchangeError, match=r"in\.jsonl:1: .*not from `rrm export`, --ignore record"):
        bring(tmp_path, PAIR | {"record": record})


def test_a_number_beyond_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"score_chosen '1000.* is no number"):
        bring(tmp_path, PAIR | {"score_chosen": 10**400, "score_rejected": 1})


def test_lists_written_as_texts_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="lists written as texts"):
        bring(tmp_path, {"prompt": '["Q"]', "chosen": '["Yes"]', "rejected": '["No"]'})
    (found,), _ = bring(tmp_path, {"prompt": "A list, please", "chosen": '["Yes"]', "rejected": '["No"]'})
    assert said(found)[1:3] == ('["No"]', '["Yes"]')


@pytest.mark.parametrize("name", ["toxicity_score", "length_score", "neg_reward", "loss_score", "harm_rating"])
def test_what_is_the_worse_the_more_there_is_of_it_is_no_rating(tmp_path: Path, name: str) -> None:
    (found,), done = bring(tmp_path, PAIR | {f"chosen_{name}": 1, f"rejected_{name}": 2})
    assert said(found) == ("Q", "No", "Yes", 0.0) and f"chosen_{name}" in done.tally.columns.unread()


@pytest.mark.parametrize("none", ["N/A", "na", " None ", "null", ""])
def test_a_rating_that_says_there_is_none_is_none(tmp_path: Path, none: str) -> None:
    (found,), _ = bring(tmp_path, PAIR | {"chosen_score": none, "rejected_score": "3"})
    assert said(found) == ("Q", "No", "Yes", 0.0)


def test_a_contradicting_rating_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"the score says that the rejected .* --ignore its columns"):
        bring(tmp_path, PAIR | {"chosen_score": 1, "rejected_score": 2})


@pytest.mark.parametrize(("prompt", "kept"), [("Q", True), (" Q\n", True), ("[INST] Q [/INST]", True), ("", True),
                                              (None, True), ("R", False), ("Another one", False)])  # fmt: skip
def test_a_prompt_that_the_messages_do_not_have_is_not_dropped(tmp_path: Path, prompt: Any, kept: bool) -> None:
    row = {"prompt": prompt, "chosen": [U("Q"), A("Yes")], "rejected": [U("Q"), A("No")]}
    if kept:
        assert said(bring(tmp_path, row)[0][0]) == ("Q", "No", "Yes", 0.0)
    else:
        with pytest.raises(ExchangeError, match="begin with another prompt than its column has"):
            bring(tmp_path, row)
