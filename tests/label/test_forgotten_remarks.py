"""A person's name is taken out of what was said of single outcomes, too; and with their labels these are taken back."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from rrm.core.judgements import Comparison
from rrm.core.records import Case, Outcome
from rrm.core.remarks import Remark, Remarked
from rrm.labels.forgetting import forget, people
from rrm.labels.queue import Labels
from rrm.store.store import Origin, Store
from tests.label.material import pair
from tests.label.test_forgetting import NAME, bytes_of, rows

ASK = "rating,unacceptable,note"
N = 3


def judged(folder: Path) -> list[str]:
    """Zoë and Ben rated all; Zoë brought two demonstrations, too, and somebody's note names her."""
    labels, store = Labels(folder), Store(folder / "run.db")
    pairs = [pair(i) for i in range(N)]
    ids = labels.ask("t", 0, "Which?", pairs, 2, 0.0, ask=ASK)
    for id in ids:
        for name, level in ((NAME, 5.0), ("Ben", 2.0)):
            note = Remark("note", text=f"{name} asked {NAME}, and not {NAME}s")
            said = [Remark("rating", level, 5), note]
            labels.answer(str(uuid.uuid4()), id, name, "first", remarks=(said, said))
    taken = labels.take(ids)
    assert taken is not None
    for position, (id, one) in enumerate(zip(ids, pairs, strict=True)):
        store.add(Comparison(one, taken[id], 0, taken[id].by, 1.0), position)
    for i, user in enumerate((NAME, NAME, "Eve")):
        alone = Remarked("t", Case(f"case {i}"), Outcome(f"shown {i}"), Remark("demonstration"), user)
        store.bring_remarks([(alone, [Origin("ab", "x.jsonl", i + 1)])])
    store.checkpoint("t", 0, "reward", "x", "y")
    labels.close()
    store.close()
    return ids


def said(folder: Path) -> list[tuple[str, str, float | None]]:
    store = Store(folder / "run.db")
    found: list[tuple[str, str, float | None]] = []
    for one in (*(remark for c in store.comparisons() for remark in c.remarks), *store.remarks("t")):
        found.append((one.remark.by or one.user, one.remark.kind, one.remark.value))
    store.close()
    return found


@pytest.mark.parametrize("labels", ["keep", "withdraw"])
def test_the_name_is_in_no_remark(tmp_path: Path, labels: str) -> None:
    judged(tmp_path)
    before = bytes_of(tmp_path)
    assert before.count(NAME.encode()) > 10
    assert people(tmp_path) == {NAME: N + 2, "Ben": N, "Eve": 1}
    forget(tmp_path, NAME, labels)  # type: ignore[arg-type]
    left = bytes_of(tmp_path).replace(f"{NAME}s".encode(), b"")
    assert NAME.encode() not in left, "but for another word that begins like it"
    notes = {one.remark.text for c in Store(tmp_path / "run.db").comparisons() for one in c.remarks} - {""}
    assert f"Ben asked somebody 1, and not {NAME}s" in notes


def test_no_name_of_a_row_is_a_hash_of_the_name(tmp_path: Path) -> None:
    judged(tmp_path)
    query = "SELECT name FROM remarks WHERE body LIKE '%Zo%'"
    hashes = {name for (name,) in rows(tmp_path / "run.db", query)}
    assert hashes
    forget(tmp_path, NAME, "keep")
    assert not hashes & {name for (name,) in rows(tmp_path / "run.db", "SELECT name FROM remarks")}


def test_kept_remarks_are_a_pseudonyms_and_change_in_nothing_else(tmp_path: Path) -> None:
    judged(tmp_path)
    before = said(tmp_path)
    found = forget(tmp_path, NAME, "keep")
    assert said(tmp_path) == [("somebody 1" if by == NAME else by, *rest) for by, *rest in before]
    assert found.remarks == {("t", 0): 6 * N, ("t", -1): 2} and not found.withdrawn
    assert {label.labeler for label in Labels(tmp_path).labels()} == {"somebody 1", "Ben"}


def test_withdrawn_remarks_count_no_more_and_do_not_come_back(tmp_path: Path) -> None:
    ids = judged(tmp_path)
    before = [one for one in said(tmp_path) if one[0] != NAME]
    found = forget(tmp_path, NAME, "withdraw")
    assert said(tmp_path) == before
    assert ("t", 0, "reward") in found.learned
    assert any("remarks on outcomes were theirs, and are taken back" in line for line in found.lines(tmp_path))
    labels, store = Labels(tmp_path), Store(tmp_path / "run.db")
    again = labels.taken(ids)  # what an interrupted run would read, and keep again
    assert again is not None
    for position, id in enumerate(ids):
        store.add(Comparison(pair(position), again[id], 0, again[id].by), position)
    assert {one.by for id in ids for one in (*again[id].remarks_a, *again[id].remarks_b)} == {"Ben"}
    store.close()
    assert said(tmp_path) == before
    forget(tmp_path, "somebody 1", "withdraw")
    assert said(tmp_path) == before


def test_what_a_person_only_brought_is_forgotten_as_well(tmp_path: Path) -> None:
    judged(tmp_path)
    found = forget(tmp_path, "Eve", "withdraw")
    assert found.remarks == {("t", -1): 1} and not found.judgements
    assert "Eve" not in {by for by, *_ in said(tmp_path)} and b"Eve" not in bytes_of(tmp_path)
