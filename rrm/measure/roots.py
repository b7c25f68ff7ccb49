"""What the experiments that train the root share: whose labels, what the reward model sees, what the agent became.

Two doors are kept apart: labels given with assistance or without, and a reward model that sees the assistance or not.
Otherwise a better input to the reward model passes for a better judgement. `doors` goes through all of them, and
`overoptimisation` too; `depth` and `exhaustiveness` go through the doors they are told: `rrm measure --labels`, and
`--set ROOT.reward_sees=`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from rrm.core.errors import Malformed, RRMError
from rrm.core.parties import User
from rrm.core.task import Assistant, Task
from rrm.measure.arms import HeldOut
from rrm.measure.oracle import OracleUser, aspects, score
from rrm.measure.stage import Labels, Sees, Stage
from rrm.measure.users import Unaided
from rrm.models.agent import TextAgent


def labeler(stage: Stage, labels: Labels | None = None) -> User:
    """Who labels the root's comparisons (default: as the stage says); below it, everyone is the stage's user."""
    labels = labels or stage.labels
    if labels == "oracle":
        return OracleUser()
    return Unaided(stage.user(), (stage.task.path,)) if labels == "alone" else stage.user()


def root(
    stage: Stage, name: str, labels: Labels | None = None, sees: Sees | None = None,
    helpers: Sequence[Assistant] | None = None,
) -> Assistant:  # fmt: skip
    """Train the root on finished assistants (all of the stage's by default); whose labels, and what the reward model
    sees, are the stage's unless given."""
    settings = stage.task.settings if sees is None else stage.task.settings.model_copy(update={"reward_sees": sees})
    task = replace(stage.task, assistants=tuple(stage.helpers if helpers is None else helpers), settings=settings)
    if labels is None and stage.labels != "assisted":
        name = f"{name}, labels {stage.labels}"  # beside the usual one, which other experiments look for
    return stage.train(f"root {name}", task, labeler(stage, labels))


def grades(stage: Stage, task: Task, agent: TextAgent, n: int = 200) -> dict[str, list[list[float]]]:
    """[case, true score] of fresh outcomes on held-out cases, one each, and the same of each aspect. What does not
    parse scores 0; its aspects are not known."""
    assert task.cases is not None
    cases = task.cases.draw(16 if stage.quick else n, f"grades {stage.seed}")
    found: dict[str, list[list[float]]] = {"score": []}
    groups = agent.sample(cases, 1, key=f"grades {stage.seed}")
    for place, group in zip(HeldOut(groups, [], []).case, groups, strict=True):
        try:
            facts = task.facts(group.case, group.outcomes[0])
        except Malformed:
            found["score"].append([place, 0.0])
            continue
        found["score"].append([place, score(facts)])
        for aspect, share in aspects(facts).items():
            found.setdefault(aspect, []).append([place, share])
    return found


def with_difficulty(task: Task, **changes: int) -> Task:
    """The task over cases of another difficulty. Raises `RRMError` if its cases have none."""
    difficulty = getattr(task.cases, "difficulty", None)
    if not is_dataclass(difficulty) or isinstance(difficulty, type) or not is_dataclass(task.cases):
        raise RRMError(
            "difficulty cannot be varied: it needs cases whose `difficulty` is a dataclass, as "
            f"rrm.worlds.papers.Briefs has; those of {task.name!r} are {type(task.cases).__name__}"
        )
    cases: Any = replace(task.cases, difficulty=replace(difficulty, **changes))
    return replace(task, cases=cases)
