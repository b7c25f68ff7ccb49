"""A run and its folder: what was set, what was judged, what was learned; interrupted and resumed at will.

    runs/<name>/config.json             settings, model, seed, versions
    runs/<name>/run.db                  every answer, comparison, metric and checkpoint (rrm/store/store.py)
    runs/<name>/nodes/<path>/<round>/   reward.safetensors, agent.safetensors
    runs/<name>/lock, lock.json         that it is being trained, and by whom (rrm/loop/lock.py)

A node's training is a function of (settings, its cases, its assistants, its judgements so far) to (weights, records),
so resuming is doing again what has no checkpoint yet: sampling repeats itself bit for bit (or its outcomes were kept),
questions already asked are answered from the journal, and weights already learned are loaded. `rrm.loop.job` is that
function.
"""

from __future__ import annotations

import json
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rrm.core.contracts import expect
from rrm.core.errors import Notice, RunError
from rrm.core.parties import Deciding, Maker, User, Watch
from rrm.core.protocols import Cases, Learner, Policy
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Forgetful, Task
from rrm.core.version import VERSION
from rrm.loop.differences import compared, listed
from rrm.loop.node import Node
from rrm.store.config import read_config
from rrm.store.files import write_atomically
from rrm.store.journal import Journal

LATER = frozenset({"cases", "model.prompts"})
"""Keys, with dots, that older runs' config.json may lack; they still resume."""
BITS = 4
"""Raised where a change on purpose makes the same settings give other bits: an older run can be opened, inspected and
exported, and is not resumed. Runs that do not say are of 1."""


Executor = Callable[["Run", Task, Mapping[str, Cases], User, int], None]
"""Trains a task's subtasks elsewhere; see `Run.ahead` and `rrm.loop.ahead`."""


class Run:
    """What nodes share: who makes what learns, the journal, the seed, the watchers."""

    def __init__(
        self, out: Path | str, maker: Maker, seed: int = 0, watch: Sequence[Watch] = (), journal: Journal | None = None
    ) -> None:
        self.maker, self.seed = maker, seed
        self.world = maker.world
        self.watch = tuple(watch) if self.world.main else ()
        self.out = Path(out)
        if journal is None:
            self.world.once(self._make)
            journal = Journal(self.out, self.world)
        self.store = journal
        self.decided: Mapping[str, Any] | None = None
        self.executor: Executor | None = None
        self.told: set[str] = set()  # nodes whose judgements the user of this process knows
        self._nodes: dict[str, Node] = {}

    def _make(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {self.out} ({error}); use another --out folder") from error

    def configure(self, settings: Mapping[str, Any], origins: Mapping[str, Any] | None = None) -> None:
        """Write config.json, or, when resuming, refuse one that differs: it would be another run. `origins`: what else
        is noted when it begins, and compared with nothing."""
        config: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
        there, decided = self.world.once(lambda: (config, self._configured(config, origins or {})))
        if config != there:
            raise RunError(
                f"process {self.world.rank} was started with other settings, another model or another user than the "
                "main process; give all the same"
            )
        if isinstance(self.maker, Deciding):
            self.decided = self.maker.decide(decided)

    def _configured(self, config: dict[str, Any], origins: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the maker decided when the run began, not what it would now: the bits depend on it."""
        path = self.out / "config.json"
        if not path.exists():
            if any(round >= 0 for _, round in self.store.rounds()):  # others were imported, for this run to learn from
                raise RunError(f"{self.out} holds judgements but no config.json; use another folder")
            decided = self.maker.decide(None) if isinstance(self.maker, Deciding) else {}
            notes = about(self.maker) | {"decided": dict(decided), "processes": self.world.size, **origins}
            write_atomically(path, json.dumps(config | {"about": notes}, indent=2).encode() + b"\n")
            return decided
        before = read_config(self.out)
        notes = before.get("about", {})
        if notes.get("bits", 1) != BITS:
            raise RunError(
                f"{self.out} was begun by rrm {notes.get('rrm', '0.1.0')}, whose training gives other bits (version "
                f"{notes.get('bits', 1)}) than that of this rrm, {VERSION} (version {BITS}): resumed, it would be "
                "neither run. It can be inspected and exported as it is. Resume it with the rrm it was begun by, or "
                "start anew in another folder."
            )
        if found := compared(_filled(before), config, LATER):
            raise RunError(
                f"{self.out} is a run with other settings:{listed(found)}\nTo resume it, give the same settings; for a "
                "new run, another --out folder."
            )
        self._say_moved(notes)
        return dict(notes.get("decided", notes))  # runs of 0.1.0 have it among the notes

    def _say_moved(self, notes: Mapping[str, Any]) -> None:
        """Say where this process computes otherwise than the one that began the run, as far as that one said."""
        before = {**notes, **notes.get("packages", {})}
        now = made_with(self.maker)
        moved = [
            f"{key} {before[key]} there, {value} here"
            for key, value in {**now, **now["packages"]}.items()
            if key != "packages" and before.get(key, value) != value
        ]
        if moved:
            warnings.warn(
                f"{self.out} goes on as it was not begun: {'; '.join(moved)}. From here on its last bits are others "
                "than if it had not been interrupted, and its course may be. To go on bit for bit, give the same again "
                "(--threads, --device)",
                Notice, stacklevel=2,
            )  # fmt: skip

    def open(self, task: Task, user: User) -> Node:
        """The node of a task: new, or as far as it had come. Judgements of finished rounds are recalled."""
        if task.path not in self._nodes:
            agent, reward = self.maker.policy(task, self.seed), self.maker.reward(task, self.seed)
            expect(agent, Policy, f"the policy that the maker {self.maker.name!r} made for {task.path!r}")
            expect(reward, Learner, f"the reward model that the maker {self.maker.name!r} made for {task.path!r}")
            new_to = None if task.path in self.told else user
            self.told.add(task.path)
            self._nodes[task.path] = Node(task, agent, reward, self.store, new_to, self.seed, self.watch)
        return self._nodes[task.path]

    def ahead(self, task: Task, cases: Mapping[str, Cases], user: User, extra: int) -> None:
        """Have a task's subtasks trained side by side, if there is an executor; `cases` are theirs, by path. Whatever
        it leaves undone the recursion does."""
        if self.executor is not None:
            self.executor(self, task, cases, user, extra)

    def catch_up(self, path: str) -> None:
        """A node's rounds were done elsewhere, and the user of this process was asked: be as far, if it is open."""
        if path in self._nodes:
            self._nodes[path].catch_up(None)

    def adopt(self, assistant: Assistant) -> Assistant:
        """A finished assistant at work in this run. One that would forget its answers when the run is interrupted
        keeps them in the run's store: asked again, a tool might answer otherwise (a time limit)."""
        helpers = tuple(map(self.adopt, assistant.helpers))
        if isinstance(assistant.memo, Forgetful):
            return replace(assistant, memo=self.store, helpers=helpers)
        same = all(new is old for new, old in zip(helpers, assistant.helpers, strict=True))
        return assistant if same else replace(assistant, helpers=helpers)


def _filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """An older run's configuration with the settings that came later, as they are if nobody sets them."""
    defaults, tree = Settings().model_dump(), config.get("tree")
    if not isinstance(tree, dict):
        return dict(config)
    nodes = {
        path: node | {"settings": defaults | node["settings"]} if isinstance(node.get("settings"), dict) else node
        for path, node in tree.items()
        if isinstance(node, dict)
    }
    return {**config, "tree": tree | nodes}


def about(maker: Maker) -> dict[str, Any]:
    """What a run is made with, and when it began."""
    return {"rrm": VERSION, "bits": BITS} | made_with(maker) | {"started": time.time()}


def made_with(maker: Maker) -> dict[str, Any]:
    """What the last bits hang on besides what was set: versions, threads, the kind of processor, and the device of a
    maker that says it (`device`)."""
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "numpy")}
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    device = getattr(maker, "device", None)
    found = {"packages": packages, "threads": torch.get_num_threads(), "processor": processor}
    return found if device is None else found | {"device": str(device)}
