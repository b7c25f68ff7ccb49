"""The nodes of a run's tree, as config.json has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rrm.core.records import digest


@dataclass(frozen=True)
class NodeView:
    """A task of a run's tree, as config.json has it."""

    path: str
    depth: int
    parent: str | None
    """Whom it assists; None of the root. One that was finished in another run, or is a tool, may assist several, and is
    below the first."""
    instruction: str
    settings: Mapping[str, Any]
    rounds: int
    """To be done in all, those that refresh the node for its parent included."""
    finished: str | None
    """The version of an assistant that was finished in another run, or is a tool; None if the node is trained in this
    one."""
    tool: bool = False
    """Whether it is a tool (`rrm.tool_assistant`): nothing of it was ever trained."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


def nodes_of(config: Mapping[str, Any], judged: Iterable[str] = ()) -> dict[str, NodeView]:
    """The tree of a config.json: the root first, parents before children, in the order in which the tasks are trained;
    `judged` stand for it where that has none."""
    tree: Mapping[str, Mapping[str, Any]] = config.get("tree", {})
    finished: Mapping[str, str] = config.get("finished", {})
    known = tree or {task: {} for task in judged}
    above = _assisted(config, known)
    nodes: dict[str, NodeView] = {}

    def grow(path: str, parent: NodeView | None) -> None:
        entry = known.get(path, {})
        settings = entry.get("settings", {})
        rounds = int(settings.get("rounds", 1))
        if parent is not None:  # a parent's later rounds refresh its assistants: see rrm.loop.recursion.solve
            rounds += (parent.rounds - 1) * int(parent.settings.get("refresh", 0))
        version = finished.get(path)
        node = NodeView(
            path, parent.depth + 1 if parent else 0, parent.path if parent else None,
            str(entry.get("instruction", "")), settings, rounds, version, _is_tool(path, entry, version),
        )  # fmt: skip
        nodes[path] = node
        for other in known:
            if above.get(other) == path and other not in nodes:
                grow(other, node)

    tops = [path for path in known if path not in above]
    for path in tops[-1:] + tops[:-1]:  # the root is trained last
        grow(path, None)
    for path in known:  # a config.json that somebody wrote may go in a circle
        if path not in nodes:
            grow(path, None)
    return nodes


def _assisted(config: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str]:
    """Path -> whom it assists: by its own path, or, of those that were finished before and have one of their own, by
    what the run says of its tasks. Older runs do not say."""
    told = config.get("about", {}).get("tasks", {})
    above = {path: parent for path in known if (parent := path.rpartition("/")[0]) in known}
    for parent in known:
        for path in told.get(parent, {}).get("assistants", ()):
            if path in known and path != parent and path in config.get("finished", {}):
                above.setdefault(path, parent)
    return above


def _is_tool(path: str, entry: Mapping[str, Any], version: str | None) -> bool:
    """Whether a finished assistant is a tool: its version is then that of the tool and nothing else
    (`rrm.core.task.Assistant.version`, `rrm.core.tool_agent.ToolAgent.version`)."""
    settings = entry.get("settings", {})
    rest = [settings["abstain"]] if settings.get("abstain") else []
    return version is not None and any(
        version == digest(path, f"{name} {code}", None, [], settings.get("drafts", 1), *rest)
        for name, code in entry.get("tools", {}).items()
    )
