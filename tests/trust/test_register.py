"""What was computed and lay in RUN/trust does not go without a word: run.db notes it, and certificates count it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest

from rrm.core.errors import StoreError
from rrm.core.judgements import Comparison, Judgement
from rrm.store import links
from rrm.store.store import LINKED, Origin, Store
from rrm.trust import certifying, shelf, verifying
from rrm.trust.auditing import _kept
from rrm.trust.certifying import certify, file_of
from rrm.trust.demands import unmet
from rrm.trust.gathering import LOST
from rrm.trust.machines import this_code
from rrm.trust.register import holes, shelf_of
from rrm.trust.shelf import keep, weights_of
from rrm.trust.statement import CertificateError, Chapter, Predicate, read_payload
from rrm.trust.verifying import Verified
from rrm.view.reading import Reader
from tests.label.material import pair
from tests.trust.test_certificates import certified, checked, key, kinds, opened, read, rewritten, run
from tests.trust.test_forged_entries import agreeing, forged
from tests.trust.test_left_out import found_in, told_of_chapters

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")
Body = dict[str, Any]
BOUNDS = "trust/toy/guarantees/bounds.json"
HOLDS = {"root": {"guarantees": "holds"}}


def lies(found: Predicate) -> dict[tuple[str, str], list[str]]:
    told: dict[tuple[str, str], list[str]] = {}
    for one in found.shelf or ():
        told.setdefault((one.chapter, one.name), []).append(one.lies)
    return told


def whats(found: Verified) -> str:
    return " ".join(fault.what for fault in found.faults)


def test_a_file_that_is_noted_and_gone_is_told_by_certify_and_by_verify(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    found_in(run, "audits", "mine")
    (run / BOUNDS).unlink()
    (run / "trust/toy/audits/mine.json").write_text((run / "trust/toy/audits/mine.json").read_text() + " ")
    (*_, done) = certify(run, key=key)
    assert lies(done.predicate) == {("guarantees", "bounds"): ["gone"], ("audits", "mine"): ["altered"]}
    assert not done.predicate.testing.audits, "what somebody altered is signed by nobody"
    shown = " ".join(done.predicate.not_shown)
    assert "guarantees/bounds" in shown and "audits/mine" in shown
    found = checked(run, key)
    assert found.code == 0 and told_of(found) >= {"guarantees", "testing.audits"}
    assert done.predicate.guarantees.empty == LOST
    whole = Chapter(found=({"name": "mine", "command": "", "found": {"holds": True}},))
    good = {"toy": done.predicate.model_copy(update={"guarantees": whole})}
    bare = {"toy": good["toy"].model_copy(update={"shelf": ()})}
    assert unmet(HOLDS, bare, "toy", found.taken) and not unmet(HOLDS, bare, "toy")
    for policy in (HOLDS, {"root": {"testing.audits": "empty"}}):  # noted and gone: no sign that there was nothing
        assert "which is noted" in unmet(policy, good, "toy")[0]

    def silent(predicate: Body) -> None:
        predicate["shelf"] = []

    assert "leaves out guarantees/bounds" in whats(forged(run, key, silent))
    certify(run, key=key)

    def there(predicate: Body) -> None:
        predicate["shelf"][-1]["lies"] = "there"

    assert f"{BOUNDS} is missing" in whats(forged(run, key, there))


def told_of(found: Verified) -> set[str]:
    return {one.place for one in found.taken if "nobody knows what it said" in one.why}


def test_what_a_certificate_counts_may_be_found_again_and_not_go_away_or_be_altered(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    certify(run, key=key)
    assert checked(run, key).code == 0 and not told_of(checked(run, key))
    whole = (run / BOUNDS).read_bytes()
    (run / BOUNDS).write_bytes(whole.replace(b"0.95", b"0.99"))
    assert kinds(checked(run, key)) == {"changed"} and f"{BOUNDS} is not the file" in whats(checked(run, key))
    (run / BOUNDS).unlink()
    assert kinds(checked(run, key)) == {"changed"} and f"{BOUNDS} is missing" in whats(checked(run, key))
    found_in(run, "guarantees", "bounds", 0.9)
    again = checked(run, key)
    assert again.code == 0 and any("says otherwise" in note for note in again.notes)
    (run / BOUNDS).write_bytes(whole)  # the older one, in the place of a later that somebody liked less
    assert told_of(checked(run, key)) == {"guarantees"}
    found_in(run, "guarantees", "bounds", 0.8)
    (*_, done) = certify(run, key=key)
    assert lies(done.predicate) == {("guarantees", "bounds"): ["replaced", "replaced", "there"]}
    assert any("2 times before" in line for line in done.predicate.not_shown) and checked(run, key).code == 0


def test_what_came_after_the_rows_of_a_certificate_and_is_gone_is_told_too(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    assert told_of_chapters(checked(run, key)) == {"guarantees"}
    (run / BOUNDS).unlink()
    found = checked(run, key)
    assert found.code == 0 and told_of(found) == {"guarantees"}


def test_what_was_there_before_there_was_a_register_is_counted_as_not_noted(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    with closing(opened(run)) as db:
        links.add_functions(db)
        db.executescript("DROP TABLE computed; DELETE FROM links; DELETE FROM sqlite_sequence WHERE name = 'links';"
                         "PRAGMA user_version = 6;")  # fmt: skip
        links.fill(db, {table: told for table, told in LINKED.items() if table != "computed"})
    (*_, done) = certify(run, key=key)
    assert lies(done.predicate) == {("guarantees", "bounds"): ["not noted"]} and done.predicate.guarantees.found
    assert checked(run, key).code == 0
    (run / BOUNDS).unlink()
    assert f"{BOUNDS} is missing" in whats(checked(run, key))


def test_rows_of_the_register_do_not_go_without_a_word(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    for statement in ("DELETE FROM computed", "UPDATE computed SET weights = ''", "DROP TABLE computed"):
        with closing(sqlite3.connect(run / "run.db")) as db:
            whole = list(db.iterdump())
        with closing(opened(run)) as db:
            db.executescript(statement)
        assert "computed: " in whats(checked(run, key)), statement
        (run / "run.db").unlink()
        with closing(sqlite3.connect(run / "run.db")) as db:
            links.add_functions(db)
            db.executescript("\n".join(line for line in whole if "sqlite_sequence" not in line))
            db.execute("PRAGMA user_version = 7")


def test_a_certificate_of_a_run_with_a_register_is_not_written_as_an_older_one(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_in(run, "guarantees", "bounds")
    for version in (1, 2):
        monkeypatch.setattr(certifying, "predicate_of", partial(certifying.predicate_of, version=version))
        certify(run, key=key)
        assert f"it is of version {version}, which leaves out" in whats(checked(run, key))
    body = json.loads(read(file_of(run / "certificates", "toy")))
    with pytest.raises(CertificateError, match="shelf"):
        read_payload(json.dumps(body | {"predicate": body["predicate"] | {"shelf": []}}).encode())
    newer, kind = body["predicate"] | {"version": 3}, f"{body['predicateType'][:-1]}3"
    with pytest.raises(CertificateError, match="shelf"):
        read_payload(json.dumps(body | {"predicateType": kind, "predicate": newer}).encode())


def test_a_certificate_of_version_two_of_before_the_register_holds(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifying, "predicate_of", partial(certifying.predicate_of, version=2))
    (*_, done) = certify(run, key=key)
    assert done.predicate.version == 2 and done.predicate.shelf is None and checked(run, key).code == 0
    found_in(run, "guarantees", "bounds")
    (run / BOUNDS).unlink()
    found = checked(run, key)
    assert found.code == 0 and told_of(found) == {"guarantees"}, "noted later, and gone"


def test_a_name_on_a_shelf_leads_nowhere_else(run: Path, key: Path) -> None:
    def elsewhere(predicate: Body) -> None:
        predicate["shelf"] = [{"chapter": "..", "name": "../config", "sha256": "0" * 64, "lies": "not noted"}]

    certify(run, key=key)
    assert "is missing" in whats(forged(run, key, elsewhere))
    rewritten(file_of(run / "certificates", "toy"), agreeing(run, lambda said: said.update(shelf=[])), key)
    assert checked(run, key).code == 0


class NoRoom(Store):
    """A store whose disk is full when it comes to note something, or when that is to be kept."""

    late = False

    def note_computed(self, *args: Any, **more: Any) -> None:
        with self._writing():
            if self.late and args[-1] is not None:
                args[-1]()
            raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("late", [False, True])
def test_what_cannot_be_noted_is_not_kept(
    late: bool, run: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoRoom, "late", late)
    for before in (False, True):
        if before:
            found_in(run, "guarantees", "bounds")
        whole = (run / BOUNDS).read_bytes() if before else None
        with monkeypatch.context() as full:
            full.setattr(shelf, "Store", NoRoom)
            with pytest.raises(StoreError, match="full"):
                found_in(run, "guarantees", "bounds", 0.9)
        assert whole == ((run / BOUNDS).read_bytes() if (run / BOUNDS).exists() else None)
    (*_, done) = certify(run, key=key)
    assert lies(done.predicate) == {("guarantees", "bounds"): ["there"]}


def test_of_two_commands_at_once_the_last_that_is_noted_is_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is slow to be noted after its file was written: the second waits with its own."""
    write, wrote = shelf.write_atomically, Event()

    def slow(path: Path, body: bytes) -> None:
        write(path, body)
        if not wrote.is_set():
            wrote.set()
            sleep(0.3)

    monkeypatch.setattr(shelf, "write_atomically", slow)
    first = Thread(target=found_in, args=(run, "guarantees", "bounds"))
    first.start()
    assert wrote.wait(5)
    found_in(run, "guarantees", "bounds", 0.9)
    first.join()
    with Reader(run) as reader:
        assert [one.lies for one in shelf_of(run, reader, "toy")] == ["replaced", "there"]


def test_what_was_killed_before_it_was_noted_is_no_audit_that_is_done(run: Path) -> None:
    found_in(run, "audits", "planted")
    path = run / "trust/toy/audits/planted.json"
    with Reader(run) as reader:
        weights = weights_of(reader, "toy")
        assert _kept(reader, "toy", "planted", weights) == {"holds": False}
        path.write_text(path.read_text().replace("false", "true"))
        assert "holds" not in _kept(reader, "toy", "planted", weights)
        said = " ".join(holes(shelf_of(run, reader, "toy")))
        assert "another is" in said and "rrm prove, bound, explain or audit" in said
    found_in(run, "audits", "planted")
    with Reader(run) as reader:
        assert _kept(reader, "toy", "planted", weights) == {"holds": False}


def test_the_same_that_is_found_again_where_it_was_gone_is_noted_anew(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    (run / BOUNDS).unlink()
    certify(run, key=key)
    found_in(run, "guarantees", "bounds")
    assert checked(run, key).code == 0 and told_of_chapters(checked(run, key)) == {"guarantees"}
    certify(run, key=key)
    (run / BOUNDS).unlink()
    found_in(run, "guarantees", "bounds")
    assert checked(run, key).code == 0
    (run / BOUNDS).unlink()
    assert told_of(checked(run, key)) == {"guarantees"}, "noted after the certificate, and gone"


def test_what_is_found_while_a_run_is_certified_or_verified_is_no_alarm(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_in(run, "guarantees", "bounds")
    left = [0.9, 0.8]

    def meanwhile(called: Any, *args: Any, **more: Any) -> Any:
        if left:
            found_in(run, "guarantees", "bounds", left.pop())
        return called(*args, **more)

    monkeypatch.setattr(certifying, "_records", partial(meanwhile, certifying._records))
    (*_, done) = certify(run, key=key)
    assert lies(done.predicate) == {("guarantees", "bounds"): ["replaced", "replaced", "there"]} and not left
    left.append(0.7)
    monkeypatch.setattr(verifying, "evidence_of", partial(meanwhile, verifying.evidence_of))
    found = checked(run, key)
    assert found.code == 0 and not left and any("says otherwise" in note for note in found.notes)


def test_one_more_judgement_makes_no_failed_audit_go_without_a_word(run: Path, key: Path) -> None:
    """It is of fewer judgements then, and in no chapter: the certificate says so, and no policy takes that for none."""
    held, none = {"root": {"testing.audits": "holds"}}, {"root": {"testing.audits": "empty"}}
    each = {"root": {"testing.audits.*.found.holds": "known, if any"}}
    audited(run, "irrelevant", False)
    (*_, done) = certify(run, key=key)
    assert [one["name"] for one in done.predicate.testing.audits] == ["irrelevant"]
    assert not any("audits/irrelevant" in line for line in done.predicate.not_shown)
    imported = Comparison(replace(pair(0), task="toy"), Judgement(1.0), -1, "imported(x)")
    with closing(Store(run / "run.db")) as store:
        store.bring([(imported, 0, [Origin("ab", "f", 1)])])
    (*_, done) = certify(run, key=key)
    assert not done.predicate.testing.audits and lies(done.predicate) == {("audits", "irrelevant"): ["there"]}
    assert any("audits/irrelevant" in line and "lies there" in line for line in done.predicate.not_shown)
    found = checked(run, key)
    assert found.code == 0
    for policy in (held, none, each):
        assert unmet(policy, found.predicates, "toy", found.taken), policy
    assert "does not have irrelevant, which lies there" in unmet(none, found.predicates, "toy")[0]
    audited(run, "planted", True)
    (*_, done) = certify(run, key=key)
    assert any("irrelevant" in line for line in unmet(held, {"toy": done.predicate}, "toy")), "another that holds"
    audited(run, "irrelevant", True)
    (*_, done) = certify(run, key=key)
    assert not unmet(held, {"toy": done.predicate}, "toy")


def audited(run: Path, name: str, holds: bool) -> None:
    with Reader(run) as reader:
        inputs = {"cases": 2, "budget": 2, "seed": 0, "shifted": False, "asked": "bounded(attention=6)"}
        keep(reader, "toy", "audits", name, f"rrm audit RUN toy --only {name}", {"holds": holds}, inputs, this_code())


def test_the_same_file_is_noted_once(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "run.db")) as store:
        for digest in ("a", "a", "b", "a"):
            store.note_computed("toy", "guarantees", "bounds", digest, "w")
        assert [row for row in store._db.execute("SELECT nth, sha256 FROM computed ORDER BY nth")] == [
            (0, "a"), (1, "b"), (2, "a")
        ]  # fmt: skip
