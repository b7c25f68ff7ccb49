"""Certificates: whatever is changed is found and named, with no more than the certificate, a key and the run."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm import BoundedUser, train
from rrm.command.cli import app
from rrm.core.errors import RunError
from rrm.store.store import LINKED
from rrm.trust.certifying import certify, file_of
from rrm.trust.signing import PAYLOAD, KeyProblem, make_key, sign
from rrm.trust.statement import CertificateError, Predicate, read_payload
from rrm.trust.verifying import CODES, Verified, verify
from tests import toy
from tests.label.material import pair
from tests.label.test_forgetting import NAME, judged
from tests.test_resume import tiny

pytest.importorskip("securesystemslib", reason="needs the extra trust")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "lab"
    make_key(path, "Lab")
    return path


@cache
def trained(base: Path) -> Path:
    """A small run with an assistant, trained once for all modules that take it from here."""
    out = base / "trained" / "run"
    train(toy.task(assistants=(toy.sub(),)), BoundedUser(), tiny(), out)
    return out


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Path:
    """A small run with an assistant, and its certificates in it."""
    out = shutil.copytree(trained(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("certified") / "run")
    certify(out, key=key)
    return out


@pytest.fixture
def run(certified: Path, tmp_path: Path) -> Path:
    return shutil.copytree(certified, tmp_path / "run")


def checked(run: Path, key: Path, node: str = "toy") -> Verified:
    return verify(file_of(run / "certificates", node), run, [key.with_name(f"{key.name}.pub")])


def kinds(found: Verified) -> set[str]:
    return {fault.kind for fault in found.faults}


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], key: Path) -> None:
    """Change what a certificate says, and sign it anew with a key: its owner lies."""
    payload = json.loads(read(path))
    change(payload)
    path.write_bytes(sign(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode(), key))


def read(path: Path) -> bytes:
    from rrm.trust.signing import open_envelope

    return open_envelope(path.read_bytes())[0]


# --- what holds --------------------------------------------------------------------------------------


def test_what_was_certified_holds_and_says_what_is_not_shown(certified: Path, key: Path) -> None:
    found = checked(certified, key)
    assert found.code == 0 and not found.faults and {*found.predicates} == {"toy", "toy/sub"}
    parent = found.predicates["toy"]
    assert [child.node for child in parent.children] == ["toy/sub"]
    assert any("simulated" in line for line in parent.not_shown) and any("Guarantees" in x for x in parent.not_shown)
    subjects, _ = read_payload(read(file_of(certified / "certificates", "toy")))
    assert {"agent of toy", "reward of toy", "config.json", "rows of run.db", "code of rrm"} < {*subjects}
    assert checked(certified, key, "toy/sub").code == 0


def test_a_run_that_goes_on_or_is_compacted_keeps_its_certificate(run: Path, key: Path) -> None:
    from rrm.store.store import Store

    with closing(Store(run / "run.db")) as store:
        store.log("toy", 7, "fit", 0, {"accuracy": 0.5})
        store._db.execute("VACUUM")
    found = checked(run, key)
    assert found.code == 0 and any("came later" in note for note in found.notes)


# --- what was changed --------------------------------------------------------------------------------


def opened(run: Path) -> sqlite3.Connection:
    db = sqlite3.connect(run / "run.db", isolation_level=None)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    return db


def test_a_changed_value_in_any_table_is_found(certified: Path, key: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(certified / "run.db")) as db:
        filled = [table for table in LINKED if db.execute(f"SELECT 1 FROM {table}").fetchone()]
    assert {"comparisons", "blobs", "metrics", "checkpoints", "scores", "answers"} <= {*filled}
    for table in filled:
        run = shutil.copytree(certified, tmp_path / table)
        column = LINKED[table][0].split(", ")[-1]
        keys = LINKED[table][1]
        with closing(opened(run)) as db:
            db.execute(
                f"UPDATE {table} SET {column} = {column} || '7' WHERE ({keys}) = (SELECT {keys} FROM {table} LIMIT 1)"
            )
        found = checked(run, key)
        assert found.code == CODES["changed"] and any(f"{table}: the row with" in f.what for f in found.faults), table


def logical(run: Path) -> list[Any]:
    with closing(sqlite3.connect(run / "run.db")) as db:
        return [sorted(map(repr, db.execute(f"SELECT * FROM {table}"))) for table in (*LINKED, "links")]


def test_flipped_bytes_in_any_file_are_found(certified: Path, key: Path, tmp_path: Path) -> None:
    """Of run.db all but where nothing is: a flip after which every row reads as before is none."""
    rng, run, missed = random.Random(3), tmp_path / "run", []
    shutil.copytree(certified, run)
    whole = logical(run)
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix != ""]
    assert {path.name for path in files} >= {"run.db", "config.json", "agent.safetensors", "toy.json"}
    for path in files:
        body = path.read_bytes()
        for _ in range(12 if path.name == "run.db" else 2):
            at, bit = rng.randrange(len(body)), 1 << rng.randrange(8)
            path.write_bytes(body[:at] + bytes([body[at] ^ bit]) + body[at + 1 :])
            try:
                same = path.name == "run.db" and logical(run) == whole
            except sqlite3.Error:
                same = False
            if checked(run, key).code == 0 and not same:
                missed.append((path.name, at, bit))
        path.write_bytes(body)
    assert not missed and checked(run, key).code == 0


def lie(*place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        at = statement["predicate"]
        for name in place[:-1]:
            at = at[name]
        assert at[place[-1]] != value
        at[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("changed", lie("testing", "judged", value=10**6)),
        ("changed", lie("design", "instruction", value="another")),
        ("changed", lie("not_shown", value=["nothing"])),
        ("changed", lie("children", value=[])),
        ("changed", lie("scope", "cases", value=10**6)),
        ("changed", lie("files", "config.json", value="0" * 64)),
        ("run", lie("evidence", "root", value="0" * 64)),
        ("run", lie("evidence", "size", value=10**6)),
        ("format", lie("not_shown", value=[])),
        ("format", lambda statement: statement["predicate"].update(better=True)),
        ("format", lambda statement: statement.update(more=1)),
        ("format", lambda statement: statement.update(predicateType=statement["predicateType"][:-1] + "9")),
        ("format", lambda statement: statement.update(_type="https://in-toto.io/Statement/v9")),
        ("changed", lambda statement: statement["subject"][0]["digest"].update(sha256="0" * 64)),
    ],
)
def test_a_lie_that_is_signed_well_is_found(
    kind: str, change: Callable[[dict[str, Any]], None], run: Path, key: Path
) -> None:
    rewritten(file_of(run / "certificates", "toy"), change, key)
    assert kinds(checked(run, key)) == {kind}


def test_files_and_children_that_are_others_or_gone(run: Path, key: Path) -> None:
    weights = run / "nodes" / "toy" / "0" / "agent.safetensors"
    body = weights.read_bytes()
    weights.unlink()
    assert [fault.what for fault in checked(run, key).faults] == ["nodes/toy/0/agent.safetensors is missing"]
    weights.write_bytes(body)
    child = file_of(run / "certificates", "toy/sub")
    rewritten(child, lie("made", value="2020-01-01T00:00:00+00:00"), key)
    (fault,) = checked(run, key).faults
    assert fault.what.startswith("the certificate of toy/sub is not the one it names") and "certify toy again" in (
        fault.what
    )
    child.unlink()
    (fault,) = checked(run, key).faults
    assert "is not there" in fault.what and "beside that of toy" in fault.what


def test_another_run_and_links_made_anew_are_told_apart_from_damage(run: Path, key: Path) -> None:
    from rrm.store import links

    with closing(opened(run)) as db:
        db.execute("UPDATE comparisons SET preference = 1 - preference")
        db.execute("DELETE FROM links")
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'links'")
        links.fill(db, LINKED)
    assert kinds(checked(run, key)) == {"run"}
    (run / "run.db").write_bytes((run / "run.db").read_bytes()[:5000])
    assert kinds(checked(run, key)) == {"changed"}


def test_a_person_forgotten_is_told_as_that(tmp_path: Path, key: Path) -> None:
    judged(tmp_path)
    (done,) = certify_unfinished(tmp_path, key)
    assert done.by_people.people == 2 and done.by_people.judgements > 10 and NAME not in done.model_dump_json()
    assert [judge.judgements for judge in done.judges if judge.kind == "people"] == [done.by_people.judgements]


def certify_unfinished(folder: Path, key: Path) -> list[Any]:
    """The design chapter of a node that nobody finished."""
    from rrm.trust.gathering import design_of
    from rrm.trust.snapshot import copied, linked
    from rrm.view.reading import Reader

    linked(folder)
    with copied(folder) as copy, Reader(copy) as reader:
        return [design_of(reader, copy, reader.nodes["t"], {})]


def test_rows_that_were_rewritten_are_told(run: Path, key: Path) -> None:
    from rrm.store.store import Store

    with closing(Store(run / "run.db")) as store, store.rewriting(("comparisons",)):
        store._db.execute("UPDATE comparisons SET user = 'somebody' WHERE seq = 1")
    found = checked(run, key)
    assert found.code == CODES["rewritten"] and kinds(found) == {"rewritten"}


# --- keys and signatures -----------------------------------------------------------------------------


def test_signatures_and_keys(run: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(run / "certificates", "toy")
    good = json.loads(path.read_text())
    other = tmp_path / "other"
    make_key(other, "Somebody else")
    assert kinds(checked(run, other)) == {"key"}

    def given(**changes: Any) -> Verified:
        path.write_text(json.dumps({**good, **changes}))
        return checked(run, key)

    assert kinds(given()) == set()
    assert kinds(given(signatures=[])) == {"signature"}
    assert kinds(given(payload=good["payload"][:-8] + "AAAAAAA=")) <= {"signature", "format"}
    assert kinds(given(payloadType=f"{PAYLOAD}x")) == {"format"}
    assert kinds(given(more=1)) == {"format"}
    sig = good["signatures"][0]["sig"]
    flipped = [{**good["signatures"][0], "sig": ("A" if sig[0] != "A" else "B") + sig[1:]}]
    assert kinds(given(signatures=flipped)) == {"signature"}
    path.write_text("no JSON")
    assert kinds(checked(run, key)) == {"format"}
    path.write_text(json.dumps(good))
    public = json.loads(key.with_name("lab.pub").read_text())
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    (tmp_path / "old.pub").write_text(json.dumps({**public, "expires": past}))
    assert kinds(verify(path, run, [tmp_path / "old.pub"])) == {"key"}
    with pytest.raises(KeyProblem, match="never written over"):
        make_key(key, "again")
    assert key.stat().st_mode & 0o077 == 0, "nobody else may read it"


def test_without_a_key_one_is_made_and_it_is_said_what_that_shows(certified: Path, tmp_path: Path) -> None:
    certify(certified, out=tmp_path / "certificates")
    found = verify(file_of(tmp_path / "certificates", "toy"), certified)
    assert found.code == 0 and any("not by whom" in note for note in found.notes)


def test_no_certificate_is_read_for_one() -> None:
    for body in (b"", b"[]", b"{}", b'{"_type": 3}', b"\xff"):
        with pytest.raises(CertificateError):
            read_payload(body)
    assert Predicate.model_json_schema()["additionalProperties"] is False


# --- the commands ------------------------------------------------------------------------------------


def test_the_commands_and_a_policy(run: Path, tmp_path: Path) -> None:
    def said(*command: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*command])
        return done.exit_code, done.output

    assert said("keys", str(tmp_path / "mine"), "--name", "Me")[0] == 0
    code, out = said("certify", str(run), "--key", str(tmp_path / "mine"), "--out", str(tmp_path / "c"))
    assert code == 0 and "not shown of toy" in out
    where = [str(tmp_path / "c" / "toy.json"), "--run", str(run), "--key", str(tmp_path / "mine.pub")]
    code, out = said("verify", *where)
    assert code == 0 and "holds. Taken as signed" in out and "It does not show:" in out
    policy = tmp_path / "policy.toml"
    for demands, expected in (
        ('[every]\n"testing.judged" = ">= 1"\n', 0),
        ('[every]\n"testing.judged" = ">= 100000"\n', 9),
        ('[root]\n"formal_verification" = "known"\n', 9),
        ('[root]\n"formal_verification" = "holds"\n', 9),
        ('[root]\n"testing.agreement.assisted.low" = "> 0.5"\n', 9),
        ('["toy/sub"]\n"children" = "empty"\n', 0),
        ('[root]\n"formal_verification" = "derived"\n', 9),
        ('[every]\n"design.made_with" = "derived"\n', 9),
        ('[root]\n"testing.nonsense" = ">= 1"\n', 2),
        ('[root]\n"testing.judged" = "many"\n', 2),
        ("judged = 3\n", 2),
        ('["nobody"]\n"testing.judged" = ">= 1"\n', 2),
    ):
        policy.write_text(demands)
        code, out = said("verify", *where, "--policy", str(policy))
        assert code == expected, (demands, out)
    assert json.loads(said("certify", "--schema")[1])["title"] == "Predicate"
    assert said("certify")[0] == 2 and said("verify", str(policy), "--run", str(run))[0] == 3
    code, out = said("verify", where[0], "--run", str(tmp_path), *where[3:])
    assert code == 2 and "no run there" in out


def test_what_was_found_of_these_weights_goes_in_and_of_others_does_not(run: Path, key: Path) -> None:
    from rrm.trust.shelf import keep
    from rrm.view.reading import Reader
    from tests.trust.test_left_out import kept_as

    with Reader(run) as reader:
        path = keep(reader, "toy", "guarantees", "bound", "rrm bound RUN", {"bound": 0.5})
        keep(reader, "toy", "audits", "shift", "rrm audit RUN", {"accuracy": 0.25})
    (*_, done) = certify(run, key=key)
    assert [one["found"] for one in done.predicate.guarantees.found] == [{"bound": 0.5}]
    assert [one["found"] for one in done.predicate.testing.audits] == [{"accuracy": 0.25}]
    assert not any(line.startswith("Guarantees") for line in done.predicate.not_shown)
    assert checked(run, key).code == 0
    body = path.read_text()
    path.write_text(body.replace("0.5", "0.7"))
    assert kinds(checked(run, key)) == {"changed"}
    kept_as(path, body.replace('"reward": "', '"reward": "0'))
    (*_, done) = certify(run, key=key)
    assert done.predicate.guarantees.found == () and "other weights" in done.predicate.guarantees.empty


# --- what a reviewer broke ---------------------------------------------------------------------------


def test_people_who_judge_later_change_nothing_and_one_forgotten_is_told(run: Path, key: Path, tmp_path: Path) -> None:
    from rrm.labels.forgetting import forget
    from rrm.labels.queue import Labels

    (tmp_path / "other").mkdir()
    judged(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "labels.db", run / "labels.db")
    certify(run, key=key)
    with closing(Labels(run)) as labels:
        (one,) = labels.ask("t", 2, "Which?", [pair(70)], 1, 0.0)
        labels.answer(str(uuid.uuid4()), one, "Ann", "first")
    assert checked(run, key).code == 0, checked(run, key).faults
    forget(run, NAME, "keep")
    found = checked(run, key)
    assert found.code == CODES["changed"] and any("labels.db" in fault.what for fault in found.faults)


VIEW = """
DROP INDEX comparisons_task; ALTER TABLE comparisons RENAME TO real_ones;
CREATE VIEW comparisons AS SELECT * FROM real_ones;
"""


def test_views_and_triggers_of_others_are_found(run: Path, key: Path) -> None:
    with closing(sqlite3.connect(run / "run.db", isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (run / "run.db").read_bytes()
    for script, said in (
        (VIEW, "which rrm does not make"),
        ("CREATE TRIGGER t AFTER INSERT ON metrics BEGIN SELECT 1; END;", "a trigger 't', which rrm does not make"),
        ("DROP TRIGGER metrics_no_delete; CREATE TRIGGER metrics_no_delete BEFORE DELETE ON metrics "
         "BEGIN SELECT 1; END;", "is not the one that rrm makes"),
    ):  # fmt: skip
        (run / "run.db").write_bytes(whole)
        with closing(sqlite3.connect(run / "run.db")) as db:
            db.executescript(script)
        found = checked(run, key)
        assert kinds(found) == {"changed"} and said in found.faults[0].what, script


def test_weights_that_are_no_files_of_the_run_are_not_certified_nor_verified(
    run: Path, key: Path, tmp_path: Path
) -> None:
    weights = run / "nodes" / "toy" / "0" / "agent.safetensors"
    elsewhere = tmp_path / "elsewhere"
    shutil.move(weights, elsewhere)
    weights.symlink_to(elsewhere)
    assert "is a symbolic link" in checked(run, key).faults[0].what
    with pytest.raises(RunError, match="is a symbolic link"):
        certify(run, key=key)
    weights.unlink()
    with pytest.raises(RunError, match="is missing; put it back"):
        certify(run, key=key)
    weights.write_bytes(b"noise")
    with pytest.raises(RunError, match=r"is not the file that run.db speaks of"):
        certify(run, key=key)


def test_what_does_not_agree_with_itself_is_not_signed(run: Path, key: Path) -> None:
    with closing(opened(run)) as db:
        db.execute("UPDATE comparisons SET note = 'better' WHERE seq = 1")
    with pytest.raises(RunError, match="the row with seq 1 is not what it was"):
        certify(run, key=key)


def test_a_certificate_in_the_place_of_another(run: Path, key: Path) -> None:
    from rrm.view.reading import ReadError
    from rrm.view.safety_case import case_of

    own, other = (file_of(run / "certificates", node) for node in ("toy", "toy/sub"))
    shutil.copy(own, other)
    assert kinds(verify(other, run, [key.with_name("lab.pub")])) == {"run", "changed"}
    with pytest.raises(ReadError, match="the certificate of toy, and lies where that of toy/sub should"):
        case_of(other, "toy/sub")
    assert file_of(run, "a~b") != file_of(run, "a/b")


def test_subjects_are_those_of_the_run_and_no_more(run: Path, key: Path) -> None:
    path = file_of(run / "certificates", "toy")
    rewritten(path, lambda s: s["subject"].append({"name": "agent v2", "digest": {"sha256": "0" * 64}}), key)
    assert [fault.what for fault in checked(run, key).faults] == ["the subject 'agent v2' is not that of the run"]
    rewritten(path, lambda s: s["subject"].append(dict(s["subject"][0])), key)
    assert kinds(checked(run, key)) == {"format"}
    path.write_bytes(sign(read(path).replace(b'"node":', b'"made":"x","node":', 1), key))
    assert kinds(checked(run, key)) == {"format"}


def test_a_measurement_beside_the_run_is_none_of_its_records(run: Path, key: Path) -> None:
    report = run.parent / "report.json"
    report.write_text(json.dumps({"run": {"agreement": {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 12}}}))
    (*_, done) = certify(run, key=key)
    assert done.predicate.testing.agreement["assisted"].model_dump()["value"] == 0.9
    for body in ("{}", '{"run": {"agreement": {"mean": "x", "n": "y"}}}', None):
        report.unlink() if body is None else report.write_text(body)
        found = checked(run, key)
        assert found.code == 0 and any("measured beside the run" in one.why for one in found.taken)
    report.write_text('{"run": {"agreement": {"mean": "x", "n": "y"}}}')
    certify(run, key=key)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(run: Path, key: Path) -> None:
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    assert checked(run, key).code == 0
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before, "nothing is left behind"


def test_a_run_that_is_written_to_while_it_is_copied_is_copied_again(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rrm.store.store import Store
    from rrm.trust import snapshot

    copy, left = shutil.copyfile, [3]
    with closing(Store(run / "run.db")) as store:

        def copied(source: Path, target: Path, **how: bool) -> None:
            copy(source, target, **how)
            if Path(source) == run / "run.db" and left[0]:
                left[0] -= 1
                store.log("toy", 9, "fit", left[0], {"loss": 1.0})
                store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        monkeypatch.setattr(snapshot.shutil, "copyfile", copied)
        assert checked(run, key).code == 0 and left == [0]
        left[0] = 10**6
        assert any("written to all the time" in fault.what for fault in checked(run, key).faults)
