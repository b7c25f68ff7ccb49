"""An outcome that is data without a text is shown to people, and survives the way out and back in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Outcome, rendering
from rrm.exchange.exporting import Format, export, row_of
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.preferences import comparison_of
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.view.web.label import as_shown
from tests.label.material import pair
from tests.label.test_exchange import fill, read
from tests.label.test_human import terminal

LEFT = {"move": "hebe den Arm, ü", "torque": [1, 2.5, {"joint": None}]}
RIGHT = {"move": "halt\x1b[2J", "torque": []}


def moves(i: int = 0) -> Pair:
    """Two moves of a robot, and an assistant who answers in data too."""
    one = replace(pair(i), a=Outcome("", data=LEFT), b=Outcome("", (7,), (-0.5,), data=RIGHT))
    proofs = one.assistance_a[0]
    spoken = replace(proofs, answers=(replace(proofs.answers[0], outcome=Outcome("", data={"warns": "too fast"})),))
    return replace(one, assistance_a=(spoken, *one.assistance_a[1:]))


def queue(folder: Path) -> Labels:
    Store(folder / "run.db").close()
    labels = Labels(folder)
    labels.ask("t", 0, "Which?", [moves()], 1, 0.0)
    return labels


def test_the_queue_keeps_it_and_the_page_shows_it(tmp_path: Path) -> None:
    (question,) = queue(tmp_path).claim("ann")
    assert question.pair == moves()
    sent = as_shown(question, "ann")
    sides = ["".join(piece["text"] for piece in side["pieces"]) for side in sent["sides"]]
    order = (RIGHT, LEFT) if question.swapped("ann") else (LEFT, RIGHT)
    assert sides == [rendering("", data) for data in order]
    assert any(piece["differs"] for side in sent["sides"] for piece in side["pieces"])
    assert "too fast" in json.dumps(sent) and "\x1b" not in "".join(sides)


def test_the_terminal_labeler_shows_it(tmp_path: Path) -> None:
    labels = queue(tmp_path)
    shown = terminal(tmp_path, "1")
    assert "hebe den Arm, ü" in shown and '"torque"' in shown and "(empty)" not in shown
    assert "\x1b[2J" not in shown and len(labels.labels()) == 1


def test_an_empty_outcome_without_data_is_called_empty(tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    Labels(tmp_path).ask("t", 0, "Which?", [replace(pair(0), a=Outcome(""))], 1, 0.0)
    assert terminal(tmp_path, "1").count("(empty)") == 1


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_it_survives_export_and_import(tmp_path: Path, format: Format) -> None:
    described = replace(pair(1), a=Outcome("lifts the arm", data=LEFT), b=Outcome(rendering("", LEFT), data=LEFT))
    bare = replace(pair(2), a=Outcome("", data={}), b=Outcome("text alone"))
    some = [Comparison(p, Judgement(1.0 - i % 2), 0, "u") for i, p in enumerate((moves(), described, bare))]
    fill(tmp_path / "one", some)
    file = tmp_path / f"out.{format}"
    assert export(tmp_path / "one", file, format) == 3
    assert load(file, tmp_path / "two", "t").added == 3
    assert read(tmp_path / "two") == [replace(c, round=-1) for c in some]
    assert [c.pair.id for c in read(tmp_path / "two")] == [c.pair.id for c in some]


def test_others_read_it_in_its_column() -> None:
    row = row_of(Comparison(moves(), Judgement(0.0), 0, "u"))
    assert (row["chosen"], row["rejected"]) == (rendering("", RIGHT), rendering("", LEFT))
    plain = row_of(Comparison(pair(0), Judgement(1.0), 0, "u"))
    assert json.loads(plain["record"])["chosen"].keys() == {"tokens", "logprobs", "finished"}


def test_the_same_words_over_other_data_are_other_outcomes() -> None:
    one = replace(pair(0), a=Outcome("moves", data=LEFT), b=Outcome("moves", data=RIGHT))
    row = row_of(Comparison(one, Judgement(1.0), -1, "u"))
    assert comparison_of(row, "t", "file").pair == one
