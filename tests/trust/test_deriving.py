"""What was computed of the weights is found again by whoever verifies; a number of it that was changed is named."""

from __future__ import annotations

import copy
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from rrm.command.proof_commands import positions_again
from rrm.command.trees import load_task
from rrm.trust import deriving
from rrm.trust.certifying import certify, file_of
from rrm.trust.demands import unmet
from rrm.trust.deriving import Again, Derived, Taken, check_start, derive, entries
from rrm.trust.plain_words import MIDDLE, in_words, meaning
from rrm.trust.signing import make_key
from rrm.trust.snapshot import beside, copied, cut
from rrm.trust.statement import Predicate, read_payload
from rrm.trust.verifying import CODES, verify
from rrm.worlds.games import PlayoutUser
from tests.test_resume import tiny
from tests.trust.test_certificates import certified, key, read, rewritten, run  # noqa: F401

pytest.importorskip("securesystemslib", reason="needs the extra trust")
pytest.importorskip("z3", reason="what z3 said is compared, too")
CERTIFIED = Path(__file__).parents[2] / "docs" / "certified"
NODE = "moves"


@pytest.fixture(scope="module")
def pile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of docs/a-strangers-walk.md."""
    folder = tmp_path_factory.mktemp("stranger")
    with tarfile.open(CERTIFIED / "run.tar.gz") as whole:
        whole.extractall(folder, filter="data")
    return folder / "pile"


def said(pile: Path, node: str = NODE) -> Predicate:
    return read_payload(read(file_of(pile / "certificates", node)))[1]


@contextmanager
def as_it_was(pile: Path, predicate: Predicate) -> Iterator[Path]:
    with copied(pile) as there:
        cut(there, predicate.evidence.size, predicate.databases)
        beside(pile, there)
        yield there


def numbers(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all numbers, and to all verdicts and what holds."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from numbers(one, (*where, name))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from numbers(one, (*where, i))
    elif isinstance(value, int | float) or (where and where[-1] in ("verdict", "features")):
        yield where


def changed(found: Any, where: tuple[Any, ...]) -> Any:
    """A copy in which one of them is another, by little."""
    new = copy.deepcopy(found)
    at = new
    for name in where[:-1]:
        at = at[name]
    old = at[where[-1]]
    at[where[-1]] = (
        not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else
        f"not {old}" if isinstance(old, str) else old * 1.01 + 1e-3
    )  # fmt: skip
    return new


def lies_in(there: Path, body: dict[str, Any], again: Again | None = None) -> list[Derived]:
    found = derive(there, Predicate.model_validate(body), again)
    return [one for one in found if isinstance(one, Derived) and one.other]


def each_is_named(there: Path, predicate: Predicate, again: Again | None, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Change every number of what is derived, one by one; which parts that were."""
    known: dict[str, Any] = {}
    found = deriving._found

    def once(*given: Any) -> Any:
        name = given[3]["name"]
        if name not in known:
            known[name] = found(*given)
        return known[name]

    monkeypatch.setattr(deriving, "_found", once)
    done = [one for one in derive(there, predicate, again) if isinstance(one, Derived)]
    assert done and not any(one.other or one.close for one in done), [one.other for one in done]
    body, tried = predicate.model_dump(mode="json"), 0
    for place, chapter, one in entries(predicate):
        if one["name"] not in known:
            continue
        number = int(place.rpartition("[")[2].rstrip("]"))
        for where in numbers(dict(one["found"])):
            if where == ("times",):
                continue
            lie = copy.deepcopy(body)
            some = lie["testing"]["audits"] if chapter == "audits" else lie[chapter]["found"]
            some[number]["found"] = changed(some[number]["found"], where)
            told = lies_in(there, lie, again)
            tried += 1
            assert [x.place for x in told] == [place], (place, where)
            assert any(str(where[-1]) in line or f"[{where[-1]}]" in line for line in told[0].other), (where, told)
    assert tried > 20
    return {*known}


def test_every_number_of_proofs_and_bounds_is_derived_again(pile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicate = said(pile)
    with as_it_was(pile, predicate) as there:
        left = [one for one in derive(there, predicate) if isinstance(one, Taken)]
        assert {one.called for one in left} > {"attribution", "positions", "planted"}
        assert each_is_named(there, predicate, None, monkeypatch) == {"proofs", "bounds"}


def test_what_it_was_found_from_is_no_way_round(pile: Path) -> None:
    predicate = said(pile, f"{NODE}/reply")
    body = predicate.model_dump(mode="json")
    lies: list[tuple[str, Mapping[str, Any]]] = [
        ("guarantees", {"confidence": 0.9}), ("guarantees", {"confidence": "much"}), ("guarantees", {}),
        ("formal_verification", {"floor": -10.0, "norm": None}), ("formal_verification", {"floor": -20.0, "norm": 3}),
    ]  # fmt: skip
    with as_it_was(pile, predicate) as there:
        for chapter, inputs in lies:
            lie = copy.deepcopy(body)
            for one in lie[chapter]["found"]:
                if one["name"] in ("bounds", "proofs"):
                    one["inputs"] = inputs
            assert len(lies_in(there, lie)) == 1, inputs


def test_a_lie_about_a_bound_is_found_and_what_is_not_derived_is_listed(pile: Path, tmp_path: Path) -> None:
    here = shutil.copytree(pile, tmp_path / "pile")
    own = tmp_path / "own"
    make_key(own, "A holder of a key")
    keys = [tmp_path / "own.pub", CERTIFIED / "lab.pub"]
    path = file_of(here / "certificates", NODE)
    rewritten(path, lambda statement: None, own)
    found = verify(path, here, keys)
    assert found.code == 0 and any("derived again from the weights" in note for note in found.notes)
    places = {one.place for one in found.taken if one.node == NODE}
    assert {"design.made_with", "design.model", "testing.audits[0]"} <= places
    assert "guarantees.found[0]" not in places
    for place, least in (("guarantees", 0), ("testing.audits", 1), ("interpretability", 1), ("design.made_with", 1)):
        missed = unmet({"root": {place: "derived"}}, found.predicates, NODE, found.taken)
        assert len(missed) == least and all("taken as signed" in one for one in missed)

    def lie(statement: dict[str, Any]) -> None:
        (one,) = statement["predicate"]["guarantees"]["found"]
        bound = next(single for single in one["found"]["statements"] if "at most" in single)
        bound["at most"] = round(bound["at most"] - 0.01, 6)

    rewritten(path, lie, own)
    found = verify(path, here, keys)
    assert found.code == CODES["changed"] and len(found.faults) == 1 and "at most: it says" in found.faults[0].what


@pytest.mark.slow
def test_every_number_of_the_rest_is_derived_again(pile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicate = said(pile)
    config = json.loads((pile / "config.json").read_text())
    user = PlayoutUser(**{name: one for name, one in config["user"].items() if name != "name"})
    again = Again(load_task(str(CERTIFIED / "pile.py")), user, "", {"positions": positions_again})
    start = check_start(config, [predicate], "")
    assert not start.wrong and not start.left and len(start.right) == 2
    with as_it_was(pile, predicate) as there:
        names = each_is_named(there, predicate, again, monkeypatch)
    assert names >= {"attribution", "positions", "proofs", "bounds", "held-out", "planted", "adversarial"}


# --- what it started from ----------------------------------------------------------------------------


def test_another_starting_model_or_tokenizer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from rrm.models.backbone import Backbone

    backbone = tiny()
    monkeypatch.setattr(Backbone, "load", lambda name, **given: backbone)
    start = {"name": "m", "fingerprint": backbone.fingerprint}
    own = {**backbone.identity, "tokenizers": version("tokenizers")}
    assert len(check_start({"model": start, "about": {"model": own}}, [], "").right) == 2
    for part in ("weights", "tokenizer"):
        found = check_start({"model": start, "about": {"model": {**own, part: "0"}}}, [], "")
        assert len(found.wrong) == len(found.right) == 1 and part in found.wrong[0]
    found = check_start({"model": start, "about": {"model": {**own, "tokenizer": "0", "tokenizers": "0.1"}}}, [], "")
    assert not found.wrong and "tokenizers 0.1" in found.left[0]
    assert "64 bits" in check_start({"model": start}, [], "").right[0]
    assert check_start({"model": {**start, "fingerprint": "0"}}, [], "").wrong


def test_the_start_is_a_subject_and_older_runs_and_certificates_say_less(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    from functools import partial

    from rrm.trust import certifying

    def subjects() -> tuple[dict[str, Any], Predicate]:
        certify(run, key=key)
        path = file_of(run / "certificates", "toy")
        assert verify(path, run, [key.with_name("lab.pub")]).code == 0
        return read_payload(read(path))

    told, predicate = subjects()
    assert len(told["model tiny"]["sha256"]) == len(told["tokenizer and template"]["sha256"]) == 64
    assert told["model tiny"]["sha256"][:16] == told["model tiny"]["rrmFingerprint"]
    assert not any("beyond doubt" in line for line in predicate.not_shown) and "model" not in predicate.design.made_with
    config = json.loads((run / "config.json").read_text())
    del config["about"]["model"]
    (run / "config.json").write_text(json.dumps(config))
    told, predicate = subjects()
    assert {*told["model tiny"]} == {"rrmFingerprint"}
    assert any("beyond doubt" in line for line in predicate.not_shown)
    monkeypatch.setattr(certifying, "predicate_of", partial(certifying.predicate_of, version=1))
    told, predicate = subjects()
    assert predicate.version == 1 and {*told["model tiny"]} == {"rrmFingerprint"}
    assert not any("nothing in it shows it" in line for line in predicate.not_shown)


# --- in words ----------------------------------------------------------------------------------------


def test_every_place_that_is_not_known_is_said_in_words(pile: Path) -> None:
    for node in (NODE, f"{NODE}/reply"):
        lines = said(pile, node).not_shown
        places = [line.partition(MIDDLE)[0] for line in lines if MIDDLE in line]
        assert len(places) > 10
        for place in places:
            assert len(meaning(place).split()) > 4, place
        assert all(in_words(line) == line for line in lines if MIDDLE not in line)
    assert meaning("testing.challenges.gaming.gap") != meaning("testing.challenges.gap.gap") != ""
    assert meaning("testing.audits.metamorphic.found.user: order") != meaning("testing.audits.metamorphic.found")
    assert in_words(f"testing.audits.planted.found.a/b.silent{MIDDLE}it.") == (
        f"How often this assistant said nothing of the fact that had been made wrong "
        f"(testing.audits.planted.found.a/b.silent){MIDDLE}it."
    )
