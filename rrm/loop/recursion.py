"""Recursive reward modeling (Leike et al. 2018, section 3.2): the whole of it.

    the agent produces outcomes -> the assistants examine them -> the user, reading both, says which is
    better -> a reward model learns what the user wants -> the agent is optimized against it -> again
"""

from __future__ import annotations

from collections.abc import Sequence

from rrm.core.errors import RRMError, at_node
from rrm.core.parties import User
from rrm.core.protocols import Cases
from rrm.core.records import Case, Group
from rrm.core.task import Assistant, Pool, Task, assist
from rrm.loop.node import Node
from rrm.loop.run import Run


def solve(task: Task, cases: Cases, user: User, run: Run, extra: int = 0) -> Assistant:
    """Train `task` and, before it, everything below it; the finished node assists its parent.

    `cases` are the task's own; a subtask without any has them framed from its parent's outcomes. `extra` rounds are
    added to the task's own when a parent refreshes its assistants.
    """
    with at_node(task.path):  # whatever goes wrong names the node
        node = run.open(task, user)  # restored if the run was interrupted
        helpers = _helpers(node, cases, user, run)
        node.begin(helpers)
        for round in node.rounds(extra):
            if round and task.settings.refresh:
                helpers = _helpers(node, cases, user, run, extra=round * task.settings.refresh)
            if task.settings.asks(round):
                groups = assist(helpers, node.sample(cases, helpers))
                if not (pairs := node.choose(groups)):
                    break  # all outcomes are alike: it has converged
                comparisons = node.compare(user, pairs)
                node.fit(comparisons, helpers)
            else:
                node.keep(cases)
            node.improve(helpers, cases, user)
        return node.finish(helpers)


def _helpers(node: Node, cases: Cases, user: User, run: Run, extra: int = 0) -> tuple[Assistant, ...]:
    """The node's assistants: trained on what the node produces now, or finished elsewhere and used as is."""
    cases_of = {s.path: s.cases or Framed(s, node, cases) for s in node.task.assistants if isinstance(s, Task)}
    run.ahead(node.task, cases_of, user, extra)  # side by side, if there is who does it: they are then found finished
    return tuple(
        run.adopt(sub) if isinstance(sub, Assistant) else solve(sub, cases_of[sub.path], user, run, extra)
        for sub in node.task.assistants
    )


class Framed:
    """A subtask's cases, made from its parent's outcomes when they are first asked for."""

    def __init__(self, sub: Task, parent: Node, cases: Cases) -> None:
        self._sub, self._parent, self._cases = sub, parent, cases
        self._pool: Pool | None = None

    def draw(self, n: int, key: str) -> list[Case]:
        """Raises `RRMError` if the parent's outcomes make no case."""
        return self.pool().draw(n, key)

    def pool(self) -> Pool:
        """All of them, as data. Raises `RRMError` if there are none."""
        if self._pool is None:
            framed = frame_all(self._sub, self._parent.sample_to_frame(self._cases))
            if not framed:
                raise RRMError(
                    f"{self._sub.path}: no cases; its frame made none from the outcomes of "
                    f"{self._parent.task.path!r}. Either they are malformed "
                    "or frame() finds nothing in them."
                )
            self._pool = Pool(tuple(framed))
        return self._pool


def frame_all(sub: Task, groups: Sequence[Group]) -> list[Case]:
    """Every distinct case that `sub` makes of these outcomes; those without form make none."""
    cases: dict[str, Case] = {}
    for group in groups:
        for outcome in group.outcomes:
            cases |= {case.id: case for case in sub.framed(group.case, outcome)}
    return list(cases.values())
