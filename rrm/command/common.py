"""What the commands share: the application, options that several have, and errors in one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Annotated, Literal, cast

import typer
from rich.console import Console
from rich.text import Text

from rrm.command.configuration import configure_user
from rrm.core.errors import ConfigError, RRMError
from rrm.core.parallel import ProcessError, started
from rrm.core.parties import User
from rrm.core.settings import Explained
from rrm.core.task import Task
from rrm.core.version import VERSION
from rrm.users.bounded import BoundedUser
from rrm.users.endpoint import EndpointUser
from rrm.users.human import HumanUser

app = typer.Typer(
    help="Recursive reward modeling: train agents on tasks a person cannot judge alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TREE = typer.Argument(help="A tree: a name (see `rrm trees`), a Python file (./mine.py), or a module with a `task`.")
MODEL = typer.Option(
    show_default="the tree's, else embedded",
    help="embedded, embedded-chip, embedded-games, smollm2 (see `rrm model`), a folder, or a name on the Hub.",
)
USUAL = "the tree's, else bounded"
DEBUG = typer.Option("--debug", help="Show the traceback of an error.")


@app.callback(invoke_without_command=True)
def main(show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """Show the version; every command is a function of its own."""
    if show:
        typer.echo(f"rrm {VERSION}")
        raise typer.Exit()


def user_of(name: str, seed: int, assignments: Sequence[str]) -> User:
    """Who judges, with their settings. Raises `ConfigError`, or `ModelError` if a model cannot be loaded."""
    if (named := named_users().get(name)) is not None:
        return cast(User, configure_user(named(seed=seed), assignments))  # which training looks at again
    if name == "bounded":
        return configure_user(BoundedUser(seed=seed), assignments)
    if name == "human":
        return configure_user(HumanUser(), assignments)
    kind, _, where = name.partition(":")
    if kind == "openai":
        return configure_user(EndpointUser.at(where), assignments)
    if kind != "model" or not where:
        raise ConfigError(
            f"--user {name}: no such user; give {', '.join(['bounded', *named_users(), 'human'])}, model:PATH "
            "(model:embedded), or openai:MODEL@URL"
        )
    if assignments:
        raise ConfigError(f"{assignments[0]}: --user {name} has no settings")
    from rrm.models.backbone import Backbone
    from rrm.users.model import ModelUser

    return ModelUser(Backbone.load(where))


def usual(task: Task, what: Literal["model", "user"]) -> str:
    """The model or the user that is taken for a tree unless the command line says."""
    return task.usual.get(what, {"model": "embedded", "user": "bounded"}[what])


def named_users() -> dict[str, type[Explained]]:
    """The simulated users that distributions name in the group `rrm.users`: settings with a seed among them. Raises
    `ConfigError` for one that cannot be imported."""
    found: dict[str, type[Explained]] = {}
    for entry in entry_points(group="rrm.users"):
        try:
            found.setdefault(entry.name, entry.load())
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the user {entry.name!r} ({entry.value}) cannot be imported: {error}") from error
    return dict(sorted(found.items()))


@contextmanager
def clean_errors(debug: bool) -> Iterator[None]:
    """An error of the user's making is one message on stderr and exit code 2; with --debug, a traceback."""
    number, _ = started()
    try:
        yield
    except RRMError as error:
        if debug:
            raise
        if number == 0 or not isinstance(error, ProcessError):  # that one the main process shows
            who = f"process {number}: " if number else ""
            Console(stderr=True, soft_wrap=True).print(Text(f"{who}error: {error}", style="red"))
        raise typer.Exit(2) from error
