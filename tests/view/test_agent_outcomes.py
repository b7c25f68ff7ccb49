"""What an agent writes, as its page has it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rrm.core.judgements import Comparison, Judgement, Margin, Pair
from rrm.core.records import Case, Outcome
from rrm.store.store import Store
from rrm.view.agent_outcomes import apart, beside, in_short, produced
from rrm.view.reading import Reader
from tests.view import synthetic
from tests.view.test_pages import open_app


def test_scores_are_found_but_for_a_constant_of_what_hangs_together() -> None:
    rng = random.Random(0)
    true = {f"{group}{i}": rng.gauss(0, 1) for group in "xy" for i in range(6)}
    edges = [(f"{g}{i}", f"{g}{j}", true[f"{g}{i}"] - true[f"{g}{j}"]) for g in "xy" for i, j in
             [(0, 1), (3, 2), (1, 3), (4, 5), (5, 2), (0, 5)]]  # fmt: skip
    found = apart(edges)
    assert [len(one) for one in found] == [6, 6]
    for scores in found:
        shift = {round(true[name] - score, 9) for name, score in scores.items()}
        assert len(shift) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two rounds over the same two cases: scores are the length of the text."""
    store = Store(tmp_path / "run.db")
    texts = ["a", "bb", "cccc", "a"]
    i = 0
    for round in (0, 1):
        for case in (Case("first"), Case("second")):
            for one, other in ((0, 1), (1, 2), (2, 3)):
                a, b = (Outcome(texts[k] * (round + 1), finished=k != 2) for k in (one, other))
                pair = Pair("paper", case, a, b)
                preference = 0.5 if len(a.text) == len(b.text) else float(len(a.text) > len(b.text))
                store.add(Comparison(pair, Judgement(preference), round, "u"), i)
                store.score("paper", 1, [Margin(pair.id, float(len(a.text) - len(b.text)), 0.1, False)])
                i += 1
    store.close()
    synthetic.configure(tmp_path)
    return tmp_path


def test_a_round_s_outcomes_by_score(folder: Path) -> None:
    with Reader(folder) as run:
        found = produced(run, "paper", 1)
        assert [one.length for one in found] == sorted((one.length for one in found), reverse=True)
        assert {one.text for one in found} == {"aa", "bbbb", "cccccccc"}
        for one in found:
            assert one.score == pytest.approx(one.length - (2 + 4 + 8) / 3)
            assert one.copies == 2 and one.finished == (one.text != "cccccccc")
        best = found[0]
        assert (best.won, best.lost, best.tied) == (2, 0, 0)
        short = in_short(found)
        assert (short.outcomes, short.cases, short.same, short.unfinished, short.unreadable) == (6, 2, 3, 2, None)
        assert short.longer is not None and short.longer > 0  # whoever is longer scores higher, and it is seen
        pairs = beside(produced(run, "paper", 0), found)
        assert [(one.text, two.text) for one, two in pairs] == 2 * [("cccc", "cccccccc")]
        assert produced(run, "paper", 7) == []


def test_texts_that_only_begin_alike_are_not_the_same(tmp_path: Path) -> None:
    long = "x" * 500
    store = Store(tmp_path / "run.db")
    for i, (a, b) in enumerate(((long + "1", long + "2"), (long + "1", long + "22"))):
        pair = Pair("paper", Case(f"case {i}"), Outcome(a), Outcome(b))
        store.add(Comparison(pair, Judgement(1.0), 0, "u"), i)
    store.close()
    synthetic.configure(tmp_path)
    with Reader(tmp_path) as run:
        found = produced(run, "paper", 0)
        assert sorted((one.length, one.copies) for one in found) == [(501, 1), (501, 2), (501, 2), (502, 1)]
        assert in_short(found).same == 1


def test_the_page(folder: Path) -> None:
    with open_app(folder) as client:
        shown = client.get(f"/r/{folder.name}/outcomes/paper").text
        assert "6 of 2 cases" in shown and "cut off" in shown and shown.index("cccccccc") < shown.index("bbbb")
        both = client.get(f"/r/{folder.name}/outcomes/paper?round=1&beside=0").text
        assert "of 2 cases that both have" in both
        assert "Nothing was compared here yet" in client.get(f"/r/{folder.name}/outcomes/paper/data").text
        assert client.get(f"/r/{folder.name}/outcomes/nowhere").status_code == 404
