"""`--map` opens data sets of other shapes: two rows of each, in its own columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.errors import ConfigError
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import Row
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.mapped import KEYS, Columns
from tests.imports.test_columns import A, U, said
from tests.label.reviews import lines, stored

HELPSTEER2 = [
    {"prompt": "Q", "response": "good", "helpfulness": 4, "correctness": 4, "coherence": 4,
     "complexity": 1, "verbosity": 1},
    {"prompt": "Q", "response": "bad", "helpfulness": 2, "correctness": 1, "coherence": 4,
     "complexity": 1, "verbosity": 2},
]  # fmt: skip
HELPSTEER2_PREFERENCE = [
    {"split": "train", "prompt": "Q", "response_1": "bad", "response_2": "good", "preference_strength": 2,
     "preference_statement": "Response 2 is better", "preference_elaboration": "...",
     "three_most_similar_preferences": [], "all_preferences_unprocessed": []},
    {"split": "val", "prompt": "R", "response_1": "good", "response_2": "bad", "preference_strength": -1},
]  # fmt: skip
HELPSTEER3 = [
    {"domain": "general", "language": "english", "context": [U("Q")], "response1": "good", "response2": "bad",
     "overall_preference": -2, "individual_preference": [{"score": -2, "reasoning": "...", "feedback1": "a"}]},
    {"domain": "general", "language": "english", "context": [U("Hi"), A("Yes?"), U("R")], "response1": "bad",
     "response2": "good", "overall_preference": 0, "individual_preference": []},
]  # fmt: skip
PKU = [
    {"prompt": "Q", "response_0": "bad", "response_1": "good", "prompt_source": "x", "response_0_source": "m",
     "response_1_source": "m", "is_response_0_safe": False, "is_response_1_safe": True,
     "response_0_harm_category": {"Violence": True}, "response_1_harm_category": {"Violence": False},
     "response_0_severity_level": 2, "response_1_severity_level": 0, "better_response_id": 1, "safer_response_id": 1,
     "response_0_sha256": "0", "response_1_sha256": "1"},
    {"prompt": "R", "response_0": "good", "response_1": "bad", "better_response_id": 0, "safer_response_id": 1},
]  # fmt: skip
SHP = [
    {"post_id": "a", "domain": "askbaking_train", "upvote_ratio": 0.9, "history": "Q", "c_root_id_A": "x",
     "c_root_id_B": "y", "created_at_utc_A": 1, "created_at_utc_B": 2, "score_A": 3, "score_B": 9,
     "human_ref_A": "bad", "human_ref_B": "good", "labels": 0, "seconds_difference": 1.0, "score_ratio": 3.0},
    {"history": "R", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1},
]  # fmt: skip
NECTAR = [
    {"prompt": "\n\nHuman: Q\n\nAssistant: ", "turns": 1, "num_responses": 3, "source": ["x"], "good_natured": True,
     "answers": [{"answer": "good", "model": "m", "rank": 1.0}, {"answer": "bad", "model": "n", "rank": 3.0},
                 {"answer": "middling", "model": "o", "rank": 2.0}]},
    {"prompt": "R", "answers": [{"answer": "good", "model": "m", "rank": 1.0},
                                {"answer": "bad", "model": "n", "rank": 2.0}]},
]  # fmt: skip
ULTRAFEEDBACK = [
    {"source": "x", "instruction": "Q", "models": ["m", "n"], "correct_answers": ["None"],
     "incorrect_answers": ["None"],
     "completions": [
         {"annotations": {"helpfulness": {"Rating": "5"}}, "custom_system_prompt": "Be.", "model": "m",
          "principle": "p", "response": "bad", "critique": "...", "overall_score": 7.5, "fine-grained_score": 3.25},
         {"annotations": {}, "model": "n", "response": "good", "critique": "...", "overall_score": 7.5,
          "fine-grained_score": 4.5}]},
    {"instruction": "R", "completions": [{"response": "good", "fine-grained_score": 4.0},
                                         {"response": "bad", "fine-grained_score": 4.0}]},
]  # fmt: skip
WEBGPT = [
    {"question": {"dataset": "eli5", "id": "a", "full_text": "Q"}, "quotes_0": {"title": [], "extract": []},
     "answer_0": "good", "tokens_0": {"prefix": [], "completion": []}, "score_0": 0.5,
     "quotes_1": {"title": [], "extract": []}, "answer_1": "bad",
     "tokens_1": {"prefix": [], "completion": []}, "score_1": -0.5},
    {"question": {"full_text": "R"}, "answer_0": "bad", "score_0": 0.0, "answer_1": "good", "score_1": 0.0},
]  # fmt: skip
REWARDBENCH2 = [
    {"id": "1", "prompt": "Q", "chosen": ["good"], "rejected": ["bad", "worse", "worst"], "num_correct": 1,
     "num_incorrect": 3, "total_completions": 4, "models": ["m"], "subset": "Factuality", "additional_metadata": {}},
    {"id": "2", "prompt": "R", "chosen": ["good", "fine"], "rejected": ["bad"], "subset": "Ties"},
]  # fmt: skip
ARENA = [
    {"question_id": "a", "model_a": "m", "model_b": "n", "winner": "model_b", "judge": "j", "turn": 1, "anony": True,
     "conversation_a": [U("Q"), A("bad")], "conversation_b": [U("Q"), A("good")], "language": "English", "tstamp": 1.0,
     "openai_moderation": {}, "toxic_chat_tag": {}},
    {"question_id": "b", "model_a": "m", "model_b": "n", "winner": "tie (bothbad)", "judge": "j", "turn": 1,
     "conversation_a": [U("R"), A("bad")], "conversation_b": [U("R"), A("good")]},
]  # fmt: skip
ARGILLA = [
    {"id": "1", "status": "completed", "_server_id": "x", "prompt": "Q", "response_a": "bad", "response_b": "good",
     "preference.responses": ["b", "b", "a"], "preference.responses.users": ["u", "v", "w"],
     "preference.responses.status": ["submitted"] * 3, "preference.suggestion": None},
    {"id": "2", "status": "pending", "prompt": "R", "response_a": "good", "response_b": "bad",
     "preference.responses": ["a"], "preference.responses.users": ["u"]},
]  # fmt: skip
ARGILLA1 = [
    {"instruction": "Q", "response-1": "good", "response-2": "bad", "external_id": None, "metadata": "{}",
     "choose": [{"user_id": "u", "value": "response-1", "status": "submitted"}]},
    {"instruction": "R", "response-1": "good", "response-2": "bad",
     "choose": [{"user_id": "u", "value": "tie", "status": "submitted"}]},
]  # fmt: skip
LABEL_STUDIO = [
    {"id": i, "data": {"prompt": prompt, "answer1": first, "answer2": second}, "predictions": [],
     "file_upload": "x.json",
     "annotations": [{"id": 1, "completed_by": 1, "was_cancelled": False, "lead_time": 2.5, "result": [
         {"id": "r", "from_name": "pw", "to_name": "t1,t2", "type": "pairwise", "value": {"selected": selected}}]}]}
    for i, (prompt, first, second, selected) in enumerate([("Q", "good", "bad", "left"), ("R", "bad", "good", "right")])
]  # fmt: skip
Q, R = ("Q", "bad", "good", 0.0), ("R", "bad", "good", 0.0)
TIE = ("R", "bad", "good", 0.5)

SETS: dict[str, tuple[list[dict[str, Any]], list[str], list[tuple[str, str, str, float]]]] = {
    "HelpSteer2": (HELPSTEER2, ["outcome=response", "prefers=higher:helpfulness"], [Q]),
    "HelpSteer2, preference": (
        HELPSTEER2_PREFERENCE, ["a=response_1", "b=response_2", "prefers=lower:preference_strength,0"], [Q]),
    "HelpSteer3": (
        HELPSTEER3, ["prompt=context", "a=response1", "b=response2", "prefers=lower:overall_preference,0"],
        [Q, ("user: Hi\n\nassistant: Yes?\n\nuser: R", "bad", "good", 0.5)]),
    "PKU-SafeRLHF": (PKU, ["a=response_0", "b=response_1", "prefers=better_response_id:0,1"], [Q, R]),
    "SHP": (SHP, ["prompt=history", "a=human_ref_A", "b=human_ref_B", "prefers=labels:1,0"], [Q, R]),
    "Nectar": (
        NECTAR, ["outcomes=answers.*.answer", "prefers=lower:answers.*.rank"],
        [("\n\nHuman: Q\n\nAssistant: ", *rest) for rest in
         (("bad", "good", 0.0), ("good", "middling", 1.0), ("bad", "middling", 0.0))] + [R]),
    "UltraFeedback": (
        ULTRAFEEDBACK,
        ["prompt=instruction", "outcomes=completions.*.response", "prefers=higher:completions.*.fine-grained_score"],
        [Q, TIE]),
    "WebGPT": (
        WEBGPT, ["prompt=question.full_text", "a=answer_0", "b=answer_1", "prefers=higher:score_0,score_1"], [Q, TIE]),
    "RewardBench 2": (
        REWARDBENCH2, [], [Q, ("Q", "good", "worse", 1.0), ("Q", "good", "worst", 1.0), R, ("R", "bad", "fine", 0.0)]),
    "arena": (
        ARENA, ["a=conversation_a", "b=conversation_b", "prefers=winner:model_a,model_b,tie,tie (bothbad)"], [Q, TIE]),
    "Argilla": (
        ARGILLA, ["a=response_a", "b=response_b", "prefers=preference.responses.*:a,b,tie"],
        [("Q", "bad", "good", pytest.approx(1 / 3)), R]),
    "Argilla 1": (
        ARGILLA1,
        ["prompt=instruction", "a=response-1", "b=response-2", "prefers=choose.*.value:response-1,response-2,tie"],
        [Q, TIE]),
    "Label Studio": (
        LABEL_STUDIO,
        ["prompt=data.prompt", "a=data.answer1", "b=data.answer2",
         "prefers=annotations.*.result.0.value.selected:left,right"], [Q, R]),
    "several prompts": (
        [{"instruction": "Say", "input": "cat", "chosen": "good", "rejected": "bad"},
         {"instruction": "R", "input": "", "chosen": "good", "rejected": "bad"}],
        ["prompt=instruction,input"], [("Say\n\ncat", *Q[1:]), R]),
    "other names of the better": ([{"q": "Q", "win": "good", "lose": "bad"}, {"q": "R", "win": "good", "lose": "bad"}],
                                  ["prompt=q", "chosen=win", "rejected=lose"], [Q, R]),
}  # fmt: skip


PAGE = [name for name in SETS if name not in ("several prompts", "other names of the better", "Argilla 1")]


@pytest.mark.parametrize("name", SETS)
def test_data_sets_are_opened_by_the_command_that_the_page_gives(tmp_path: Path, name: str) -> None:
    rows, assignments, right = SETS[name]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["import", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "run"), "--node", "n"]
    done = CliRunner().invoke(app, [*command, *(part for one in assignments for part in ("--map", one))])
    assert done.exit_code == 0, done.output
    assert [said(one) for one in stored(tmp_path / "run")] == right
    page = (Path(__file__).parents[2] / "docs" / "bring-your-labels.md").read_text()
    assert name not in PAGE or all(one in page for one in assignments)


@pytest.mark.parametrize("name", [name for name in PAGE if SETS[name][1]])
def test_without_it_they_are_errors_that_say_what_to_give(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExchangeError, match=r"no known format.*--map prompt="):
        load(lines(tmp_path / "in.jsonl", SETS[name][0]), tmp_path / "run", "n")


@pytest.mark.parametrize(
    ("assignments", "match"),
    [
        (["promt=q"], "did you mean 'prompt'"), (["prompt"], "KEY=COLUMN"), (["prompt="], "KEY=COLUMN"),
        (["prompt=q", "prompt=r"], "twice"), (["a=x"], "one of these"), (["a=x", "b=y"], "which is better"),
        (["a=x", "b=y", "prefers=w"], "COLUMN:A,B,TIE"), (["a=x", "b=y", "prefers=w:1"], "COLUMN:A,B,TIE"),
        (["a=x", "b=y", "prefers=higher:1,2,3"], "COLUMN:A,B,TIE"), (["prefers=w:1,2"], "what prefers is about"),
        (["outcomes=x", "prefers=w:1,2"], "each one's number"),
        (["outcomes=x", "prefers=lower:a,b"], "each one's number"),
        (["a=x", "b=y", "chosen=z", "prefers=w:1,2"], "one of these"),
    ],
)  # fmt: skip
def test_maps_that_say_too_little_or_too_much(assignments: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Columns.parse(assignments)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"a": "x", "b": "y", "w": "1"}, "no prompt; say with --map prompt"),
        ({"prompt": "Q", "a": "x", "w": "1"}, "no column 'b'"),
        ({"prompt": "Q", "a": "x", "b": "y", "w": "3"}, "of which --map prefers says nothing: it knows 1, 2"),
        ({"prompt": "Q", "a": "x", "b": "y", "w": None}, "nobody judged it"),
        ({"prompt": "Q", "a": 3, "b": "y", "w": "1"}, "chosen is 3"),
        ({"prompt": "Q", "a": "x", "b": "x", "w": "1"}, "the same"),
    ],
)
def test_rows_that_are_not_as_the_map_says_are_named(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    columns = Columns.parse(["a=a", "b=b", "prefers=w:1,2"])
    with pytest.raises(ExchangeError, match=rf"in\.jsonl.*{match}"):
        load(lines(tmp_path / "in.jsonl", [row]), tmp_path / "run", "n", columns=columns)


def test_ways_that_lead_nowhere_are_named() -> None:
    row = Row({"prompt": "Q", "x": {"y": [1]}, "a": "1", "b": "2"})
    for way, match in (("x.z", "no 'z' there, but y"), ("x.y.3", "none of number 3"), ("x.y.q", "leads nowhere")):
        with pytest.raises(ExchangeError, match=match):
            Columns.parse(["a=a", "b=b", f"prefers={way}:1,2"]).parts([row])


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_swapping_a_and_b_flips_what_is_preferred(x: float, y: float) -> None:
    def preference(a: float, b: float, by: str) -> float:
        (part,) = Columns.parse(["a=a", "b=b", f"prefers={by}:x,y"]).parts(
            [Row({"prompt": "Q", "a": "1", "b": "2", "x": a, "y": b})]
        )
        found = part["preference"]
        assert isinstance(found, float)
        return found

    assert preference(x, y, "higher") == 1 - preference(y, x, "higher") == 1 - preference(x, y, "lower")
    assert preference(x, y, "higher") == (0.5 if x == y else float(x > y))


def test_the_help_names_every_key() -> None:
    done = CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "200"})
    text = " ".join(done.output.split())
    assert all(key in text for key in KEYS)


def test_what_lies_beside_the_ways_into_a_column_is_accounted_for(tmp_path: Path) -> None:
    row = {
        "info": {"post": "P", "title": "T", "id": "7", "site": None},
        "sums": [{"text": "good", "note": "n"}, {"text": "bad", "note": "", "by": {"x": 1}}, {"text": "third"}],
        "by": [{"of": {"label": "l"}, "cancelled": False}, {"of": {"label": "l"}, "cancelled": True}],
    }
    how = ("prompt=info.post", "a=sums.0.text", "b=sums.-2.text", "prefers=by.*.of.label:l,r")
    done = load(lines(tmp_path / "in.jsonl", [row]), tmp_path / "run", "n", columns=Columns.parse(how))
    beside = {"info.title", "sums.*.note", "sums.*.by", "sums.2", "by.*.cancelled"}
    assert done.tally.columns.unread() == dict.fromkeys(beside, 1)
    ignored = load(
        lines(tmp_path / "in.jsonl", [row]), tmp_path / "other", "n", columns=Columns.parse(how),
        ignore=["sums.*.note", "info.title"],
    )  # fmt: skip
    assert set(ignored.tally.columns.unread()) == beside - {"sums.*.note", "info.title"}


def test_who_skipped_has_no_vote(tmp_path: Path) -> None:
    skipped, voted = {"result": []}, {"result": [{"value": "left"}]}
    rows = [{"prompt": "Q", "x": "good", "y": "bad", "who": who} for who in ([skipped, voted], [skipped])]
    how = Columns.parse(("a=x", "b=y", "prefers=who.*.result.0.value:left,right"))
    done = load(lines(tmp_path / "in.jsonl", rows), tmp_path / "run", "n", columns=how)
    assert said(stored(tmp_path / "run")[0]) == ("Q", "bad", "good", 0.0)
    assert done.tally.left == {"nobody judged it": 1}
    with pytest.raises(ExchangeError, match="none of number 0"):
        load(lines(tmp_path / "in.jsonl", [{**rows[0], "one": []}]), tmp_path / "run", "n",
             columns=Columns.parse(("a=x", "b=y", "prefers=one.0:left,right")))  # fmt: skip
