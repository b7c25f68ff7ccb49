"""Run an experiment over seeds: one JSON file per seed as it ends (so that it resumes), then a summary, a figure
and a page.

An experiment is a module of `rrm.measure.experiments` with a QUESTION, `run(stage)` for one seed, and
`summarize(results)`. One of many arms offers `by_arm(stage)` instead of `run`: a seed's file is then written after each
arm, and a file that lacks some is completed by those only.
"""

from __future__ import annotations

import html
import json
import math
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from rrm.core.errors import RRMError
from rrm.measure.oversight import Verdict
from rrm.measure.stage import Stage
from rrm.measure.stats import Interval, over_seeds, share_over_seeds
from rrm.store.files import write_atomically
from rrm.users.bounded import BoundedUser

Result = dict[str, Any]
"""What one seed gave; JSON-able."""


@dataclass(frozen=True)
class Summary:
    """What an experiment found over its seeds.

    Attributes
    ----------
    rows: the table; values are text, numbers or intervals.
    notes: what it means, as the numbers say.
    draw: draws the figure on a matplotlib Axes.
    numbers: for whoever reads summary.json.
    limits: what it does not mean.
    tables: further tables by title.
    more: draw further panels of the figure.
    """

    rows: list[dict[str, Any]]
    notes: list[str]
    draw: Callable[[Any], None]
    numbers: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    more: tuple[Callable[[Any], None], ...] = ()


class Experiment(Protocol):
    """What a module of `rrm.measure.experiments` must offer."""

    QUESTION: str

    def run(self, stage: Stage) -> Result:
        """What one seed gives. It is kept as JSON, and run once."""
    def summarize(self, results: Sequence[Result]) -> Summary:
        """What all seeds give together; `results` are read back from JSON, in the order of the seeds."""


@runtime_checkable
class OfArms(Protocol):
    """What it offers if its arms do not depend on each other: each is kept, and run once, by itself."""

    QUESTION: str

    def by_arm(self, stage: Stage) -> Mapping[str, Callable[[], Any]]:
        """Arm -> what makes its result. A seed's result has them in this order."""
    def summarize(self, results: Sequence[Result]) -> Summary:
        """As an `Experiment`'s."""


def measure(
    name: str,
    experiment: Experiment | OfArms,
    stage: Callable[[int], Stage],
    seeds: Sequence[int],
    out: Path,
    command: str,
    say: Callable[[str], None] = print,
) -> Summary:
    """Run what no earlier call has finished, and write OUT/NAME/{<seed>.json, summary.json, figure.*, index.html}.

    Raises `RRMError` if a finished seed was measured by other settings (tree, user, model or size).
    """
    folder = out / name
    seeded: list[dict[str, Any]] = []
    began = time.monotonic()
    for place, seed in enumerate(seeds):

        def announce(arm: str, seed: int = seed, place: int = place) -> None:
            say(f"{name}: seed {seed} ({place + 1} of {len(seeds)}){arm and ': '}{arm}")

        seeded.append(_of_seed(experiment, stage(seed), folder / f"{seed}.json", announce))
    summary = experiment.summarize([kept["result"] for kept in seeded])
    threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    machine = f"{platform.machine()}, {threads}, torch {torch.__version__}"
    record = without_nan({
        "experiment": name, "question": experiment.QUESTION, "simulated": True, "command": command,
        "seeds": list(seeds), "seconds": [kept["seconds"] for kept in seeded], "machine": machine,
        "code": made_by(dict(zip(seeds, seeded, strict=True))),
        "user": user(stage(seeds[0])), "rows": summary.rows,
        "numbers": summary.numbers, "notes": summary.notes, "limits": summary.limits, "tables": summary.tables,
    })  # fmt: skip
    write_atomically(folder / "summary.json", json.dumps(record, indent=1).encode() + b"\n")
    plot(summary, folder)
    write_atomically(folder / "index.html", page(name, record).encode())
    say(f"{name}: done in {time.monotonic() - began:.0f} s; {folder / 'index.html'}")
    return summary


def _of_seed(
    experiment: Experiment | OfArms, stage: Stage, path: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """What is kept of a seed, once nothing is missing. `say` hears what is about to be computed: an arm, or ""."""
    about = stage.about()
    kept: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    if kept is not None and kept["about"] != about:
        raise RRMError(
            f"{path} was measured with {kept['about']}, not {about}; give the same settings, or another --out"
        )
    if isinstance(experiment, OfArms):
        kept = kept or {"about": about, "seconds": 0.0, "code": code(), "result": {}}
        return _completed(experiment.by_arm(stage), kept, path, say)
    if kept is None:
        say("")
        start = time.monotonic()
        result = experiment.run(stage)
        kept = _keep(path, {"about": about, "seconds": _since(start), "code": code(), "result": result})
    return kept


def _completed(
    arms: Mapping[str, Callable[[], Any]], kept: dict[str, Any], path: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """With the arms that it lacks, each kept as it ends; without those that there are no more, which stay in the file.
    "codes" says which code made each arm, "arms" which there are once it is whole."""
    codes = kept.get("codes") or dict.fromkeys(kept["result"], kept["code"])
    kept = {**kept, "codes": codes, "arms": [*arms]}
    for arm in [arm for arm in arms if arm not in kept["result"]]:
        say(arm)
        start = time.monotonic()
        result = kept["result"] | {arm: arms[arm]()}
        seconds, codes = round(kept["seconds"] + _since(start), 1), kept["codes"] | {arm: code()}
        kept = _keep(path, kept | {"seconds": seconds, "codes": codes, "result": result})
    return kept | {"result": {arm: kept["result"][arm] for arm in arms}}


def _since(start: float) -> float:
    return round(time.monotonic() - start, 1)


def _keep(path: Path, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a resumed run would read."""
    write_atomically(path, json.dumps(without_nan(kept), indent=1).encode() + b"\n")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def made_by(seeded: Mapping[int, Mapping[str, Any]]) -> str:
    """Which code made what is kept of each seed; of arms that other code made than their seed's first, which these are
    and of which seeds."""
    first = {seed: kept.get("code", "unknown code") for seed, kept in seeded.items()}
    later: dict[tuple[str, str], list[int]] = {}
    for seed, kept in seeded.items():
        for arm, by in kept.get("codes", {}).items():
            if by != first[seed] and arm in kept["result"]:
                later.setdefault((by, arm), []).append(seed)
    more = [f"; {arm} of seeds {', '.join(map(str, of))} by {by}" for (by, arm), of in later.items()]
    return ", ".join(dict.fromkeys(first.values())) + "".join(more)


def kept_so_far(name: str, experiment: Experiment | OfArms, seeds: Sequence[int], out: Path) -> str:
    """What there is of an experiment, as Markdown, of the seeds that are whole, and which are half or missing; nothing
    is run or written.

    Raises `RRMError` if there is no whole seed, or if its seeds are of different trees or sizes.
    """
    there = {seed: out / name / f"{seed}.json" for seed in seeds}
    kept = {seed: json.loads(path.read_text()) for seed, path in there.items() if path.exists()}
    if not kept:
        raise RRMError(f"{out / name} holds none of the seeds {', '.join(map(str, seeds))}; leave --no-run out")
    told = ({key: value for key, value in one["about"].items() if key != "settings"} for one in kept.values())
    sizes = {json.dumps(one, sort_keys=True) for one in told}  # settings are a digest that has the seed in it
    if len(sizes) > 1:
        raise RRMError(f"{out / name}: its seeds were measured otherwise: {' and '.join(sorted(sizes))}; name some")
    whole, half = _whole(kept) if isinstance(experiment, OfArms) else ({s: k["result"] for s, k in kept.items()}, "")
    if not whole:
        raise RRMError(f"{out / name}: none of its seeds is whole yet: {half}")
    try:
        summary = experiment.summarize([*whole.values()])
    except KeyError as error:
        raise RRMError(f"{out / name}: its seeds are not whole ({error} is missing in one); name some") from error
    missing = [seed for seed in seeds if seed not in kept]
    lacking = f"; half run, and left out: {half}" if half else ""
    lacking += f"; not run: {', '.join(map(str, missing))}" if missing else ""
    parts = [f"# {name}", experiment.QUESTION, f"Simulated. Seeds {', '.join(map(str, whole))}{lacking}.",
             as_markdown(without_nan(summary.rows))]  # fmt: skip
    for title, rows in summary.tables.items():
        parts += [f"## {title}", as_markdown(without_nan(rows))]
    parts += ["\n".join(f"- {line}" for line in [*summary.notes, *summary.limits])]
    return "\n\n".join(parts)


def _whole(kept: Mapping[int, Mapping[str, Any]]) -> tuple[dict[int, Result], str]:
    """(whole seeds' results, of the arms that all of them have; in words, how much there is of the others).

    A file that does not say which arms there are (an older one) has those of the fullest of its kind.
    """
    fullest: Mapping[str, Any] = max((one["result"] for one in kept.values() if "arms" not in one), key=len, default={})
    arms = {seed: list(one.get("arms", fullest)) for seed, one in kept.items()}
    has = {seed: sum(arm in one["result"] for arm in arms[seed]) for seed, one in kept.items()}
    whole = [seed for seed in kept if has[seed] == len(arms[seed])]
    common = [arm for arm in arms[whole[0]] if all(arm in arms[seed] for seed in whole)] if whole else []
    half = ", ".join(f"{seed} ({has[seed]} of {len(arms[seed])} arms)" for seed in kept if seed not in whole)
    return {seed: {arm: kept[seed]["result"][arm] for arm in common} for seed in whole}, half


def code() -> str:
    """Which code measured it: the commit of a checkout, else the version that is installed."""
    asked = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False,
    ) if shutil.which("git") else None  # fmt: skip
    return f"commit {asked.stdout.strip()}" if asked and not asked.returncode else f"version {rrm_version()}"


def rrm_version() -> str:
    """Of the installed package; "unknown" where none is installed."""
    try:
        return version("recursive-reward-modeling")
    except PackageNotFoundError:
        return "unknown"


def user(stage: Stage) -> str:
    """Who judges, in words: for the page."""
    judge = stage.user()
    return f"user with attention {judge.attention} for a pair" if isinstance(judge, BoundedUser) else judge.name


def without_nan(value: Any) -> Any:
    """The same, with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plot(summary: Summary, folder: Path) -> None:
    """figure.png and figure.svg."""
    import matplotlib  # late: it takes a second

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "rrm"  # the same numbers give the same file
    from matplotlib import pyplot

    draws = (summary.draw, *summary.more)
    figure, axes = pyplot.subplots(1, len(draws), figsize=(6.5 * len(draws), 4.5), layout="constrained", squeeze=False)
    for draw, panel in zip(draws, axes[0], strict=True):
        draw(panel)
    figure.savefig(folder / "figure.png", dpi=120)
    figure.savefig(folder / "figure.svg", metadata={"Date": None})
    pyplot.close(figure)


def page(name: str, record: Mapping[str, Any]) -> str:
    """One page that needs nothing but figure.svg beside it."""

    def table(rows: Sequence[Mapping[str, Any]]) -> str:
        head, *body = cells(rows)
        lines = ["".join(f"<th scope=col>{html.escape(cell)}" for cell in head)]
        lines += ["".join(f"<td>{html.escape(cell)}" for cell in row) for row in body]
        return f"<div><table><tr>{'<tr>'.join(lines)}</table></div>"

    def bullets(title: str, lines: Sequence[str]) -> str:
        return f"<h2>{title}</h2><ul>{''.join(f'<li>{html.escape(line)}' for line in lines)}</ul>" if lines else ""

    further = "".join(f"<h2>{html.escape(title)}</h2>{table(rows)}" for title, rows in record["tables"].items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(name)}</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}div{overflow-x:auto}"
        "td,th{padding:.2rem .6rem;text-align:left;border-bottom:1px solid #ccc}img{max-width:100%}</style>"
        f"<h1>{html.escape(name)}</h1><p>{html.escape(record['question'])}"
        f"<p><img src=figure.svg alt='{html.escape(name)}: the table below as a figure'>"
        f"{table(record['rows'])}{further}{bullets('What it means', record['notes'])}"
        f"{bullets('What it does not mean', record['limits'])}"
        f"<p>Simulated; {html.escape(record['user'])}. Seeds {', '.join(map(str, record['seeds']))}; "
        f"{html.escape(record['machine'])}, {html.escape(record['code'])}."
        f"<pre>{html.escape(record['command'])}</pre></html>\n"
    )


def document(record: Mapping[str, Any]) -> str:
    """The page for docs/results, beside NAME.svg: question, command, figure, numbers with intervals, notes."""
    name, table = record["experiment"], as_markdown

    def bullets(lines: Sequence[str]) -> str:
        return "\n".join(f"- {line}" for line in lines)

    parts = [
        f"# {name}", record["question"], f"    {record['command']}",
        f"Simulated; {record['user']}. Seeds {', '.join(map(str, record['seeds']))}; {record['machine']}, "
        f"{record['code']}; {', '.join(f'{s:.0f}' for s in record['seconds'])} s (the first experiment of a seed "
        "trains its assistants). 95 % intervals: of agreements, scores and their differences over seeds and cases, of "
        "the rest (rates of claims, gains, slopes, shares, AUC) Student's over seeds, of no width where all seeds gave "
        "the same; no correction for the number of rows.",
        f"![{name}: the table below as a figure]({name}.svg)", table(record["rows"]),
    ]  # fmt: skip
    for title, rows in record["tables"].items():
        parts += [f"## {title}", table(rows)]
    parts += ["## What it means", bullets(record["notes"])]
    if record["limits"]:
        parts += ["## What it does not mean", bullets(record["limits"])]
    return "\n\n".join(parts) + "\n"


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in cells(rows)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in body)]
    return "\n".join(lines)


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A table's head, then its body, as text; a column that is empty throughout is left out."""
    names = list(dict.fromkeys(column for row in rows for column in row))
    columns = {name: [shown(row.get(name, "")) for row in rows] for name in names}
    kept = [name for name in names if any(columns[name])]
    return [kept, *(list(row) for row in zip(*(columns[name] for name in kept), strict=True))]


def shown(value: Any, digits: int = 3) -> str:
    """A cell: an interval as "0.930 [0.912, 0.951]"; empty for what could not be measured."""
    if value is None:
        return ""
    if isinstance(value, Mapping) and "low" in value:
        if value["mean"] is None or math.isnan(value["mean"]):
            return ""
        if value["low"] is None or math.isnan(value["low"]):
            return f"{value['mean']:.{digits}f} (one seed)"
        return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


# --- what summaries share ----------------------------------------------------------------------------


def packed(verdicts: Iterable[Verdict]) -> list[list[float]]:
    """(case, truth, preference, attention) rows, to be kept as JSON."""
    return [[v.case, v.truth, v.preference, v.attention] for v in verdicts]


def by_case(values: Iterable[tuple[float, float]]) -> list[list[float]]:
    """(case, value) pairs -> the values of each case."""
    by: dict[float, list[float]] = {}
    for case, value in values:
        by.setdefault(case, []).append(value)
    return [by[case] for case in sorted(by)]


def agreements(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Per case, how right each judgement was (1, 0.5 for a tie, 0)."""
    return by_case((case, 1 - abs(truth - preference)) for case, truth, preference, _ in rows)


def agreement(results: Sequence[Sequence[Sequence[float]]]) -> Interval:
    """How often an arm's judgements are right, over seeds and cases. `results`: per seed the arm's rows."""
    return share_over_seeds([agreements(rows) for rows in results])


def misses(results: Sequence[Sequence[Sequence[float]]]) -> dict[str, Interval]:
    """The two ways to be wrong about a pair that truly differs, as shares of pairs: the worse is preferred, or no
    difference is seen (a tie, or several users who cancel out)."""

    def share(wrong: Callable[[float], bool]) -> Interval:
        return share_over_seeds(
            [by_case((c, float(wrong(abs(truth - said)))) for c, truth, said, _ in rows) for rows in results]
        )

    return {"prefers the worse": share(lambda off: off > 0.5), "sees no difference": share(lambda off: off == 0.5)}


def lift(results: Sequence[Sequence[Sequence[float]]], over: Sequence[Sequence[Sequence[float]]]) -> Interval:
    """How much more often one arm is right than another, paired by pair."""
    seeds = []
    for rows, others in zip(results, over, strict=True):
        both = zip(rows, others, strict=True)
        seeds.append(
            by_case((case, abs(truth - o) - abs(truth - mine)) for (case, truth, mine, _), (_, _, o, _) in both)
        )
    return over_seeds(seeds)


def bounded(alone: Interval) -> str:
    """Why a lift over this arm says nothing; empty if it does. Chance is 0.5: the order of a pair is arbitrary."""
    if math.isnan(alone["mean"]):
        return "nothing was judged, so there is no lift to report"
    if alone["low"] > 0.97:
        return f"the unassisted user is at the ceiling ({shown(alone)}), so no lift is reported"
    if alone["high"] < 0.53:
        return f"the unassisted user is at the floor ({shown(alone)}), so no lift is reported"
    return ""


def error_bars(found: Sequence[Interval]) -> list[list[float]]:
    """For matplotlib: distances below and above the mean."""
    return [[max(0.0, f["mean"] - f["low"]) for f in found], [max(0.0, f["high"] - f["mean"]) for f in found]]
