"""Put people's judgements from elsewhere into a run.

Imported comparisons have rounds below 0: they were judged before the run's first round, and the node's reward model is
trained on them from its first fit on. What was imported before adds nothing, so the same command
resumes an import that was interrupted. The store keeps, for each comparison, the file and rows it is made of.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rrm.core.judgements import Comparison
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import hh, peerread
from rrm.exchange.imports import preferences as trl
from rrm.exchange.imports.peerread import Dealing
from rrm.exchange.imports.sources import LeftOut, Source, SourceRow, source
from rrm.exchange.imports.votes import Key, Votes, combined, key_of
from rrm.store.config import read_config
from rrm.store.store import Origin, Store

Format = Literal["hh", "trl", "peerread"]
Progress = Callable[[str, int], None]
"""Hears what is being done, and with how many comparisons so far."""
LOOKED_AT = 100
"""Rows that tell the format."""
BATCH = 200
"""Comparisons that are written at once."""
ALIKE = "both outcomes are the same"


@dataclass
class Tally:
    """What reading came across; filled as it goes on."""

    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    """Variants of the format -> rows."""
    left: Counter[str] = field(default_factory=Counter)
    """Reasons for rows (and pairs of papers) to be left out."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason -> where it was met first."""
    notes: Counter[str] = field(default_factory=Counter)

    def leave(self, reason: str, place: str) -> None:
        """Count a row that is left out, and where its reason was met first."""
        self.left[reason] += 1
        self.first.setdefault(reason, place)


@dataclass(frozen=True)
class Imported:
    """What became of a source's rows."""

    format: Format
    tally: Tally
    added: int
    known: int
    """Comparisons that were there before."""
    again: int
    """Rows that judge two outcomes which an earlier row of the source judged: their mean preference counts."""
    split: int
    """Pairs of outcomes of which rows prefer one and rows the other."""
    ties: int
    nodes: Mapping[str, int]
    """Node -> how many comparisons of it the source has."""

    @property
    def rows(self) -> int:
        """Rows that were read (papers, for peerread), those left out included."""
        return self.tally.rows

    @property
    def alike(self) -> int:
        """Left out: both outcomes are the same."""
        return self.tally.left[ALIKE]

    def lines(self) -> list[str]:
        """The same in words, for the terminal."""
        kinds = "; ".join(f"{kind}: {n}" for kind, n in self.tally.found.most_common())
        thing = "papers" if self.format == "peerread" else "rows"
        out = [f"Format: {self.format}{f' ({kinds})' if kinds else ''}; {self.rows} {thing} read"]
        out += [f"{n} comparisons at {node}" for node, n in self.nodes.items()]
        out += [f"left out: {n}, {why} (first: {self.tally.first[why]})" for why, n in self.tally.left.most_common()]
        out += [f"taken as missing: {n}, {what}" for what, n in self.tally.notes.most_common()]
        numbers = [
            f"{n} {what}"
            for n, what in (
                (self.known, "were there before"), (self.again, "rows judge a pair again (the mean counts)"),
                (self.split, "pairs judged both ways"), (self.ties, "ties"),
            )
            if n
        ]  # fmt: skip
        return [*out, "; ".join([f"{self.added} added", *numbers])]


def read(
    given: Source, node: str, format: Format, dealing: Dealing, tally: Tally, skip: bool = False,
    longest: int | None = None,
) -> Iterator[tuple[Comparison, tuple[Origin, ...]]]:  # fmt: skip
    """A source's comparisons, each with the rows it is made of; without a `node`, at the node that each row names.

    Raises `ExchangeError`, naming file and row, at a row that is not of the format; `skip` leaves such rows out.
    """
    papers: list[peerread.ReviewedPaper] = []
    for row in given.rows():
        tally.rows += 1
        try:
            if format == "peerread":
                papers.append(peerread.paper_of(row, dealing, tally.notes))
                continue
            convert = hh.comparison_of if format == "hh" else trl.comparison_of
            comparison = convert(row.values, _node_for(row.values, node), given.name)
        except LeftOut as why:
            tally.leave(str(why), row.place)
            continue
        except ExchangeError as error:
            if not skip:
                raise ExchangeError(
                    f"{row.place}: {error}. Nothing was imported; to leave such rows out, give --skip-broken"
                ) from error
            tally.leave("broken", f"{row.place}: {error}")
            continue
        if longest is not None and length(comparison) > longest:
            tally.leave(f"longer than {longest} characters", row.place)
            continue
        if format == "trl":
            tally.found[trl.variant(row.values)] += 1
        yield comparison, (Origin(given.sha256, row.file, row.number),)
    if not papers:
        return
    groups, alone = peerread.deal(papers, dealing.group)
    tally.found["groups of papers"] = len(groups)
    if alone:
        tally.left["a paper alone in its venue and split"] += alone
        tally.first["a paper alone in its venue and split"] = given.name
    for comparison, *pair in peerread.comparisons_of(papers, node, dealing):
        if comparison.a == comparison.b:
            tally.leave(ALIKE, " and ".join(f"{paper.file}:{paper.number}" for paper in pair))
            continue
        if longest is not None and length(comparison) > longest:
            tally.leave(f"longer than {longest} characters", " and ".join(f"{p.file}:{p.number}" for p in pair))
            continue
        yield comparison, tuple(Origin(given.sha256, paper.file, paper.number) for paper in pair)


def length(comparison: Comparison) -> int:
    """Characters of a comparison's prompt and of the longer of its outcomes: what a reward model reads at once."""
    return len(comparison.case.prompt) + max(len(comparison.a.shown), len(comparison.b.shown))


def _node_for(row: Mapping[str, Any], node: str) -> str:
    """Where a row belongs: `node`, or where it says that it was judged. Raises `ExchangeError` if it says neither."""
    own = None if node else trl.node_of(row)
    if not (node or own):
        raise ExchangeError("it names no node (the column of `rrm export`); say with --node which node was judged")
    return node or own or ""


def _check_nodes(given: Source, node: str) -> None:
    """Rows of several nodes, as an export of a whole run has, are not all of the one that was said."""
    named: dict[str, str] = {}
    for row in given.rows():
        try:
            own = trl.node_of(row.values)
        except ExchangeError:
            continue  # an error of the row's, with its place, when it is read
        if own is not None:
            named.setdefault(own, row.place)
    if node and set(named) - {node} and len(named) > 1:
        others = ", ".join(f"{name} (first: {place})" for name, place in named.items() if name != node)
        raise ExchangeError(
            f"{given.name} is an export of {len(named)} nodes: beside {node!r} it has rows of {others}. Leave out "
            f"--node, and every row goes to its own node; or export one: rrm export RUN --node {node} -o FILE"
        )


def detect(given: Source) -> Format:
    """The format, by the first rows. Raises `ExchangeError` if they are of none, or of several."""
    looked = list(itertools.islice(given.rows(), LOOKED_AT))
    if not looked:
        raise ExchangeError(f"{given.name}: no rows in it")
    kinds = Counter(kind for row in looked if (kind := _kind(row)) is not None)
    if not kinds:
        raise ExchangeError(
            f"{looked[0].place}: rows of no known format; the columns are {', '.join(looked[0].values) or 'none'}. "
            "There must be chosen and rejected (hh, trl), or reviews and abstract (peerread)"
        )
    if len(kinds) > 1:
        shares = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        raise ExchangeError(f"{given.name}: its first rows are of several formats ({shares}); say --format")
    return next(iter(kinds))


def _kind(row: SourceRow) -> Format | None:
    if "reviews" in row.values and ("abstract" in row.values or "title" in row.values):
        return "peerread"
    if "chosen" not in row.values and "rejected" not in row.values:
        return "trl" if {"completion", "label"} <= set(row.values) else None  # its error says what is missing
    return "hh" if hh.looks(row.values) else "trl"


def load(
    given: Source | Path | str, folder: Path, node: str = "", format: Format | Literal["auto"] = "auto",
    dealing: Dealing = Dealing(), skip: bool = False, progress: Progress = lambda what, n: None,
    longest: int | None = None,
) -> Imported:  # fmt: skip
    """Put a source's comparisons into a run's store, as judged before its first round at `node`. The run may be new.

    `longest`: comparisons with more characters (`length`) are left out, and counted.
    `node`: which node was judged; empty for an export of ours, whose rows say it. Rows that judge the same two outcomes
    make one comparison, with their mean preference (`rrm.exchange.imports.votes`).

    Everything is read once before anything is written. Raises `ExchangeError` naming the row that is wrong (then
    nothing is added), if no row holds a comparison, or if a node's reward model is trained already, without these.
    """
    if node and not all(node.split("/")):
        raise ExchangeError(f"--node {node!r}: give the path of a node, such as paper/proofs")
    opened = given if isinstance(given, Source) else source(given)
    kind = detect(opened) if format == "auto" else format
    if kind == "trl":
        _check_nodes(opened, node)
    if kind != "trl" and not node:
        raise ExchangeError(f"{opened.name}: its rows ({kind}) name no node; say with --node which node was judged")
    tally = Tally()
    nodes: Counter[str] = Counter()
    votes: dict[Key, Votes] = {}
    dealt: dict[str, str] = {}
    last, total = -1, 0
    for comparison, origins in read(opened, node, kind, dealing, tally, skip, longest):
        total += 1
        key = key_of(comparison)
        if key not in votes:
            votes[key] = Votes(comparison.pair.id)
            nodes[comparison.pair.task] += 1
        votes[key].add(comparison, origins)
        dealt |= peerread.dealt(comparison.case)
        last = max(last, comparison.round)
        if total % BATCH == 0:
            progress("read", total)
    progress("read", total)
    if not total:
        reasons = "; ".join(f"{n}: {why} (first: {tally.first[why]})" for why, n in tally.left.most_common())
        raise ExchangeError(
            f"{opened.name}: none of its {tally.rows} rows gives a comparison{f' ({reasons})' if reasons else ''}"
        )
    _check(folder, nodes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExchangeError(f"cannot make the run's folder {folder} ({error})") from error
    store = Store(folder / "run.db")
    try:
        for name in nodes:
            if any(part == "reward" for _, part in store.checkpoints(name)):
                raise ExchangeError(
                    f"{folder}: the reward model of {name!r} is trained already; import into a new run's folder"
                )
            if dealt:
                _deal_alike(dealt, store.comparisons(name), folder)
        before = store.counts()["comparisons"]
        written = 0
        again = combined(read(opened, node, kind, dealing, Tally(), skip, longest), votes)
        while some := list(itertools.islice(again, BATCH)):
            store.bring(
                [
                    (replace(comparison, round=comparison.round - last - 1), written + position, origins)
                    for position, (comparison, origins) in enumerate(some)
                ]
            )
            written += len(some)
            progress("written", written)
        added = store.counts()["comparisons"] - before
    finally:
        store.close()
    means = [[p for p in one.preferences if p is not None] for one in votes.values()]
    ties = sum(bool(given) and sum(given) == len(given) / 2 for given in means)
    split = sum(bool(given) and min(given) < 0.5 < max(given) for given in means)
    return Imported(kind, tally, added, len(votes) - added, total - len(votes), split, ties, dict(nodes))


def _deal_alike(dealt: Mapping[str, str], there: Iterable[Comparison], folder: Path) -> None:
    """A paper in two cases would be held out and trained on at once."""
    for comparison in there:
        for paper, case in peerread.dealt(comparison.case).items():
            if dealt.get(paper, case) != case:
                raise ExchangeError(
                    f"{folder}: the paper {paper} was imported before, in a group of other papers (another group=..., "
                    "or more papers of its venue); import into a new run's folder"
                )


def _check(folder: Path, nodes: Mapping[str, int]) -> None:
    """A run that was begun has its nodes fixed."""
    there = list(read_config(folder).get("tree", ()))
    for node in nodes:
        if there and node not in there:
            raise ExchangeError(f"{folder} has no node {node!r}; its nodes: {', '.join(there)}")
