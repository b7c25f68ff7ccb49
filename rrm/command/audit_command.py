"""`rrm audit`: test what was trained, for its certificate."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rrm.command.common import DEBUG, app, clean_errors, quiet_loading, say, user_of, usual
from rrm.command.helping import examples
from rrm.command.naming import Node, Run, node_of
from rrm.command.trees import load_task
from rrm.core.parties import User
from rrm.core.settings import Explained
from rrm.core.task import Task
from rrm.store.config import read_config
from rrm.users.human import HumanUser, announce
from rrm.view.clean_console import CleanConsole

if TYPE_CHECKING:
    from rrm.trust.auditing import Audited

MADE = ("made", "times", "holds", "not_known")
"""What was found, beside its figures."""


@app.command(
    epilog=examples(
        "rrm audit runs/paper --tree paper",
        "rrm audit runs/paper proofs --tree paper --only planted --show 5",
        "rrm audit runs/paper --tree ./mine.py --shifted ./harder.py --cases 64 --budget 32",
        "rrm audit runs/by-people --tree ./mine.py --user human --only spot-checks --cases 10",
    )
)
def audit(
    run: Run,
    tree: Annotated[str, typer.Option(metavar="TREE", help="The tree that was trained: a name, file or module.")],
    node: Node = None,
    user: Annotated[
        str | None,
        typer.Option(
            help="Who is asked: who judged, as rrm train's, with the run's settings; nobody. Where people judged: "
            "human (they are asked by rrm label RUN/trust/asked), or somebody in their place.",
            show_default="who judged; nobody, if that were people",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the starting model is.", show_default="as the run calls it")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="New cases of each part.")] = 32,
    budget: Annotated[
        int, typer.Option(min=2, help="Outcomes of each case from which the adversary takes what is rated highest.")
    ] = 16,
    shifted: Annotated[
        str | None, typer.Option(metavar="TREE", help="The same tree with cases of another kind, for the part shifted.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="Only this part, repeatable: held-out, shifted, adversarial, spot-checks, gain, misleading, "
            "metamorphic, irrelevant, planted.",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Do parts again that were done so before.")] = False,
    show: Annotated[int, typer.Option(min=0, help="Of each part that is done now, show so many examples.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which cases are drawn, and all else that is random.")] = 0,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Test a trained node on what training did not see; the results go into its certificate (rrm certify).

    held-out and shifted: does the reward model foretell the user on new cases, and on another kind of cases.
    adversarial: is what it rates highest what the user prefers. spot-checks: what assistants say, looked at without
    whoever judges choosing what. gain: is the user right more often with assistance, and what do wrong claims add to
    wrong verdicts. misleading: every assistant lies; how often is the user right then. metamorphic: order and company
    must not matter. irrelevant: words changed so that no fact did. planted: one fact made false; is it found, and is
    clean work accused. Where nobody is asked, what takes somebody is not known.

    Each part is kept with the run when it is done, and the same command goes on. Nothing is trained.
    """
    with clean_errors(debug):
        from rrm.trust.auditing import audit as parts  # late, like all that takes seconds
        from rrm.view.reading import Reader

        quiet_loading()
        with Reader(run) as opened:
            path = node_of(run, node) or opened.root
        task = load_task(tree)
        who = judge_of(user, task, read_config(run))
        asked = None if user is None or ":" in user else user
        given = {"--tree": tree, "--shifted": shifted, "--user": asked}  # kept with what was found; nobody's folders
        named = [part for name, one in given.items() if one is not None for part in (name, Path(one).name)]
        found = parts(
            run, path, task, who, model, cases, budget, seed, None if shifted is None else load_task(shifted),
            tuple(only or ()), again, f" {shlex.join(named)}", lambda line: say(f"{path}: {line}", "dim", err=True),
        )  # fmt: skip
        table = Table(box=None, pad_edge=False, header_style="bold", title=f"Audit of {path}", title_justify="left")
        for name in ("part", "", "figure", "", "cases"):
            table.add_column(name, overflow="fold")
        shown: list[str] = []
        for one in _until_stopped(found):
            _add(table, one.part, one.found, one.kept)
            some = one.examples[:: max(1, len(one.examples) // max(1, show))][:show]  # of all that it looked at
            shown += [f"{one.part}: {text}" for text in some]
        CleanConsole().print(table)
        for text in shown:
            say(text)
        say(f"kept in {run / 'trust'}; next: rrm certify {run}", "dim")


def _until_stopped(found: Iterator[Audited]) -> Iterator[Audited]:
    try:
        yield from found
    except KeyboardInterrupt:
        say("Stopped. Parts that were done are kept, and the same command goes on.", "yellow", err=True)
        raise typer.Exit(130) from None


def judge_of(name: str | None, task: Task, config: Mapping[str, Any]) -> User | None:
    """Whoever is asked, with the run's settings for them; None: nobody."""
    people = config.get("user", {}).get("name") == HumanUser().name
    if name == "nobody" or (name is None and people):
        return None
    name = name or usual(task, "user")
    made = user_of(name, int(config.get("seed", 0)), ())
    told = {key: value for key, value in config.get("user", {}).items() if key != "name"}
    if isinstance(made, HumanUser):
        told["tell"] = lambda line: announce(line.replace("training goes on", "the audit goes on"))
    if isinstance(made, Explained) and {*told} <= {*type(made).model_fields}:
        return type(made)(**told)
    return made


def _add(table: Table, part: str, found: Mapping[str, Any], kept: bool) -> None:
    holds = {True: "holds", False: "does not hold", None: "open"}[found["holds"]] if "holds" in found else ""
    style = {"holds": "green", "does not hold": "red"}.get(holds, "")
    before = " (done before)" if kept else ""
    if "not_known" in found:
        table.add_row(Text(part + before), Text("not known", style="dim"), Text(str(found["not_known"])), "", "")
        return
    lead = (Text(part + before), Text(holds, style=style))
    for where, value, cases in _figures({key: one for key, one in found.items() if key not in MADE}):
        table.add_row(*lead, Text(where), Text(value), Text(cases))
        lead = (Text(""), Text(""))


def _figures(found: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str, str]]:
    """(place, in words, cases)."""
    for key, one in found.items():
        place = f"{where}, {key}" if where else key
        if not isinstance(one, Mapping):
            yield place, f"{one:.2f}" if isinstance(one, float) else str(one), ""
        elif "not_known" in one:
            yield place, f"not known: {one['not_known']}", ""
        elif "value" in one:
            between = "" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
            yield place, f"{one['value']:.2f}{between}, n {one['n']}", str(one["cases"])
        else:
            yield from _figures(one, place)
