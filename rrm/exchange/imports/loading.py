"""Put people's judgements from elsewhere into a run.

Imported comparisons have rounds below 0: they were judged before the run's first round, and the node's reward model is
trained on them from its first fit on. What was imported before adds nothing, so the same command
resumes an import that was interrupted. The store keeps, for each comparison, the file and rows it is made of.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rrm.core.judgements import Comparison
from rrm.core.parallel import World
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import peerread, steps
from rrm.exchange.imports.converting import ALIKE, Format, Kind, Reading, Tally, prepared, read
from rrm.exchange.imports.lengths import Limit
from rrm.exchange.imports.mapped import Columns
from rrm.exchange.imports.peerread import Dealing
from rrm.exchange.imports.preferences import swapped
from rrm.exchange.imports.sources import Source, source
from rrm.exchange.imports.votes import Key, Votes, combined, key_of
from rrm.loop.lock import locked
from rrm.store.config import read_config
from rrm.store.store import Store

Progress = Callable[[str, int], None]
"""Hears what is being done, and with how many comparisons so far."""
BATCH = 200
"""Comparisons that are written at once."""


@dataclass(frozen=True)
class Imported:
    """What became of a source's rows."""

    format: Kind
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
    said: tuple[str, ...] = ()
    """What was decided about the source: which split is read."""

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
        out += self.said
        out += [f"{n} comparisons at {node}" for node, n in self.nodes.items()]
        out += [f"left out: {n}, {why} (first: {self.tally.first[why]})" for why, n in self.tally.left.most_common()]
        out += [f"taken as missing: {n}, {what}" for what, n in self.tally.notes.most_common()]
        if unread := self.tally.columns.unread():
            out.append(f"not read: {', '.join(f'{name} ({n} {thing})' for name, n in unread.items())}")
        numbers = [
            f"{n} {what}"
            for n, what in (
                (self.known, "were there before"), (self.again, "rows judge a pair again (the mean counts)"),
                (self.split, "pairs judged both ways"), (self.ties, "ties"), (self.tally.cut, "cut"),
            )
            if n
        ]  # fmt: skip
        return [*out, "; ".join([f"{self.added} added", *numbers])]


def load(
    given: Source | Path | str, folder: Path, node: str = "", format: Format | Literal["auto"] = "auto",
    dealing: Dealing = Dealing(), skip: bool = False, progress: Progress = lambda what, n: None,
    limit: Limit | None = None, columns: Columns | None = None, ignore: Sequence[str] = (),
    question: str = steps.QUESTION,
) -> Imported:  # fmt: skip
    """Put a source's comparisons into a run's store, as judged before its first round at `node`. The run may be new.

    `node`: which node was judged; empty for an export of ours, whose rows say it. Rows that judge the same two outcomes
    make one comparison, with their mean preference (`rrm.exchange.imports.votes`). For the others, see `Reading`.

    Everything is read once before anything is written, and the run is locked while it is written. Raises
    `ExchangeError` naming the row that is wrong (then nothing is added), if no row holds a comparison, or if a node's
    reward model is trained already, without these; `RunError` if the run is being trained.
    """
    if node and not all(node.split("/")):
        raise ExchangeError(f"--node {node!r}: give the path of a node, such as paper/proofs")
    opened = given if isinstance(given, Source) else source(given)
    opened, kind = prepared(opened, node, format, columns)
    if kind != "trl" and not node:
        raise ExchangeError(f"{opened.name}: its rows ({kind}) name no node; say with --node which node was judged")
    how = Reading(kind, dealing, skip, limit, columns, frozenset(ignore), question)
    tally = Tally()
    nodes: Counter[str] = Counter()
    votes: dict[Key, Votes] = {}
    dealt: dict[str, str] = {}
    last, total = -1, 0
    for comparison, origins in read(opened, node, how, tally):
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
    if unknown := sorted(set(ignore) - tally.columns.rows.keys() - tally.columns.fields.keys()):
        raise ExchangeError(f"{opened.name} has nothing in a column {unknown[0]!r} to ignore")
    expect_nodes(folder, nodes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExchangeError(f"cannot make the run's folder {folder} ({error})") from error
    with locked(folder, World()):
        added = _write(Store(folder / "run.db"), opened, node, how, nodes, dealt, votes, last, folder, progress)
    means = [[p for p in one.preferences if p is not None] for one in votes.values()]
    ties = sum(bool(given) and sum(given) == len(given) / 2 for given in means)
    split = sum(bool(given) and min(given) < 0.5 < max(given) for given in means)
    return Imported(kind, tally, added, len(votes) - added, total - len(votes), split, ties, dict(nodes), opened.said)


def _write(
    store: Store, opened: Source, node: str, how: Reading, nodes: Mapping[str, int], dealt: Mapping[str, str],
    votes: Mapping[Key, Votes], last: int, folder: Path, progress: Progress,
) -> int:  # fmt: skip
    """Read the source again, and add what it holds; returns how many comparisons are new. Closes the store."""
    there: set[str] = set()
    try:
        expect_untrained(store, nodes, folder)
        for name in nodes:
            if dealt:
                _deal_alike(dealt, store.comparisons(name), folder)
            there |= {pair for _, pair in store.origins(name)}
        before = store.counts()["comparisons"]
        written = 0
        again = combined(read(opened, node, how, Tally()), votes)
        while some := list(itertools.islice(again, BATCH)):
            store.bring(
                [
                    (replace(one, round=one.round - last - 1), written + position, origins)
                    for position, (comparison, origins) in enumerate(some)
                    for one in [_as_there(comparison, there)]
                ]
            )
            written += len(some)
            progress("written", written)
        return store.counts()["comparisons"] - before
    finally:
        store.close()


def expect_untrained(store: Store, nodes: Iterable[str], folder: Path) -> None:
    """Raise `ExchangeError` if a node's reward model is trained already, without what is to be imported."""
    for name in nodes:
        if any(part == "reward" for _, part in store.checkpoints(name)):
            raise ExchangeError(
                f"{folder}: the reward model of {name!r} is trained already; import into a new run's folder"
            )


def _as_there(comparison: Comparison, there: set[str]) -> Comparison:
    """With the same outcome as A as where it was imported before (by a version that drew otherwise)."""
    turned = comparison.pair.swapped().id
    return swapped(comparison) if turned in there and comparison.pair.id not in there else comparison


def _deal_alike(dealt: Mapping[str, str], there: Iterable[Comparison], folder: Path) -> None:
    """A paper in two cases would be held out and trained on at once."""
    for comparison in there:
        for paper, case in peerread.dealt(comparison.case).items():
            if dealt.get(paper, case) != case:
                raise ExchangeError(
                    f"{folder}: the paper {paper} was imported before, in a group of other papers (another group=..., "
                    "or more papers of its venue); import into a new run's folder"
                )


def expect_nodes(folder: Path, nodes: Iterable[str]) -> None:
    """Raise `ExchangeError` for a node that the run does not have: one that was begun has its nodes fixed."""
    there = list(read_config(folder).get("tree", ()))
    for node in nodes:
        if there and node not in there:
            raise ExchangeError(f"{folder} has no node {node!r}; its nodes: {', '.join(there)}")
