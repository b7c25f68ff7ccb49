"""The command that measures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from rrm.command.common import DEBUG, MODEL, SIZE, USUAL, app, clean_errors, quiet_loading, say, user_of, usual
from rrm.command.configuration import configure, split
from rrm.command.helping import command, examples, say_next
from rrm.command.naming import found_run, node_of
from rrm.command.trees import load_task, named_trees
from rrm.command.typed import tree_typed
from rrm.core.errors import ConfigError, RRMError
from rrm.core.parallel import started
from rrm.core.sizes import sized
from rrm.core.validation import plant
from rrm.view.clean_console import CleanConsole
from rrm.view.reading import Reader
from rrm.view.truth import rightness
from rrm.view.truth_tables import meanings, table_of


@app.command(
    epilog=examples(
        "rrm measure",
        "rrm measure sandwich --size smoke",
        "rrm measure all --tree moves --seeds 3 --doc docs/results",
        "rrm measure truth runs/moves",
        "rrm measure human-labels runs/acl paper",
        "rrm measure uplift runs/acl --tree paper",
    )
)
def measure(
    name: Annotated[str | None, typer.Argument(help="An experiment, or all; without it, they are listed.")] = None,
    labels: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|FILE]", help="With truth, human-labels and uplift: a run; with human-labels, also "
                       "what `rrm import` takes."),
    ] = None,
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE", help="With human-labels: the parent. With uplift: judgements at this node only.",
            show_default="the root; with uplift, all",
        ),
    ] = None,
    tree: Annotated[
        str | None, typer.Option(help="A tree: a name (see `rrm trees`), a Python file, or a module.",
                                 show_default="paper")
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many (5: 100 to 104), or which: 0-4 or 100,103.")] = "5",
    size: SIZE = "full",
    quick: Annotated[
        bool, typer.Option("--quick", help="The same as --size smoke: tiny, of one seed unless --seeds.")
    ] = False,
    out: Annotated[Path | None, typer.Option(show_default="runs/measure, or runs/measure-quick")] = None,
    model: Annotated[str | None, MODEL] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", metavar="NODE.KEY=VALUE", help="As rrm train's.")] = None,
    user: Annotated[
        str | None, typer.Option(help="Who judges: a simulated user, as rrm train's.", show_default=USUAL)
    ] = None,
    pairs: Annotated[int, typer.Option(help="Held-out cases to judge pairs of.", min=2)] = 100,
    given: Annotated[
        Literal["alone", "assisted", "oracle"],
        typer.Option("--labels", help="Who labels for a root that is trained: the user without or with assistance, "
                     "the truth. What its reward model reads: --set ROOT.reward_sees=outcome."),
    ] = "assisted",
    doc: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write DIR/NAME.md and its figure.")] = None,
    said: Annotated[str | None, typer.Option("--node", hidden=True, help="As NODE, which it was before.")] = None,
    no_run: Annotated[
        bool,
        typer.Option("--no-run", help="Only print what there is of these seeds; nothing is loaded, run or written, and "
                     "of the options only --seeds, --quick and --out count."),
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Measure what assistance does, where the truth is known. The same command again goes on where it stopped."""
    with clean_errors(debug):
        from rrm.measure import run_truth

        if started()[1] > 1:
            raise RRMError("rrm measure runs in one process; start it without torchrun")
        if name == run_truth.NAME:
            _measure_truth(labels, tree)
            return
        from rrm.measure import catalog as command  # late: it takes seconds

        if name is None:
            table = Table(box=None, pad_edge=False, header_style="bold")
            table.add_column("rrm measure ...", no_wrap=True)
            table.add_column("its question", overflow="fold")
            for each, experiment in command.EXPERIMENTS.items():
                table.add_row(Text(each), Text(experiment.QUESTION))
            table.add_row(Text(f"{command.LABELS} RUN|FILE"), Text(command.LABELS_QUESTION))
            table.add_row(Text(f"{command.UPLIFT} RUN --tree TREE"), Text(command.UPLIFT_QUESTION))
            table.add_row(Text(f"{run_truth.NAME} RUN"), Text(run_truth.QUESTION))
            CleanConsole().print(table)
            return
        if name in (command.LABELS, command.UPLIFT) or labels is not None:
            again, where = shlex.join(["rrm", *sys.argv[1:]]), out or Path("runs/measure")
            judged = None if tree is None else load_task(tree)
            labels = None if labels is None else str(found_run(labels) or labels)
            node = node_of(Path(labels or ""), node or said)
            say(command.of_labels(name, labels, node, where, again, judged))
            return
        quiet_loading()
        quick = quick or size == "smoke"
        folder = out or Path(f"runs/measure{'-quick' if quick else '-small' if size == 'small' else ''}")
        wanted = [command.REPORTED] if quick and seeds == "5" else command.seeds_of(seeds)
        if no_run:
            say(command.there_is(name, folder, wanted))
            return
        for_nodes, for_user = split(list(assign or ()))
        whole = plant(load_task(tree or "paper"))
        task = configure(sized(whole, "small") if size == "small" else whole, for_nodes)
        names = command.chosen(name, task)
        amount = command.Size(pairs=pairs, quick=quick, labels=given)
        who, model = user or usual(task, "user"), model or usual(task, "model")
        stage = command.stages(task, lambda seed: user_of(who, seed, for_user), model, folder, amount)
        try:
            command.run(names, stage, wanted, folder, shlex.join(["rrm", *sys.argv[1:]]), say)
        except KeyboardInterrupt:
            say("Stopped. What is finished is kept; the same command goes on.", err=True)
            raise typer.Exit(130) from None
        for page in command.publish(names, folder, doc) if doc is not None else ():
            say(f"{page}")


def _measure_truth(run: str | None, tree: str | None) -> None:
    """Write truth.db beside a run, and say what it says."""
    from rrm.measure.run_truth import NAME, tree_named, write_truths

    if run is None:
        raise ConfigError("truth: of which run? Give its folder: rrm measure truth RUN")
    folder = found_run(run) or Path(run)
    if tree is None:  # a run is no code that anybody trusts: only what is installed counts, by name
        typed = command("measure", NAME, run, "--tree", tree_typed(folder) or "TREE")
        try:
            known = named_trees().get(name := tree_named(folder))
        except RRMError as error:
            raise ConfigError(f"{error}\nnext: {typed}") from error
        if known is None:
            raise ConfigError(f"{run}: its tree {name!r} has no name here; give --tree\nnext: {typed}")
        task = known.load()
    else:
        task = load_task(tree)
    written = write_truths(folder, task, say)
    say(f"{written}")
    console = CleanConsole()
    with Reader(folder) as reader:
        found = {path: rightness(reader, path, seconds=60.0) or () for path in reader.nodes}
        for path, some in found.items():
            if some:
                console.print(table_of(some, path))
                console.print()
        for words in meanings([one for some in found.values() for one in some]):
            console.print(Text(words, style="dim"))
    shown = command("inspect", folder, reader.root, "--show", "user_wrong")
    say_next([(shown, "where the user was wrong"), (command("view", folder), "the same as pages")])
