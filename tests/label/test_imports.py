"""Other people's labels: each format is read as it is meant, and nothing is guessed."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.core.judgements import Comparison
from rrm.exchange.exporting import ExchangeError, export
from rrm.exchange.imports import hh
from rrm.exchange.imports import preferences as trl
from rrm.exchange.imports.columns import LeftOut
from rrm.exchange.imports.converting import detect
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.sources import source
from rrm.store.store import Store
from tests.label.reviews import dialogue, lines, papers, stored

RUN = CliRunner()


# --- HH-RLHF -----------------------------------------------------------------------------------------


def test_hh_dialogues_part_at_the_last_turn() -> None:
    rows = [
        {"chosen": dialogue("Why?", last="Because."), "rejected": dialogue("Why?", last="No.")},
        {
            "chosen": dialogue("Hi \n\nyou", "Hello", "Why?\nWhy?", last="a\n\nb"),
            "rejected": dialogue("Hi \n\nyou", "Hello", "Why?\nWhy?", last="c"),
        },
    ]
    one, several = (hh.comparison_of(row, "t", "f") for row in rows)
    assert (one.case.prompt, one.a.text, one.b.text, one.preference) == ("Why?", "Because.", "No.", 1.0)
    assert several.case.prompt == "user: Hi \n\nyou\n\nassistant: Hello\n\nuser: Why?\nWhy?"
    assert (several.a.text, several.b.text) == ("a\n\nb", "c")


def test_hh_and_its_conversational_version_are_the_same_comparison() -> None:
    row = {
        "chosen": dialogue("Hi", "Hello", "Why?", last="é\u202e"),
        "rejected": dialogue("Hi", "Hello", "Why?", last="No"),
    }
    messages = {
        name: [{"role": role, "content": text} for role, text in hh.turns(row[name])]
        for name in ("chosen", "rejected")
    }
    assert hh.comparison_of(row, "t", "f").pair.id == trl.comparison_of(messages, "t", "f").pair.id


@pytest.mark.parametrize(
    ("chosen", "rejected", "why"),
    [
        (dialogue("Why?", last="a"), dialogue("Why?", last="a"), "the same"),
        (dialogue("Why?", last="a"), dialogue("What?", last="b"), "part before"),
        (dialogue("Hi", "x", "Why?", last="a"), dialogue("Hi", last="b"), "part before"),
        (dialogue("Hi", "x", "Why?", last="a"), dialogue("Hi", "y", "Why?", last="b"), "part before"),
        (dialogue("Why?", last=""), dialogue("Why?", last="b"), "empty"),
        ("\n\nHuman: Why?", dialogue("Why?", last="b"), "does not end"),
        ("\n\nAssistant: a", "\n\nAssistant: b", "no prompt"),
        ("Why? Because.", "Why? No.", "no dialogue"),
        ("", dialogue("Why?", last="b"), "no dialogue"),
        ("\n\nHuman:", "\n\nHuman: \n\n", "the same"),
        ("Oh\n\nHuman: Why?\n\nAssistant: a", dialogue("Why?", last="b"), "no dialogue"),
    ],
)
def test_hh_rows_that_compare_no_answers_are_left_out(chosen: str, rejected: str, why: str) -> None:
    with pytest.raises(LeftOut, match=why):
        hh.comparison_of({"chosen": chosen, "rejected": rejected}, "t", "f")


def test_broken_dialogues_are_counted_and_the_first_named(tmp_path: Path) -> None:
    rows = [{"chosen": dialogue(f"q{i}", last="a"), "rejected": dialogue(f"q{i}", last="b")} for i in range(4)]
    rows += [{"chosen": dialogue("q", last="a"), "rejected": dialogue("p", last="b")}] * 2
    rows += [{"chosen": dialogue("q", last="a"), "rejected": dialogue("q", last="a")}, rows[0]]
    done = load(lines(tmp_path / "hh.jsonl", rows), tmp_path / "run", "t")
    assert (done.format, done.rows, done.added, done.again, done.alike) == ("hh", 8, 4, 1, 1)
    assert done.tally.left == {"the dialogues part before the last turn": 2, "both outcomes are the same": 1}
    assert any("part before the last turn (first: hh.jsonl:5)" in line for line in done.lines())


# --- TRL ---------------------------------------------------------------------------------------------


def chat(*messages: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in messages]


def better_first(comparison: Comparison) -> tuple[str, str]:
    """The outcome that is preferred, and the other."""
    assert comparison.preference in (0, 1)
    texts = (comparison.a.text, comparison.b.text)
    return texts if comparison.preference else (texts[1], texts[0])


ASKED, GOOD, BAD = ("user", "Why?"), ("assistant", "Because."), ("assistant", "No.")
MEANT = ("Why?", "Because.", "No.")


@pytest.mark.parametrize(
    ("row", "texts", "variant"),
    [
        (
            {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
            ("The sky is", " blue.", " green."),
            "ss",
        ),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, ("The sky is", " blue.", " green."), "si"),
        ({"chosen": "The sky is blue", "rejected": "The sky is black"}, ("The sky is", " blue", " black"), "si"),
        ({"prompt": None, "chosen": "a b", "rejected": "a b c"}, ("a", " b", " b c"), "si"),
        ({"prompt": chat(ASKED), "chosen": chat(GOOD), "rejected": chat(BAD)}, MEANT, "ce"),
        ({"chosen": chat(ASKED, GOOD), "rejected": chat(ASKED, BAD)}, MEANT, "ci"),
        ({"prompt": "Why?", "chosen": chat(ASKED, GOOD), "rejected": chat(ASKED, BAD)}, MEANT, "ce"),
        ({"prompt": chat(ASKED), "chosen": chat(ASKED, GOOD), "rejected": chat(ASKED, BAD)}, MEANT, "ce"),
        ({"prompt": "Why?", "chosen": chat(GOOD), "rejected": chat(BAD)}, MEANT, "ce"),
        ({"prompt": chat(ASKED), "chosen": "Because.", "rejected": "No."}, MEANT, "se"),
        (
            {"chosen": chat(("user", [{"type": "text", "text": "Why?"}]), GOOD), "rejected": chat(ASKED, BAD)},
            MEANT,
            "ci",
        ),
    ],
)
def test_every_variant_of_trl(row: dict[str, Any], texts: tuple[str, str, str], variant: str) -> None:
    found = trl.comparison_of(row, "t", "f")
    assert (found.case.prompt, *better_first(found)) == texts
    if variant[1] == "i":
        assert "implicit" in trl.variant(row)
    assert trl.variant(row).startswith("conversational" if variant[0] == "c" else "standard")


def test_trl_itself_finds_the_same_prompt() -> None:
    data_utils = pytest.importorskip("trl.data_utils", reason="trl is not installed")
    rows = [
        {"chosen": chat(ASKED, GOOD, ASKED, GOOD), "rejected": chat(ASKED, GOOD, ASKED, BAD)},
        {"prompt": "Why?", "chosen": chat(ASKED, GOOD), "rejected": chat(ASKED, BAD)},
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    ]
    for row in rows:
        there = data_utils.maybe_extract_prompt(row)
        assert trl.comparison_of(row, "t", "f").pair.id == trl.comparison_of(there, "t", "f").pair.id


ROW = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("columns", "preference", "note"),
    [
        ({"score_chosen": 8.5, "score_rejected": 6}, 1.0, "score 8.5 against 6"),
        ({"chosen_score": 7, "rejected_score": 7}, 0.5, "score 7 against 7"),
        ({"score_chosen": None, "score_rejected": 3}, 1.0, ""),
        ({"margin": 2.0}, 1.0, "margin 2"),
        ({"margin": 0}, 0.5, "margin 0"),
        ({"preference": 0.75, "margin": 1, "note": "mine"}, 0.75, "mine"),
        ({"preference": None}, None, ""),
    ],
)
def test_scores_and_margins(columns: dict[str, Any], preference: float | None, note: str) -> None:
    found = trl.comparison_of(ROW | columns, "t", "f")
    assert (found.preference, found.judgement.note) == (preference, note)


@pytest.mark.parametrize(
    "row",
    [
        ROW | {"score_chosen": 1, "score_rejected": 2},
        ROW | {"margin": -1},
        {"chosen": "one", "rejected": "two"},
        {"chosen": chat(ASKED, GOOD), "rejected": chat(("user", "What?"), BAD)},
        ROW | {"rejected": " "},
        {"chosen": chat(ASKED, GOOD), "rejected": chat(ASKED, GOOD)},
        {"chosen": "same words", "rejected": "same words"},
    ],
)
def test_rows_of_trl_that_contradict_themselves_are_left_out(row: dict[str, Any]) -> None:
    with pytest.raises(LeftOut):
        trl.comparison_of(row, "t", "f")


OURS = ROW | {"record": "{}"}
HOSTILE: list[Any] = [
    {}, {"prompt": "p", "chosen": "c"}, ROW | {"chosen": 3}, ROW | {"prompt": 3}, ROW | {"chosen": ["c"]},
    ROW | {"chosen": chat(GOOD)}, ROW | {"chosen": [], "rejected": []}, ROW | {"chosen": {"role": "user"}},
    ROW | {"chosen": "\ud800"}, ROW | {"prompt": "\udfff"}, ROW | {"note": "\ud800"}, ROW | {"user": ["me"]},
    ROW | {"preference": 7}, ROW | {"preference": "yes"}, ROW | {"preference": float("nan")}, OURS | {"round": 1e300},
    OURS | {"seconds": float("nan")}, OURS | {"seconds": -1}, OURS | {"attention": 2**80}, ROW | {"margin": "wide"},
    ROW | {"margin": float("inf")}, ROW | {"record": "{"}, ROW | {"record": "[]"}, ROW | {"record": [1]},
    ROW | {"record": '{"case": 3}'}, ROW | {"record": '{"chosen": {"tokens": "abc"}}'},
    ROW | {"record": {"chosen": {"logprobs": [float("nan")]}}}, ROW | {"record": {"assistance_chosen": [{"a": 1}]}},
    {"chosen": chat(("user", None), GOOD), "rejected": chat(ASKED, BAD)},
    {"chosen": chat((3, "x"), GOOD), "rejected": chat(ASKED, BAD)},  # type: ignore[arg-type]
    {"chosen": chat(("user", [{"type": "image"}]), GOOD), "rejected": chat(ASKED, BAD)},
    {"prompt": "p", "completion": "c", "label": True},
]  # fmt: skip


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: json.dumps(row)[:50])
def test_hostile_rows_are_errors_that_name_the_row(tmp_path: Path, row: Any) -> None:
    file = lines(tmp_path / "in.jsonl", [ROW, row])
    with pytest.raises(ExchangeError, match=r"in\.jsonl:2: "):
        load(file, tmp_path / "run", "t", "trl")
    assert not (tmp_path / "run").exists()
    done = load(file, tmp_path / "run", "t", "trl", skip=True)
    assert done.added == 1 and done.tally.left == {"broken": 1} and "in.jsonl:2" in done.tally.first["broken"]


def test_odd_and_huge_rows_come_through_whole(tmp_path: Path) -> None:
    texts = ["\u202e<b>é</b>\n\0", "👩‍🔬" * 1000, "x y " * 500_000, "\r\n\t.", '"; DROP TABLE comparisons; --']
    rows = [{"prompt": text, "chosen": f"{text} 1", "rejected": f"{text} 2"} for text in texts]
    assert load(lines(tmp_path / "in.jsonl", rows), tmp_path / "run", "t").added == len(texts)
    found = [(c.case.prompt, *better_first(c)) for c in stored(tmp_path / "run")]
    assert found == [(t, f"{t} 1", f"{t} 2") for t in texts]


# --- files -------------------------------------------------------------------------------------------

THREE = [{"prompt": f"p{i}", "chosen": "c", "rejected": "r"} for i in range(3)]


def test_one_set_of_rows_in_every_kind_of_file(tmp_path: Path) -> None:
    text = "\n".join(map(json.dumps, THREE))
    (tmp_path / "a.jsonl").write_text("\ufeff" + text)
    (tmp_path / "b.json").write_text(json.dumps(THREE, indent=2))
    (tmp_path / "c.txt").write_text("\n\n" + text.replace("\n", "\n\n"))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(THREE).encode()))
    pq.write_table(pa.Table.from_pylist(THREE), tmp_path / "f.parquet")
    folder = tmp_path / "g"
    folder.mkdir()
    for i, row in enumerate(THREE):
        (folder / f"{i}.json").write_text(json.dumps(row, indent=1))
    Dataset.from_list(THREE).to_parquet(tmp_path / "h" / "train.parquet")
    kinds = [str(path) for path in sorted(tmp_path.iterdir()) if path.name != "h"] + [f"datasets:{tmp_path / 'h'}"]
    assert len(kinds) == 8
    ids = [c.pair.id for c in _imported(kinds[0], tmp_path)]
    assert len(ids) == 3
    for kind in kinds[1:]:
        assert [c.pair.id for c in _imported(kind, tmp_path)] == ids, kind


def _imported(where: str, folder: Path) -> list[Comparison]:
    run = folder / "runs" / str(abs(hash(where)))
    load(source(where), run, "t")
    found = stored(run)
    for path in run.iterdir():
        path.unlink()
    run.rmdir()
    (folder / "runs").rmdir()
    return found


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"", "no rows"), (b"\n \n", "no rows"), (b"[]", "no rows"), (b"{", ":1: not JSON"), (b"null", ":1: "),
        (b"[1]", ":1: 1 is not an object"), (b"\xff\xfe{}", "cannot read"), (b"PAR1 and no more", "cannot read"),
        (b"\x1f\x8b\x08 broken", "cannot read"), (b"[" * 100_000, "not JSON"), (b'{"a": 1}', "no known format"),
        (b'{"prompt": "p", "completion": "c", "label": 1}', "unpaired"), (b'{"n": ' + b"9" * 9999 + b"}", "not JSON"),
        (json.dumps(ROW).encode() + b"\n" + json.dumps({"reviews": [], "title": ""}).encode(), "several formats"),
        (json.dumps(ROW | {"rejected": "c"}).encode(), "none of its 1 rows gives a comparison"),
    ],
)  # fmt: skip
def test_files_that_hold_no_labels_are_errors_in_words(tmp_path: Path, body: bytes, match: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(body)
    with pytest.raises(ExchangeError, match=match):
        load(tmp_path / "in.jsonl", tmp_path / "run", "t")
    assert not (tmp_path / "run").exists()


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for where, match in (
        (tmp_path / "no", "no such file"),
        (tmp_path / "empty", "no file in it"),
        ("a/b", "datasets:a/b"),
    ):
        with pytest.raises(ExchangeError, match=match):
            load(where, tmp_path / "run", "t")
    with pytest.raises(ExchangeError, match="cannot be loaded"):
        load(source(f"datasets:{tmp_path / 'empty'}"), tmp_path / "run", "t")


def test_the_format_is_detected_and_said(tmp_path: Path) -> None:
    both = {"chosen": dialogue("q", last="a"), "rejected": dialogue("q", last="b")}
    for name, rows in (("hh", [both]), ("trl", [ROW]), ("trl", [both | {"prompt": "q"}]), ("peerread", papers(2))):
        assert detect(source(lines(tmp_path / "in.jsonl", rows))) == name
    done = load(lines(tmp_path / "in.jsonl", [ROW, {"chosen": "a b", "rejected": "a c"}]), tmp_path / "run", "t")
    assert done.lines()[0].startswith(
        "Format: trl (standard, explicit prompt: 1; standard, implicit prompt: 1); 2 rows"
    )


# --- the store ---------------------------------------------------------------------------------------


def test_importing_twice_adds_nothing_and_an_interrupted_import_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "c", "rejected": "r"} for i in range(450)]
    file = lines(tmp_path / "in.jsonl", rows)
    bring, calls = Store.bring, Counter[str]()

    def killed(self: Store, some: Any) -> None:
        calls["bring"] += 1
        if calls["bring"] == 2:
            raise KeyboardInterrupt
        bring(self, some)

    monkeypatch.setattr(Store, "bring", killed)
    with pytest.raises(KeyboardInterrupt):
        load(file, tmp_path / "run", "t")
    assert len(stored(tmp_path / "run")) == 200
    heard: list[tuple[str, int]] = []
    done = load(file, tmp_path / "run", "t", progress=lambda what, n: heard.append((what, n)))
    assert (done.added, done.known) == (250, 200) and heard[-1] == ("written", 450) and ("read", 400) in heard
    assert load(file, tmp_path / "run", "t").added == 0
    load(file, tmp_path / "whole", "t")
    assert stored(tmp_path / "run") == stored(tmp_path / "whole")


def test_where_each_comparison_came_from_is_known(tmp_path: Path) -> None:
    rows = [THREE[0], THREE[1], THREE[0]]
    first, second = lines(tmp_path / "1.jsonl", rows), lines(tmp_path / "2.jsonl", [THREE[1]])
    for file in (first, second):
        load(file, tmp_path / "run", "t")
    store = Store(tmp_path / "run" / "run.db")
    origins = {
        c.case.prompt: [(o.file, o.row) for o in store.origins("t")[c.round, c.pair.id]] for c in store.comparisons()
    }
    hashes = {o.file: o.sha256 for some in store.origins("t").values() for o in some}
    store.close()
    assert {prompt: sorted(places) for prompt, places in origins.items()} == {
        "p0": [("1.jsonl", 1), ("1.jsonl", 3)], "p1": [("1.jsonl", 2), ("2.jsonl", 1)],
    }  # fmt: skip
    assert hashes == {file.name: source(file).sha256 for file in (first, second)}


# --- from the shell ----------------------------------------------------------------------------------


def test_import_says_what_it_did(tmp_path: Path) -> None:
    file = lines(tmp_path / "v.jsonl", papers(8))
    command = ["import", str(file), "--out", str(tmp_path / "run"), "--node", "paper", "--set", "group=8"]
    done = RUN.invoke(app, [*command, "--set", "tie=0.5"])
    assert done.exit_code == 0, done.output
    assert (
        "Format: peerread" in done.output
        and "28 comparisons at paper\n" in done.output
        and "140 added" in done.output
    )
    assert "28 comparisons at paper/clarity\n" in done.output and "ties" in done.output
    again = RUN.invoke(app, [*command, "--set", "tie=0.5"])
    assert "0 added; 140 were there before" in again.output
    for wrong in (["--set", "grop=4"], ["--set", "group=1"], ["--set", "group"], ["--format", "csv"]):
        bad = RUN.invoke(app, [*command, *wrong])
        assert bad.exit_code == 2 and "Traceback" not in bad.output and bad.output.startswith("error: ")


def test_imported_reviews_are_exported_and_come_back(tmp_path: Path) -> None:
    load(lines(tmp_path / "v.jsonl", papers(5)), tmp_path / "run", "paper")
    export(tmp_path / "run", tmp_path / "out.jsonl", "jsonl", "paper", ties=True)
    load(tmp_path / "out.jsonl", tmp_path / "back", "paper")
    here = [c for c in stored(tmp_path / "run") if c.pair.task == "paper"]
    assert [c.pair for c in stored(tmp_path / "back")] == [c.pair for c in here]
