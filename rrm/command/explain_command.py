"""`rrm explain`: what moved a reward model's judgements, and whether it reads a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from rrm.command.common import DEBUG, app, clean_errors, quiet_loading, say
from rrm.command.helping import examples
from rrm.command.naming import Node, Run, node_of
from rrm.command.trees import load_task
from rrm.core.clean import visible
from rrm.core.errors import ConfigError
from rrm.view.attributions import attributed
from rrm.view.clean_console import CleanConsole
from rrm.view.inspect import show_moved
from rrm.view.reading import Reader, ReadError

if TYPE_CHECKING:
    from rrm.trust.explaining import Done, Moved, NodeExplained

PIECES = 30
"""Most pieces of one comparison that are listed."""


@app.command(
    epilog=examples(
        "rrm explain runs/demo",
        "rrm explain runs/demo proofs --comparison 412",
        "rrm explain runs/demo --word clearly --word surely --tree paper",
    )
)
def explain(
    run: Run,
    node: Node = None,
    comparison: Annotated[
        int | None, typer.Option(metavar="N", help="Show this comparison piece by piece (its number in rrm inspect).")
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD", help="Also: does the reward model read this word, or these? Several times for several."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Comparisons to take apart and to list, the newest; all have their parts.", min=0)
    ] = 20,
    tree: Annotated[
        str | None,
        typer.Option(
            metavar="TREE", help="With --word, and where agents act: the run's tree (a name, file or module), as code "
            "that you trust.",
        ),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Say what moved a node's reward model: what it reads, surprise, and what each assistant found.

    Parts of a difference of scores, exact as its heads are linear; piece by piece, where two outcomes differ; and over
    all judged comparisons. It is kept in the run: rrm view and rrm inspect show it beside each comparison, and rrm
    certify puts the whole into the chapter interpretability.
    """
    with clean_errors(debug):
        if word and tree is None:
            raise ConfigError("--word needs the form of outcomes, which the run's tree knows: give --tree")
        if any(not one.split() for one in word or ()):
            raise ConfigError("--word is empty")
        path = _path(run, node, comparison)
        from rrm.trust.explaining import explain as explained  # late: it takes seconds
        from rrm.trust.explaining import probe_words

        quiet_loading()
        task = None if tree is None else load_task(tree)
        with _progress() as done:
            found = explained(run, path, limit, comparison, task, done)
        if comparison is None:
            _table(found, limit)
        else:
            _one(run, found, comparison)
        _whole(found, comparison is None)
        if word and task is not None:
            with _progress() as done:
                probed = probe_words(run, path, word, task, done)
            for one in probed:
                say(str(one))
                moved = ", ".join(f"{name} {value:+.2g}" for name, value in one.surface.items())
                say(f"  written, it changes the task's surface: {moved}" if moved else "")
        say(f"kept in {run}/trust; rrm view {run} shows it beside each comparison")


def _path(run: Path, node: str | None, comparison: int | None) -> str:
    """The node that is meant. Raises `ReadError` for a comparison of another, or none."""
    with Reader(run) as reader:
        path = node_of(run, node)
        if comparison is None:
            return path or reader.root
        row = reader.row("SELECT task FROM comparisons WHERE seq = ?", (comparison,))
        if row is None or path not in (None, row[0]):
            raise ReadError(f"{run} has no comparison {comparison}" + (f" of {path}" if row else ""))
        return str(row[0])


@contextmanager
def _progress() -> Iterator[Done]:
    """A line on a terminal that says how far it is."""
    with CleanConsole(stderr=True).status("loading the reward model") as shown:
        yield lambda what, n, of: shown.update(f"{what}: {n} of {of}")


def _table(found: NodeExplained, limit: int) -> None:
    """The newest comparisons, their parts in columns."""
    rows = found.moved[-limit:] if limit else ()
    if not rows:
        return
    names = list(dict.fromkeys(name for one in found.moved for name in one.parts))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("no.", "user", "A less B", *(name.rpartition("/")[2] for name in names)):
        table.add_column(Text(visible(name)), justify="right", overflow="fold")
    for one in rows:
        parts = (f"{one.parts.get(name, 0.0):+z.2f}" for name in names)
        table.add_row(str(one.seq), _verdict(one), f"{one.difference:+z.2f}", *parts)
    CleanConsole().print(table)


def _verdict(one: Moved) -> str:
    if one.preference is None:
        return "-"
    return "tie" if one.preference == 0.5 else "A" if one.preference > 0.5 else "B"


def _one(run: Path, found: NodeExplained, number: int) -> None:
    """One comparison, with its pieces."""
    one = next((one for one in found.moved if one.seq == number), None)
    if one is None:
        raise ReadError(f"{run}: a later judgement of this pair supersedes comparison {number}")
    with Reader(run) as reader:
        shown = attributed(reader, found.node, one.pair)
    assert shown is not None  # it was kept a moment ago
    say(f"comparison {number} of {found.node}: the user says {_verdict(one)}", "bold")
    show_moved(shown, CleanConsole(), PIECES)


def _whole(found: NodeExplained, sampled: bool) -> None:
    """Of all pairs in a sentence; `sampled`: and of those that were taken apart, unless somebody picked one."""
    from rrm.trust.moving import sentence

    pairs, cases = len(found.moved), len({one.case for one in found.moved})
    if not found.shares:
        say(f"{found.node}: this reward model scores all {pairs} judged pairs alike; nothing moves it", "bold")
        return
    say(f"{found.node}: this reward model is {sentence(found.shares)} (n {pairs} pairs of {cases} cases)", "bold")
    say(f"half of the pairs differ by less than {found.typical:.2f} standard deviations of score")
    if found.reading and sampled:
        n = next(iter(found.reading.values())).n
        say(f"what it reads is {sentence(found.reading)} (n {n} pairs that were taken apart)")
    if found.missed is not None and sampled:
        say(f"gradient times input of the words would miss {found.missed:.0%} of what it reads", "dim")
