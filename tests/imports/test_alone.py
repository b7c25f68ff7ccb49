"""What was said of single outcomes comes in as it was meant, goes out, and comes back whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.errors import ConfigError
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Case, Outcome
from rrm.core.remarks import Remark, Remarked
from rrm.exchange.exporting import ExchangeError, Format, export
from rrm.exchange.imports.alone import Alone, What
from rrm.exchange.imports.bringing import Brought, load_remarks
from rrm.exchange.imports.lengths import Limit
from rrm.exchange.imports.loading import load
from rrm.exchange.remark_export import export_remarks
from rrm.store.store import Store
from tests.label.material import assistance

Rows = Sequence[Mapping[str, Any]]


def written(path: Path, rows: Rows) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def bring(
    tmp_path: Path, rows: Rows, what: What, *columns: str, levels: str | None = None, ignore: Sequence[str] = ()
) -> Brought:
    how = Alone.parse(what, columns, levels)
    return load_remarks(written(tmp_path / "x.jsonl", rows), tmp_path / "run", how, "answer", ignore=ignore)


def kept(folder: Path, node: str = "answer") -> list[Remarked]:
    store = Store(folder / "run.db")
    found = store.remarks(node)
    store.close()
    return found


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


ASKED = {"prompt": "Why?", "completion": "Because."}
TALK = chat(("user", "Why?"), ("assistant", "Because."))

SHARED = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]


@pytest.mark.parametrize(
    ("what", "row", "remark"),
    [
        ("approvals", ASKED | {"label": True}, Remark("approval", 1.0)),
        ("approvals", {"prompt": TALK[:1], "completion": TALK[1:], "label": 0}, Remark("approval", 0.0)),
        ("approvals", ASKED | {"thumbs_up": "down"}, Remark("approval", 0.0)),
        ("marks", ASKED | {"flagged": "yes"}, Remark("unacceptable", 1.0)),
        ("marks", ASKED | {"unacceptable": False, "note": "I looked"}, Remark("unacceptable", 0.0, text="I looked")),
        ("ratings", ASKED | {"rating": 4, "user": "ann"}, Remark("rating", 4.0, 5, by="ann")),
        ("ratings", {"question": "Why?", "response": "Because.", "score": "2"}, Remark("rating", 2.0, 5)),
        ("demonstrations", ASKED, Remark("demonstration")),
        ("demonstrations", {"messages": TALK}, Remark("demonstration")),
        ("demonstrations", {"messages": TALK, "prompt": "Why?", "prompt_id": "x"}, Remark("demonstration")),
        ("demonstrations", {"conversations": SHARED}, Remark("demonstration")),
        ("corrections", ASKED | {"edited": "So."}, Remark("correction", better=Outcome("So."))),
        ("corrections", ASKED | {"better": chat(("assistant", "So."))},
         Remark("correction", better=Outcome("So."))),
    ],
)  # fmt: skip
def test_usual_names_are_read(tmp_path: Path, what: What, row: Mapping[str, Any], remark: Remark) -> None:
    done = bring(tmp_path, [row], what, levels="5" if what == "ratings" else None)
    (one,) = kept(tmp_path / "run")
    assert (one.case.prompt, one.outcome, one.remark, one.round) == ("Why?", Outcome("Because."), remark, -1)
    assert one.user == (remark.by or "imported(x.jsonl)")
    assert done.added == 1 and not done.tally.columns.unread()


def test_a_dialogue_s_last_turn_is_what_was_shown(tmp_path: Path) -> None:
    bring(tmp_path, [{"messages": chat(("user", "Hi"), ("assistant", "Ho")) + TALK, "system": "Be kind."}],
          "demonstrations")  # fmt: skip
    (one,) = kept(tmp_path / "run")
    assert one.case.prompt == "system: Be kind.\n\nuser: Hi\n\nassistant: Ho\n\nuser: Why?"
    assert one.outcome.text == "Because."


def test_columns_are_mapped_into_what_they_hold(tmp_path: Path) -> None:
    row = {"q": {"title": "Why", "body": "now?"}, "answers": [{"text": "So."}], "votes": 0, "who": "ann"}
    bring(tmp_path, [row, row | {"votes": 3, "who": "ben"}], "ratings", "prompt=q.title,q.body",
          "outcome=answers.0.text", "value=votes", "user=who", levels="0-3")  # fmt: skip
    one, other = kept(tmp_path / "run")
    assert one.case.prompt == "Why\n\nnow?" and one.outcome == other.outcome == Outcome("So.")
    assert [(r.remark.value, r.remark.levels, r.user) for r in (one, other)] == [(1, 4, "ann"), (4, 4, "ben")]
    bring(tmp_path, [ASKED | {"tag": "ok"}, ASKED | {"tag": "bad", "completion": "No."}], "marks", "value=tag:bad,ok")
    assert [r.remark.value for r in kept(tmp_path / "run")[2:]] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("what", "row", "says"),
    [
        ("ratings", ASKED | {"rating": 6}, "rating is 6, not a whole number from 1 to 5"),
        ("ratings", ASKED | {"rating": 3.5}, "prefers=higher"),
        ("ratings", ASKED | {"rating": "good"}, "is no number"),
        ("ratings", ASKED, "--map value=COLUMN"),
        ("approvals", ASKED | {"label": "maybe"}, "value=label:YES,NO"),
        ("approvals", {"completion": "x", "text": "Why?", "label": True}, r"no prompt; .*not read: text"),
        ("approvals", {"prompt": "Why?", "label": True}, "--map outcome=COLUMN"),
        ("corrections", ASKED, "--map better=COLUMN"),
        ("demonstrations", {"instruction": "Add", "input": "1 and 1", "output": "2"}, "prompt=instruction,input"),
        ("demonstrations", ASKED | {"completion": 3}, "not a text"),
        ("demonstrations", ASKED | {"user": "x" * 300}, "no name of who judged"),
        ("remarks", ASKED | {"outcome": "x", "kind": "stars"}, "kind"),
        ("remarks", {"prompt": "p", "outcome": "x", "kind": "rating", "value": 9, "levels": 5}, "from 1 to 5"),
        ("remarks", {"prompt": "p", "outcome": "x", "kind": "note", "text": "y", "record": '{"x": 1}'}, "x: Extra"),
    ],
)
def test_a_broken_row_is_named_and_nothing_is_imported(
    tmp_path: Path, what: What, row: Mapping[str, Any], says: str
) -> None:
    good = {"ratings": ASKED | {"rating": 1}, "approvals": ASKED | {"label": 1}, "corrections": ASKED | {"better": "y"},
            "remarks": {"prompt": "p", "outcome": "o", "kind": "demonstration"}}  # fmt: skip
    with pytest.raises(ExchangeError, match=rf"x.jsonl:2: .*{says}"):
        bring(tmp_path, [good.get(what, ASKED), row], what, levels="5" if what == "ratings" else None)
    assert not (tmp_path / "run").exists()


def test_a_scale_that_nobody_said_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="of how many levels"):
        bring(tmp_path, [ASKED | {"rating": 4}], "ratings")
    for wrong in ("five", "1", "0-0", "1000"):
        with pytest.raises(ConfigError, match="--levels"):
            Alone.parse("ratings", [], wrong)


def test_rows_that_say_nothing_are_counted(tmp_path: Path) -> None:
    rows = [ASKED | {"better": better} for better in ("So.", None, "Because.", " ")]
    done = bring(tmp_path, [*rows, ASKED | {"completion": " ", "better": "x"}], "corrections")
    assert done.added == 1
    assert dict(done.tally.left) == {
        "nobody corrected it": 2, "the correction is the outcome itself": 1, "its outcome is empty": 1
    }  # fmt: skip
    assert bring(tmp_path, [ASKED | {"tool_calls": ["x"]}, ASKED], "demonstrations").tally.left.total() == 1


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    row = ASKED | {"label": True, "reason": "it is short", "id": 3}
    assert bring(tmp_path, [row], "approvals").tally.columns.unread() == {"reason": 1}
    assert bring(tmp_path, [row], "approvals", ignore=["reason"]).tally.columns.unread() == {}


def test_what_is_too_long_is_left_out_or_an_error_and_never_cut(tmp_path: Path) -> None:
    rows = [ASKED | {"better": "So."}, ASKED | {"better": "So" * 9}]
    how, file = Alone.parse("corrections", [], None), written(tmp_path / "x.jsonl", rows)
    done = load_remarks(file, tmp_path / "run", how, "answer", limit=Limit(15))
    assert done.added == 1 and dict(done.tally.left) == {"longer than 15 characters": 1}
    with pytest.raises(ExchangeError, match=r"x.jsonl:2: longer than 15 .* 18 of its longest outcome"):
        load_remarks(file, tmp_path / "other", how, "answer", limit=Limit(15, "error"))
    command = ["import", str(file), "--out", str(tmp_path / "run"), "--node", "answer", "--as", "corrections"]
    done_ = CliRunner().invoke(app, [*command, "--longest", "15", "--too-long", "cut"])
    assert done_.exit_code and "--too-long cut is of comparisons" in " ".join(done_.output.split())


def test_twice_adds_nothing_and_two_people_s_words_are_two(tmp_path: Path) -> None:
    rows = [ASKED | {"rating": 3, "user": user} for user in ("ann", "ben", "ann")]
    done = bring(tmp_path, rows, "ratings", levels="5")
    assert done.added == 2 and len({one.scale for one in kept(tmp_path / "run")}) == 2
    assert bring(tmp_path, rows, "ratings", levels="5").added == 0
    store = Store(tmp_path / "run" / "run.db")
    (origins,) = store.origins("answer").values()
    assert [(one.file, one.row) for one in origins] == [("x.jsonl", 1), ("x.jsonl", 2), ("x.jsonl", 3)]
    store.close()


def test_a_node_that_is_trained_takes_no_more(tmp_path: Path) -> None:
    bring(tmp_path, [ASKED], "demonstrations")
    store = Store(tmp_path / "run" / "run.db")
    store.checkpoint("answer", 0, "reward", "x", "y")
    store.close()
    with pytest.raises(ExchangeError, match="trained already"):
        bring(tmp_path, [ASKED | {"completion": "So."}], "demonstrations")


# --- out, and in again -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = texts.filter(lambda text: text.strip())
outcomes = st.builds(
    Outcome, texts, st.just(()), st.just(()), st.booleans(),
    st.none() | st.dictionaries(texts, st.integers(-9, 9) | texts, max_size=2),
    st.sampled_from([("", ""), (" ", "\n")]),
)  # fmt: skip
names = st.sampled_from(["", "ann", "ben"])
remarks = st.one_of(
    st.builds(lambda level, by: Remark("rating", float(level), 7, by=by), st.integers(1, 7), names),
    st.builds(lambda yes, why, by: Remark("approval", float(yes), text=why, by=by), st.booleans(), texts, names),
    st.builds(lambda yes: Remark("unacceptable", float(yes)), st.booleans()),
    st.builds(lambda better: Remark("correction", better=better), outcomes),
    st.builds(lambda text, by: Remark("note", text=text, by=by), words, names),
    st.just(Remark("demonstration")),
)
cases = st.builds(Case, texts, st.dictionaries(texts, st.integers(0, 3), max_size=1))
said = st.builds(
    Remarked, st.sampled_from(["t", "t/sub"]), cases, outcomes, remarks, st.sampled_from(["ann", "imported(x)"]),
    st.just(-1), st.sampled_from([(), assistance("a")]),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(said, min_size=1, max_size=6), format=st.sampled_from(["jsonl", "parquet"]))
def test_what_goes_out_comes_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, found: list[Remarked], format: Format
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    store = Store(folder / "run.db")
    store.bring_remarks([(one, []) for one in found])
    before = [*store.remarks("t"), *store.remarks("t/sub")]
    store.close()
    file = folder / f"out.{format}"
    assert export_remarks(folder, file, format) == len(before)
    how = Alone.parse("remarks", [], None)
    for added in (len(before), 0):
        assert load_remarks(file, folder / "two", how).added == added
    assert [*kept(folder / "two", "t"), *kept(folder / "two", "t/sub")] == before


def beside(folder: Path) -> list[Comparison]:
    """Comparisons with remarks on both sides, B preferred in one."""
    pair = Pair("answer", Case("Why?"), Outcome("A\x1b"), Outcome("B"), assistance("a"), ())
    a, b = (Remark("rating", 2.0, 5, by="ann"), Remark("rating", 4.0, 5, by="ben")), (Remark("approval", 1.0),)
    some = [
        Comparison(pair, Judgement(0.0, remarks_a=a, remarks_b=b), 0, "human(ann, ben)"),
        Comparison(replace(pair, case=Case("How?")), Judgement(1.0, remarks_a=b), 1, "human(ann)"),
    ]
    folder.mkdir()
    store = Store(folder / "run.db")
    for position, one in enumerate(some):
        store.add(one, position)
    store.close()
    return some


def test_remarks_beside_comparisons_go_out_alone_and_come_back(tmp_path: Path) -> None:
    some = beside(tmp_path / "one")
    file = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, ["export", str(tmp_path / "one"), "--as", "remarks", "-o", str(file)])
    assert done.exit_code == 0 and "4 remarks" in done.output
    done = CliRunner().invoke(app, ["import", str(file), "--out", str(tmp_path / "two")])
    assert done.exit_code == 0, done.output
    assert "2 ratings at answer" in done.output and "4 added" in done.output, "its own export is known without --as"
    before = [replace(one, round=one.round - 2) for comparison in some for one in comparison.remarks]
    assert kept(tmp_path / "two") == before


def test_exported_comparisons_keep_what_was_said_of_their_outcomes(tmp_path: Path) -> None:
    some = beside(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "out.jsonl", "jsonl")
    load(tmp_path / "out.jsonl", tmp_path / "two", "answer")
    store = Store(tmp_path / "two" / "run.db")
    assert store.comparisons() == [replace(c, round=c.round - 2) for c in some]
    store.close()


@pytest.mark.parametrize("messages", [False, True])
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_approvals_are_trl_s_unpaired_rows(tmp_path: Path, format: Format, messages: bool) -> None:
    rows = [ASKED | {"label": label, "user": user} for label, user in ((True, "ann"), (False, "ben"), (False, "ann"))]
    bring(tmp_path, rows, "approvals")
    file = tmp_path / f"out.{format}"
    assert export_remarks(tmp_path / "run", file, format, "approvals", messages=messages) == 2, "the last each"
    loader = "json" if format == "jsonl" else format
    found = load_dataset(loader, data_files=str(file), cache_dir=str(tmp_path / "cache"))["train"]
    assert found["label"][:] == [False, False] and sorted(found["user"][:]) == ["ann", "ben"]
    assert found["completion"][0] == (TALK[1:] if messages else "Because.")
    how = Alone.parse("approvals", [], None)
    assert load_remarks(file, tmp_path / "two", how, "answer").added == 2


def test_the_command_says_what_does_not_go_together(tmp_path: Path) -> None:
    file = str(written(tmp_path / "x.jsonl", [ASKED]))
    for options, says in (
        (["--as", "rating"], "did you mean 'ratings'"),
        (["--as", "marks", "--levels", "5"], "--levels goes with --as ratings"),
        (["--levels", "5"], "--levels goes with --as ratings"),
        (["--as", "demonstrations", "--map", "value=x"], "have none"),
        (["--as", "demonstrations", "--map", "outcom=x"], "did you mean 'outcome'"),
        (["--as", "demonstrations", "--format", "hh"], "--format is of comparisons"),
        ([], "--as ratings, approvals, marks"),
    ):
        done = CliRunner().invoke(app, ["import", file, "--out", str(tmp_path / "run"), "--node", "answer", *options])
        assert done.exit_code and says in " ".join(done.output.split()), (options, done.output)
