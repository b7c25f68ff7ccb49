"""`rrm report`: a page on runs, to be read and to be cited."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rrm.command.common import DEBUG, app, clean_errors, say
from rrm.command.helping import examples
from rrm.command.naming import Runs


@app.command(
    epilog=examples("rrm report runs/paper", "rrm report runs/seed0 runs/seed1 runs/seed2 --out paper/report")
)
def report(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="The folder to write.", show_default="report-RUN; of several runs report"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which comparisons are shown as examples.")] = 0,
    shown: Annotated[int, typer.Option("--examples", min=0, help="Comparisons of each node that are shown.")] = 3,
    title: Annotated[str, typer.Option(help="Its title.", show_default="by the runs' names")] = "",
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Write a report: DIR/report.html, which needs nothing beside it, DIR/report.md, and figures as SVG and PDF.

    The tree, what was trained, by whom it was judged (simulated or not), figures with intervals and n, curves, examples
    drawn at random, commands, versions, hashes and what to cite. Several runs get one table; those that differ in
    nothing but their seeds a mean with its interval. From the runs' records alone: nothing is loaded or measured.
    """
    with clean_errors(debug):
        from rrm.trust.reporting import report as write  # late: matplotlib takes a second

        out = out or Path(f"report-{runs[0].resolve().name}" if len(runs) == 1 else "report")
        done = write(runs, out, shlex.join(["rrm", *sys.argv[1:]]), seed, shown, title)
        say(f"{done.html}\n{done.markdown}\n{len(done.figures)} figures in {out / 'figures'}; examples drawn with "
            f"seed {seed}")  # fmt: skip
