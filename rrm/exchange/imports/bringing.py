"""Put what people said of single outcomes elsewhere into a run: ratings, approvals, marks, corrections, demonstrations.

They stand in the store beside no comparison, with a round below 0; the node's reward model and agent learn from them
from its first round on (`rrm.core.remarks`). What was imported before adds nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rrm.core.parallel import World
from rrm.core.remarks import Remarked
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.alone import Alone
from rrm.exchange.imports.columns import LeftOut, Row
from rrm.exchange.imports.converting import Tally, node_for, prepared
from rrm.exchange.imports.lengths import Limit
from rrm.exchange.imports.loading import BATCH, expect_nodes, expect_untrained
from rrm.exchange.imports.sources import Source, source
from rrm.loop.lock import locked
from rrm.store.store import Origin, Store

Read = tuple[Remarked, Origin]


@dataclass(frozen=True)
class Brought:
    """What became of a source's rows."""

    how: Alone
    tally: Tally
    added: int
    kinds: Counter[tuple[str, str]]
    """(kind, node) -> remarks of the source."""
    said: tuple[str, ...] = ()
    """What was decided about the source: which split is read."""

    def lines(self) -> list[str]:
        """The same in words, for the terminal."""
        out = [f"Read as {self.how.what}; {self.tally.rows} rows read", *self.said]
        out += [f"{n} {kind}{'s' if kind != 'unacceptable' else ' marks'} at {node}" for (kind, node), n in
                sorted(self.kinds.items())]  # fmt: skip
        out += [f"left out: {n}, {why} (first: {self.tally.first[why]})" for why, n in self.tally.left.most_common()]
        if unread := self.tally.columns.unread():
            out.append(f"not read: {', '.join(f'{name} ({n} rows)' for name, n in unread.items())}")
        known = sum(self.kinds.values()) - self.added
        return [*out, f"{self.added} added" + (f"; {known} were there before, or said twice" if known else "")]


def load_remarks(
    given: Source | Path | str, folder: Path, how: Alone, node: str = "", skip: bool = False,
    progress: Callable[[str, int], None] = lambda what, n: None, limit: Limit | None = None, ignore: Sequence[str] = (),
) -> Brought:  # fmt: skip
    """Put a source's remarks into a run's store, as made before its first round at `node`. The run may be new.

    `node`: which node the outcomes are of; empty for an export of ours, whose rows say it. `skip`: leave out rows that
    are broken. `limit`: the longest prompt and outcome together; of these, nothing is cut.

    Everything is read once before anything is written, and the run is locked while it is written. Raises as
    `rrm.exchange.imports.loading.load` does.
    """
    if node and not all(node.split("/")):
        raise ExchangeError(f"--node {node!r}: give the path of a node, such as paper/proofs")
    opened, _ = prepared(given if isinstance(given, Source) else source(given), node, "trl", None)
    ignored = frozenset(ignore)
    tally = Tally()
    tally.columns.ignored = ignored
    kinds: Counter[tuple[str, str]] = Counter()
    last = -1
    for one, _origin in _read(opened, node, how, ignored, skip, limit, tally):
        kinds[one.remark.kind, one.task] += 1
        last = max(last, one.round)
        if sum(kinds.values()) % BATCH == 0:
            progress("read", sum(kinds.values()))
    if not kinds:
        reasons = "; ".join(f"{n}: {why} (first: {tally.first[why]})" for why, n in tally.left.most_common())
        raise ExchangeError(
            f"{opened.name}: none of its {tally.rows} rows gives a remark{f' ({reasons})' if reasons else ''}"
        )
    if unknown := sorted(ignored - tally.columns.rows.keys() - tally.columns.fields.keys()):
        raise ExchangeError(f"{opened.name} has nothing in a column {unknown[0]!r} to ignore")
    nodes = {task for _, task in kinds}
    expect_nodes(folder, nodes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExchangeError(f"cannot make the run's folder {folder} ({error})") from error
    with locked(folder, World()):
        store = Store(folder / "run.db")
        try:
            expect_untrained(store, nodes, folder)
            before, written = store.counts()["remarks"], 0
            again = _read(opened, node, how, ignored, skip, limit, Tally())
            while some := list(itertools.islice(again, BATCH)):
                store.bring_remarks([(replace(one, round=one.round - last - 1), [origin]) for one, origin in some])
                written += len(some)
                progress("written", written)
            added = store.counts()["remarks"] - before
        finally:
            store.close()
    return Brought(how, tally, added, kinds, opened.said)


def _read(
    given: Source, node: str, how: Alone, ignored: frozenset[str], skip: bool, limit: Limit | None, tally: Tally
) -> Iterator[Read]:
    """A source's remarks, each with its row. Raises `ExchangeError`, naming file and row, at a row that is broken."""
    for values in given.rows():
        tally.rows += 1
        row = Row({name: value for name, value in values.values.items() if name not in ignored})
        try:
            one = how.remarked(row, node_for(row, node), given.name)
            if limit is not None:
                better = one.remark.better
                limit.expect(one.case.prompt, [one.outcome] if better is None else [one.outcome, better])
            yield one, Origin(given.sha256, values.file, values.number)
        except LeftOut as why:
            tally.leave(str(why), values.place)
        except ExchangeError as error:
            if not skip:
                raise ExchangeError(
                    f"{values.place}: {error}. Nothing was imported; to leave such rows out, give --skip-broken"
                ) from error
            tally.leave("broken", f"{values.place}: {error}")
        finally:
            tally.columns.add(values.values, row.seen, row.ways)
