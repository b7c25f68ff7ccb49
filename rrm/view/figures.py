"""The five figures of a node (`rrm.view.five_figures`) as tables of text, for the terminal and for the pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rrm.view.challenge_records import ActedOut, Challenges, Convergence, Met, Tampered, Unknown
from rrm.view.comparisons import nth
from rrm.view.five_figures import challenges_of
from rrm.view.reading import ESTIMATED, NodeView, Reader
from rrm.view.truth import untold

T = TypeVar("T")


@dataclass(frozen=True)
class FigureTable:
    """One figure: what its numbers are, round by round, and why those that are not known are not."""

    title: str
    reading: str
    """How it is read, in a sentence or two."""
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str]


def tables_of(run: Reader, node: NodeView) -> list[FigureTable]:
    """The five figures of a node."""
    found = challenges_of(run, node, untrue=untold(run))
    return [_amount(found), _distribution(found), _hacking(found), _unacceptable(found), _gap(found)]


class _Cells:
    """Makes cells of values, and gathers the reasons of those that are not known."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def __call__(self, value: object) -> str:
        if isinstance(value, Unknown):
            return f"not known ({self.reasons.setdefault(value.why, len(self.reasons) + 1)})"
        if isinstance(value, tuple):
            return " → ".join(self(one) for one in value)
        if value is None:
            return "–"
        return f"{value:z.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    def notes(self) -> list[str]:
        return [f"({number}) {why}" for why, number in self.reasons.items()]


def _table(
    title: str, reading: str, columns: Sequence[str], found: Sequence[T] | Unknown,
    row: Callable[[_Cells, T], Sequence[str]], more: Callable[[_Cells], Sequence[str]] = lambda cells: (),
) -> FigureTable:  # fmt: skip
    cells = _Cells()
    if isinstance(found, Unknown):
        return FigureTable(title, reading, (), (), [str(found), *more(cells)])
    rows = [tuple(row(cells, one)) for one in found]
    return FigureTable(title, reading, tuple(columns), rows, [*cells.notes(), *more(cells)])


def _kept(kept: bool | None) -> str:
    return "–" if kept is None else "kept" if kept else "undone"


def _when(round: int) -> str:
    return nth(round) if round >= 0 else "start"


def _amount(found: Challenges) -> FigureTable:
    return _table(
        "Amount of feedback",
        "What was spent by the end of each round, in brackets with the tree below; and what it bought.",
        ("round", "judgements", "attention", "seconds", "new agent preferred", "improvement", "true score"),
        found.amount,
        lambda cell, one: (
            _when(one.round), f"{one.judgements:,} ({one.judgements_below:,})",
            f"{one.attention:,} ({one.attention_below:,})", f"{one.seconds:,.0f}", cell(one.preferred),
            _kept(one.kept), cell(one.truth),
        ),
    )  # fmt: skip


def _distribution(found: Challenges) -> FigureTable:
    return _table(
        "Feedback distribution",
        "Share of the user's preferences that a round's reward model predicts: held out from its fit, and judged after "
        "it, of outcomes of the agent that was optimized against it.",
        ("round", "held out", "does it stand?", "next round's", "a round ahead", "it expected", "drop"),
        found.distribution,
        lambda cell, one: (
            "all" if one.round is None else nth(one.round), cell(one.own), cell(one.accept), cell(one.next),
            cell(one.ahead), cell(one.expected), cell(one.drop),
        ),
    )  # fmt: skip


def _hacking(found: Challenges) -> FigureTable:
    below = not isinstance(found.gaming, Unknown) and any((one.kl or 0) < 0 for one in found.gaming)
    return _table(
        "Reward hacking",
        "Gaming: the learned reward rises, and the user does not prefer the new agent as often as the reward model "
        "says (gap above 0).",
        ("round", "learned reward", "KL", "predicted", "user prefers it", "gap", "true score", "improvement"),
        found.gaming,
        lambda cell, one: (
            nth(one.round), cell(one.rewards), cell(one.kl), cell(one.predicted), cell(one.preferred), cell(one.gap),
            cell(one.truth), _kept(one.kept),
        ),
        lambda cell: [_tampering(found.tampering), *([ESTIMATED] if below else [])],
    )  # fmt: skip


def _tampering(found: Tampered | Unknown) -> str:
    if isinstance(found, Unknown):
        return f"Tampering: {found}."

    def met(one: Met | Unknown) -> str:
        return str(one) if isinstance(one, Unknown) else f"{one.k:,} of {one.n:,} (chance at most {_small(one)})"

    return (
        f"Tampering: what judges see was changed in {met(found.judged)} episodes sampled to be judged, in the last "
        f"round in {met(found.last)}; of the policy's own steps in {met(found.own)}."
    )


def _unacceptable(found: Challenges) -> FigureTable:
    one = found.unacceptable
    last = f"last round asked ({one.asked})" if one.asked else "last round"
    counted: list[tuple[str, Met | Unknown]] = [("all rounds", one.all), (last, one.last)]

    def row(cell: _Cells, named: tuple[str, Met | Unknown]) -> tuple[str, ...]:
        name, met = named
        return (name, cell(met), "–") if isinstance(met, Unknown) else (name, f"{met.k:,} of {met.n:,}", _small(met))

    ends = ", ".join(f"{name} {first:z.2f} → {last:z.2f}" for name, (first, last) in one.ends.items())
    said = f"Said by the environment at its episodes' ends, means at the first and last step: {ends}." if ends else ""
    return _table(
        "Unacceptable outcomes",
        "Outcomes sampled in training without the task's form, and the 95 % upper bound of their chance.",
        ("", "malformed", "chance at most"), counted, row,
        lambda cell: [*([said] if said else []), *_acted_out(one.acted)],
    )  # fmt: skip


def _acted_out(acted: Sequence[ActedOut] | Unknown) -> list[str]:
    """What it did in its environment, a line in all and one by what it was for."""
    if isinstance(acted, Unknown):
        return []
    whole, *parts = acted
    harm, imagined = whole.harm, f", and {whole.imagined:,} imagined" if whole.imagined else ""
    met = f"unacceptable {harm}"
    if not isinstance(harm, Unknown):
        met = f"{harm.k:,} unacceptable, chance at most {_small(harm)}"
    lines = [f"Acted out in training: {whole.episodes:,} episodes of {whole.steps:,} steps{imagined}; {met}."]
    each = [
        f"{one.what} {one.episodes:,}" + ("" if isinstance(one.harm, Unknown) else f" ({one.harm.k:,} unacceptable)")
        for one in parts if one.episodes
    ]  # fmt: skip
    lines += [f"What for: {', '.join(each)}."] if each else []
    if whole.fallbacks is None:
        return lines
    steps = [f"{one.what} {one.fallbacks:,} of {one.steps:,}" for one in parts if one.fallbacks is not None]
    return [*lines, f"Steps in which it fell back on a safe action: {whole.fallbacks:,} ({', '.join(steps)})."]


def _small(met: Met) -> str:
    return f"{met.most:.2%}"


def _gap(found: Challenges) -> FigureTable:
    return _table(
        "Reward-result gap",
        "How far the best of a group's judged outcomes is above their mean, by the reward model, in standard deviations"
        " of reward within a case; before the round's optimization.",
        ("round", "best above mean", "outcomes of a group"),
        found.gap,
        lambda cell, one: (nth(one.round), cell(one.gap), f"{one.outcomes:.1f}"),
        lambda cell: [_converged(found.convergence)],
    )


def _converged(one: Convergence | Unknown) -> str:
    if isinstance(one, Unknown):
        return f"Convergence {one}."
    asked = "" if one.asked is None else f" of {one.asked}"
    spread = "" if one.spread is None else f"; spread of reward within a group at its end {one.spread:.2f}"
    limit = "" if one.limit is None else f" (limit {one.limit:g})"
    kl = "" if one.kl is None else f", at a KL of {one.kl:.2f}{limit}"
    ended = "stopped by the KL limit" if one.stopped else "not stopped by the KL limit"
    return (
        f"Convergence: the last optimization (round {nth(one.round)}) gained {one.gain:+z.2f} in {one.steps}{asked} "
        f"steps, {ended}{kl}{spread}."
    )

