"""Whatever lies torn beside a run's records, every page and `rrm inspect` show the rest, and say which file it is."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.labels.queue import Labels
from rrm.store.films import Film, keep, painted, path_of
from rrm.store.store import Store
from rrm.trust import reporting
from rrm.trust.report_figures import DrawnFigure
from rrm.trust.reported import run_told
from rrm.trust.reporting import report
from rrm.view import damage
from rrm.view.reading import Reader
from rrm.view.truth import attached
from rrm.view.web.app import create_app
from rrm.view.web.security import Access
from tests.view import synthetic
from tests.view.test_pages import open_app

DATABASES = ("truth.db", "labels.db", "calls.db")
PAGES = ("/", "/r/run", "/r/run/node/paper", "/r/run/list/paper", "/r/run/list/paper?show=user_wrong", "/r/run/c/1",
         "/r/run/c/1/a/0.0", "/r/run/outcomes/paper", "/r/run/challenges/paper")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything beside it."""
    from rrm.models.endpoints import Ledger

    made = [synthetic.comparison(i, a=f"left {i}", b=f"right {i}", said=f"wrong {i}") for i in range(40)]
    folder = synthetic.make(tmp_path_factory.mktemp("torn") / "run", made, [0.5] * 40)
    with closing(Store(folder / "run.db")) as store:
        synthetic.true(folder, store.compared("paper"))
    with closing(Labels(folder)) as labels:
        for n, asked in enumerate(labels.ask("paper", 0, "Which?", [one.pair for one in made], 2, 0.0)):
            for name in ("Ann", "Ben"):
                labels.answer(f"label {name} {n}", asked, name, "first")
    with closing(Ledger(folder / "calls.db")) as ledger, ledger._db:
        columns = [row[1:3] for row in ledger._db.execute("PRAGMA table_info(calls)") if row[1] != "seq"]
        names, marks = ", ".join(name for name, _ in columns), ", ".join("?" * len(columns))
        for n in range(100):
            row = [f"{name} {n}" if kind == "TEXT" else 1 for name, kind in columns]
            ledger._db.execute(f"INSERT INTO calls ({names}) VALUES ({marks})", row)
    picture = painted([np.zeros((8, 8, 3), np.uint8)] * 2)
    keep(folder, made[0].case.id, made[0].a.id, Film(2, (0, 2), ("start", "end"), ("", ""), picture))
    (folder / "tags.txt").write_text("one\ntwo\n")
    gain = folder / "trust" / "paper" / "audits" / "gain.json"
    gain.parent.mkdir(parents=True)
    gain.write_text('{"weights": {}, "found": {"gain": {"value": 0.5, "low": 0, "high": 1, "n": 9}}}')
    (folder.parent / "report.json").write_text('{"run": {"agreement": {"mean": 0.5, "low": 0.1, "high": 0.9, "n": 3}}}')
    for name in DATABASES:
        with closing(sqlite3.connect(folder / name)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def spoiled(body: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """The body cut, and with some bytes written over, once at random places and once in every page."""
    yield "cut", body[: rng.randrange(len(body))]
    torn = bytearray(body)
    at = rng.randrange(len(body))
    torn[at : at + rng.randrange(1, 400)] = rng.randbytes(min(len(body) - at, 400))
    yield "written over", bytes(torn[: len(body)])
    torn = bytearray(body)
    for at in range(rng.randrange(200, 4096), len(torn), 4096):
        torn[at : at + 300] = rng.randbytes(300)
    yield "torn", bytes(torn[: len(body)])


def asked(client: TestClient, pages: Sequence[str] = PAGES) -> Iterator[str]:
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, page
        yield answer.text


def test_a_whole_run_says_nothing_of_damage(whole: Path) -> None:
    with open_app(whole) as client:
        assert not any("db cannot be read" in text for text in asked(client))
    with Reader(whole) as run:
        assert attached(run) and run.calls and not damage.damaged(whole)


def test_what_is_torn_breaks_no_page_and_is_named(whole: Path, tmp_path: Path) -> None:
    rng, run = random.Random(5), shutil.copytree(whole, tmp_path / "run")
    shutil.copy(whole.parent / "report.json", tmp_path)
    film = path_of(run, *next((whole / "films").glob("*")).stem.split("-"))
    others = [film, run / "tags.txt", run / "trust/paper/audits/gain.json", tmp_path / "report.json"]
    told, tried = 0, 0
    with open_app(run) as client:
        for path in [*(run / name for name in DATABASES), *others]:
            body = path.read_bytes()
            for how, bad in spoiled(body, rng):
                path.write_bytes(bad)
                texts = [*asked(client, ["/", *rng.sample(PAGES[1:], 4)])]
                if path.name in DATABASES:
                    named = [f"{path.name} cannot be read" in text for text in texts[1:]]
                    assert len({*named}) == 1 and (named[0] or how == "written over"), (path.name, how)
                    told, tried = told + named[0], tried + 1
            path.write_bytes(body)
    assert told >= tried - len(DATABASES) and not damage.damaged(run)


@pytest.mark.parametrize("name", DATABASES)
def test_inspect_and_report_say_it_and_show_the_rest(
    name: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "draw", lambda runs, node: DrawnFigure(b"<svg/>", b"%PDF"))
    run = shutil.copytree(whole, tmp_path / "run")
    body = bytearray((run / name).read_bytes())
    for at in range(4096 + 100, len(body), 4096):
        body[at : at + 500] = bytes([255]) * 500
    (run / name).write_bytes(body)
    for words in (["inspect", str(run)], ["inspect", str(run), "paper"], ["inspect", str(run), "--challenges"]):
        done = CliRunner().invoke(app, words)
        said = " ".join(done.output.split())
        assert done.exit_code == 0 and f"{name} cannot be read" in said and "paper" in said, done.output
    if name == "truth.db":
        assert "rrm measure truth" in said
    told = run_told(run)
    assert told.nodes["paper"].testing.judged == 40 and [line.split()[0] for line in told.damaged] == [name]
    assert f"{name} cannot be read" in report([run], tmp_path / "out", "x").markdown.read_text()


def test_a_large_truth_is_not_read_to_its_end_and_its_tear_is_found_where_it_is_met(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "MOST", 0)
    run = shutil.copytree(whole, tmp_path / "run")
    body = bytearray((run / "truth.db").read_bytes())
    for at in range(4096, len(body), 4096):
        if body[at] in (2, 5, 10, 13):
            body[at : at + 200] = bytes([255]) * 200
    (run / "truth.db").write_bytes(body)
    assert not damage.torn(run / "truth.db")
    with open_app(run) as client:
        texts = [*asked(client)]
    assert "truth.db cannot be read" in texts[2] and "truth.db cannot be read" in texts[-1]


def test_a_torn_record_is_said_and_hides_no_other_run(whole: Path, tmp_path: Path) -> None:
    good = shutil.copytree(whole, tmp_path / "good")
    bad = shutil.copytree(whole, tmp_path / "bad")
    body = bytearray((bad / "run.db").read_bytes())
    for at in range(4096 * 2, len(body), 4096):
        body[at : at + 200] = bytes([255]) * 200
    (bad / "run.db").write_bytes(body)
    with open_app(good, bad) as client:
        assert client.get("/").status_code == 200 and "/r/good" in client.get("/").text
        assert client.get("/r/good").status_code == 200
        answer = client.get("/r/bad/node/paper")
        assert answer.status_code == 404 and "run.db" in answer.text and "cannot be read" in answer.text


def unopened(path: Path, *_: object) -> closing[sqlite3.Connection]:
    """As SQLite opens a file in WAL in a folder that cannot be written."""
    raise failing(sqlite3.SQLITE_CANTOPEN)


def failing(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it fails")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("name", DATABASES)
def test_rows_that_are_not_in_a_database_yet_are_no_tear_where_it_cannot_be_written(
    name: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "read_only", unopened)
    with closing(sqlite3.connect(tmp_path / "live.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE labels (seq)")
        for more in ("", "-wal"):
            shutil.copy(tmp_path / f"live.db{more}", tmp_path / f"{name}{more}")
    assert not damage.torn(tmp_path / name) and not damage.damaged(tmp_path)
    (tmp_path / f"{name}-wal").unlink()
    assert not damage.torn(tmp_path / name), "nothing was made there yet"
    (tmp_path / name).write_bytes(b"")
    assert not damage.torn(tmp_path / name)
    torn = bytearray((whole / name).read_bytes())
    for at in range(4096 + 100, len(torn), 4096):
        torn[at : at + 500] = bytes([255]) * 500
    (tmp_path / name).write_bytes(torn)
    assert damage.torn(tmp_path / name), "looked at as unchanging, with nothing beside it"


def test_rows_of_a_truth_that_are_not_in_it_yet_are_not_left_out(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr("rrm.view.truth.ALL", "SELECT nothing")  # as if no way opened it
    for later in (False, True):
        (run / "truth.db-wal").write_bytes(b"rows" * later)
        ways: list[str] = []
        with Reader(run) as reader:
            reader.db.set_trace_callback(ways.append)
            assert not attached(reader)
        assert any("mode=ro" in way for way in ways) and any("immutable" in way for way in ways) != later


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT,
             sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CORRUPT]
)  # fmt: skip
def test_an_error_that_passes_is_no_tear_and_not_remembered(
    code: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")

    def fails(path: Path, *_: object) -> closing[sqlite3.Connection]:
        raise failing(code)

    with monkeypatch.context() as patch:
        patch.setattr(damage, "read_only", fails)
        patch.setattr(damage, "_unchanging", fails)
        assert damage.torn(run / "labels.db") == (code == sqlite3.SQLITE_CORRUPT)
    assert damage.torn(run / "labels.db") == (code == sqlite3.SQLITE_CORRUPT), "until the file changes"


def test_who_holds_a_database_has_not_damaged_it(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    with closing(sqlite3.connect(run / "truth.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM facts")
        assert not damage.torn(run / "truth.db")


def test_a_page_is_made_again_after_a_tear_and_what_changes_something_is_not_done_twice(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def torn_once(request: Request) -> Response:
        asked.append(request.method)
        if len(asked) == 1:
            raise failing(sqlite3.SQLITE_CORRUPT)
        return Response("whole")

    monkeypatch.setattr("rrm.view.web.app.met", lambda folder: True)
    access = Access.loopback()
    routes = [Route("/torn", torn_once, methods=["GET", "POST"])]
    for method, status, times in (("GET", 200, 2), ("POST", 500, 1)):
        asked.clear()
        with TestClient(create_app([whole], access, routes), base_url="http://127.0.0.1:8000") as client:
            client.get(f"/?token={access.token}")
            headers = {"Origin": "http://127.0.0.1:8000", "X-CSRF-Token": access.csrf}
            answer = client.request(method, "/torn", headers=headers)
        assert (answer.status_code, len(asked)) == (status, times), (method, answer.text)
