"""`rrm`: train a tree, check one, list the settings."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from rrm.check import faults, plant
from rrm.configure import ConfigError, configure, configure_user, load_task, split
from rrm.model_user import ModelUser
from rrm.models.backbone import Backbone
from rrm.settings import Settings
from rrm.task import RRMError, Task, TaskError
from rrm.train import train as run
from rrm.user import BoundedUser, User
from rrm.view.live import Live

app = typer.Typer(
    help="Recursive reward modeling: train agents on tasks a person cannot judge alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TREE = typer.Argument(help="A Python file (tasks/paper.py) or module that defines `task`.")
DEBUG = typer.Option("--debug", help="Show the traceback of an error.")


@app.callback(invoke_without_command=True)
def main(show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if show:
        try:
            typer.echo(f"rrm {version('recursive-reward-modeling')}")
        except PackageNotFoundError:
            typer.echo("rrm (not installed: running from a checkout)")
        raise typer.Exit()


@app.command()
def train(
    tree: Annotated[str, TREE],
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/<task>")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NODE.KEY=VALUE",
            help="A setting, e.g. paper/proofs.lr=1e-3, '*.steps=4', user.attention=8. Repeatable; "
            "`rrm settings` lists them.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="embedded, a folder, or the name of a model.")] = "embedded",
    user: Annotated[str, typer.Option(help="Who judges: bounded (simulated) or model:PATH.")] = "bounded",
    attention: Annotated[
        int | None, typer.Option(help="The user's attention per comparison: --set user.attention=N.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random, the user's too.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; torch's choice by default.", min=1)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Train a tree from the leaves up. The same command again resumes a run that was interrupted."""
    with _clean_errors(debug):
        assignments = list(assign or ())
        if attention is not None:
            assignments.append(f"user.attention={attention}")
        for_nodes, for_user = split(assignments)
        task = configure(load_task(tree), for_nodes)
        if quiet or model == "embedded" or Path(model).exists():
            from transformers.utils import logging  # late: it takes a second, and no other command needs it

            # loading is quick; a download deserves its bar
            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        judge = _user(user, seed, for_user)
        folder = out or Path("runs") / task.name

        if threads is not None:
            torch.set_num_threads(threads)
        live = None if quiet else Live(task)
        try:
            with live or nullcontext():
                run(task, judge, model, folder, seed, watch=[live] if live is not None else [])
        except KeyboardInterrupt:
            again = shlex.join(["rrm", *sys.argv[1:]])
            Console(stderr=True, soft_wrap=True).print(
                Text(f"Stopped. Nothing judged is lost; to go on: {again}", style="yellow")
            )
            raise typer.Exit(130) from None
        if live is not None:
            live.console.print(Text(f"Finished: {folder}"))


@app.command()
def check(
    tree: Annotated[str, TREE],
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Show a tree and everything that is wrong with it. Exit code 1 if there is an error."""
    console = Console(soft_wrap=True)
    with _clean_errors(debug):
        task = load_task(tree)
        try:
            task = plant(task)
        except TaskError as error:  # a cycle: it cannot even be shown
            if debug:
                raise
            console.print(Text(f"error: {error}", style="red"))
            raise typer.Exit(1) from error
        found = faults(task)
        Console().print(_tree(task))
        for fault in found:
            console.print(Text(str(fault), style="red" if fault.level == "error" else "yellow"))
        errors = sum(fault.level == "error" for fault in found)
        nodes = sum(1 for _ in task.walk())
        console.print(Text(f"{nodes} nodes, {errors} errors, {len(found) - errors} warnings"))
        if errors:
            raise typer.Exit(1)


@app.command()
def settings() -> None:
    """List every setting with its default: of a node, and of the simulated user."""
    console = Console()
    for title, kind in (("NODE", Settings), ("user", BoundedUser)):
        console.print(_table(title, kind))


def _table(title: str, kind: type[BaseModel]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"--set {title}.", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=20)
    table.add_column("what it does", overflow="fold")
    for key, field in kind.model_fields.items():
        default = str(field.get_default(call_default_factory=True))
        table.add_row(Text(key), Text(default), Text(" ".join((field.description or "").split())))
    return table


def _tree(task: Task, branch: Tree | None = None) -> Tree:
    """A node and what is below it, for the terminal; names and texts are shown as they are."""
    label = Text(task.name, style="bold")
    notes = [task.instruction]
    if task.covers:
        notes.append(f"covers {', '.join(task.covers)}")
    if task.difficulty is not None:
        notes.append(f"difficulty {task.difficulty:g}")
    changed = task.settings.model_dump(exclude_defaults=True)
    if changed:
        notes.append(" ".join(f"{key}={value}" for key, value in changed.items()))
    for note in notes:
        label.append(f"\n{note}", style="not bold dim")
    node = Tree(label) if branch is None else branch.add(label)
    for sub in task.assistants:
        if isinstance(sub, Task):
            _tree(sub, node)
        else:
            _tree(sub.task, node.add(Text("finished:", style="green")))
    return node


def _user(name: str, seed: int, assignments: Sequence[str]) -> User:
    """Who judges, with their settings. Raises `ConfigError`, or `ModelError` if a model cannot be loaded."""
    if name == "bounded":
        return configure_user(BoundedUser(seed=seed), assignments)
    kind, _, where = name.partition(":")
    if kind != "model" or not where:
        raise ConfigError(f"--user {name}: no such user; give bounded, or model:PATH (model:embedded)")
    if assignments:
        raise ConfigError(f"{assignments[0]}: only the bounded user has settings, and --user is {name}")
    return ModelUser(Backbone.load(where))


@contextmanager
def _clean_errors(debug: bool) -> Iterator[None]:
    """An error of the user's making is one message on stderr and exit code 2; with --debug, a traceback."""
    try:
        yield
    except RRMError as error:
        if debug:
            raise
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {error}", style="red"))
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
