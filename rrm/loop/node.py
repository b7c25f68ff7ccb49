"""A node in training: the steps of the loop, in the words of `rrm.loop.recursion`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rrm.core.contracts import ContractError
from rrm.core.errors import ConfigError, ModelError, Notice
from rrm.core.judgements import DERIVED, Comparison, FitReport, ImproveReport, Judgement, Pair
from rrm.core.parties import User, Watch
from rrm.core.protocols import Agent, Cases, Cloning, Heeding, Learner, Policy, RewardModel
from rrm.core.records import Group
from rrm.core.remarks import Remarked, of_kind
from rrm.core.task import Assistant, Task
from rrm.loop import judging, outcomes, taught
from rrm.loop.accounting import count
from rrm.loop.cautious import CautiousJudge
from rrm.loop.foreseeing import foresee
from rrm.loop.lasting import finished_rounds, needed
from rrm.loop.living import end, live, lived
from rrm.loop.state import NodeState
from rrm.store.journal import Journal


class Node(NodeState):
    """One task in training, as far as it had come: judgements of finished rounds are recalled, weights loaded."""

    def __init__(
        self, task: Task, agent: Policy, reward: Learner, journal: Journal, user: User | None, seed: int,
        watch: Sequence[Watch] = (),
    ) -> None:  # fmt: skip
        super().__init__(task, agent, reward, journal, journal.world, seed, watch)
        self.seconds = 0.0
        self._framing: tuple[int, list[Group]] | None = None
        self._cloned, self._told = False, set[str]()
        heeds = self.reward.heeds if isinstance(self.reward, Heeding) else ()
        self._heeds = [kind for kind in heeds if kind != "note" or task.settings.notes]
        taught.expect_heed(self)
        outcomes.dividing(self)  # before anybody judges anything
        self.catch_up(user)
        taught.tell_unheeded(self)
        self.emit("open")

    def catch_up(self, user: User | None) -> None:
        """Be as far as the journal says. `user` is told of the judgements of finished rounds; None: it gave them."""
        before, self.round = self.round, finished_rounds(self.journal, self.task.path)
        if self.round > before:
            self._load(self.round - 1, "reward", self.reward)
            self._load(self.round - 1, "agent", self.agent)
            self.lived = lived(self)
        found = [one for one in self.journal.comparisons(self.task.path) if one.round < self.round]
        if user is not None:
            for comparison in found:
                user.recall(self.task, comparison.judgement)
        self.comparisons = found
        self.alone = self.journal.remarks(self.task.path)

    def _clone(self) -> None:
        """Before its first round the agent learns of demonstrations, if `settings.clone` says so; once."""
        s, shown = self.task.settings, of_kind(self.alone, "demonstration")
        if self._cloned or self.round or not s.clone or not (shown := self._fitting(shown)):
            return
        if not isinstance(self.agent, Cloning):
            raise ConfigError(
                f"{self.task.path}: clone={s.clone}, but its agent, a {type(self.agent).__name__}, cannot learn from "
                "demonstrations; leave the setting out"
            )
        self._cloned = True
        log = partial(self._log_clone, of=s.clone)
        self.agent.clone([(one.case, one.outcome) for one in shown], s, self.key("clone"), log)

    def _fitting(self, remarks: Sequence[Remarked]) -> list[Remarked]:
        """Those of outcomes that are not too long for the reward model. Raises `ModelError` for others, unless
        `settings.too_long` leaves them out (of a remark nothing can be cut); then it is said how many."""
        find = getattr(self.reward, "too_long", None)
        if find is None or not remarks:
            return list(remarks)
        pairs = [Pair(r.task, r.case, r.outcome, r.outcome, r.assistance, r.assistance) for r in remarks]
        long = {c.pair.id for c in find([Comparison(pair, Judgement(None), 0, "") for pair in pairs])}
        kept = [one for one, pair in zip(remarks, pairs, strict=True) if pair.id not in long]
        if not long:
            return kept
        first = next(one for one, pair in zip(remarks, pairs, strict=True) if pair.id in long)
        told = (
            f"{self.task.path}: {len(remarks) - len(kept)} of {len(remarks)} remarks are of outcomes that are too long "
            f"for the model; the first is a {first.remark.kind} ({first.case.prompt[:60]!r})"
        )
        if self.task.settings.too_long == "error":
            raise ModelError(f"{told}. Train with the setting too_long=skip, which leaves them out")
        if (told := f"{told}; they are left out") not in self._told:
            self._told.add(told)
            warnings.warn(told, Notice, stacklevel=2)
        return kept

    def begin(self, helpers: Sequence[Assistant]) -> None:
        """Before its first round: the agent takes its first assistant's weights, if `settings.begin` says so, and
        learns of demonstrations, if `settings.clone` does."""
        if self.task.settings.begin == "assistant" and self.round == 0 and helpers:
            self.agent.load(helpers[0].agent.state())
        self._clone()

    def _log_clone(self, step: int, metrics: Mapping[str, float], of: int) -> None:
        self.emit("clone", step=step, of=of, **metrics)

    def rounds(self, extra: int = 0) -> Iterator[int]:
        """The rounds still to do. Each ends when the agent's weights are saved."""
        while self.round < needed(self.task.settings, self.round, self.history) + extra:
            began = time.monotonic()
            yield self.round
            self.seconds = time.monotonic() - began
            self.emit("done", seconds=self.seconds)
            self.round += 1

    def sample(self, cases: Cases, helpers: Sequence[Assistant] = ()) -> list[Group]:
        """Outcomes of the agent as it is now, to be judged, and what its settings want beside them."""
        self.cases = cases
        live(self, cases)
        outcomes.beside_demonstrations(self)
        return outcomes.to_judge(self, cases, helpers)

    def sample_to_frame(self, cases: Cases) -> list[Group]:
        """Further outcomes, from which all subtasks' cases are made: once a round, whoever asks."""
        if self._framing is None or self._framing[0] != self.round:
            if self.task.settings.begin != "assistant":  # else it has no weights yet to learn with
                self._clone()
            live(self, cases)
            self._framing = self.round, outcomes.to_frame(self, cases)
        return self._framing[1]

    def choose(self, groups: Sequence[Group]) -> list[Pair]:
        """The pairs the user is asked about."""
        return judging.choose(self, groups)

    def compare(self, user: User, pairs: Sequence[Pair]) -> list[Comparison]:
        """The user's judgements of a round's pairs; returns all so far."""
        judging.compare(self, user, pairs)
        return self.comparisons

    def fit(self, comparisons: Sequence[Comparison], helpers: Sequence[Assistant] = ()) -> None:
        """Train the reward model on all comparisons so far, and on what was said beside them (`rrm.loop.taught`)."""
        if self._load(self.round, "reward", self.reward):
            return
        if self.round:
            known = {one.id for one in comparisons if one.round < self.round}
            fresh = [one for one in comparisons if one.round == self.round and one.id not in known]
            foresee(self, self.round - 1, fresh)
        given, cut = self._short_enough([*comparisons, *taught.derived(self, helpers)])
        said = [one for one in taught.remarks_of(self) if one.remark.kind in self._heeds]
        remarks = tuple(self._fitting(said))
        heeded: dict[str, Any] = {"remarks": remarks} if remarks else {}
        try:
            report = self.reward.fit(  # a copy: what a learner does to its list is its own affair
                tuple(given), self.task.settings, self.key("fit"),
                lambda step, of: self.emit("fit", step=step, of=of), **heeded,
            )  # fmt: skip
        except ModelError as error:
            raise self._too_long(error, given) from error
        if not isinstance(report, FitReport):
            raise ContractError(f"{self.task.path}: the reward model's fit gave {type(report).__name__}, no FitReport")
        judged = sum(one.purpose != DERIVED for one in given)
        short = {"too_long": float(len(comparisons) - judged), "cut": float(len(cut))}
        self.emit("fit", 0, 0, **report.metrics(), **{name: n for name, n in short.items() if n})
        margins = (replace(m, comparison=cut.get(m.comparison, m.comparison)) for m in report.margins)
        asked = {one.id for one in comparisons}
        self.journal.score(self.task.path, self.round, tuple(m for m in margins if m.comparison in asked))
        self._save("reward", self.reward)

    def keep(self, cases: Cases) -> None:
        """In a round in which nobody is asked: the reward model stays as it is."""
        self.cases = cases
        live(self, cases)
        if not self._load(self.round, "reward", self.reward):
            self._save("reward", self.reward)

    def _short_enough(self, comparisons: Sequence[Comparison]) -> tuple[list[Comparison], dict[str, str]]:
        """What the reward model is fitted to, by `settings.too_long`, and of what was cut for it: its name -> the
        comparison's own."""
        then, find = self.task.settings.too_long, getattr(self.reward, "too_long", None)
        if then == "error" or find is None or not (long := find(comparisons)):
            return list(comparisons), {}
        ids = {one.id for one in long}
        shortened = getattr(self.reward, "shortened", lambda one: None) if then == "cut" else lambda one: None
        kept: list[Comparison] = []
        cut: dict[str, str] = {}
        for one in comparisons:
            short = shortened(one) if one.id in ids else one
            if short is not None:
                kept.append(short)
                cut |= {short.id: one.id} if short is not one else {}
        if not kept:
            raise ModelError(f"{self._named(long, comparisons)}: nothing is left to fit; use one with a longer context")
        done = f"{len(cut)} were cut for the fit, {len(comparisons) - len(kept)} left out of it"
        warnings.warn(f"{self._named(long, comparisons)}; {done}", Notice, stacklevel=2)
        return kept, cut

    def _named(self, long: Sequence[Comparison], comparisons: Sequence[Comparison]) -> str:
        """How many comparisons are too long, and which is the first."""
        origins = self.journal.origins(self.task.path).get((long[0].round, long[0].pair.id), [])
        row = f", imported from {origins[0].file}:{origins[0].row}" if origins else ""
        return (
            f"{self.task.path}: {len(long)} of {len(comparisons)} comparisons are too long for the model; the first is "
            f"of round {long[0].round}{row} ({long[0].case.prompt[:60]!r})"
        )

    def _too_long(self, error: ModelError, comparisons: Sequence[Comparison]) -> ModelError:
        """The error of a fit, with the comparisons that are too long for the model, if that is why, and their rows."""
        find = getattr(self.reward, "too_long", None)
        if find is None or not (long := find(comparisons)):
            return error
        return ModelError(
            f"{self._named(long, comparisons)}. {error}. Train with the setting too_long=skip or cut, or leave such "
            "rows out when they are imported, into a new folder: `rrm import --longest CHARACTERS`"
        )

    def improve(self, helpers: Sequence[Assistant], cases: Cases, user: User) -> None:
        """Optimize the agent against the reward model, and keep what became of it unless the user, shown both, prefers
        the agent as it was."""
        if self._load(self.round, "agent", self.agent):
            return
        s = self.task.settings

        judge = CautiousJudge(self, helpers)

        def log(step: int, metrics: Mapping[str, float]) -> None:
            self.emit("improve", step=step, of=s.steps, **metrics, **judge.held())

        before = {name: value.clone() for name, value in self.agent.state().items()}
        old = outcomes.to_accept(self, cases, "before")
        if not self._load(self.round, "candidate", self.agent):
            report = self.agent.improve(judge, cases, s, self.key("improve"), log)
            if not isinstance(report, ImproveReport):
                raise ContractError(f"{self.task.path}: improve gave {type(report).__name__}, no ImproveReport")
            count(self, "own steps")
            if report.stopped:
                self.emit("improve", step=report.steps, of=s.steps, stopped=1.0)
            if report.undone:
                self.emit("improve", step=report.steps, of=s.steps, undone=1.0)
            if not self.agent.repeatable:  # the outcomes that will be kept and judged are of these weights
                self._save("candidate", self.agent)
        if not judging.accepted(self, user, helpers, old, outcomes.to_accept(self, cases, "after")):
            self.agent.load(before)
        self._save("agent", self.agent)

    def finish(self, helpers: Sequence[Assistant]) -> Assistant:
        """The node at work, as its parent's assistant."""
        end(self)
        task = replace(self.task, assistants=tuple(helpers))
        return Assistant(task, self.agent, self.reward, tuple(helpers), self.journal)

    def _save(self, part: str, holder: Agent | RewardModel) -> None:
        kept = self.journal.save_weights(self.task.path, self.round, part, holder.state())
        if kept is not None:
            holder.load(kept)

    def _load(self, round: int, part: str, holder: Agent | RewardModel) -> bool:
        state = self.journal.weights(self.task.path, round, part)
        if state is not None:
            holder.load(state)
        return state is not None
