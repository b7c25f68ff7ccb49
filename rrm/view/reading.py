"""Reading a run folder while it is written, or long after: settings, the tree, where each node is, its curves.

Read-only and without models: the database is opened so that nothing can be changed, and a training process
never waits for a reader (WAL). What the comparisons say is in `rrm/view/comparisons.py`.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from operator import methodcaller
from pathlib import Path
from types import TracebackType
from typing import Any

from rrm.core.errors import RRMError, RunError, StoreError
from rrm.store.config import read_config
from rrm.store.database import check_version, read_only, rows_beside
from rrm.store.upgrades import CALLS, LABELS, RUN
from rrm.view.accuracy import ENOUGH, Predicted, nodes_measured, nothing_learned, predicted, well_measured
from rrm.view.damage import torn
from rrm.view.holder import held
from rrm.view.nodes import NodeView as NodeView
from rrm.view.nodes import nodes_of

RUNNING = 120.0
"""Seconds after its last record that an unfinished run is taken to be training, where its lock does not tell."""
ESTIMATED = "KL is estimated from what was sampled, so one near 0 may come out below it."
"""Beside KLs, where a negative one may be seen."""
DONE = frozenset({"finished", "elsewhere", "tool"})
"""States of a node in which nothing more comes."""
Series = list[tuple[float, float]]


class ReadError(RRMError, OSError):
    """A run folder cannot be read."""


def find_runs(paths: Iterable[Path]) -> dict[str, Path]:
    """Name -> folder, for run folders and for folders that hold some (three levels down at most)."""
    found: dict[str, Path] = {}
    for given in paths:
        path = given.resolve()
        if (path / "run.db").exists():
            inside = [path]
        else:
            inside = sorted({db.parent for depth in ("*", "*/*", "*/*/*") for db in path.glob(f"{depth}/run.db")})
        if not inside:
            raise ReadError(f"{given}: no run there (a run's folder holds run.db); `rrm train --out {given}` makes one")
        for folder in inside:
            name = folder.name if folder == path else "~".join(folder.relative_to(path).parts)
            if found.get(name, folder) != folder:
                name = f"{folder.parent.name}~{name}"
            found.setdefault(name, folder)
    return found


@dataclass(frozen=True)
class NodeProgress:
    """Where a node is. Numbers are None where nothing was recorded."""

    state: str
    """waiting, sampling, comparing, asking (people), fitting, improving, stopped, finished, elsewhere (trained in
    another run), or tool (never trained)."""
    round: int
    """Rounds done."""
    comparisons: int
    accuracy: Predicted | None
    """Of the latest reward model, on held-out comparisons; None where it is not known."""
    ignorant: str
    """Why the latest reward model has learned nothing; empty if it has learned something."""
    kept: bool | None
    """Whether the latest improvement stands; None: nobody was asked, and it earned no less than what was before."""
    rewards: tuple[float, float] | None
    """First and last of the latest round's improvement."""
    kl: float | None
    truth: tuple[float, float] | None
    """True score at the start and now, where a measurement has it."""
    agreement: float | None
    """How often the user prefers the truly better, where a measurement has it."""
    seconds: float | None


@dataclass(frozen=True)
class Curves:
    """A node's numbers: name -> [(x, y)], per round or per step of improvement."""

    rounds: Mapping[str, Series] = field(default_factory=dict)
    steps: Mapping[str, Series] = field(default_factory=dict)
    starts: Sequence[int] = ()
    """The steps at which rounds begin."""


@dataclass(frozen=True)
class Calls:
    """What an endpoint was asked, and what for. Tokens and cost are None where the server or the prices do not say."""

    endpoint: str
    who: str
    """user or agent."""
    task: str
    calls: int
    retries: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    """In the currency of the prices that were set."""
    unpriced: int
    """Calls whose cost is not known."""
    served: str
    """The models that answered, as the server called them."""


class Reader:
    """One run folder. Close it, or use it with `with`. Raises `ReadError` if it holds no readable run.

    `config`: config.json; empty while the run is being set up.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder, self.name = folder, name or folder.name
        self.db = _open(folder / "run.db")
        try:
            self.config: dict[str, Any] = read_config(folder)
        except RunError as error:
            self.db.close()
            raise ReadError(str(error)) from error

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.close()

    @property
    def title(self) -> str:
        """The name with the folders of its path, "demo/recursive", where `name` has "demo~recursive"."""
        return self.name.replace("~", "/")

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """All rows of a query."""
        return self.db.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """The first row of a query, or None."""
        return self.db.execute(query, values).fetchone()

    @cached_property
    def tables(self) -> set[str]:
        """A run made by an older version may lack some."""
        return {name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}

    # --- what was set --------------------------------------------------------------------------------

    @cached_property
    def nodes(self) -> dict[str, NodeView]:
        """The tree: the root first, parents before children, in the order in which the tasks are trained."""
        tree = self.config.get("tree")
        judged = [] if tree else self.rows("SELECT DISTINCT task FROM comparisons")
        return nodes_of(self.config, [task for (task,) in judged])

    @property
    def root(self) -> str:
        """The root's path; "" while the run is being set up."""
        return next(iter(self.nodes), "")

    def children(self, path: str) -> list[NodeView]:
        """The nodes right below, in the order in which they are trained."""
        return [node for node in self.nodes.values() if node.parent == path]

    def below(self, path: str) -> list[NodeView]:
        """All nodes below, in that order, each followed by those below it."""
        return [one for child in self.children(path) for one in (child, *self.below(child.path))]

    # --- what was measured ---------------------------------------------------------------------------

    @cached_property
    def report(self) -> dict[str, Any]:
        """This run's part of a measurement kept beside it (report.json): agreement, score, aspects."""
        return well_measured(self._measured.get(self.folder.name, {}))

    @cached_property
    def measured_nodes(self) -> dict[str, Any]:
        """Per node: true score at the start and trained, where a measurement has it."""
        return nodes_measured(self._measured, self.folder.name, self.root, self.report.get("score"))

    @cached_property
    def _measured(self) -> dict[str, Any]:
        return _json(self.folder.parent / "report.json")

    # --- where it is ---------------------------------------------------------------------------------

    @cached_property
    def counts(self) -> dict[str, dict[int, int]]:
        """Task -> round -> judgements, without those that later ones supersede."""
        found: dict[str, dict[int, int]] = {}
        for task, round, total, over in self.rows(
            "SELECT task, round, COUNT(*), SUM(supersedes > 0) FROM comparisons GROUP BY task, round"
        ):
            found.setdefault(task, {})[round] = total - over
        return found

    @cached_property
    def checkpoints(self) -> dict[str, list[tuple[int, str, str, str, float]]]:
        """Task -> (round, part, path, sha256, time), in order."""
        found: dict[str, list[tuple[int, str, str, str, float]]] = {}
        for task, *rest in self.rows(
            "SELECT task, round, part, path, sha256, at FROM checkpoints ORDER BY task, round, at"
        ):
            found.setdefault(task, []).append(tuple(rest))
        return found

    @cached_property
    def last(self) -> float | None:
        """When the last judgement, metric or checkpoint was recorded (seconds since 1970)."""
        newest = [self.row("SELECT at FROM comparisons ORDER BY seq DESC LIMIT 1")]
        newest.append(self.row("SELECT MAX(at) FROM metrics"))
        newest += [(at,) for saved in self.checkpoints.values() for *_, at in saved]
        times = [float(row[0]) for row in newest if row and row[0] is not None]
        return max(times, default=None)

    @property
    def started(self) -> float | None:
        """When the run was first started (seconds since 1970); None if config.json does not say."""
        began = self.config.get("about", {}).get("started")
        return float(began) if began is not None else None

    @property
    def done(self) -> bool:
        """Whether the root is finished."""
        node = self.nodes.get(self.root)
        return node is not None and self.progress(node).state in DONE

    @property
    def state(self) -> str:
        """finished, training, asking (it waits for people), or stopped (ended, killed, or silent for a while)."""
        if self.done:
            return "finished"
        if self.asked:
            return "asking"
        return "training" if self.running else "stopped"

    @property
    def running(self) -> bool:
        """Whether a process trains it: by the lock in its folder, else by how long ago it last recorded anything."""
        found = held(self.folder)
        return self.last is not None and abs(time.time() - self.last) < RUNNING if found is None else found

    @cached_property
    def asked(self) -> set[str]:
        """The nodes whose pairs wait for people's judgements (`rrm label`)."""
        path = self.folder / "labels.db"
        if not path.exists() or torn(path):
            return set()
        try:
            with read_only(path) as db:
                _check_version(db, path, len(LABELS))
                return {task for (task,) in db.execute("SELECT DISTINCT task FROM open")}
        except sqlite3.DatabaseError:  # not made yet, or unreadable: then nobody can judge either
            return set()

    @cached_property
    def calls(self) -> list[Calls]:
        """What was asked of models behind endpoints (`rrm.models.endpoints`), by who asked and at which node."""
        path = self.folder / "calls.db"
        if not path.exists() or torn(path):
            return []
        try:
            with read_only(path) as db:
                _check_version(db, path, len(CALLS))
                rows = db.execute(
                    "SELECT endpoint, who, task, COUNT(*), SUM(retries), SUM(prompt_tokens), SUM(completion_tokens),"
                    " SUM(cost), SUM(cost IS NULL), GROUP_CONCAT(DISTINCT served) FROM calls"
                    " GROUP BY endpoint, who, task ORDER BY MIN(seq)"
                ).fetchall()
        except sqlite3.DatabaseError:  # not made yet, or unreadable
            return []
        return [Calls(*row) for row in rows]

    def progress(self, node: NodeView) -> NodeProgress:
        """Where a node is, by its checkpoints, metrics and judgements, and by a measurement beside the run."""
        saved = {(round, part) for round, part, *_ in self.checkpoints.get(node.path, ())}
        done = next(n for n in count() if (n, "agent") not in saved)
        metrics = self.metrics(node.path, ("fit", "improve", "truth", "sample", "compare", "accept", "done"))
        fits = [(round, values) for (round, phase, _), values in metrics.items() if phase == "fit"]
        stands = {round: bool(v["kept"]) for (round, *_), v in metrics.items() if "kept" in v}
        stands |= {round: False for (round, *_), v in metrics.items() if "undone" in v}  # it earned less than before
        improved = [(key, values) for key, values in metrics.items() if key[1] == "improve"]
        truths = [v["truth"] for (_, phase, _), v in metrics.items() if phase == "truth" and "truth" in v]
        rewards = [v["reward"] for (round, *_), v in improved if round == improved[-1][0][0] and "reward" in v]
        measured = self.measured_nodes.get(node.path, {})
        if not truths and measured:
            truths = [measured[when]["mean"] for when in ("start", "trained") if when in measured]
        agreement = self.report.get("agreement", {}).get("mean") if node.path == self.root else None
        return NodeProgress(
            state=self._state(node, done, saved, metrics),
            round=min(done, node.rounds),
            comparisons=sum(self.counts.get(node.path, {}).values()),
            accuracy=predicted(self.db, node.path, *fits[-1]) if fits else None,
            ignorant=nothing_learned(fits[-1][1]) if fits else "",
            kept=stands.get(improved[-1][0][0]) if improved else None,
            rewards=(rewards[0], rewards[-1]) if rewards else None,
            kl=next((v["kl"] for _, v in reversed(improved) if "kl" in v), None),
            truth=(truths[0], truths[-1]) if truths else None,
            agreement=agreement,
            seconds=sum(v["seconds"] for (_, p, _), v in metrics.items() if p == "done" and "seconds" in v) or None,
        )

    def _state(
        self, node: NodeView, done: int, saved: set[tuple[int, str]], metrics: Mapping[tuple[int, str, int], Any]
    ) -> str:
        if node.finished is not None:
            return "tool" if node.tool else "elsewhere"
        if done >= node.rounds:
            return "finished"
        phases = {phase for round, phase, _ in metrics if round == done}
        judged = self.counts.get(node.path, {}).get(done, 0)
        if not phases and not judged:
            return "waiting"
        if node.path in self.asked:
            return "asking"
        if not self.running:
            return "stopped"
        if (done, "reward") in saved:
            return "improving"
        if "compare" in phases:
            return "fitting"
        return "comparing" if judged else "sampling"

    @cached_property
    def knowing(self) -> frozenset[str]:
        """The nodes whose confidence is worth showing: their latest reward model predicts more than half of enough
        held-out comparisons (`rrm.view.accuracy`). Of one that was trained elsewhere nothing is known."""
        return frozenset(
            path for path, node in self.nodes.items() if (found := self.progress(node).accuracy) and found.knows
        )

    def metrics(self, task: str, phases: Sequence[str]) -> dict[tuple[int, str, int], dict[str, float]]:
        """(round, phase, step) -> name -> value, in order; what is not a number is left out."""
        marks = ",".join("?" * len(phases))
        found: dict[tuple[int, str, int], dict[str, float]] = {}
        for round, phase, step, name, value in self.rows(
            f"SELECT round, phase, step, name, value FROM metrics WHERE task = ? AND phase IN ({marks})"
            " ORDER BY round, at, step",
            (task, *phases),
        ):
            if value is not None and math.isfinite(value):
                found.setdefault((round, phase, step), {})[name] = value
        return found

    def curves(self, node: NodeView) -> Curves:
        """Per round: the fit, the truth, ties; per step of improvement: reward, KL, and what the improver logs."""
        rounds: dict[str, Series] = {}
        steps: dict[str, Series] = {}
        starts: list[int] = []
        at = 0
        truths = 0
        for (round, phase, _), values in self.metrics(
            node.path, ("sample", "compare", "fit", "improve", "truth")
        ).items():
            if phase == "improve":
                if len(starts) <= round:
                    starts += [at] * (round + 1 - len(starts))
                for name, value in values.items():
                    steps.setdefault(name, []).append((at, value))
                at += 1
            elif phase == "truth":  # of the start, then after every round
                for name, value in values.items():
                    rounds.setdefault(f"truth {name}" if name != "truth" else name, []).append((truths, value))
                truths += 1
            else:
                few = values.get("holdout_decided", values.get("n_holdout", 0)) < ENOUGH
                for name, value in values.items():
                    if name == "holdout_accuracy" and few:
                        continue  # too few to tell
                    if phase != "fit" or name not in ("ties", "abstentions"):  # those of all rounds so far
                        rounds.setdefault(name, []).append((round + 1, value))
        return Curves(rounds, steps, starts)

    def over(self, node: NodeView) -> dict[str, Series]:
        """Over-optimization: reward, and truth where measured, against the square root of the KL divergence."""
        reward: Series = []
        truth: Series = []
        kl = 0.0
        for (_, phase, _), values in self.metrics(node.path, ("improve", "truth")).items():
            if phase == "improve" and "kl" in values:
                kl = math.sqrt(max(0.0, values["kl"]))
                if "reward" in values:
                    reward.append((kl, values["reward"]))
            elif phase == "truth" and "truth" in values:
                truth.append((kl, values["truth"]))
        measured = self.measured_nodes.get(node.path, {})
        if not truth and reward and {"start", "trained"} <= set(measured):
            truth = [(0.0, measured["start"]["mean"]), (kl, measured["trained"]["mean"])]
        return {name: series for name, series in (("reward", reward), ("true score", truth)) if series}

    @property
    def stamp(self) -> int:
        """Changes when another process has written to the database."""
        return int(self.row("PRAGMA data_version")[0])


def _open(path: Path) -> sqlite3.Connection:
    """Read-only. A database in a folder that cannot be written, with no writer, is opened as unchanging."""
    if not path.exists():
        raise ReadError(f"{path}: no such file; a run's folder holds run.db")
    last: sqlite3.Error | None = None
    ways = ["mode=ro"] + ([] if rows_beside(path) else ["mode=ro&immutable=1"])
    for way in ways:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?{way}", uri=True, timeout=5, check_same_thread=False)
        db.text_factory = _decoded
        try:
            db.execute("PRAGMA cache_size = -16000")
            _check_version(db, path, len(RUN))
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'comparisons'").fetchone() is None:
                db.close()
                raise ReadError(f"{path} is not a run's database, or not one yet: it has no comparisons table")
        except sqlite3.Error as error:
            db.close()
            last = error
            continue
        return db
    raise ReadError(f"{path} cannot be read ({last}); is it a run's database, and readable by you?") from last


def _check_version(db: sqlite3.Connection, path: Path, known: int) -> None:
    """Older ones are read as they are: what was added since is not there. Raises `ReadError` for a newer one."""
    try:
        check_version(db, path, known)
    except StoreError as error:
        db.close()
        raise ReadError(str(error)) from error


_decoded = methodcaller("decode", "utf-8", "replace")  # of each text that is read: no function of Python's own


def _json(path: Path) -> dict[str, Any]:
    """A JSON object's content; empty if the file is missing, or is being written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def open_runs(runs: Mapping[str, Path]) -> Iterable[Reader]:
    """Readers of all runs that can be read, one at a time."""
    for name, folder in runs.items():
        try:
            opened = Reader(folder, name)
        except ReadError:
            continue
        with closing(opened.db):
            yield opened
