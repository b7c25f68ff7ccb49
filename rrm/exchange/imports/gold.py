"""Gold questions of a file: rows of preferences as `rrm import` reads them, of which what is chosen is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import LeftOut
from rrm.exchange.imports.preferences import comparison_of, node_of
from rrm.exchange.imports.sources import source
from rrm.labels.controls import Gold
from rrm.labels.questions import side


def gold_of(file: Path, root: str, nodes: Sequence[str]) -> list[Gold]:
    """The gold questions in a file (JSONL, or what else `rrm import` reads): a row has `prompt`, `chosen` and
    `rejected`, and `preference` 0.5 if neither is better. A row of `rrm export` names its node; others are about
    `root`.

    Raises `ExchangeError` naming the row that is no such thing, or is of none of the run's `nodes`, and both rows where
    two say different things of one pair.
    """
    found: dict[str, tuple[Gold, str]] = {}
    for row in source(file).rows():
        try:
            node = node_of(row.values) or root
            one = comparison_of(row.values, node, file.name)
        except (ExchangeError, LeftOut) as why:
            raise ExchangeError(f"{row.place}: {why}. No gold question was taken") from why
        if node not in nodes:
            raise ExchangeError(f"{row.place}: the run has no node {node!r}; it has {', '.join(nodes)}")
        if one.preference is None:
            raise ExchangeError(f"{row.place}: no preference, so nothing is right; leave the row out")
        gold, place = found.setdefault(one.pair.id, (Gold(one.pair, one.preference), row.place))
        if side(gold.better) != side(one.preference):
            raise ExchangeError(
                f"{place} and {row.place} judge the same two outcomes, and differ in which is better. Leave out the "
                "one that is wrong; no gold question was taken"
            )
    if not found:
        raise ExchangeError(f"{file} has no rows; give pairs as rrm export writes them: prompt, chosen, rejected")
    return [gold for gold, _ in found.values()]
