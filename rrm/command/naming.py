"""How a run and a node of it are named, the same in every command.

A run is its folder, or that folder's name under runs/: `rrm inspect runs/demo`, `rrm inspect demo`. A node is its path
or an end of it: "paper/proofs/steps", "proofs/steps", "proofs". What there is not is an error that names the nearest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrm.core.spelling import named_node, nearest
from rrm.store.config import read_config

MARKS = ("run.db", "config.json")
RUNS = Path("runs")
"""Where `rrm train` puts runs unless it is told."""


def found_run(text: str) -> Path | None:
    """The folder that is meant; None if there is nothing of that name."""
    path = Path(text)
    there = [one for one in (path, RUNS / path) if one.exists()]
    return next((one for one in there if _is_run(one)), there[0] if there else None)


def _is_run(path: Path) -> bool:
    """Whether it is a run, a file, or a folder of runs: another folder of a run's name does not hide it."""
    return path.is_file() or any((path / name).exists() for name in MARKS) or any(path.glob("*/run.db"))


def run_folder(text: str) -> Path:
    """The same. Raises `typer.BadParameter` if there is nothing of that name."""
    path = Path(text)
    if (found := found_run(text)) is not None:
        return found
    folders = (*RUNS.glob("*/run.db"), *RUNS.glob("*/*/run.db"), *path.parent.glob("*/run.db"))
    there = {database.parent for database in folders}
    near = nearest(path.name, sorted(map(str, there)))
    raise typer.BadParameter(f"no run there: {text}{near or '; `rrm train` makes one, in runs/ or where --out says'}")


HELP = "A run: its folder, or that folder's name under runs/."
Run = Annotated[Path, typer.Argument(metavar="RUN", parser=run_folder, help=HELP)]
MaybeRun = Annotated[Path | None, typer.Argument(metavar="RUN", parser=run_folder, help=HELP)]
Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", parser=run_folder, help="Runs, named as elsewhere, or their folders.")
]
Node = Annotated[
    str | None,
    typer.Argument(metavar="NODE", help="A node: its path, or an end of it that no other has; by default the root."),
]
AnyNode = Annotated[
    str | None,
    typer.Argument(metavar="NODE", help="A node: its path, or an end of it that no other has; by default all."),
]


def node_of(run: Path, node: str | None) -> str | None:
    """A node's path; as it was given where a run is not begun, so that nobody knows its nodes. Raises `NodeError`."""
    nodes = list(read_config(run).get("tree", ())) if node is not None else []
    return named_node(node, nodes, str(run)) if node is not None and nodes else node
