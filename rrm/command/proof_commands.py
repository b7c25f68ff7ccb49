"""Commands about what can be shown of a node for certain: proofs about its weights, and bounds on its error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrm.command.common import DEBUG, app, clean_errors, quiet_loading, say
from rrm.command.helping import examples
from rrm.command.naming import Node, Run, node_of
from rrm.trust.shapes import CONFIDENCES

if TYPE_CHECKING:
    from rrm.trust.proving import Subject
    from rrm.view.reading import Reader

COLORS = {"holds": "green", "fails": "red", "not decided": "yellow"}


@app.command(epilog=examples("rrm prove runs/demo/recursive", "rrm prove runs/moves moves/reply --up-to 12"))
def prove(
    run: Run,
    node: Node = None,
    up_to: Annotated[
        int | None,
        typer.Option(min=1, help="Of the games: positions whose numbers sum to at most this; by default all."),
    ] = None,
    floor: Annotated[
        float, typer.Option(max=0, help="No token is taken to be less likely to the starting model, in nats.")
    ] = -20.0,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Prove, or refute, statements about a node's very weights: what never raises its reward, and between what that is;
    of the games, what its agent wins at every position.

    Each holds, fails with a counterexample, or is not decided, and why. The results are kept in the run for its
    certificate. z3 is asked the same where it is installed (the extra "tools").
    """
    with clean_errors(debug):
        from rrm.trust.machines import this_machine
        from rrm.trust.proving import inputs_of
        from rrm.trust.shelf import keep
        from rrm.view.reading import Reader

        with Reader(run) as reader:
            path = node_of(run, node) or reader.root
            subject = _subject(reader, path, floor)
            heads = _heads(subject)
            body = {"statements": heads, "assumptions": [*subject.assumptions]}
            inputs, again = inputs_of(subject, floor), f"rrm prove RUN {path} --floor {floor:g}"
            where = keep(reader, path, "formal_verification", "proofs", again, body, inputs, this_machine())
            moves = _moves(reader, path, up_to, _tell)
            if moves:
                again += "" if up_to is None else f" --up-to {up_to}"
                keep(reader, path, "formal_verification", "positions", again, {"statements": moves}, {"up_to": up_to},
                     this_machine())  # fmt: skip
            found = [*heads, *moves]
        say("assumed:")
        for line in subject.assumptions:
            say(f"- {line}")
        counts = {verdict: sum(one["verdict"] == verdict for one in found) for verdict in COLORS}
        say(f"{', '.join(f'{n} {verdict}' for verdict, n in counts.items())}; kept in {where}", "bold")
        say(f"next: rrm certify {run}")


@app.command(epilog=examples("rrm bound runs/demo/recursive", "rrm bound runs/demo/recursive proofs --confidence 0.99"))
def bound(
    run: Run,
    node: Node = None,
    confidence: Annotated[
        float, typer.Option(min=CONFIDENCES[0], max=CONFIDENCES[1], help="Of all bounds together.")
    ] = 0.95,
    debug: Annotated[bool, DEBUG] = False,
) -> None:
    """Bound a node's error from its run's own records, with the assumptions that takes, or say why it is not known.

    What is kept goes into the node's certificate.
    """
    with clean_errors(debug):
        from rrm.trust.guarantees import bounded
        from rrm.trust.machines import this_code
        from rrm.trust.shelf import keep
        from rrm.view.reading import Reader

        with Reader(run) as reader:
            path = node_of(run, node) or reader.root
            found = bounded(reader, path, confidence)
            where = keep(reader, path, "guarantees", "bounds", f"rrm bound RUN {path} --confidence {confidence:g}",
                         {"statements": [one.plain() for one in found], "confidence": confidence},
                         {"confidence": confidence}, this_code())  # fmt: skip
        for one in found:
            if one.value is None:
                say(f"not known: {one.says}", "yellow")
                say(f"  {one.why}")
            else:
                say(f"at most {one.value:.3f}: {one.says}", "green")
                say(f"  counted: {one.why}")
        say(f"with confidence {confidence:g} for all together, if:")
        for line in dict.fromkeys(line for one in found for line in one.assumptions):
            say(f"- {line}")
        say(f"kept in {where}; next: rrm certify {run}")


def _subject(reader: Reader, path: str, floor: float) -> Subject:
    """The node's reward model; without its starting model, if that cannot be loaded."""
    from rrm.core.errors import ModelError
    from rrm.loop.reopen import reward_of
    from rrm.models.last_norm import final_norm
    from rrm.trust.proving import state_of, subject_of

    state = state_of(reader, path)
    subject_of(reader, path, state, None, floor)  # refuses what is no linear head before a model is loaded
    quiet_loading()
    say(f"reading the reward model of {path} ...")
    try:
        norm = final_norm(reward_of(reader.folder, path).fork)
    except ModelError as error:
        say(f"its starting model cannot be loaded, so its hidden states may be anything: {error}", "yellow")
        norm = None
    given = None if norm is None else (norm.gain.tolist(), norm.offset.tolist())
    return subject_of(reader, path, state, given, floor)


def _heads(subject: Subject) -> list[dict[str, Any]]:
    from rrm.trust.proving import Decided
    from rrm.trust.proving import prove as decided

    def done(one: Decided) -> None:
        _tell(one.plain())

    return [one.plain() for one in decided(subject, done)]


def positions_again(run: Path, node: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of an agent at every position, once more, for `rrm verify --again`."""
    from rrm.view.reading import Reader

    with Reader(run) as reader:
        return {"statements": _moves(reader, node, inputs["up_to"], lambda one: None)}


def _moves(
    reader: Reader, path: str, up_to: int | None, tell: Callable[[Mapping[str, Any]], None]
) -> list[dict[str, Any]]:
    """Of the games: what its agent does at every position; nothing of other trees."""
    from rrm.core.errors import ConfigError
    from rrm.core.records import Case
    from rrm.loop.reopen import agent_of
    from rrm.measure.winning import enumerate_agent, game_behind

    row = reader.row(
        "SELECT b.body FROM comparisons c JOIN blobs b ON b.id = c.case_id WHERE c.task = ? ORDER BY c.seq", (path,)
    )
    body = json.loads(row[0]) if row else {}
    game = game_behind(Case(str(body.get("prompt", "")), dict(body.get("data", {}))))
    if game is None:
        if up_to is not None:
            raise ConfigError(f"--up-to is of the games (moves, king, nim), and {path!r} is none; leave it out")
        return []
    say(f"asking the agent at every position of {game} that can be won ...")
    temperature = float(reader.nodes[path].settings.get("temperature", 1.0))
    found = enumerate_agent(agent_of(reader.folder, path), game, up_to, temperature).statements()
    for one in found:
        tell(one)
    return found


def _tell(one: Mapping[str, Any]) -> None:
    say(f"{one['verdict']}: {one['statement']}", COLORS[one["verdict"]])
    say(f"  {one['why']}" + (f"; z3: {one['z3']}" if one.get("z3") else ""))
    if (counter := one.get("counterexample")) is not None:
        before, after = counter["before"], counter["after"]
        moved = ", ".join(f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in ("reward", "mean", "std"))
        say(f"  {moved}, by the model's own arithmetic")
    for place in one.get("counterexamples", ()):
        say(f"  {place['position']}: {place['move'] or 'nothing'}, and {' or '.join(place['wins'])} wins; "
            f"chance of a winning move {place['chance of a winning move']:.3f}")  # fmt: skip
