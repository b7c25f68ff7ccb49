"""Commands about trust: keys, certificates, and whether they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrm.command.audit_command import judge_of
from rrm.command.common import DEBUG, USUAL, app, clean_errors, say
from rrm.command.helping import examples
from rrm.command.naming import MaybeRun, Node, node_of, run_folder
from rrm.command.trees import load_task
from rrm.core.errors import ConfigError
from rrm.store.config import read_config

if TYPE_CHECKING:
    from rrm.trust.deriving import Again

KEY = typer.Option("--key", metavar="FILE", help="Your private key (see rrm keys).")


@app.command(epilog=examples('rrm keys ~/keys/lab --name "Lab of A. Turing"'))
def keys(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; the public one: FILE.pub.")],
    name: Annotated[str, typer.Option(help="Whose key it is, as others shall read it.")] = "",
    days: Annotated[int, typer.Option(min=1, help="How long it is good.")] = 365,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Make a key pair to sign certificates with (Ed25519). Keep FILE to yourself, give FILE.pub to who verifies.
    """
    with clean_errors(debug):
        from rrm.trust.signing import make_key

        made = make_key(path, name or path.name, days)
        say(f"{path} is the private key: keep it to yourself. {path}.pub is the public one, for whoever verifies.")
        say(f"key {made.keyid[:16]} of {made.name!r}, good until {made.expires}")
        say(f"next: rrm certify RUN --key {path}")


@app.command(epilog=examples("rrm certify runs/demo", "rrm certify runs/demo proofs --key ~/keys/lab"))
def certify(
    run: MaybeRun = None,
    node: Node = None,
    key: Annotated[Path | None, KEY] = None,
    out: Annotated[Path | None, typer.Option(help="[default: RUN/certificates]")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of a certificate instead.")] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Write certificates of a finished node and all below it: what was done, what was found, and what was not shown.

    Each is an in-toto statement in a signed envelope (DSSE). Without --key one is made and thrown away.
    """
    with clean_errors(debug):
        from rrm.trust.statement import Predicate

        if schema:
            print(json.dumps(Predicate.model_json_schema(), indent=2))
            return
        if run is None:
            raise ConfigError("give the run's folder: rrm certify RUN")
        from rrm.trust.certifying import FOLDER, outdated
        from rrm.trust.certifying import certify as write
        from rrm.trust.plain_words import in_words

        done = write(run, node_of(run, node), key, out)
        for one in done:
            say(f"{one.node}: {one.path} ({one.sha256[:16]})")
        root = done[-1]
        say(f"not shown of {root.node}:")
        for line in root.predicate.not_shown:
            say(f"- {in_words(line, root.predicate.testing.by_truth is not None)}")
        if key is None:
            say(
                "The key was made for these certificates and is thrown away: they show that nothing was changed since, "
                f"and not who made them. To sign as yourself: rrm keys FILE, then rrm certify {run} --key FILE"
            )
        if above := outdated(out or run / FOLDER, root.node):
            again = f"rrm certify {run} {above[-1]}{'' if out is None else f' --out {out}'}"
            say(f"The certificates of {', '.join(above)} name the one that was here before, and hold no more; make "
                f"them anew: {again}{'' if key is None else f' --key {key}'}", "yellow")  # fmt: skip
        say(f"next: rrm verify {root.path} --run {run}")


@app.command(
    epilog=examples(
        "rrm verify paper.json --run runs/demo --key lab.pub --policy mine.toml",
        "rrm verify paper.json --run runs/demo --key lab.pub --rerun paper/writing --tree paper",
    )
)
def verify(
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="A certificate of rrm certify.")],
    run: Annotated[
        Path, typer.Option(metavar="RUN", parser=run_folder, help="The run that it is of, named as elsewhere.")
    ],
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.pub", help="A public key that you trust; several times for several."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="What you demand of it.")] = None,
    rerun: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Also train this node again from its judgements, and compare the weights."),
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option(
            metavar="TREE", help="With --rerun and --again: the tree, as code that you trust (a name, file or module)."
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also derive again what takes the starting model: what moved its judgements, and with "
            "--tree its audits.",
        ),
    ] = False,
    user: Annotated[
        str | None,
        typer.Option(help="With --again: who judged, as rrm train's, with the run's settings.", show_default=USUAL),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER", help="Load the starting model from here, and compare its weights and its tokenizer. "
            "With --rerun and --again it is loaded in any case.", show_default="as the run calls it",
        ),
    ] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Check a certificate: its signature, the run's rows, files and numbers, and the certificates below it.

    Offline; executes nothing of the run's folder, and of other code only TREE. Bounds and proofs are derived again from
    the rows and the weights, with --again the rest of what was computed of these; what is taken as signed is listed.

    Exit status: 0 it holds; 3 no certificate that this rrm reads; 4 not signed, or changed after; 5 unknown or expired
    key; 6 of another run; 7 rows, files, numbers or a certificate below were changed; 8 rows were rewritten since (a
    person was forgotten); 9 it holds, and fails the policy; 10 it holds, and --rerun or --again cannot tell here.
    """
    with clean_errors(debug):
        from rrm.trust.demands import read_policy, unmet
        from rrm.trust.deriving import grouped
        from rrm.trust.plain_words import in_words
        from rrm.trust.verifying import CODES, SAYS, Breach
        from rrm.trust.verifying import verify as check
        from rrm.view.unsaid import left_unsaid

        if rerun is not None and tree is None:
            raise ConfigError("--rerun needs --tree: the tasks' code is taken from you, not from the run")
        if not again and (user is not None or (rerun is None and tree is not None)):
            raise ConfigError("--tree goes with --rerun or --again, and --user with --again")
        demands = read_policy(policy) if policy is not None else {}
        again_at = [node_of(run, one) for one in rerun or ()]
        found = check(certificate, run, key or (), _again(run, tree, user, model) if again else None, model)
        if not found.faults and (others := [str(one) for one in again_at if one not in found.predicates]):
            there = f"it and those below it speak of {', '.join(found.predicates)}"
            raise ConfigError(f"--rerun {', '.join(others)}: {certificate} does not speak of that; {there}")
        if not found.faults and demands:
            root = next(iter(found.predicates))
            found.faults += [Breach("policy", one) for one in unmet(demands, found.predicates, root, found.taken)]
            if not found.faults:
                found.notes.append(f"it is all that {policy} demands")
        for path in again_at if not found.faults else ():
            from rrm.trust.rerunning import rerun as trained

            told = trained(run, str(path), load_task(str(tree)), model)
            if not told.holds:
                found.faults.append(Breach("changed" if told.holds is False else "untold", str(told)))
            else:
                found.notes.append(str(told))
        for line in found.notes:
            say(line)
        for fault in found.faults:
            say(f"{fault.kind}: {f'{fault.node}: ' if fault.node else ''}{fault.what}", "red")
        if found.faults:
            kind = min((fault.kind for fault in found.faults), key=CODES.__getitem__)
            say(f"{certificate.name}: {SAYS[kind]}", "bold red")
            raise typer.Exit(found.code)
        node, predicate = next(iter(found.predicates.items()))
        say(f"The certificate of {node} holds. Taken as signed, and not derived again here:", "bold")
        for line in grouped(found.taken):
            say(f"- {line}")
        say("It does not show:", "bold")
        for line in (*predicate.not_shown, *left_unsaid(predicate.model_dump(mode="json"))):
            say(f"- {in_words(line, predicate.testing.by_truth is not None)}")


def _again(run: Path, tree: str | None, user: str | None, model: str | None) -> Again:
    """What `--again` is given."""
    from transformers.utils import logging  # late, like all that takes seconds

    from rrm.command.proof_commands import positions_again
    from rrm.trust.deriving import Again

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    task = None if tree is None else load_task(tree)
    who = None if task is None else judge_of(user, task, read_config(run))
    return Again(task, who, model or "", {"positions": positions_again})


@app.command(
    epilog=examples("rrm case runs/demo", "rrm case runs/demo proofs --out case.md", "rrm case paper.json")
)
def case(
    certificate: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CERTIFICATE", parser=run_folder, help="A run with certificates, or a certificate's file."
        ),
    ],
    node: Node = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write it there instead of printing it.")] = None,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Print a safety case: claims, arguments and evidence, from a certificate alone, as Markdown.

    rrm view RUN shows it as a page, with links to the judgements. Whether the certificate holds, rrm verify says.
    """
    with clean_errors(debug):
        from rrm.store.files import write_atomically
        from rrm.trust.plain_words import in_words
        from rrm.view.reading import Reader
        from rrm.view.safety_case import as_markdown, case_of, file_in

        path, of = certificate, ""
        if certificate.is_dir():
            with Reader(certificate) as run:
                of = node_of(certificate, node) or run.root
            path = file_in(certificate, of)
            if not path.exists():
                raise ConfigError(f"{path} is not there; first: rrm certify {certificate}")
        text = as_markdown(case_of(path, of, in_words), str(certificate) if certificate.is_dir() else "RUN")
        if out is None:
            print(text, end="")
        else:
            write_atomically(out, text.encode())
            say(f"{out} written")
