"""Commands that put a trained node to use: score others' labels with it, and serve it as a judge."""

from __future__ import annotations

import json
import shlex
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rrm.command.common import DEBUG, app, clean_errors, quiet_loading, say
from rrm.command.helping import examples
from rrm.command.naming import Run, node_of
from rrm.command.trees import load_task
from rrm.command.typed import model_named
from rrm.command.unfinished import expect_trained
from rrm.core.clean import visible
from rrm.store.files import write_atomically
from rrm.view.clean_console import CleanConsole
from rrm.view.comparisons import comparison
from rrm.view.reading import Reader

TYPED = 2_000
"""Most characters of a request that is shown to be typed."""

if TYPE_CHECKING:
    from rrm.core.task import Assistant
    from rrm.exchange.judge_server import ServedNode
    from rrm.measure.scored import Published, ScoredPart
    from rrm.measure.stats import Interval


@app.command(
    epilog=examples(
        "rrm score runs/mine answer reward-bench.parquet",
        "rrm score runs/mine paper/proofs processbench.json --tree ./mine.py",
    )
)
def score(
    run: Run,
    node: Annotated[str, typer.Argument(help="The node: its path, or an end of it that no other has.")],
    file: Annotated[str, typer.Argument(help="What `rrm import` takes: a file, a folder, or datasets:NAME.")],
    tree: Annotated[
        str | None,
        typer.Option(help="The run's tree, as code that you trust: the node's assistants then examine every outcome."),
    ] = None,
    format: Annotated[str, typer.Option(help="As rrm import's: auto, hh, trl, steps, llmbar.")] = "auto",
    columns: Annotated[
        list[str] | None, typer.Option("--map", metavar="KEY=COLUMN", help="As rrm import's: which column holds what.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="As rrm import's.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of a folder or data set with several.", show_default="train, if there are several"),
    ] = None,
    subset: Annotated[str | None, typer.Option(help="With datasets:NAME: its configuration.")] = None,
    by: Annotated[str, typer.Option(help="A column by which the figures are told apart.")] = "subset",
    most: Annotated[int | None, typer.Option("--limit", help="Only the first so many pairs, or rows.", min=1)] = None,
    question: Annotated[
        str | None,
        typer.Option(
            help="With labels of steps: what the critic is asked.", show_default="Is every step of the text right?"
        ),
    ] = None,
    into: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures here.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Score published pairs, or labels of steps, with a trained node's reward model, beside baselines.

    RewardBench, LLMBar, HH-RLHF, HelpSteer (--map), ProcessBench, PRM800K and whatever `rrm import` reads. Nothing is
    written into the run.
    """
    with clean_errors(debug):
        node = str(node_of(run, node))
        expect_trained(run, node, ("reward",) if tree is None else ("reward", "agent"))
        from rrm.exchange.imports.mapped import Columns  # late, all: it takes seconds
        from rrm.exchange.imports.sources import source
        from rrm.loop.reopen import assistant_of, reward_of
        from rrm.measure.scored import score_file
        from rrm.models.reward import TextRewardModel

        quiet_loading()
        told = Columns.parse(columns) if columns else None
        opened = source(file, split, subset)
        with Console(stderr=True).status("loading the model") as status:
            helpers: tuple[Assistant, ...] = ()
            if tree is None:
                reward = reward_of(run, node)
            else:
                whole = assistant_of(run, node, load_task(tree))
                assert isinstance(whole.reward, TextRewardModel)  # it was reopened as one
                reward, helpers = whole.reward, whole.helpers
            asked = {} if question is None else {"question": question}
            found = score_file(
                reward, opened, format, told, ignore or (), by, helpers, most,
                progress=lambda n: status.update(f"{n} scored"), **asked,
            )  # fmt: skip
        _show(found, run, node)
        if reward.assistants and not helpers:
            say(
                f"nobody assisted: this reward model knows {reward.assistants} assistants; --tree lets them examine "
                "the outcomes", "yellow",
            )  # fmt: skip
        if into is not None:
            write_atomically(into, json.dumps({"run": run.name, "node": node, **asdict(found)}, indent=2).encode())


def _show(found: Published, run: Path, node: str) -> None:
    """The figures as tables."""
    console = CleanConsole()
    what = "pairs" if found.what == "pairs" else "worked-out answers"
    say(f"{found.source} ({found.kind}), scored by {node} of {run}", "bold")
    for why, n in found.left.items():
        say(f"left out: {n}, {why}")
    for part in found.parts:
        say(f"\n{part.name}: {part.pairs} {what} of {part.cases} cases")
        console.print(_table(part, found))
    if found.f1:
        say("F1: of finding the first wrong step, and of finding none where none is; by resampling answers", "dim")
    say("95 % intervals, by resampling cases; a tie is half right", "dim")


def _table(part: ScoredPart, found: Published) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    whole = bool(found.f1) and part is found.parts[0]
    for name in ("judge", "right", "the node less this", *(["F1"] if whole else [])):
        table.add_column(Text(name), no_wrap=True)
    for line in part.lines:
        cells = [visible(line.name), _interval(line.right), "" if line.behind is None else _interval(line.behind, "+")]
        table.add_row(*map(Text, [*cells, *([_interval(found.f1[line.name])] if whole else [])]))
    return table


def _interval(found: Interval, sign: str = "") -> str:
    mean, low, high = (format(found[key], f"{sign}.3f") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


@app.command(epilog=examples("rrm serve runs/mine answer", "rrm serve runs/mine paper --tree ./mine.py --port 8000"))
def serve(
    run: Run,
    node: Annotated[str, typer.Argument(help="The node: its path, or an end of it that no other has.")],
    tree: Annotated[
        str | None,
        typer.Option(help="The run's tree, as code that you trust: the node's assistants then examine every outcome."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to serve; beyond loopback only with --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8432,
    token: Annotated[
        str | None, typer.Option(envvar="RRM_TOKEN", help="What requests must send; a new one by default.")
    ] = None,
    together: Annotated[int, typer.Option(help="Most requests that are asked in one pass.", min=1)] = 16,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Serve a finished node as a judge: POST /judge a prompt and outcomes; back come rewards, how sure they are, and
    what its assistants found, with the places.

    Nothing that is asked is kept, but for small caches in memory. Of agents that act there is none.
    """
    with clean_errors(debug):
        node = str(node_of(run, node))
        expect_trained(run, node, ("reward",) if tree is None else ("reward", "agent"))
        say(f"loading {model_named(run)}", "dim", err=True)
        from rrm.exchange.judge_server import create_judge  # late, all: it takes seconds
        from rrm.view.web.serving import access_for, listen
        from rrm.view.web.serving import serve as run_server

        quiet_loading()
        access = access_for(host, token)
        bound = listen(host, port)  # a port that is taken is told before a model is loaded
        with closing(bound):
            judge = create_judge(_served(run, node, tree), access, together)
            name, number = bound.getsockname()[:2]
            where = f"http://{f'[{name}]' if ':' in name else name}:{number}"
            say(f"{node} of {run} judges at {where}/judge  (Ctrl-C ends)\nTry it:\n")
            body = shlex.quote(json.dumps(_request(run, node)))
            say(f"  curl {where}/judge -H 'Authorization: Bearer {access.token}' -d {body}\n")
            run_server(judge, bound)


def _request(run: Path, node: str) -> dict[str, Any]:
    """What is asked, to be typed: the newest pair of the run's own that is short enough, with the data that assistants
    may need; else what one looks like."""
    with Reader(run) as opened:
        found = opened.rows("SELECT seq FROM comparisons WHERE task = ? ORDER BY seq DESC LIMIT 20", (node,))
        for (seq,) in found:
            one = comparison(opened, seq, TYPED)
            if one is None or one.case_cut or one.a.cut or one.b.cut or len(one.data) == TYPED:
                continue
            data = json.loads(one.data or "{}")
            asked = {"prompt": one.case, "outcomes": [one.a.text, one.b.text], **({"data": data} if data else {})}
            if len(json.dumps(asked)) <= TYPED:
                return asked
    return {"prompt": "...", "outcomes": ["...", "..."]}


def _served(run: Path, node: str, tree: str | None) -> ServedNode:
    """The node, with what is below it if its tree is given."""
    from rrm.core.validation import plant
    from rrm.exchange.judge_server import ServedNode, forgetting
    from rrm.loop.reopen import assistant_of, reward_of
    from rrm.models.reward import TextRewardModel

    if tree is None:
        return ServedNode(run.resolve().name, node, reward_of(run, node))
    task = load_task(tree)
    whole = forgetting(assistant_of(run, node, task))
    assert isinstance(whole.reward, TextRewardModel)  # it was reopened as one
    parents = {sub.path: one for one in plant(task).walk() for sub in one.subtasks}
    return ServedNode(run.resolve().name, node, whole.reward, whole, parents.get(node))
