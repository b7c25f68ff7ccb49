"""The pages of several runs: all there are, two side by side, and more, the seeds of one experiment together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from rrm.core.shares import Known, mean
from rrm.store.tags import tags_of
from rrm.view.reading import DONE, Curves, NodeProgress, Reader, Series, open_runs
from rrm.view.seeds import differing, experiment_of, over_seeds, seeds_of
from rrm.view.web.pages import NAMES
from rrm.view.web.plots import Plot, sign
from rrm.view.web.rendering import render, url

MOST = 20
"""Runs that are compared on one page."""
CURVES = (
    ("steps", "reward", "Reward", "step of improvement", None),
    ("steps", "kl", "KL from the starting policy (nats)", "step of improvement", None),
    ("rounds", "holdout_accuracy", "Reward model's accuracy", "round", (0.0, 1.0)),
    ("rounds", "truth", "True score", "rounds done", None),
)
"""Of a node, where several runs are compared: where in its curves, the name there, title, x, and the range of y."""

SCALES = "Scores by each run's own reward models, which have no common scale."


# --- all runs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunRow:
    """A run in the list of all."""

    name: str
    title: str
    tags: tuple[str, ...]
    state: str
    tree: str
    user: str
    model: str
    seed: Any
    seeds: int
    """Of how many seeds of its experiment there are runs, its own among them."""
    first: str
    """The first run of its experiment."""
    started: float | None
    took: float | None
    """Seconds."""
    done: int
    nodes: int
    comparisons: int
    progress: NodeProgress | None
    """Of the root."""
    score: float | None


def _gained(row: RunRow) -> float | None:
    return row.progress.rewards[1] if row.progress and row.progress.rewards else None


SORTS: Mapping[str, Callable[[RunRow], Any]] = {
    "run": lambda row: row.title.lower(),
    "tree": lambda row: row.tree.lower(),
    "user": lambda row: row.user.lower(),
    "model": lambda row: row.model.lower(),
    "state": lambda row: row.state,
    "tags": lambda row: ", ".join(row.tags).lower() or None,
    "seed": lambda row: row.seed if isinstance(row.seed, int | float) else None,
    "started": lambda row: row.started,
    "took": lambda row: row.took,
    "comparisons": lambda row: row.comparisons,
    "accuracy": lambda row: row.progress.accuracy.share if row.progress and row.progress.accuracy else None,
    "agreement": lambda row: row.progress.agreement if row.progress else None,
    "score": lambda row: row.score,
    "reward": _gained,
    "kl": lambda row: row.progress.kl if row.progress else None,
}
"""Column -> what it is sorted by; None comes last."""
DOWN = ("started", "took", "comparisons", "accuracy", "agreement", "score", "reward", "kl")
"""Columns of which the most, or the newest, is wanted first."""


def runs(request: Request) -> Response:
    """All runs, a row each; with a tag, or words, only those that have them. Those that cannot be read are left out."""
    asked = request.query_params
    tag, text = asked.get("tag", ""), asked.get("text", "")[:200]
    order = asked.get("order", "")
    found, tags, seeds, total = [], dict[str, int](), dict[str, dict[str, str]](), 0
    for run in open_runs(request.app.state.runs):
        total += 1
        own = tags_of(run.folder)
        try:
            experiment, row = _experiment(run), _row(run, own)
        except sqlite3.DatabaseError:  # damaged; its own page says so
            continue
        tags |= {one: tags.get(one, 0) + 1 for one in own}
        seeds.setdefault(experiment, {}).setdefault(repr(seeds_of(run.config)), run.name)
        if (not tag or tag in own) and _says(run, own, text):
            found.append((row, experiment))
    whole = [replace(row, seeds=len(seeds[one]), first=next(iter(seeds[one].values()))) for row, one in found]
    rows = _sorted(whole, order)
    names = [row.name for row in rows]
    return render(
        request, "runs.html", runs=rows, total=total, tags=tags, tag=tag, text=text, order=order, most=MOST,
        query={"tag": tag, "text": text, "order": order}, downward=DOWN,
        all_of_them=_address(names) if 2 <= len(rows) <= MOST and len(rows) < total else None,
    )  # fmt: skip


def _experiment(run: Reader) -> str:
    """What all runs of one experiment have; of a run without a seed its own name."""
    return run.name if run.config.get("seed") is None else experiment_of(run.config, run.nodes)


def _says(run: Reader, tags: Sequence[str], text: str) -> bool:
    """Whether all words are somewhere in what is known of a run."""
    user, model = (run.config.get(key, {}).get("name", "") for key in ("user", "model"))
    known = (run.title, *tags, run.root, user, model, f"seed {run.config.get('seed')}")
    return all(word in "\n".join(known).lower() for word in text.lower().split())


def _row(run: Reader, tags: tuple[str, ...]) -> RunRow:
    root = run.nodes.get(run.root)
    score = run.report.get("score", {}).get("mean")
    took = run.last - run.started if run.last is not None and run.started is not None else None
    return RunRow(
        run.name, run.title, tags, run.state, run.root, run.config.get("user", {}).get("name", ""),
        run.config.get("model", {}).get("name", ""), run.config.get("seed"), 1, run.name, run.started,
        took if took is not None and took >= 0 else None,
        sum(run.progress(n).state in DONE for n in run.nodes.values()), len(run.nodes),
        sum(sum(rounds.values()) for rounds in run.counts.values()), run.progress(root) if root else None,
        float(score) if score is not None else None,
    )  # fmt: skip


def _sorted(rows: Sequence[RunRow], order: str) -> list[RunRow]:
    """By a column, downward with a minus before it; as they are for what is none."""
    key = SORTS.get(order.removeprefix("-"))
    if key is None:
        return [*rows]
    known = sorted((row for row in rows if key(row) is not None), key=key, reverse=order.startswith("-"))
    return known + [row for row in rows if key(row) is None]


# --- two -------------------------------------------------------------------------------------------------


def pick(request: Request) -> Response:
    """Where two runs were picked before there was `compare`."""
    a, b = (request.query_params.get(side, "") for side in "ab")
    return RedirectResponse(url("two", a, b) if a and b else "/", 303)


def two(request: Request) -> Response:
    """Two runs side by side. 404 if either is not open here."""
    with ExitStack() as stack:
        a, b = both = _open(request, [request.path_params["a"], request.path_params["b"]], stack)
        tasks = [*a.nodes, *(path for path in b.nodes if path not in a.nodes)]
        progress = {
            path: [run.progress(run.nodes[path]) if path in run.nodes else None for run in both] for path in tasks
        }
        shared = [path for path in tasks if path in a.nodes and path in b.nodes]
        titles = [a.title, b.title] if a.title != b.title else [f"{a.title} (A)", f"{b.title} (B)"]
        plots = []
        for path in shared:
            curves = [run.curves(run.nodes[path]) for run in both]
            for name in ("reward", "kl"):
                series = {t: c.steps[name] for t, c in zip(titles, curves, strict=True) if name in c.steps}
                if series:
                    plots.append(Plot(f"{path}: {NAMES.get(name, name)}", "step of improvement", series))
        return render(
            request, "two.html", a=a, b=b, titles=titles, progress=progress, plots=plots[:8],
            differing=differing([a.config, b.config]), results=_results(both),
        )  # fmt: skip


def _open(request: Request, names: Sequence[str], stack: ExitStack) -> list[Reader]:
    """Runs by name, until the stack is closed; 404 if one is not open here."""
    known: Mapping[str, Path] = request.app.state.runs
    for name in names:
        if name not in known:
            raise HTTPException(404, f"No run named {name!r} is open here.")
    return [stack.enter_context(Reader(known[name], name)) for name in names]


def _results(runs: Sequence[Reader]) -> list[tuple[str, list[Any]]]:
    """What a measurement kept beside the runs says of them: (what, {mean, low, high} of each)."""
    rows = [(name, [run.report.get(key) for run in runs]) for name, key in
            (("user agrees with the truth", "agreement"), ("true score", "score"))]  # fmt: skip
    aspects = [run.report.get("aspects", {}) for run in runs]
    names = dict.fromkeys(name for one in aspects for name in one)
    rows += [(f"true score: {name}", [one.get(name) for one in aspects]) for name in names]
    return [row for row in rows if any(row[1])]


# --- more than two ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A run among several."""

    letter: str
    run: Reader
    tags: tuple[str, ...]
    curves: Mapping[str, Curves]
    """By node."""
    progress: Mapping[str, NodeProgress]
    """By node."""
    twin: str = ""
    """The letter of the run of the same experiment with the same seeds that counts instead; empty if this one does."""


@dataclass(frozen=True)
class PlotLine:
    """What has a line of its own in the plots: a run, or the seeds of one experiment."""

    name: str
    runs: Sequence[Compared]
    sign: Any
    """As in the plots' legends."""


def compare(request: Request) -> Response:
    """Any runs side by side; two have their own page. 404 if one is not open here, 400 if there are not two."""
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    if len(names) < 2:
        raise HTTPException(400, "To compare runs, tick two or more of them.")
    if len(names) == 2 and "lines" not in request.query_params:
        return RedirectResponse(url("two", *names), 303)
    return _side_by_side(request, names, lambda each: _address(names, "runs" if each else "seeds"))


def seeds(request: Request) -> Response:
    """The runs that differ from one in nothing but their seeds, and it. 404 if it is not open here."""
    with ExitStack() as stack:
        wanted = _experiment(_open(request, [request.path_params["run"]], stack)[0])
    same = [
        (seed if isinstance(seed := run.config.get("seed"), int) else 0, run.name)
        for run in open_runs(request.app.state.runs)
        if _experiment(run) == wanted
    ]
    asked = request.path_params["run"]
    first = [asked, *(name for _, name in sorted(same) if name != asked)][:MOST]  # it is among them, however many
    names = [*(name for _, name in sorted(same) if name in first), *(name for _, name in same if name not in first)]
    if len(names) < 2:
        return RedirectResponse(url("r", *names), 303)
    return _side_by_side(
        request, names, lambda each: url("seeds", request.path_params["run"], lines="runs" if each else "")
    )


def _address(names: Sequence[str], lines: str = "") -> str:
    return f"/compare?{urlencode([*(('run', name) for name in names), *([('lines', lines)] if lines else [])])}"


def _side_by_side(request: Request, names: Sequence[str], address: Callable[[bool], str]) -> Response:
    each = request.query_params.get("lines") == "runs"
    with ExitStack() as stack:
        several = _compared(_open(request, names[:MOST], stack))
        together = _experiments(several)
        lines = _lines([[one] for one in several] if each else together)
        readers = [one.run for one in several]
        paths = dict.fromkeys(path for run in readers for path in run.nodes)
        apart = any(len(group) > 1 for group in together)
        return render(
            request, "several.html", several=several, lines=lines, left_out=len(names) - len(several), most=MOST,
            signs={run.letter: line.sign for line in lines for run in line.runs},
            nodes={path: _node_rows(path, several, together) for path in paths},
            plots={path: found for path in paths if (found := _plots(path, lines))},
            differing=differing([run.config for run in readers]), results=_results(readers),
            other=address(not each) if apart else None, each=each,
            one_experiment=len(together) == 1 and apart,
        )  # fmt: skip


def _compared(runs: Sequence[Reader]) -> list[Compared]:
    keys = [(_experiment(run), repr(seeds_of(run.config))) for run in runs]
    counts = {key: i for i, key in [*enumerate(keys)][::-1]}  # of runs with the same seeds the first, or
    counts |= {key: i for i, key in [*enumerate(keys)][::-1] if runs[i].done}  # the first that is finished
    letters = [chr(ord("A") + i) for i in range(len(runs))]
    return [
        Compared(
            letters[i], run, tags_of(run.folder), {path: run.curves(node) for path, node in run.nodes.items()},
            {path: run.progress(node) for path, node in run.nodes.items()},
            "" if counts[keys[i]] == i else letters[counts[keys[i]]],
        )
        for i, run in enumerate(runs)
    ]


def _experiments(several: Sequence[Compared]) -> list[list[Compared]]:
    """Those that differ in nothing but their seeds, together, of each seed one."""
    found: dict[str, list[Compared]] = {}
    for one in several:
        if not one.twin:
            found.setdefault(_experiment(one.run), []).append(one)
    return [*found.values()]


def _lines(groups: Sequence[Sequence[Compared]]) -> list[PlotLine]:
    return [PlotLine(_called(runs), runs, sign(i)) for i, runs in enumerate(groups)]


def _called(runs: Sequence[Compared]) -> str:
    """ "B moves"; "A C D moves-s0 and 2 more seeds"."""
    letters = " ".join(one.letter for one in runs)
    more = f" and {len(runs) - 1} more seed{'s' if len(runs) > 2 else ''}" if len(runs) > 1 else ""
    return f"{letters} {runs[0].run.title}{more}"


def _plots(path: str, lines: Sequence[PlotLine]) -> list[Plot]:
    """A node's curves, a line for each of `lines`."""
    plots = []
    for where, key, title, x, unit in CURVES:
        series, bands, counts, short = dict[str, Series](), {}, set[int](), False
        for line in lines:
            found = [curve for one in line.runs if (curve := _curve(one, path, where, key))]
            if len(found) > 1:
                series[line.name], bands[line.name] = over_seeds(found)
                counts.add(len(found))
                short = short or max(map(len, found)) > len(series[line.name])
            elif found:
                series[line.name] = found[0]
            else:
                series[line.name] = []  # it keeps its color in the plots it is in
        if any(series.values()):
            note = f"{SCALES if key == 'reward' else ''} {_band_note(counts, short)}".strip()
            plots.append(Plot(title, x, series, note, unit=unit, bands=bands))
    return plots


def _curve(one: Compared, path: str, where: str, key: str) -> Series:
    curves = one.curves.get(path, Curves())
    return (curves.steps if where == "steps" else curves.rounds).get(key, [])


def _band_note(counts: set[int], short: bool) -> str:
    if not counts:
        return ""
    n = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return (
        f"Line: mean over n = {n} seeds. Band: from the least to the most of them"
        f"{', as far as all have come' if short else ''}."
    )


@dataclass(frozen=True)
class NodeRow:
    """A node in one run, or the means over seeds of what it is in several."""

    who: str
    run: Compared | None
    progress: NodeProgress | None
    means: Mapping[str, Known | None]
    """Column -> mean over seeds with Student's interval; empty for a single run."""


MEANS: Mapping[str, Callable[[NodeProgress], float | None]] = {
    "accuracy": lambda p: p.accuracy.share if p.accuracy else None,
    "kl": lambda p: p.kl,
    "truth": lambda p: p.truth[1] if p.truth else None,
}
"""Columns of which there are means over seeds: not of rewards, as these have no common scale."""


def _node_rows(path: str, several: Sequence[Compared], together: Sequence[Sequence[Compared]]) -> list[NodeRow]:
    """A node in each run that has it, and the means over the seeds of an experiment that are finished there."""
    rows = [NodeRow(one.letter, one, one.progress[path], {}) for one in several if path in one.progress]
    for group in together:
        ends = {one.letter: p for one in group if (p := one.progress.get(path)) and p.state == "finished"}
        if len(ends) > 1:
            each = {name: [value(p) for p in ends.values()] for name, value in MEANS.items()}
            means = {name: mean((one, 1) for one in values if one is not None) for name, values in each.items()}
            rows.append(NodeRow(f"mean of {len(ends)} seeds: {' '.join(ends)}", None, None, means))
    return rows


ROUTES = [
    Route("/", runs),
    Route("/two", pick),
    Route("/two/{a}/{b}", two),
    Route("/compare", compare),
    Route("/seeds/{run}", seeds),
]
