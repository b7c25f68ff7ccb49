"""Rows that are hashed in their order: whatever is changed, added or removed shows, and forgetting leaves nothing."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rrm.core.judgements import Check
from rrm.labels.forgetting import forget
from rrm.store import links
from rrm.store.store import LINKED, TABLES, Store
from rrm.store.upgrades import RUN
from tests.label.test_forgetting import NAME, judged
from tests.test_store import comparison, fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(Store(tmp_path / "run.db")) as store:
        fill(store)
        for i in range(3):
            store.add(comparison(i), i)
        store.log("p", 1, "fit", 0, {"accuracy": float("nan"), "loss": 0.1 + 0.2})
    return tmp_path / "run.db"


def opened(path: Path) -> sqlite3.Connection:
    """As by another program, with nothing in the way of changing it."""
    db = sqlite3.connect(path, isolation_level=None)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    return db


def faults(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [str(one) for one in links.faults(db, LINKED)]


def test_every_row_has_a_link_and_more_rows_change_nothing_before_them(path: Path) -> None:
    assert faults(path) == [] and {*LINKED} == {*TABLES}
    with closing(Store(path)) as store:
        before = links.chain_of(store._db)
        assert before is not None and before.size == sum(store.counts().values())
        fill(store)  # again: adds nothing
        assert links.chain_of(store._db) == before
        store.add(comparison(7), 7)
        assert links.chain_of(store._db) != before == links.chain_of(store._db, before.size)
        assert links.chain_of(store._db, 10**6) is None
        columns = {t: ", ".join(row[1] for row in store._db.execute(f"PRAGMA table_info({t})")) for t in TABLES}
    assert columns == {table: hashed for table, (hashed, _) in LINKED.items()}


def changes(path: Path) -> Iterator[tuple[str, str]]:
    """(table, statement): every column of every table's row, a row less, a row more."""
    with closing(sqlite3.connect(path)) as db:
        for table in TABLES:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            keys = LINKED[table][1]
            last = f"WHERE ({keys}) = (SELECT {keys} FROM {table} LIMIT 1)"
            yield table, f"DELETE FROM {table} {last}"
            more = ", ".join("'z'" if i == 0 else name for i, name in enumerate(columns))
            if columns[0] != "seq":
                yield table, f"INSERT INTO {table} SELECT {more} FROM {table} LIMIT 1"
            for column in columns[columns[0] == "seq" :]:
                yield table, f"UPDATE {table} SET {column} = IFNULL({column}, 0) || '7' {last}"


def test_every_change_is_found_and_named(path: Path) -> None:
    tried = list(changes(path))
    assert len(tried) > 60
    whole = path.read_bytes()
    for table, statement in tried:
        path.write_bytes(whole)
        with closing(opened(path)) as db:
            db.execute(statement)
        assert any(found.startswith(f"{table}: ") for found in faults(path)), statement


def test_who_makes_the_links_anew_has_another_root(path: Path) -> None:
    with closing(opened(path)) as db:
        links.add_functions(db)
        before = links.chain_of(db)
        assert before is not None
        db.execute("UPDATE comparisons SET preference = 1 - preference")
        db.execute("DELETE FROM links")
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'links'")
        links.fill(db, LINKED)
        assert links.faults(db, LINKED) == [] and links.chain_of(db, before.size) != before
    with closing(opened(path)) as db:
        db.execute("UPDATE links SET head = leaf WHERE seq = 3")
        db.execute("DELETE FROM links WHERE seq = 5")
    assert {"links: 1 are missing before link 6"} < {*faults(path)}


def test_an_older_database_is_linked_when_it_is_opened(path: Path) -> None:
    with closing(opened(path)) as db:
        db.execute("DROP TABLE links")
        db.execute("PRAGMA user_version = 4")
    Store(path).close()
    assert faults(path) == []
    with closing(Store(path)) as store:
        store.add(comparison(8), 8)
    assert faults(path) == []


def test_a_check_that_was_not_drawn_is_kept_as_before_and_its_rows_stay_linked(path: Path) -> None:
    """Version 6 has more to say of a check; what older ones wrote reads back as it was, to the byte."""
    with closing(opened(path)) as db:
        before = db.execute("SELECT checks FROM comparisons ORDER BY seq").fetchall()
        db.execute("PRAGMA user_version = 5")
    with closing(Store(path)) as store:
        assert store._db.execute("PRAGMA user_version").fetchone() == (len(RUN),) and len(RUN) >= 6
        adapter = TypeAdapter(tuple[Check, ...])
        assert [(adapter.dump_json(one.judgement.checks).decode(),) for one in store.comparisons()] == before
        drawn = Check("toy/sub", False, True, spot=0.05)
        new = comparison(8)
        store.add(replace(new, judgement=replace(new.judgement, checks=(drawn,))), 8)
        assert store.comparisons()[-1].judgement.checks == (drawn,)
    assert faults(path) == [] and any("right" in body for (body,) in before)


def test_forgetting_is_told_and_leaves_nothing_to_try_names_on(tmp_path: Path) -> None:
    judged(tmp_path)
    with closing(Store(tmp_path / "run.db")) as store:
        before = links.chain_of(store._db)
        assert before is not None and links.rewritten(store._db, before.size) == []
    forget(tmp_path, NAME, "withdraw")
    assert faults(tmp_path / "run.db") == []
    with closing(sqlite3.connect(tmp_path / "run.db")) as db:
        told = links.rewritten(db, before.size)
        assert told and {one.table for one in told} == {"comparisons"} and links.chain_of(db, before.size) == before
        of_comparisons = db.execute("SELECT COUNT(*) FROM links WHERE name = 'comparisons' AND salt IS NULL")
        assert of_comparisons.fetchone() == (len(told),)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=40))
def test_the_root_is_that_of_the_standard(leaves: list[bytes]) -> None:
    """RFC 9162, section 2.1.1, word by word: split at the largest power of two below."""

    def root(some: list[bytes]) -> bytes:
        if len(some) < 2:
            return hashlib.sha256(b"\0" + some[0] if some else b"").digest()
        k = 1 << ((len(some) - 1).bit_length() - 1)
        return hashlib.sha256(b"\1" + root(some[:k]) + root(some[k:])).digest()

    assert links.merkle_root(leaves) == root(leaves)


def test_threads_that_read_and_write_do_not_wait_for_each_other_for_ever(tmp_path: Path) -> None:
    """SQLite calls the functions of the links while it holds its own lock."""
    store, until = Store(tmp_path / "run.db"), time.monotonic() + 0.7

    def write(k: int) -> None:
        step = 0
        while time.monotonic() < until:
            store.log(f"t{k}", 0, "fit", step, {f"m{i}": 1.0 for i in range(30)})
            step += 1

    def read(_: int) -> None:
        while time.monotonic() < until:
            store.checkpoints("t"), store.counts()

    jobs = enumerate((write, write, read, read))
    threads = [threading.Thread(target=what, args=(k,), daemon=True) for k, what in jobs]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert not any(one.is_alive() for one in threads)
    store.close()
