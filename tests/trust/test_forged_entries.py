"""Entries of a certificate that somebody invented, or stripped of what they were found from, so that nobody derives
them again: each is found, or meets no policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rrm.trust import audit_parts, shapes
from rrm.trust.certifying import certify, file_of
from rrm.trust.demands import unmet
from rrm.trust.deriving import Again, NotHere, _audited
from rrm.trust.gathering import not_shown_of
from rrm.trust.shelf import keep, kept
from rrm.trust.statement import Predicate
from rrm.trust.verifying import Verified
from rrm.view.reading import Reader
from tests.trust.test_certificates import certified, checked, key, kinds, rewritten, run
from tests.trust.test_deriving import CERTIFIED, NODE, pile, said

__all__ = ["certified", "key", "pile", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")
CHAPTERS = ("design", "testing", "scope", "interpretability", "formal_verification", "guarantees")
FIGURE = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 10**6, "cases": 10**6}
GOOD = {"holds": True, "times": 1, "statements": [{"statement": "It is never wrong", "verdict": "holds"}]}
INPUTS = {"cases": 8, "budget": 8, "seed": 0, "shifted": False, "asked": "bounded(attention=6)"}
Body = dict[str, Any]


def agreeing(run: Path, change: Callable[[Body], None]) -> Callable[[Body], None]:
    """Change a predicate, and what it does not show so that the statement agrees with itself."""

    def both(statement: Body) -> None:
        change(statement["predicate"])
        told = Predicate.model_validate(statement["predicate"])
        with Reader(run) as reader:
            parts = {name: getattr(told, name) for name in (*CHAPTERS, "shelf")}
            shown = not_shown_of(reader, reader.nodes[told.node], parts, told.children, told.version)
        statement["predicate"]["not_shown"] = [*shown]

    return both


def forged(run: Path, key: Path, change: Callable[[Body], None]) -> Verified:
    """What verifying says of a certificate that was changed so that it agrees with itself."""
    rewritten(file_of(run / "certificates", "toy"), agreeing(run, change), key)
    return checked(run, key)


def entry(name: str, **more: Any) -> Body:
    return {"name": name, "command": f"rrm audit RUN toy --only {name}", "found": GOOD, **more}


def audit(name: str = "planted", **inputs: Any) -> Body:
    command = f"rrm audit RUN toy --only {name} --cases 8 --budget 8 --seed 0"
    return entry(name, inputs={**INPUTS, **inputs}, on={}) | {"command": command}


def put(chapter: str, *entries: Body) -> Callable[[Body], None]:
    def change(predicate: Body) -> None:
        if chapter == "audits":
            predicate["testing"]["audits"] = [*entries]
        else:
            predicate[chapter] = {"found": [*entries], "empty": ""}

    return change


@pytest.mark.parametrize(
    ("chapter", "one"),
    [
        ("guarantees", entry("bounds")),
        ("guarantees", entry("bounds", inputs={"confidence": 0.95})),
        ("guarantees", entry("bounds", inputs={}, on={})),
        ("formal_verification", entry("proofs", on={})),
        ("interpretability", entry("attribution")),
        ("interpretability", entry("bounds")),
        ("interpretability", entry("bounds", inputs={"confidence": 0.95}, on={})),
        ("audits", entry("planted")),
        ("audits", entry("planted", inputs={"asked": "nobody"}, on={})),
        ("audits", entry("adversarial")),
        ("audits", audit(asked="human")),
        ("audits", audit(asked="Ann")),
        ("audits", {**audit("gain", asked="human"), "found": {**GOOD, "asked in place of who judged": "human"}}),
        ("audits", entry("proofs", inputs=INPUTS, on={})),
    ],
)
def test_an_entry_that_nobody_could_derive_is_found(chapter: str, one: Body, run: Path, key: Path) -> None:
    found = forged(run, key, put(chapter, one))
    assert kinds(found) == {"changed"} and any("found[0] " in f.what or "audits[0] " in f.what for f in found.faults)


@pytest.mark.parametrize(
    ("chapter", "one", "why"),
    [
        ("guarantees", entry("bound"), "other code found it"),
        ("audits", entry("shift"), "other code found it"),
        ("audits", audit(), "give --again"),
    ],
)
def test_what_is_only_signed_does_not_hold_for_a_policy(
    chapter: str, one: Body, why: str, run: Path, key: Path
) -> None:
    found = forged(run, key, put(chapter, one))
    assert found.code == 0 and any(why in taken.why for taken in found.taken)
    place = "testing.audits" if chapter == "audits" else chapter
    for demand in ("holds", "derived"):
        (told,) = unmet({"root": {place: demand}}, found.predicates, "toy", found.taken)
        assert "was taken as signed" in told and why in told


def test_accuracy_on_other_cases_is_signed_where_its_audit_is(run: Path, key: Path) -> None:
    def change(predicate: Body) -> None:
        put("audits", {**audit("shifted", shifted=True), "found": {"predicted": FIGURE, "holds": True}})(predicate)
        predicate["scope"]["shift"] = FIGURE

    found = forged(run, key, change)
    assert found.code == 0 and unmet({"root": {"scope.shift": "derived"}}, found.predicates, "toy", found.taken)


def test_a_bound_of_a_measured_figure_is_the_word_of_whoever_signed(run: Path, key: Path) -> None:
    from rrm.trust.guarantees import bounded
    from rrm.trust.machines import this_code

    body = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 10**6}
    for measured in ({}, body):
        with Reader(run) as reader:
            told = [one.plain() for one in bounded(reader, "toy", 0.95, measured)]
            keep(reader, "toy", "guarantees", "bounds", "rrm bound RUN toy --confidence 0.95",
                 {"statements": told, "confidence": 0.95}, {"confidence": 0.95}, this_code())  # fmt: skip
        (run.parent / "report.json").write_text(json.dumps({"run": {"agreement": measured}}))
        certify(run, key=key)
        found = checked(run, key)
        assert found.code == 0
        left = unmet({"root": {"guarantees": "derived"}}, found.predicates, "toy", found.taken)
        assert bool(left) == bool(measured) and all("testing.agreement.assisted" in one for one in left)


def test_a_word_that_cases_were_others_excuses_no_other_part(pile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`shifted` is a matter of the part of this name; of the others runs of before wrote it, too."""
    from rrm.command.trees import load_task
    from rrm.trust import auditing
    from rrm.worlds.games import PlayoutUser

    again = Again(load_task(str(CERTIFIED / "pile.py")), PlayoutUser(attention=16))
    monkeypatch.setattr(auditing, "audit", lambda *given, **more: [auditing.Audited("gain", {"value": 0.5})])
    inputs: Mapping[str, Any] = {**INPUTS, "asked": "playout(attention=16)", "shifted": True}
    assert _audited(pile, NODE, "gain", inputs, again) == {"value": 0.5}
    with pytest.raises(NotHere, match="cases of another kind"):
        _audited(pile, NODE, "shifted", inputs, again)


def test_what_was_found_without_saying_from_what_goes_into_no_certificate(run: Path, key: Path) -> None:
    with Reader(run) as reader:
        keep(reader, "toy", "guarantees", "bounds", "rrm bound RUN", {"statements": []})
        keep(reader, "toy", "audits", "planted", "rrm audit RUN", {"holds": True})
    (*_, done) = certify(run, key=key)
    assert not done.predicate.testing.audits and "other weights" in done.predicate.guarantees.empty
    with Reader(run) as reader:
        chapters, audits = kept(run, reader, "toy")
    assert len(audits) == 1 and "guarantees" in chapters, "a report is no certificate"
    assert checked(run, key).code == 0


def test_who_may_have_been_asked(pile: Path) -> None:
    predicate = said(pile)
    people = tuple(judge.model_copy(update={"kind": "people"}) for judge in predicate.design.judges)
    judged = predicate.model_copy(update={"design": predicate.design.model_copy(update={"judges": people})})
    instead = {"asked in place of who judged": "bounded"}
    for of, who, asked, found, right in (
        (judged, "human", "human", {}, True), (judged, "human", "bounded", instead, True),
        (judged, "human", "bounded", {}, False), (judged, "human", "nobody", {}, True),
        (predicate, "human", "human", {}, False), (judged, "playout", "human", {}, False),
        (predicate, "playout", "playout", {}, True), (predicate, "playout", "bounded", instead, False),
    ):  # fmt: skip
        one = {**audit("gain", asked=asked), "found": found}
        assert bool([*shapes.misasked(of, one, who)]) != right, (who, asked, found)


def test_the_names_of_parts_are_those_of_audits() -> None:
    assert [*audit_parts.PARTS] == [*shapes.AUDITS] and audit_parts.PARTS.keys() > {*shapes.UNASKED}


@pytest.mark.parametrize(
    ("chapter", "name", "key_of", "values"),
    [
        ("guarantees", "bounds", "confidence", (1e-9, 0.0, 0.49, 0.99999, 1, True, "0.95", None, float("nan"))),
        ("formal_verification", "proofs", "floor", (1.0, 0, False, "-20", float("-inf"))),
        ("formal_verification", "positions", "up_to", (0, True, 12.0, "12")),
        ("interpretability", "attribution", "limit", (-1, True, 8.0, None)),
        ("interpretability", "words", "words", ("word", [1], None)),
        ("audits", "planted", "cases", (0, -1, 2.5, True, "8")),
        ("audits", "planted", "seed", (0.0, False, None)),
        ("audits", "planted", "shifted", (0, None)),
        ("audits", "planted", "asked", (1, None)),
    ],
)
def test_what_something_was_found_from_is_what_a_command_takes(
    chapter: str, name: str, key_of: str, values: tuple[Any, ...]
) -> None:
    good = {"confidence": 0.95, "floor": -20.0, "norm": None, "up_to": None, "limit": 8, "words": ["word"], **INPUTS}
    inputs = {key: good[key] for key in shapes.INPUTS[chapter][name]}
    one = entry(name, inputs=inputs, on={})
    assert not [*shapes.misshapen(chapter, one, 2)]
    for value in values:
        (told,) = shapes.misshapen(chapter, {**one, "inputs": {**inputs, key_of: value}}, 2)
        assert f"inputs.{key_of} that is not" in told, value


def test_a_bound_says_with_which_confidence(run: Path, key: Path) -> None:
    from rrm.trust.guarantees import bounded
    from rrm.trust.machines import this_code
    from rrm.view.safety_case import as_markdown, case_of

    for sure in (0.8, 0.05):
        with Reader(run) as reader:
            told = [one.plain() for one in bounded(reader, "toy", sure, {"mean": 0.5, "n": 100})]
            told += [{"statement": "So often at most", "at most": 0.1, "counted": "nothing"}]
            body = {"statements": told, "confidence": sure}
            keep(reader, "toy", "guarantees", "bounds", f"rrm bound RUN toy --confidence {sure:g}", body,
                 {"confidence": sure}, this_code())  # fmt: skip
        certify(run, key=key)
        assert f"with confidence {sure:g}" in as_markdown(case_of(file_of(run / "certificates", "toy")), "RUN")
        found = checked(run, key)
        assert any("inputs.confidence that is not" in one.what for one in found.faults) == (sure < 0.5)
        assert any(f"with confidence {sure:g}" in note for note in found.notes)
