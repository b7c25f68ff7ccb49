"""The page of a run's tree: a card and a row per node, and the newest root comparison; kept up to date."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from rrm.view import comparisons as judged
from rrm.view.accuracy import counted
from rrm.view.reading import DONE, ESTIMATED, NodeProgress, NodeView, Reader, ReadError
from rrm.view.tree_cards import cards_of, newest_of
from rrm.view.web.plots import sparkline
from rrm.view.web.rendering import duration, number, reader, render

STEADY = 20.0
"""Seconds after which a page that follows a run is told of it even if nothing was recorded."""
LARGE = 12
"""A tree of more nodes begins with what is below the root's children's children folded."""
CARD = (("agreement", "agreement"), ("gain", "gain"), ("rounds", "rounds"), ("silent", "N/A"))
"""Figures of a card (`rrm.view.tree_cards.Card`), and what they are called there."""


def tree(request: Request) -> Response:
    """A run's tree, what its newest root comparison was, and a row per node; kept up to date by `events`."""
    with reader(request) as run:
        sparks = {}
        for node in run.nodes.values():
            steps = run.curves(node).steps
            sparks[node.path] = sparkline([y for _, y in steps.get("reward", ())], "reward")
        return render(
            request, "tree.html", run=run, live=live_values(run), latest=_latest(run), sparks=sparks, root=run.root,
            levels=run.nodes, finished=run.done, figures=CARD, newest=newest_of(run), estimated=ESTIMATED,
            folded=2 if len(run.nodes) > LARGE else None,
        )  # fmt: skip


def _latest(run: Reader) -> judged.ShownComparison | None:
    """The newest comparison of the root: the verdict that the tree shows."""
    row = run.row("SELECT MAX(seq) FROM comparisons WHERE task = ?", (run.root,))
    return judged.comparison(run, row[0], 400) if row and row[0] is not None else None


def live_values(run: Reader) -> dict[str, str]:
    """What the tree page shows and keeps up to date: "paper/proofs:state" -> "improving"."""
    values, cards, states = {"run:state": run.state}, cards_of(run), {}
    for path, node in run.nodes.items():
        p = run.progress(node)
        states[path] = p.state
        values |= {
            f"{path}:state": p.state,
            f"{path}:round": f"{p.round}/{node.rounds}" if node.finished is None else "",
            f"{path}:comparisons": f"{p.comparisons:,}",
            f"{path}:accuracy": "nothing learned" if p.ignorant else counted(p.accuracy),
            f"{path}:reward": f"{number(p.rewards[0])} → {number(p.rewards[1])}{undone(p)}" if p.rewards else "–",
            f"{path}:kl": number(p.kl),
            f"{path}:truth": f"{number(p.truth[0])} → {number(p.truth[1])}" if p.truth else "–",
            f"{path}:seconds": duration(p.seconds),
            f"{path}:a": "–", f"{path}:b": "–",
        } | {f"{path}:{figure}": getattr(cards[path], figure) for figure, _ in CARD}  # fmt: skip
    values |= {f"{path}:below": _below(run, node, states) for path, node in run.nodes.items()}
    latest = _latest(run)
    if latest is not None:
        values[f"{run.root}:verdict"] = judged.verdict(latest.preference)
        for side, shown in (("a", latest.a), ("b", latest.b)):
            for one in walk(shown.answers):
                key = f"{one.assistant}:{side}"
                if key in values:
                    values[key] = one.verdict if values[key] == "–" else f"{values[key]}, {one.verdict}"
    return values


def _below(run: Reader, node: NodeView, states: Mapping[str, str]) -> str:
    """What is below a node, so that whoever folded it knows: "5 nodes below, 2 finished; 1 tool"."""
    below = [states[one.path] for one in run.below(node.path)]
    tools = below.count("tool")
    many, done = len(below) - tools, sum(state in DONE for state in below) - tools
    said = [f"{many} {'node' if many == 1 else 'nodes'} below, {done} finished"] if many or not tools else []
    return "; ".join([*said, f"{tools} {'tool' if tools == 1 else 'tools'}"] if tools else said)


def undone(progress: NodeProgress) -> str:
    """What follows the reward of an improvement that the user did not let stand."""
    return ", undone" if progress.kept is False else ""


def walk(answers: Any) -> list[judged.ShownAnswer]:
    """Answers and all below them, outermost first."""
    return [one for answer in answers for one in (answer, *walk(answer.below))]


def events(request: Request) -> Response:
    """The tree's values as server-sent events: at once, and whenever training has written something new."""
    with reader(request):
        pass  # 404 before the stream begins
    folder, name = request.app.state.runs[request.path_params["run"]], request.path_params["run"]

    def values() -> str:
        with Reader(folder, name) as run:
            return json.dumps(live_values(run))

    async def stream() -> AsyncIterator[str]:
        watcher = await run_in_threadpool(Reader, folder, name)
        try:
            before, stamp, quiet = "", -1, STEADY
            while True:
                now = await run_in_threadpool(lambda: watcher.stamp)
                if now != stamp or quiet >= STEADY:
                    stamp, quiet = now, 0.0
                    text = await run_in_threadpool(values)
                    yield f"data: {text}\n\n" if text != before else ": still here\n\n"
                    before = text
                await anyio.sleep(1.0)
                quiet += 1.0
        except ReadError:
            return  # the folder was taken away
        finally:
            watcher.db.close()

    return StreamingResponse(stream(), media_type="text/event-stream")


ROUTES = [Route("/r/{run}", tree), Route("/r/{run}/events", events)]
