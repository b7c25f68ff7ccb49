"""What whoever labels may want to know of a task beside its instruction: what each assistant was asked."""

from __future__ import annotations

from dataclasses import dataclass

from rrm.view.reading import Reader


@dataclass(frozen=True)
class AskedAssistant:
    """An assistant below a task.

    Attributes
    ----------
    depth: 0 for the task's own assistants, 1 for theirs, and so on.
    asked: its instruction; empty where the run does not say it.
    covers: the aspects of what it judges that it looks at.
    """

    name: str
    depth: int
    asked: str
    covers: tuple[str, ...]

    @property
    def looks_at(self) -> str:
        """The aspects in words; empty where they say no more than its name."""
        return "" if self.covers in ((), (self.name,)) else f"looks at {', '.join(self.covers)}"


def asked_below(run: Reader, task: str, depth: int = 0) -> list[AskedAssistant]:
    """What the assistants of a task were asked, each followed by its own."""
    told = run.config.get("about", {}).get("tasks", {})
    found: list[AskedAssistant] = []
    for node in run.children(task):
        covers = tuple(map(str, told.get(node.path, {}).get("covers", ())))
        found += [AskedAssistant(node.name, depth, node.instruction, covers), *asked_below(run, node.path, depth + 1)]
    return found
