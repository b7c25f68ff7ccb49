"""What truth.db says goes into certificates and reports; while it is there no number of it can be changed unseen."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rrm import BoundedUser, train
from rrm.core.errors import RunError
from rrm.store.store import Store
from rrm.store.truths import FILE, Told, TrueOutcome, Truths
from rrm.trust import reporting
from rrm.trust.certifying import certify, file_of
from rrm.trust.gathering import not_shown_of
from rrm.trust.judged_where import ANYWHERE, IN_A_WORLD, of_rrm
from rrm.trust.plain_words import in_words
from rrm.trust.report_figures import DrawnFigure
from rrm.trust.reported import MISSING, told_of
from rrm.trust.reporting import judged_by, report
from rrm.trust.statement import Figure, Predicate, read_payload
from rrm.trust.true_figures import UNASKED
from rrm.trust.verifying import _Check, _numbers, verify
from rrm.view.challenge_records import UNTRUE
from rrm.view.reading import Reader
from rrm.view.safety_case import as_markdown, case_of
from rrm.view.truth import WHILE, rightness
from tests import toy
from tests.test_resume import tiny
from tests.trust.test_certificates import checked, key, kinds, read, rewritten  # noqa: F401 (key is a fixture)
from tests.trust.test_deriving import changed, numbers

THREE = ("interpretability", "formal_verification", "guarantees")
pytest.importorskip("securesystemslib", reason="needs the extra trust")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, not certified yet, with a truth beside it in which outcomes differ: this one is made up."""
    out = tmp_path_factory.mktemp("true") / "run"
    train(toy.task(assistants=(toy.sub(),)), BoundedUser(), tiny(), out)
    with closing(Store(out / "run.db")) as store, closing(Truths(out)) as truths:
        truths.begin("code")
        truths.put(
            TrueOutcome("toy", case, outcome, n * 7 % 10 / 10, {"even": n % 2 == 0}, said,
                        (Told("toy/sub", 2, n % 2, 2, n % 3 == 0),))
            for n, (case, outcome, said) in enumerate(store.compared("toy"))
        )  # fmt: skip
    return out


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def said(run: Path, node: str = "toy") -> tuple[dict[str, dict[str, str]], Predicate]:
    return read_payload(read(file_of(run / "certificates", node)))


def test_a_certificate_has_the_figures_of_the_pages(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    found = checked(run, key)
    assert found.code == 0 and any("figures by the truth follow from truth.db" in note for note in found.notes)
    assert not any("by_truth" in one.place for one in found.taken)
    subjects, predicate = said(run)
    told = predicate.testing.by_truth
    assert told is not None and "rows of truth.db" in subjects and {*predicate.databases} == {FILE}
    with Reader(run) as reader:
        shown = {one.who: one.share for one in rightness(reader, "toy", 60) or ()}
    assert isinstance(told.user, Figure) and isinstance(told.reward_model, Figure)
    for figure, known in ((told.user, shown["user"]), (told.reward_model, shown["reward model"])):
        assert known is not None and (figure.value, figure.n, figure.cases) == (known.mean, known.n, known.cases)
    (helper,) = told.assistants
    assert helper.node == "toy/sub" and isinstance(helper.right_of_holding, Figure)


def test_every_number_by_the_truth_is_found_again(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    payload, predicate = read(file_of(run / "certificates", "toy")), said(run)[1]
    body, tried = predicate.model_dump(mode="json"), 0
    with Reader(run) as reader:
        check = _Check(run, run, reader, run / "certificates", {}, verify(run, run), False)
        assert not [*_numbers(check, payload, predicate)]
        for where in numbers(body["testing"]["by_truth"]):
            lie = {**body, "testing": {**body["testing"], "by_truth": changed(body["testing"]["by_truth"], where)}}
            told = [*_numbers(check, payload, Predicate.model_validate(lie))]
            assert any("testing.by_truth" in line and str(where[-1]) in line for line in told), (where, told)
            tried += 1
    assert tried > 12


def lie(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    return lambda statement: change(statement["predicate"])


@pytest.mark.parametrize(
    "change",
    [
        lie(lambda predicate: predicate["testing"].update(by_truth=None)),
        lie(lambda predicate: predicate["testing"]["by_truth"].update(code="0")),
        lie(lambda predicate: predicate["databases"].pop(FILE)),
        lambda statement: [one["digest"].update(sha256="0") for one in statement["subject"] if FILE in one["name"]],
    ],
)
def test_a_lie_about_the_truth_is_found(run: Path, key: Path, change: Callable[[Any], None]) -> None:  # noqa: F811
    certify(run, key=key)
    rewritten(file_of(run / "certificates", "toy"), change, key)
    assert kinds(checked(run, key)) == {"changed"}


def test_a_changed_truth_is_found_and_one_that_is_gone_is_said_to_be(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    (run / FILE).rename(run.parent / FILE)
    for table, column in (("outcomes", "score"), ("facts", "holds"), ("said", "misses"), ("origin", "code")):
        shutil.copy(run.parent / FILE, run / FILE)
        with closing(sqlite3.connect(run / FILE)) as db, db:
            db.execute(f"UPDATE {table} SET {column} = {column} + 1")
        found = checked(run, key)
        assert kinds(found) == {"changed"} and any(f"databases.{FILE}.{table}" in f.what for f in found.faults), table
    (run / FILE).write_bytes(b"no database at all " * 100)
    assert kinds(checked(run, key)) == {"changed"}
    with pytest.raises(RunError, match=r"truth.db is damaged"):
        certify(run, key=key)
    (run / FILE).unlink()
    found = checked(run, key)
    assert found.code == 0 and any(
        one.place == "testing.by_truth" and "is not there" in one.why for one in found.taken
    ), "what it says is the word of whoever signed"


PERFECT = {"value": 1.0, "low": 0.99, "high": 1.0, "n": 5000, "cases": 900}


def consistent(run: Path, predicate: dict[str, Any]) -> None:
    """Say as not shown what follows from what else it says, as whoever forges well does."""
    said = Predicate.model_validate(predicate)
    with Reader(run) as reader:
        parts = {name: getattr(said, name) for name in ("design", "testing", "scope", *THREE)}
        not_shown = not_shown_of(reader, reader.nodes[said.node], parts, said.children, said.version)
    predicate["not_shown"] = [*not_shown]


def unnamed(statement: dict[str, Any]) -> None:
    statement["predicate"]["databases"].pop(FILE, None)
    statement["subject"] = [one for one in statement["subject"] if FILE not in one["name"]]


@pytest.mark.parametrize("there", [True, False])
def test_figures_by_a_truth_that_is_not_named_are_invented(run: Path, key: Path, there: bool) -> None:  # noqa: F811
    def invent(statement: dict[str, Any]) -> None:
        unnamed(statement)
        told = {name: PERFECT for name in ("user", "reward_model", "held_out")}
        statement["predicate"]["testing"]["by_truth"] = {"code": "x", **told, "assistants": [], "unmeasured": 0}
        consistent(run, statement["predicate"])

    if not there:
        (run / FILE).unlink()
    for node in ("toy/sub", "toy"):
        certify(run, node, key=key)
        rewritten(file_of(run / "certificates", node), invent, key)
        found = checked(run, key, node)
        assert kinds(found) == {"changed"} and any("testing.by_truth" in fault.what for fault in found.faults)


def test_who_leaves_the_truth_out_is_told_of_and_a_child_names_what_its_parent_does(
    run: Path, key: Path  # noqa: F811
) -> None:
    def silent(statement: dict[str, Any]) -> None:
        unnamed(statement)
        statement["predicate"]["testing"]["by_truth"] = None
        for one in statement["predicate"]["testing"]["agreement"].values():
            one["not_known"] = "nobody measured it: the truth is not known here, or was not asked for"
        consistent(run, statement["predicate"])

    certify(run, "sub", key=key)
    rewritten(file_of(run / "certificates", "toy/sub"), silent, key)
    found = checked(run, key, "toy/sub")
    assert found.code == 0 and any("truth.db lies there" in note for note in found.notes)
    certify(run, key=key)
    rewritten(file_of(run / "certificates", "toy"), silent, key)
    found = checked(run, key)
    assert kinds(found) == {"changed"} and any("of other databases" in fault.what for fault in found.faults)


@pytest.mark.parametrize(("version", "kind"), [(99, "format"), (0, "changed")])
def test_a_truth_of_another_version_is_not_taken_for_one_that_is_gone(
    run: Path, key: Path, version: int, kind: str  # noqa: F811
) -> None:
    certify(run, key=key)
    lied = lie(lambda predicate: predicate["testing"]["by_truth"].update(user=PERFECT))
    rewritten(file_of(run / "certificates", "toy"), lied, key)
    with closing(sqlite3.connect(run / FILE)) as db, db:
        db.execute(f"PRAGMA user_version = {version}")
    found = checked(run, key)
    assert kinds(found) == {kind} and any(FILE in fault.what for fault in found.faults)


def test_what_is_measured_later_changes_nothing(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    with closing(Truths(run)) as truths:
        told = (Told("toy/sub", 9, 9, 9, 9),)
        truths.put([TrueOutcome("toy", "another", "outcome", 0.5, {"even": True}, "said", told)])
        truths._db.execute("VACUUM")
    found = checked(run, key)
    assert found.code == 0, found.faults


def test_a_certificate_of_before_holds_whatever_lies_beside_its_run(run: Path, key: Path) -> None:  # noqa: F811
    (run / FILE).rename(run.parent / FILE)
    certify(run, key=key)
    assert said(run)[1].testing.by_truth is None and not said(run)[1].databases
    shutil.copy(run.parent / FILE, run / FILE)
    assert checked(run, key).code == 0
    (run / FILE).write_bytes(b"no database at all " * 100)
    assert checked(run, key).code == 0


def test_a_report_says_who_is_right_or_that_nobody_measured_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "draw", lambda runs, node: DrawnFigure(b"<svg/>", b"%PDF"))
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    text = report([run], run.parent / "with", "rrm report").markdown.read_text()
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before
    (told,) = told_of([run])
    figure = told.nodes["toy"].testing.by_truth
    assert figure is not None and isinstance(figure.user, Figure)
    after = text.partition("### By the truth")[2]
    assert f"{figure.user.value:.2f} \\[" in after.partition("reward model")[0] and "toy/sub, about what holds" in after
    (run / FILE).unlink()
    text = report([run], run.parent / "without", "rrm report").markdown.read_text()
    after = text.partition("### By the truth")[2]
    assert after.strip().startswith(f"{MISSING.capitalize()}: the run has no truth.db")


def test_nothing_denies_what_was_measured_afterwards(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    predicate = said(run)[1]
    for by_truth, words in ((True, "did afterwards"), (False, "no figures by truth.db")):
        lines = [in_words(line, by_truth) for line in predicate.not_shown]
        about = [line for line in lines if "testing.agreement" in line or ".truth)" in line]
        assert len(about) > 2 and all(words in line and WHILE in line for line in about)
        assert sum(words in line for line in lines) == len(about)
    (told,) = told_of([run])
    why = {one.why for name, one in told.nodes["toy"].figures.items() if "truth" in name or "true" in name}
    assert len(why) == 1 and "did afterwards" in why.pop()
    case = as_markdown(case_of(file_of(run / "certificates", "toy"), "toy", in_words), "RUN")
    assert "did afterwards" in case and UNASKED not in case and UNTRUE not in case


def test_a_world_is_said_to_be_made_for_it_only_where_it_is(run: Path, key: Path) -> None:  # noqa: F811
    with Reader(run) as reader:
        assert not of_rrm(reader.config), "the toy is no tree of rrm's"
    certify(run, key=key)
    assert ANYWHERE in said(run)[1].not_shown and IN_A_WORLD not in said(run)[1].not_shown
    (told,) = told_of([run])
    assert "simulated user" in judged_by([told]) and "made for it" not in judged_by([told])
    about = {**told.config["about"], "code": {"rrm": "1", "rrm_tasks": "2"}}
    assert "made for it" in judged_by([replace(told, config={**told.config, "about": about})])
    assert not of_rrm({}), "an older run does not tell"


def test_a_certificate_of_before_that_says_a_world_was_made_for_it_holds(run: Path, key: Path) -> None:  # noqa: F811
    certify(run, key=key)
    path = file_of(run / "certificates", "toy")

    def before(payload: dict[str, Any]) -> None:
        lines = payload["predicate"]["not_shown"]
        lines[lines.index(ANYWHERE)] = IN_A_WORLD

    rewritten(path, before, key)
    assert checked(run, key).code == 0

    def less(payload: dict[str, Any]) -> None:
        payload["predicate"]["not_shown"].remove(IN_A_WORLD)

    rewritten(path, less, key)
    assert kinds(checked(run, key)) == {"changed"}
