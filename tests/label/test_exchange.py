"""Comparisons out and in: what other libraries read, and nothing lost on the way back."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset

from rrm import BoundedUser, train
from rrm.core.judgements import Check, Comparison, Judgement
from rrm.core.records import Outcome
from rrm.exchange.exporting import ExchangeError, Format, export, left_out, row_of
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.preferences import comparison_of
from rrm.store.store import Store
from tests import mini, toy
from tests.label.material import pair


def comparisons() -> list[Comparison]:
    """A better, B better, a tie, an abstention, doubt; two rounds; with tokens, checks and odd text."""
    preferences = (1.0, 0.0, 0.5, None, 0.75)
    out = []
    for i, preference in enumerate(preferences):
        one = pair(i, assisted=i != 1, text='\u202e<b>"é"\n')
        around = (" ", "\n\n") if i else ("", "")
        a = Outcome(one.a.text, (1, 2, i), (-0.5, -1.25, -2.0), False, around=around)
        one = replace(one, a=a, task="t/sub")
        checks = (Check("t/proofs", True, False, side="b", fact="s"),)
        judgement = Judgement(preference, checks, i, f"note {i}", assisted=i != 4)
        out.append(Comparison(one, judgement, i // 3, "human(ann)", 1.5))
    return out


def fill(folder: Path, some: list[Comparison]) -> None:
    folder.mkdir()
    store = Store(folder / "run.db")
    for position, comparison in enumerate(some):
        store.add(comparison, position)
    store.close()


def read(folder: Path) -> list[Comparison]:
    store = Store(folder / "run.db")
    found = store.comparisons()
    store.close()
    return found


@pytest.mark.parametrize("messages", [False, True])
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_round_trip_changes_nothing_but_the_rounds(tmp_path: Path, format: Format, messages: bool) -> None:
    some = comparisons()
    fill(tmp_path / "one", some)
    file = tmp_path / f"out.{format}"
    assert export(tmp_path / "one", file, format, ties=True, messages=messages) == 5
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    imported = load(file, tmp_path / "two", "t/sub")
    assert (imported.rows, imported.added, imported.known, imported.alike) == (5, 5, 0, 0)
    back = read(tmp_path / "two")
    assert back == [replace(c, round=c.round - 2) for c in some]
    assert [c.pair.id for c in back] == [c.pair.id for c in some]
    assert load(file, tmp_path / "two", "t/sub").known == 5, "a second time adds nothing"
    again = tmp_path / f"again.{format}"
    export(tmp_path / "two", again, format, ties=True)
    load(again, tmp_path / "three", "t/sub")
    assert read(tmp_path / "three") == back, "rounds below 0 stay where they are"


def test_what_was_left_out_is_counted_and_said(tmp_path: Path) -> None:
    fill(tmp_path / "one", [*comparisons(), replace(comparisons()[2], round=5)])
    left: Counter[str] = Counter()
    assert export(tmp_path / "one", tmp_path / "out.jsonl", "jsonl", left=left) == 3
    assert left == {"ties": 2, "abstentions": 1}
    assert left_out(left) == "; 2 ties and 1 abstention left out, in which nothing was chosen (--ties takes them in)"
    assert export(tmp_path / "one", tmp_path / "all.jsonl", "jsonl", ties=True, left=(none := Counter())) == 6
    assert left_out(none) == ""


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_others_read_the_columns(tmp_path: Path, format: Format) -> None:
    some = comparisons()
    fill(tmp_path / "one", some)
    assert export(tmp_path / "one", tmp_path / "out", format) == 3, "nobody is told that a tie was chosen"
    loader = "json" if format == "jsonl" else format
    rows = load_dataset(loader, data_files=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows["prompt"][:] == [some[i].case.prompt for i in (0, 1, 4)]
    assert rows["chosen"][:] == [some[0].a.whole, some[1].b.whole, some[4].a.whole]
    assert rows["rejected"][:] == [some[0].b.whole, some[1].a.whole, some[4].b.whole]
    assert rows["preference"][:] == [1.0, 1.0, 0.75] and rows["assisted"][:] == [True, True, False]
    assert rows["assistance_chosen"][0] == "proofs right ( steps wrong a1 ) novelty N/A"
    assert rows["versions"][0] == ["t/novelty@n1", "t/proofs@p1"] and rows["user"][0] == "human(ann)"


def test_one_node_alone(tmp_path: Path) -> None:
    fill(tmp_path / "one", [*comparisons(), Comparison(pair(9), Judgement(1.0), 0, "u")])
    assert export(tmp_path / "one", tmp_path / "out", "jsonl", node="t") == 1
    with pytest.raises(ExchangeError, match="t/sub"):
        export(tmp_path / "one", tmp_path / "out", "jsonl", node="nope")


def chat(*messages: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


ASKED, GOOD, BAD = ("user", "Why?"), ("assistant", "Because."), ("assistant", "No.")


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}, ("Why?", "Because.", "No.")),
        ({"prompt": chat(ASKED), "chosen": chat(GOOD), "rejected": chat(BAD)}, ("Why?", "Because.", "No.")),
        ({"chosen": chat(ASKED, GOOD), "rejected": chat(ASKED, BAD)}, ("Why?", "Because.", "No.")),
        (
            {"prompt": chat(("system", "Be kind."), ASKED), "chosen": chat(GOOD), "rejected": chat(BAD)},
            ("system: Be kind.\n\nuser: Why?", "Because.", "No."),
        ),
    ],
)
def test_plain_texts_and_conversations_are_read(row: dict[str, object], texts: tuple[str, str, str]) -> None:
    found = comparison_of(row, "toy", "file")
    assert (found.case.prompt, found.a.text, found.b.text) == texts
    assert found.preference == 1.0 and found.user == "imported(file)"
    assert comparison_of(row_of(found), "toy", "file") == found


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"prompt": "p", "chosen": "c"}', ":2: no rejected"),
        ('{"prompt": "p", "chosen": "c", "rejected": 3}', r":2: rejected is 3 \(int\), not a text"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "preference": 7}', ":2: preference '7'"),
        ('{"prompt": "p", "chosen": [{"role": "assistant", "content": [1]}], "rejected": []}', "only text"),
        ("[1]", ":2: "),
        ("{", ":2: not JSON"),
    ],
)
def test_a_row_that_is_no_comparison_is_named_and_nothing_is_imported(tmp_path: Path, line: str, match: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n' + line)
    with pytest.raises(ExchangeError, match=match):
        load(file, tmp_path / "run", "toy")
    assert not (tmp_path / "run").exists()


def test_equal_outcomes_are_left_out_and_said(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    rows = [{"prompt": "p", "chosen": "c", "rejected": r} for r in ("c", "r")]
    file.write_text("\n".join(map(json.dumps, rows)))
    imported = load(file, tmp_path / "run", "toy")
    assert (imported.rows, imported.added, imported.alike) == (2, 1, 1)


def test_a_nodes_reward_model_is_trained_on_what_was_imported(tmp_path: Path) -> None:
    file, folder = tmp_path / "in.jsonl", tmp_path / "run"
    rows = [{"prompt": f"w{i}", "chosen": "w1 w2 w3", "rejected": "w1"} for i in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    load(file, folder, "toy")
    settings = mini.SMALL.model_copy(update={"rounds": 1, "cases": 4, "comparisons": 5, "max_tokens": 8})
    task = toy.task(settings=settings, facts=lambda case, outcome: [])
    train(task, BoundedUser(), "embedded", folder)
    store = Store(folder / "run.db")
    fitted = {name: value for _, _, _, _, name, value in store.metrics("toy", "fit")}
    assert fitted["n"] + fitted["n_holdout"] + fitted["abstentions"] > 20
    before = len(store.comparisons("toy"))
    store.close()
    with pytest.raises(ExchangeError, match="trained already"):
        load(file, folder, "toy")
    with pytest.raises(ExchangeError, match="no node 'nope'"):
        load(file, folder, "nope")
    assert len(read(folder)) == before
