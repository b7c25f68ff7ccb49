"""`rrm report`: what was trained, by whom it was judged and what was found, as a page to be read and to be cited."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.core.version import VERSION
from rrm.store.files import file_name, write_atomically
from rrm.trust.documents import Block, Cells, Document, Drawing, Lines, Title, Verbatim, Words, as_html, as_md
from rrm.trust.judged_where import of_rrm
from rrm.trust.report_figures import DrawnFigure, draw
from rrm.trust.reported import MISSING, NodeTold, RunTold, Shown, counted, experiments, over_runs, told_of
from rrm.trust.statement import ByTruth, Figure
from rrm.view.comparisons import ShownComparison, nth, verdict

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"
CITED = """@article{leike2018scalable,
  title   = {Scalable agent alignment via reward modeling: a research direction},
  author  = {Leike, Jan and Krueger, David and Everitt, Tom and Martic, Miljan and Maini, Vishal and Legg, Shane},
  journal = {arXiv preprint arXiv:1811.07871},
  year    = {2018},
  doi     = {10.48550/arXiv.1811.07871}
}"""
WAY: Mapping[str, str] = {
    "simulated": "a simulated user: a program with a limited attention",
    "model": "a language model, no person",
    "people": "people",
    "imported": "whoever gave the labels that were imported, people or not: the run does not say",
    "other": "a class of the user's own",
}  # fmt: skip
SMALLER = ("ties", "no judgement", "what it expected of those", "Brier score of those")
"""Figures that the table over runs leaves out; they stand with each node."""


@dataclass(frozen=True)
class WrittenReport:
    """The files of a report."""

    html: Path
    markdown: Path
    figures: Sequence[Path]
    runs: int


def report(
    paths: Sequence[Path], out: Path, command: str, seed: int = 0, examples: int = 3, title: str = ""
) -> WrittenReport:
    """Write OUT/report.html, OUT/report.md and OUT/figures/*.{svg,pdf}. The same runs, told the same, give the same
    bytes (with the same matplotlib). Raises `ReadError` or `RunError` where there is no run, or one cannot be read.

    Parameters
    ----------
    paths: run folders, or folders of them.
    command: what writes the report again, as it stands in it.
    seed: decides which comparisons are shown as examples.
    examples: how many of each node.
    """
    runs = told_of(paths, seed, examples)
    named = title or f"Report on {', '.join(run.title for run in runs[:4])}" + (" and others" if len(runs) > 4 else "")
    drawn: dict[str, DrawnFigure] = {}
    blocks = [*_blocks(runs, named, command, seed, drawn)]
    figures = []
    for name, one in drawn.items():
        for ending, body in (("svg", one.svg), ("pdf", one.pdf)):
            write_atomically(path := out / f"{name}.{ending}", body)
            figures.append(path)
    paper = Document(blocks, {name: one.svg for name, one in drawn.items()})
    write_atomically(out / MARKDOWN, as_md(paper).encode())
    write_atomically(out / HTML, as_html(paper, named).encode())
    return WrittenReport(out / HTML, out / MARKDOWN, figures, len(runs))


def _blocks(
    runs: Sequence[RunTold], title: str, command: str, seed: int, drawn: dict[str, DrawnFigure]
) -> Iterator[Block]:
    yield Title(1, title)
    yield Words(judged_by(runs), strong=True)
    yield Words(
        "Shares and means with 95 % intervals and n. An interval of one run is over its cases; of several runs of one "
        f"experiment it is Student's over the runs, each of which is one value. What is missing is \"{MISSING}\"."
    )
    groups = experiments([run for run in runs if run.nodes])
    if len(runs) > 1 and groups:
        yield from _together(groups)
    for number, group in enumerate(groups, 1):
        yield from _experiment(group, number, len(groups), drawn)
    for run in runs:
        yield from _run(run, seed, len(runs) > 1)
    yield Title(2, "This report")
    yield Verbatim(command, "Written again by")
    yield Words(f"Examples were drawn at random with seed {seed}; rrm {VERSION} wrote it.")
    yield Title(2, "To cite")
    yield Verbatim(bibtex(runs, title))


def judged_by(runs: Sequence[RunTold]) -> str:
    """Who judged, simulated or not, in one sentence that cannot be misread."""
    kinds: dict[str, set[str]] = {}
    for run in runs:
        for kind, names in run.judged_by().items():
            kinds.setdefault(kind, set()).update(names)
    if not kinds:
        return "Nobody has judged anything in these runs so far."
    world = ", in a world that was made for it" if all(of_rrm(run.config) for run in runs) else ""
    told = [WAY[kind] + (world if kind == "simulated" else "")
            + (f" ({', '.join(sorted(names))})" if kind != "people" else "")
            for kind, names in sorted(kinds.items())]  # fmt: skip
    nobody = not {"people", "imported"} & {*kinds}
    start = "SIMULATED. " if nobody else ""
    end = " No person judged anything here." if nobody else ""
    return f"{start}Judged by {'; and by '.join(told)}.{end}"


# --- several runs ------------------------------------------------------------------------------------


def _together(groups: Sequence[Sequence[RunTold]]) -> Iterator[Block]:
    """One table over all runs, of their roots."""
    yield Title(2, "The runs")
    names = [name for name in next(iter(groups[0][0].nodes.values())).figures if name not in SMALLER]
    rows = []
    for number, group in enumerate(groups, 1):
        for run in group:
            node = run.nodes[run.root]
            judged = f"{node.progress.comparisons:,}"
            figures = (_short(node.figures[one]) for one in names)
            rows.append([f"{number}", run.title, f"{run.seed}", run.state, judged, *figures])
        if len(some := counted(group)) > 1:
            over = over_runs(some, group[0].root)
            seeds = ", ".join(str(run.seed) for run in some)
            rows.append([f"{number}", f"mean of {len(some)}", seeds, "", "", *(_short(over[one]) for one in names)])
    yield Cells(["experiment", "run", "seed", "state", "judgements at the root", *names], rows)
    yield Words(
        "Runs with one number differ in nothing but their seeds: settings, user, code, rrm's version, starting model "
        "and what was decided when they began are the same. Figures are of each tree's root. Why a figure is not "
        "measured stands with the node. Means are of finished runs, and of several with one seed the first counts."
    )
    if len(groups) > 1:
        yield from (Lines(lines) for lines in [_differences(groups)] if lines)


def _differences(groups: Sequence[Sequence[RunTold]]) -> list[str]:
    """What tells each experiment from the first."""
    first = _flat(groups[0][0].compared)
    found = []
    for number, group in enumerate(groups[1:], 2):
        own = _flat(group[0].compared)
        keys = [key for key in dict.fromkeys([*first, *own]) if first.get(key) != own.get(key)]
        told = "; ".join(f"{key} {own.get(key, 'none')}, not {first.get(key, 'none')}" for key in keys[:8])
        more = f"; and {len(keys) - 8} more" if len(keys) > 8 else ""
        found.append(f"Experiment {number} differs from 1 in: {told}{more}")
    return found


def _flat(value: Any, where: str = "") -> dict[str, str]:
    """Setting -> value; hashes are cut."""
    if not isinstance(value, Mapping):
        said = str(value)
        return {where: said[:12] if re.fullmatch(r"[0-9a-f]{64}", said) else said}
    return {
        key: one for name, inner in value.items()
        for key, one in _flat(inner, f"{where}.{name}" if where else str(name)).items()
    }  # fmt: skip


def _experiment(group: Sequence[RunTold], number: int, of: int, drawn: dict[str, DrawnFigure]) -> Iterator[Block]:
    first = group[0]
    seeds = ", ".join(str(run.seed) for run in group)
    name = f"Experiment {number}" if of > 1 else "What was trained"
    yield Title(2, name if len(group) == 1 else f"{name}: seeds {seeds}")
    tools = sum(one.view.tool for one in first.nodes.values())
    beside = f" ({tools} of them {'tools' if tools > 1 else 'a tool'})" if tools else ""
    yield Words(
        f"A tree of {len(first.nodes)} node{'s' if len(first.nodes) != 1 else ''}{beside}, trained from the leaves "
        "up: each node's assistants help whoever judges it, its reward model learns from those judgements, and its "
        "agent is optimized against that (recursive reward modeling, Leike et al. 2018)."
    )
    yield Cells(
        ["node", "what was asked", "helped by", "rounds", "improver", "settings that differ from the usual"],
        [_tree_row(one) for one in first.nodes.values()],
    )
    model = first.config.get("model", {})
    yield Words(f"Starting model: {model.get('name', MISSING)}, fingerprint {model.get('fingerprint', MISSING)}.")
    if len(some := counted(group)) > 1:
        yield Title(3, f"Every node, mean over {len(some)} runs")
        yield _figures_of({path: over_runs(some, path) for path, node in first.nodes.items() if not node.view.tool})
    yield Title(3, "Curves")
    any_drawn = False
    for path in first.nodes:
        found = draw(group, path)
        if found is not None:
            file = f"{FIGURES}/{number}-{file_name(path)}"
            drawn[file], any_drawn = found, True
            yield Drawing(file, f"{path}: its curves, {'one line a run' if len(group) > 1 else f'seed {first.seed}'}")
    if not any_drawn:
        yield Words(f"No course was recorded: {MISSING}.")


def _tree_row(node: NodeTold) -> list[str]:
    view = node.view
    met = [one.node for one in node.design.assistants]
    own = [one for one in met if not any(one.startswith(f"{other}/") for other in met)]
    helped = ", ".join(one.removeprefix(f"{view.path}/") for one in own) or "nobody"
    rounds = str(view.rounds) if view.finished is None else "a tool" if view.tool else "trained in another run"
    changed = ", ".join(f"{key}={value}" for key, value in node.changed.items() if key not in ("rounds", "improver"))
    improver = str(view.settings.get("improver", "")) if view.finished is None else ""
    return [view.path, view.instruction, helped, rounds, improver, changed]


def _figures_of(nodes: Mapping[str, Mapping[str, Shown]]) -> Cells:
    """Nodes down, figures across would be too wide: figures down."""
    names = next(iter(nodes.values()))
    return Cells(["figure", *nodes], [[name, *(_short(one[name]) for one in nodes.values())] for name in names])


def _short(one: Shown) -> str:
    return MISSING if one.value is None else str(one)


# --- one run -----------------------------------------------------------------------------------------


def _run(run: RunTold, seed: int, several: bool) -> Iterator[Block]:
    if not run.nodes:
        yield Title(2, f"Run {run.title}")
        yield Words(f"It is being set up: it has no tree and no judgements so far, and every figure is {MISSING}.")
        return
    yield Title(2, f"Run {run.title}, seed {run.seed}" if several else f"What was judged and found, seed {run.seed}")
    state = "" if run.state == "finished" else f" It is not finished ({run.state}): figures are as far as it has come."
    yield Words(judged_by([run]) + state)
    yield from map(Words, run.damaged)
    yield Title(3, "Who judged, and how much")
    yield Cells(
        ["node", "state", "rounds done", "judged by", "kind", "judgements", "people", "their agreement (alpha)"],
        [row for node in run.nodes.values() for row in _judges(node)],
    )
    yield Title(3, "Figures")
    trained = {path: node for path, node in run.nodes.items() if not node.view.tool}  # of a tool there are none
    yield _figures_of({path: node.figures for path, node in trained.items()})
    missing = {
        f"{name}: {MISSING}, as {one.why}"
        for node in trained.values() for name, one in node.figures.items() if one.value is None and one.why
    }  # fmt: skip
    yield Lines(sorted(missing))
    yield Title(3, "By the truth")
    yield from _by_truth(run)
    for path, node in run.nodes.items():
        yield from _node(path, node, seed)
    yield Title(3, "Commands, versions, hashes")
    command = run.about.get("command")
    if command:
        yield Verbatim(str(command), "Trained by")
    else:
        yield Words(
            "The command that trained it was not kept (it was begun from Python, or by an older version); its "
            "config.json holds every setting."
        )
    yield Cells(["what", "value"], [*_made_of(run)])


def _by_truth(run: RunTold) -> Iterator[Block]:
    """Who is right, of what was judged; where nobody measured the truth, that."""
    rows = [
        [path if not number else "", who, str(one)]
        for path, node in run.nodes.items() if any(one.value is not None for _, one in _right(node.testing.by_truth))
        for number, (who, one) in enumerate(_right(node.testing.by_truth))
    ]  # fmt: skip
    unmeasured = [
        f"{path}: {one.unmeasured:,} {'comparison counts' if one.unmeasured == 1 else 'comparisons count'} nowhere "
        "here, as truth.db has not the scores of both outcomes"
        for path, node in run.nodes.items() if (one := node.testing.by_truth) is not None and one.unmeasured
    ]  # fmt: skip
    if not rows:
        there = any(node.testing.by_truth is not None for node in run.nodes.values())
        why = "truth.db says nothing of what was judged" if there else "the run has no truth.db that can be read"
        yield Words(
            f"{MISSING.capitalize()}: {why}. Where the tree's tasks know what is true of an outcome, rrm measure truth "
            "writes it."
        )
        yield Lines(unmeasured)
        return
    yield Cells(["node", "who", "is right"], rows)
    yield Words(
        "By truth.db (rrm measure truth), which neither user nor training knew. Of pairs of which one is truly better, "
        "a difference that is not seen counting half; of assistants, of what they said of facts. 95 % intervals, over "
        "cases."
    )
    yield Lines(unmeasured)


def _right(found: ByTruth | None) -> Iterator[tuple[str, Shown]]:
    if found is None:
        return
    yield "user", Shown.found(found.user)
    yield "reward model", Shown.found(found.reward_model)
    yield "reward model, held out", Shown.found(found.held_out)
    for one in found.assistants:
        yield f"{one.node}, about what holds", Shown.found(one.right_of_holding)
        yield f"{one.node}, about what does not hold", Shown.found(one.right_of_failing)


def _judges(node: NodeTold) -> Iterator[list[str]]:
    rounds = f"{node.progress.round} of {node.view.rounds}" if node.view.finished is None else ""
    head = [node.view.path, node.progress.state, rounds]
    for one in node.design.judges:
        alpha = str(Shown.found(one.alpha)) if one.kind == "people" else ""
        people = f"{one.people:,}" if one.kind == "people" else "0"
        yield [*head, one.name, one.kind, f"{one.judgements:,}", people, alpha]
        head = ["", "", ""]
    if not node.design.judges:
        yield [*head, "nobody", "", "0", "0", ""]


def _node(path: str, node: NodeTold, seed: int) -> Iterator[Block]:
    yield Title(3, path)
    if node.view.finished is not None:
        yield Words(
            f"A tool (version {node.view.finished}): nothing of it was trained, and nobody judges it." if node.view.tool
            else f"Trained in another run (version {node.view.finished}): {MISSING} here."
        )
        return
    for table in node.challenges:
        yield Words(f"{table.title}. {table.reading}")
        rows = [[cell.replace("not known", MISSING) for cell in row] for row in table.rows]
        yield Cells(table.columns, rows)
        yield Lines([note.replace("not known", MISSING) for note in table.notes if note])
    if audits := [*_audits(node)]:
        yield Words("Audits:")
        yield Cells(["part", "figure", "value", "found again by"], audits)
    yield Lines([
        f"{name.replace('_', ' ').capitalize()}: " + (
            "; ".join(str(one["command"]) for one in chapter.found) if chapter.found else f"{MISSING}: {chapter.empty}"
        ) for name, chapter in node.chapters.items()
    ])  # fmt: skip
    yield Words(f"Not shown by any of this, beside what is {MISSING}:")
    yield Lines(node.not_shown)
    if node.examples:
        yield Words(
            f"{len(node.examples)} of {node.drawn_from:,} comparisons, drawn at random with seed {seed}, not picked:"
        )
    for one in node.examples:
        yield from _example(one)


def _audits(node: NodeTold) -> Iterator[list[str]]:
    for audit in node.testing.audits:
        for where, value in _values(audit["found"]):
            yield [str(audit["name"]), where, value, str(audit["command"])]


def _values(found: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    for key, one in found.items():
        place = f"{where}, {key}" if where else key
        if key in ("made", "times"):
            continue
        if not isinstance(one, Mapping):
            yield place, f"{one:.2f}" if isinstance(one, float) else str(one)
        elif "not_known" in one:
            yield place, f"{MISSING}: {one['not_known']}"
        elif "value" in one:
            yield place, str(Shown.found(Figure(**one)))
        else:
            yield from _values(one, place)


def _example(one: ShownComparison) -> Iterator[Block]:
    margin = ""
    if one.scores:
        _, value, std, held = one.scores[-1]
        margin = f"; the reward model: {'A' if value > 0 else 'B'} by {abs(value):.2f} ± {std:.2f}"
        margin += ", held out" if held else ""
    what = "whether an improvement stands" if one.accept else f"round {nth(one.round)}"
    lines = [f"CASE\n{one.case}{' …' if one.case_cut else ''}"]
    for name, side in (("A", one.a), ("B", one.b)):
        lines.append(f"{name}\n{side.text}{' …' if side.cut else ''}")
        for answer in side.answers:
            said = " ".join(answer.said.split())[:300]
            lines.append(f"  {answer.name} says of {name}: {answer.verdict}{f': {said}' if said else ''}")
    told = f"Comparison {one.seq} ({what}): judged {verdict(one.preference)}{margin}"
    told += "" if one.shown else "; without assistance"
    yield Verbatim("\n\n".join(lines), told)


def _made_of(run: RunTold) -> Iterator[list[str]]:
    about = run.about
    yield ["seed", str(run.seed)]
    for key in ("rrm", "bits", "threads", "processor", "device", "processes"):
        yield [key, str(about.get(key, MISSING))]
    for name, version in about.get("packages", {}).items():
        yield [name, str(version)]
    if run.started is not None:
        yield ["begun", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.started))]
    model = run.config.get("model", {})
    yield ["starting model", f"{model.get('name', MISSING)}, fingerprint {model.get('fingerprint', MISSING)}"]
    for name, digest in sorted(about.get("code", {}).items()):
        yield [f"code of {name}, SHA-256", str(digest)]
    yield ["config.json, SHA-256", run.config_hash]
    yield ["rows of run.db", run.evidence or f"{MISSING}: the run is of before rows were linked"]
    for path, node in run.nodes.items():
        for part, digest in sorted(node.weights.items()):
            yield [f"{part} of {path}, SHA-256", digest]


def bibtex(runs: Sequence[RunTold], title: str) -> str:
    """Entries for these runs, for rrm and for the paper whose method it is."""
    key = re.sub(r"[^a-z0-9]+", "-", runs[0].title.lower()).strip("-") or "run"
    years = [time.gmtime(run.started).tm_year for run in runs if run.started is not None]
    evidence = "; ".join(f"{run.title}: {run.evidence}" for run in runs[:3] if run.evidence)
    seeds = ", ".join(str(run.seed) for run in runs)
    own = [
        f"@misc{{{key}-runs,", f"  title  = {{{_tex(title)}}},", "  author = {},",
        *([f"  year   = {{{max(years)}}},"] if years else []),
        f"  note   = {{{_tex(f'Trained with rrm {VERSION}, seeds {seeds}. {judged_by(runs)} {evidence}'.strip())}}}",
        "}",
    ]  # fmt: skip
    software = [
        "@software{rrm,", "  title   = {rrm: recursive reward modeling},", "  author  = {{The rrm contributors}},",
        f"  version = {{{VERSION}}},", "  license = {Apache-2.0}", "}",
    ]  # fmt: skip
    return "\n".join([*own, "", *software, "", CITED])


def _tex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", "/"))

