"""Does a certificate hold? Signature, rows, files, every number anew, and the certificates below; nothing is trusted
that the run's folder brings, and nothing of it is executed: weights are hashed, JSON and SQLite are read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrm.core.border import BROKEN, plain
from rrm.core.errors import RRMError, RunError
from rrm.store import links
from rrm.store.store import LINKED
from rrm.trust.certifying import file_of, public_beside
from rrm.trust.gathering import databases_of, files_of, predicate_of, subjects_of
from rrm.trust.signing import KeyProblem, PublicKey, SignatureError, check_signature, open_envelope, read_public
from rrm.trust.snapshot import OTHERS, copied, cut
from rrm.trust.statement import CertificateError, Predicate, digest_of, read_payload
from rrm.view.reading import Reader

CODES = {"format": 3, "signature": 4, "key": 5, "run": 6, "changed": 7, "rewritten": 8, "policy": 9}
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
}
NOTED = frozenset({"made", "rrm"})
"""Of a predicate, what no record tells again."""
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
    predicates: dict[str, Predicate] = field(default_factory=dict)
    """Node -> what its certificate says."""

    @property
    def code(self) -> int:
        """The exit status."""
        return min((CODES[fault.kind] for fault in self.faults), default=0)


def verify(certificate: Path, run: Path, keys: Sequence[Path] = ()) -> Verified:
    """Check a certificate against its run, and those below it, which are looked for beside it. Raises `RunError` where
    there is no run; all else is told in what is returned.

    Parameters
    ----------
    keys: files of public keys that whoever verifies trusts; without any, the one that lies beside the certificate.
    """
    found = Verified()
    known = _keys(certificate, keys, found)
    if (opened := _opened(certificate, known, found)) is None:
        return found
    payload, predicate = opened
    if not (run / "run.db").exists():
        raise RunError(f"{run}: no run there (a run's folder holds run.db)")
    try:
        _integrity(run, found)
        with copied(run) as copy:
            if _same_rows(copy, predicate, found):
                cut(copy, predicate.evidence.size)
                with Reader(copy) as reader:
                    _down(certificate.parent, run, copy, reader, payload, predicate, known, found)
    except (RRMError, sqlite3.Error, *BROKEN) as error:  # whatever a damaged file does to what reads it
        found.faults.append(Breach("changed", f"the run cannot be read ({type(error).__name__}: {plain(str(error))})"))
    return found


def _keys(certificate: Path, keys: Sequence[Path], found: Verified) -> dict[str, PublicKey]:
    try:
        if keys:
            return {key.keyid: key for key in map(read_public, keys)}
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


def _integrity(run: Path, found: Verified) -> None:
    """The files' own structure: pages, indices, constraints."""
    for name in ("run.db", *OTHERS):
        if not (run / name).exists():
            continue
        with closing(sqlite3.connect(f"{(run / name).resolve().as_uri()}?mode=ro", uri=True)) as db:
            said = [text for (text,) in db.execute("PRAGMA integrity_check(5)")]
        if said != ["ok"]:
            found.faults.append(Breach("changed", f"{name} is damaged: {'; '.join(said)[:300]}"))


def _same_rows(copy: Path, predicate: Predicate, found: Verified) -> bool:
    """Whether the run is the certificate's, so that it makes sense to go on."""
    evidence = predicate.evidence
    with closing(sqlite3.connect(copy / "run.db")) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'links'").fetchone():
            found.faults.append(Breach("run", "run.db has no links: it is of before there were certificates"))
            return False
        chain = links.chain_of(db, evidence.size)
        head = db.execute("SELECT head FROM links WHERE seq = 1").fetchone()
        broken = links.faults(db, LINKED)
        later = links.rewritten(db, evidence.size)
        total = db.execute("SELECT COUNT(*) FROM links").fetchone()[0]
    if head is None or chain is None:
        found.faults.append(Breach("run", f"run.db has {total} links, and the certificate is of {evidence.size} rows"))
    elif (chain.root, chain.head) != (evidence.root, evidence.head):
        kind = "changed" if broken else "run"
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
    return not any(fault.kind == "run" for fault in found.faults)


def _some(kind: str, what: Sequence[str], node: str = "") -> list[Breach]:
    some = [Breach(kind, one, node) for one in what[:MOST]]
    return [*some, Breach(kind, f"and {len(what) - MOST} more", node)] if len(what) > MOST else some


# --- numbers, files, certificates below --------------------------------------------------------------


def _down(
    folder: Path, run: Path, copy: Path, reader: Reader, payload: bytes, predicate: Predicate,
    keys: Mapping[str, PublicKey], found: Verified,
) -> None:  # fmt: skip
    """A node's certificate, then those below it."""
    node = predicate.node
    found.predicates[node] = predicate
    before = len(found.faults)
    _files(run, predicate, found)
    found.faults += _some("changed", list(_numbers(run, copy, reader, payload, predicate)), node)
    for child in predicate.children:
        path = file_of(folder, child.node)
        if not path.exists():
            found.faults.append(Breach("changed", f"the certificate of {child.node} is not there ({path.name})", node))
            continue
        if (opened := _opened(path, keys, found)) is None:
            continue
        below, said = opened
        if digest_of(below) != child.sha256:
            found.faults.append(Breach("changed", f"the certificate of {child.node} is not the one it names", node))
            continue
        if said.evidence != predicate.evidence:
            found.faults.append(Breach("changed", f"the certificate of {child.node} is of other rows", node))
            continue
        _down(folder, run, copy, reader, below, said, keys, found)
    chapters = (predicate.interpretability, predicate.formal_verification, predicate.guarantees)
    if predicate.testing.audits or any(chapter.found for chapter in chapters):
        found.notes.append(f"{node}: what was computed of its weights is taken as signed; its commands find it again")
    if len(found.faults) == before:
        found.notes.append(f"{node}: every number follows from the records, and no file was changed")


def _files(run: Path, predicate: Predicate, found: Verified) -> None:
    """The files that it names, and the weights that run.db names."""
    now = files_of(run)
    for name, digest in predicate.files.items():
        if now.get(name) != digest:
            what = f"{name} is not the file that it was" if name in now else f"{name} is missing"
            fault = Breach("changed", what)
            if fault not in found.faults:
                found.faults.append(fault)
    with closing(sqlite3.connect(f"{(run / 'run.db').resolve().as_uri()}?mode=ro", uri=True)) as db:
        saved = db.execute("SELECT path, sha256 FROM checkpoints WHERE task = ?", (predicate.node,)).fetchall()
    for name, digest in saved:
        if name in predicate.files and predicate.files[name] != digest:
            found.faults.append(Breach("changed", f"{name} was not what run.db says when it was certified"))


def _numbers(run: Path, copy: Path, reader: Reader, payload: bytes, predicate: Predicate) -> Iterable[str]:
    """Places at which the certificate says otherwise than the records do."""
    given, subjects = predicate.model_dump(mode="json"), read_payload(payload)[0]
    children = {child.node: child.sha256 for child in predicate.children}
    chapters = {name: getattr(predicate, name) for name in ("interpretability", "formal_verification", "guarantees")}
    beside = (copy.parent / "report.json").exists()  # a measurement that is no part of the run
    again = predicate_of(
        reader, copy, run, predicate.node, predicate.made, children, chapters, predicate.testing.audits,
        None if beside else predicate.testing.agreement,
    )
    derived = json.loads(json.dumps(again.model_dump(mode="json")))
    derived["files"] = given["files"]  # looked at above, file by file
    derived["databases"] = json.loads(json.dumps(databases_of(copy, predicate.databases)))
    for where, is_, was in _differences(given, derived):
        yield f"{where}: it says {is_}, and the records {was}"
    for name, digest in subjects_of(reader, again).items():
        if name != "config.json" and subjects.get(name) != digest:
            yield f"the subject {name!r} is not that of the run"
    if subjects.get("config.json") != {"sha256": predicate.files.get("config.json")}:
        yield "the subject 'config.json' is not the file that it names"


def _differences(given: Any, derived: Any, where: str = "") -> Iterable[tuple[str, str, str]]:
    """(place, what is said there, what should be)."""
    if isinstance(given, dict) and isinstance(derived, dict):
        for key in sorted({*given, *derived}):
            place = f"{where}.{key}" if where else str(key)
            if not where and key in NOTED:
                continue
            if key not in given or key not in derived:
                yield place, _short(given.get(key, "nothing")), _short(derived.get(key, "nothing"))
            else:
                yield from _differences(given[key], derived[key], place)
    elif isinstance(given, list) and isinstance(derived, list) and len(given) == len(derived):
        for i, (one, other) in enumerate(zip(given, derived, strict=True)):
            yield from _differences(one, other, f"{where}[{i}]")
    elif given != derived or type(given) is not type(derived):
        yield where, _short(given), _short(derived)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
