"""`rrm plan`: what a tree's training takes on a device, before anybody pays for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rrm.command.common import DEBUG, SIZE, TREE, USUAL, app, clean_errors, say, user_of, usual
from rrm.command.configuration import configure, split
from rrm.command.helping import examples
from rrm.command.naming import run_folder
from rrm.command.trees import load_task
from rrm.core.clean import visible
from rrm.core.errors import ConfigError
from rrm.core.sizes import sized
from rrm.core.spelling import nearest
from rrm.core.task import Task
from rrm.core.validation import check, plant
from rrm.loop.training import acts
from rrm.view.clean_console import CleanConsole

if TYPE_CHECKING:
    from rrm.loop.costs import NodeCost, Plan
    from rrm.loop.planning import Extent

LETTERS = 3.0
"""Characters of a token, where there is no tokenizer to ask: English has some four."""


@app.command(
    epilog=examples(
        "rrm plan paper --model qwen3-8b --device h100",
        "rrm plan ./mine.py --device cpu --size small",
        "rrm plan paper --model llama-70b --gpus 8 --case paper/proofs=400 --json",
    )
)
def plan(
    tree: Annotated[str, TREE],
    model: Annotated[
        str | None,
        typer.Option(
            help="As rrm train's; or a name whose sizes are known without a file: qwen3-8b, llama-70b, ... (a wrong "
            "name lists them).",
            show_default="the tree's, else embedded",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help='h100, a100, h200, b200, cpu (this machine), or numbers: "80GB,900TF,3.3TB/s" (bfloat16).'),
    ] = "h100",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "int8", "nf4"],
        typer.Option(help="As rrm train's; with bfloat16 a model saved so is loaded in half the memory."),
    ] = "auto",
    gpus: Annotated[int, typer.Option(help="How many; each holds the whole model (no --shard).", min=1)] = 1,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="NODE.KEY=VALUE", help="As rrm train's; repeatable.")
    ] = None,
    size: SIZE = "full",
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE=TOKENS", help="How long a node's cases are; else some are drawn, and where they are framed, "
            "a parent's case and outcome are taken. Repeatable.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", parser=run_folder,
            help="Take the lengths of cases and outcomes from a run of this tree, with a small model.",
        ),
    ] = None,
    length: Annotated[
        float, typer.Option(help="An outcome's length, as a share of max_tokens; 1: all are as long as may be.")
    ] = 1.0,
    user: Annotated[str | None, typer.Option(help="Who judges, as rrm train's.", show_default=USUAL)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Plan a training: memory and time of every node on a device, from settings and the model's configuration alone.

    No weights are loaded. Counts are upper bounds, if a frame makes one case of an outcome (--like a run knows); time
    is a plan, not a measurement (docs/past-one-machine.md).
    Exit code 1 if it does not fit.
    """
    with clean_errors(debug):
        if not 0 < length <= 1:
            raise ConfigError(f"--length {length:g}: give a share of max_tokens above 0, at most 1")
        for_nodes, for_user = split(list(assign or ()))
        task = check(configure(sized(plant(load_task(tree)), size), for_nodes))
        name = model or usual(task, "model")
        if acts(name):
            raise ConfigError(f"{task.name}: its agents act ({name}), on the processor; give a language model: --model")
        judge = user or usual(task, "user")
        attention = getattr(user_of(judge, 0, for_user), "attention", None) if ":" not in judge else None

        from rrm.loop.costs import plan as planned  # late: torch and transformers take seconds
        from rrm.loop.planning import extents, lengths_of
        from rrm.models.device_spec import DeviceSpec
        from rrm.models.model_shape import ModelShape

        shape, spec = ModelShape.of(name), DeviceSpec.of(device)
        told = _said(task, case or ())
        rendered, bare = counters(name)
        found = extents(task, rendered, told, length)
        if like is not None:
            ran = lengths_of(like, task, rendered, bare)
            found |= {path: extent for path, extent in ran.items() if path not in told}
        done = planned(task, shape, spec, found, gpus, precision)
        if as_json:
            typer.echo(json.dumps(done.as_json() | {"attention": attention, "length": length}, indent=2))
        else:
            _show(task, done, found, attention, length, CleanConsole())
        if done.problems:
            raise typer.Exit(1)


def _said(task: Task, given: Sequence[str]) -> dict[str, int]:
    """Path -> tokens, of NODE=TOKENS; a node as with --set."""
    from rrm.command.configuration import Assignment

    found: dict[str, int] = {}
    paths = [node.path for node in task.walk()]
    for text in given:
        name, equals, tokens = text.rpartition("=")
        if not (equals and name and tokens.isdigit() and int(tokens) > 0):
            raise ConfigError(f"--case {text}: write NODE=TOKENS, such as paper/proofs=400")
        meant = [path for path in paths if Assignment(name, "", "").matches(path)]
        if not meant:
            near = nearest(name, paths)
            raise ConfigError(f"--case {text}: no node {name!r} in this tree{near}; its nodes: {', '.join(paths)}")
        found |= dict.fromkeys(meant, int(tokens))
    return found


Counting = Callable[[str], int]


def counters(model: str) -> tuple[Counting, Counting]:
    """Tokens of a prompt, with what the chat template writes around it, and of a text: by the model's tokenizer where
    its files are here, else by its characters."""
    from rrm.models.chat import Chat
    from rrm.models.fetching import PACKAGED, SOURCES, fetched, resolve
    from rrm.models.folders import read_tokenizer

    if model in PACKAGED or (model in SOURCES and fetched(SOURCES[model])) or Path(model).is_dir():
        where, local, mend = resolve(model)
        chat = Chat(model, read_tokenizer(where, local, f"cannot plan with {model!r}", mend))
        around = len(chat.render("a")) - 1
        return lambda prompt: len(chat.render(prompt)), lambda text: max(1, len(chat.render(text)) - around)

    def letters(text: str) -> int:
        return max(1, round(len(text) / LETTERS))

    return letters, letters


# --- what is shown -----------------------------------------------------------------------------------


def _show(
    task: Task, done: Plan, found: dict[str, Extent], attention: int | None, length: float, console: Console
) -> None:
    model = done.model
    way = "copies" if model.way == "full" else f"adapters of {_count(model.fork)}"
    many = f"{done.gpus} x " if done.gpus > 1 else ""
    say(f"A plan: {task.name}, {len(done.nodes)} nodes, on {many}{done.device.name}", "bold")
    say(f"{model.name}: {_count(model.parameters)} parameters, {way}")
    _show_memory(done, console)
    _show_nodes(done, attention, console)
    _show_time(done, console)
    for line in done.problems:
        say(line, "red")
    say(_assumed(done, found, length), "dim")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column(names[0], overflow="fold")
    for name in names[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _show_memory(done: Plan, console: Console) -> None:
    table = _table("memory of a GPU" if done.device.kind == "cuda" else "memory", "GB", "")
    nodes = len(done.nodes)
    of = f"of {_gb(done.parked + done.memory['adapters'])} " if done.parked else ""
    apart = "; the others wait on the host" if done.parked else ""
    notes = {
        "weights": f"{done.loading / 1e9:.1f} while it is loaded",
        "adapters": f"{of}of all {nodes} nodes{', float32' if done.model.way == 'lora' else ', copies'}{apart}",
        "gradients and AdamW": "of the one that is trained",
        "activations in training": f"passes of {done.capacity.training:,} cells, or a whole case",
        "keys and values": "with what is drawn from",
    }
    for name, size in done.memory.items():
        table.add_row(name, _gb(size), Text(notes.get(name, ""), style="dim"))
    table.columns[2].justify = "left"
    table.columns[2].no_wrap = False
    have = f"of {done.device.memory / 1e9:.1f}; sampling and training take turns"
    table.add_row(Text("at most together", style="bold"), _gb(max(done.peak, done.loading)), Text(have, style="dim"))
    disk = sum(node.disk for node in done.nodes)
    table.add_row("checkpoints, on disk", _gb(disk), "")
    console.print(table)


def _show_nodes(done: Plan, attention: int | None, console: Console) -> None:
    """Parents first."""
    table = _table("node", "rounds", "judged", "sampled", "answers", "read", "trained", "hours")
    for node in _parents_first(done.nodes):
        name = f"{'  ' * node.depth}{visible(node.path.rpartition('/')[2])}"
        table.add_row(Text(name), *map(str, (node.rounds, node.judgements)), *_tokens(node), _hours(node.seconds))
    whole = [sum(getattr(node, key) for node in done.nodes) for key in ("sampled", "answers", "read", "trained")]
    table.add_row(
        Text("in all", style="bold"), "", f"{done.judgements:,}", *map(_count, whole), _hours(done.seconds)
    )
    console.print()
    console.print(table)
    spent = "" if attention is None else f"; the user's attention: {done.judgements * attention:,} at most"
    say(f"judged: comparisons; the rest in tokens, answers (assistants') among those sampled{spent}", "dim")


def _parents_first(nodes: Sequence[NodeCost]) -> list[NodeCost]:
    """In the order of a tree that is drawn."""
    order = {node.path: node for node in nodes}
    names = list(order)

    def walk(path: str) -> list[NodeCost]:
        below = [one for one in names if one.rpartition("/")[0] == path]
        return [order[path], *(node for one in below for node in walk(one))]

    return walk(nodes[-1].path)


def _tokens(node: NodeCost) -> list[str]:
    return [_count(value) for value in (node.sampled, node.answers, node.read, node.trained)]


def _show_time(done: Plan, console: Console) -> None:
    parts: Counter[str] = Counter()
    for node in done.nodes:
        parts.update(node.parts)
    table = _table("time by parts", "hours", "share")
    for name, seconds in parts.most_common():
        if seconds:
            table.add_row(name, _hours(seconds), f"{seconds / max(done.seconds, 1e-12):.0%}")
    console.print()
    console.print(table)
    unit = "GPU hours" if done.device.kind == "cuda" else "hours"
    apart = f"; on {done.gpus}, siblings side by side, {_hours(done.at_best)} at best" if done.gpus > 1 else ""
    say(f"{unit}: {_hours(done.seconds)}{apart}", "bold")


def _assumed(done: Plan, found: Mapping[str, Extent], length: float) -> str:
    spec, nodes = done.device, len(found)
    guessed, ran = (sum(one.source == source for one in found.values()) for source in ("guessed", "run"))
    where = "on one H100, with 0.5 B" if spec.kind == "cuda" else "on one machine"
    shares = f"training reaches {spec.training:.2f} and reading {spec.reading:.2f} of a product"
    lengths = "outcomes are as in the run" if ran == nodes else f"outcomes have {length:.0%} of max_tokens"
    lengths += f", in {ran} nodes as in the run" * (0 < ran < nodes)
    cases = f"; in {guessed} of {nodes} nodes cases are as long as a parent's case and outcome" * (guessed > 0)
    cases += " (--like a run, --case)" * (guessed > 0)
    one = "; an outcome makes one case for each assistant (--like a run)" * (nodes > 1 and ran < nodes)
    return (
        f"Assumed: {shares}, a layer of a step {spec.launch * 1e3:.2f} ms and the bytes it reads (measured {where}); "
        f"{lengths}{cases}{one}. Counts are upper bounds."
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f}" if size >= 1e8 else f"{size / 1e9:.3f}"


def _count(value: float) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}" if value / limit < 999.5 else f"{value / limit:.0f} {unit}"
    return f"{value:.0f}"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}" if hours >= 0.01 else f"{hours:.1g}" if hours else "0"
