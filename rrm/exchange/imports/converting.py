"""A source's rows as comparisons: which format they are of, what is left out, and what became of every column."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from rrm.core.judgements import Comparison
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import hh, peerread, steps
from rrm.exchange.imports import preferences as trl
from rrm.exchange.imports.columns import Account, LeftOut, Row, SourceRow
from rrm.exchange.imports.lengths import Limit
from rrm.exchange.imports.mapped import LLMBAR, Columns
from rrm.exchange.imports.peerread import Dealing
from rrm.exchange.imports.sources import Source, of_one_split
from rrm.store.store import Origin

Format = Literal["hh", "trl", "peerread", "steps", "llmbar"]
Kind = Literal["hh", "trl", "peerread", "steps", "llmbar", "map"]
LOOKED_AT = 100
"""Rows that tell the format."""
ALIKE = "both outcomes are the same"


@dataclass
class Tally:
    """What reading came across; filled as it goes on."""

    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    """Variants of the format -> rows."""
    left: Counter[str] = field(default_factory=Counter)
    """Reasons for rows (and pairs of a row) to be left out."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason -> where it was met first."""
    notes: Counter[str] = field(default_factory=Counter)
    columns: Account = field(default_factory=Account)
    """What became of every column."""
    cut: int = 0
    """Comparisons whose outcomes were cut."""

    def leave(self, reason: str, place: str) -> None:
        """Count a row that is left out, and where its reason was met first."""
        self.left[reason] += 1
        self.first.setdefault(reason, place)


@dataclass(frozen=True)
class Reading:
    """How rows are to be read.

    Attributes
    ----------
    dealing: how PeerRead's papers meet.
    skip: whether rows that are not of the format are left out, instead of being an error.
    limit: the longest comparison.
    columns: which columns hold what, if the format does not say it.
    ignored: columns that are known to be harmless.
    question: what a critic of steps is asked.
    drawn: whether A is drawn; else the first of two is A, as the source has them.
    """

    format: Kind
    dealing: Dealing = Dealing()
    skip: bool = False
    limit: Limit | None = None
    columns: Columns | None = None
    ignored: frozenset[str] = frozenset()
    question: str = steps.QUESTION
    drawn: bool = True

    @property
    def told(self) -> Columns | None:
        """Which columns hold what, as said, or as is known of the format."""
        return self.columns or (LLMBAR if self.format == "llmbar" else None)


def read(
    given: Source, node: str, how: Reading, tally: Tally
) -> Iterator[tuple[Comparison, tuple[Origin, ...]]]:
    """A source's comparisons, each with the rows it is made of; without a `node`, at the node that each row names.

    Raises `ExchangeError`, naming file and row, at a row that is not of the format; `how.skip` leaves such rows out.
    """
    tally.columns.ignored = how.ignored
    papers: list[peerread.ReviewedPaper] = []
    groups = how.told.groups(given.rows()) if how.told else ([row] for row in given.rows())
    for some in groups:
        tally.rows += len(some)
        rows = [Row({k: v for k, v in row.values.items() if k not in how.ignored}) for row in some]
        origins = tuple(Origin(given.sha256, row.file, row.number) for row in some)
        try:
            if how.format == "peerread":
                papers.append(peerread.paper_of(replace(some[0], values=rows[0]), how.dealing, tally.notes))
                continue
            for comparison in _comparisons(rows, node, how, given.name, some[0].place, tally):
                yield comparison, origins
        except LeftOut as why:
            tally.leave(str(why), some[0].place)
        except ExchangeError as error:
            if not how.skip:
                mend = "" if "--too-long" in str(error) else "; to leave such rows out, give --skip-broken"
                raise ExchangeError(f"{some[0].place}: {error}. Nothing was imported{mend}") from error
            tally.leave("broken", f"{some[0].place}: {error}")
        finally:
            for row, given_row in zip(rows, some, strict=True):
                tally.columns.add(given_row.values, row.seen, row.ways)
    yield from _papers(papers, given, node, how, tally)


def _comparisons(
    rows: Sequence[Row], node: str, how: Reading, source: str, place: str, tally: Tally
) -> list[Comparison]:
    """What rows that are read together give; what of it is left out is counted. All of it, or an error: a row that is
    broken in its last pair gives none."""
    node = node_for(rows[0], node)
    if how.format == "steps":
        return _kept(steps.comparisons_of(rows[0], node, source, how.question), how, place, tally)
    parts = how.told.parts(rows) if how.told else [rows[0]] if how.format == "hh" else trl.parts(rows[0])
    convert = hh.comparison_of if how.format == "hh" else partial(trl.comparison_of, draw=how.drawn)
    found: list[Comparison] = []
    for part in parts:
        try:
            found.append(convert(part, node, source))
        except LeftOut as why:
            if len(parts) == 1:
                raise
            tally.leave(str(why), place)
        if how.format == "trl":
            tally.found[trl.variant(part.raw)] += 1
    return _kept(found, how, place, tally)


def _kept(found: Sequence[Comparison], how: Reading, place: str, tally: Tally) -> list[Comparison]:
    """Those that are short enough, or cut."""
    if how.limit is None:
        return list(found)
    kept = []
    for one in found:
        try:
            kept.append(how.limit.kept(one))
        except LeftOut as why:
            tally.leave(str(why), place)
        else:
            tally.cut += kept[-1] is not one
    return kept


def _papers(
    papers: Sequence[peerread.ReviewedPaper], given: Source, node: str, how: Reading, tally: Tally
) -> Iterator[tuple[Comparison, tuple[Origin, ...]]]:
    if not papers:
        return
    groups, alone = peerread.deal(papers, how.dealing.group)
    tally.found["groups of papers"] = len(groups)
    if alone:
        tally.left["a paper alone in its venue and split"] += alone
        tally.first["a paper alone in its venue and split"] = given.name
    for comparison, *pair in peerread.comparisons_of(papers, node, how.dealing):
        place = " and ".join(f"{paper.file}:{paper.number}" for paper in pair)
        if comparison.a == comparison.b:
            tally.leave(ALIKE, place)
            continue
        try:
            kept = _kept([comparison], how, place, tally)
        except ExchangeError as error:
            raise ExchangeError(f"{place}: {error}. Nothing was imported") from error
        for one in kept:
            yield one, tuple(Origin(given.sha256, paper.file, paper.number) for paper in pair)


def node_for(row: Mapping[str, Any], node: str) -> str:
    """Where a row belongs: `node`, or where it says that it was judged. Raises `ExchangeError` if it says neither."""
    own = None if node else trl.node_of(row)
    if not (node or own):
        raise ExchangeError("it names no node (the column of `rrm export`); say with --node which node was judged")
    return node or own or ""


# --- before they are read ----------------------------------------------------------------------------


def prepared(
    given: Source, node: str, format: Format | Literal["auto"], columns: Columns | None
) -> tuple[Source, Kind]:
    """The source with one split only, and its format. Raises `ExchangeError` if it has none of the known ones, or rows
    of other nodes than `node`."""
    kind: Kind = "map" if columns is not None else detect(given) if format == "auto" else format
    splits: dict[str, None] = {}
    nodes: dict[str, str] = {}
    for row in given.rows():
        if isinstance(split := row.values.get("split"), str):
            splits.setdefault(split)
        try:
            own = trl.node_of(row.values) if kind == "trl" else None
        except ExchangeError:
            continue  # an error of the row's, with its place, when it is read
        if own is not None:
            nodes.setdefault(own, row.place)
    if node and set(nodes) - {node} and len(nodes) > 1:
        others = ", ".join(f"{name} (first: {place})" for name, place in nodes.items() if name != node)
        raise ExchangeError(
            f"{given.name} is an export of {len(nodes)} nodes: beside {node!r} it has rows of {others}. Leave out "
            f"--node, and every row goes to its own node; or export one: rrm export RUN --node {node} -o FILE"
        )
    if kind == "peerread" and given.split is None:
        return given, kind  # splits do not meet in what is compared
    return of_one_split(given, list(splits)), kind


def detect(given: Source) -> Format:
    """The format, by the first rows. Raises `ExchangeError` if they are of none, or of several."""
    looked = list(itertools.islice(given.rows(), LOOKED_AT))
    if not looked:
        raise ExchangeError(f"{given.name}: no rows in it")
    kinds = Counter(kind for row in looked if (kind := _kind(row)) is not None)
    if not kinds:
        raise ExchangeError(
            f"{looked[0].place}: rows of no known format; the columns are {', '.join(looked[0].values) or 'none'}. "
            "There must be chosen and rejected (hh, trl), reviews and abstract (peerread), labels of steps (steps), or "
            "input, output_1, output_2 and label (llmbar). "
            "Say which columns hold what: --map prompt=... --map a=... --map b=... --map prefers=... Of rows about one "
            "outcome each, say what they say of it: --as ratings, approvals, marks, corrections, or demonstrations"
        )
    if len(kinds) > 1:
        shares = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        raise ExchangeError(f"{given.name}: its first rows are of several formats ({shares}); say --format")
    return next(iter(kinds))


def _kind(row: SourceRow) -> Format | None:
    if "reviews" in row.values and ("abstract" in row.values or "title" in row.values):
        return "peerread"
    if "chosen" not in row.values and "rejected" not in row.values:
        if steps.looks(row.values):
            return "steps"
        if {"input", "output_1", "output_2", "label"} <= set(row.values):
            return "llmbar"
        return "trl" if {"completion", "label"} <= set(row.values) else None  # its error says what is missing
    return "hh" if hh.looks(row.values) else "trl"
