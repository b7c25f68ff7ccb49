"""Ctrl-C and SIGTERM while a library calls Python: what was being written is written, and then they end it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pytest
from pydantic import PlainSerializer, TypeAdapter

from rrm.command.terminating import ended_by_sigterm
from rrm.core.interrupts import interrupts_held
from rrm.exchange.exporting import write
from rrm.models.backbone import Backbone
from rrm.models.peft_folder import write_adapter
from rrm.store import films
from rrm.store.database import hurried
from rrm.store.encoding import written
from rrm.store.store import Store
from rrm.view.web import static_copy
from tests.models.conftest import network, tokenizer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are raised")
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"


@pytest.fixture(autouse=True)
def handled() -> object:
    """Ctrl-C raises, also in tests that a shell started in the background, and nobody has taken SIGTERM."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


def interrupting(number: int) -> Callable[[], bytes]:
    def salt() -> bytes:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        return bytes(16)

    return salt


def rows(store: Store) -> int:
    return len(store._db.execute("SELECT 1 FROM metrics").fetchall())


def test_ctrl_c_in_a_trigger_s_function_is_raised_once_the_row_is_kept(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "run.db")) as store:
        store._db.create_function("link_salt", 0, interrupting(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            store.log("p", 0, "fit", 0, {"loss": 1.0})
        assert rows(store) == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_in_a_trigger_s_function_ends_with_143_once_the_row_is_kept(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "run.db")) as store:
        store._db.create_function("link_salt", 0, interrupting(signal.SIGTERM))
        with pytest.raises(SystemExit) as ended, ended_by_sigterm():
            store.log("p", 0, "fit", 0, {"loss": 1.0})
        assert ended.value.code == 143 and rows(store) == 1


def test_ctrl_c_while_a_record_is_written_as_json_is_not_the_record_s_fault() -> None:
    def shown(value: int) -> int:
        return value + len(interrupting(signal.SIGINT)()) - 16

    with pytest.raises(KeyboardInterrupt):
        written(TypeAdapter(Annotated[int, PlainSerializer(shown)]), 3)


def test_ctrl_c_ends_a_query_that_may_take_long_and_is_not_taken_for_its_slowness() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        end = time.monotonic() + 60
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            try:
                with hurried(db, 60):
                    db.execute(ENDLESS).fetchone()
            except sqlite3.OperationalError:  # as who asks does
                pass
        assert time.monotonic() < end
        with pytest.raises(sqlite3.OperationalError, match="interrupted"), hurried(db, 0.05):
            db.execute(ENDLESS).fetchone()


def test_what_is_held_is_called_after_what_was_raised_and_only_once() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with pytest.raises(ValueError, match="meanwhile"), interrupts_held() as outer:
        with interrupts_held() as came:
            assert not came
            signal.raise_signal(signal.SIGTERM)
            assert came and not outer and not seen
        assert outer and not seen
        raise ValueError("meanwhile")
    assert seen == [signal.SIGTERM]


def test_who_ignores_a_signal_or_dies_of_it_still_does_and_threads_change_nothing() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_held() as came:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.raise_signal(signal.SIGINT)
    assert not came
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def elsewhere() -> None:
        with interrupts_held():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            done.append(1)

    done: list[int] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done


def stopping(*given: object, **more: object) -> None:
    raise KeyboardInterrupt


def test_what_is_exported_is_whole_or_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, object]]:
        yield {"a": "1"}
        stopping()

    for format in ("jsonl", "parquet"):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / f"x.{format}", format, rows(), pa.schema([("a", pa.string())]))  # type: ignore[arg-type]
    assert not [*tmp_path.iterdir()]


def test_films_and_adapters_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = Backbone("tiny", network(), tokenizer(), "lora").fork("agent")
    film = films.Film(1, (0,), ("",), ("",), (b"",))
    for where, what, keep in (
        (Path, "replace", lambda: films.keep(tmp_path, "case", "outcome", film)),
        (os, "rename", lambda: write_adapter(fork, tmp_path / "adapter")),
    ):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(where, what, stopping)
            keep()
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        keep()
        assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")]
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()


@pytest.mark.parametrize("there", [False, True])
def test_half_a_copy_of_the_pages_is_not_in_the_way(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    with closing(Store(run_folder(run) / "run.db")):
        pass
    if there:
        out.mkdir()
    written, usual = [], static_copy._write

    def write_some(path: Path, body: bytes) -> None:
        usual(path, body)
        written.append(path)
        stopping()

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(static_copy, "_write", write_some)
        static_copy.export([run], out)
    assert written and out.exists() == there and not (there and [*out.iterdir()])
    assert static_copy.export([run], out) > 0


def run_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_pair_of_keys_is_both_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the two files: else the same command would be told that one is there."""
    pytest.importorskip("securesystemslib")
    from rrm.trust import signing

    usual = signing.write_atomically

    def interrupted(path: Path, body: bytes) -> None:
        signal.raise_signal(signal.SIGINT)
        usual(path, body)

    monkeypatch.setattr(signing, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        signing.make_key(tmp_path / "me", "me")
    assert {path.name for path in tmp_path.iterdir()} == {"me", "me.pub"}


def test_one_that_comes_while_handlers_are_given_back_leaves_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step: what is in place afterwards is what was, or passes on to it."""
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    usual = signal.signal
    for step in range(2):
        calls: list[int] = []

        def setting(number: int, handler: object, step: int = step, calls: list[int] = calls) -> object:
            found = usual(number, handler)  # type: ignore[arg-type]
            calls.append(number)
            if len(calls) == 3 + step:  # after the two that it took
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), interrupts_held():
            patched.setattr(signal, "signal", setting)
            calls += [0, 0]
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert seen == [signal.SIGTERM] * 2
