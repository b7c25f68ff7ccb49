"""What was computed of a node's weights (proofs, bounds, what moved its judgements, audits), found again by whoever
verifies: each with the inputs that the certificate names, from the run's rows of then and its weights.

Bounds follow from the rows alone, and proofs from the reward model's file and a normalization that stands beside them:
both are derived always. The rest takes the starting model, and some of it the tree's code and whoever judged: it is
derived if these are given (`Again`). What is not derived is taken as signed, and that is said (`Taken`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.core.border import BROKEN, plain
from rrm.core.errors import ConfigError, ModelError, RRMError, RunError
from rrm.core.parties import User
from rrm.core.task import Task
from rrm.trust.differing import differences, near, short
from rrm.trust.guarantees import bounded
from rrm.trust.machines import moved, this_code, this_machine
from rrm.trust.statement import Figure, Predicate
from rrm.view.reading import Reader

if TYPE_CHECKING:
    from rrm.trust.proving import Subject

Found = Mapping[str, Any]
Entry = Mapping[str, Any]
"""What a chapter holds: name, command, found; and, of what can be derived again, inputs and on."""
ASKED = "z3"
"""The key of what z3 said."""


@dataclass(frozen=True)
class Taken:
    """A part of a certificate that was not derived again: it is the word of whoever signed."""

    node: str
    place: str
    """In the schema, such as "testing.audits[2]"."""
    why: str
    called: str = ""
    """What is there, for a reader, such as "audits: planted"."""


def grouped(taken: Sequence[Taken]) -> list[str]:
    """In words, those of one node for one reason together."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in taken:
        places.setdefault((one.node, one.why), []).append(one.called or one.place)
    return [f"{node}: {', '.join(some)}: {why}" for (node, why), some in places.items()]


@dataclass(frozen=True)
class Again:
    """What is needed to derive what takes the starting model.

    Attributes
    ----------
    tree: the root, as code that whoever verifies trusts; None: what needs the tree is taken as signed.
    user: who judged, with the run's settings for them, likewise.
    model: where the starting model is; empty: as the run calls it.
    others: name -> what finds again what is found in a room that this one does not know (the games), of a run's folder,
        a node and the inputs.
    """

    tree: Task | None = None
    user: User | None = None
    model: str = ""
    others: Mapping[str, Callable[[Path, str, Found], Found]] = field(default_factory=dict)


@dataclass(frozen=True)
class Derived:
    """What came of an entry that was derived again."""

    place: str
    called: str
    other: tuple[str, ...] = ()
    """What is another, in words."""
    close: int = 0
    """Numbers that are the same but for what another machine's last bits make of it."""
    moved: str = ""
    """How this machine computes otherwise than the certificate says; empty: not."""
    seconds: float = 0.0
    taken: tuple[tuple[str, str], ...] = ()
    """(place, why) of what within it is taken as signed after all."""


class NotHere(RRMError):
    """An entry cannot be derived here; the message says why."""


def entries(predicate: Predicate) -> Iterator[tuple[str, str, Entry]]:
    """(place, chapter, entry) of all that was computed of a node's weights."""
    for chapter in ("interpretability", "formal_verification", "guarantees"):
        for i, one in enumerate(getattr(predicate, chapter).found):
            yield f"{chapter}.found[{i}]", chapter, one
    for i, one in enumerate(predicate.testing.audits):
        yield f"testing.audits[{i}]", "audits", one


def derive(folder: Path, predicate: Predicate, again: Again | None = None) -> Iterator[Derived | Taken]:
    """Derive again what can be of a certificate.

    folder: a copy of the run as it was, with its weights, that may be written to.
    """
    for place, chapter, one in entries(predicate):
        start, called = time.perf_counter(), str(one.get("name", ""))
        try:
            found, here = _found(folder, predicate, chapter, one, again)
            told = json.loads(json.dumps(found))
            given = {key: value for key, value in one["found"].items() if key != "times"}
            exact = called in ("bounds", "proofs")  # no other machine says otherwise of these, but for last digits
            last = moved(one["on"], here)
            otherwise = (moved(one["on"], this_code()) if exact else last, last)
            yield _compared(place, called, given, told, otherwise, time.perf_counter() - start)
        except (NotHere, ModelError, ConfigError) as error:
            yield Taken(predicate.node, place, str(error), called)
        except (RRMError, *BROKEN) as error:
            what = f"{place} cannot be derived again from what it names ({type(error).__name__}: {plain(str(error))})"
            yield Derived(place, called, (what,))


def _found(
    folder: Path, predicate: Predicate, chapter: str, one: Entry, again: Again | None
) -> tuple[Found, Mapping[str, Any]]:
    """What an entry should say, and on what that was computed. Raises `NotHere`."""
    name, node = one["name"], predicate.node
    if not isinstance(one.get("inputs"), Mapping) or not isinstance(one.get("on"), Mapping):
        raise NotHere("it does not say what it was found from: an older rrm made it, or other code")
    inputs, threads = one["inputs"], one["on"].get("threads")
    if chapter == "guarantees" and name == "bounds":
        return _bounds(folder, predicate, inputs), this_code()
    if chapter == "formal_verification" and name == "proofs":
        return _proofs(folder, node, inputs), this_machine() | {"threads": threads}
    if again is None:
        raise NotHere("it takes the starting model, and some of it the tree: give --again")
    with _computing(threads):
        here = this_machine()
        if chapter == "interpretability" and name in ("attribution", "words"):
            return _explained(folder, node, name, inputs, again), here
        if chapter == "audits":
            return _audited(folder, node, name, inputs, again), here
        if name in again.others:
            return again.others[name](folder, node, inputs), here
    raise NotHere(f"nothing here finds {name!r} again")


def _computing(threads: Any) -> Any:
    from rrm.loop.training import computing_with

    return computing_with(threads) if isinstance(threads, int) and 0 < threads <= (os.cpu_count() or 1) else (
        nullcontext()
    )


# --- one by one --------------------------------------------------------------------------------------


def _bounds(folder: Path, predicate: Predicate, inputs: Found) -> Found:
    """From the rows, and from the agreement with the truth as it was signed: that was measured beside the run."""
    agreed = predicate.testing.agreement.get("assisted")
    measured = {"mean": agreed.value, "n": agreed.n} if isinstance(agreed, Figure) else {}
    confidence = inputs["confidence"]
    with Reader(folder) as run:
        told = [one.plain() for one in bounded(run, predicate.node, confidence, measured)]
    return {"statements": told, "confidence": confidence}


def _subject(folder: Path, node: str, inputs: Found) -> Subject:
    from rrm.trust.proving import norm_in, state_of, subject_of

    with Reader(folder) as run:
        return subject_of(run, node, state_of(run, node), norm_in(inputs), inputs["floor"])


def _proofs(folder: Path, node: str, inputs: Found) -> Found:
    from rrm.trust.proving import prove

    subject = _subject(folder, node, inputs)
    return {"statements": [one.plain() for one in prove(subject)], "assumptions": [*subject.assumptions]}


def _explained(folder: Path, node: str, name: str, inputs: Found, again: Again) -> Found:
    from rrm.trust.explaining import LIMITS, explain, probe_words

    if name == "words":
        if again.tree is None:
            raise NotHere("it takes the form of outcomes, which the tree knows: give --tree")
        probed = probe_words(folder, node, inputs["words"], again.tree)
        return {"words": [one.plain() for one in probed], "does_not_show": LIMITS["words"]}
    found = explain(folder, node, inputs["limit"], tree=again.tree)
    return {**found.plain(), "does_not_show": LIMITS["attribution"]}


def _audited(folder: Path, node: str, name: str, inputs: Found, again: Again) -> Found:
    from rrm.trust.auditing import NOBODY, audit

    nobody = inputs.get("asked") == NOBODY
    if again.tree is None or (again.user is None and not nobody):
        raise NotHere("it takes the tree and whoever judged: give --tree, and --user if the tree does not say")
    if inputs["shifted"]:
        raise NotHere("it takes the tree with cases of another kind; its command finds it again")
    try:
        (done,) = audit(
            folder, node, again.tree, None if nobody else again.user, None, inputs["cases"], inputs["budget"],
            inputs["seed"], only=(name,), again=True,
        )  # fmt: skip
    except RunError as error:
        raise NotHere(str(error)) from error
    return {key: value for key, value in done.found.items() if key != "times"}


# --- compared ----------------------------------------------------------------------------------------


def _compared(
    place: str, called: str, given: Any, told: Any, otherwise: tuple[str, str], seconds: float
) -> Derived:
    """otherwise: why it may be another here, and why its last digits may."""
    other: list[str] = []
    taken: list[tuple[str, str]] = []
    close = 0
    for where, is_, was in _apart(f"{place}.found", given, told, taken):
        if otherwise[1] and near(is_, was):
            close += 1
        else:
            other.append(f"{where}: it says {short(is_)}, and what was derived again {short(was)}")
    return Derived(place, called, tuple(other), close, otherwise[0], seconds, tuple(taken))


def _apart(place: str, given: Any, told: Any, taken: list[tuple[str, str]]) -> Iterator[tuple[str, Any, Any]]:
    """Differences, but for statements of which z3 had an answer on one side only: that hangs on its being installed,
    and on how long it took."""
    mine, theirs = (side.get("statements") if isinstance(side, dict) else None for side in (given, told))
    if not isinstance(mine, list) or not isinstance(theirs, list) or len(mine) != len(theirs):
        yield from differences(given, told, place)
        return
    for i, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        where = f"{place}.statements[{i}]"
        if one == other:
            continue
        excused = _excused(one, other)
        if excused:
            taken.append((where, excused))
        else:
            yield from differences(one, other, where)
    rest, anew = ({key: value for key, value in side.items() if key != "statements"} for side in (given, told))
    yield from differences(rest, anew, place)


def _excused(one: Any, other: Found) -> str:
    """Why a statement that was signed may be another than is derived here; empty if nothing excuses it."""
    if not isinstance(one, dict) or one.get("statement") != other.get("statement") or _silent(one) == _silent(other):
        return ""
    if _silent(other) and other["verdict"] in (one.get("verdict"), "not decided"):
        return f"z3 was asked, and has no answer here ({other[ASKED]})"
    if _silent(one) and one.get("verdict") in (other["verdict"], "not decided"):
        return "z3 had no answer there, and has one here; it claims no more than is found here"
    return ""


def _silent(one: Any) -> bool:
    """Whether z3 was asked and did not answer, or was not there to be asked."""
    said = one.get(ASKED, "") if isinstance(one, dict) else ""
    return isinstance(said, str) and (said.startswith("not asked") or said == "no answer in time")


# --- the starting model ------------------------------------------------------------------------------


@dataclass
class Started:
    """What came of comparing the starting model."""

    wrong: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What could not be compared, and why."""


def check_start(config: Mapping[str, Any], predicates: Sequence[Predicate], model: str) -> Started:
    """Load the starting model, and compare it, its tokenizer, and what proofs assume of it. Raises `ModelError` if it
    cannot be loaded.

    model: where it is; empty: as the run calls it.
    """
    from rrm.models.backbone import Backbone
    from rrm.models.last_norm import final_norm
    from rrm.models.precision import Precision
    from rrm.trust.proving import norm_in

    called, about, found = str(config["model"]["name"]), config.get("about", {}), Started()
    words = called.rpartition(" and ")[2]  # of agents that act: the model of the nodes that write
    known = about.get("model")
    if known == {}:
        return Started(left=[f"{called} starts from no model"])
    backbone = Backbone.load(model or words, template=config["model"].get("prompts", {}).get("template"))
    for part, digest in backbone.identity.items() if known else ():
        if known.get(part) == digest:
            found.right.append(f"{words}: its {part} here: the same that it started from (SHA-256 {digest[:16]}...)")
        elif part == "tokenizer" and known.get("tokenizers") != version("tokenizers"):
            there = f"tokenizers {known.get('tokenizers')} wrote it down, and here is {version('tokenizers')}"
            found.left.append(f"{words}: its tokenizer differs, which may come of another version: {there}")
        else:
            found.wrong.append(f"{words}: its {part} here: not the same that it started from")
    if not known and words == called:
        same = backbone.fingerprint == config["model"]["fingerprint"]
        what = f"{words}: its weights here: {'' if same else 'not '}the fingerprint (64 bits) of those it started from"
        (found.right if same else found.wrong).append(what)
    precision = Precision(**about.get("decided", about).get("precision", {}))
    if backbone.adapters == "lora" and backbone.precision.weights != precision.weights:
        backbone.precision = precision  # as it computed there: rounded, its normalization is another
    norm = final_norm(backbone.start)
    for predicate in predicates:
        for place, _, one in entries(predicate):
            inputs = one.get("inputs") if one.get("name") == "proofs" else None
            signed = norm_in(inputs) if isinstance(inputs, Mapping) else None
            if signed is not None and (norm is None or signed != (norm.gain.tolist(), norm.offset.tolist())):
                what = f"{place}.inputs.norm is not the last normalization of {words}"
                found.wrong.append(f"{predicate.node}: {what}")
    return found
