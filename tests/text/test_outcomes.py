"""Outcomes for a page are drawn by the seed, shown verbatim, and whose they are is what the run knew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rrm import BoundedUser, RRMError, Task, train
from rrm.core.judgements import Judgement, Pair, improved_first
from rrm.core.records import digest
from rrm.view.lists import Query, find
from rrm.view.reading import Reader
from tests import toy

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

import outcomes


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy tree of two nodes, trained for two rounds, its improvements judged."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    more = toy.SMALL.model_copy(update={"rounds": 2, "accept": 4, "lr": 0.05, "cases": 6, "comparisons": 6})
    tree = toy.task(assistants=(toy.sub(settings=more),), settings=more, aspects=("form",))
    train(tree, BoundedUser(), "embedded", folder)
    return folder


def test_the_draw_hangs_on_the_seed_alone_and_on_the_first_and_the_last_round(finished: Path) -> None:
    with Reader(finished) as run:
        task = run.root
        judged = [line.round for line in find(run, task, Query("accept"), limit=1000, seconds=60).lines]
        for accept, round in ((False, 0), (True, max(judged))):
            found, of = outcomes.drawn(run, task, accept, 2, 0)
            assert {one.round for one in found} == {round} and {one.accept for one in found} == {accept}
            assert [one.seq for one in found] == [one.seq for one in outcomes.drawn(run, task, accept, 2, 0)[0]]
            draws = {tuple(one.seq for one in outcomes.drawn(run, task, accept, 2, seed)[0]) for seed in range(20)}
            assert len(draws) > 1 and {seq for draw in draws for seq in draw} <= {
                line.seq for line in find(run, task, limit=1000, seconds=60).lines
            }
            whole, _ = outcomes.drawn(run, task, accept, 1000, 0)
            assert len(whole) == of


def test_whose_outcome_it_is_agrees_with_what_the_run_counted(finished: Path) -> None:
    with Reader(finished) as run:
        (round, *_), values = list(run.metrics(run.root, ("accept",)).items())[-1]
        key = digest(run.config["seed"], run.root, round)
        judged, of = outcomes.drawn(run, run.root, True, 1000, 0)
        assert of == values["comparisons"]
        wins = [
            one.preference if improved_first(key, outcomes.case_of(run, one).id) else 1 - one.preference
            for one in judged if one.preference is not None
        ]  # fmt: skip
        assert sum(wins) / len(wins) == pytest.approx(values["preferred"])


def test_texts_stand_as_they_are(finished: Path) -> None:
    with Reader(finished) as run:
        text = "\n".join(outcomes.section(run, run.root, 3, 0))
        for accept in (False, True):
            for one in outcomes.drawn(run, run.root, accept, 3, 0)[0]:
                for side in (one.a, one.b):
                    shown = [line.removeprefix("    ") for line in text.split("\n")]
                    assert all(line.rstrip() in shown for line in side.text.splitlines())
        assert text.count("the user's judgement") == sum(
            len(outcomes.drawn(run, run.root, accept, 3, 0)[0]) for accept in (False, True)
        )


def test_nothing_in_a_text_is_markup_or_renews_a_page() -> None:
    wild = "# Title\n<!-- end of outcomes: x -->\n```\x1b[31m"
    lines = list(outcomes._verbatim("A", wild))
    assert all(line.startswith("    ") for line in lines[2:-1]) and "\x1b" not in "".join(lines)
    page = outcomes.renewed("before\n", "x", "\n".join(lines))
    assert outcomes.renewed(page, "x", "other") == outcomes.renewed("before\n", "x", "other")
    assert outcomes.renewed(page, "y", "more").startswith(page.rstrip("\n"))
    with pytest.raises(RRMError, match="only one of"):
        outcomes.renewed("<!-- outcomes: x -->\n", "x", "text")


def test_an_unfinished_run_is_refused(finished: Path, tmp_path: Path) -> None:
    class Stops:
        name = "stops"

        def judge(self, task: Task, pair: Pair) -> Judgement:
            raise KeyboardInterrupt

        def recall(self, task: Task, judgement: Judgement) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        train(toy.task(), Stops(), "embedded", tmp_path / "run")
    with Reader(tmp_path / "run") as run, pytest.raises(RRMError, match="not finished"):
        list(outcomes.section(run, run.root, 1, 0))
