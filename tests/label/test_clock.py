"""A clock that is set back, or jumps ahead, blocks no label, loses none, and confuses nobody about what came first."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrm.labels import queue as queue_module
from rrm.labels.queue import Labels
from rrm.store import store as store_module
from rrm.store.store import Store
from tests.label.material import pair

HOUR = 3600.0


class Clock:
    """The time of day, set as one likes; what nobody sets goes on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(queue_module, "time", found)
    monkeypatch.setattr(store_module, "time", found)
    return found


def key() -> str:
    return str(uuid.uuid4())


def asked(folder: Path, n: int = 3, overlap: int = 1) -> tuple[Labels, list[str]]:
    labels = Labels(folder)
    return labels, labels.ask("t", 0, "Which?", [pair(i) for i in range(n)], overlap, 0.0)


@pytest.mark.parametrize("moved", [-HOUR, HOUR, -1e8, 1e8])
def test_a_claim_of_before_holds_nobody_up(tmp_path: Path, clock: Clock, moved: float) -> None:
    labels, ids = asked(tmp_path)
    assert [q.id for q in labels.claim("ann", 3)] == ids and labels.claim("ben", 3) == []
    clock.ahead += moved
    assert [q.id for q in labels.claim("ben", 3)] == ids
    for id in ids:
        assert labels.answer(key(), id, "ann", "first").status == "kept"  # nor is its holder's answer refused
    assert labels.take(ids) is not None


@pytest.mark.parametrize("moved", [-HOUR, -1e8])
def test_training_does_not_wait_until_the_clock_has_caught_up(tmp_path: Path, clock: Clock, moved: float) -> None:
    labels, ids = asked(tmp_path)
    for id in ids:
        labels.answer(key(), id, "ann", "first")
    clock.ahead += moved
    assert labels.take(ids, grace=0.3) is None  # as ever: the last may still be undone
    time.sleep(0.35)
    taken = labels.take(ids, grace=0.3)
    assert taken is not None and len(taken) == 3


@pytest.mark.parametrize("moved", [-HOUR, 0.0, HOUR])
def test_what_came_too_late_is_still_told(tmp_path: Path, clock: Clock, moved: float) -> None:
    labels, ids = asked(tmp_path, overlap=1)
    keys = [key() for _ in ids]
    for id, one in zip(ids, keys, strict=True):
        labels.answer(one, id, "ann", "first")
    undone = key()
    labels.undo(undone, "ann", keys[0])
    again = key()
    labels.answer(again, ids[0], "ann", "tie")
    clock.ahead += moved
    assert labels.take(ids) is not None
    late = key()
    assert labels.undo(late, "ann", keys[1]).late and labels.withdrawn_late() == 1
    clock.ahead -= 2 * moved
    for one, was_late in ((keys[2], False), (again, False), (undone, False), (late, True)):
        taken_back = one in (undone, late)
        receipt = labels.undo(one, "ann") if taken_back else labels.answer(one, _of(labels, one), "ann", "tie")
        assert (receipt.status, receipt.late) == ("repeated", was_late), one
    assert labels.withdrawn_late() == 1


def _of(labels: Labels, key: str) -> str:
    return str(labels._db.execute("SELECT question FROM labels WHERE key = ?", (key,)).fetchone()[0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=6))
def test_labels_and_metrics_keep_their_order(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, moves: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    labels, ids = asked(folder, len(moves))
    store = Store(folder / "run.db")
    for step, (id, moved) in enumerate(zip(ids, moves, strict=True)):
        clock.ahead += moved
        labels.answer(key(), id, "ann", "first")
        store.log("t", 0, "improve", len(moves) - step, {"reward": float(step)})
        if step == 2:  # killed, and gone on with
            store.close()
            store = Store(folder / "run.db")
    assert len(labels.take(ids) or ()) == len(ids)
    times = [at for (at,) in labels._db.execute("SELECT at FROM labels ORDER BY seq")]
    assert times == sorted(set(times))
    assert [value for *_, value in store.metrics("t")] == [float(step) for step in range(len(moves))]
