"""A run in the terminal: the tree in numbers, and a node's comparisons with what the assistants said.

What models wrote goes through `rrm.view.text` and into `rich.text.Text`: it cannot color, move or hide anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rrm.core.clean import visible
from rrm.core.errors import RRMError
from rrm.core.spelling import named_node, nearest
from rrm.store.tags import tags_of
from rrm.view import comparisons as judged
from rrm.view import lists
from rrm.view.accuracy import counted
from rrm.view.attributions import Attributed, attributed
from rrm.view.damage import damaged
from rrm.view.figures import tables_of
from rrm.view.positions import bias_figures
from rrm.view.reading import ESTIMATED, Calls, NodeView, Reader
from rrm.view.rounds import NodeRound, rounds_of
from rrm.view.spoken import ShownRemark, counted_remarks
from rrm.view.text import line
from rrm.view.truth import TrueSide, rightness, true_sides
from rrm.view.truth_tables import told_by_truth
from rrm.view.user_notes import named_note

BARS = "▁▂▃▄▅▆▇█"
STYLES = {"finished": "green", "elsewhere": "green", "tool": "green", "stopped": "red", "waiting": "dim"}
VERDICTS = {"yes": "green", "no": "red", "N/A": "dim"}
WIDE = 110
"""Columns of a terminal that has room for everything."""
WHOLE = 10_000
"""Columns that any table of figures has room in."""
LONGEST = 2000
"""Characters of an outcome shown in the terminal."""


class InspectError(RRMError, ValueError):
    """There is no such way of looking at it."""


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """A course of numbers as bars; means of neighbors where there are more than `width`."""
    if not values:
        return ""
    if len(values) > width:
        edges = [i * len(values) // width for i in range(width + 1)]
        values = [sum(values[i:j]) / (j - i) for i, j in itertools.pairwise(edges)]
    low, high = min(values), max(values)
    return "".join(BARS[min(7, int(8 * (v - low) / (high - low)))] if high > low else BARS[0] for v in values)


def show_tree(run: Reader, console: Console) -> None:
    """The tree with every node's state, comparisons, gain and time, and how many held-out comparisons its reward model
    predicts; agreement where known.

    A narrow terminal gets fewer columns, not cut ones.
    """
    _show_damage(run, console)
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0) if wide else (0, 1, 0, 0))
    table.add_column("task", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("rounds", "comparisons", "held out", "reward", "KL", *(("truth", "time") if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("course of reward", no_wrap=True)
    for node in run.nodes.values():
        p = run.progress(node)
        row: list[Text | str] = [
            Text(f"{'  ' * node.depth}{visible(node.name)}"),
            Text(p.state, style=STYLES.get(p.state, "bold yellow")),
            f"{p.round}/{node.rounds}" if node.finished is None else "",
            f"{p.comparisons:,}" if p.comparisons else "",
            "nothing learned" if p.ignorant else counted(p.accuracy) if p.accuracy else "",
            _gain(p.rewards) + (" undone" if p.kept is False else ""),
            f"{p.kl:z.2f}" if p.kl is not None else "",
        ]
        if wide:
            rewards = [y for _, y in run.curves(node).steps.get("reward", ())]
            row += [_gain(p.truth), f"{p.seconds:.0f}s" if p.seconds else "", sparkline(rewards, 16)]
        table.add_row(*row)
    state = run.state
    tags = ", ".join(tags_of(run.folder))
    told = (state, STYLES.get(state, "bold yellow"))
    console.print(Text.assemble((visible(run.title), "bold"), "  ", told, "  ", (tags, "dim")))
    console.print(table)
    if any((run.progress(node).kl or 0) < 0 for node in run.nodes.values()):
        console.print(Text(ESTIMATED, style="dim"))
    if run.calls:
        _show_calls(run.calls, console)
    if (found := run.report.get("agreement")) is not None:
        between = f"[{found['low']:.2f}, {found['high']:.2f}]"
        console.print(Text(f"user agrees with the truth: {found['mean']:.2f} {between}"))


def _show_damage(run: Reader, console: Console) -> None:
    """What beside the run cannot be read."""
    for told in damaged(run.folder, str(run.folder)):
        console.print(Text(visible(told), style="yellow"))


def _show_calls(calls: Sequence[Calls], console: Console) -> None:
    """What was asked of other people's models, and what it cost."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("asked", overflow="fold")
    table.add_column("for", overflow="fold")
    for name in ("calls", "retries", "tokens in", "out", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for c in calls:
        cost = "" if c.cost is None else f"{c.cost:.4f}" + (" +" if c.unpriced else "")
        counts = (_count(value) for value in (c.calls, c.retries, c.prompt_tokens, c.completion_tokens))
        served = "" if c.served in ("", c.endpoint.removeprefix("openai:").rpartition("@")[0]) else f" ({c.served})"
        table.add_row(Text(visible(c.endpoint + served)), Text(visible(f"{c.who} {c.task}")), *counts, cost)
    console.print(table)


def _show_rightness(run: Reader, node: NodeView, console: Console) -> None:
    """How right user, reward model and assistants are, where `rrm measure truth` knows."""
    for one in told_by_truth(rightness(run, node.path, seconds=30.0) or ()):
        console.print(one)


def _show_positions(run: Reader, node: NodeView, console: Console) -> None:
    """How much the order in which outcomes are shown moves who judged, where that is on record."""
    if not (found := bias_figures(run, node.path, seconds=30.0)):
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("position bias", overflow="fold")
    table.add_column("", justify="right")
    for what, known in found:
        table.add_row(Text(visible(what)), str(known))
    console.print(table)


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def show_node(
    run: Reader, path: str, console: Console, show: str = "all", text: str = "", after: int = 0, limit: int = 5
) -> None:
    """A node's courses, and a page of its comparisons. Raises `NodeError` if there is no such node, `InspectError` if
    there is no such filter."""
    node = _named(run, path)
    kinds = lists.filters_of(run)
    if show not in kinds:
        lacking = {"rrm measure truth": lists.BY_TRUTH, "a user who is asked in both orders": lists.BY_POSITION}
        hints = [f"; {', '.join(some)}: with {what}" for what, some in lacking.items() if not {*some} <= {*kinds}]
        known = [*kinds, *(name for some in lacking.values() for name in some if name not in kinds)]
        near = "" if show in known else nearest(show, known)
        told = f"{', '.join(kinds)}{''.join(hints)}"
        raise InspectError(f"--show {show}: no such filter here{near}{' One' if near else '; one'} of {told}")
    _show_damage(run, console)
    p = run.progress(node)
    console.print(Text.assemble((visible(node.path), "bold"), "  ", (p.state, STYLES.get(p.state, "bold yellow"))))
    if node.instruction:
        console.print(Text(line(node.instruction), style="dim"))
    _show_courses(run, node, console)
    rounds = rounds_of(run, node)
    _show_rounds(rounds, console)
    if any((one.kl or 0) < 0 for one in rounds):
        console.print(Text(ESTIMATED, style="dim"))
    if counts := counted_remarks(run, node.path):
        told = ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
        console.print(Text(f"said of single outcomes: {told}", style="dim"))
    _show_rightness(run, node, console)
    _show_positions(run, node, console)
    found = lists.find(run, node.path, lists.Query(show, text), after, limit=limit)
    for one in found.lines:
        comparison = judged.comparison(run, one.seq, LONGEST)
        assert comparison is not None  # append-only
        blobs = (comparison.a.blob, comparison.b.blob)
        truth = true_sides(run, node.path, comparison.case_blob, blobs)
        show_comparison(comparison, console, attributed(run, node.path, comparison.pair), truth)
    if not found.lines:
        console.print(Text("No such comparison." if found.complete else "None so far."))
    if found.after is not None:
        console.print(Text(f"\nMore: --after {found.after}", style="dim"))


def show_challenges(run: Reader, path: str | None, console: Console) -> None:
    """The five figures of a node, or of every node that was trained in this run (`rrm.view.five_figures`). Raises
    `NodeError` if there is no such node."""
    _show_damage(run, console)
    for node in chosen(run, path):
        console.print(Text.assemble((visible(node.path), "bold"), "  the five challenges of reward modeling"))
        for one in tables_of(run, node):
            console.print(Rule(Text(one.title), align="left", style="dim"))
            console.print(Text(one.reading, style="dim"))
            table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
            for i, name in enumerate(one.columns):
                table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
            for row in one.rows:
                table.add_row(*(Text(visible(cell)) for cell in row))
            width = console.measure(table, options=console.options.update(width=WHOLE)).maximum
            if one.rows and width <= console.width:
                console.print(table)
            elif one.rows:  # a narrow terminal gets a list, and not cut numbers
                for first, *rest in one.rows:
                    told = "; ".join(f"{name} {cell}" for name, cell in zip(one.columns[1:], rest, strict=True))
                    console.print(Text(visible(f"{one.columns[0]} {first}: {told}".strip())))
            for note in one.notes:
                console.print(Text(visible(note), style="dim"))
        console.print()


def chosen(run: Reader, path: str | None) -> list[NodeView]:
    """The node of a path, or of an end of one, or all that are trained in this run. Raises `NodeError` if there is no
    such node."""
    return [_named(run, path)] if path is not None else [node for node in run.nodes.values() if node.finished is None]


def show_comparison(
    c: judged.ShownComparison, console: Console, moved: Attributed | None = None,
    truth: tuple[TrueSide, TrueSide] | None = None,
) -> None:  # fmt: skip
    """Both outcomes side by side, under each what the assistants answered; what was truly better and what the user
    noted, where that is known; and what moved the reward model."""
    verdict = judged.verdict(c.preference)
    said = Text.assemble("user: ", (verdict, "bold"))
    if c.scores:
        _, margin, std, held = c.scores[-1]
        which = f"{'A' if margin > 0 else 'B'} by {abs(margin):.2f} ± {std:.2f}" if margin else "neither"
        said.append(f"   reward model: {which}")
        said.append(" (held out)" if held else "")
    said.append(f"   {line(c.user, 60)}, {c.seconds:.1f} s, attention {c.attention}", style="dim")
    said.append("" if c.shown else "   judged without assistance", style="dim")
    said.append("   stale" if c.stale else "", style="yellow")
    what = f"comparison {c.seq}, round {judged.nth(c.round)}" + (", whether its improvement stands" if c.accept else "")
    if c.part is not None:
        what += f", parts of outcomes{f': {line(c.part, 60)}' if c.part else ''}"
    console.print(Rule(Text(what), align="left", style="dim"))
    console.print(said)
    if truth is not None:
        console.print(_truth(truth, c.preference))
    noted = named_note(c.user, c.note)
    for note in (line(noted.text, 200), "; ".join(f"{name} {value}" for name, value in noted.figures)):
        if note:
            console.print(Text(f"note: {note}", style="dim"))
    console.print(Text(_cut(c.case, c.case_cut), style="dim"))
    table = Table(box=None, pad_edge=False, expand=True, padding=(0, 2, 0, 0), header_style="bold")
    for name in "AB":
        table.add_column(f"{name} (preferred)" if verdict == name else name, ratio=1, overflow="fold")
    table.add_row(*(_side(side) for side in (c.a, c.b)))
    table.add_row(*(_answers(side.answers) for side in (c.a, c.b)))
    if c.a.remarks or c.b.remarks:
        table.add_row(*(_remarks(side.remarks) for side in (c.a, c.b)))
    console.print(table)
    if moved is not None:
        show_moved(moved, console)


def show_moved(moved: Attributed, console: Console, pieces: int = 0) -> None:
    """What the difference of two scores is made of, as signed bars, and that many of its pieces, the largest first."""
    console.print(Text(f"what moved the reward model: A less B is {moved.difference:+z.2f} standard deviations", "dim"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for bar in moved.bars:
        long = "▇" * round(12 * bar.share)
        drawn = f"{long if bar.value < 0 else '':>12}│{long if bar.value >= 0 else '':<12}"
        table.add_row(Text(visible(bar.name)), f"{bar.value:+z.2f}", Text(drawn))
    console.print(table)
    for one in moved.pieces[:pieces]:
        facts = f"  ({line(', '.join(one.facts))})" if one.facts else ""
        console.print(Text(f"  {one.worth:+z.2f}  {line(one.words, 160)}{facts}"))


def _truth(sides: tuple[TrueSide, TrueSide], preference: float | None) -> Text:
    """What is so: "truth: A is better (0.33 against 0.00); A fails filter; B fails filter, runs"; red where the user
    prefers the other one."""
    better = sides[0].score - sides[1].score
    scores = ["cannot be read" if side.score < 0 else f"{side.score:.2f}" for side in sides]
    said = f"{'A' if better > 0 else 'B'} is better" if better else "neither is better"
    text = Text.assemble("truth: ", (said, "bold"), f" ({' against '.join(scores)})")
    for name, side in zip("AB", sides, strict=True):
        if lacking := [fact for fact, holds in side.holds.items() if not holds]:
            text.append(f"; {name} fails {line(', '.join(lacking), 200)}")
    if preference is not None and (preference - 0.5) * better < 0:
        text.append("   the user prefers the other one", style="red")
    return text


def _side(side: judged.Side) -> Text:
    """An outcome; of a part, between ⟦ and ⟧, what it was cut from stands around it: who judged did not see that."""
    before, after = side.around
    text = _cut(side.text, side.cut)
    if not (before or after):
        return Text(text)
    return Text.assemble((f"{visible(before)}⟦", "dim"), text, (f"⟧{visible(after)}", "dim"))


def _answers(answers: Sequence[judged.ShownAnswer], depth: int = 0) -> Text:
    text = Text()
    for one in answers:
        text.append(f"{'  ' * depth}{visible(one.name)} ", style="bold")
        text.append(one.verdict, style=VERDICTS[one.verdict])
        text.append(f" {visible(', '.join(one.unsaid))}" if one.unsaid else "", style="red")
        text.append("" if one.confidence is None else f" ranks at {one.confidence:.0%}", style="dim")
        text.append(f"  {line(one.said, 120)}\n" if one.said else "\n", style="dim")
        text.append_text(_answers(one.below, depth + 1))
    return text


def _remarks(remarks: Sequence[ShownRemark]) -> Text:
    text = Text()
    for one in remarks:
        text.append("user" if not one.by else line(one.by, 40), style="bold")
        text.append(f": {one.said}")
        for more in (one.better, one.text):
            text.append(f": {_cut(more, one.cut)}" if more else "", style="dim")
        text.append("\n")
    return text


def _show_courses(run: Reader, node: NodeView, console: Console) -> None:
    curves = run.curves(node)
    rows = [
        ("reward", curves.steps.get("reward", ())), ("KL", curves.steps.get("kl", ())),
        ("disagreement", curves.rounds.get("disagreement", ())), ("true score", curves.rounds.get("truth", ())),
    ]  # fmt: skip
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, series in rows:
        if series:
            values = [y for _, y in series]
            table.add_row(Text(name, style="dim"), sparkline(values), f"{values[0]:z.2f} → {values[-1]:z.2f}")
    console.print(table)


def _show_rounds(rounds: Sequence[NodeRound], console: Console) -> None:
    """What was learned in each round, and what the user said of its improvement."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("round", "comparisons", "held out", "reward", "KL"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("improvement", overflow="fold")
    for one in rounds:
        accepted = "" if one.accepted is None else f"{one.accepted.preferred} prefer it: "
        verdict = "" if one.accepted is None else "kept" if one.accepted.kept else "undone"
        if one.undone:
            accepted, verdict = "it earns less: ", "undone"
        by = f" {one.accuracy.by}" if one.accuracy is not None and one.accuracy.by and one.accuracy.enough else ""
        parts = "" if one.parts is None else f", parts {counted(one.parts)}"
        table.add_row(
            judged.nth(one.round), str(one.comparisons), f"{counted(one.accuracy)}{by}{parts}", _gain(one.rewards),
            "" if one.kl is None else f"{one.kl:z.2f}",
            Text.assemble(accepted, (verdict, "red" if verdict == "undone" else "")),
        )  # fmt: skip
    if rounds:
        console.print(table)
    for one in rounds:
        if one.ignorant:
            console.print(Text(f"round {judged.nth(one.round)}: {one.ignorant}", style="yellow"))


def _named(run: Reader, path: str) -> NodeView:
    return run.nodes[named_node(path, run.nodes, run.title)]


def _cut(text: str, cut: bool) -> str:
    return visible(text) + (" … (it goes on)" if cut else "")


def _gain(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f"{pair[0]:z.2f} → {pair[1]:z.2f}"
