"""What a report and a model's card say of a run, from its records alone: the readers of the pages and of certificates,
and no figure computed a second way."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.core.seeding import seed_of
from rrm.core.settings import Settings
from rrm.core.shares import mean
from rrm.store.truths import FILE as TRUTH
from rrm.trust.gathering import design_of, evidence_of, not_shown_of, testing_of, three_of
from rrm.trust.shelf import kept, weights_of
from rrm.trust.snapshot import are_files, copied, hash_of, up_to_date, without_torn
from rrm.trust.statement import Chapter, DesignChoices, Found, NotKnown, Testing
from rrm.view.comparisons import ShownComparison, comparison
from rrm.view.figures import FigureTable, tables_of
from rrm.view.reading import Curves, NodeProgress, NodeView, Reader, find_runs
from rrm.view.seeds import compared, experiment_of
from rrm.view.truth import untold

LONGEST = 1500
"""Characters of a text that an example shows."""
MISSING = "not measured"


@dataclass(frozen=True)
class Shown:
    """A figure as a document shows it, with its 95 % interval where there is one, or why it is missing."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    cases: int | None = None
    """In how many cases, or over how many runs (`of`)."""
    of: str = "cases"
    why: str = ""

    @staticmethod
    def found(one: Found) -> Shown:
        """A certificate's figure."""
        if isinstance(one, NotKnown):
            return Shown(None, why=one.not_known)
        return Shown(one.value, one.low, one.high, one.n, one.cases)

    @staticmethod
    def plain(one: Any) -> Shown:
        """A figure of the five challenges as JSON (`rrm.view.challenge_records.plain`)."""
        if not isinstance(one, Mapping) or "mean" not in one:
            return Shown(None, why=str(one.get("not known", "")) if isinstance(one, Mapping) else "it was not kept")
        return Shown(one["mean"], one.get("low"), one.get("high"), int(one["n"]), one.get("cases"))

    def __str__(self) -> str:
        """ "0.80 [0.71, 0.88], n 40 in 12 cases"; "not measured: why"."""
        if self.value is None:
            return f"{MISSING}{f': {self.why}' if self.why else ''}"
        between = "" if self.low is None or self.high is None else f" [{self.low:z.2f}, {self.high:z.2f}]"
        many = "" if self.n is None else f", n {self.n:,}"
        within = "" if self.cases is None else f" in {self.cases:,} {self.of if self.cases != 1 else self.of[:-1]}"
        return f"{self.value:z.2f}{between}{many}{within if many else ''}"


@dataclass(frozen=True)
class NodeTold:
    """What is known of a node."""

    view: NodeView
    progress: NodeProgress
    design: DesignChoices
    testing: Testing
    chapters: Mapping[str, Chapter]
    figures: Mapping[str, Shown]
    """Name -> figure, the same names at every node."""
    challenges: Sequence[FigureTable]
    curves: Curves
    changed: Mapping[str, Any]
    """Settings that are not as they are if nobody sets them."""
    weights: Mapping[str, str]
    """Part -> SHA-256 of the newest weights."""
    not_shown: Sequence[str]
    """Beside figures that are not measured."""
    examples: Sequence[ShownComparison]
    drawn_from: int
    """Comparisons that the examples were drawn from."""


@dataclass(frozen=True)
class RunTold:
    """What is known of a run."""

    title: str
    folder: Path
    config: Mapping[str, Any]
    state: str
    started: float | None
    root: str
    nodes: Mapping[str, NodeTold]
    evidence: str
    """Of the rows of run.db: how many, and the root of their links, of older runs as `rrm certify` would link them."""
    config_hash: str
    """SHA-256 of config.json; empty without one."""
    damaged: Sequence[str] = ()
    """What lies beside it and cannot be read, in words."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What it was made with."""
        found: Mapping[str, Any] = self.config.get("about", {})
        return found

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config.get("seed", 0))

    @property
    def compared(self) -> Mapping[str, Any]:
        """In what it may differ from a run of another experiment."""
        return compared(self.config, self.nodes)

    @property
    def experiment(self) -> str:
        """The same of runs that differ in nothing but their seeds."""
        return experiment_of(self.config, self.nodes)

    def judged_by(self) -> dict[str, set[str]]:
        """Kind (simulated, model, people, imported, other) -> names, over all nodes."""
        found: dict[str, set[str]] = {}
        for judge in (judge for node in self.nodes.values() for judge in node.design.judges):
            found.setdefault(judge.kind, set()).add(judge.name)
        return found


@contextmanager
def opened(run: Path, name: str = "") -> Iterator[tuple[Path, Reader, list[str]]]:
    """A copy of a run as it is now, and a reader of it: a run may go on training meanwhile. One of an older version
    is brought up to date there, and stays as it is where it lies. What cannot be read beside run.db is left out; last
    comes a line for each."""
    with copied(run, truth=are_files(run, TRUTH)) as copy:
        up_to_date(copy)
        torn = without_torn(copy)
        with Reader(copy, name) as reader:
            yield copy, reader, torn


def told_of(paths: Iterable[Path], seed: int = 0, examples: int = 3) -> list[RunTold]:
    """All runs in folders, each as it is now. seed: decides which examples are drawn; examples: how many a node."""
    return [run_told(folder, name, seed, examples) for name, folder in find_runs(paths).items()]


def run_told(folder: Path, name: str = "", seed: int = 0, examples: int = 0) -> RunTold:
    """A run as it is now. Raises `RunError` or `ReadError` where there is none."""
    with opened(folder, name or folder.resolve().name) as (copy, reader, torn):
        nodes = {path: _node(reader, copy, folder, node, seed, examples) for path, node in reader.nodes.items()}
        evidence = ""
        if "links" in reader.tables:
            rows = evidence_of(copy)
            evidence = f"{rows.size:,} rows, root {rows.root}"
        return RunTold(
            reader.title, folder, dict(reader.config), reader.state if reader.done else _state(folder, name),
            reader.started, reader.root, nodes, evidence, hash_of(copy / "config.json") or "",
            torn,
        )  # fmt: skip


def _state(folder: Path, name: str) -> str:
    """Whether it trains, which its lock says and no copy of it."""
    with Reader(folder, name) as live:
        return live.state


def _node(reader: Reader, copy: Path, folder: Path, node: NodeView, seed: int, examples: int) -> NodeTold:
    found, audits = kept(folder, reader, node.path)
    chapters = three_of(found)
    design = design_of(reader, copy, node, dict.fromkeys(reader.nodes, ""))  # certificates are another matter
    testing = testing_of(reader, node, audits)
    progress = reader.progress(node)
    some, of = _examples(reader, node.path, seed, examples)
    figures = _figures(testing, progress, reader.measured_nodes.get(node.path, {}), untold(reader))
    return NodeTold(
        node, progress, design, testing, chapters, figures,
        tables_of(reader, node), reader.curves(node), _changed(node.settings), weights_of(reader, node.path),
        [line for line in not_shown_of(reader, node, {"design": design, "testing": testing, **chapters})
         if not line.startswith("testing.")], some, of,
    )  # fmt: skip


def _figures(testing: Testing, progress: NodeProgress, measured: Mapping[str, Any], untrue: str) -> dict[str, Shown]:
    """untrue: why nothing is known of the truth, where that is so."""
    gaming = testing.challenges.get("gaming")
    asked = [one["preferred"] for one in gaming if "mean" in one["preferred"]] if isinstance(gaming, list) else []
    unasked = "nobody was asked whether an improvement stands"
    start, end = progress.truth or (None, None)
    return {
        "held-out preferences predicted": Shown.found(testing.held_out),
        "what it expected of those": Shown.found(testing.expected),
        "Brier score of those": Shown.found(testing.brier),
        "new agent preferred to the one before": Shown.plain(asked[-1]) if asked else Shown(None, why=unasked),
        **{
            f"agreement with the truth, {how}": Shown(None, why=untrue) if isinstance(found, NotKnown)
            else Shown.found(found) for how, found in sorted(testing.agreement.items())
        },
        "true score at the start": _truth(start, measured.get("start"), untrue),
        "true score in the end": _truth(end, measured.get("trained"), untrue),
        "ties": Shown.found(testing.tied),
        "no judgement": Shown.found(testing.abstained),
    }


def _truth(value: float | None, measured: Mapping[str, Any] | None, untrue: str) -> Shown:
    if measured and "mean" in measured and measured["mean"] == value:
        return Shown(measured["mean"], measured.get("low"), measured.get("high"), measured.get("n"))
    return Shown(value) if value is not None else Shown(None, why=untrue)


def _changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    usual = Settings().model_dump(mode="json")
    return {key: value for key, value in settings.items() if usual.get(key) != value}


def _examples(reader: Reader, node: str, seed: int, many: int) -> tuple[list[ShownComparison], int]:
    """Comparisons drawn at random, each with the same chance, in the order in which they were judged; and of how
    many."""
    seqs = [
        seq for (seq,) in reader.rows(
            "SELECT seq FROM comparisons WHERE task = ? AND seq NOT IN (SELECT supersedes FROM comparisons WHERE"
            " supersedes > 0) ORDER BY seq", (node,),
        )
    ]  # fmt: skip
    draw = random.Random(seed_of("report", seed, node, int(reader.config.get("seed", 0))))
    drawn = sorted(draw.sample(seqs, min(many, len(seqs))))
    found = (comparison(reader, seq, LONGEST) for seq in drawn)
    return [one for one in found if one is not None], len(seqs)


# --- several runs ------------------------------------------------------------------------------------


def experiments(runs: Sequence[RunTold]) -> list[list[RunTold]]:
    """Runs that differ in nothing but their seeds, together; in the order in which they were given."""
    found: dict[str, list[RunTold]] = {}
    for run in runs:
        found.setdefault(run.experiment, []).append(run)
    return [*found.values()]


def counted(runs: Sequence[RunTold]) -> list[RunTold]:
    """Those of one experiment that means are of: finished ones, and of runs with the same seeds the first, as a second
    shows nothing of what another seed would do."""
    found: dict[tuple[int, Any], RunTold] = {}
    for run in runs:
        if run.state == "finished":
            found.setdefault((run.seed, run.config.get("user", {}).get("seed")), run)
    return [*found.values()]


def over_runs(runs: Sequence[RunTold], node: str) -> dict[str, Shown]:
    """Name -> mean of a node's figure over runs of one experiment, with Student's interval over the runs: each run is
    one value, whatever it rests on. Where a run lacks the figure the mean is of the others, as `cases` says."""
    found = {}
    for name in runs[0].nodes[node].figures:
        each = [run.nodes[node].figures[name] for run in runs]
        values = [one.value for one in each if one.value is not None]
        known = mean((value, 1) for value in values)
        if known is None:
            found[name] = each[0]
            continue
        counts = [one.n for one in each if one.value is not None]
        n = sum(one for one in counts if one is not None) if None not in counts else None
        low, high = (None if math.isnan(one) else one for one in (known.low, known.high))
        if low is not None and high is not None and not name.startswith("true score"):  # shares end at 0 and 1
            low, high = max(0.0, low), min(1.0, high)
        found[name] = Shown(known.mean, low, high, len(values) if n is None else n, len(values), "runs")
    return found

