"""Commands about runs: look at them, judge in them, take their comparisons elsewhere and bring others in."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from rrm.command.common import DEBUG, app, clean_errors, say
from rrm.command.helping import command, examples, say_next
from rrm.command.naming import AnyNode, Run, Runs, node_of
from rrm.command.typed import model_named, typed_for
from rrm.command.unfinished import expect_trained
from rrm.core.errors import ConfigError, RunError
from rrm.labels.queue import Labels
from rrm.store.config import read_config
from rrm.users.human import HumanUser
from rrm.view.challenge_records import plain
from rrm.view.clean_console import CleanConsole
from rrm.view.control_lines import judged_controls
from rrm.view.five_figures import challenges_of
from rrm.view.inspect import chosen, show_challenges, show_node, show_tree
from rrm.view.reading import Reader, ReadError, find_runs
from rrm.view.truth import untold

SHOWN = 20
"""Most runs of a folder that are listed."""


@app.command(
    epilog=examples(
        "rrm inspect runs/demo",
        "rrm inspect demo proofs/steps --show disagree --limit 10",
        "rrm inspect demo --challenges",
    )
)
def inspect(
    folder: Run,
    node: AnyNode = None,
    show: Annotated[
        str, typer.Option(help="Which comparisons: all, disagree, unsure, tie, none, na, stale, assisted, ...; after "
                          "`rrm measure truth` also user_wrong, user_blind, user_right, reward_wrong, untrue.")
    ] = "all",
    text: Annotated[str, typer.Option(help="Only comparisons with this text in the case or an outcome.")] = "",
    after: Annotated[int, typer.Option(help="Go on after the comparison of this number.")] = 0,
    limit: Annotated[int, typer.Option(help="Comparisons to show.", min=1)] = 5,
    challenges: Annotated[
        bool, typer.Option("--challenges", help="Instead: the five challenges of reward modeling, in figures.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --challenges: as JSON.")] = False,
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="With --challenges: first let the saved reward models of a finished run score what was judged after "
            "their fits, and keep that in the run. Loads the model; slow.",
        ),
    ] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Look at a run in the terminal: its tree, or a node's comparisons with what the assistants said."""
    with clean_errors(debug):
        _one_run(folder)
        if challenges:
            _challenges(folder, node, as_json, score)
            return
        if as_json or score:
            raise ConfigError("--json and --score go with --challenges")
        with Reader(folder) as opened:
            if node is None:
                show_tree(opened, CleanConsole())
                for line in judged_controls(folder):
                    say(line)
                again = typed_for(folder) if opened.state == "stopped" else ""
                look = (command("inspect", folder, opened.root), "what was judged there, and what assistants said")
                say_next([(again, "go on where it was"), look] if again else [look])
            else:
                show_node(opened, node, CleanConsole(), show, text, after, limit)


def _challenges(folder: Path, node: str | None, as_json: bool, score: bool) -> None:
    """Show a run's five figures, of one node or of all."""
    if score:
        from rrm.loop.reopen import score_ahead  # late: looking at a run needs no torch

        with Reader(folder) as opened:
            paths = [one.path for one in chosen(opened, node)]
        for path in paths:
            try:
                typer.echo(f"{path}: {score_ahead(folder, path)} comparisons scored ahead", err=True)
            except RunError as error:
                if node is not None:
                    raise
                typer.echo(f"{path}: not scored: {error}", err=True)
    with Reader(folder) as opened:
        if as_json:
            found = [plain(challenges_of(opened, one, untrue=untold(opened))) for one in chosen(opened, node)]
            typer.echo(json.dumps({"run": opened.title, "nodes": found}, indent=2))
        else:
            show_challenges(opened, node, CleanConsole())


def _one_run(folder: Path) -> None:
    """Raise `ReadError` for a folder that holds runs and is none: which they are, and what to say."""
    if not folder.is_dir() or any((folder / name).exists() for name in ("run.db", "config.json")):
        return
    runs = [folder / one.relative_to(folder.resolve()) for one in find_runs([folder]).values()]
    shown = [str(run) for run in runs[:SHOWN]] + ([f"and {len(runs) - SHOWN} more"] if len(runs) > SHOWN else [])
    raise ReadError(
        f"{folder} is no run; it holds:\n  " + "\n  ".join(shown)
        + f"\nGive one of them: {shlex.join(['rrm', 'inspect', str(runs[0])])}; "
        f"{shlex.join(['rrm', 'view', str(folder)])} shows all."
    )


def _judged_by_people(folder: Path) -> None:
    """Raise `ConfigError` if the run's user is simulated: it would never ask anybody."""
    config = read_config(folder)
    if not config.get("tree") or "name" not in config.get("user", {}):
        return  # not begun
    name, root = config["user"]["name"], list(config["tree"])[-1]
    if name == HumanUser().name or (folder / "labels.db").exists():
        return
    raise ConfigError(
        f"{folder} is judged by {name}, so it asks nobody. For people to judge, train with --user human in another "
        f"folder, such as: {shlex.join(['rrm', 'train', root, '--user', 'human', '--out', f'{folder}-human'])}"
    )


@app.command(
    epilog=examples("rrm view runs/demo", "rrm view runs", "rrm view demo --export shared/ --most 50")
)
def view(
    runs: Runs,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    host: Annotated[str, typer.Option(help="Other than loopback only with --token.")] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(envvar="RRM_TOKEN", help="The token; a new one by default.")] = None,
    export: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a static copy instead of serving.")] = None,
    most: Annotated[int, typer.Option(help="With --export: comparisons of each node.", min=1)] = 20,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Serve pages over runs, live or finished, on this machine; or write a static copy of them."""
    from rrm.trust.plain_words import in_words
    from rrm.view.web.app import create_app  # late: only this needs the web packages
    from rrm.view.web.serving import access_for, address, listen, serve
    from rrm.view.web.static_copy import export as write

    console = CleanConsole(soft_wrap=True)
    with clean_errors(debug):
        if export is not None:
            pages = write(runs, export, most, in_words)
            console.print(Text(f"{pages} pages; open {export / 'index.html'}"))
            return
        access = access_for(host, token)
        web = create_app(runs, access, told=in_words)
        bound = listen(host, port)
        console.print(Text(f"Open {address(bound, access)}\nCtrl-C stops it."))
        serve(web, bound)


@app.command(
    epilog=examples(
        "rrm label runs/letters --as Ann", "rrm label letters --tty --guidelines guidelines.txt",
        "rrm label letters --gold gold.jsonl --repeats 0.05",
    )
)  # fmt: skip
def label(
    run: Run,
    name: Annotated[str | None, typer.Option("--as", help="Who judges; otherwise the page asks.")] = None,
    tty: Annotated[bool, typer.Option("--tty", help="Ask here in the terminal.")] = False,
    host: Annotated[str, typer.Option(help="Where to serve; beyond loopback only with --token.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The same at every start, so that a page still open finds the server again.")
    ] = 8431,
    token: Annotated[str | None, typer.Option(help="What other machines must know to reach the page.")] = None,
    guidelines: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text for whoever judges; the key g shows it.", dir_okay=False)
    ] = None,
    gold: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False,
            help="Pairs of which the better is known (prompt, chosen, rejected, as rrm import reads them), to be asked "
            "in between. They train nothing.",
        ),
    ] = None,
    gold_share: Annotated[
        float, typer.Option("--gold-share", help="With --gold: the share of what a person is shown.", min=0, max=0.5)
    ] = 0.1,
    repeats: Annotated[
        float,
        typer.Option(
            help="The share of what a person is shown that they judged before, A and B exchanged. They train nothing.",
            min=0, max=0.5,
        ),
    ] = 0.0,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Be the user: judge the pairs that `rrm train ... --user human` waits for. Several people may, at once.

    What an audit asks people (rrm audit RUN --user human) is in a folder of its own: rrm label RUN/trust/asked.
    """
    with clean_errors(debug):
        from rrm.labels.questions import named

        asked, run = run, _run_of(run)
        find_runs([run])  # the folder of a run, or an error that says so
        if asked == run:
            _judged_by_people(run)
        told = _guidelines(guidelines)
        labels = Labels(asked)
        if gold is not None or repeats:
            _mix(labels, run, gold, gold_share, repeats)
        if tty:
            from rrm.view.label_tty import Terminal

            who = name or typer.prompt("Your name, kept with each of your judgements")
            Terminal(run, labels, named(who), CleanConsole(), guidelines=told).run()
            return
        from rrm.view.web.app import create_app
        from rrm.view.web.label import ROUTES
        from rrm.view.web.serving import access_for, address, listen, serve

        access = access_for(host, token)
        bound = listen(host, port)
        who = named(name) if name else None
        app = create_app([run], access, ROUTES, labels=labels, folder=run, labeler=who, guidelines=told)
        say(f"Judge at {address(bound, access, '/label')}  (Ctrl-C ends; nothing judged is lost)")
        serve(app, bound)


def _guidelines(file: Path | None) -> str:
    """A text for whoever judges. Raises `ConfigError` if it cannot be read."""
    try:
        return "" if file is None else file.read_text(encoding="utf-8-sig").strip()  # of some editors, with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--guidelines {file}: {error}; give a file with a text, in UTF-8") from error


def _mix(labels: Labels, run: Path, gold: Path | None, share: float, repeats: float) -> None:
    """Have gold questions and repeats asked in between."""
    from rrm.exchange.imports.gold import gold_of
    from rrm.labels.controls import Mixing

    known = []
    if gold is not None:
        with Reader(run) as reader:
            if not reader.nodes:
                raise ConfigError(
                    f"--gold {gold}: training has not set {run} up yet, so it has no nodes to ask about; give the "
                    "command again when rrm train waits for judgements"
                )
            known = gold_of(gold, reader.root, [*reader.nodes])
    labels.mix(known, Mixing(share if known else 0.0, repeats))


def _run_of(folder: Path) -> Path:
    """The run whose audit asks in this folder; the folder itself, if that is none such."""
    from rrm.labels.queue import ASKED

    above = folder.resolve()
    if above.parts[-len(ASKED.parts) :] != ASKED.parts or not (folder / "labels.db").exists():
        return folder
    return above.parents[len(ASKED.parts) - 1]


@app.command(epilog=examples("rrm people runs/letters", "rrm people runs/letters --forget Ann --labels keep"))
def people(
    run: Run,
    forget: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take this name out of the run, for good; needs --labels.")
    ] = None,
    labels: Annotated[
        Literal["keep", "withdraw"] | None,
        typer.Option(help="With --forget: keep their judgements, under no name, or take them back."),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """List the people who judged in a run; take one's name out of it, and their labels back."""
    with clean_errors(debug):
        from rrm.core.parallel import World
        from rrm.labels import forgetting
        from rrm.loop.lock import locked

        with Reader(run):  # a run, or an error that says what it is instead
            pass
        if forget is None:
            for name, n in sorted(forgetting.people(run).items()):
                say(f"{name}: {n} judgements")
            return
        if labels is None:
            raise ConfigError("--forget: say what becomes of their judgements: --labels keep, or --labels withdraw")
        with locked(run, World()):
            say("\n".join(forgetting.forget(run, forget, labels).lines(run)))


@app.command(
    "export",
    epilog=examples(
        "rrm export runs/mine -o pairs.jsonl",
        "rrm export runs/mine proofs -o proofs.parquet --ties",
        "rrm export runs/mine --reward-model paper --refit -o reward-model",
        "rrm export runs/mine --agent paper/proofs --merged -o critic",
        "rrm export runs/mine --tree -o models",
    ),
)
def export_(
    run: Run,
    file: Annotated[Path, typer.Option("-o", "--output", help="The file, or the reward model's folder, to write.")],
    node: AnyNode = None,
    format: Annotated[
        str,
        typer.Option(
            help="jsonl, parquet, or inspect: a log of Inspect with the tree as spans, of NODE or the root.",
            show_default="by the file's name",
        ),
    ] = "",
    said: Annotated[str | None, typer.Option("--node", hidden=True, help="As NODE, which it was before.")] = None,
    ties: Annotated[bool, typer.Option("--ties", help="Ties and abstentions too; nothing was chosen there.")] = False,
    messages: Annotated[
        bool, typer.Option("--messages", help="Messages instead of texts: trainers put these through a chat template.")
    ] = False,
    what: Annotated[
        str,
        typer.Option(
            "--as", help="comparisons; remarks (what was said of single outcomes, to be imported again); or approvals, "
            "demonstrations alone, as TRL's trainers read them: prompt, completion, label.",
        ),
    ] = "comparisons",
    reward_model: Annotated[
        str | None, typer.Option(metavar="NODE", help="Instead, this node's reward model, for transformers and TRL.")
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="With --reward-model or --tree: fit it anew, on text alone.")
    ] = False,
    agent: Annotated[
        str | None, typer.Option(metavar="NODE", help="Instead, this node's agent, as a PEFT folder with a model card.")
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Instead, every node's agent and reward model, a folder each, with an index.")
    ] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="With --agent or --tree: whole models instead of adapters.")
    ] = False,
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="With --agent or --tree: what adapters name as their base model.",
                          show_default="where the starting model is here"),
    ] = "",
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Write a run's comparisons in the columns prompt, chosen, rejected that others read; or its models.

    Models are folders for transformers, PEFT, TRL and vLLM, loaded back and compared before they count as done.
    """
    with clean_errors(debug):
        given = [name for name, one in (("--agent", agent), ("--reward-model", reward_model), ("--tree", tree)) if one]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)}: give one of them")
        if (merged or base) and not (agent or tree):
            raise ConfigError(f"{'--merged' if merged else '--base'} goes with --agent or --tree")
        if refit and not (reward_model or tree):
            raise ConfigError("--refit goes with --reward-model or --tree")
        if given:
            options = {"NODE": node or said, "--format": format, "--ties": ties, "--messages": messages,
                       "--as": what != "comparisons"}  # fmt: skip
            if beside := [name for name, one in options.items() if one]:
                raise ConfigError(f"{', '.join(beside)}: of comparisons, not of {given[0]}; leave it out")
        node = node_of(run, node or said)
        if given:
            if asked := agent or reward_model:
                expect_trained(run, str(node_of(run, asked)), ["agent" if agent else "reward"])
            say(f"loading {model_named(run)}", "dim", err=True)
            from transformers.utils import logging  # late, like all that takes seconds

            from rrm.trust import handing_out

            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            if agent is not None:
                say(handing_out.hand_out_agent(run, str(node_of(run, agent)), file, merged, base).summary(file))
            elif reward_model is not None:
                say(handing_out.hand_out_reward(run, str(node_of(run, reward_model)), file, refit).summary(file))
            else:

                def told(line: str) -> None:
                    say(line, "dim", err=True)

                for one in handing_out.hand_out_tree(run, file, merged, refit, base, told):
                    say(f"{one.node}: {one.agent or 'no agent'}, {one.reward or 'no reward model'}")
                    for why in one.why:
                        say(f"  {why}", "yellow")
                say(f"{file / 'README.md'} is the index")
            return
        if format == "inspect" or file.suffix == ".eval":
            from rrm.exchange.inspect_log import export_inspect

            if what != "comparisons" or ties or messages:
                raise ConfigError("a log of Inspect has all comparisons of a node; leave out --as, --ties, --messages")
            say(f"{export_inspect(run, file, node)} comparisons in {file}; look at them: inspect view {file.parent}")
            return
        from rrm.exchange.exporting import export, format_of, left_out

        if what != "comparisons":
            from rrm.exchange.remark_export import WHAT, export_remarks

            kind = next((one for one in WHAT if one == what), None)
            if kind is None:
                raise ConfigError(f"--as {what}: give comparisons, {', '.join(WHAT)}")
            if ties or (messages and kind == "remarks"):
                raise ConfigError(f"--{'ties' if ties else 'messages'} is of comparisons, not of {what}; leave it out")
            say(f"{export_remarks(run, file, format_of(format, file), kind, node, messages)} {kind} in {file}")
            return
        left: Counter[str] = Counter()
        written = export(run, file, format_of(format, file), node, ties, messages, left)
        say(f"{written} comparisons in {file}{left_out(left)}")


@app.command(
    "import",
    epilog=examples(
        "rrm import hh.jsonl --out runs/mine --node answer",
        "rrm import datasets:Anthropic/hh-rlhf --split train --out runs/hh --node answer",
        "rrm import rated.jsonl --as ratings --levels 5 --out runs/mine --node paper/proofs",
    ),
)
def import_(
    file: Annotated[str, typer.Argument(help="JSONL, JSON or parquet; a folder of them; or datasets:NAME.")],
    out: Annotated[Path, typer.Option(help="The run's folder, new or not yet trained at this node.")],
    node: Annotated[
        str, typer.Option(help="The node that was judged, e.g. paper/proofs.", show_default="what an `rrm export` says")
    ] = "",
    what: Annotated[
        str,
        typer.Option(
            "--as",
            help="What the rows say: comparisons; or, of one outcome each, ratings, approvals, marks (of what is "
            "unacceptable), corrections, demonstrations; or remarks, as `rrm export --as remarks` writes them.",
            show_default="comparisons, or remarks",
        ),
    ] = "auto",
    levels: Annotated[
        str | None, typer.Option(help="With --as ratings: how many levels there are, 1 the worst; or from-to: 0-4.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="auto, hh (HH-RLHF), trl (or `rrm export`), peerread, steps (labels of steps), llmbar.")
    ] = "auto",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="KEY=COLUMN",
            help="Which column holds what: prompt, system, user; a, b or chosen, rejected or outcomes or outcome; and "
            "prefers=COLUMN:A,B,TIE (the value that means a, b, a tie), or prefers=higher:X,Y or lower:X,Y (numbers in "
            "two columns, or in one and a number); of one outcome (--as): prompt, system, user, outcome, value, better "
            "and note. A column may lie within another: completions.0.response, answers.*.answer.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column that is known to be harmless: it is not read.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of a folder or data set with several.", show_default="train, if there are several"),
    ] = None,
    subset: Annotated[str | None, typer.Option(help="With datasets:NAME: its configuration.")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How PeerRead's papers meet: group, tie, text, children."),
    ] = None,
    skip: Annotated[bool, typer.Option("--skip-broken", help="Leave broken rows out instead of stopping.")] = False,
    longest: Annotated[
        int | None, typer.Option(help="Most characters of a row, prompt and longer outcome together.", min=1)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead of --longest: the context of this model, in its tokens.")
    ] = None,
    too_long: Annotated[
        str, typer.Option(help="What becomes of longer rows: skip (counted), cut (their outcomes' ends), error.")
    ] = "skip",
    question: Annotated[
        str | None,
        typer.Option(
            help="With labels of steps: what the critic is asked.", show_default="Is every step of the text right?"
        ),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Put people's judgements into a run: its reward model learns from them from the first round on."""
    with clean_errors(debug):
        from rrm.command.importing import Options, bring

        given = Options(
            format, split, subset, assign or (), skip, columns or (), ignore or (), longest, model, too_long,
            **({} if question is None else {"question": question}), what=what, levels=levels,
        )  # fmt: skip
        bring(file, out, node_of(out, node or None) or "", given, CleanConsole(soft_wrap=True))
        say_next([(f"rrm train TREE --out {shlex.quote(str(out))}", "its reward models learn from them, too")])
