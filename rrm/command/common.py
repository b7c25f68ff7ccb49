"""What the commands share: the application, options that several have, and errors in one message."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from logging import ERROR, getLogger
from typing import Annotated, Any, Literal, cast

import typer
from rich.text import Text
from typer.core import TyperGroup

from rrm.command.configuration import configure_user
from rrm.command.own_users import is_file, user_of_file
from rrm.command.terminating import ended_by_sigterm
from rrm.core.blame import own_place
from rrm.core.clean import visible
from rrm.core.errors import ConfigError, RRMError
from rrm.core.parallel import ProcessError, started
from rrm.core.parties import User
from rrm.core.settings import Explained
from rrm.core.sizes import Size
from rrm.core.task import Task
from rrm.core.version import VERSION
from rrm.users.bounded import BoundedUser
from rrm.users.endpoint import EndpointUser
from rrm.users.human import HumanUser
from rrm.view.clean_console import CleanConsole, clean_tracebacks

USAGE: type[BaseException] = typer.BadParameter.__mro__[1]
"""Any error of usage; its module is another in other versions of typer."""


class CleanGroup(TyperGroup):
    """Commands whose usage errors, which repeat what was typed, show control characters instead of sending them; and
    which SIGTERM ends as Ctrl-C does, also where another program calls them."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See click."""
        with ended_by_sigterm():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """See click."""
        with _shown():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """See click; options of a command are read here. Who stops a command that has no words of its own for it, is
        told how to go on."""
        try:
            with _shown():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            if started()[0] == 0:
                say("Stopped. To go on, give the same command again.", "yellow", err=True)
            raise typer.Exit(130) from None


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except USAGE as error:
        error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=CleanGroup,
    help="Recursive reward modeling: train agents on tasks a person cannot judge alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TREE = typer.Argument(help="A tree: a name (see `rrm trees`), a Python file (./mine.py), or a module with a `task`.")
MODEL = typer.Option(
    show_default="the tree's, else embedded",
    help="embedded, smollm2, qwen-0.5b, qwen-1.5b, ... (see `rrm model list`), a folder, or a name on the Hub.",
)
SIZE = Annotated[
    Size,
    typer.Option(
        help="smoke: everything runs, nothing is learned; small: one round, and something is; full: the tree's own "
        "settings. What --set says comes on top; `rrm check` says how long each takes."
    ),
]
USUAL = "the tree's, else bounded"
DEBUG = typer.Option("--debug", help="Show the traceback of an error.")


@app.callback(invoke_without_command=True)
def main(show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """Show the version; every command is a function of its own."""
    clean_tracebacks()
    getLogger("bitsandbytes").setLevel(ERROR)  # it speaks of kernels and GPUs as soon as anything imports it
    if show:
        typer.echo(f"rrm {VERSION}")
        raise typer.Exit()


def say(text: str, style: str = "", err: bool = False) -> None:
    """A line, or several, on the terminal; what is in it cannot act there."""
    CleanConsole(stderr=err, soft_wrap=True).print(Text(text, style=style))


def user_of(name: str, seed: int, assignments: Sequence[str]) -> User:
    """Who judges, with their settings. Raises `ConfigError`, or `ModelError` if a model cannot be loaded."""
    if is_file(name):
        return user_of_file(name, seed, assignments)
    if name in user_names():
        return cast(User, configure_user(named_user(name)(seed=seed), assignments))  # training looks at it again
    if name == "bounded":
        return configure_user(BoundedUser(seed=seed), assignments)
    if name == "human":
        return configure_user(HumanUser(), assignments)
    kind, _, where = name.partition(":")
    if kind == "openai":
        return configure_user(EndpointUser.at(where), assignments)
    if kind != "model" or not where:
        raise ConfigError(
            f"--user {name}: no such user; give {', '.join(['bounded', *user_names(), 'human'])}, model:PATH "
            "(model:embedded), openai:MODEL@URL, or a class of yours, ./mine.py:Class"
        )
    if assignments:
        raise ConfigError(f"{assignments[0]}: --user {name} has no settings")
    from rrm.models.backbone import Backbone
    from rrm.users.model import ModelUser

    return ModelUser(Backbone.load(where))


def usual(task: Task, what: Literal["model", "user"]) -> str:
    """The model or the user that is taken for a tree unless the command line says."""
    return task.usual.get(what, {"model": "embedded", "user": "bounded"}[what])


BUILT_IN = ("bounded", "human", "model", "openai")


def user_names() -> list[str]:
    """Of the simulated users that distributions name in the group `rrm.users`; our own names are not theirs to take."""
    return sorted({entry.name for entry in entry_points(group="rrm.users")} - {*BUILT_IN})


def named_user(name: str) -> type[Explained]:
    """One of them: settings, with a seed among them. Raises `ConfigError` if it cannot be imported, or is none."""
    entry = next(entry for entry in entry_points(group="rrm.users") if entry.name == name)
    try:
        kind = entry.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"the user {name!r} ({entry.value}) cannot be imported: {error}") from error
    if not isinstance(kind, type) or not issubclass(kind, Explained) or "seed" not in kind.model_fields:
        raise ConfigError(f"the user {name!r} ({entry.value}) is no class of settings (Explained) with a seed")
    return kind


def quiet_loading(downloads: bool = False) -> None:
    """No bars of transformers' from now on, which say nothing and write over the table. `downloads`: but bars of what
    comes from the Hub stay, which can take long."""
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")  # PEFT asks for it
    from transformers.utils import logging  # late: it takes a second, and most commands do without

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if downloads:
        from huggingface_hub.utils.tqdm import enable_progress_bars

        enable_progress_bars()


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
            theirs = error.__cause__ is not None and own_place(error.__cause__)
            say(f"{who}error: {error}{'; --debug shows the traceback' if theirs else ''}", "red", err=True)
        raise typer.Exit(2) from error
