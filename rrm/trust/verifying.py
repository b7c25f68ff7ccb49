"""Does a certificate hold? Signature, rows, files, every number anew, and the certificates below; nothing is trusted
that the run's folder brings, and nothing of it is executed: weights are hashed, JSON and SQLite are read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from rrm.core.border import BROKEN, plain
from rrm.core.errors import ModelError, RRMError, RunError
from rrm.store import links
from rrm.store.store import LINKED
from rrm.store.truths import FILE as TRUTH
from rrm.trust.certifying import file_of, public_beside
from rrm.trust.deriving import Again, Started, Taken, check_start, derive
from rrm.trust.differing import differences, short
from rrm.trust.gathering import Hashed, evidence_of, measured_truths, predicate_of
from rrm.trust.judged_where import ANYWHERE, IN_A_WORLD
from rrm.trust.origins import machine_of, started_from, subjects_of
from rrm.trust.register import Noted, downgraded, noted, off_the_shelf
from rrm.trust.signing import KeyProblem, PublicKey, SignatureError, check_signature, open_envelope, read_public
from rrm.trust.snapshot import (
    OTHERS,
    Disguised,
    all_links,
    beside,
    copied,
    cut,
    databases_of,
    first_link,
    hash_of,
    link_told,
    look,
    weights_in,
    within,
)
from rrm.trust.statement import TIMES, CertificateError, Predicate, digest_of, read_payload
from rrm.trust.unnamed import (
    beside_chapters,
    later_rows,
    left_out,
    other_files,
    register_now,
    there,
    too_new,
    unheard,
    unspoken,
)
from rrm.trust.who_judged import imported_as_people, only_people
from rrm.view.reading import Reader
from rrm.view.truth import attached

CODES = {"format": 3, "signature": 4, "key": 5, "run": 6, "changed": 7, "rewritten": 8, "policy": 9, "untold": 10}
"""What is wrong -> the command's exit status; of several the first. 0: it holds. 1 and 2 are errors of any command."""
SAYS = {
    "format": "it is no certificate that this rrm reads (another kind, a newer version, unknown fields)",
    "signature": "it is not signed, or was changed after it was",
    "key": "it was signed with a key that is unknown here, or whose time is over",
    "run": "it is of another run",
    "changed": "rows, files, numbers or certificates below are not those that it speaks of",
    "rewritten": "rows were rewritten since, as is done when a person is forgotten: what it says of them cannot be "
    "checked any more",
    "policy": "it holds, and is not what the policy demands",
    "untold": "it holds, and whether its weights or numbers come out again cannot be told on this machine",
}
NOTED = frozenset({"made", "rrm"})
"""Of a predicate, what no record tells again."""
CONFIG = "config.json"
LINKS_SINCE = 5
"""The version of the schema of run.db that has links."""
LINKED_THEN = "{} is a symbolic link: what it leads to is no part of the run, and was followed, as by the rrm of then"
MOST = 12
"""Most faults of a kind that are named."""


@dataclass(frozen=True)
class Breach:
    """Something that does not hold."""

    kind: str
    """Of `CODES`."""
    what: str
    node: str = ""


@dataclass
class Verified:
    """What came of it."""

    faults: list[Breach] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What holds, and how far."""
    taken: list[Taken] = field(default_factory=list)
    """What was not derived again, and is the word of whoever signed."""
    predicates: dict[str, Predicate] = field(default_factory=dict)
    """Node -> what its certificate says."""

    @property
    def code(self) -> int:
        """The exit status."""
        return min((CODES[fault.kind] for fault in self.faults), default=0)


@dataclass(frozen=True)
class _Check:
    """A run as it was, and what is found of it."""

    run: Path
    copy: Path
    reader: Reader
    folder: Path
    """Where certificates are."""
    keys: Mapping[str, PublicKey]
    found: Verified
    forgotten: bool
    """Whether rows were rewritten, and agree with their links: then what differs comes of that."""
    aside: Sequence[str] = ()
    """Databases that are there, and that the certificates do not name."""
    register: Sequence[Noted] = ()
    """What run.db notes of RUN/trust, what came after the certificates' rows included."""
    hashes: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def records(self) -> tuple[Any, Any]:
        """Of the copy: the same for all nodes."""
        return evidence_of(self.copy), databases_of(self.copy)

    def hash_of(self, name: str) -> str | None:
        """SHA-256 of a file of the run; None if there is none, or it lies elsewhere."""
        if name not in self.hashes:
            path = within(self.run, name)
            self.hashes[name] = None if path is None else hash_of(path)
        return self.hashes[name]

    def say(self, what: Iterable[str], node: str, kind: str = "changed") -> None:
        """Add breaches, each once."""
        for breach in _some(kind, list(what), node):
            if all((breach.kind, breach.what) != (one.kind, one.what) for one in self.found.faults):
                self.found.faults.append(breach)


def verify(
    certificate: Path, run: Path, keys: Sequence[Path] = (), again: Again | None = None, model: str | None = None
) -> Verified:
    """Check a certificate against its run, and those below it, which are looked for beside it. Raises `RunError` where
    there is no run, and `KeyProblem` for a file of `keys` that is none; all else is told in what is returned.

    Parameters
    ----------
    keys: files of public keys that whoever verifies trusts; without any, the one that lies beside the certificate.
    again: what it takes to derive again what was computed of the weights; without, proofs and bounds are.
    model: where the starting model is, which is then loaded and compared; empty: as the run calls it; by default it is
        loaded only with `again`. Raises `ModelError` if it cannot be.
    """
    if not (run / "run.db").exists():
        raise RunError(f"{run}: no run there (a run's folder holds run.db)")
    found = Verified()
    known = _keys(certificate, keys, found)
    if found.faults or (opened := _opened(certificate, known, found)) is None:
        return found
    payload, predicate = opened
    linked = [link for link in all_links(run) if link != TRUTH or TRUTH in predicate.databases]
    if predicate.version < 3:  # when these were written, a link was followed
        found.notes += [LINKED_THEN.format(link) for link in linked]
    elif linked:
        found.faults += _some("changed", [link_told(link) for link in linked])
        return found
    try:
        with copied(run, measured=False, truth=TRUTH in predicate.databases) as copy:
            if TRUTH not in predicate.databases:  # of a certificate that does not speak of it
                if there(run, TRUTH):
                    found.notes.append(f"{TRUTH} lies there, and the certificate does not speak of it: it was not read")
            elif why := too_new(copy):
                found.faults.append(Breach("format", why))
                return found
            _whole(copy)
            told = _same_rows(copy, predicate, found)
            if told is None:
                return found
            found.notes += [*later_rows(copy, predicate.databases), *other_files(run, predicate.files)]
            aside = left_out(copy, predicate.databases)
            with Reader(copy) as whole:
                register = noted(whole)
            cut(copy, predicate.evidence.size, predicate.databases)
            with Reader(copy) as reader:
                check = _Check(run, copy, reader, certificate.parent, known, found, told, aside, register)
                others = {file_of(check.folder, node).name for node in reader.nodes if node != predicate.node}
                if certificate.name in others:
                    check.say([f"{certificate.name} is the certificate of {predicate.node}"], "", "run")
                _down(check, payload, predicate)
                config = dict(reader.config)
            if not found.faults:
                _derived(run, copy, config, found, again, model)
    except ModelError:
        raise
    except (RRMError, sqlite3.Error, *BROKEN, MemoryError) as error:  # whatever a damaged file does to what reads it
        what = str(error) if isinstance(error, Disguised) else f"{type(error).__name__}: {plain(str(error))}"
        found.faults.append(Breach("changed", f"the run cannot be read ({what})"))
    return found


def _keys(certificate: Path, keys: Sequence[Path], found: Verified) -> dict[str, PublicKey]:
    if keys:
        return {key.keyid: key for key in map(read_public, keys)}
    try:
        beside = public_beside(certificate.parent)
    except KeyProblem as error:
        found.faults.append(Breach("key", str(error)))
        return {}
    if not beside:
        return {}
    found.notes.append(
        "the public key lies beside the certificate: this shows that nothing was changed since it was signed, "
        "and not by whom (give the public key of somebody you know with --key)"
    )
    return {key.keyid: key for key in beside}


def _opened(path: Path, keys: Mapping[str, PublicKey], found: Verified) -> tuple[bytes, Predicate] | None:
    """Payload and predicate, if the signature is good and all of it can be read."""
    try:
        if not path.is_file():
            raise CertificateError("there is no such file")
        body = path.read_bytes()
        payload, _ = open_envelope(body)
        signer = check_signature(body, keys)
        _, predicate = read_payload(payload)
    except OSError as error:
        found.faults.append(Breach("format", f"{path.name} cannot be read ({error.strerror})"))
    except CertificateError as error:
        found.faults.append(Breach("format", f"{path.name}: {error}"))
    except SignatureError as error:
        found.faults.append(Breach("signature", f"{path.name}: {error}"))
    except KeyProblem as error:
        found.faults.append(Breach("key", f"{path.name}: {error}"))
    else:
        found.notes.append(f"{predicate.node}: signed by {signer.name!r} (key {signer.keyid[:16]})")
        return payload, predicate
    return None


# --- rows --------------------------------------------------------------------------------------------


def _whole(copy: Path) -> None:
    """Whether the databases are what they seem: pages, indices, constraints, and no view in the place of a table.
    Raises `Disguised`."""
    look(copy)
    for name in ("run.db", *OTHERS, TRUTH):
        if (copy / name).exists():
            with closing(sqlite3.connect(copy / name)) as db:
                said = [text for (text,) in db.execute("PRAGMA integrity_check(5)")]
            if said != ["ok"]:
                raise Disguised(f"{name} is damaged: {'; '.join(said)[:300]}")
    only_people(copy)


def _same_rows(copy: Path, predicate: Predicate, found: Verified) -> bool | None:
    """Whether rows were rewritten since, in the way that forgetting does it. None where the run is not the
    certificate's, so that it makes no sense to go on."""
    evidence = predicate.evidence
    with closing(sqlite3.connect(copy / "run.db")) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            found.faults.append(Breach("run", "run.db is empty: there is no run in it"))
            return None
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'links'").fetchone():
            removed = version >= LINKS_SINCE
            what = "its links were removed" if removed else "it is of before there were any certificates"
            found.faults.append(Breach("changed" if removed else "run", f"run.db has no links: {what}"))
            return None
        broken = links.faults(db, LINKED)
        anchor = links.chain_of(db, evidence.size)
        later = links.rewritten(db, evidence.size)
        total = db.execute("SELECT COUNT(*) FROM links").fetchone()[0]
    kind = "changed" if broken else "run"
    if anchor is None:
        what = f"run.db has {total} links, and the certificate is of {evidence.size} rows"
        found.faults.append(Breach(kind, what))
    elif (anchor.root, anchor.head) != (evidence.root, evidence.head):
        what = "its rows are not those of the certificate (their Merkle root differs)"
        if kind == "run":
            what += ": they agree with their own links, so it is another run, or its links were made anew"
        found.faults.append(Breach(kind, what))
    found.faults += _some("changed", [str(one) for one in broken])
    found.faults += _some("rewritten", [str(one) for one in later])
    if not found.faults:
        found.notes.append(f"{evidence.size} rows are what they were, in their order")
        if total > evidence.size:
            found.notes.append(f"{total - evidence.size} rows came later; they are left out of what follows")
    if anchor is None or any(breach.kind == "run" for breach in found.faults):
        return None
    return bool(later) and not broken


def _some(kind: str, what: Sequence[str], node: str = "") -> list[Breach]:
    some = [Breach(kind, one, node) for one in what[:MOST]]
    return [*some, Breach(kind, f"and {len(what) - MOST} more", node)] if len(what) > MOST else some


# --- numbers, files, certificates below --------------------------------------------------------------


def _down(check: _Check, payload: bytes, predicate: Predicate) -> None:
    """A node's certificate, then those below it."""
    node, found = predicate.node, check.found
    found.predicates[node] = predicate
    root = next(iter(found.predicates))
    before = len(found.faults)
    check.say(_files(check, predicate), "")
    check.say(_numbers(check, payload, predicate), node, "rewritten" if check.forgotten else "changed")
    for child in predicate.children:
        path = file_of(check.folder, child.node)
        if not path.exists():
            missing = f"the certificate of {child.node} is not there"
            check.say([f"{missing}: put {path.name} beside that of {node}, where it was written"], node)
            continue
        if (opened := _opened(path, check.keys, found)) is None:
            continue
        below, said = opened
        if digest_of(below) != child.sha256 or said.node != child.node:
            other = f"the certificate of {child.node} is not the one it names"
            check.say([f"{other}; if that was certified alone since, certify {root} again (rrm certify RUN)"], node)
        elif said.evidence != predicate.evidence:
            check.say([f"the certificate of {child.node} is of other rows"], node)
        elif (said.databases, said.files) != (predicate.databases, predicate.files):  # they are written at once
            check.say([f"the certificate of {child.node} is of other databases, rows of them, or files"], node)
        else:
            _down(check, below, said)
    named = tuple(child.node for child in predicate.children)
    beside = [
        one for one in check.reader.nodes if one.startswith(f"{node}/") and file_of(check.folder, one).exists()
        and not any(one == child or one.startswith(f"{child}/") for child in named)
    ]  # fmt: skip
    if beside:
        found.notes.append(f"{node}: beside it lie certificates that it does not name: {', '.join(beside)}")
    found.taken += unheard(predicate, check.aside)
    told, more = _shelf(check, predicate, check.register)
    if (told or more) and (since := register_now(check.run)) is not None:  # a command put it there after the run was
        told, more = _shelf(check, predicate, since)  # copied
    check.say(told, node)
    for one in more:
        (found.taken if isinstance(one, Taken) else found.notes).append(one)  # type: ignore[arg-type]
    if predicate.version < 3 and (n := imported_as_people(check.reader, check.copy, check.reader.nodes[node])):
        why = f"{n} of these judgements were imported: that they are people's is what a file said"
        places = [f"design.judges[{i}]" for i, one in enumerate(predicate.design.judges) if one.kind == "people"]
        found.taken += [Taken(node, f"{at}.{one}", why) for at in places for one in ("people", "judgements", "kind")]
    if any("not_known" not in figure.model_dump() for figure in predicate.testing.agreement.values()):
        why = "agreement with the truth was measured beside the run, and is no part of its records"
        found.taken.append(Taken(node, "testing.agreement", why))
    if measured_truths(check.reader, node, predicate.testing.challenges):
        why = "true scores were measured beside the run, and are no part of its records"
        found.taken += [Taken(node, f"testing.challenges.{one}.*.truth", why) for one in ("amount", "gaming")]
    if TRUTH in predicate.databases:
        if attached(check.reader):
            found.notes.append(f"{node}: figures by the truth follow from {TRUTH}; whether that is true was not asked")
        elif (check.copy / TRUTH).exists():
            check.say([f"{TRUTH} is there, and nothing can be read of it: it has another version, or no tables"], node)
        else:
            why = f"they were found from {TRUTH}, which is not there; `rrm measure truth` writes it"
            found.taken.append(Taken(node, "testing.by_truth", why))
    if predicate.testing.audits:
        why = "how often a part of an audit was done until it was as it is nobody recorded"
        found.taken.append(Taken(node, TIMES, why))
    if (machine := machine_of(check.reader)) is not None:
        why = f"on what it was trained ({machine}) is the word of whoever signed"
        found.taken.append(Taken(node, "design.made_with", why))
    if len(found.faults) == before:
        found.notes.append(f"{node}: every number that follows from the records is right, and no file was changed")


def _derived(
    run: Path, copy: Path, config: dict[str, Any], found: Verified, again: Again | None, model: str | None
) -> None:
    """What was computed of the weights, derived again; and the starting model compared, if it is to be loaded."""
    root, start = next(iter(found.predicates)), Started()
    if again is None and model is None:
        why = "the starting model and its tokenizer were not looked at (--model compares them)"
        found.taken.append(Taken(root, "design.model", why))
    else:
        where = model or (again.model if again is not None else "")
        try:
            start = check_start(config, [*found.predicates.values()], where)
        except ModelError as error:
            if model is not None:
                raise
            start = Started(left=[str(error)])
        found.faults += [Breach("changed", one) for one in start.wrong]
        found.notes += start.right
        found.taken += [Taken(root, "design.model", one) for one in start.left]
        if where:
            words = str(config["model"]["name"]).rpartition(" and ")[2]
            config["model"]["name"] = str(config["model"]["name"]).removesuffix(words) + where
            (copy / "config.json").write_text(json.dumps(config))
    beside(run, copy, {name for predicate in found.predicates.values() for name in predicate.files})
    for node, predicate in found.predicates.items():
        done = []
        for one in derive(copy, predicate, again, start.norms):
            if isinstance(one, Taken):
                found.taken.append(one)
                continue
            done.append(one)
            found.faults += _some("untold" if one.moved else "changed", one.other, node)
            found.taken += [Taken(node, place, why) for place, why in one.taken]
            if one.moved and one.other:
                found.notes.append(f"{node}: {one.called}: this machine computes otherwise: {one.moved}")
            if one.close:
                found.notes.append(f"{node}: {one.called}: {one.close} numbers are the same but for last digits")
        for entry in predicate.guarantees.found:
            if isinstance(sure := entry["found"].get("confidence"), float):
                found.notes.append(f"{node}: {plain(entry['name'], 60)}: with confidence {sure:g} for all together")
        if done:
            places = ", ".join(one.called for one in done)
            took = sum(one.seconds for one in done)
            found.notes.append(f"{node}: derived again from the weights in {took:.1f} s: {places}")


def _files(check: _Check, predicate: Predicate) -> Iterable[str]:
    """The files that it names, and the weights that the rows name, whether or not it does; its configuration is one."""
    if CONFIG not in predicate.files:
        yield f"{CONFIG} is not among the files that it names"
    for name in predicate.files:
        if name != PurePosixPath(name).as_posix() or PurePosixPath(name).is_absolute() or ".." in name.split("/"):
            yield f"{plain(name, 60)} is no path within a run, as it is written"
    named = {**weights_in(check.copy, predicate.node), **predicate.files}
    for name, digest in named.items():
        if (now := check.hash_of(name)) != digest:
            if now is None and (link := first_link(check.run, [name])):
                yield link_told(link)
            else:
                yield f"{name} is missing" if now is None else f"{name} is not the file that it was"
    for name, digest in weights_in(check.copy, predicate.node).items():
        if predicate.files.get(name) != digest:
            yield f"{name} is not among the files that it names, with the hash that run.db has"


def _shelf(
    check: _Check, predicate: Predicate, register: Sequence[Noted]
) -> tuple[list[str], list[Taken | str]]:
    """What of RUN/trust is not as the certificate and the rows that it is of have it; and what lies there, or did,
    beside its chapters. register: what run.db notes, later rows included."""
    mine = [one for one in register if one.task == predicate.node]
    said = [*downgraded(check.reader, predicate)]
    if predicate.shelf is not None:
        then = {*noted(check.reader, predicate.node)}
        later = [one for one in mine if one not in then]
        said += off_the_shelf(check.run, check.reader, predicate, later)
        said += unspoken(check.run, check.reader, predicate)
    return said, [*beside_chapters(check.run, check.reader, predicate, mine)]


def _numbers(check: _Check, payload: bytes, predicate: Predicate) -> Iterable[str]:
    """Places at which the certificate says otherwise than the records do."""
    if predicate.version == 1 and started_from(check.reader) is not None:
        yield "it is of version 1, which leaves out what this run started from by SHA-256 (about.model in config.json)"
    given, subjects = predicate.model_dump(mode="json"), read_payload(payload)[0]
    children = {child.node: child.sha256 for child in predicate.children}
    chapters = {name: getattr(predicate, name) for name in ("interpretability", "formal_verification", "guarantees")}
    evidence, databases = check.records
    if TRUTH in predicate.databases and TRUTH not in databases:
        databases = {**databases, TRUTH: predicate.databases[TRUTH]}  # taken as signed, which is said
    again = predicate_of(
        check.reader, check.copy, Hashed(evidence, predicate.files, databases), predicate.node, predicate.made,
        children, chapters, predicate.testing.audits, predicate.testing, predicate.version, predicate.shelf or (),
    )  # fmt: skip
    anew = json.loads(json.dumps(again.model_dump(mode="json")))
    told, found = ({key: one for key, one in side.items() if key not in NOTED} for side in (given, anew))
    for side in (told, found):  # older ones say it of any world
        side["not_shown"] = [ANYWHERE if line == IN_A_WORLD else line for line in side["not_shown"]]
    for where, is_, was in differences(told, found):
        yield f"{where}: it says {short(is_)}, and the records {short(was)}"
    derived = subjects_of(check.reader, again)
    for name in sorted({*subjects, *derived}):
        if subjects.get(name) != derived.get(name):
            yield f"the subject {name!r} is not that of the run"
