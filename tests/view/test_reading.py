"""What is read from a run folder is what was written, nothing is changed, and nothing takes long."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrm.core.clean import HIDDEN, visible
from rrm.labels.queue import Labels
from rrm.store.store import Store
from rrm.view import comparisons as judged
from rrm.view import lists
from rrm.view.reading import Reader, ReadError, find_runs
from rrm.view.text import line
from rrm.view.web.diff import differences, pieces
from tests.view import synthetic

ODD = "nul\x00 esc\x1b[2J “ü” 😀 \\ \" \u202e <b> \ud7ff\n\ttab"


def run_with(folder: Path, n: int = 30) -> Reader:
    preferences = [1.0, 0.0, 0.5, None, 0.75]
    made = [
        synthetic.comparison(i, a=f"left {i}", preference=preferences[i % 5], assisted=i % 3 > 0, case=f"case {i % 4}")
        for i in range(n)
    ]
    return Reader(synthetic.make(folder, made, [(-1) ** i * (i % 7) / 7 for i in range(n)]))


def test_a_comparison_reads_as_it_was_judged(tmp_path: Path) -> None:
    one = synthetic.comparison(0, a=ODD, b="b" * 30_000, case=ODD, said=ODD, preference=0.25, note=ODD)
    with Reader(synthetic.make(tmp_path, [one], [0.5])) as run:
        found = judged.comparison(run, 1)
        assert found is not None
        assert (found.a.text, found.a.cut, found.case, found.note) == (ODD, False, ODD, ODD)
        assert (found.b.text, found.b.cut) == ("b" * judged.SHOWN, True)
        assert judged.whole(run, found.b.blob) == "b" * 30_000
        assert found.preference == 0.25 and found.scores == [(0, 0.5, 0.5, False)]
        assert found.a.spans == {"step1": (0, 2), "step1.0": (0, 1)}
        proofs, data = found.a.answers
        assert (proofs.text, proofs.verdict, proofs.confidence, proofs.below[0].text) == (ODD, "no", 0.75, ODD)
        assert (data.assistant, data.verdict) == ("paper/data", "N/A")
        assert [one.way for one in judged.follow(found.a.answers, "0.0.0.0")] == ["0.0", "0.0.0.0"]
        assert judged.follow(found.a.answers, "0.0.5.0") == []
        assert judged.comparison(run, 2) is None


@settings(max_examples=20, deadline=None)
@given(st.text(), st.integers(1, 40))
def test_the_beginning_of_a_text_is_its_beginning(tmp_path_factory: pytest.TempPathFactory, text: str, n: int) -> None:
    folder = tmp_path_factory.mktemp("run")
    text = text.encode("utf-8", "replace").decode()
    store = Store(folder / "run.db")
    store.add(synthetic.comparison(0, a=text), 0)
    store.close()
    with Reader(folder) as run:
        (blob,) = run.row("SELECT a FROM comparisons")
        assert judged.start(run, blob, n) == (text[:n], len(text) > n)


def test_filters_find_what_they_say(tmp_path: Path) -> None:
    with run_with(tmp_path) as run:
        all_of_them = [judged.comparison(run, seq) for seq in range(1, 31)]
        rules = {
            "all": lambda c: True,
            "disagree": lambda c: c.preference is not None and (c.preference - 0.5) * c.scores[-1][1] < 0,
            "unsure": lambda c: abs(c.scores[-1][1]) < c.scores[-1][2],
            "tie": lambda c: c.preference == 0.5,
            "none": lambda c: c.preference is None,
            "na": lambda c: any(one.verdict == "N/A" for one in c.a.answers),
            "assisted": lambda c: bool(c.shown),
            "unassisted": lambda c: not c.shown,
            "heldout": lambda c: c.scores[-1][3],
            "stale": lambda c: c.stale,
            "both": lambda c: False,
            "parts": lambda c: c.part is not None,
            "accept": lambda c: c.accept,
            "undone": lambda c: False,
        }
        assert set(rules) == set(lists.FILTERS)
        for show, rule in rules.items():
            expected = [c.seq for c in all_of_them if c is not None and rule(c)]
            assert [one.seq for one in lists.find(run, "paper", lists.Query(show)).lines] == expected, show
        found = lists.find(run, "paper", lists.Query(text="LEFT 7"))
        assert [one.seq for one in found.lines] == [8]
        assert len(lists.find(run, "paper", lists.Query(round=1)).lines) == 0


def test_what_was_judged_before_an_assistant_was_trained_again_is_stale(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path, [synthetic.comparison(0), synthetic.comparison(1, assisted=False)])
    store = Store(folder / "run.db")
    store.checkpoint("paper/proofs/steps", 1, "agent", "x", "0")
    store.add(synthetic.comparison(2), 2)
    store.close()
    with Reader(folder) as run:
        assert [one.seq for one in lists.find(run, "paper", lists.Query("stale")).lines] == [1]


def test_assisted_against_unassisted_finds_pairs_judged_differently_both_ways(tmp_path: Path) -> None:
    made = [
        synthetic.comparison(0, preference=1.0), synthetic.comparison(0, preference=0.0, assisted=False),
        synthetic.comparison(1, preference=1.0), synthetic.comparison(1, preference=1.0, assisted=False),
    ]  # fmt: skip
    with Reader(synthetic.make(tmp_path, made)) as run:
        assert [one.seq for one in lists.find(run, "paper", lists.Query("both")).lines] == [1, 2]


@pytest.mark.parametrize("show", ["all", "disagree", "na"])
@pytest.mark.parametrize("seconds", [1.0, 0.0])
def test_pages_hold_everything_once_in_order_forth_and_back(tmp_path: Path, show: str, seconds: float) -> None:
    with run_with(tmp_path) as run:
        expected = [one.seq for one in lists.find(run, "paper", lists.Query(show), limit=1000, seconds=60).lines]
        forth: list[int] = []
        after: int | None = 0
        while after is not None:
            page = lists.find(run, "paper", lists.Query(show), after=after, limit=4, seconds=seconds)
            assert page.searched >= 1 and len(page.lines) <= 4
            forth += [one.seq for one in page.lines]
            after = page.after
        back: list[int] = []
        before: int | None = 10**9
        while before is not None:
            page = lists.find(run, "paper", lists.Query(show), before=before, limit=4, seconds=seconds)
            back = [one.seq for one in page.lines] + back
            before = page.before
        assert forth == back == expected


def test_a_superseded_judgement_is_counted_and_listed_no_more(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path, [synthetic.comparison(0), synthetic.comparison(1)])
    store = Store(folder / "run.db")
    store._db.execute(
        "INSERT INTO comparisons SELECT NULL, task, round, position, pair, case_id, a, b, assistance_a, assistance_b,"
        " shown, user, 0.0, checks, attention, note, seconds, at, 1, '', again FROM comparisons WHERE seq = 1"
    )
    store.close()
    with Reader(folder) as run:
        assert [one.seq for one in lists.find(run, "paper").lines] == [2, 3]
        assert sum(run.counts["paper"].values()) == 2
        first, last = judged.comparison(run, 1), judged.comparison(run, 3)
        assert first is not None and first.superseded_by == 3
        assert last is not None and last.supersedes == 1


def test_reading_goes_on_while_another_process_writes_and_changes_nothing(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path, [synthetic.comparison(0)])
    with Reader(folder) as run:
        stamp = run.stamp
        store = Store(folder / "run.db")
        with store._writing():
            store._db.execute("INSERT INTO blobs VALUES ('x', 'case', '{}')")
            assert len(lists.find(run, "paper").lines) == 1  # in the middle of a writer's transaction
        assert run.stamp != stamp
        store.close()
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|no such function: link_"):
            run.db.execute("DELETE FROM blobs")


def test_a_folder_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", [synthetic.comparison(0)])
    for path in folder.glob("run.db-*"):
        path.unlink()
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("permissions do not bind this user")
        with Reader(folder) as run:
            assert len(lists.find(run, "paper").lines) == 1
    finally:
        folder.chmod(0o755)


def test_what_is_no_run_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no run there"):
        find_runs([tmp_path])
    (tmp_path / "run.db").write_text("this is no database, however long it may be " * 100)
    with pytest.raises(ReadError, match="cannot be read"):
        Reader(tmp_path)


def test_runs_are_found_below_a_folder_under_names_of_their_own(tmp_path: Path) -> None:
    for name in ("one/a", "one/b", "two/a"):
        synthetic.make(tmp_path / name, [])
    assert list(find_runs([tmp_path])) == ["one~a", "one~b", "two~a"]
    assert list(find_runs([tmp_path / "one/a", tmp_path / "two/a"])) == ["a", "two~a"]


def test_the_tree_says_where_each_node_is(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path, [synthetic.comparison(0)])
    with Reader(folder) as run:
        assert list(run.nodes) == ["paper", "paper/proofs", "paper/proofs/steps", "paper/data"]
        assert run.progress(run.nodes["paper"]).state == "fitting" or run.state == "training"
    store = Store(folder / "run.db")
    for path in synthetic.TREE:
        store.checkpoint(path, 0, "agent", "x", "0")
    store.close()
    with Reader(folder) as run:
        assert run.state == "finished"
        progress = run.progress(run.nodes["paper"])
        assert (progress.state, progress.comparisons, progress.rewards) == ("finished", 1, (0.0, 0.75))
        assert run.curves(run.nodes["paper"]).steps["kl"] == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)]


def test_a_measurement_beside_the_run_is_read(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "arm", [])
    found = {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 3}
    report = {"arm": {"agreement": found, "score": found}, "start": {"score": {**found, "mean": 0.5}}, "nodes": {}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    with Reader(folder) as run:
        progress = run.progress(run.nodes["paper"])
        assert progress.agreement == 0.9


def test_looking_at_a_run_needs_no_torch() -> None:
    code = "import sys, rrm.command.cli, rrm.view.web.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- text ------------------------------------------------------------------------------------------------


@given(st.text())
def test_nothing_hidden_stays_hidden(text: str) -> None:
    seen = visible(text)
    assert not HIDDEN.search(seen)
    assert visible(seen) == seen
    assert HIDDEN.sub("", text) == text or seen != text


@given(st.text(), st.integers(1, 50))
def test_a_line_is_one_line(text: str, limit: int) -> None:
    assert len(line(text, limit)) <= limit
    assert "\n" not in line(text, limit)


words = st.lists(st.sampled_from(["a", "b", "c", "\n", "  "])).map(" ".join)


@given(words, words)
def test_outside_what_is_marked_two_texts_are_the_same(a: str, b: str) -> None:
    marked = differences(a, b)
    assert marked is not None

    def rest(text: str, spans: list[tuple[int, int]]) -> list[str]:
        kept = [piece.text for piece in pieces(text, spans) if not piece.differs]
        return " ".join(kept).split()

    assert rest(a, marked[0]) == rest(b, marked[1])


@given(st.text(), st.dictionaries(st.text(), st.tuples(st.integers(-3, 30), st.integers(-3, 30))))
def test_pieces_are_the_text(text: str, spans: dict[str, tuple[int, int]]) -> None:
    assert "".join(piece.text for piece in pieces(text, (), spans)) == text


def test_a_run_that_waits_for_people_says_so(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path, [synthetic.comparison(0)])
    with Reader(folder) as run:
        assert run.state != "asking"
        task = run.root
    pair = synthetic.comparison(1).pair
    with closing(Labels(folder)) as labels:
        labels.ask(task, 0, "Which is better?", [pair], overlap=1, unassisted=0.0)
    with Reader(folder) as run:
        assert run.state == "asking" and run.asked == {task}
        assert run.progress(run.nodes[task]).state == "asking"


def test_the_root_is_the_task_that_is_trained_last_whatever_tools_its_tree_has(tmp_path: Path) -> None:
    """Tools were finished elsewhere, and have paths of their own; the configuration lists them before who asks them."""
    folder = synthetic.make(tmp_path, [synthetic.comparison(0)])
    config = json.loads((folder / "config.json").read_text())
    tool = {"settings": {}, "instruction": "does it run again?"}
    config["tree"] = {"rerun": tool, "laps/inner": tool, "laps": tool, **config["tree"]}
    config["finished"] = {"rerun": "v1", "laps": "v2"}
    (folder / "config.json").write_text(json.dumps(config))
    with Reader(folder) as run:
        assert run.root == "paper" and not run.done and run.state != "finished"
        assert list(run.nodes)[-3:] == ["rerun", "laps", "laps/inner"]
        assert run.progress(run.nodes["rerun"]).state == "elsewhere"
