"""Everything that is wrong with a task tree, found when it is built: what, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rrm.core import border
from rrm.core.errors import RRMError, TaskError, ToolMissing
from rrm.core.records import Case
from rrm.core.task import Task, no_spans


@dataclass(frozen=True)
class Fault:
    """A fault (`error`) or a doubt (`warning`) about one node."""

    path: str
    level: str
    what: str

    def __str__(self) -> str:
        return f"{self.level}: {self.path}: {self.what}"


def plant(task: Task, parent: str = "") -> Task:
    """The tree with every node's path filled in ("paper/proofs/steps"). Cycles raise `TaskError`."""
    return _plant(task, parent, ())


def _plant(task: Task, parent: str, above: tuple[Task, ...]) -> Task:
    if any(task is other for other in above) or len(above) > 50:
        names = " -> ".join(other.name for other in (*above, task))
        raise TaskError(
            f"the tree has a cycle: {names}; an assistant's task must be narrower than what it serves"
        )
    path = f"{parent}/{task.name}" if parent else task.name
    subs = tuple(
        _plant(sub, path, (*above, task)) if isinstance(sub, Task) else sub for sub in task.assistants
    )
    return replace(task, path=path, assistants=subs)


def faults(task: Task) -> list[Fault]:
    """Faults of a planted tree, the worst first."""
    fed = [node for node in task.walk() if node is task or node.cases is not None]
    found = [fault for node in fed for fault in _supply(node)]
    found += [fault for node in task.walk() for fault in _node(node)]
    return sorted(found, key=lambda fault: (fault.level != "error", fault.path))


def check(task: Task) -> Task:
    """The planted tree; raises `TaskError` with every error in it."""
    task = plant(task)
    errors = [str(fault) for fault in faults(task) if fault.level == "error"]
    if errors:
        raise TaskError("\n".join(errors))
    return task


def _supply(task: Task) -> Iterator[Fault]:
    if task.cases is None:
        yield Fault(task.path, "error", "no cases; give the root task cases=..., an object with draw(n, key)")
        return
    if not callable(getattr(task.cases, "draw", None)):
        listed = isinstance(task.cases, list | tuple)
        mend = "put them into rrm.Pool((...,))" if listed else "give an object with draw(n, key), such as rrm.Pool"
        yield Fault(task.path, "error", f"cases is a {type(task.cases).__name__}, which has no draw(); {mend}")
        return
    where = f"draw() of the cases of {task.path!r}"
    try:
        with border.told(where):
            drawn, again = (border.items(task.cases.draw(2, "check"), Case, where) for _ in range(2))
    except RRMError as error:
        yield Fault(task.path, "error", str(error))
        return
    if not drawn:
        yield Fault(task.path, "error", "its cases are empty: draw(2, ...) gave none")
    elif drawn != again:
        yield Fault(
            task.path,
            "error",
            "draw() gave other cases for the same key, so a run could not be resumed; use only the key",
        )
    yield from _prompts(task.path, drawn)


def _prompts(path: str, cases: Iterable[Case]) -> Iterator[Fault]:
    """An empty prompt is an error if there is no data behind it either, which agents of another kind may read."""
    empty = [case for case in cases if not case.prompt.strip()]
    if empty:
        level = "warning" if all(case.data for case in empty) else "error"
        yield Fault(path, level, "a case has an empty prompt: a language model would be given nothing to read")


def _outcomes(task: Task) -> Iterator[Fault]:
    s = task.settings
    if s.explored + s.adversarial >= s.outcomes:
        yield Fault(
            task.path, "error",
            f"explore={s.explore} and adversary={s.adversary} leave none of {s.outcomes} outcomes to the agent as it "
            "is; let them share less than 1",
        )  # fmt: skip
    if s.parts and not s.partial:
        yield Fault(
            task.path, "warning",
            f"parts={s.parts} of {s.comparisons} comparisons is none; raise one of them",
        )  # fmt: skip
    if task.divide is not None and task.locate is no_spans:
        yield Fault(
            task.path, "error",
            "divide without locate: which facts lie in a part is told by where they are in the text; give "
            "locate=..., or leave divide out",
        )  # fmt: skip
    rounds = max(s.rounds, s.most_rounds if s.until else 0)
    if s.feedback != "online" and s.refresh and any(isinstance(sub, Task) for sub in task.assistants):
        yield Fault(
            task.path, "warning",
            f"feedback={s.feedback} asks nobody here in some rounds, and refresh={s.refresh} trains its assistants in "
            "all of them, which ask the user at their own nodes and change what the reward model reads here; set "
            "refresh=0 to leave them as they are",
        )  # fmt: skip
    if s.adversary and not any(s.asks(round) for round in range(1, rounds)):
        why = f"feedback={s.feedback}" if rounds > 1 else "rounds=1"
        yield Fault(task.path, "warning", f"adversary={s.adversary} does nothing with {why}: it begins in round 2")
    elif s.adversary and not s.adversarial:
        yield Fault(
            task.path, "warning",
            f"adversary={s.adversary} of {s.outcomes} outcomes is none; raise one of them",
        )  # fmt: skip


def _constraint(task: Task) -> Iterator[Fault]:
    s, unknown = task.settings, sorted({*task.unacceptable} - {*task.aspects})
    if unknown:
        named = ", ".join(task.aspects) or "it has none"
        yield Fault(task.path, "error", f"unacceptable names {', '.join(unknown)}, no aspect of it ({named})")
    if s.notes and s.reward_trunk != "trained":
        yield Fault(
            task.path, "warning",
            f"notes={s.notes} teaches a trunk that is trained, and reward_trunk={s.reward_trunk} may keep it frozen; "
            "set reward_trunk=trained",
        )  # fmt: skip
    if s.constrained and "unacceptable" not in s.asked:
        yield Fault(
            task.path, "warning",
            f"unacceptable={s.unacceptable} is held by a constraint that is learned of what the user marks, and ask="
            f"{s.ask!r} does not ask for marks; unless some are imported, nothing is held. Set ask=unacceptable",
        )  # fmt: skip


def _node(task: Task) -> Iterator[Fault]:
    if not task.name or set(task.name) & set("/. \t\n"):
        yield Fault(
            task.path, "error", f"name {task.name!r} must not be empty or have '/', '.' or blanks in it"
        )
    yield from _functions(task)
    pairs = task.settings.cases * task.settings.outcomes * (task.settings.outcomes - 1) // 2
    if task.settings.comparisons > pairs:
        yield Fault(
            task.path, "warning",
            f"comparisons={task.settings.comparisons} in a round, but {task.settings.cases} cases with "
            f"{task.settings.outcomes} outcomes each make {pairs} pairs; no more will be asked. Set comparisons to at "
            "most that, or raise cases or outcomes",
        )  # fmt: skip
    yield from _outcomes(task)
    yield from _constraint(task)
    names = [sub.name for sub in task.subtasks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Fault(task.path, "error", f"two assistants are named {name!r}; rename one")
    for tool in task.tools:
        try:
            _ = tool.version
        except ToolMissing as error:
            yield Fault(task.path, "error", f"its tool {tool.name!r} cannot run: {error}")
    for sub in task.subtasks:
        for what in ("frame", "findings"):
            if getattr(sub, what) is None:
                yield Fault(
                    sub.path,
                    "error",
                    f"no {what}; a subtask needs {what}= to {_NEEDS[what]} {task.path!r}'s outcomes",
                )
        if sub.difficulty is not None and task.difficulty is not None and sub.difficulty >= task.difficulty:
            yield Fault(
                sub.path, "warning",
                f"its difficulty ({sub.difficulty:g}) is not below {task.path!r}'s ({task.difficulty:g}); an "
                "assistant's task must be narrower than the task it serves (Leike et al. 2018, section 3.2)",
            )  # fmt: skip
    yield from _coverage(task)


def _functions(task: Task) -> Iterator[Fault]:
    """What is called with a case and an outcome must be something that can be called."""
    for name in ("facts", "frame", "findings", "surface", "locate", "divide"):
        given = getattr(task, name)
        if not callable(given) and (given is not None or name not in (*_NEEDS, "divide")):
            yield Fault(
                task.path, "error",
                f"{name} is {border.plain(repr(given), 60)} ({type(given).__name__}), not a function; write one of a "
                f"case and an outcome: def {name}(case, outcome): return {'{}' if name in _NAMED else '[...]'}",
            )  # fmt: skip


def _coverage(task: Task) -> Iterator[Fault]:
    """Is every aspect of the task's outcomes somebody's (Leike et al. 2018, section 3.2)?"""
    if len(task.subtasks) > 1 and not task.aspects:
        yield Fault(
            task.path, "warning",
            "it has several assistants but says no aspects, so one that none of them covers would not be noticed; "
            "name all that counts in its outcomes in aspects=(...), what each assistant assesses in its covers=(...)",
        )  # fmt: skip
    if not task.assistants or not task.aspects:
        return
    covered = {aspect for sub in task.subtasks for aspect in sub.covers}
    for aspect in task.aspects:
        if aspect not in covered:
            yield Fault(
                task.path, "warning",
                f"no assistant covers the aspect {aspect!r}; it may be optimized in an arbitrary "
                "direction (the decomposition must be exhaustive)",
            )  # fmt: skip
    for sub in task.subtasks:
        if not set(sub.covers) & set(task.aspects):
            said = f"covers {', '.join(map(repr, sub.covers))}, none of them an aspect" if sub.covers else "covers none"
            yield Fault(
                sub.path, "warning",
                f"it {said} of {task.path!r} ({', '.join(task.aspects)}); name those it assesses in covers=(...)",
            )  # fmt: skip


_NEEDS = {"frame": "make its cases from", "findings": "say what its answers mean for"}
_NAMED = ("surface", "locate", "divide")
