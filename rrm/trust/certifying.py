"""Write certificates of a run's finished nodes, the ones below first: a parent's names its children's by their hash, so
that the paper's induction (an aligned A(k-1) helps to align A(k)) can be followed link by link."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from rrm.core.errors import RunError
from rrm.core.spelling import named_node
from rrm.store import links
from rrm.store.files import file_name, write_together
from rrm.store.store import LINKED, Store
from rrm.store.truths import FILE as TRUTH
from rrm.trust.gathering import Hashed, evidence_of, files_of, finished, predicate_of
from rrm.trust.origins import subjects_of
from rrm.trust.register import FOLDER as SHELF
from rrm.trust.register import Noted, altered, noted, shelf_of
from rrm.trust.shelf import kept
from rrm.trust.signing import PublicKey, make_key, now, read_public, sign
from rrm.trust.snapshot import TRIES, copied, databases_of, first_link, link_told, linked, look, only_judged, weights_in
from rrm.trust.statement import Predicate, digest_of, payload_of
from rrm.trust.who_judged import only_people
from rrm.view.reading import Reader
from rrm.view.truth import attached

FOLDER = "certificates"
OWN_KEY = "key-{}.pub"
"""The public key that is left beside the certificates where none is given; the private one is thrown away."""


@dataclass(frozen=True)
class Certified:
    """A certificate that was written."""

    node: str
    path: Path
    sha256: str
    """Of its payload."""
    predicate: Predicate


def file_of(out: Path, node: str) -> Path:
    """Where a node's certificate is."""
    return out / f"{file_name(node)}.json"


def certify(run: Path, node: str | None = None, key: Path | None = None, out: Path | None = None) -> list[Certified]:
    """Certify a node and all that were trained below it in this run; by default the root. Nothing is signed that does
    not agree with itself: raises `RunError` for nodes that are not finished, rows that are not as their links say, and
    weights that are not those of run.db; `KeyProblem`, `StoreError`.

    Parameters
    ----------
    run: its folder, which nothing but `out` is written to. Where its database is of before rows were linked, it is
        brought up to date first.
    key: a private key's file of `make_key`. By default one is made and thrown away, and its public half left beside
        the certificates, which proves integrity and not identity.
    out: a folder; by default RUN/certificates.
    """
    out = out or run / FOLDER
    if key is None:
        with TemporaryDirectory(prefix="rrm-") as folder:
            key = Path(folder) / "key"
            public = make_key(key, "made for these certificates, and thrown away")
            beside = {out / OWN_KEY.format(public.keyid[:16]): key.with_name("key.pub").read_bytes()}
            return _certified(run, node, key, out, beside)
    return _certified(run, node, key, out)


def _certified(
    run: Path, node: str | None, key: Path, out: Path, beside: Mapping[Path, bytes] = MappingProxyType({})
) -> list[Certified]:
    """As `certify`. beside: what is written with the certificates."""
    if not (run / "run.db").exists():
        raise RunError(f"{run}: no run there (a run's folder holds run.db)")
    if link := first_link(run):
        raise RunError(link_told(run / link))
    linked(run)
    for _ in range(TRIES):  # what is put into RUN/trust meanwhile is of later rows than those that were copied
        payloads, register = _payloads(run, node)
        with closing(Store(run / "run.db")) as store:
            if [Noted(*row) for row in store.computed()] == register:
                break
    else:
        raise RunError(f"{run}: something is put into {SHELF} all the time; try again when that is done")
    bodies = {file_of(out, path): sign(payload, key) for path, (payload, _) in payloads.items()}
    write_together({**bodies, **beside})  # those above name those below: all, or none
    return [Certified(path, file_of(out, path), digest_of(payload), told) for path, (payload, told) in payloads.items()]


def _payloads(run: Path, node: str | None) -> tuple[dict[str, tuple[bytes, Predicate]], list[Noted]]:
    """Node -> what is to be signed, and what it says, those below first; and the register that it is of."""
    made, found = now(), dict[str, tuple[bytes, Predicate]]()
    with copied(run, truth=True) as copy, Reader(copy) as reader:
        top = named(reader, node)
        nodes = [path for path in reader.nodes if path == top or path.startswith(f"{top}/")]
        for path in nodes:  # before any is written
            if reader.nodes[path].finished is None:
                finished(reader, path)
        records = _records(run, copy, nodes)
        if (copy / TRUTH).exists() and not attached(reader):
            raise RunError(
                f"{run / TRUTH} cannot be read: another version of rrm made it, or it is damaged; take it away, or "
                "measure the truth again"
            )
        for path in reversed(nodes):
            if reader.nodes[path].finished is not None:
                continue  # trained in another run, whose certificate it is
            below = {name: digest_of(one) for name, (one, _) in found.items() if name.startswith(f"{path}/")}
            shelf = shelf_of(run, reader, path)
            chapters, audits = kept(run, reader, path, True, altered(shelf))
            predicate = predicate_of(
                reader, copy, records, path, made, _children(below), chapters, audits, shelf=shelf
            )
            found[path] = payload_of(subjects_of(reader, predicate), predicate), predicate
        return found, noted(reader)


def _records(run: Path, copy: Path, nodes: Iterable[str]) -> Hashed:
    """What is hashed of a run, if it agrees with itself. Raises `RunError`."""
    look(copy)
    only_people(copy)
    only_judged(copy)
    with closing(sqlite3.connect(copy / "run.db")) as db:
        broken = links.faults(db, LINKED)
    if broken:
        raise RunError(
            f"{run}: {broken[0]}" + (f", and {len(broken) - 1} more" if len(broken) > 1 else "") + ". Somebody changed "
            "run.db other than through rrm; a certificate of it would say what nobody knows to be so"
        )
    records = Hashed(evidence_of(copy), files_of(run), databases_of(copy))
    for node in nodes:
        for path, digest in weights_in(copy, node).items():
            if records.files.get(path) != digest:
                what = "is not the file that run.db speaks of" if path in records.files else "is missing"
                raise RunError(f"{run / path} {what}; put it back, or train {node} again elsewhere")
    return records


def outdated(out: Path, node: str) -> list[str]:
    """Nodes above one whose certificates lie in a folder: they name, each through the one below it, the certificate
    that the node had before it was certified alone, and hold no more."""
    parts = node.split("/")
    above = ("/".join(parts[:n]) for n in range(len(parts) - 1, 0, -1))
    return [one for one in above if file_of(out, one).exists()]


def public_beside(out: Path) -> list[PublicKey]:
    """The public keys that lie beside certificates."""
    return [read_public(path) for path in sorted(out.glob(OWN_KEY.format("*")))]


def _children(below: Mapping[str, str]) -> dict[str, str]:
    """Those directly below: theirs name the rest."""
    return {name: digest for name, digest in below.items()
            if not any(name.startswith(f"{other}/") for other in below if other != name)}  # fmt: skip


def named(run: Reader, name: str | None) -> str:
    """A node's path, by its path or an end of it; the root's without one. Raises `NodeError` if there is none such."""
    return run.root if name is None else named_node(name, run.nodes, run.title)
