"""What was computed of a node's weights (proofs, bounds, what moved its judgements, audits), found again by whoever
verifies: each with the inputs that the certificate names, from the run's rows of then and its weights.

Bounds follow from the rows alone, and proofs from the reward model's file and a normalization that stands beside them:
both are derived always, but for that normalization, which is the starting model's. The rest takes that model, and some
of it the tree's code and whoever judged: it is derived if these are given (`Again`). What is not derived is taken as
signed, and that is said (`Taken`).
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
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
from rrm.trust.shapes import HUMAN, NOBODY, Entry, derivable, misasked, misshapen
from rrm.trust.statement import Figure, Predicate
from rrm.view.reading import Reader

if TYPE_CHECKING:
    from rrm.trust.proving import Decided, Subject

Found = Mapping[str, Any]
ASKED = "z3"
"""The key of what z3 said."""
EXACT = ("bounds", "proofs")
"""What no other machine says otherwise, whatever machine a certificate names."""
ARITHMETIC = r"\.counterexample\.(before|after)\.(mean|std|reward)$"
"""Of a counterexample what the reward model's own arithmetic, in float32, makes of it."""
NORM = "inputs.norm, the starting model's last normalization, was not compared with a model (--model compares it)"
NO_NORM = (
    "inputs.norm says that the starting model's last normalization was not known, so that less is found here than with "
    "it, and perhaps nothing that fails; it was not compared with a model (--model compares it)"
)


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


def derive(
    folder: Path, predicate: Predicate, again: Again | None = None, compared: bool = False
) -> Iterator[Derived | Taken]:
    """Derive again what can be of a certificate.

    folder: a copy of the run as it was, with its weights, that may be written to. compared: whether the normalization
    that proofs name was compared with a starting model (`Started.norms`).
    """
    judged, seen = _judged_by(folder), set[tuple[str, str]]()
    for place, chapter, one in entries(predicate):
        start, called = time.perf_counter(), str(one.get("name", ""))
        wrong = [*misshapen(chapter, one, predicate.version)]
        wrong += ["is there twice"] if (chapter, called) in seen else ()
        seen.add((chapter, called))
        wrong += misasked(predicate, one, judged) if chapter == "audits" else ()
        if wrong := [f"{place} {what}" for what in wrong]:
            yield Derived(place, called, tuple(wrong))
            continue
        try:
            found, here, left = _found(folder, predicate, chapter, one, again)
            told = json.loads(json.dumps(found))
            given = {key: value for key, value in one["found"].items() if key != "times" or chapter != "audits"}
            done = _compared(place, called, given, told, moved(one["on"], here))
            taken = [(f"{place}.{part}".rstrip("."), why) for part, why in left]
            if called == "proofs" and not compared:
                taken.append((f"{place}.inputs.norm", NO_NORM if one["inputs"]["norm"] is None else NORM))
            said, free = _command(predicate.node, chapter, one)
            if said:
                done = replace(done, other=(*done.other, f"{place}.command: {said}"))
            elif free:
                taken.append((f"{place}.command", free))
            yield replace(done, seconds=time.perf_counter() - start, taken=tuple(taken))
        except (NotHere, ModelError, ConfigError) as error:
            yield Taken(predicate.node, place, str(error), called)
            if (chapter, called) == ("audits", "shifted") and isinstance(predicate.scope.shift, Figure):
                yield Taken(predicate.node, "scope.shift", f"it is of {place}, which was not derived again")
        except (RRMError, *BROKEN) as error:
            what = f"{place} cannot be derived again from what it names ({type(error).__name__}: {plain(str(error))})"
            yield Derived(place, called, (what,))


def _command(node: str, chapter: str, one: Entry) -> tuple[str, str]:
    """What is wrong with the command that is said to find it again, and what of it is the word of whoever signed."""
    name, inputs, said = one["name"], one["inputs"], one["command"]
    anything = "(?P<free>.*)"
    if chapter == "audits":
        start = f"rrm audit RUN {node}"
        end = f" --only {name} --cases {inputs['cases']} --budget {inputs['budget']} --seed {inputs['seed']}"
    elif name == "words":
        start, end = f"rrm explain RUN {node} --tree TREE", "".join(f" --word {json.dumps(w)}" for w in inputs["words"])
    elif name == "positions":
        start, anything = f"rrm prove RUN {node}", r" --floor -?[\d.e+-]+"  # of which positions do not depend
        end = "" if inputs["up_to"] is None else f" --up-to {inputs['up_to']}"
    elif name in ("bounds", "proofs", "attribution"):
        anything = ""
        start, end = {
            "bounds": lambda: (f"rrm bound RUN {node}", f" --confidence {inputs['confidence']:g}"),
            "proofs": lambda: (f"rrm prove RUN {node}", f" --floor {inputs['floor']:g}"),
            "attribution": lambda: (f"rrm explain RUN {node}", f" --limit {inputs['limit']}"),
        }[name]()
    else:
        start = end = ""
    found = re.fullmatch(re.escape(start) + anything + re.escape(end), said)
    if found is None:
        return f"it says {short(said)}, which is not what finds this again ({start} ...{end})", ""
    free = found.groupdict().get("free")
    return "", f"of its command, {short(free.strip())} is the word of whoever signed" if free else ""


def _found(
    folder: Path, predicate: Predicate, chapter: str, one: Entry, again: Again | None
) -> tuple[Found, Mapping[str, Any], Sequence[tuple[str, str]]]:
    """What an entry should say, on what that was computed, and (part, why) of what it says that is taken as signed.
    Raises `NotHere`."""
    name, node = one["name"], predicate.node
    if not derivable(chapter, one) and (again is None or name not in again.others):
        raise NotHere(f"nothing here finds {short(name)} again: other code found it")
    if not isinstance(one.get("inputs"), Mapping) or not isinstance(one.get("on"), Mapping):
        raise NotHere("it does not say what it was found from: an older rrm made it")
    inputs, threads = one["inputs"], one["on"].get("threads")
    if chapter == "guarantees" and name == "bounds":
        bounds, left = _bounds(folder, predicate, inputs)
        return bounds, this_code(), left
    if chapter == "formal_verification" and name == "proofs":
        found, left = _proofs(folder, node, inputs, one["found"])
        return found, this_machine() | {"threads": threads}, left
    if again is None:
        raise NotHere("it takes the starting model, and some of it the tree: give --again")
    with _computing(threads):
        here = this_machine()
        if chapter == "interpretability" and name in ("attribution", "words"):
            return _explained(folder, node, name, inputs, again), here, ()
        if chapter == "audits":
            return _audited(folder, node, name, inputs, again), here, ()
        if name in again.others:
            return again.others[name](folder, node, inputs), here, ()
    raise NotHere(f"nothing here finds {name!r} again")


def _judged_by(folder: Path) -> str:
    """Who judged a run, as its configuration calls them."""
    user = json.loads((folder / "config.json").read_text()).get("user")
    return str(user.get("name", "")) if isinstance(user, Mapping) else ""


def _computing(threads: Any) -> Any:
    from rrm.loop.training import computing_with

    return computing_with(threads) if isinstance(threads, int) and 0 < threads <= (os.cpu_count() or 1) else (
        nullcontext()
    )


# --- one by one --------------------------------------------------------------------------------------


def _bounds(folder: Path, predicate: Predicate, inputs: Found) -> tuple[Found, Sequence[tuple[str, str]]]:
    """From the rows, and from the agreement with the truth as it was signed: that was measured beside the run, and what
    is bounded with it is no less the word of whoever signed."""
    agreed = predicate.testing.agreement.get("assisted")
    measured = {"mean": agreed.value, "n": agreed.n} if isinstance(agreed, Figure) else {}
    confidence = inputs["confidence"]
    with Reader(folder) as run:
        told = [one.plain() for one in bounded(run, predicate.node, confidence, measured)]
    why = "testing.agreement.assisted, which was measured beside the run, went into it as it was signed"
    return {"statements": told, "confidence": confidence}, [("", why)] if measured else ()


def _subject(folder: Path, node: str, inputs: Found) -> Subject:
    from rrm.trust.proving import inputs_of, norm_in, state_of, subject_of

    floor = inputs["floor"]
    if not isinstance(floor, float) or not -math.inf < floor <= 0:
        raise RunError("its floor is no logarithm of a probability")
    with Reader(folder) as run:
        subject = subject_of(run, node, state_of(run, node), norm_in(inputs), floor)
    if inputs_of(subject, floor) != inputs:
        raise RunError("its inputs are written down in another way than they are by rrm prove")
    return subject


def _proofs(
    folder: Path, node: str, inputs: Found, given: Found | None = None
) -> tuple[Found, Sequence[tuple[str, str]]]:
    """What is proved; where there is a choice (which counterexample, whether z3 had an answer), as it was signed."""
    from rrm.trust.proving import prove

    subject = _subject(folder, node, inputs)
    done, signed = prove(subject), (given or {}).get("statements")
    if not isinstance(signed, list) or len(signed) != len(done):
        signed = [None] * len(done)
    told, left = [], []
    for i, (mine, one) in enumerate(zip(done, signed, strict=True)):
        found, why = _as_signed(subject, mine, one if isinstance(one, dict) else {})
        told.append(found)
        if why:
            left.append((f"found.statements[{i}]", why))
    return {"statements": told, "assumptions": [*subject.assumptions]}, left


def _as_signed(subject: Subject, mine: Decided, signed: Found) -> tuple[Found, str]:
    """A statement as it should have been signed, and why something of it is not derived again here: whether z3 answers
    hangs on its being installed, and on how long it takes. It excuses what z3 is said to have said, and that less is
    claimed, but never that a counterexample was left out."""
    from rrm.trust.proving import BY_Z3, CAN, CANNOT, SILENT, decide

    own, said = _counterexample(subject, mine, signed), signed.get(ASKED)
    if not mine.z3 or said == mine.z3 or not isinstance(said, str):
        return own.plain(), ""
    if said in SILENT:
        if mine.verdict == "fails" or mine.z3 in SILENT:
            return own.plain() | {ASKED: said}, f"z3 had no answer there ({said}); it claims no more than is found here"
        assert mine.question is not None
        without = decide(subject, **vars(mine.question), asking=False)
        return _counterexample(subject, without, signed).plain() | {ASKED: said}, (
            "z3 had no answer there, and has one here; it claims no more than is found here"
        )
    if mine.z3 in SILENT and said in (CAN, CANNOT):
        why = f"z3 was asked, and has no answer here ({mine.z3})"
        if said == CANNOT and own.verdict == "not decided":
            return {"statement": mine.says, "verdict": "holds", "why": BY_Z3, ASKED: said}, why
        if said == (CANNOT if own.verdict == "holds" else CAN):
            return own.plain() | {ASKED: said}, why
    return own.plain(), ""


def _counterexample(subject: Subject, mine: Decided, signed: Found) -> Decided:
    """With the counterexample that was signed in the place of the one found here, if it is as good, or better."""
    from rrm.trust.proving import shown_at

    theirs = signed.get("counterexample")
    if mine.verdict == "holds" or not isinstance(theirs, Mapping):
        return mine
    try:
        found = shown_at(subject, mine, theirs["features"])
    except BROKEN:
        return mine
    return found if found is not None and found.verdict in (mine.verdict, "fails") else mine


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
    from rrm.trust.auditing import audit
    from rrm.users.human import HumanUser

    asked, judged = inputs.get("asked"), None if again.user is None else again.user.name
    nobody = asked == NOBODY
    if asked == HUMAN or (isinstance(again.user, HumanUser) and not nobody):
        raise NotHere("people were asked, and nobody asks them again")
    if again.tree is None or (again.user is None and not nobody):
        raise NotHere("it takes the tree and whoever judged: give --tree, and --user if the tree does not say")
    if not nobody and asked != judged:
        raise NotHere(f"it says that {short(asked)} was asked, and {judged} was given")
    if name == "shifted" and inputs["shifted"]:  # it asks nothing of any other part
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


def _compared(place: str, called: str, given: Any, told: Any, otherwise: str) -> Derived:
    """otherwise: how this machine is said to differ from that of the certificate. It is the word of whoever signed, and
    excuses no difference, but for last digits of the model's own arithmetic at a counterexample, which says it besides
    what is exact; of what is not exact it leaves open whether a number was changed."""
    other: list[str] = []
    exact, close = called in EXACT, 0
    for where, is_, was in differences(given, told, f"{place}.found"):
        if exact and otherwise and re.search(ARITHMETIC, where) and near(is_, was):
            close += 1
            continue
        last = ", which is the same but for last digits" if not exact and near(is_, was) else ""
        other.append(f"{where}: it says {short(is_)}, and what was derived again {short(was)}{last}")
    if exact and other and otherwise:
        other[0] += f" (it names another machine, which excuses nothing here: {otherwise})"
    return Derived(place, called, tuple(other), close, "" if exact else otherwise)


# --- the starting model ------------------------------------------------------------------------------


@dataclass
class Started:
    """What came of comparing the starting model."""

    wrong: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What could not be compared, and why."""
    norms: bool = False
    """Whether the last normalization was compared with that of the very model it started from."""


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
    proved = any(one.get("name") == "proofs" for predicate in predicates for _, _, one in entries(predicate))
    if known == {} and not proved and not config["model"].get("prompts"):  # no reward model reads a text
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
    elif not known:
        found.left.append(f"{words}: the run does not say by its weights what its words start from: not compared")
    found.norms = bool(known) or words == called
    precision = Precision(**about.get("decided", about).get("precision", {}))
    if backbone.adapters == "lora" and backbone.precision.weights != precision.weights:
        backbone.precision = precision  # as it computed there: rounded, its normalization is another
    norm = final_norm(backbone.start)
    known_norm = None if norm is None else (norm.gain.tolist(), norm.offset.tolist())
    for predicate in predicates:
        for place, _, one in entries(predicate):
            inputs = one.get("inputs") if one.get("name") == "proofs" else None
            if isinstance(inputs, Mapping) and (signed := norm_in(inputs)) != known_norm:
                what = f"{place}.inputs.norm is not the last normalization of {words}"
                if signed is None:
                    what = f"{place}.inputs.norm says that there is none that is known, and {words} has one"
                found.wrong.append(f"{predicate.node}: {what}")
    return found
