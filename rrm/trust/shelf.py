"""What was computed about a node for its certificate, kept in its run: RUN/trust/NODE/CHAPTER/NAME.json.

Each says of which weights it is. Of others it says nothing, and a certificate leaves it out. run.db notes each with its
hash (`rrm.trust.register`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from rrm.core.errors import RunError
from rrm.store.files import file_name, write_atomically
from rrm.store.store import Store
from rrm.trust.machines import Machine
from rrm.trust.register import CHAPTERS, FOLDER, called, digest_at, newest, noted, weights_digest
from rrm.trust.shapes import ASIDE, whole
from rrm.trust.statement import Chapter
from rrm.view.reading import Reader

OLD = "what was found is of other weights or fewer judgements than the node has now"
Kind = Literal["interpretability", "formal_verification", "guarantees", "audits"]


def weights_of(run: Reader, node: str) -> dict[str, str]:
    """Part (agent, reward) -> SHA-256 of its newest weights; empty before there are any."""
    return {part: sha256 for _, part, _, sha256, _ in run.checkpoints.get(node, ()) if part in ("agent", "reward")}


def rows_of(run: Reader, node: str) -> int:
    """How many rows of its judgements, and of what was made of them, a node has: they are only added to."""
    tables = [table for table in ("comparisons", "scores") if table in run.tables]
    counts = (run.row(f"SELECT COUNT(*) FROM {table} WHERE task = ?", (node,)) for table in tables)
    return sum(int(row[0]) for row in counts if row is not None)


def keep(
    run: Reader, node: str, chapter: Kind, name: str, command: str, found: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None, on: Machine | None = None,
) -> Path:  # fmt: skip
    """Keep what was found, in place of what was found before under this name. `found` is JSON without NaN.

    name: letters, digits, "-" and "_". command: what finds it again. inputs: what it was found from besides the run,
    so that `rrm verify` finds it again (`rrm.trust.deriving`). on: what it was computed on. Raises `RunError` for a
    node without weights, `StoreError` where run.db cannot be written.
    """
    weights = weights_of(run, node)
    if not weights:
        raise RunError(f"{run.folder}: {node!r} has no weights yet; train it first")
    body: dict[str, Any] = {"name": name, "command": command, "weights": weights, "found": dict(found)}
    rows = None if inputs is None else rows_of(run, node)
    if inputs is not None:
        body |= {"inputs": dict(inputs), "on": dict(on or {}), "rows": rows}
    path = run.folder / called(node, chapter, name)
    written = json.dumps(body, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
    digest = hashlib.sha256(written).hexdigest()
    before: list[bytes | None] = [written]  # what lay there

    def put() -> bool:
        before[:] = [_content(path)]
        if before != [written]:
            write_atomically(path, written)
        return before == [written]

    with closing(Store(run.folder / "run.db")) as store:
        try:
            store.note_computed(node, chapter, name, digest, weights_digest(weights), rows, put)
        except BaseException:  # a full disk, Ctrl-C: what is not noted is not kept
            if before != [written] and _content(path) == written:
                if before[0] is None:
                    path.unlink()
                else:
                    write_atomically(path, before[0])
            raise
    return path


def _content(path: Path) -> bytes | None:
    """None where there is no file, or only a link to one."""
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def as_noted(run: Reader, folder: Path, node: str, chapter: Kind, name: str) -> bool:
    """Whether a file on the shelf is the last that run.db notes of its name; also where it notes none, as it was put
    there before there was a register. folder: the run itself, of which `run` may read a copy."""
    last = newest(noted(run, node)).get((chapter, name))
    return last is None or digest_at(folder, called(node, chapter, name)) == last.sha256


def kept(
    folder: Path, run: Reader, node: str, derivable: bool = False, without: Collection[tuple[str, str]] = ()
) -> tuple[dict[str, Chapter], list[Mapping[str, Any]]]:
    """Chapters of what was found about the newest weights, of all that was judged, and audits.

    folder: the run itself, of which `run` may read a copy. derivable: without what an rrm of before found and did not
    say from what, as a certificate has it: nobody finds that again. without: chapter and name of what is left out.
    """
    now, rows = weights_of(run, node), rows_of(run, node)
    chapters: dict[str, Chapter] = {}
    audits: list[Mapping[str, Any]] = []
    for kind in CHAPTERS:
        found: list[Mapping[str, Any]] = []
        old = 0
        for path in sorted((folder / FOLDER / file_name(node) / kind).glob("*.json")):
            if (kind, path.stem) in without:
                continue
            one = entry_in(path, kind, now, rows, derivable)
            if one is not None:
                found.append(one)
            old += one is None
        if kind == "audits":
            audits = found
        elif found:
            chapters[kind] = Chapter(found=tuple(found))
        elif old:
            chapters[kind] = Chapter(empty=OLD)
    return chapters, audits


def entry_in(
    path: Path, kind: str, weights: Mapping[str, str], rows: int, derivable: bool = False
) -> Mapping[str, Any] | None:
    """What a file says for a certificate, if it is of these weights and of so many rows; else None. derivable: as for
    `kept`. Raises `RunError` for a file that cannot be read."""
    try:
        body = json.loads(path.read_text())
        fresh = body["weights"] == weights and {*ASIDE[:3]} < {*body} and body.get("rows", rows) == rows
        fresh = fresh and (whole(kind, body) or not derivable)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it, or find it again") from error
    return {key: body[key] for key in ASIDE if key in body} if fresh else None
