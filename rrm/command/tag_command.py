"""`rrm tag`: words by which runs are found again."""

from __future__ import annotations

from typing import Annotated

import typer

from rrm.command.common import DEBUG, app, clean_errors, say
from rrm.command.helping import examples
from rrm.command.naming import Runs
from rrm.store.tags import retag
from rrm.view.reading import find_runs


@app.command(
    epilog=examples(
        "rrm tag runs/seed0 runs/seed1 --add baseline",
        "rrm tag mine --add 'for the paper' --remove baseline",
        "rrm tag runs",
    )
)
def tag(
    runs: Runs,
    add: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to give them; repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to take away; repeatable.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Give runs tags, whether they train or ended long ago, or take some away; without options, list them.

    `rrm view` shows tags and filters by them. They are lines of RUN/tags.txt, which may be edited; what was trained
    does not depend on them, nor do certificates.
    """
    with clean_errors(debug):
        for name, folder in find_runs(runs).items():
            say(f"{name.replace('~', '/')}: {', '.join(retag(folder, add or (), remove or ())) or 'no tags'}")
