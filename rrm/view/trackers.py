"""A run's metrics where one looks at others already: `rrm train --report-to trackio`, `wandb`, `tensorboard`.

A watch that reports each node's metrics as NODE/PHASE/NAME, its comparisons as a table a round, and the tree with its
settings as the configuration. A resumed run tells everything again, from its store, as a run of its own: what is in
run.db is the record, and this is a view of it. Of the clients only what was asked for is imported, and where they send
things is their own affair: trackio and tensorboard write files, wandb sends unless it is told otherwise (WANDB_MODE).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rrm.core.errors import ConfigError
from rrm.core.extras import bring
from rrm.core.judgements import Comparison, Event
from rrm.core.parties import Watched
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.core.version import VERSION

PROJECT = "rrm"
LONGEST = 2000
"""Most characters of a cell."""
COLUMNS = ("round", "case", "A", "said of A", "B", "said of B", "preference", "user", "note")
Cell = str | float | int | None


class Tracker(Protocol):
    """Where things are reported."""

    def metrics(self, values: Mapping[str, float], step: int, own: Mapping[str, int]) -> None:
        """Numbers by name. `step` counts calls; `own`: how often each name came before."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """A table of texts and numbers."""

    def close(self) -> None:
        """There is no more."""


class TensorBoard:
    """Event files in the run's folder, for `tensorboard --logdir`."""

    def __init__(self, project: str, run: Path, config: Mapping[str, Any]) -> None:
        _imported("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        # what an earlier session wrote there is told again
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=0)
        self.writer.add_text("config", f"```json\n{json.dumps(config, indent=1)}\n```", 0)

    def metrics(self, values: Mapping[str, float], step: int, own: Mapping[str, int]) -> None:
        """See `Tracker`; each name has steps of its own, so that what comes once a round counts rounds."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, own[name])

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """See `Tracker`; as text."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("|" + "|".join(map(_cell, line)) + "|" for line in lines)
        self.writer.add_text(name, text, step)

    def close(self) -> None:
        """See `Tracker`."""
        self.writer.close()


class Trackio:
    """A project of trackio, on this machine."""

    def __init__(self, project: str, run: Path, config: Mapping[str, Any]) -> None:
        self.client = _imported("trackio")
        self.client.init(project=project, name=run.resolve().name, config=dict(config), embed=False)

    def metrics(self, values: Mapping[str, float], step: int, own: Mapping[str, int]) -> None:
        """See `Tracker`."""
        self.client.log(dict(values), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """See `Tracker`."""
        import pandas  # trackio brings it

        frame = pandas.DataFrame([list(row) for row in rows], columns=list(columns))
        self.client.log({name: self.client.Table(dataframe=frame)}, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self.client.finish()


class WeightsAndBiases:
    """A run of Weights & Biases, its files in the run's folder."""

    def __init__(self, project: str, run: Path, config: Mapping[str, Any]) -> None:
        self.client = _imported("wandb")
        name = run.resolve().name
        run.mkdir(parents=True, exist_ok=True)
        self.run = self.client.init(project=project, name=name, group=name, config=dict(config), dir=str(run))

    def metrics(self, values: Mapping[str, float], step: int, own: Mapping[str, int]) -> None:
        """See `Tracker`."""
        self.run.log(dict(values), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """See `Tracker`."""
        table = self.client.Table(columns=list(columns), data=[list(row) for row in rows])
        self.run.log({name: table}, step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self.run.finish()


TRACKERS: Mapping[str, Callable[[str, Path, Mapping[str, Any]], Tracker]] = {
    "trackio": Trackio, "wandb": WeightsAndBiases, "tensorboard": TensorBoard,
}  # fmt: skip


class Begun:
    """A tracker that is made when a run has begun, at its first event. Making one begins a record, and TensorBoard's
    takes the place of what an earlier session wrote: a start that is refused (a run in use, another seed) must not."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make = make

    def begin(self) -> None:
        """Make it now: whatever it lacks (a key, room) fails before anything was judged."""
        _ = self._tracker

    @cached_property
    def _tracker(self) -> Tracker:
        return self._make()

    def metrics(self, values: Mapping[str, float], step: int, own: Mapping[str, int]) -> None:
        """See `Tracker`."""
        self._tracker.metrics(values, step, own)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """See `Tracker`."""
        self._tracker.table(name, columns, rows, step)

    def close(self) -> None:
        """See `Tracker`."""
        if "_tracker" in vars(self):
            self._tracker.close()


def tracker_of(name: str, run: Path, config: Mapping[str, Any]) -> Tracker:
    """A tracker by its name, "wandb", or with a project, "wandb:mine"; it writes and sends nothing before it is told
    something. Raises `ConfigError` if there is none, or its client is not installed."""
    kind, _, project = name.partition(":")
    if kind not in TRACKERS:
        raise ConfigError(f"--report-to {name}: give {', '.join(TRACKERS)}, with a project behind it: wandb:mine")
    _imported(kind)  # the clients have the names of their modules
    return Begun(partial(TRACKERS[kind], project or PROJECT, run, config))


def configuration(task: Task, **more: Any) -> dict[str, Any]:
    """The tree as a tracker's configuration: of each node its settings, what it covers, and who assists; with more."""
    nodes = {
        node.path: {
            "instruction": node.instruction, "covers": list(node.covers), "assistants": [s.name for s in node.subtasks],
            "settings": node.settings.model_dump(mode="json"),
        } for node in plant(task).walk()
    }  # fmt: skip
    return {"rrm": VERSION, **more, "tree": nodes}


class Reporting:
    """The watch: what happens at nodes goes to trackers. A context manager, which closes them."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = tuple(trackers)
        self._step, self._times, self._known = 0, Counter[str](), set[str]()

    def __call__(self, node: Watched, event: Event) -> None:
        if not self._known:
            for one in self.trackers:
                if isinstance(one, Begun):
                    one.begin()
        if event.task not in self._known:
            self._known.add(event.task)
            self._before(node)
        if event.metrics:
            self._tell(event.task, event.round, event.phase, event.metrics)
        if event.phase == "done":
            self._compared(node, event.task, event.round)

    def _before(self, node: Watched) -> None:
        """What a node had done before this session."""
        steps: dict[tuple[int, str, int], dict[str, float]] = {}
        for round, phase, step, name, value in node.history():
            if round < node.round:
                steps.setdefault((round, phase, step), {})[name] = value
        for (round, phase, _), metrics in steps.items():
            self._tell(node.task.path, round, phase, metrics)
        for round in range(node.round):
            self._compared(node, node.task.path, round)

    def _tell(self, path: str, round: int, phase: str, metrics: Mapping[str, float]) -> None:
        values = {f"{path}/{phase}/{name}": float(value) for name, value in metrics.items()} | {f"{path}/round": round}
        own = {name: self._times[name] for name in values}
        for one in self.trackers:
            one.metrics(values, self._step, own)
        self._times.update(values.keys())
        self._step += 1

    def _compared(self, node: Watched, path: str, round: int) -> None:
        rows = [row_of(one) for one in node.comparisons if one.round == round]
        if rows:
            for one in self.trackers:
                one.table(f"{path}/comparisons", COLUMNS, rows, self._step)
            self._step += 1

    def __enter__(self) -> Reporting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self.trackers:
            one.close()


def row_of(one: Comparison) -> tuple[Cell, ...]:
    """A comparison as a row of `COLUMNS`; of a preference None: whoever judged abstained."""
    said = (" ".join(a.text for a in side) for side in (one.assistance_a, one.assistance_b))
    of_a, of_b = said
    texts = (one.case.prompt, one.a.shown, of_a, one.b.shown, of_b)
    return (one.round, *(text[:LONGEST] for text in texts), one.preference, one.user, one.judgement.note[:LONGEST])


def _cell(value: object) -> str:
    return " ".join(str("" if value is None else value).replace("|", "\\|").split())


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"--report-to {name} needs {name} ({error}); {bring(name)}"
        ) from error
