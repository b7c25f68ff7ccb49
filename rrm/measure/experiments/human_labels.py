"""Do the children's judgements predict the parent's? From people's labels: no truth is read, and none is needed.

Where a parent's task is decomposed (a paper's recommendation into clarity, originality, ...), the children's
judgements of two outcomes should tell which one the parent prefers; what they leave open is an aspect that nobody
assesses. Everything here is of pairs of outcomes in which the parent prefers one, and unchanged when A and B are
swapped. Cases are the unit of cross-validation and of the bootstrap: pairs of one case share outcomes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison
from rrm.core.parts import is_part
from rrm.core.records import Assistance
from rrm.exchange.imports.converting import Reading, Tally, prepared, read
from rrm.exchange.imports.sources import source
from rrm.learning.heads import Problem, solve
from rrm.measure.experiment import shown, without_nan
from rrm.measure.stats import Interval
from rrm.store.files import write_atomically
from rrm.store.store import Store

NAME = "human-labels"
QUESTION = "How well do the children's judgements predict the parent's?"
FOLDS = 10
STRENGTH = 0.03
"""L2 of the prediction's weights, of signals of mean square 1. Fixed: nothing is chosen on what is predicted."""
ENOUGH = 20
"""Cases below which no interval is given: a bootstrap of fewer is too narrow (tests/measure/test_human_labels.py)."""
RESAMPLES = 2000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LabelsTable:
    """Pairs of outcomes that were judged by the parent and by children; abstentions of the parent left out.

    Attributes
    ----------
    case: (pairs,) which case a pair is of, from 0.
    parent: (pairs,) 1 A is better, -1 B, 0 a tie.
    signals: (pairs, children) how far the child prefers A, -1 to 1; 0 a tie; NaN: it did not judge.
    length: (pairs,) logarithm of A's length over B's, in characters as they are shown.
    """

    children: tuple[str, ...]
    origin: tuple[str, ...]
    """Per child: "comparisons" at its node, or "assistance"."""
    case: NDArray[np.int64]
    parent: Array
    signals: Array
    length: Array


# --- the pairs ---------------------------------------------------------------------------------------


def table(comparisons: Sequence[Comparison], node: str) -> LabelsTable:
    """The parent's comparisons of whole outcomes at `node`, with what its children make of the same two outcomes of the
    same case.

    A child is an assistant whose findings stand beside the outcomes (it prefers the outcome of which the larger share
    of facts holds), or else a node below with comparisons of the same two outcomes.

    Raises `RRMError` if there is no comparison at the node, or no child that judged the same outcomes.
    """
    own = [c for c in comparisons if c.pair.task == node and c.preference is not None and not is_part(c.case)]
    if not own:
        nodes = ", ".join(sorted({c.pair.task for c in comparisons})) or "none"
        raise RRMError(f"no comparison at {node!r} to predict; nodes with comparisons: {nodes}. Give --node")
    below: dict[str, dict[tuple[str, str, str], list[float]]] = {}
    for c in comparisons:
        parent, _, name = c.pair.task.rpartition("/")
        if parent == node and c.preference is not None:
            signal = 2 * c.preference - 1
            judged = below.setdefault(name, {})
            judged.setdefault((c.case.id, c.a.id, c.b.id), []).append(signal)
            judged.setdefault((c.case.id, c.b.id, c.a.id), []).append(-signal)
    helped = {one.name: None for c in own for one in (*c.assistance_a, *c.assistance_b)}
    names = [*helped, *(name for name in sorted(below) if name not in helped)]
    rows = []
    for c in own:
        a, b = ({one.name: one for one in side} for side in (c.assistance_a, c.assistance_b))
        place = (c.case.id, c.a.id, c.b.id)
        rows.append([
            _found(a.get(name), b.get(name)) if name in helped
            else float(np.mean(below[name].get(place, [math.nan]))) for name in names
        ])  # fmt: skip
    signals = np.array(rows, dtype=float).reshape(len(own), len(names))
    judged_any = ~np.isnan(signals).all(0)
    if not judged_any.any():
        raise RRMError(
            f"no child of {node!r} judged the same outcomes: neither is there assistance on them, nor are there "
            f"comparisons of them at a node below, such as {node}/clarity"
        )
    cases = {id: i for i, id in enumerate(dict.fromkeys(c.case.id for c in own))}
    kept = [i for i, any in enumerate(judged_any) if any]
    return LabelsTable(
        tuple(names[i] for i in kept),
        tuple("assistance" if names[i] in helped else "comparisons" for i in kept),
        np.array([cases[c.case.id] for c in own]),
        np.sign([2 * c.preference - 1 for c in own if c.preference is not None]),
        signals[:, kept],
        np.array([math.log((1 + len(c.a.shown)) / (1 + len(c.b.shown))) for c in own]),
    )


def _found(a: Assistance | None, b: Assistance | None) -> float:
    """How far findings speak for A: the difference of the shares of facts that hold. NaN if either is N/A."""
    if a is None or b is None or a.na or b.na:
        return math.nan
    shares = [sum(f.holds for f in one.findings) / len(one.findings) for one in (a, b)]
    return shares[0] - shares[1]


def comparisons_in(where: str | Path, node: str) -> list[Comparison]:
    """The comparisons of a run's folder, or of anything that `rrm import` takes, read as judged at `node`."""
    path = Path(where)
    if (path / "run.db").exists():
        store = Store(path / "run.db")
        try:
            return store.comparisons()
        finally:
            store.close()
    opened, kind = prepared(source(where), node, "auto", None)
    return [comparison for comparison, _ in read(opened, node, Reading(kind), Tally())]


# --- estimates ---------------------------------------------------------------------------------------


def predict(features: Array, parent: Array, case: NDArray[np.int64], folds: int = FOLDS) -> Array:
    """(pairs,) log-odds that the parent prefers A, each by a Bradley-Terry model that saw no pair of its case.

    features: (pairs, features), of opposite sign when A and B are swapped; 0 where nothing is known. No intercept:
    which outcome stands first means nothing.
    """
    scale = np.sqrt((features**2).mean(0))
    x = torch.tensor(features / np.where(scale > 0, scale, 1), dtype=torch.float32)
    names = np.unique(case)
    count = min(folds, len(names))
    order = np.random.default_rng(0).permutation(len(names))
    fold = (order % count)[np.searchsorted(names, case)]
    held = torch.tensor(fold[:, None] == np.arange(count))  # (pairs, folds): one head per fold, blind to it
    problem = Problem.of(x, torch.tensor((parent + 1) / 2, dtype=torch.float32))
    weight = (~held).float() * (count / max(1, count - 1))
    heads = solve(problem, weight, torch.zeros(count, x.shape[1]), STRENGTH)
    odds: Array = (x @ heads.T)[torch.arange(len(x)), torch.tensor(fold)].double().numpy()
    return odds


def _by_length(length: Array, parent: Array) -> tuple[Array, str]:
    """(pairs,) how right it is to prefer the longer outcome, or the shorter: whichever is right more often here.

    A baseline that may look at what it predicts. One that learned its direction by cross-validation would be right on
    less than half where length tells nothing (the pairs left out tip the scales against themselves), and whatever is
    compared with it would seem to tell something.
    """
    longer = right(length, parent)
    return (longer, "longer") if longer.mean() >= 0.5 else (1 - longer, "shorter")


def right(signal: Array, parent: Array) -> Array:
    """(pairs,) 1 where a signal is on the parent's side, 0.5 where it takes none, 0 where it is on the other."""
    return (1 + np.sign(np.where(np.abs(signal) < 1e-9, 0, signal)) * parent) / 2


def surprise(odds: Array, parent: Array) -> Array:
    """(pairs,) nats: minus the log-probability of what the parent preferred."""
    return np.logaddexp(0, -odds * parent)


def over_cases(
    sums: Array, case: NDArray[np.int64], statistic: Callable[[Array], Array], seed: int = 0
) -> Interval:
    """A statistic of column sums with its 95 % interval over cases; NaN for its ends with fewer than `ENOUGH` cases.

    The wider, at either end, of the bootstrap's percentiles and Student's t with the bootstrap's standard deviation:
    the percentiles alone are too narrow where cases are few.

    Parameters
    ----------
    sums: (pairs, columns), summed within cases and over them.
    statistic: (..., columns) -> (...).
    """
    names, place = np.unique(case, return_inverse=True)
    rows = np.zeros((len(names), sums.shape[1]))
    np.add.at(rows, place, sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(rows.sum(0)))
        if len(names) < ENOUGH or math.isnan(value):
            return Interval(mean=value, low=math.nan, high=math.nan, n=len(case))
        weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
        found = statistic(weights @ rows)
    low, high = np.nanpercentile(found, [2.5, 97.5])
    reach = float(np.nanstd(found)) * math.sqrt(len(names) / (len(names) - 1)) * stats.t.ppf(0.975, len(names) - 1)
    return Interval(mean=value, low=min(float(low), value - reach), high=max(float(high), value + reach), n=len(case))


def _mean(values: Array, case: NDArray[np.int64], bounded: bool = False) -> Interval:
    found = over_cases(np.stack([values, np.ones(len(values))], 1), case, lambda s: s[..., 0] / s[..., 1])
    if bounded and not math.isnan(found["low"]):
        found = Interval(mean=found["mean"], low=max(0.0, found["low"]), high=min(1.0, found["high"]), n=found["n"])
    return found


def _cosine(x: Array, y: Array, case: NDArray[np.int64]) -> Interval:
    """Correlation about 0, the mean of every signal: which outcome stands first means nothing."""
    columns = np.stack([x * y, x * x, y * y], 1)
    found = over_cases(columns, case, lambda s: s[..., 0] / np.sqrt(s[..., 1] * s[..., 2]))
    if not math.isnan(found["low"]):
        found = Interval(mean=found["mean"], low=max(-1.0, found["low"]), high=min(1.0, found["high"]), n=found["n"])
    return found


# --- the report --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelsReport:
    """What people's labels say; JSON-able but for NaN."""

    rows: list[dict[str, Any]]
    """Predictors: what they are, the share of pairs they are right on, over what they are measured."""
    children: list[dict[str, Any]]
    """Per child: agreement with the parent on the pairs it judged, and what the prediction loses without it."""
    correlations: list[dict[str, Any]]
    notes: list[str]
    numbers: dict[str, int]


def report(judged: LabelsTable) -> LabelsReport:
    """All of it. Raises `RRMError` if the parent prefers no outcome anywhere."""
    decided = judged.parent != 0
    if not decided.any():
        raise RRMError(f"in all {len(judged.parent)} pairs the parent says tie: there is nothing to predict")
    case, parent = judged.case[decided], judged.parent[decided]
    signals, length = judged.signals[decided], judged.length[decided]
    known = np.where(np.isnan(signals), 0.0, signals)
    by_length, direction = _by_length(length, parent)
    every = predict(known, parent, case)
    both = predict(np.column_stack([known, length]), parent, case)

    def line(name: str, odds: Array) -> dict[str, Any]:
        share = _mean(right(odds, parent), case, bounded=True)
        nats = _mean(surprise(odds, parent), case)
        return {"predictor": name, "how": "cross-validated by case", "right": share, "nats": nats}

    rows: list[dict[str, Any]] = [
        {"predictor": "chance", "how": "a coin: A and B are in no order", "right": 0.5, "nats": math.log(2)},
        {
            "predictor": "length", "how": f"the {direction}, which is right more often here",
            "right": _mean(by_length, case, bounded=True),
        },
        line("all children", every),
        line("all children and length", both),
    ]  # fmt: skip
    gain = _mean(right(every, parent) - by_length, case)
    rows.append({"predictor": "all children, minus length", "how": "the same pairs", "right": gain})
    children: list[dict[str, Any]] = []
    for i, name in enumerate(judged.children):
        there = ~np.isnan(signals[:, i])
        rest = np.delete(known, i, 1)
        without = predict(rest, parent, case) if rest.shape[1] else np.zeros(len(parent))
        children.append({
            "child": name, "from": judged.origin[i], "pairs": int(there.sum()),
            "cases": len(np.unique(case[there])), "ties": int((signals[there, i] == 0).sum()),
            "agrees": _mean(right(signals[there, i], parent[there]), case[there], bounded=True),
            "adds (right)": _mean(right(every, parent) - right(without, parent), case),
            "adds (nats)": _mean(surprise(without, parent) - surprise(every, parent), case),
        })  # fmt: skip
    correlations: list[dict[str, Any]] = []
    for i, first in enumerate(judged.children):
        for j in range(i + 1, len(judged.children)):
            there = ~np.isnan(signals[:, i]) & ~np.isnan(signals[:, j])
            if there.any():
                value = _cosine(signals[there, i], signals[there, j], case[there])
                correlations.append({"children": f"{first}, {judged.children[j]}", "correlation": value})
    numbers = {
        "pairs": int(decided.sum()), "cases": len(np.unique(case)), "ties of the parent": int((~decided).sum()),
        "pairs nobody below judged": int(np.isnan(signals).all(1).sum()),
    }  # fmt: skip
    return LabelsReport(rows, children, correlations, _notes(rows, children, gain, numbers), numbers)


def _notes(
    rows: Sequence[Mapping[str, Any]], children: Sequence[Mapping[str, Any]], gain: Interval, numbers: Mapping[str, int]
) -> list[str]:
    counts = ", ".join(f"{name}: {n}" for name, n in numbers.items())
    notes = [f"{counts}; pairs that the parent calls a tie are left out"]
    if numbers["cases"] < ENOUGH:
        return [
            *notes,
            f"Too little data for intervals: {numbers['cases']} cases, not {ENOUGH}. All of this may be chance.",
        ]
    every = next(row["right"] for row in rows if row["predictor"] == "all children")
    if every["low"] > 0.5:
        notes.append(f"Together the children predict the parent's preference: right on {shown(every)}")
    else:
        notes.append(f"That the children together predict the parent's preference is not shown: {shown(every)}")
    if gain["low"] > 0:
        notes.append(f"They do so better than the outcomes' length: by {shown(gain)}")
    elif gain["high"] < 0:
        notes.append(f"The outcomes' length alone predicts it better: by {shown(_negated(gain))}")
    else:
        notes.append(f"That they do so better than the outcomes' length is not shown: {shown(gain)}")
    adding = [str(child["child"]) for child in children if child["adds (nats)"]["low"] > 0]
    found = ", ".join(adding) or "none, as far as is shown"
    notes.append(f"Adds something that the others do not say (in nats): {found}")
    few = [str(child["child"]) for child in children if math.isnan(child["agrees"]["low"])]
    if few:
        notes.append(f"Judged too few cases for an interval of its own: {', '.join(few)}")
    notes.append("Each interval is of 95 %, without a correction for their number: about one in twenty misses")
    return notes


def _negated(one: Interval) -> Interval:
    return Interval(mean=-one["mean"], low=-one["high"], high=-one["low"], n=one["n"])


def document(found: LabelsReport, where: str, node: str, command: str) -> str:
    """The report as a page of markdown."""
    parts = [f"# {NAME}", QUESTION, f"    {command}", f"People's judgements at `{node}` in `{where}`."]
    parts += [_grid(rows) for rows in (found.rows, found.children, found.correlations) if rows]
    parts.append("\n".join(f"- {note}" for note in found.notes))
    return "\n\n".join(parts) + "\n"


def _grid(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column, "")).replace("|", "\\|") for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *cells))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and math.isnan(value["low"]):
        return "" if math.isnan(value["mean"]) else f"{value['mean']:.3f} (no interval)"
    return shown(value)


def measure(where: str, node: str | None, out: Path, command: str) -> Path:
    """Measure, and write OUT/human-labels/{summary.json, report.md}. Returns the page's path."""
    comparisons = comparisons_in(where, node or "parent")
    parent = node or _parent(comparisons)
    found = report(table(comparisons, parent))
    folder = out / NAME
    record = without_nan({
        "experiment": NAME, "question": QUESTION, "simulated": False, "command": command, "source": where,
        "node": parent, "rows": found.rows, "children": found.children, "correlations": found.correlations,
        "numbers": found.numbers, "notes": found.notes,
        "users": dict(Counter(c.user for c in comparisons if c.pair.task == parent).most_common(20)),
    })  # fmt: skip
    write_atomically(folder / "summary.json", json.dumps(record, indent=1).encode() + b"\n")
    page = folder / "report.md"
    write_atomically(page, document(found, where, parent, command).encode())
    return page


def _parent(comparisons: Iterable[Comparison]) -> str:
    """The node that has comparisons and is nearest to the root. Raises `RRMError` if there are several."""
    nodes = sorted({c.pair.task for c in comparisons}, key=lambda node: (node.count("/"), node))
    if not nodes or (len(nodes) > 1 and nodes[0].count("/") == nodes[1].count("/")):
        raise RRMError(f"which node is the parent? Give --node; there are: {', '.join(nodes) or 'none'}")
    return nodes[0]
