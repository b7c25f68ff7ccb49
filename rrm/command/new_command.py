"""`rrm new`: a tree to begin with, as a file of one's own."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Annotated

import typer

from rrm.command.common import DEBUG, app, clean_errors, say
from rrm.command.helping import Step, command, examples, say_next
from rrm.command.naming import RUNS
from rrm.command.trees import NamedTree, named_trees
from rrm.core.errors import ConfigError, TaskError
from rrm.core.interrupts import interrupts_held
from rrm.core.spelling import nearest

ROOT = re.compile(r"^task\b.*=.*$", re.M)
"""The line that says what a file's tree is."""


@app.command(epilog=examples("rrm new mytree.py", "rrm new mine.py --from word_problems"))
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="The file to write.")],
    tree: Annotated[
        str,
        typer.Option("--from", metavar="TREE", help="A tree with a name (see `rrm trees`), whose file is copied."),
    ] = "starter",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Write a tree to begin with: short, commented, and trained in a minute; or a copy of one that has a name."""
    with clean_errors(debug):
        if file.suffix != ".py":
            raise ConfigError(f"{file}: a tree is a Python file; give a name such as {file.stem or 'mytree'}.py")
        known = named_trees()
        if tree not in known:
            raise ConfigError(f"--from {tree}: no tree has this name{nearest(tree, known)}; `rrm trees` lists them")
        text, root = copied(known[tree]), known[tree].load().name
        if not file.parent.is_dir():
            raise ConfigError(f"{file}: there is no folder {file.parent}; make it first")
        try:
            with interrupts_held(), file.open("w" if force else "x", encoding="utf-8") as out:
                out.write(text)
        except FileExistsError as error:
            raise ConfigError(f"{file} is there already; give another name, or --force to write over it") from error
        except OSError as error:
            raise ConfigError(f"{file} cannot be written ({error.strerror or error}); give another name") from error
        say(f"{file}: {len(text.splitlines())} lines; its root is {root!r}")
        say_next(_steps(file, root))


def _steps(file: Path, root: str) -> list[Step]:
    where = str(file)
    return [
        (command("check", where), "the tree, what is wrong with it, and how long training takes"),
        (command("train", where, "--size", "smoke"), f"does everything run? Into {RUNS / f'{root}-smoke'}"),
        (command("train", where), f"in earnest, into {RUNS / root}"),
        (command("inspect", RUNS / root, root), "what was judged, and what the assistants said of it"),
    ]


def copied(tree: NamedTree) -> str:
    """A tree's file, with where it is from above it; its `task` is what the tree's entry point names. Raises
    `TaskError` if there is no such file, or if it needs those beside it."""
    module, _, name = tree.entry.value.partition(":")
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise TaskError(f"the tree {tree.name!r} of {tree.distribution} ({module}) is no Python file to copy")
    text = Path(found.origin).read_text(encoding="utf-8")
    parsed = ast.parse(text)
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(parsed)):
        raise TaskError(f"{found.origin} imports what lies beside it (from . import ...): copy its whole folder")
    makes = {node.name for node in parsed.body if isinstance(node, ast.FunctionDef)}
    if name != "task":  # one of several in a file
        made = f"task = {name}()" if name in makes else f"task = {name}"
        text = ROOT.sub(lambda _: made, text) if ROOT.search(text) else f"{text.rstrip()}\n\n\n{made}\n"
    return f"# A copy of {module} of {tree.distribution} (rrm new --from {tree.name}): change it.\n{text}"
