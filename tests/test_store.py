"""The run's memory: nothing that was judged is lost, changed, or counted twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rrm import Assistance, Case, Finding, Group, Outcome, Pair, RRMError
from rrm.core.errors import StoreError
from rrm.core.judgements import Check, Comparison, Judgement, Margin
from rrm.core.records import Answer
from rrm.core.remarks import Remark, Remarked
from rrm.store.store import TABLES, Origin, Store

ROOT = Path(__file__).parent.parent


def comparison(i: int = 0, version: str = "v1", preference: float | None = 1.0) -> Comparison:
    case = Case(f"case {i} — “ü”\n\x00", {"n": i, "nested": [1, {"x": [True, None, 0.1]}]})
    a, b = Outcome("yes", (1, 2), (-0.1, -2.5e-17)), Outcome("no", (), (), False)
    deep = Answer(Case("step"), Outcome("wrong"), (Finding("s", False, 1), Finding("t", True)), 0.25)
    steps = Assistance("p/proofs/steps", version, (deep,))
    proofs = Assistance(
        "p/proofs", version, (Answer(Case("proof"), a, (Finding("s", True),), 0.75, (steps,)),)
    )
    silent = Assistance("p/data", "v1", (Answer(case, b, (), 0.5, (), "it does not parse"),))
    pair = Pair("p", case, a, b, (proofs, silent), (Assistance("p/data", "v1", ()),))
    judgement = Judgement(preference, (Check("p/proofs", True, False),), 3, "0.5 against 0.1")
    return Comparison(pair, judgement, 0, "bounded", 0.125)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "run.db")


def fill(store: Store) -> None:
    """A row in every table."""
    store.add(comparison(), 0, ({"step1": (0, 3)}, {}))
    store.score("p", 0, [Margin(comparison().id, 0.5, 0.1, heldout=True)])
    store.put("v1", {"c": comparison().assistance_a[0].answers[0]})
    store.keep_sampled("p", 0, "sample", [Group(comparison().case, (comparison().a,))])
    store.log("p", 0, "fit", 0, {"accuracy": 0.5})
    store.checkpoint("p", 0, "agent", "nodes/p/0/agent.safetensors", "0" * 64)
    store.note_computed("p", "guarantees", "bounds", "0" * 64, "1" * 64, 3)
    store.bring([(comparison(), 0, [Origin("0" * 64, "labels.jsonl", 1)])])
    one = comparison()
    said = Remarked("p", one.case, one.a, Remark("approval", 1.0), "u", assistance=one.assistance_a)
    store.bring_remarks([(said, [Origin("0" * 64, "labels.jsonl", 1)])])


# --- what goes in comes out --------------------------------------------------------------------------


def test_a_comparison_comes_back_equal_with_its_nested_assistance(store: Store) -> None:
    given = [comparison(0), comparison(1, preference=None), comparison(2, preference=0.5)]
    for position, one in enumerate(given):
        store.add(one, position)
    store.close()
    back = Store(store.path).comparisons("p", 0)
    assert back == given
    assert [one.pair.id for one in back] == [one.pair.id for one in given]
    assert back[0].assistance_a[0].below[0].findings == (Finding("s", False, 1), Finding("t", True))


def test_the_memo_comes_back(store: Store) -> None:
    answers = {f"case {i}": comparison(i).assistance_a[0].answers[0] for i in range(3)}
    store.put("v1", answers)
    cases = [answer.case for answer in answers.values()]
    assert store.get("v1", cases) == {}  # kept by the case's id, and these were given other names
    store.put("v1", {case.id: answers["case 0"] for case in cases})
    assert store.get("v1", cases) == {cases[0].id: answers["case 0"]}
    assert store.get("v2", cases) == {}


def test_more_cases_than_a_statement_has_room_for(store: Store) -> None:
    answers = {(case := Case(str(i))).id: Answer(case, Outcome("x"), (), 0.5) for i in range(1203)}
    store.put("v", answers)
    assert store.get("v", [answer.case for answer in answers.values()]) == answers


def test_comparisons_can_be_asked_for_by_task_and_round(store: Store) -> None:
    one = comparison()
    other = replace(one, pair=replace(one.pair, task="q"), round=1)
    store.add(one, 0)
    store.add(other, 0)
    assert store.comparisons() == [one, other]
    assert store.comparisons("q") == store.comparisons(round=1) == [other]
    assert store.comparisons("q", 0) == []


# --- only ever added to ------------------------------------------------------------------------------


def test_nothing_can_be_changed_or_removed(store: Store) -> None:
    fill(store)
    before = store.counts()
    assert set(before.values()) <= {1, 2, 3, 4, 5} and min(before.values()) == 1
    for table in TABLES:
        columns = [row[1] for row in store._db.execute(f"PRAGMA table_info({table})")]
        listed = ", ".join(columns)
        for statement in (
            f"UPDATE {table} SET {columns[-1]} = {columns[-1]}",
            f"DELETE FROM {table}",
            f"INSERT OR REPLACE INTO {table} ({listed}) SELECT {listed} FROM {table}",
        ):
            with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
                store._db.execute(statement)
    assert store.counts() == before


def test_a_retry_adds_nothing(store: Store) -> None:
    fill(store)
    before, judged = store.counts(), store.comparisons()
    fill(store)
    store.add(comparison(preference=0.0), 7)  # the first judgement stands
    assert store.counts() == before
    assert store.comparisons() == judged


def test_what_is_brought_together_is_kept_together_or_not_at_all(store: Store) -> None:
    where = [Origin("0" * 64, "labels.jsonl", row) for row in (1, 2)]
    broken = replace(comparison(1), user=object())  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        store.bring([(comparison(0), 0, where), (broken, 1, where)])
    assert set(store.counts().values()) == {0}
    store.bring([(comparison(0), 0, where)])
    assert store.origins("p") == {(0, comparison(0).id): where} and store.origins("q") == {}


# --- when things go wrong ----------------------------------------------------------------------------

WRITER = """
    import sys
    from pathlib import Path
    from rrm.store.store import Store
    from tests.test_store import comparison
    store = Store(Path(sys.argv[1]))
    for i in range(100_000):
        store.add(comparison(i), i)
        print(i, flush=True)
"""


def writer(path: Path, limit: str = "") -> subprocess.Popen[str]:
    """A process that writes comparisons for ever, and says the number of each when it is kept."""
    script = textwrap.dedent(limit) + textwrap.dedent(WRITER)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip


def test_a_killed_writer_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    process = writer(path)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 20:
            process.send_signal(signal.SIGKILL)
            break
    rest, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = [20, *(int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n"))][-1]
    back = Store(path).comparisons()
    assert len(back) >= kept + 1
    assert back == [comparison(i) for i in range(len(back))]


@pytest.mark.skipif(sys.platform != "linux", reason="sets a file size limit")
def test_a_full_disk_is_said_and_what_was_kept_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    full = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    """
    out, err = writer(path, full).communicate(timeout=120)
    assert "StoreError" in err and "Nothing judged so far is lost" in err
    kept = len(out.split())
    assert kept > 0
    back = Store(path).comparisons()
    assert back == [comparison(i) for i in range(kept)]


def test_a_database_that_may_not_grow_keeps_its_rows_and_works_again_with_room(store: Store) -> None:
    store.add(comparison(0), 0)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    kept = 1
    with pytest.raises(StoreError, match=r"run\.db: database or disk is full.*Nothing judged so far is lost"):
        while kept < 1000:
            store.add(comparison(kept), kept)
            kept += 1
    assert store.comparisons() == [comparison(i) for i in range(kept)]
    with pytest.raises(StoreError):  # the same again, and no half-open transaction in the way
        store.put("v", {str(i): comparison(i).assistance_a[0].answers[0] for i in range(100)})
    store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store.add(comparison(kept), kept)
    assert store.comparisons() == [comparison(i) for i in range(kept + 1)]


def test_an_error_while_writing_rolls_everything_back(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store._writing():
        store._db.execute("INSERT INTO blobs VALUES ('x', 'case', '')")
        raise KeyboardInterrupt
    assert store.counts()["blobs"] == 0
    store.add(comparison(), 0)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    path.write_text("this is no database at all, and long enough to be read as one " * 20)
    with pytest.raises(StoreError, match="is not a run's database") as caught:
        Store(path)
    assert isinstance(caught.value, RRMError)
    assert path.read_text().startswith("this is no database")


def test_a_folder_in_the_database_s_place(tmp_path: Path) -> None:
    (tmp_path / "run.db").mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        Store(tmp_path / "run.db")


def test_a_second_writer_waits_its_turn(store: Store) -> None:
    other = Store(store.path)
    for i in range(10):
        (store if i % 2 else other).add(comparison(i), i)
    assert store.comparisons() == other.comparisons() == [comparison(i) for i in range(10)]


# --- all of a record, or none of it -------------------------------------------------------------------


@dataclass(frozen=True)
class Trajectory(Outcome):
    """An outcome with a field that the store has no place for."""

    steps: tuple[int, ...] = ()


def pair_of(a: Outcome, b: Outcome = Outcome("b")) -> Comparison:
    return Comparison(Pair("p", Case("c"), a, b), Judgement(1.0), 0, "u")


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Trajectory("a", steps=(1, 2)), "Outcome is a Trajectory, of which only what Outcome has would be kept"),
        (Outcome("a", data={"x": float("nan")}), r"Outcome\.data\['x'\] would come back as None, not nan"),
        (Outcome("a", data={"by": {0: 1}}), r"Outcome\.data\['by'\] has keys that JSON has not"),
        (Outcome("a", data={"x": {1, 2}}), r"Outcome\.data"),
        (Outcome("a", logprobs=(float("-inf"),)), "logprobs"),
    ],
)
def test_what_cannot_be_kept_as_it_is_is_refused(store: Store, outcome: Outcome, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        store.add(pair_of(outcome), 0)
    with pytest.raises(StoreError, match=why.removeprefix("Outcome")):
        store.keep_sampled("p", 0, "sample", [Group(Case("c"), (outcome,))])
    with pytest.raises(StoreError, match=why.removeprefix("Outcome")):
        store.put("v", {"c": Answer(Case("c"), outcome, (), None)})
    assert set(store.counts().values()) == {0}, "part of it was kept"


@pytest.mark.parametrize("data", [{}, {"arm": 2}, {"path": [[0, 1], [1, 1]], "done": None, "é": {"deep": [True, 0.1]}}])
def test_data_comes_back_and_is_part_of_the_identity(store: Store, data: dict[str, object]) -> None:
    plain, rich = Outcome("a"), Outcome("a", data=data)
    assert plain.id != rich.id and plain.content != rich.content
    store.add(pair_of(rich, plain), 0)
    store.keep_sampled("p", 0, "sample", [Group(Case("c"), (rich, plain))])
    (back,) = store.comparisons()
    assert back.a == rich and back.b == plain and (back.a.id, back.b.id) == (rich.id, plain.id)
    assert back.pair.id == pair_of(rich, plain).pair.id
    assert store.sampled("p", 0, "sample") == [Group(Case("c"), (rich, plain))]
    assert store.sampled("p", 1, "sample") is None


def test_a_tuple_in_data_is_the_list_that_json_makes_of_it(store: Store) -> None:
    store.add(pair_of(Outcome("a", data={"path": ((0, 1), (1, 1))})), 0)
    (back,) = store.comparisons()
    assert back.a.id == Outcome("a", data={"path": ((0, 1), (1, 1))}).id


def test_outcomes_without_data_are_written_as_they_always_were(store: Store) -> None:
    """Content addresses of runs of before stay what they are."""
    store.add(pair_of(Outcome("a", (1,), (-0.5,))), 0)
    bodies = [row[0] for row in store._db.execute("SELECT body FROM blobs WHERE kind = 'a'")]
    assert bodies == ['{"text":"a","tokens":[1],"logprobs":[-0.5],"finished":true}']


def test_sameness_to_a_judge_is_of_content_not_of_tokens() -> None:
    one, other = Outcome("ab", (1, 2)), Outcome("ab", (3,))
    assert one.id != other.id and one.content == other.content
    assert Outcome("", data={"arm": 1}).content != Outcome("", data={"arm": 2}).content
    assert Outcome("", data={"arm": 1}).shown and Outcome("words", data={"arm": 1}).shown == "words"
