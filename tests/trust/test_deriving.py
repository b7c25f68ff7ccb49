"""What was computed of the weights is found again by whoever verifies; a number of it that was changed is named."""

from __future__ import annotations

import copy
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from rrm.command.proof_commands import positions_again
from rrm.command.trees import load_task
from rrm.trust import deriving, proving, solver
from rrm.trust.certifying import certify, file_of
from rrm.trust.demands import unmet
from rrm.trust.deriving import Again, Derived, Taken, check_start, derive, entries
from rrm.trust.plain_words import MIDDLE, in_words, meaning
from rrm.trust.signing import make_key
from rrm.trust.snapshot import beside, copied, cut
from rrm.trust.statement import Predicate, read_payload
from rrm.trust.verifying import CODES, verify
from rrm.users.human import HumanUser
from rrm.worlds.games import PlayoutUser
from tests.test_resume import tiny
from tests.trust.test_certificates import certified, key, read, rewritten, run  # noqa: F401
from tests.trust.test_proofs import subject

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
    assert "formal_verification.found[1].inputs.norm" in places
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


# --- what a signer may choose, and what not ----------------------------------------------------------


def failing() -> tuple[proving.Subject, proving.Decided]:
    """A statement that fails, and that z3 was asked about."""
    one = subject(1, tilt=-2.0, scale=9.0)
    what, direction, amount = proving.directions(one)[0]
    found = proving.decide(one, what, direction, amount, Fraction(0), False)
    assert found.verdict == "fails" and found.z3 == proving.CAN
    return one, found


def test_what_z3_finds_does_not_hang_on_what_it_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    import z3

    def shared() -> Any:
        raise AssertionError("what all questions would share")

    monkeypatch.setattr(z3.z3, "main_ctx", shared)
    slope, anything = [Fraction(1, 3), Fraction(-1, 7)], [(Fraction(-9), Fraction(9))] * 2
    for caution in (Fraction(0), Fraction(1, 2)):
        assert solver.search_rise(slope, anything, Fraction(4), caution, Fraction(20)).can
    assert solver.search_slope(slope, [True, True], Fraction(1, 2)).can


def test_a_counterexample_is_checked_and_another_is_as_good() -> None:
    one, mine = failing()
    question = mine.question
    assert question is not None and mine.counterexample is not None
    own = proving._unpacked(mine.counterexample["features"])
    near, far = ([one * by for one in own[:-3]] + own[-3:] for by in (0.99, 1e6))
    other = proving.shown_at(one, mine, proving._packed([*map(Fraction, near)]))
    assert other is not None and other.verdict == "fails" and other.counterexample != mine.counterexample
    signed = other.plain()
    assert deriving._as_signed(one, mine, signed) == (signed, "")
    outside = proving._packed([*map(Fraction, far)])
    for part, value in (("features", mine.counterexample["features"]), ("features", "AAAA"), ("features", 3),
                        ("features", outside), ("changes", {}), ("before", {"mean": 1.0})):  # fmt: skip
        lie = {**signed, "counterexample": {**signed["counterexample"], part: value}}
        assert deriving._as_signed(one, mine, lie)[0] != lie, part
    back = replace(question, direction={i: -by for i, by in question.direction.items()})
    assert proving.shown_at(one, replace(mine, question=back), mine.counterexample["features"]) is None


def test_z3_that_did_not_answer_excuses_no_failure_and_nothing_beside_it() -> None:
    one, mine = failing()
    silent = {**mine.plain(), "z3": proving.LATE}
    told, why = deriving._as_signed(one, mine, silent)
    assert told == silent and "no answer there" in why
    hidden = {"statement": mine.says, "verdict": "not decided", "why": "we trust it", "z3": proving.SILENT[0]}
    assert deriving._as_signed(one, mine, hidden)[0]["verdict"] == "fails"
    for lie in ({**silent, "why": "proved by somebody"}, {**silent, "extra": 1}, {**silent, "z3": "not asked: why"},
                {**silent, "verdict": "holds"}, {**mine.plain(), "z3": proving.CANNOT}):  # fmt: skip
        assert deriving._as_signed(one, mine, lie)[0] != lie, lie
    # Here it has no answer: what was signed may rest on one, in the words that such a proof has.
    late = proving.Decided(mine.says, "not decided", "neither was found", None, proving.LATE, mine.question)
    signed = {"statement": mine.says, "verdict": "holds", "why": proving.BY_Z3, "z3": proving.CANNOT}
    assert deriving._as_signed(one, late, signed)[0] == signed
    assert deriving._as_signed(one, late, {**signed, "why": "so it is"})[0] != {**signed, "why": "so it is"}


def test_another_machine_excuses_no_digit() -> None:
    given, told = {"share": 0.7300}, {"share": 0.7301}
    found = deriving._compared("audits", "planted", given, told, "torch 3, not 2")
    assert found.other and found.moved and not found.close  # it cannot be told
    found = deriving._compared("guarantees.found[0]", "bounds", given, told, "rrm 3, not 2")
    assert found.other and not found.moved  # it was changed
    both = ({"counterexample": {"before": {"mean": one}}} for one in (0.7300, 0.7301))
    assert deriving._compared("proofs", "proofs", *both, "torch 3, not 2").close == 1


def test_a_shaved_bound_a_note_and_another_command_are_faults(pile: Path) -> None:
    predicate = said(pile)
    body = predicate.model_dump(mode="json")
    body["formal_verification"]["found"] = []
    bound = body["guarantees"]["found"][0]
    lies: list[tuple[str, Any]] = [
        ("note", "audited by somebody"), ("command", "rm -rf /"), ("command", f"{bound['command']} --all"),
        ("inputs", {**bound["inputs"], "note": "so"}), ("on", {**bound["on"], "note": "so"}), ("on", "good"),
        ("found", {**bound["found"], "times": "as often as it took"}),
    ]  # fmt: skip
    with as_it_was(pile, predicate) as there:
        assert not lies_in(there, body)
        for part, value in lies:
            lie = copy.deepcopy(body)
            lie["guarantees"]["found"][0][part] = value
            (told,) = lies_in(there, lie)
            assert not told.moved, part
        lie = copy.deepcopy(body)
        lie["guarantees"]["found"][0]["found"] = "good"
        with pytest.raises(ValueError, match="names what was found"):
            lies_in(there, lie)
        lie = copy.deepcopy(body)
        lie["testing"]["audits"][0]["found"]["times"] = "as often as it took"
        assert len(lies_in(there, lie)) == 1
        lie = copy.deepcopy(body)
        (one,) = lie["guarantees"]["found"]
        one["on"]["rrm"] = "0.0.9"
        shaved = next(single for single in one["found"]["statements"] if "at most" in single)
        shaved["at most"] -= 0.0005
        (told,) = lies_in(there, lie)
        assert not told.moved and not told.close and "at most: it says" in told.other[0]


def test_a_normalization_that_was_not_compared_is_the_word_of_whoever_signed(pile: Path) -> None:
    predicate = said(pile, f"{NODE}/reply")
    with as_it_was(pile, predicate) as there:
        for compared in (False, True):
            done = [one for one in derive(there, predicate, None, compared) if isinstance(one, Derived)]
            taken = [Taken(predicate.node, *part) for one in done for part in one.taken]
            assert [one.place.rpartition(".")[2] for one in taken] == ([] if compared else ["norm"])
            policy = {"root": {"formal_verification": "derived"}}
            assert bool(unmet(policy, {predicate.node: predicate}, predicate.node, taken)) != compared


def test_a_normalization_that_is_left_out_is_told_and_with_a_model_found(
    pile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it what fails may be undecided: so it is never left out without a word."""
    from rrm.models.backbone import Backbone
    from rrm.models.last_norm import final_norm

    predicate = said(pile, f"{NODE}/reply")
    chapters = {name: {"found": [], "empty": "-"} for name in ("interpretability", "guarantees")}
    body = predicate.model_dump(mode="json") | chapters
    (one,) = [one for one in body["formal_verification"]["found"] if one["name"] == "proofs"]
    body["formal_verification"]["found"] = [one]
    with as_it_was(pile, predicate) as there:
        one["inputs"] = {**one["inputs"], "norm": None}
        one["found"] = json.loads(json.dumps(deriving._proofs(there, predicate.node, one["inputs"])[0]))
        less = Predicate.model_validate(body)
        (done,) = [one for one in derive(there, less) if isinstance(one, Derived)]
    assert not done.other
    taken = [Taken(less.node, *part) for part in done.taken]
    assert unmet({"root": {"formal_verification": "derived"}}, {less.node: less}, less.node, taken)
    backbone = tiny()
    monkeypatch.setattr(Backbone, "load", lambda name, **given: backbone)
    about = {"model": {**backbone.identity, "tokenizers": version("tokenizers")}}
    config = {"model": {"name": "m", "fingerprint": backbone.fingerprint}, "about": about}
    norm = final_norm(backbone.start)
    assert norm is not None
    (wrong,) = check_start(config, [less], "").wrong
    assert "inputs.norm says that there is none" in wrong
    packed = {name: proving._packed(getattr(norm, name).tolist()) for name in ("gain", "offset")}
    one["inputs"] = {**one["inputs"], "norm": packed}
    assert not check_start(config, [Predicate.model_validate(body)], "").wrong


def test_people_are_never_asked_again_and_somebody_else_is_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    from rrm.trust import auditing

    def asks(*given: Any, **more: Any) -> Any:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(auditing, "audit", asks)
    tree, playout, people = load_task(str(CERTIFIED / "pile.py")), PlayoutUser(attention=16), HumanUser()
    for user, asked in ((people, people.name), (playout, people.name), (people, playout.name), (playout, "Ann")):
        inputs = {"asked": asked, "cases": 1, "budget": 1, "seed": 0, "shifted": False}
        with pytest.raises(deriving.NotHere, match="asked"):
            deriving._audited(Path(), NODE, "planted", inputs, Again(tree, user))


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


def test_a_run_with_a_text_model_does_not_start_from_none(pile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rrm.models.backbone import Backbone

    backbone = tiny()
    monkeypatch.setattr(Backbone, "load", lambda name, **given: backbone)
    none: dict[str, Any] = {"model": {"name": "m", "fingerprint": "0"}, "about": {"model": {}}}
    assert check_start(none, [], "").left and not check_start(none, [], "").norms
    assert check_start(none, [said(pile)], "").wrong  # it has proofs, so its reward model reads texts
    assert check_start({**none, "model": {**none["model"], "prompts": {"text": "t"}}}, [], "").wrong
    acting = check_start({"model": {"name": "ppo and m", "fingerprint": "0"}}, [], "")
    assert not acting.wrong and acting.left and not acting.norms


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
