"""The numbers of a certificate, from a run's records alone: the same records give the same numbers, to the bit."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.core.errors import RunError
from rrm.core.shares import Known, mean, share
from rrm.core.version import VERSION as RRM
from rrm.store import links
from rrm.store.tags import FILE as TAGS
from rrm.store.truths import FILE as TRUTHS
from rrm.trust.judged_where import ANYWHERE, IN_A_WORLD, of_rrm
from rrm.trust.origins import unsure_origins
from rrm.trust.register import holes, unsaid
from rrm.trust.shelf import OLD
from rrm.trust.snapshot import Rows, hash_of, link_told
from rrm.trust.statement import (
    VERSION,
    Chapter,
    Child,
    DesignChoices,
    Evidence,
    Figure,
    Found,
    Helper,
    NotKnown,
    Predicate,
    Scope,
    Shelved,
    Testing,
    Version,
)
from rrm.trust.true_figures import JUDGED, UNASKED, by_truth_of
from rrm.trust.who_judged import CURRENT, DERIVED, SAID, given_by_people, judges_of
from rrm.view.challenge_records import plain
from rrm.view.comparisons import PARTS
from rrm.view.five_figures import challenges_of, watched_truth
from rrm.view.reading import NodeView, Reader

SKIPPED = ("run.db", "labels.db", "calls.db", "lock", "lock.json", TAGS, TRUTHS)
"""Files of a run that are hashed in another way, come and go, are measured beside it, or are for finding it again; so
are what SQLite puts beside its own, halves of files, certificates, and what is in these as it was (trust)."""
_CURRENT = CURRENT
_WHOLE = f"{_CURRENT} AND NOT {PARTS}"
"""Figures are of comparisons of whole outcomes (`rrm.core.parts`)."""
_DERIVED = DERIVED
DONE = "finished"
"""The state of a node that can have a certificate."""
EMPTY = {
    "interpretability": "nothing was computed about what moves its judgements",
    "formal_verification": "nothing was proven of its weights",
    "guarantees": "no bound was computed of what it may do to its parent",
}
"""Chapter -> why there is nothing in it; or `OLD`, or `LOST`."""
LOST = "what was found is not there any more as run.db notes it"


@dataclass(frozen=True)
class Hashed:
    """What a certificate rests on, hashed; the same for all nodes of a run."""

    evidence: Evidence
    files: Mapping[str, str]
    databases: Rows


def predicate_of(
    run: Reader, copy: Path, records: Hashed, path: str, made: str, children: Mapping[str, str],
    chapters: Mapping[str, Chapter] | None = None, audits: Sequence[Mapping[str, Any]] = (),
    signed: Testing | None = None, version: Version = VERSION, shelf: Sequence[Shelved] = (),
) -> Predicate:  # fmt: skip
    """All that a certificate of a node says. Raises `RunError` for a node that is not finished.

    Parameters
    ----------
    run: a reader of `copy`, the copy of the run as it was (`rrm.trust.snapshot`).
    records: what is hashed.
    made: when.
    children: node -> SHA-256 of its certificate's payload.
    chapters: those of interpretability, formal_verification and guarantees that there are.
    signed: of an earlier certificate, what was measured beside the run; by default what a report.json there says.
    version: of the certificate; what is written is of the newest.
    shelf: what lies in RUN/trust of the node, and what run.db notes of it (`rrm.trust.register`).
    """
    node = finished(run, path)
    found = chapters or {}
    if signed is not None and TRUTHS not in records.databases:  # then it was found from nothing
        signed = signed.model_copy(update={"by_truth": None})
    design = design_of(run, copy, node, children, version)
    testing = testing_of(run, node, audits, signed)
    three = three_of(found, shelf)
    scope = Scope(
        cases=_one(run, f"SELECT COUNT(DISTINCT c.case_id) FROM comparisons c WHERE {_WHOLE}", path),
        first=tuple(map(str, run.config.get("cases", ()))),
        shift=_shift(audits),
    )
    below = tuple(Child(node=name, sha256=digest) for name, digest in sorted(children.items()))
    parts: dict[str, Any] = {"design": design, "testing": testing, "scope": scope, **three}
    parts["shelf"] = tuple(shelf) if version > 2 else None
    return Predicate(
        version=version, rrm=RRM, made=made, node=path, evidence=records.evidence, files=records.files,
        databases=records.databases, children=below, not_shown=not_shown_of(run, node, parts, below, version), **parts,
    )  # fmt: skip


def finished(run: Reader, path: str) -> NodeView:
    """A node that can have a certificate. Raises `RunError` for others."""
    if path not in run.nodes:
        raise RunError(f"the run has no node {path!r}; it has {', '.join(run.nodes)}")
    node = run.nodes[path]
    state = run.progress(node).state
    if state != DONE:
        below = [one for one in run.nodes if one.startswith(f"{path}/") and run.progress(run.nodes[one]).state == DONE]
        those = f", or certify what is below it: {', '.join(below)}" if below else ""
        raise RunError(
            f"{path} is not finished ({state}), and only what is can have a certificate: go on training it{those}"
        )
    return node


def three_of(found: Mapping[str, Chapter], shelf: Sequence[Shelved] = ()) -> dict[str, Chapter]:
    """The three chapters beside design and testing, empty ones with the reason."""
    lost = {one.chapter for one in shelf if one.lies in ("gone", "altered")}
    return {
        name: _chapter(found.get(name, Chapter()), LOST if name in lost else why) for name, why in EMPTY.items()
    }


def _chapter(given: Chapter, why: str) -> Chapter:
    """Either what was found or a reason that rrm has, whatever a certificate gives."""
    if given.found:
        return Chapter(found=given.found)
    return Chapter(empty=OLD if given.empty == OLD and why != LOST else why)


# --- what is hashed ----------------------------------------------------------------------------------


def evidence_of(copy: Path) -> Evidence:
    """The links of a copy's run.db."""
    with closing(sqlite3.connect(copy / "run.db")) as db:
        chain = links.chain_of(db)
    assert chain is not None  # all of them
    return Evidence(size=chain.size, root=chain.root, head=chain.head)


def files_of(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of the run's files that are no databases. Raises `RunError` for a symbolic link: what it leads to
    is no part of the run."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(where) / name
            called = path.relative_to(folder).as_posix()
            if skipped(called):
                continue
            if path.is_symlink():
                raise RunError(link_told(path))
            if name in files and (digest := hash_of(path)) is not None:
                found[called] = digest
    return dict(sorted(found.items()))


def skipped(name: str) -> bool:
    """Whether a file of a run is none of those that are hashed one by one."""
    for tail in ("-wal", "-shm", "-journal"):
        name = name.removesuffix(tail)
    return name in SKIPPED or name.endswith(".part") or name.split("/")[0] in ("certificates", "trust")


# --- chapters ----------------------------------------------------------------------------------------


def design_of(
    run: Reader, copy: Path, node: NodeView, children: Mapping[str, str], version: int = VERSION
) -> DesignChoices:
    """What was trained, how, and who judged. copy: the folder that `run` reads; children, version: as for
    `predicate_of`."""
    about = run.config.get("about", {})
    told: Mapping[str, Any] = about.get("tasks", {})
    aspects: tuple[str, ...] | NotKnown = NotKnown(not_known="the run is of before this was kept")
    unassessed: tuple[str, ...] | NotKnown = aspects
    if node.path in told:
        aspects = tuple(told[node.path]["aspects"])
        covered = {one for name in told[node.path]["assistants"] for one in told.get(name, {}).get("covers", ())}
        unassessed = tuple(one for one in aspects if one not in covered)
    model = {key: value for key, value in run.config.get("model", {}).items()}
    elsewhere = ("started", "tasks", "code", "model", "command")
    made_with = {key: value for key, value in about.items() if key not in elsewhere}
    given = dict(zip(("by_people", "imported_as_people"), given_by_people(run, node), strict=True))
    return DesignChoices(
        instruction=node.instruction, aspects=aspects, unassessed=unassessed,
        judges=judges_of(run, copy, node, version), **(given if version > 2 else {}),
        assistants=_helpers(run, node, told, children), settings=dict(node.settings),
        seed=int(run.config.get("seed", 0)), model=model, made_with=made_with,
    )  # fmt: skip


def _helpers(
    run: Reader, node: NodeView, told: Mapping[str, Any], children: Mapping[str, str]
) -> tuple[Helper, ...]:
    """What was shown beside judged outcomes, and what of it the judge checked."""
    met: dict[str, dict[str, dict[str, list[float]]]] = {}
    versions: dict[str, set[str]] = {}
    query = (
        "SELECT c.case_id, c.checks, sa.body, sb.body FROM comparisons c JOIN blobs sa ON sa.id = c.assistance_a"
        f" JOIN blobs sb ON sb.id = c.assistance_b WHERE {_WHOLE} AND c.purpose != ? ORDER BY c.seq"
    )
    for case, checks, *sides in run.rows(query, (node.path, _DERIVED)):
        for one in (one for side in sides for one in json.loads(side)):
            where = met.setdefault(one["assistant"], {}).setdefault(case, {})
            versions.setdefault(one["assistant"], set()).add(str(one["version"]))
            answers = one["answers"]
            where.setdefault("silent", []).append(float(not any(answer["findings"] for answer in answers)))
            where.setdefault("unreadable", []).append(float(any(answer["unreadable"] for answer in answers)))
        for check in json.loads(checks):
            where = met.setdefault(check["by"], {}).setdefault(case, {})
            kind = "false alarms" if not check["said"] else "misses"
            where.setdefault(kind, []).append(float(not check["right"]))
    own = [name for name in told.get(node.path, {}).get("assistants", ())]
    found = []
    for name in [*own, *(name for name in sorted(met) if name not in own and name != node.path)]:
        cases = met.get(name, {})

        def told_of(kind: str, why: str, cases: Mapping[str, Mapping[str, Sequence[float]]] = cases) -> Found:
            return _share(((sum(by[kind]), len(by[kind])) for by in cases.values() if kind in by), why)

        found.append(
            Helper(
                node=name, versions=tuple(sorted(versions.get(name, ()))),
                answers=sum(len(by.get("silent", ())) for by in cases.values()),
                silent=told_of("silent", "it was not asked here"),
                unreadable=told_of("unreadable", "it was not asked here"),
                false_alarms=told_of("false alarms", "nothing that it called wrong was checked"),
                misses=told_of("misses", "nothing that it called right was checked"),
                certificate=children.get(name),
            )
        )  # fmt: skip
    return tuple(found)


def testing_of(
    run: Reader, node: NodeView, audits: Sequence[Mapping[str, Any]] = (), signed: Testing | None = None
) -> Testing:
    """What the judged comparisons say of a node, finished or not. signed: where agreement with the truth and true
    scores are taken from, which were measured beside the run; by default what a report.json there says."""
    rows = run.rows(
        f"SELECT c.case_id, c.preference FROM comparisons c WHERE {_WHOLE} AND c.purpose != ?",
        (node.path, _DERIVED),
    )
    by_case: dict[str, list[float | None]] = {}
    for case, preference in rows:
        by_case.setdefault(case, []).append(preference)
    none = "nothing was judged here"
    held = held_out(run, node)
    few = "nothing was held out of the last fit, or its scores were not kept"
    right = _share(((sum(o[0] for o in some), len(some)) for some in held.values()), few)
    expected, brier = (
        _mean(((sum(o[i] for o in some), len(some)) for some in held.values()), few) for i in (1, 2)
    )
    measured = run.report.get("agreement", {}) if node.path == run.root and signed is None else {}
    by_truth = by_truth_of(run, node, signed)
    untrue = NotKnown(not_known=UNASKED if by_truth is None else JUDGED)
    agreement: Found = untrue
    if signed is not None and node.path == run.root:  # only of the root is it measured
        told = signed.agreement.get("assisted")
        agreement = told if isinstance(told, Figure) else untrue
    if isinstance(measured, dict) and all(isinstance(measured.get(one, 0), int | float) for one in ("mean", "n")) and (
        "mean" in measured
    ):
        agreement = Figure(
            value=measured["mean"], low=measured.get("low"), high=measured.get("high"), n=int(measured.get("n", 0)),
            cases=int(measured.get("n", 0)),
        )  # fmt: skip
    return Testing(
        judged=len(rows),
        tied=_share(((sum(p == 0.5 for p in some), len(some)) for some in by_case.values()), none),
        abstained=_share(((sum(p is None for p in some), len(some)) for some in by_case.values()), none),
        held_out=right, expected=expected, brier=brier,
        agreement={"assisted": agreement, "unassisted": untrue},
        challenges=plain(challenges_of(run, node, None if signed is None else truths_in(signed.challenges))),
        audits=tuple(dict(one) for one in audits), by_truth=by_truth,
    )  # fmt: skip


def truths_in(challenges: Mapping[str, Any]) -> dict[int, float]:
    """Round -> true score after it, of the challenges of a certificate, whatever else somebody put there."""
    found: dict[int, float] = {}
    for name in ("amount", "gaming"):
        rows = challenges.get(name)
        for row in rows if isinstance(rows, list | tuple) else ():
            round, truth = (row.get("round"), row.get("truth")) if isinstance(row, Mapping) else (None, None)
            if not isinstance(round, int):
                continue
            pair = truth if isinstance(truth, list | tuple) and len(truth) == 2 else (None, truth)
            given = zip((round - 1, round), pair, strict=True)
            found |= {at: one for at, one in given if isinstance(one, int | float) and not isinstance(one, bool)}
    return found


def measured_truths(run: Reader, node: str, challenges: Mapping[str, Any]) -> bool:
    """Whether true scores in a certificate's challenges were measured beside the run, and are not of its records."""
    return bool(truths_in(challenges)) and not watched_truth(run.metrics(node, ("truth",)))


def _shift(audits: Sequence[Mapping[str, Any]]) -> Found:
    """How often the reward model was right on cases of another kind, if an audit looked."""
    for one in audits:
        figure = one["found"].get("predicted", {}) if one["name"] == "shifted" else {}
        if "value" in figure:
            return Figure(**figure)
    return NotKnown(not_known="nobody looked at cases of another kind; `rrm audit` does")


def held_out(run: Reader, node: NodeView) -> dict[str, list[tuple[float, float, float]]]:
    """Case -> (right, expected, squared error) of the comparisons that were held out of the node's last fit;
    none where no scores were kept."""
    if "scores" not in run.tables:
        return {}
    last = _one(run, "SELECT MAX(round) FROM checkpoints WHERE task = ? AND part = 'reward'", node.path)
    rows = run.rows(
        "SELECT c.case_id, c.preference, s.margin FROM scores s JOIN comparisons c ON c.task = s.task"
        " AND c.pair = s.pair AND c.round <= s.round JOIN checkpoints k ON k.task = s.task AND k.round = s.round"
        f" AND k.part = 'reward' AND k.at > c.at WHERE s.round = ? AND s.held AND {_WHOLE}"
        " AND c.preference IS NOT NULL AND c.preference != 0.5 AND c.purpose != ? ORDER BY c.seq",
        (last, node.path, _DERIVED),
    )
    found: dict[str, list[tuple[float, float, float]]] = {}
    for case, preference, margin in rows:
        chance = 1 / (1 + math.exp(-margin))
        right = 0.5 if margin == 0 else float((margin > 0) == (preference > 0.5))
        found.setdefault(case, []).append((right, max(chance, 1 - chance), (chance - preference) ** 2))
    return found


# --- what is not shown -------------------------------------------------------------------------------


def not_shown_of(
    run: Reader, node: NodeView, parts: Mapping[str, Any], children: Sequence[Child] = (), version: int = VERSION
) -> tuple[str, ...]:
    """What a reader may think is shown, and is not. parts: chapters by their field in `Predicate`."""
    design: DesignChoices = parts["design"]
    said = []
    kinds = {judge.kind for judge in design.judges}
    if kinds & {"simulated", "other"}:
        said.append(IN_A_WORLD if of_rrm(run.config) and "simulated" in kinds else ANYWHERE)
    if "model" in kinds:
        said.append("That people would judge so: a language model judged.")
    if "imported" in kinds:
        said.append("Who judged what was imported: the run does not say whether people did.")
    if any(judge.name == SAID for judge in design.judges):
        said.append("That people judged what was imported as theirs: a file said so, and nothing in the run shows it.")
    if "people" in kinds:
        said.append("That the people who judged want what others want.")
    said.append("That what the judge preferred is truly better: the reward model learned preferences, not the truth.")
    said.append("Anything of cases that differ from those it was trained on.")
    if parts_of := _one(run, f"SELECT COUNT(*) FROM comparisons c WHERE {_CURRENT} AND {PARTS}", node.path):
        said.append(f"Anything of parts of outcomes: {parts_of} comparisons are of such, and figures of whole ones.")
    if isinstance(design.unassessed, NotKnown):
        said.append(f"Which aspects nobody assesses: {design.unassessed.not_known}.")
    elif design.unassessed and design.assistants:
        said.append(f"Anything of aspects that no assistant assesses: {', '.join(design.unassessed)}.")
    # those further below are theirs to speak of; what has a path of its own was finished before, or is a tool
    direct = {child.path for child in run.children(node.path) if child.path.startswith(f"{node.path}/")}
    lacking = {helper.node for helper in design.assistants if helper.certificate is None and helper.node in direct}
    said += [f"Anything of its assistant {name}: it has no certificate here." for name in sorted(lacking)]
    said += [
        f"{name.replace('_', ' ').capitalize()}: {parts[name].empty}."
        for name in ("interpretability", "formal_verification", "guarantees") if parts[name].empty
    ]  # fmt: skip
    for name in ("interpretability", "formal_verification", "guarantees"):
        for one in parts[name].found:
            statements = one.get("found", {}).get("statements", ())
            said += [
                f"{single['statement']} ({single.get('verdict') or 'not known'})" for single in statements
                if single.get("verdict", "holds") != "holds" or "not known" in single
            ]  # fmt: skip
    chapters = {name: parts[name].found for name in EMPTY} | {"audits": parts["testing"].audits}
    said += [*holes(parts.get("shelf") or ()), *unsaid(parts.get("shelf") or (), chapters)]
    said += [f"{where}: not known, as {why}." for where, why in sorted(_unknown(parts["testing"].model_dump()))]
    if node.finished is not None:
        said.append("How it was trained: it was finished in another run.")
    if version > 1:
        said += unsure_origins(run)
    return tuple(dict.fromkeys(said))


def _unknown(value: Any, where: str = "testing") -> Iterable[tuple[str, str]]:
    """Places of figures that are not known, with the reasons; of the rounds of a figure once."""
    if isinstance(value, Mapping):
        for key in ("not_known", "not known"):
            if key in value:
                yield where, str(value[key]).rstrip(".")
                return
        for key, one in value.items():
            yield from _unknown(one, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        yield from {found for one in value for found in _unknown(one, f"{where}{_named(one)}")}


def _named(one: Any) -> str:
    """Of an audit's part: which."""
    return f".{one['name']}" if isinstance(one, Mapping) and "name" in one else ""


# --- figures -----------------------------------------------------------------------------------------


def _share(clusters: Iterable[tuple[float, float]], why: str) -> Found:
    return _figure(share(clusters), why)


def _mean(clusters: Iterable[tuple[float, float]], why: str) -> Found:
    return _figure(mean(clusters), why)


def _figure(known: Known | None, why: str) -> Found:
    if known is None:
        return NotKnown(not_known=why)
    low, high = (None if math.isnan(one) else one for one in (known.low, known.high))
    return Figure(value=known.mean, low=low, high=high, n=known.n, cases=known.cases)


def _one(run: Reader, query: str, path: str) -> Any:
    row = run.row(query, (path,))
    return None if row is None else row[0]
