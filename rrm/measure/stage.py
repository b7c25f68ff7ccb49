"""What experiments share: assistants trained once per seed, and held-out pairs whose truth is known.

Trees are trained through `rrm.train` into OUT/trees/<seed>/, so that every experiment of a seed finds the same
assistants, and an interrupted one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rrm.core.errors import RRMError
from rrm.core.parties import Maker, User, Watch
from rrm.core.protocols import Agent, Cases
from rrm.core.records import digest
from rrm.core.sizes import sized
from rrm.core.task import Assistant, Task, assist
from rrm.loop.training import describe, train
from rrm.measure.arms import HeldOut, differing, start_agent
from rrm.measure.flat_critic import critic
from rrm.measure.users import acquainted, finished_in
from rrm.models.backbone import Backbone
from rrm.store.store import Store

Labels = Literal["alone", "assisted", "oracle"]
Sees = Literal["assistance", "outcome"]

OUTCOMES = 4
"""Sampled for each held-out case."""


@dataclass(frozen=True)
class Material:
    """Pairs to judge, with what assistants said of them. `practice` is judged first, to learn whom to believe.

    helpers: the assistants who said it. Whoever judges may follow their answers down, and may know them from the
    judging of their own nodes, if they can do such a thing: see `rrm.measure.oversight.judged`.
    """

    held: HeldOut
    practice: HeldOut
    helpers: tuple[Assistant, ...] = field(default=(), kw_only=True)

    def each(self, change: Callable[[HeldOut], HeldOut]) -> Material:
        """Both sets of pairs, changed."""
        return replace(self, held=change(self.held), practice=change(self.practice))

    def assisted(self, helpers: Sequence[Assistant]) -> Material:
        """The same pairs, with these assistants' assistance."""
        found = self.each(lambda some: replace(some, groups=assist(helpers, some.groups)))
        return replace(found, helpers=tuple(helpers))


@dataclass(frozen=True)
class Stage:
    """One seed's trained assistants and held-out data.

    Attributes
    ----------
    task: the root of the tree, planted.
    user: makes a user who has met no assistant yet.
    out: trees are kept in OUT/trees/<seed>.
    pairs: held-out cases; up to 4 truly differing pairs of each are judged.
    practice: cases whose pairs a user judges first.
    labels: who labels the comparisons of a root that an experiment trains; see `rrm.measure.roots`.
    maker: who makes agents and reward models; by default the maker over the backbone.

    Cases come from `task.cases`, drawn with keys that training does not use: an endless supply gives new ones. A
    finite `Pool` gives cases that training has seen too, and the results then say nothing about new cases.
    """

    task: Task
    backbone: Backbone
    user: Callable[[], User]
    seed: int
    out: Path
    pairs: int = 100
    practice: int = 40
    quick: bool = False
    labels: Labels = "assisted"
    watch: tuple[Watch, ...] = ()
    maker: Maker | None = None

    @property
    def makes(self) -> Backbone | Maker:
        """Who makes what learns."""
        return self.maker or self.backbone

    def start(self, task: Task) -> Agent:
        """The untrained agent of a task."""
        return start_agent(task, self.backbone) if self.maker is None else self.maker.policy(task, self.seed)

    @property
    def cases(self) -> Cases:
        """Where the root's cases come from."""
        assert self.task.cases is not None  # a root's are checked
        return self.task.cases

    @property
    def depth(self) -> int:
        """Levels of assistants below the root."""
        return depth(self.task)

    def about(self) -> dict[str, Any]:
        """What decides this seed's results: another answer means another experiment."""
        setting = describe(self.task, self.user(), self.makes, self.seed)
        cases = [case.id for case in self.cases.draw(4, "about")]
        size = {"pairs": self.pairs, "practice": self.practice, "quick": self.quick}
        labels = {} if self.labels == "assisted" else {"labels": self.labels}
        return {"task": self.task.name, **size, **labels, "settings": digest(setting, cases)}

    # --- training --------------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """Where a tree of this name is trained."""
        return self.out / "trees" / str(self.seed) / name

    def train(self, name: str, task: Task, user: User | None = None) -> Assistant:
        """Train a tree into OUT/trees/<seed>/<name>, or load it. With `quick`, by a smoke test's settings. Its user
        knows the assistants in it that were finished elsewhere as if they had been trained here (`acquainted`)."""
        folder = self.folder(name)
        judge = acquainted(user or self.user(), [*finished_in(task)])
        return train(self.tree(task), judge, self.makes, folder, self.seed, self.watch)

    def tree(self, task: Task) -> Task:
        """The task with the settings of this stage: a smoke test's if `quick`."""
        return sized(task, "smoke") if self.quick else task

    def assistants(self, name: str, task: Task, user: User | None = None, few: bool = False) -> Assistant:
        """Train a tree's assistants only: its root judges one round, to fit its reward model, and improves nothing.
        With `few`, the root judges hardly anything: where nobody asks for its reward model."""
        still = {"rounds": 1, "steps": 0, "accept": 0} | ({"cases": 8, "comparisons": 16} if few else {})
        return self.train(name, replace(task, settings=task.settings.model_copy(update=still)), user)

    @cached_property
    def root(self) -> Assistant:
        """The whole tree's root, its agent untrained, its reward model fitted; its assistants are trained."""
        if not self.task.assistants:
            raise RRMError(f"{self.task.name!r} has no assistants, so there is no assistance to measure")
        return self.assistants("whole", self.task)

    @property
    def helpers(self) -> tuple[Assistant, ...]:
        """The assistants, trained with assistants of their own."""
        return self.root.helpers

    @cached_property
    def training_attention(self) -> int:
        """Attention that users spent on the comparisons that trained the assistants, at all levels."""
        return sum(map(attention_below, self.helpers))

    def helpers_at(self, levels: int) -> tuple[Assistant, ...]:
        """The assistants, trained with only so many levels of assistants, themselves included. Those that had no
        more anyway are the same as in `helpers`."""
        if levels >= self.depth:
            return self.helpers
        if levels == 0:
            return ()
        finished = {helper.task.name: helper for helper in self.helpers}
        subs = [
            prune(sub, levels - 1) if isinstance(sub, Task) and depth(sub) >= levels else finished[name_of(sub)]
            for sub in self.task.assistants
        ]
        return self.assistants(f"depth {levels}", replace(self.task, assistants=tuple(subs))).helpers

    @cached_property
    def critic(self) -> tuple[Assistant, ...]:
        """One flat critic for everything, trained on the questions, and with the budget, of all the assistants."""
        return self.assistants("critic", replace(self.task, assistants=(critic(self.task),))).helpers

    # --- held-out data ---------------------------------------------------------------------------

    @cached_property
    def alone(self) -> Material:
        """Outcomes of the untrained root agent that nobody examined, and the pairs of them that truly differ."""

        def drawn(what: str, n: int) -> HeldOut:
            key = f"{what} {self.seed}"
            return differing(self.task, self.start(self.task).sample(self.cases.draw(n, key), OUTCOMES, key=key))

        held, practice = (8, 4) if self.quick else (self.pairs, self.practice)
        return Material(drawn("held out", held), drawn("practice", practice))

    @cached_property
    def assisted(self) -> Material:
        """The pairs with the assistance of the whole tree."""
        return self.alone.assisted(self.helpers)


def depth(task: Task | Assistant) -> int:
    """Levels of assistants below a node."""
    node = task if isinstance(task, Task) else task.task
    return 1 + max(map(depth, node.assistants)) if node.assistants else 0


def prune(task: Task, levels: int) -> Task:
    """The tree with only so many levels of assistants below its root."""
    subs = tuple(prune(sub, levels - 1) if isinstance(sub, Task) else sub for sub in task.assistants)
    return replace(task, assistants=subs if levels else ())


def name_of(sub: Task | Assistant) -> str:
    """The task's name, whether it is finished or not."""
    return sub.name if isinstance(sub, Task) else sub.task.name


def attention_below(node: Assistant) -> int:
    """Attention that users spent on training a node and what is below it."""
    assert isinstance(node.memo, Store)
    own = sum(c.judgement.attention for c in node.memo.comparisons(node.task.path))
    return own + sum(map(attention_below, node.helpers))
