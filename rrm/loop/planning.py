"""What training a tree will compute, from its settings alone: every pass of the loop, as `rrm.loop.recursion` makes it.

Nothing is run. What settings determine (outcomes sampled, judgements, policy steps) is an upper bound that runs reach
unless they stop early: a KL limit, outcomes that are alike, an assistant asked twice about the same. Lengths of cases
and outcomes are what they are said to be (`Extent`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rrm.core import border
from rrm.core.errors import RunError
from rrm.core.parts import is_part
from rrm.core.records import Assistance
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task
from rrm.store.config import read_config
from rrm.store.journal import Journal

SAID = 8
"""Tokens of what a reward model reads of one answer ("proofs wrong step1"), about."""
DRAWN = 16
"""Cases that are drawn to see how long they are."""


@dataclass(frozen=True)
class Extent:
    """How long what a node reads and writes is, in tokens."""

    prompt: int
    """A case, on average."""
    longest: int
    """The longest case."""
    outcome: int
    """An outcome, on average."""
    said: int = SAID
    """What is said of one outcome by it and all its assistants."""
    asked: float = 1.0
    """Cases that it makes of one outcome of its parent."""
    source: Literal["drawn", "said", "run", "guessed"] = "guessed"
    """Where the length of its cases is from; run: see `lengths_of`; guessed: its parent's case and outcome."""


@dataclass(frozen=True)
class Pass:
    """The same computation, `times` times: `cases` cases, `n` outcomes of `tokens` tokens each.

    kind: sample; read (a pass without a gradient over case and outcomes); train (with one); ask (a tool, or somebody
    else's model: nothing is computed here).
    by: the node whose agent or reward model computes, for the node that is trained.
    logits: whether log-probabilities are asked for. whole: whether a case's outcomes stay in one pass. batch: cases
    that are given to a pass together; 0: all.
    """

    by: str
    purpose: str
    kind: Literal["sample", "read", "train", "ask"]
    cases: int
    n: int
    prompt: int
    tokens: int
    times: int = 1
    logits: bool = True
    whole: bool = False
    batch: int = 0

    @property
    def outcomes(self) -> int:
        """All."""
        return self.cases * self.n * self.times

    @property
    def written(self) -> int:
        """Tokens of all outcomes."""
        return self.outcomes * self.tokens


@dataclass(frozen=True)
class NodeWork:
    """What training one node takes: its passes, and its user's judgements."""

    task: Task
    extent: Extent
    rounds: int
    judgements: int
    """Of all rounds, those about its improvements among them."""
    passes: tuple[Pass, ...]

    def sampled(self, *purposes: str) -> int:
        """Outcomes sampled for these purposes; for all without any."""
        return sum(p.outcomes for p in self.passes if p.kind == "sample" and (p.purpose in purposes or not purposes))


def extents(
    task: Task, count: Callable[[str], int], said: Mapping[str, int] | None = None, share: float = 1.0
) -> dict[str, Extent]:
    """How long things are at every node, by path; finished assistants included.

    Parameters
    ----------
    task: planted. count: tokens of a prompt. said: path -> tokens of a case, instead of what is found.
    share: of `max_tokens` that outcomes have, on average.
    """
    found: dict[str, Extent] = {}

    def look(node: Task, above: Extent | None) -> None:
        most = node.settings.max_tokens
        outcome = max(1, round(share * most))
        told = (said or {}).get(node.path)
        answers = _answers(node)
        if told is not None:
            here = Extent(told, told, outcome, SAID * answers, source="said")
        elif node.cases is not None:
            supply = node.cases
            drawn = border.drawn(lambda: supply.draw(DRAWN, "plan"), f"cases of {node.path!r}", DRAWN)
            lengths = [count(case.prompt) for case in drawn]
            here = Extent(round(sum(lengths) / len(lengths)), max(lengths), outcome, SAID * answers, source="drawn")
        else:
            assert above is not None  # a root has cases: checked when the tree is built
            parent, written = above.prompt, above.outcome
            here = Extent(parent + written, above.longest + written, outcome, SAID * answers)
        found[node.path] = here
        for sub in node.assistants:
            look(_working(sub), here)

    look(task, None)
    return found


def lengths_of(
    run: Path, task: Task, count: Callable[[str], int], bare: Callable[[str], int]
) -> dict[str, Extent]:
    """How long things were in a run of the same tree, as far as it was judged: of nodes with comparisons, by path.

    task: planted. count: tokens of a prompt, with what a chat template writes around it; bare: of a text. Raises
    `RunError` if none of its nodes was judged there.
    """
    read_config(run)  # a folder that is no run's is said to be none
    journal, found = Journal(run), dict[str, Extent]()
    said: dict[str, list[Assistance]] = {}
    try:
        for node in task.walk():
            pairs = [one.pair for one in journal.comparisons(node.path) if not is_part(one.case)]
            prompts = [count(pair.case.prompt) for pair in pairs]
            outcomes = {one.id: 1 + bare(one.shown) for pair in pairs for one in (pair.a, pair.b)}
            for pair in pairs:
                for top in (*pair.assistance_a, *pair.assistance_b):
                    for one in top.tree():
                        said.setdefault(one.assistant, []).append(one)
            if pairs:
                outcome = min(node.settings.max_tokens, _mean([*outcomes.values()]))
                found[node.path] = Extent(_mean(prompts), max(prompts), outcome, SAID * _answers(node), source="run")
    finally:
        journal.close()
    if not found:
        raise RunError(f"{run} has no comparison at a node of this tree ({task.path}, ...); give a run of this tree")
    for path, extent in found.items():
        if heard := said.get(path):
            asked = sum(len(one.answers) for one in heard) / len(heard)
            found[path] = replace(extent, said=_mean([bare(one.text) for one in heard]), asked=asked)
    return found


def _mean(values: Sequence[int]) -> int:
    return max(1, round(sum(values) / len(values)))


def _answers(task: Task) -> int:
    """Answers in an assistance of this node: its own, and one of each node below."""
    return 1 + sum(_answers(_working(sub)) for sub in task.assistants)


def _working(one: Task | Assistant) -> Task:
    """A subtask, or a finished assistant's task with the assistants that it works with."""
    return one if isinstance(one, Task) else replace(one.task, assistants=one.helpers)


def works(task: Task, found: Mapping[str, Extent], frozen: bool) -> list[NodeWork]:
    """The work at every node to be trained, children before parents. task: planted. found: from `extents`. frozen:
    whether `reward_trunk="auto"` means that: on a processor."""
    return [*_visit(task, _rounds(task.settings), found, frozen)]


def _rounds(s: Settings) -> int:
    return max(s.rounds, s.most_rounds) if s.until else s.rounds


def _visit(task: Task, rounds: int, found: Mapping[str, Extent], frozen: bool) -> Iterator[NodeWork]:
    for sub in task.assistants:
        if isinstance(sub, Task):
            # Once before its parent's first round, and `refresh` more rounds in each later one.
            more = _rounds(sub.settings) + (rounds - 1) * task.settings.refresh
            yield from _visit(sub, more, found, frozen)
    planner = _Planner(found, frozen)
    passes: list[Pass] = []
    for round in range(rounds):
        passes += planner.round(task, round)
    s = task.settings
    asked = min(s.comparisons, s.cases * math.comb(s.outcomes, 2))
    turns = sum(s.asks(round) for round in range(rounds))
    yield NodeWork(task, found[task.path], rounds, turns * (asked + s.accept), tuple(passes))


def is_frozen(s: Settings, frozen: bool) -> bool:
    """Whether a reward model's trunk is; `frozen`: what "auto" means."""
    return frozen if s.reward_trunk == "auto" else s.reward_trunk == "frozen"


class _Planner:
    def __init__(self, found: Mapping[str, Extent], frozen: bool) -> None:
        self.found, self.frozen = found, frozen

    # --- the steps of `solve` --------------------------------------------------------------------

    def round(self, task: Task, round: int) -> Iterator[Pass]:
        """What one round computes."""
        s = task.settings
        framed = any(isinstance(sub, Task) and sub.cases is None for sub in task.assistants)
        if framed and (round == 0 or s.refresh):
            yield self._sample(task, "frame", s.cases + s.frame_cases, s.outcomes)
        if not s.asks(round):
            yield from self.improve(task)
            return
        adversarial = s.adversarial if round else 0
        if adversarial:
            yield from self.improve(task)
        for n in (s.outcomes - s.explored - adversarial, s.explored, adversarial):
            if n:
                yield self._sample(task, "judge", s.cases, n)
        yield from self.assist(task, s.cases * s.outcomes, False, "judge")
        if round and s.choose == "disagreement":
            yield from self.score(task, "choose", s.cases, s.outcomes)
        yield from self.fit(task, round)
        yield from self.improve(task)
        if s.accept:
            yield self._sample(task, "accept", s.accept, 1, 2)
            yield from self.assist(task, 2 * s.accept, False, "accept")
            yield from self.score(task, "foresee", s.accept, 2)

    def fit(self, task: Task, round: int) -> Iterator[Pass]:
        """The reward model, on all comparisons so far."""
        s, extent = task.settings, self.found[task.path]
        pairs = min(s.comparisons, s.cases * math.comb(s.outcomes, 2))
        cases = min(s.cases, pairs)
        each = min(s.outcomes, math.ceil(2 * pairs / cases))
        length = self._read(task)
        if round:
            yield from self.score(task, "foresee", cases, each)
        frozen = is_frozen(s, self.frozen)
        turns = sum(s.asks(before) for before in range(round))  # before this one
        new = [(cases, each), (s.accept if round else 0, 2)]
        all_ = [((turns + 1) * cases, each), (turns * s.accept, 2)]
        for groups, n in new if frozen else all_:  # a frozen trunk's features are kept from round to round
            if not groups:
                continue
            if frozen:
                yield Pass(task.path, "fit", "read", groups, n, extent.prompt, length, 1, s.surprise, batch=1)
                continue
            if s.surprise:
                yield Pass(task.path, "reference", "read", groups, n, extent.prompt, extent.outcome)
            batch = min(s.reward_batch, groups)
            whole, left = divmod(groups, batch)
            for size, times in ((batch, whole), (left, 1)):
                if size:
                    yield Pass(
                        task.path, "fit", "train", size, n, extent.prompt, length, times * s.reward_epochs, False, True
                    )
            yield Pass(task.path, "fit", "read", groups, n, extent.prompt, length, 1, False)

    def improve(self, task: Task) -> Iterator[Pass]:
        """The agent, against the reward model."""
        s, extent = task.settings, self.found[task.path]
        if not s.steps:
            return
        explored = int(s.explore * s.group) if s.improver == "best_of_n" else 0
        yield self._sample(task, "improve", s.batch, s.group - explored, s.steps)
        if explored:
            yield self._sample(task, "improve", s.batch, explored, s.steps)
        if s.reward_sees == "assistance":
            yield from self.assist(task, s.batch * s.group, True, "improve", s.steps)
        yield from self.score(task, "improve", s.batch, s.group, s.steps)
        if not (s.surprise):  # else the reward model has asked for the same
            yield Pass(task.path, "reference", "read", s.batch, s.group, extent.prompt, extent.outcome, s.steps)
        n = {"rloo": s.group, "dpo": 2, "best_of_n": 1}[s.improver]
        yield Pass(
            task.path, "improve", "train", s.batch, n, extent.prompt, extent.outcome, s.steps, True, s.improver == "dpo"
        )

    # --- assistants at work ----------------------------------------------------------------------

    def assist(self, task: Task, outcomes: int, quick: bool, purpose: str, times: int = 1) -> Iterator[Pass]:
        """Every assistant of `task` examines so many of its outcomes: `Assistant.examine`."""
        for sub in task.assistants:
            node, known = _working(sub), isinstance(sub, Task) or sub.reward is not None
            cases = math.ceil(outcomes * self.found[node.path].asked)
            yield from self.answer(node, cases, quick, known, purpose, times)

    def answer(
        self, node: Task, cases: int, quick: bool, known: bool, purpose: str, times: int
    ) -> Iterator[Pass]:
        """`Assistant._ask` about so many cases, none of which was asked before. known: not a tool, nor somebody else's
        model."""
        name = f"{purpose}: quick answers" if quick else f"{purpose}: answers"
        if not known:
            extent = self.found[node.path]
            yield Pass(node.path, name, "ask", cases, 1, extent.prompt, extent.outcome, times)
            yield from self.assist(node, cases, quick, purpose, times)
            return
        drafts = 1 if quick else node.settings.drafts
        yield self._sample(node, name, cases, drafts, times)
        if drafts > 1:
            yield from self.assist(node, cases * drafts, True, purpose, times)
            yield from self.score(node, name, cases, drafts, times, alone=True)
        yield from self.assist(node, cases, quick, purpose, times)
        if not quick:
            yield from self.score(node, name, cases, 1, times, alone=True)

    # --- passes ----------------------------------------------------------------------------------

    def score(
        self, task: Task, purpose: str, cases: int, n: int, times: int = 1, alone: bool = False
    ) -> Iterator[Pass]:
        """The reward model's scores. alone: nothing is remembered; it makes no difference to what is computed once."""
        s, extent = task.settings, self.found[task.path]
        frozen = is_frozen(s, self.frozen)
        yield Pass(
            task.path, purpose, "read", cases, n, extent.prompt, self._read(task), times, s.surprise and frozen
        )
        if s.surprise and not frozen:  # by the starting model; a frozen trunk is that
            name = purpose if alone else "reference"
            yield Pass(task.path, name, "read", cases, n, extent.prompt, extent.outcome, times)

    def _sample(self, task: Task, purpose: str, cases: int, n: int, times: int = 1) -> Pass:
        extent = self.found[task.path]
        return Pass(task.path, purpose, "sample", cases, n, extent.prompt, extent.outcome, times)

    def _read(self, task: Task) -> int:
        """Tokens that a reward model reads of an outcome: it, what is said of it, and its end."""
        said = sum(self.found[sub.path].said for sub in task.subtasks)
        shown = said if task.settings.reward_sees == "assistance" else 0
        return self.found[task.path].outcome + shown + 1


def total(passes: Sequence[Pass], kind: str) -> int:
    """Tokens written in passes of a kind."""
    return sum(p.written for p in passes if p.kind == kind)
