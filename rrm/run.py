"""A run and its folder: what was set, what was judged, what was learned; interrupted and resumed at will.

    runs/<name>/config.json             settings, model, seed, versions
    runs/<name>/run.db                  every answer, comparison, metric and checkpoint (rrm/store.py)
    runs/<name>/nodes/<path>/<round>/   reward.safetensors, agent.safetensors

A node's training is a function of (settings, its assistants, its judgements so far) to (weights, records),
so resuming is doing again what has no checkpoint yet: sampling repeats itself bit for bit, questions already
asked are answered from the store, and weights already learned are loaded.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from rrm.assistance import Assistant, Forgetful, assist
from rrm.learning import IMPROVERS
from rrm.learning.fit_reward import fit_reward
from rrm.models.agent import TextAgent
from rrm.models.backbone import TINY, Backbone
from rrm.models.precision import Precision, probe
from rrm.models.reward import TextRewardModel, trunk
from rrm.seeding import seed_of
from rrm.shared_store import SharedStore
from rrm.store import Comparison, Store
from rrm.task import Case, Cases, Group, Malformed, Outcome, RRMError, Spans, Task, digest
from rrm.user import Expectant, Judgement, Pair, User


class RunError(RRMError):
    """The run folder does not fit what was asked."""


@dataclass(frozen=True)
class Event:
    """Something happened at a node. `phase`: sample, assist, compare, fit, improve, accept, done."""

    task: str
    round: int
    phase: str
    step: int = 0
    of: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


Watch = Callable[["Node", Event], None]

LATER = {"cases"}
"""What the config.json of a run of before may lack: it resumes without."""
ENOUGH = 8
"""Comparisons without any preference that show that there is none."""


class Run:
    """Holds what nodes share: the backbone, the store, the seed, the watchers."""

    def __init__(self, out: Path | str, backbone: Backbone, seed: int = 0, watch: Sequence[Watch] = ()) -> None:
        self.out, self.backbone, self.seed = Path(out), backbone, seed
        self.world = backbone.world
        self.watch = tuple(watch) if self.world.main else ()
        self.world.once(self._make)
        self.store = SharedStore(self.out / "run.db", self.world)
        self.nodes: dict[str, Node] = {}

    def _make(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {self.out} ({error}); use another --out folder") from error

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write config.json, or, when resuming, refuse one that differs: it would be another run."""
        config: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
        there, precision = self.world.once(lambda: (config, self._configured(config)))
        if config != there:
            raise RunError(
                f"process {self.world.rank} was started with other settings, another model or another user than the "
                "main process; give all the same"
            )
        self.backbone.precision = precision

    def _configured(self, config: dict[str, Any]) -> Precision:
        """The precision decided when the run began, not what a probe would say now: the bits depend on it."""
        path = self.out / "config.json"
        if not path.exists():
            if any(round >= 0 for _, round in self.store.rounds()):  # others were imported, for this run to learn from
                raise RunError(f"{self.out} holds judgements but no config.json; use another folder")
            notes = self._probe() | {"processes": self.world.size}
            write_atomically(path, json.dumps(config | {"about": about() | notes}, indent=2).encode() + b"\n")
            return self.backbone.precision
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}); restore it, or use another --out folder") from error
        before = {key: config[key] for key in LATER & config.keys()} | before
        differing = [key for key in config if config[key] != before.get(key)]
        if differing:
            details = "; ".join(f"{k}: {_short(before.get(k))} there, {_short(config[k])} now" for k in differing)
            raise RunError(
                f"{self.out} is a run with other settings ({details}). To resume it, give the same settings; "
                "for a new run, another --out folder."
            )
        return Precision(**before.get("about", {}).get("precision", {}))

    def _probe(self) -> dict[str, Any]:
        """Decide the precision, and say how. A tiny model is not worth asking: float32."""
        tiny = self.backbone.size < TINY
        self.backbone.precision, seconds = (Precision(), None) if tiny else probe(self.backbone)
        return {"precision": asdict(self.backbone.precision), "probe_seconds": seconds}

    def open(self, task: Task, user: User) -> Node:
        """The node of a task: new, or as far as it had come. Judgements of finished rounds are recalled."""
        if task.path not in self.nodes:
            self.nodes[task.path] = Node(task, self, user)
        return self.nodes[task.path]

    def adopt(self, assistant: Assistant) -> Assistant:
        """A finished assistant at work in this run. One that would forget its answers when the run is interrupted
        keeps them in the run's store: asked again, a tool might answer otherwise (a time limit)."""
        helpers = tuple(map(self.adopt, assistant.helpers))
        if isinstance(assistant.memo, Forgetful):
            return replace(assistant, memo=self.store, helpers=helpers)
        same = all(new is old for new, old in zip(helpers, assistant.helpers, strict=True))
        return assistant if same else replace(assistant, helpers=helpers)


class Node:
    """One task in training: its agent, its reward model, and the rounds behind it."""

    def __init__(self, task: Task, run: Run, user: User) -> None:
        self.task, self.run = task, run
        settings, backbone = task.settings, run.backbone
        # Adapters and heads begin at random, by the name of their fork: another seed, another beginning.
        self.agent = TextAgent(backbone, backbone.fork(f"{task.path} agent, seed {run.seed}"), settings.max_tokens)
        fork = trunk(backbone, f"{task.path} reward, seed {run.seed}", settings.reward_trunk)
        self.reward = TextRewardModel(backbone, fork, settings, len(task.assistants))
        self.round = 0
        self.cases: Cases | None = None
        self.comparisons: list[Comparison] = []
        self.seconds = 0.0
        saved = run.store.checkpoints(task.path)
        while (self.round, "agent") in saved:
            self.round += 1
        if self.round:
            self._load(self.round - 1, "reward", self.reward)
            self._load(self.round - 1, "agent", self.agent)
        for comparison in run.store.comparisons(task.path):
            if comparison.round < self.round:
                self.comparisons.append(comparison)
                user.recall(task, comparison.judgement)

    def key(self, *parts: object) -> str:
        """A name for a random stream: (seed, node, round, component)."""
        return digest(self.run.seed, self.task.path, self.round, *map(str, parts))

    def emit(self, phase: str, step: int = 0, of: int = 0, **metrics: float) -> None:
        if metrics:
            self.run.store.log(self.task.path, self.round, phase, step, metrics)
        event = Event(self.task.path, self.round, phase, step, of, metrics)
        with self.run.world.apart():  # only the main process has watchers
            for watch in self.run.watch:
                watch(self, event)

    def rounds(self, extra: int = 0) -> Iterator[int]:
        """The rounds still to do. Each ends when the agent's weights are saved."""
        while self.round < self.task.settings.rounds + extra:
            began = time.monotonic()
            yield self.round
            self.seconds = time.monotonic() - began
            self.emit("done", seconds=self.seconds)
            self.round += 1

    # --- sampling ------------------------------------------------------------------------------------

    def sample(self, cases: Cases) -> list[Group]:
        """Outcomes of the agent as it is now, to be judged."""
        self.cases = cases
        s = self.task.settings
        drawn = cases.draw(s.cases, self.key("cases"))  # by all processes: whoever watches may draw, too, and alone
        self.emit("sample", of=s.cases)
        groups = self.agent.sample(drawn, s.outcomes, key=self.key("sample"), temperature=s.temperature)
        self._check_form(groups)
        return groups

    def sample_to_frame(self, cases: Cases) -> list[Group]:
        """Further outcomes, from which the subtasks' cases are made."""
        s = self.task.settings
        drawn = cases.draw(s.cases + s.frame_cases, self.key("frame cases"))
        return self.agent.sample(drawn, s.outcomes, key=self.key("frame"), temperature=s.temperature)

    def _check_form(self, groups: Sequence[Group]) -> None:
        """Is there anything to build on? An agent whose outcomes have no form cannot be judged or improved."""
        faults = [(o.text, why) for group in groups for o in group.outcomes if (why := self._fault(group.case, o))]
        total = sum(len(group.outcomes) for group in groups)
        self.emit("sample", malformed=len(faults) / total)
        if len(faults) > 0.95 * total:
            text, why = faults[0]
            raise RRMError(
                f"{self.task.path}: {len(faults)} of {total} outcomes of round {self.round} do not parse, so there is "
                f"nothing to build on. The first: {text[:200]!r}: {why}. Use a model that can do this role at all "
                "(pretrain it on such texts), or mend the prompt."
            )

    def _without_form(self, group: Group) -> torch.Tensor:
        """(n,) bool: which outcomes do not parse."""
        return torch.tensor([bool(self._fault(group.case, outcome)) for outcome in group.outcomes])

    def _fault(self, case: Case, outcome: Outcome) -> str:
        """Why an outcome does not parse; empty if it does."""
        try:
            self.task.facts(case, outcome)
        except Malformed as error:
            return str(error) or "malformed"
        return ""

    def _locate(self, case: Case, outcome: Outcome) -> Spans:
        """Where the facts are in an outcome's text; nowhere if it does not parse."""
        try:
            return self.task.locate(case, outcome)
        except Malformed:
            return {}

    # --- judging -------------------------------------------------------------------------------------

    def choose(self, groups: Sequence[Group]) -> list[Pair]:
        """The pairs the user is asked about: by the ensemble's disagreement, or at random (`choose`)."""
        s = self.task.settings
        candidates: list[tuple[float, str, Pair]] = []
        active = s.choose == "disagreement" and self.round > 0
        scores = self.reward.score(groups) if active else None
        for g, group in enumerate(groups):
            for i, j in itertools.combinations(range(len(group.outcomes)), 2):
                if group.outcomes[i].text == group.outcomes[j].text:
                    continue
                pair = Pair.of(self.task, group, i, j)
                heads = scores[g].heads if scores is not None else None
                doubt = float((heads[i] - heads[j]).std(correction=0)) if heads is not None else 0.0
                candidates.append((-doubt, digest(self.key("choose"), pair.stream), pair))
        candidates.sort(key=lambda row: row[:2])
        if not candidates:
            raise RRMError(
                f"{self.task.path}: all outcomes sampled in round {self.round} are alike, so there is "
                "nothing to compare; raise temperature, or train for fewer steps"
            )
        unique = {pair.id: pair for _, _, pair in candidates}
        return list(unique.values())[: s.comparisons]

    def compare(self, user: User, pairs: Sequence[Pair]) -> list[Comparison]:
        """The user's judgements of a round's pairs; returns all so far."""
        fresh = self._ask(user, pairs)
        preferences = [c.preference for c in fresh]
        if len(fresh) >= ENOUGH and not set(preferences) - {0.5, None}:
            raise RRMError(
                f"{self.task.path}: in none of {len(fresh)} comparisons of round {self.round} did {user.name} prefer "
                "one outcome, so there is nothing to learn from. Either the agent's outcomes do not differ in what the "
                "user can see (use a model that can do this role at times, raise temperature or outcomes), or the "
                "user sees too little (more attention, an assistant for this task)."
            )
        self.emit(
            "compare",
            step=len(pairs),
            of=len(pairs),
            comparisons=len(self.comparisons),
            ties=preferences.count(0.5),
            abstentions=preferences.count(None),
            attention=sum(c.judgement.attention for c in fresh),
        )
        return self.comparisons

    def _ask(self, user: User, pairs: Sequence[Pair]) -> list[Comparison]:
        """Judgements of pairs, whoever of several processes asked for them."""
        fresh = self.run.world.once(lambda: self._judge(user, pairs))
        if not self.run.world.main:
            for comparison in fresh:
                user.recall(self.task, comparison.judgement)
        self.comparisons += fresh
        return fresh

    def _judge(self, user: User, pairs: Sequence[Pair]) -> list[Comparison]:
        """Judgements, each kept as it is given; what was judged before is not asked again."""
        known = {c.pair.id: c for c in self.run.store.comparisons(self.task.path, self.round)}
        fresh: list[Comparison] = []
        if isinstance(user, Expectant):
            self.emit("compare", of=len(pairs))  # it may be a while until the first is judged
            user.expect(self.task, self.round, [pair for pair in pairs if pair.id not in known], self.run.out)
        for position, pair in enumerate(pairs):
            if (comparison := known.get(pair.id)) is not None:
                user.recall(self.task, comparison.judgement)
            else:
                began = time.monotonic()
                judgement: Judgement = user.judge(self.task, pair)
                seconds = time.monotonic() - began if judgement.seconds is None else judgement.seconds
                comparison = Comparison(pair, judgement, self.round, judgement.by or user.name, seconds)
                spans = (self._locate(pair.case, pair.a), self._locate(pair.case, pair.b))
                self.run.store.add(comparison, position, spans)
            fresh.append(comparison)
            if position % 16 == 0 or position + 1 == len(pairs):
                self.emit("compare", step=position + 1, of=len(pairs))
        return fresh

    # --- learning ------------------------------------------------------------------------------------

    def fit(self, comparisons: Sequence[Comparison]) -> None:
        """Train the reward model on all comparisons so far."""
        if self._load(self.round, "reward", self.reward):
            return
        s = self.task.settings
        report = fit_reward(
            self.reward, comparisons, s, self.key("fit"), lambda step, of: self.emit("fit", step=step, of=of)
        )
        self.emit("fit", 0, 0, **report.metrics())
        self.run.store.score(self.task.path, self.round, report.margins)
        self._save("reward", self.reward)

    def improve(self, helpers: Sequence[Assistant], cases: Cases, user: User) -> None:
        """Optimize the agent against the reward model, cautiously (mean - caution * standard deviation), and
        keep what became of it unless the user, shown both, prefers the agent as it was.

        The reward model has seen few outcomes without form, and an optimizer finds those it overrates; so form,
        which anyone sees at a glance and no truth is needed for, is a constraint (Settings.malformed).
        """
        if self._load(self.round, "agent", self.agent):
            return
        s = self.task.settings

        def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
            if s.reward_sees == "assistance":
                groups = assist(helpers, groups, quick=True)
            rewards = [score.mean - s.caution * score.std for score in self.reward.score(groups)]
            return [
                torch.where(self._without_form(group), reward.clamp(max=s.malformed), reward)
                for group, reward in zip(groups, rewards, strict=True)
            ]

        def log(step: int, metrics: Mapping[str, float]) -> None:
            self.emit("improve", step=step, of=s.steps, **metrics)

        before, old = self.agent.state(), self._fresh(cases)
        report = IMPROVERS[s.improver](self.agent, judge, cases, s, self.key("improve"), log)
        if report.stopped:
            self.emit("improve", step=report.steps, of=s.steps, stopped=1.0)
        if not self._accepted(user, helpers, old, self._fresh(cases)):
            self.agent.load(before)
        self._save("agent", self.agent)

    def _fresh(self, cases: Cases) -> list[Group]:
        """One outcome each of `accept` cases. The same random numbers before and after: what an improvement
        left as it was comes out as it was, and need not be judged."""
        s = self.task.settings
        drawn = cases.draw(s.accept, self.key("accept cases")) if s.accept else []
        return self.agent.sample(drawn, 1, key=self.key("accept"), temperature=s.temperature)

    def _accepted(self, user: User, helpers: Sequence[Assistant], old: list[Group], new: list[Group]) -> bool:
        """Whether the user, on fresh outcomes, prefers the improved agent, or does not clearly prefer the old.

        An agent optimized against a reward model that is wrong earns reward and gets worse (over-optimization:
        Gao et al. 2022, arXiv 2210.10760). The user's own judgement of fresh outcomes is no target of the
        optimization, so it can tell. "Clearly": see `stands`. These comparisons are the next round's
        training data too, where they show the reward model what it was wrong about.
        """
        both = [Group(o.case, (*o.outcomes, *n.outcomes)) for o, n in zip(old, new, strict=True)]
        both = assist(helpers, [group for group in both if group.outcomes[0].text != group.outcomes[1].text])
        improved_first: dict[str, bool] = {}
        pairs: dict[str, Pair] = {}
        for group in both:
            first = seed_of("accept", self.key(), group.case.id) % 2
            pair = Pair.of(self.task, group, first, 1 - first)
            pairs[pair.id], improved_first[pair.id] = pair, first == 1
        wins = [
            c.preference if improved_first[c.pair.id] else 1 - c.preference
            for c in self._ask(user, list(pairs.values()))
            if c.preference is not None
        ]
        if not wins:
            return True
        kept = stands(wins)
        self.emit("accept", preferred=sum(wins) / len(wins), comparisons=len(wins), kept=float(kept))
        return kept

    def finish(self, helpers: Sequence[Assistant]) -> Assistant:
        task = replace(self.task, assistants=tuple(helpers))
        return Assistant(task, self.agent, self.reward, tuple(helpers), self.run.store)

    # --- weights -------------------------------------------------------------------------------------

    def _save(self, part: str, holder: TextAgent | TextRewardModel) -> None:
        """Keep weights. All processes go on with the bits that were kept, whatever their processors made of them."""
        path = self.run.out / "nodes" / self.task.path / str(self.round) / f"{part}.safetensors"
        body = self.run.world.once(lambda: save({name: t.contiguous().clone() for name, t in holder.state().items()}))
        if not self.run.world.main:
            holder.load(load(body))
            return
        write_atomically(path, body)
        self.run.store.checkpoint(
            self.task.path,
            self.round,
            part,
            str(path.relative_to(self.run.out)),
            hashlib.sha256(body).hexdigest(),
        )

    def _load(self, round: int, part: str, holder: TextAgent | TextRewardModel) -> bool:
        saved = self.run.store.checkpoints(self.task.path).get((round, part))
        if saved is None:
            return False
        holder.load(load(self.run.world.once(lambda: read_checked(self.run.out / saved[0], saved[1]))))
        return True


def stands(wins: Sequence[float]) -> bool:
    """Whether an improvement with these wins (1; 0 lost, 0.5 a tie) is not clearly worse: by more than a standard error
    of as many coin tosses. The observed spread would not do: of one comparison, or of all lost, it is 0."""
    return sum(wins) / len(wins) + 0.5 / math.sqrt(len(wins)) >= 0.5


def weights(store: Store, out: Path, task: str, round: int, part: str) -> dict[str, torch.Tensor] | None:
    """The weights that a node saved (`part`: reward or agent); None if it has not. Raises `RunError` if they are not
    what was saved."""
    saved = store.checkpoints(task).get((round, part))
    return None if saved is None else load(read_checked(out / saved[0], saved[1]))


def read_checked(path: Path, sha256: str) -> bytes:
    """A file's content. Raises `RunError` if it is not what was saved."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} is recorded in run.db but cannot be read ({error}); restore it from a copy") from error
    if hashlib.sha256(body).hexdigest() != sha256:
        raise RunError(f"{path} is not the file that was saved (its hash differs); restore it from a copy")
    return body


def write_atomically(path: Path, body: bytes) -> None:
    """Either the whole file is there, on disk, or none of it."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        if os.name == "posix":  # the new name, too, must be on disk before run.db speaks of it
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error}); nothing judged is lost: make room and run again") from error


def about() -> dict[str, Any]:
    """What this run was made with."""
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "numpy")}
    return {"packages": packages, "threads": torch.get_num_threads(), "started": time.time()}


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 120 else text[:117] + "..."
