"""The pages of a run: what each shows, and where it is. Everything is read anew for every request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rrm.core.settings import Settings
from rrm.store.films import image
from rrm.view import comparisons as judged
from rrm.view import lists
from rrm.view.accuracy import ENOUGH
from rrm.view.figures import tables_of
from rrm.view.positions import bias_figures, in_both_orders
from rrm.view.reading import ESTIMATED, Curves, NodeView, Reader, Series
from rrm.view.rounds import rounds_of
from rrm.view.safety_case import case_of, file_in, nested, read_predicate
from rrm.view.spoken import counted_remarks
from rrm.view.truth import attached, rightness, untold
from rrm.view.web.plots import Plot
from rrm.view.web.rendering import node_of, reader, render, round_number, url, whole_number

LOGGED = ("entropy", "length", "reward_std", "kl_k3", "grad_norm", "finished", "skipped")
"""What improvers log besides reward and KL, in the order in which it is plotted."""
PROXY, HIDDEN = "proxy", "hidden "
"""Metrics of what an environment kept to itself: see `rrm.acting.rewarding`."""




# --- one node ------------------------------------------------------------------------------------------

NAMES = {
    "kl": "KL from the start (nats)", "kl_k3": "KL, k3 estimate (nats)", "reward": "reward, as optimized",
    "reward_std": "spread of reward", "grad_norm": "gradient norm", "length": "length (tokens)",
    "finished": "share that ended", "skipped": "groups without signal",
    "entropy": "entropy per token (nats)",
}  # fmt: skip


def node(request: Request) -> Response:
    """A node: its curves, first comparisons, checkpoints and settings. 404 if the run has no such node."""
    with reader(request) as run:
        here = node_of(run, request)
        progress, curves = run.progress(here), run.curves(here)
        found = lists.find(run, here.path, limit=6)
        saved = [
            (round, part, path, sha256, at, _size(run, path))
            for round, part, path, sha256, at in run.checkpoints.get(here.path, ())
        ]
        versions = run.rows(
            "SELECT shown, MIN(seq), MAX(seq), COUNT(*) FROM comparisons WHERE task = ? GROUP BY shown ORDER BY 2",
            (here.path,),
        )
        fields = Settings.model_fields
        settings = [
            (key, value, key in fields and value != fields[key].get_default(call_default_factory=True),
             " ".join((fields[key].description or "").split()) if key in fields else "")
            for key, value in here.settings.items()
        ]  # fmt: skip
        return render(
            request, "node.html", run=run, node=here, progress=progress, plots=plots(run, here, curves),
            more=more_plots(curves), lines=found.lines, rounds=rounds_of(run, here), checkpoints=saved,
            settings=settings, remarks=counted_remarks(run, here.path),
            versions=[(json.loads(shown), first, last, n) for shown, first, last, n in versions],
            filters=lists.filters_of(run), verdict=judged.verdict, truth=rightness(run, here.path),
            certified=file_in(run.folder, here.path).exists(), bias=bias_figures(run, here.path),
            measured=run.report if here.path == run.root else run.measured_nodes.get(here.path, {}),
        )  # fmt: skip


def plots(run: Reader, here: NodeView, curves: Curves) -> list[Plot]:
    """The plots of a node that every run has; the truth where it was measured."""
    rounds, steps = curves.rounds, curves.steps
    fit = {"held out": rounds.get("holdout_accuracy", [])}
    aspects = {name.removeprefix("truth "): s for name, s in rounds.items() if name.startswith("truth ")}
    truth: dict[str, Series] = {"all": rounds.get("truth", []), **aspects}
    over = run.over(here)
    undecided = {name: rounds.get(name, []) for name in ("ties", "abstentions")}
    divergence = {"KL (nats)": steps.get("kl", [])}
    shown = [
        Plot("Reward", "step of improvement", {"reward": steps.get("reward", [])}, marks=curves.starts,
             note="Scores of different rounds' reward models are not on one scale; dashed: a round begins."),
        Plot("KL from the starting policy", "step of improvement", divergence, marks=curves.starts, note=ESTIMATED),
        Plot("Reward model's accuracy", "round", fit, unit=(0, 1), note="Share of the user's preferences it predicts, "
             f"of what it was not fitted to; of fewer than {ENOUGH} none is shown."),
        Plot("Reward model's disagreement", "round", {"standard deviation over heads": rounds.get("disagreement", [])}),
        Plot("Ties and abstentions", "round", undecided),
        Plot("Over-optimization", "√KL", over, dots=True,
             note="Reward that rises while the true score falls is exploited, not earned."
             + ("" if "true score" in over else f" The true score: {untold(run)}.")),
    ]  # fmt: skip
    paid = hidden_returns(curves)
    if paid:
        shown.insert(1, Plot("Learned reward, proxy and what is hidden", "step of improvement", paid,
                     marks=curves.starts, apart=True, note="Per episode, each between its own least and most: learned "
                     "is what the agent was optimized for, the proxy what the environment itself pays; that, and the "
                     "numbers of its infos at an episode's end, no agent is shown."))
    if any(truth.values()):
        note = "Measured on fresh outcomes; training cannot read it."
        shown.insert(2, Plot("True score", "rounds done", truth, note))
    return shown


def hidden_returns(curves: Curves) -> dict[str, Series]:
    """Of a node that acts, side by side: the learned reward, the environment's own, and what its infos ended with, by
    step of improvement; the true score where it was measured, as each round begins, and at the end. Empty for others.
    """
    steps = curves.steps
    if PROXY not in steps:
        return {}
    found = {"learned": steps.get("reward", []), PROXY: steps[PROXY]}
    found |= {name: steps[name] for name in sorted(steps) if name.startswith(HIDDEN)}
    ends = [*curves.starts, 1 + max(at for series in steps.values() for at, _ in series)]
    truth = [(float(ends[int(n)]), value) for n, value in curves.rounds.get("truth", []) if n < len(ends)]
    return {name: series for name, series in {**found, "true score": truth}.items() if series}


def more_plots(curves: Curves) -> list[Plot]:
    """Plots of what else the improver logged: those of `LOGGED` first, then by name."""
    named = [name for name in LOGGED if name in curves.steps]
    named += sorted(curves.steps.keys() - {*LOGGED, "reward", "kl", "stopped", "undone"})
    return [Plot(NAMES.get(n, n), "step of improvement", {n: curves.steps[n]}, marks=curves.starts) for n in named]


def challenges(request: Request) -> Response:
    """A node's figures of the five challenges of reward modeling. 404 if the run has no such node."""
    with reader(request) as run:
        here = node_of(run, request)
        return render(request, "challenges.html", run=run, node=here, figures=tables_of(run, here))


def safety_case(request: Request) -> Response:
    """A node's safety case, from its certificate. 404 if it has none."""
    with reader(request) as run:
        here = node_of(run, request)
        path = file_in(run.folder, here.path)
        if not path.exists():
            raise HTTPException(404, f"{here.path} has no certificate in {run.title}; rrm certify writes one.")
        made = str(read_predicate(path).get("made", ""))
        top = nested(case_of(path, here.path, request.app.state.told))
        return render(request, "case.html", run=run, node=here, made=made, top=top)


def _size(run: Reader, path: str) -> int | None:
    try:
        return (run.folder / path).stat().st_size
    except OSError:
        return None


# --- comparisons ---------------------------------------------------------------------------------------


def listing(request: Request) -> Response:
    """A page of a node's comparisons, filtered as the query asks; an unknown filter is none."""
    asked = request.query_params
    with reader(request) as run:
        here = node_of(run, request)
        wanted, before = _wanted(run, asked), whole_number(asked.get("before"))
        found = lists.find(run, here.path, wanted, whole_number(asked.get("after")) or 0, before)
        total = sum(run.counts.get(here.path, {}).values())
        chosen = {key: value for key, value in vars(wanted).items() if value not in ("", "all", None)}
        here_is = ("r", run.name, "list", here.path)
        back = {"after" if wanted.order else "before": found.before}
        return render(
            request, "list.html", run=run, node=here, found=found, wanted=wanted,
            earlier=None if found.before is None else url(*here_is, **back, **chosen),
            later=None if found.after is None else url(*here_is, after=found.after, **chosen),
            filters=lists.filters_of(run), orders=lists.orders_of(run), labelers=lists.labelers(run, here.path),
            rounds=sorted(run.counts.get(here.path, {})), verdict=judged.verdict, total=total,
            matching=lists.matching(run, here.path, wanted) if chosen.keys() - {"order"} else total,
            scored="scores" in run.tables, truth=attached(run), positions=in_both_orders(run),
        )  # fmt: skip


def _wanted(run: Reader, asked: Mapping[str, str]) -> lists.Query:
    """What a query asks for; what it does not know is left out."""
    show, says = asked.get("show", ""), asked.get("says", "")
    return lists.Query(
        show if show in lists.filters_of(run) else "all", asked.get("text", "")[:200], round_number(asked.get("round")),
        asked.get("who", "") if says in lists.SAYS else "", says if asked.get("who") and says in lists.SAYS else "",
        asked.get("of", "") if asked.get("of") in ("a", "b") else "", asked.get("labeler", ""),
        asked.get("order", "") if asked.get("order") in lists.ORDERS else "",
    )  # fmt: skip


def text(request: Request) -> Response:
    """A case or an outcome whole, as plain text and nothing else."""
    with reader(request) as run:
        body = judged.whole(run, request.path_params["blob"])
    if body is None:
        raise HTTPException(404, "There is no such text in this run.")
    alone = {"Content-Security-Policy": "default-src 'none'; sandbox"}
    return PlainTextResponse(body.encode("utf-8", "replace"), headers=alone)


def film(request: Request) -> Response:
    """A picture of a film, as PNG."""
    with reader(request) as run:
        case, outcome, number = (request.path_params[name] for name in ("case", "outcome", "number"))
        known = all(re.fullmatch(r"[0-9a-f]{16}", id) for id in (case, outcome))
        body = image(run.folder, case, outcome, number) if known else None
    if body is None:
        raise HTTPException(404, "There is no such picture in this run.")
    alone = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=3600"}
    return Response(body, media_type="image/png", headers=alone)


ROUTES = [
    Route("/r/{run}/node/{task:path}", node),
    Route("/r/{run}/challenges/{task:path}", challenges),
    Route("/r/{run}/case/{task:path}", safety_case),
    Route("/r/{run}/list/{task:path}", listing),
    Route("/r/{run}/text/{blob}", text),
    Route("/r/{run}/film/{case}/{outcome}/{number:int}.png", film),
]
