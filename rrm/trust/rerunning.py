"""Train a node again from its records: does what was judged give these weights?

The judgements are replayed, and all else is done anew: outcomes sampled, assistants trained, reward models fitted,
agents optimized. Where torch, threads and processor are those of the run the weights must be the same to the bit. Else
last bits differ, a sampled token may turn, and with it everything after: then the weights are compared within
`TOLERANCE`, and where a pair comes up that nobody judged, it cannot be told.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from rrm.core.errors import RRMError, RunError
from rrm.core.judgements import DERIVED, Event, Judgement, Pair
from rrm.core.parties import Maker
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task
from rrm.core.validation import plant
from rrm.loop.reopen import as_set
from rrm.loop.run import made_with
from rrm.loop.training import computing_with, maker_of, train
from rrm.models.backbone import Backbone
from rrm.store.config import read_config
from rrm.store.store import Store
from rrm.trust.snapshot import copied, linked

TOLERANCE = 1e-2
"""Largest difference of a tensor to the run's, as a share of its norm, on another machine."""


@dataclass(frozen=True)
class Rerun:
    """What came of training a node again."""

    node: str
    same: tuple[str, ...]
    """Weights that are the run's to the bit, "0 agent" for the agent of round 0."""
    near: tuple[str, ...]
    """Those within `TOLERANCE`."""
    other: tuple[str, ...]
    moved: str
    """How this machine computes otherwise than that of the run; empty if it does not."""
    lost: str = ""
    """Why it could not go on."""

    @property
    def holds(self) -> bool | None:
        """Whether the weights follow from the judgements; None: it cannot be told here."""
        if self.lost or (self.other and self.moved):
            return None if self.moved else False
        return not self.other and bool(self.same or self.near) and (bool(self.moved) or not self.near)

    def __str__(self) -> str:
        total = len(self.same) + len(self.near) + len(self.other)
        here = f" (here: {self.moved})" if self.moved else ""
        if self.holds:
            what = "to the bit" if len(self.same) == total else f"within {TOLERANCE:g} of their norm"
            return f"{self.node}: trained again from its judgements, all {total} weights are the same {what}{here}"
        why = self.lost or f"{len(self.other)} of {total} are others: {', '.join(self.other[:4])}"
        if self.holds is None:
            return f"{self.node}: trained again it cannot be told, as this machine computes otherwise{here}: {why}"
        return f"{self.node}: trained again from its judgements, other weights come out: {why}"


class _Unjudged(RRMError):
    """A pair came up that nobody judged."""


class _Done(Exception):
    """The node is finished; the rest of the tree is not wanted."""


class _Replayed:
    """Gives the judgements of the records, in their order."""

    def __init__(self, name: str, judged: Mapping[tuple[str, str], list[Judgement]]) -> None:
        self.name = name
        self._judged = judged

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Raises `_Unjudged`."""
        left = self._judged.get((task.path, pair.id))
        if not left:
            raise _Unjudged(f"a pair of {task.path} came up that nobody judged")
        return left.pop(0)

    def recall(self, task: Task, judgement: Judgement) -> None:
        """What it knows it has from the records."""


def rerun(run: Path, node: str, tree: Task, model: str | Backbone | Maker | None = None) -> Rerun:
    """Train a node again, with all below it, and compare the weights. Raises `RunError` if the tree is another or the
    model has other weights.

    Parameters
    ----------
    tree: the root, as code that whoever verifies trusts: nothing of the run's folder is executed. Settings are the
        run's.
    model: by default what the run's was called.
    """
    config, tree = read_config(run), plant(tree)
    _check(config, tree, node, run)
    about = config.get("about", {})
    with computing_with(int(about.get("threads", torch.get_num_threads()))), TemporaryDirectory(prefix="rrm-") as made:
        maker = maker_of(model or config["model"]["name"])
        known, here = about.get("model", {}).get("weights"), getattr(maker, "identity", {}).get("weights")
        if maker.fingerprint != config["model"]["fingerprint"] or (known and known != here):
            raise RunError(f"{run} was trained from {config['model']['name']!r} with other weights than it has here")
        rates = about.get("decided", about).get("rates") or {}
        with copied(run) as copy:
            linked(copy)
            user, weights = _records(copy, config, node)
        part = _pruned(tree, node, config["tree"], rates)
        now = made_with(maker)
        before = {**about, **about.get("packages", {})}
        moved = "; ".join(
            f"{key} {value}, not {before[key]}" for key, value in {**now, **now["packages"]}.items()
            if key != "packages" and before.get(key, value) != value
        )  # fmt: skip
        out, lost = Path(made) / "run", ""

        def watch(_: Any, event: Event) -> None:
            if event.phase == "sample" and node.startswith(f"{event.task}/"):
                raise _Done

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                train(part, user, maker, out, int(config.get("seed", 0)), [watch])
        except _Done:
            pass
        except _Unjudged as error:
            lost = str(error)
        return _compared(node, run, out, weights, moved, lost)


def _check(config: Mapping[str, Any], tree: Task, node: str, run: Path) -> None:
    if {"tree", "model"} - {*config}:
        raise RunError(f"{run} says in no config.json what was trained; give the folder of a run")
    nodes = {one.path for one in tree.walk()}
    if nodes != {*config["tree"]}:
        raise RunError(
            f"the tree has the nodes {', '.join(sorted(nodes))}, and the run {', '.join(sorted(config['tree']))}; give "
            "the tree that was trained with --tree"
        )
    if node not in nodes:
        raise RunError(f"{run} has no node {node!r}; it has {', '.join(sorted(nodes))}")
    if config.get("finished"):
        raise RunError("assistants that were finished in another run cannot be trained again from this one's records")


def _records(
    copy: Path, config: Mapping[str, Any], node: str
) -> tuple[_Replayed, dict[tuple[int, str], tuple[str, str]]]:
    """Whoever judged, and (round, part) -> (path, SHA-256) of the node's weights."""
    judged: dict[tuple[str, str], list[Judgement]] = {}
    with closing(Store(copy / "run.db")) as store:
        for one in store.comparisons():
            if one.purpose != DERIVED and one.round >= 0:
                judged.setdefault((one.pair.task, one.pair.id), []).append(one.judgement)
        return _Replayed(str(config.get("user", {}).get("name", "")), judged), store.checkpoints(node)


def _pruned(task: Task, node: str, tree: Mapping[str, Any], rates: Mapping[str, float]) -> Task:
    """The tree with the run's settings, without what neither is the node nor below nor above it."""
    below: tuple[Task | Assistant, ...] = tuple(
        _pruned(sub, node, tree, rates) for sub in task.assistants
        if isinstance(sub, Task) and (f"{node}/".startswith(f"{sub.path}/") or sub.path.startswith(f"{node}/"))
    )  # fmt: skip
    settings = Settings(**as_set(tree[task.path]["settings"], rates))
    return replace(task, assistants=below, settings=settings)


def _compared(
    node: str, run: Path, out: Path, weights: Mapping[tuple[int, str], tuple[str, str]], moved: str, lost: str
) -> Rerun:
    same: list[str] = []
    near: list[str] = []
    other: list[str] = []
    with closing(Store(out / "run.db")) as store:
        again = store.checkpoints(node)
    for (round, part), (path, sha256) in sorted(weights.items()):
        name = f"{round} {part}"
        if (round, part) not in again:
            if not lost:
                other.append(f"{name} (it never came)")
            continue
        there, (here, digest) = run / path, again[round, part]
        if hashlib.sha256(there.read_bytes()).hexdigest() != sha256:
            other.append(f"{name} (its file was changed)")
        elif digest == sha256:
            same.append(name)
        else:
            far = _far(there, out / here)
            (near if far <= TOLERANCE else other).append(name if far <= TOLERANCE else f"{name} (by {far:.2g})")
    return Rerun(node, tuple(same), tuple(near), tuple(other), moved, lost)


def _far(one: Path, other: Path) -> float:
    """The largest difference of a tensor, as a share of its norm."""
    a, b = load_file(one), load_file(other)
    if {*a} != {*b} or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    far = [float((a[name].float() - b[name].float()).norm() / a[name].float().norm().clamp(min=1e-12)) for name in a]
    return max((one if one == one else float("inf") for one in far), default=0.0)  # NaN is as far as can be
