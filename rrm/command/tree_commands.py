"""Commands about trees: list them, check them, look at what a model makes of them, train them; and their settings."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from rrm.command.common import (
    DEBUG,
    MODEL,
    SIZE,
    TREE,
    USUAL,
    app,
    clean_errors,
    named_user,
    quiet_loading,
    say,
    user_names,
    user_of,
    usual,
)
from rrm.command.configuration import configure, split, variables
from rrm.command.estimating import SIZES, timed
from rrm.command.helping import after_stopping, after_training, command, examples, say_next
from rrm.command.naming import RUNS
from rrm.command.trees import load_task, tried
from rrm.command.typed import in_earnest
from rrm.core.errors import ConfigError, Notice, TaskError
from rrm.core.parallel import started
from rrm.core.parties import User
from rrm.core.settings import Settings
from rrm.core.sizes import Size, sized
from rrm.core.spelling import nearest
from rrm.core.task import Task
from rrm.core.validation import faults, plant
from rrm.loop.training import acts, maker_of
from rrm.loop.training import train as run
from rrm.users.bounded import BoundedUser
from rrm.users.endpoint import EndpointUser
from rrm.users.human import HumanUser
from rrm.view.clean_console import CleanConsole
from rrm.view.live import Live

LOOKED: Mapping[Size, int] = {"smoke": 1, "small": 2, "full": sys.maxsize}
"""Most cases, and outcomes of each, that `rrm look` asks for in this size."""
Precisions = Literal["auto", "float32", "bfloat16", "int8", "nf4"]

if TYPE_CHECKING:
    from rrm.measure.rehearsal import Rehearsal
    from rrm.models.backbone import Backbone
    from rrm.view.trackers import Reporting


@app.command(epilog=examples("rrm trees"))
def trees() -> None:
    """List the trees that have a name, and where they are from: this package, and others that bring some."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tree", no_wrap=True)
    table.add_column("what its root asks", overflow="fold")
    table.add_column("from", overflow="fold")
    for one, found in tried():
        if isinstance(found, Task):
            what = Text(f"{_line(found.instruction)} ({sum(1 for _ in found.walk())} nodes)")
        else:
            what = Text(f"error: {_line(str(found))}", style="red")
        table.add_row(Text(one.name), what, Text(one.distribution, style="dim"))
    CleanConsole().print(table)
    say("A tree of your own is a Python file that defines `task`.", "dim")
    say_next([("rrm new mytree.py", "write one to begin with; --from NAME: a copy of one of these")])


def _line(text: str) -> str:
    return shorten(" ".join(text.split()), 300, placeholder=" ...")


@app.command(
    epilog=examples(
        "rrm check paper", "rrm check ./mine.py --user human", "rrm check novel --model smollm2 --size small"
    )
)
def check(
    tree: Annotated[str, TREE],
    user: Annotated[
        str | None,
        typer.Option(
            help="Who will judge, as rrm train's: what a simulated user cannot see is found.", show_default=USUAL
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Try the tree on outcomes of this model, as rrm train's; else on made-up texts.")
    ] = None,
    size: Annotated[Size | None, typer.Option(help="As rrm train's; by default it says how long each takes.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Show a tree and everything that is wrong with it, after some cases went through all of its functions.

    Exit code 1 if there is an error.
    """
    console = CleanConsole(soft_wrap=True)
    with clean_errors(debug):
        whole = load_task(tree)
        try:
            task = sized(plant(whole), size or "full")
        except TaskError as error:  # a cycle: it cannot even be shown
            if debug:
                raise
            console.print(Text(f"error: {error}", style="red"))
            raise typer.Exit(1) from error
        found = faults(task)
        CleanConsole().print(_tree(task))
        untried: list[str] = []
        if not any(fault.level == "error" for fault in found):
            dry = _rehearsed(task, user or usual(task, "user"), model)
            found, untried = [*found, *dry.faults], dry.untried
        if untried:
            why = f"no made-up outcome led there; give --model {usual(task, 'model')} to try its own"
            why = "no outcome led there" if model is not None else why
            console.print(Text(f"not tried: {', '.join(untried)} ({why})", style="dim"))
        for fault in found:
            console.print(Text(str(fault), style="red" if fault.level == "error" else "yellow"))
        errors = sum(fault.level == "error" for fault in found)
        nodes = sum(1 for _ in task.walk())
        console.print(Text(f"{nodes} nodes, {errors} errors, {len(found) - errors} warnings"))
        if errors:
            raise typer.Exit(1)
        acting = model or usual(task, "model")
        for line in timed(whole, acting, (size,) if size is not None else SIZES):
            say(line, "dim")
        on = [] if model is None else ["--model", model]
        more = [*on, *([] if user is None else ["--user", user])]
        say_next([
            (command("train", tree, *more, "--size", size or "smoke"), "see that everything runs"),
            *([(command("train", tree, *more), "in earnest")] * (size is None)),
            *([(command("look", tree, *on), "what the untrained model makes of each role")] * (not acts(acting))),
        ])  # fmt: skip


def _rehearsed(task: Task, user: str, model: str | None) -> Rehearsal:
    from rrm.measure.rehearsal import rehearse

    if acts(acting := model or usual(task, "model")):  # there are no made-up episodes, and real ones cost nothing
        return rehearse(task, user_of(user, 0, ()), maker_of(acting))
    backbone = None
    if model is not None:
        quiet_loading(downloads=True)
        from rrm.models.backbone import Backbone  # late, like all that takes seconds

        backbone = Backbone.load(model)
    return rehearse(task, user_of(user, 0, ()), backbone)


@app.command(epilog=examples("rrm look paper", "rrm look novel --model smollm2 --cases 2 --free"))
def look(
    tree: Annotated[str, TREE],
    model: Annotated[str | None, MODEL] = None,
    cases: Annotated[int, typer.Option(help="Cases of each role.", min=1)] = 4,
    outcomes: Annotated[int, typer.Option(help="Outcomes of each case.", min=1)] = 4,
    shown: Annotated[int, typer.Option("--examples", help="Outcomes of each role to show.", min=0)] = 2,
    free: Annotated[bool, typer.Option("--free", help="Hold nothing to a form.")] = False,
    size: SIZE = "full",
    seed: int = 0,
    assign: Annotated[list[str] | None, typer.Option("--set", metavar="NODE.KEY=VALUE", help="As rrm train's.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Look at what an untrained model makes of each role of a tree: some of its outcomes, and how many can be read."""
    with clean_errors(debug):
        quiet_loading()
        from rrm.measure.roles import begin  # late: it takes seconds

        task = configure(sized(plant(load_task(tree)), size), split(list(assign or ()))[0])
        if acts(model or usual(task, "model")):
            raise ConfigError(f"{task.name}: its agents act and write nothing; rrm check shows what an episode becomes")
        name = model or usual(task, "model")
        begin(task, name, min(cases, LOOKED[size]), min(outcomes, LOOKED[size]), shown, seed, free)
        again = [] if model is None else ["--model", model]
        say_next([(command("train", tree, *again, "--size", "small"), "train it, in a small size first")])


@app.command(
    epilog=examples(
        "rrm train moves",
        "rrm train ./mine.py --size smoke",
        "rrm train paper --out runs/mine --set paper.rounds=3 --set '*.lr=3e-4' --tag baseline",
        "rrm train letters.py --model smollm2 --user human",
        "rrm train letters.py --user ./mine.py:Reader",
    )
)
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
    model: Annotated[str | None, MODEL] = None,
    user: Annotated[
        str | None,
        typer.Option(
            help="Who judges: bounded or another that is simulated (see `rrm settings`), model:PATH, openai:MODEL@URL, "
            "human (see `rrm label`), or a class of yours, ./mine.py:Class.",
            show_default=USUAL,
        ),
    ] = None,
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
    size: SIZE = "full",
    seed: Annotated[int, typer.Option(help="Decides everything random, the user's too.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; torch's choice by default.", min=1)
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Train nodes that are ready side by side: ray, or with what each job takes, ray:gpus=1,cpus=4 (cpus: "
            "threads, instead of --threads; also retries, store).",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="With --on ray: the head of a cluster (HOST:6379, or auto for one that runs on this machine).",
            show_default="RAY_ADDRESS, else a Ray of its own on this machine",
        ),
    ] = None,
    compile: Annotated[
        bool,
        typer.Option("--compile", help="torch.compile passes over whole rows: minutes first; slower on a processor."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where the model computes, as torch names it; auto: a GPU for models that gain by it.")
    ] = "auto",
    precision: Annotated[
        Precisions,
        typer.Option(
            help="Of the frozen weights; auto: what a probe finds faster, on a GPU bfloat16. With bfloat16 one that "
            "was saved so is loaded in half the memory; int8 and nf4 take a quarter and an eighth."
        ),
    ] = "auto",
    shard: Annotated[
        bool,
        typer.Option(
            "--shard", help="Under torchrun: share the model's layers out among the processes; each keeps its part."
        ),
    ] = False,
    template: Annotated[
        list[str] | None,
        typer.Option(help="A variable for the model's chat template: --template enable_thinking=false; repeatable."),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="Who samples outcomes: own, or vllm:URL, a vLLM server started on the same model; settings behind it, "
            "vllm:URL,check=4,folder=PATH."
        ),
    ] = "own",
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            help="Also report metrics and comparisons to trackio, wandb or tensorboard, or several; with a project: "
            "wandb:mine."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="A word to find the run by; repeatable. `rrm tag` gives more, also later."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Train a tree from the leaves up. The same command again resumes a run that was interrupted."""
    with clean_errors(debug):
        assignments = list(assign or ())
        short = {"attention": attention, "overlap": overlap, "unassisted": unassisted}
        assignments += [f"user.{key}={value}" for key, value in short.items() if value is not None]
        for_nodes, for_user = split(assignments)
        task = configure(sized(plant(load_task(tree)), size), for_nodes)
        model = model or usual(task, "model")
        number, processes = started()
        quiet = quiet or number > 0  # the main process speaks for all
        live = None if quiet else Live(task)
        if live is not None:
            live.loading(model)
        quiet_loading(downloads=not quiet)
        who = user or usual(task, "user")
        shared = None  # one model that writes and judges is in memory once
        if who == f"model:{model}" and not for_user:
            shared = _loaded(model, compile, device, precision, variables(template or ()), sampler, shard)
        judge = user_of(who, seed, for_user) if shared is None else _judging(shared)
        folder = out or RUNS / (task.name if size == "full" else f"{task.name}-{size}")
        where = _where(on, ray_address, threads)

        if threads is not None:
            import torch  # late, like all that needs it: it takes seconds, and most commands do without

            torch.set_num_threads(threads)
        if quiet:
            warnings.simplefilter("ignore", Notice)
        told = list(report_to or ()) if number == 0 else []
        reporting = _reporting(told, task, folder, model, who, seed) if told else None
        watch = [one for one in (live, reporting) if one is not None]
        launcher = ["torchrun", "--nproc_per_node", str(processes), "-m", "rrm"] if processes > 1 else ["rrm"]
        typed = shlex.join([*launcher, *sys.argv[1:]])
        try:
            with live or nullcontext(), reporting or nullcontext():
                loaded = shared or _model(model, compile, device, precision, variables(template or ()), sampler, shard)
                run(task, judge, loaded, folder, seed, watch, where, sampler, typed, tag or ())
        except KeyboardInterrupt:
            if number == 0:
                say("Stopped. Nothing judged is lost.", "yellow", err=True)
                say_next(after_stopping(folder, typed, who == "human"), err=True)
            raise typer.Exit(130) from None
        if live is not None:
            live.console.print(Text(f"Finished: {folder}"))
            larger = [(in_earnest([*launcher, *sys.argv[1:]]), "in earnest")] if size != "full" else []
            say_next([*larger, *after_training(folder, task.path, tree, who == "human", _truth(folder, task))])


@app.command(epilog=examples("rrm settings", "rrm settings kl", "rrm settings reward model"))
def settings(
    filter: Annotated[
        list[str] | None, typer.Argument(metavar="FILTER", help="Only those with all of these in name or text.")
    ] = None,
) -> None:
    """List every setting with its default: of a node, and of users: simulated, people, a model behind an endpoint."""
    console = CleanConsole()
    users: list[type[BaseModel]] = [BoundedUser]
    for name in user_names():
        try:
            users.append(named_user(name))
        except ConfigError as error:
            console.print(Text(str(error), style="yellow"))
    users += [HumanUser, EndpointUser]
    kinds: list[tuple[str, type[BaseModel]]] = [("NODE", Settings), *(("user", kind) for kind in users)]
    tables = [_table(title, kind, filter or ()) for title, kind in kinds]
    for table in tables:
        if table.row_count or not filter:
            console.print(table)
    if not any(table.row_count for table in tables):
        near = nearest(" ".join(filter or ()), sorted({key for _, kind in kinds for key in kind.model_fields}))
        say(f"no setting has {' and '.join(map(repr, filter or ()))} in its name or text{near}", "red", err=True)
        raise typer.Exit(2)


def _table(title: str, kind: type[BaseModel], having: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"--set {title}.", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=20)
    by = f"; with --user {kind.model_config['title']}" if "title" in kind.model_config else ""
    table.add_column(f"what it does{by}", overflow="fold")
    for key, field in kind.model_fields.items():
        if field.is_required() or callable(field.default):  # said in another way, or in Python only
            continue
        said = " ".join((field.description or "").split())
        if not all(one.lower() in f"{key} {said}".lower() for one in having):
            continue
        default = shorten(str(field.get_default(call_default_factory=True)), 60, placeholder=" ...")
        table.add_row(Text(key), Text(default), Text(said))
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


def _truth(folder: Path, task: Task) -> bool:
    from rrm.measure.run_truth import knows_truth

    return knows_truth(folder, task)


def _reporting(names: Sequence[str], task: Task, folder: Path, model: str, user: str, seed: int) -> Reporting:
    """Raises `ConfigError` for a tracker that is none, or not installed."""
    from rrm.view.trackers import Reporting, configuration, tracker_of

    config = configuration(task, model=model, user=user, seed=seed)
    return Reporting([tracker_of(name, folder, config) for name in names])


def _where(on: str | None, address: str | None, threads: int | None) -> str | None:
    """What `rrm.train` is given as `on`."""
    if on is None:
        if address is not None:
            raise ConfigError("--ray-address is of --on ray, which was not given")
        return None
    if threads is not None:
        raise ConfigError(f"--threads {threads}: with --on it is said there: --on ray:cpus={threads}")
    return on if address is None else f"{on}{',' if ':' in on else ':'}address={address}"


def _model(
    name: str, compile: bool, device: str, precision: Precisions, template: Mapping[str, object], sampler: str,
    shard: bool,
) -> str | Backbone:  # fmt: skip
    """What `rrm.train` is given: a name, or what needs more than a name."""
    if not compile and device == precision == "auto" and not template and not shard:
        return name
    if acts(name):
        raise ConfigError(
            f"--compile, --device, --precision, --shard and --template are of language models; {name} acts, on the "
            "processor"
        )
    return _loaded(name, compile, device, precision, template, sampler, shard)


def _loaded(
    name: str, compile: bool, device: str, precision: Precisions, template: Mapping[str, object], sampler: str,
    shard: bool,
) -> Backbone:  # fmt: skip
    """An engine that samples is given adapters, however small the model."""
    from rrm.models.backbone import Backbone
    from rrm.models.vllm_sampler import VLLMSetting

    adapters: Literal["auto", "lora"] = "auto"
    if sampler != "own":
        VLLMSetting.read(sampler)  # before a model is loaded
        adapters = "lora"
    return Backbone.load(name, adapters, compile, device, template, precision, shard)


def _judging(backbone: Backbone) -> User:
    """A user who is this model."""
    from rrm.users.model import ModelUser

    return ModelUser(backbone)
