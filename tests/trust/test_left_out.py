"""Who signs less than there is, or puts a text where a figure or a known reason belongs, is found or told of."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rrm.core.errors import RunError
from rrm.labels.queue import Labels
from rrm.store import links
from rrm.store.store import LINKED, Store
from rrm.trust import certifying
from rrm.trust.certifying import certify, file_of
from rrm.trust.demands import unmet
from rrm.trust.gathering import design_of
from rrm.trust.guarantees import bounded
from rrm.trust.machines import this_code
from rrm.trust.shelf import OLD, keep
from rrm.trust.snapshot import copied, cut, databases_of
from rrm.trust.statement import Chapter, Given, digest_of
from rrm.trust.verifying import Verified
from rrm.trust.who_judged import SAID
from rrm.view.reading import Reader
from tests.label.material import pair
from tests.trust.test_certificates import certified, checked, key, kinds, opened, read, rewritten, run
from tests.trust.test_forged_entries import FIGURE, agreeing, forged

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")
ALONE = {"not_known": "nobody judged what somebody else judged, too"}
Body = dict[str, Any]
N = 12
"""Pairs that people judged."""


@pytest.fixture(scope="module")
def disagreeing(certified: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two people judged, who agree half of the time; its links were made anew for this."""
    run = shutil.copytree(certified, tmp_path_factory.mktemp("people") / "run")
    pairs = [pair(i) for i in range(N)]
    with closing(Labels(run)) as labels:
        ids = labels.ask("toy", 0, "Which?", pairs, 2, 0.0)
        for n, asked in enumerate(ids):
            labels.answer(str(uuid.uuid4()), asked, "Zoe", "first")
            labels.answer(str(uuid.uuid4()), asked, "Ben", "second" if n % 2 else "first")
        taken = labels.take(ids)
    assert taken is not None
    with relinked(run) as bare:
        bare.execute("UPDATE comparisons SET user = 'human(Zoe, Ben)' WHERE task = 'toy'")
        names = [name for (name,) in bare.execute("SELECT name FROM pragma_table_info('comparisons')") if name != "seq"]
        for one, id in zip(pairs, ids, strict=True):
            values = ", ".join({"pair": "?", "preference": "?"}.get(name, name) for name in names)
            bare.execute(f"INSERT INTO comparisons ({', '.join(names)}) SELECT {values} FROM comparisons"
                         " WHERE task = 'toy' AND purpose != 'derived' LIMIT 1",
                         (one.id, taken[id].preference))  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"user": {"name": "human"}}))
    return run


@contextmanager
def relinked(run: Path) -> Iterator[sqlite3.Connection]:
    """A run's rows, to be changed, and linked anew: as if it had been so from the start."""
    with closing(sqlite3.connect(run / "run.db")) as db:
        triggers = db.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    with closing(opened(run)) as bare:
        yield bare
        bare.execute("DELETE FROM links")
        bare.execute("DELETE FROM sqlite_sequence WHERE name = 'links'")
        links.fill(bare, LINKED)
        for (sql,) in triggers:
            bare.execute(sql)


@pytest.fixture
def people(disagreeing: Path, tmp_path: Path) -> Path:
    return shutil.copytree(disagreeing, tmp_path / "run")


def all_forged(run: Path, key: Path, change: Callable[[Body], None]) -> Verified:
    """The same change in the certificates of parent and child, which name each other as they should."""
    certify(run, key=key)
    rewritten(file_of(run / "certificates", "toy/sub"), agreeing(run, change), key)
    below = digest_of(read(file_of(run / "certificates", "toy/sub")))

    def parent(predicate: Body) -> None:
        predicate["children"][0]["sha256"] = below
        for helper in predicate["design"]["assistants"]:
            helper["certificate"] = below
        change(predicate)

    return forged(run, key, parent)


def alpha(found: Verified) -> Body:
    (judge,) = found.predicates["toy"].design.judges
    return judge.alpha.model_dump()


def test_that_people_disagree_is_not_hidden_by_leaving_out_their_labels(people: Path, key: Path) -> None:
    certify(people, key=key)
    honest = checked(people, key)
    assert honest.code == 0 and alpha(honest)["value"] < 0.5 and not any("labels" in one.why for one in honest.taken)

    def silent(predicate: Body) -> None:
        del predicate["databases"]["labels.db"]
        for judge in predicate["design"]["judges"]:
            judge["alpha"] = ALONE if judge["kind"] == "people" else judge["alpha"]

    found = all_forged(people, key, silent)
    assert found.code == 0 and alpha(found) == ALONE
    told = {(one.node, one.place) for one in found.taken if "labels.db" in one.why}
    assert told == {("toy", "design.judges"), ("toy/sub", "design.judges"), ("toy", "design.judges[0].alpha")}
    (people / "labels.db").unlink()
    assert ("toy", "design.judges[0].alpha") in {(one.node, one.place) for one in checked(people, key).taken}


def test_of_labels_that_were_cut_it_is_said_how_many_came_later(people: Path, key: Path) -> None:
    def first(predicate: Body) -> None:
        with copied(people) as copy:
            rows = {table: tuple(one) for table, one in predicate["databases"]["labels.db"].items()}
            cut(copy, predicate["evidence"]["size"], {"labels.db": {**rows, "labels": (2, "")}})
            predicate["databases"] = json.loads(json.dumps(databases_of(copy)))
            with Reader(copy) as reader:
                below = {one["node"]: one["sha256"] for one in predicate["children"]}
                design = design_of(reader, copy, reader.nodes[predicate["node"]], below)
        predicate["design"] = design.model_dump(mode="json")

    found = all_forged(people, key, first)
    assert found.code == 0 and alpha(found) != FIGURE
    later = f"labels.db: {2 * N - 2} rows of labels came later"
    assert any(note.startswith(later) for note in found.notes), found.notes


def test_endpoint_calls_that_are_not_named_are_told_of(run: Path, key: Path) -> None:
    from rrm.models.endpoints import Ledger

    certify(run, key=key)
    Ledger(run / "calls.db").close()
    found = checked(run, key)
    assert found.code == 0 and {one.place for one in found.taken if "calls.db" in one.why} == {"databases"}


def test_the_configuration_is_among_the_files_and_others_are_told_of(run: Path, key: Path) -> None:
    def without(predicate: Body) -> None:
        del predicate["files"]["config.json"]

    def bare(statement: Body) -> None:
        agreeing(run, without)(statement)
        for subject in statement["subject"]:
            if subject["name"] == "config.json":
                subject["digest"] = {"sha256": ""}

    for node in ("toy/sub", "toy"):
        certify(run, key=key)
        rewritten(file_of(run / "certificates", node), bare, key)
        assert any("config.json is not among" in fault.what for fault in checked(run, key, node).faults)
    certify(run, key=key)
    assert not any("does not speak of" in note for note in checked(run, key).notes)
    (run / "more.json").write_text("{}")
    (run / "link").symlink_to("more.json")
    found = checked(run, key)
    assert found.code == 0 and "files that the certificate does not speak of: link, more.json" in found.notes


FREE = "it was proved elsewhere, and needs no figure"


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(formal_verification={"found": [], "empty": ""}),
        lambda said: said.update(interpretability={"found": [], "empty": FREE}),
        lambda said: said.update(guarantees={"found": [{"name": "x", "command": "", "found": {}}], "empty": FREE}),
        lambda said: said["testing"].update(agreement={"everything": {"not_known": FREE}}),
        lambda said: said["testing"].update(agreement={}),
        lambda said: said["testing"]["agreement"].update(assisted={"not_known": FREE}),
        lambda said: said["testing"]["agreement"].update(unassisted=FIGURE),
        lambda said: said["testing"]["agreement"].update(of_all_people=FIGURE),
    ],
)
def test_no_text_stands_where_a_figure_or_a_known_reason_belongs(
    change: Callable[[Body], None], run: Path, key: Path
) -> None:
    found = forged(run, key, change)
    assert kinds(found) == {"changed"} and any("it says" in fault.what for fault in found.faults)


def test_agreement_that_was_measured_is_of_the_root_and_taken_as_signed(run: Path, key: Path) -> None:
    def measured(predicate: Body) -> None:
        predicate["testing"]["agreement"]["assisted"] = FIGURE

    found = forged(run, key, measured)
    assert found.code == 0
    assert unmet({"root": {"testing.agreement.assisted": "derived"}}, found.predicates, "toy", found.taken)
    rewritten(file_of(run / "certificates", "toy/sub"), agreeing(run, measured), key)
    assert kinds(checked(run, key, "toy/sub")) == {"changed"}


# --- who judged --------------------------------------------------------------------------------------


def renamed(run: Path, sql: str, *values: Any) -> None:
    """Change labels.db as whoever has the file can."""
    with closing(sqlite3.connect(run / "labels.db")) as db, db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute(sql, values)
        for _, made in triggers:
            db.execute(made)


@pytest.mark.parametrize("name", ["bounded(attention=6)", "Ann, Ben", "x" * 41, " Ann", "", "Ann\u202e"])
def test_a_labeler_of_a_name_that_nobody_could_give_is_refused(name: str, people: Path, key: Path) -> None:
    certify(people, key=key)
    renamed(people, "UPDATE labels SET labeler = ? WHERE labeler = 'Zoe'", name)
    assert any("takes from nobody" in one.what for one in checked(people, key).faults)
    with pytest.raises(RunError, match="takes from nobody"):
        certify(people, key=key)


def test_labels_alone_make_nobody_of_whoever_judged_and_no_agreement(run: Path, key: Path) -> None:
    """The judge of this run is a program: a file beside it makes no people of it, by whatever name."""
    with closing(Labels(run)) as labels:
        for asked in labels.ask("toy", 0, "Which?", [pair(i) for i in range(12)], 2, 0.0):
            for name in ("Zoe", "Ben"):
                labels.answer(str(uuid.uuid4()), asked, name, "first")
    certify(run, key=key)
    found = checked(run, key)
    assert found.code == 0
    assert {(one.kind, one.people, "not_known" in one.alpha.model_dump()) for one in
            found.predicates["toy"].design.judges} == {("simulated", 0, True)}  # fmt: skip


def test_a_program_that_calls_itself_people_is_none(people: Path, key: Path) -> None:
    config = json.loads((people / "config.json").read_text())
    for name, kind in (("bounded(attention=6)", "other"), ("human(Zoe, Ben)", "other"), ("unaided(human)", "people"),
                       ("human", "people")):  # fmt: skip
        (people / "config.json").write_text(json.dumps(config | {"user": {"name": name}}))
        (*_, done) = certify(people, key=key)
        assert {judge.kind for judge in done.predicate.design.judges} == {kind}, name


def test_agreement_is_of_labels_that_made_a_judgement(people: Path, key: Path) -> None:
    """Others came later, are of pairs that nobody judged, or say otherwise than run.db does: they count nowhere."""
    certify(people, key=key)
    honest = alpha(checked(people, key))
    assert honest["cases"] == N
    with closing(Labels(people)) as labels:
        for asked in labels.ask("toy", 0, "Which?", [pair(i) for i in range(30)], 3, 0.0):
            labels.answer(str(uuid.uuid4()), asked, "Ann", "first")
            for name in ("Zoe", "Ben"):
                labels.answer(str(uuid.uuid4()), asked, name, "first")
    (*_, done) = certify(people, key=key)
    assert [judge.alpha.model_dump() for judge in done.predicate.design.judges] == [honest]
    renamed(people, "UPDATE labels SET preference = 1.0 WHERE question IN (SELECT id FROM questions)")
    (*_, done) = certify(people, key=key)
    (judge,) = done.predicate.design.judges
    assert judge.alpha.model_dump().get("value", 0.0) < 0.5, "agreement that nobody showed"


# --- what was computed ---------------------------------------------------------------------------------


def found_in(run: Path, chapter: Any, name: str, confidence: float = 0.95) -> None:
    """Something for a chapter, as a command keeps it: bounds are derived again, and others are nobody's business."""
    with Reader(run) as reader:
        told = [one.plain() for one in bounded(reader, "toy", confidence, {})]
        body = {"statements": told, "confidence": confidence} if name == "bounds" else {"holds": False}
        command = f"rrm bound RUN toy --confidence {confidence:g}"
        inputs = {"confidence": confidence} if name == "bounds" else None
        keep(reader, "toy", chapter, name, command, body, inputs, this_code())


def kept_as(place: Path, text: str) -> None:
    """Another body of something that is kept of the root's weights, noted as a command notes it."""
    place.write_text(text)
    with closing(Store(place.parents[3] / "run.db")) as store:
        digest = hashlib.sha256(text.encode()).hexdigest()
        store.note_computed("toy", place.parent.name, place.stem, digest, "other weights")


def told_of_chapters(found: Verified) -> set[str]:
    return {one.place for one in found.taken if "not in the certificate" in one.why or "no such thing" in one.why}


def test_what_fails_and_lies_in_the_run_is_not_left_out_without_a_word(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    certify(run, key=key)
    found_in(run, "guarantees", "mine")
    found_in(run, "audits", "mine")
    found = checked(run, key)  # as of whoever signs only the rows of before
    certify(run, key=key)
    honest = checked(run, key)
    assert honest.code == 0 and not told_of_chapters(honest)

    def less(predicate: Body) -> None:
        predicate["guarantees"]["found"] = [one for one in predicate["guarantees"]["found"] if one["name"] == "bounds"]
        predicate["testing"]["audits"] = []

    lying = forged(run, key, less)
    assert kinds(lying) == {"changed"} and sum("leaves out trust/" in fault.what for fault in lying.faults) == 2
    assert found.code == 0 and told_of_chapters(found) == {"guarantees", "testing.audits"}
    policy = {"root": {"guarantees": "derived"}}
    assert any("left it out" in one for one in unmet(policy, found.predicates, "toy", found.taken))
    whole = {"name": "bounds", "command": "", "found": {"holds": True}}
    good = found.predicates["toy"].model_copy(update={"guarantees": Chapter(found=(whole,))})
    for place in ("guarantees", "guarantees.found"):
        assert unmet({"root": {place: "holds"}}, {"toy": good}, "toy", found.taken)
        assert not unmet({"root": {place: "holds"}}, {"toy": good}, "toy", honest.taken)


def test_that_something_is_of_other_weights_is_asked_of_what_lies_there(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    certify(run, key=key)
    old = forged(run, key, lambda predicate: predicate.update(guarantees={"found": [], "empty": OLD}))
    assert kinds(old) == {"changed"} and told_of_chapters(old) == {"guarantees"}
    place = run / "trust" / "toy" / "guarantees" / "bounds.json"
    body = json.loads(place.read_text())
    kept_as(place, json.dumps(body | {"weights": {"agent": "", "reward": ""}}))
    certify(run, key=key)
    assert checked(run, key).code == 0 and not told_of_chapters(checked(run, key)), "then it is so"
    kept_as(place, "[" * 100_000)
    assert any("cannot be read" in note for note in checked(run, key).notes)
    place.unlink()
    place.symlink_to(run / "config.json")
    assert [fault.what.split(" is a symbolic")[0] for fault in checked(run, key).faults] == [
        "trust/toy/guarantees/bounds.json"
    ]


def test_what_was_found_again_otherwise_is_told_in_a_note(run: Path, key: Path) -> None:
    found_in(run, "guarantees", "bounds")
    certify(run, key=key)
    found_in(run, "guarantees", "bounds", 0.9)
    found = checked(run, key)
    assert found.code == 0 and not told_of_chapters(found) and any("says otherwise" in note for note in found.notes)


def test_a_certificate_below_that_is_not_named_is_told_of(run: Path, key: Path) -> None:
    def alone(predicate: Body) -> None:
        predicate["children"] = []
        for helper in predicate["design"]["assistants"]:
            helper["certificate"] = None

    assert not any("does not name" in note for note in checked(run, key).notes)
    found = forged(run, key, alone)
    assert found.code == 0 and any("does not name: toy/sub" in note for note in found.notes)
    policy = {"root": {"design.assistants.*.certificate": "known"}}
    assert unmet(policy, found.predicates, "toy", found.taken)
    certify(run, key=key)
    honest = checked(run, key)
    assert not unmet(policy, honest.predicates, "toy", honest.taken)


def imported_too(run: Path) -> None:
    """Judgements of a file that says that people gave them: by names, of whom one labeled here, too, and a vote."""
    with relinked(run) as bare:
        names = [name for (name,) in bare.execute("SELECT name FROM pragma_table_info('comparisons')") if name != "seq"]
        for n, user in enumerate(("human(Zoe, Una)", "3 people", "Zoe")):
            values = ", ".join({"pair": "?", "user": "?", "round": "-1"}.get(name, name) for name in names)
            order = sorted((names.index("pair"), names.index("user")))
            given = [f"imported {n}" if names[at] == "pair" else user for at in order]
            bare.execute(f"INSERT INTO comparisons ({', '.join(names)}) SELECT {values} FROM comparisons"
                         " WHERE task = 'toy' AND purpose != 'derived' LIMIT 1", given)  # fmt: skip


def test_what_a_file_calls_people_s_is_counted_apart_from_people_who_labeled(people: Path, key: Path) -> None:
    (*_, before) = certify(people, key=key)
    imported_too(people)
    (*_, done) = certify(people, key=key)
    design, was = done.predicate.design, before.predicate.design
    assert design.by_people == was.by_people and design.imported_as_people == Given(judgements=2, people=3)
    assert {(judge.name, judge.kind, judge.judgements, judge.people) for judge in design.judges} == {
        *((judge.name, judge.kind, judge.judgements, judge.people) for judge in was.judges),
        (SAID, "imported", 2, 0), ("imported", "imported", 1, 0),
    }  # fmt: skip
    assert any("a file said so" in line for line in done.predicate.not_shown)
    found = checked(people, key)
    assert found.code == 0

    def said(place: str, demand: str) -> list[str]:
        return unmet({"root": {place: demand}}, found.predicates, "toy", found.taken)

    n = design.by_people.model_dump()["judgements"]
    assert not said("design.by_people.judgements", f">= {n}") and said("design.by_people.judgements", f">= {n + 1}")
    assert any("in design.imported_as_people" in one for one in said("design.judges.*.people", ">= 2"))
    assert not said("design.imported_as_people.people", ">= 3"), "who wants those has to say so"


def test_an_older_certificate_that_counts_imported_ones_as_people_s_meets_no_demand_with_them(
    people: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "design.judges.*.people"
    monkeypatch.setattr(certifying, "predicate_of", partial(certifying.predicate_of, version=2))
    for imported in (False, True):
        if imported:
            imported_too(people)
        certify(people, key=key)
        found = checked(people, key)
        (judge,) = found.predicates["toy"].design.judges
        assert found.code == 0 and judge.kind == "people", "as it was counted then"
        unfulfilled = unmet({"root": {place: ">= 2"}}, found.predicates, "toy", found.taken)
        assert bool(unfulfilled) == imported and all("is what a file said" in one for one in unfulfilled)
        assert unmet({"root": {"design.by_people.judgements": ">= 0"}}, found.predicates, "toy", found.taken)
