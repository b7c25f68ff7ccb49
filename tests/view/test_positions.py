"""Position bias is told where a judge was asked in both orders, and of people by what they were shown first."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rrm.core.judgements import Comparison, Judgement
from rrm.labels.questions import Choice
from rrm.labels.queue import Labels
from rrm.users.pairwise import weigh
from rrm.view import lists
from rrm.view.inspect import show_node
from rrm.view.positions import bias_figures, first_preferred, position_bias
from rrm.view.reading import Reader
from tests.view import synthetic
from tests.view.test_pages import open_app, plain

CHANCES = [(0.9, 0.8), (0.6, 0.3), (0.7, 0.7), (0.4, 0.45), (0.95, 0.05)]
"""Of what is shown first, in the order A B and in B A."""


def asked_in_both(first: float, second: float, i: int) -> Comparison:
    one = synthetic.comparison(i, case=f"case {i}", user="model(x)")
    return replace(one, judgement=weigh(first, second, 0.0))


def test_the_figures_are_those_of_the_notes(tmp_path: Path) -> None:
    made = [asked_in_both(*both, i) for i, both in enumerate(CHANCES)]
    note = f"abstained: only 1e-05 of the probability on either answer; {made[0].judgement.note}"
    abstained = replace(made[0], pair=replace(made[0].pair, again=1), judgement=Judgement(None, note=note))
    typed = replace(made[0], pair=replace(made[0].pair, again=2), user="human(ann)")
    differences = [first + second - 1 for first, second in CHANCES]
    with Reader(synthetic.make(tmp_path / "run", [*made, abstained, typed])) as run:
        found = position_bias(run, "paper")
        assert found is not None and found.signed.n == found.flips.n == len(CHANCES)
        assert found.signed.mean == pytest.approx(sum(differences) / 5)
        assert found.absolute.mean == pytest.approx(sum(map(abs, differences)) / 5)
        assert found.flips.mean == 3 / 5 and found.flips.low < 3 / 5 < found.flips.high
        listed = lists.find(run, "paper", lists.Query(order="position")).lines
        size = [abs(line.position) for line in listed if line.position is not None]
        assert size == sorted(size, reverse=True) and len(size) == 5 and len(listed) == 7
        assert [line.seq for line in lists.find(run, "paper", lists.Query("flips")).lines] == [1, 3, 4]
        out = StringIO()
        show_node(run, "paper", Console(file=out, width=120), limit=1)
        assert "verdict flips with the order" in out.getvalue() and "0.60 [" in out.getvalue()
    with open_app(tmp_path / "run") as client:
        assert "verdict flips with the order 0.60" in plain(client.get("/r/run/node/paper").text)
        assert "+0.70" in client.get("/r/run/list/paper?order=position").text


def test_where_nobody_was_asked_in_both_orders_nothing_is_said(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", [synthetic.comparison(i, note="0.500 against 0.250") for i in range(3)])
    with Reader(folder) as run:
        assert bias_figures(run, "paper") == [] and "flips" not in lists.filters_of(run)
        assert "position" not in lists.orders_of(run)
    with open_app(folder) as client:
        for path in ("node", "list"):
            assert "osition bias" not in client.get(f"/r/run/{path}/paper").text


def test_people_are_counted_by_what_they_were_shown_first(tmp_path: Path) -> None:
    """One always takes the first, whichever it is; one always the same outcome. A tie is neither."""
    folder = synthetic.make(tmp_path / "run", [])
    labels, pairs = Labels(folder), [synthetic.comparison(i, case=f"case {i}").pair for i in range(8)]
    ids = labels.ask("paper", 0, "Which?", pairs, 2, 0.0)
    for i, (id, question) in enumerate(labels.questions(ids).items()):
        choice: Choice = "first" if i else "tie"
        labels.answer(f"key of ann {i}", id, "ann", choice)
        labels.answer(f"key of ben {i}", id, "ben", "second" if question.swapped("ben") else "first")
    shown_first = sum(not question.swapped("ben") for question in labels.questions(ids).values())
    labels.close()
    with Reader(folder) as run:
        found = {one.labeler: one.share for one in first_preferred(run, "paper")}
        assert found["ann"].mean == 1.0 and found["ann"].n == 7 and found["ann"].low > 0.5
        assert found["ben"].mean == shown_first / 8 and found["ben"].n == 8
        assert first_preferred(run, "paper/proofs") == []
