"""Outcomes of a finished run, drawn at random, with what the assistants said of them and what the user preferred.

    python scripts/outcomes.py runs/novel --draw 2 --seed 0
    python scripts/outcomes.py runs/novel --page docs/results/text_trees.md

Of the first round: pairs as they were judged, both by the agent as it started. Of the last whose improvement was
judged: the trained agent's outcome against that of the agent before it. The draw hangs on the seed and the run alone;
nothing is picked or left out, and texts are shown as they are, control characters as signs.

With --page the text replaces what stands between the page's lines `<!-- outcomes: NAME -->` and
`<!-- end of outcomes: NAME -->`, where NAME is the run's folder; a page without them gets it at its end.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from rrm.core.clean import visible
from rrm.core.errors import RRMError
from rrm.core.judgements import improved_first
from rrm.core.records import Case, digest
from rrm.store.files import write_atomically
from rrm.view.comparisons import ShownAnswer, ShownComparison, Side, comparison, nth, verdict
from rrm.view.lists import Query, find
from rrm.view.reading import Reader

MOST = 10**9
"""More comparisons than a run has."""


def drawn(run: Reader, task: str, accept: bool, n: int, seed: int) -> tuple[list[ShownComparison], int]:
    """`n` comparisons of a task drawn by `seed`, in the order they were judged, and of how many.

    accept: those that decided whether the last improvement that was judged stands; else those that the first round's
    reward model was fitted to.
    """
    lines = find(run, task, Query("accept" if accept else "all"), limit=MOST, seconds=float("inf")).lines
    rounds = [line.round for line in lines]
    wanted = max(rounds, default=0) if accept else min((r for r in rounds if r >= 0), default=0)
    numbers = [line.seq for line in lines if line.accept == accept and line.round == wanted]
    chosen = random.Random(digest("outcomes", seed, task, accept)).sample(numbers, min(n, len(numbers)))
    found = [comparison(run, number, MOST) for number in sorted(chosen)]
    return [one for one in found if one is not None], len(numbers)


def case_of(run: Reader, one: ShownComparison) -> Case:
    """The case of a comparison, as the run keeps it."""
    (body,) = run.row("SELECT body FROM blobs WHERE id = ?", (one.case_blob,))
    return TypeAdapter(Case).validate_json(body)


def section(run: Reader, task: str, n: int, seed: int) -> Iterator[str]:
    """The lines of the page. Raises `RRMError` if the run is not finished."""
    if not run.done:
        raise RRMError(f"{run.folder} is not finished ({run.state}): what it came to cannot be shown; train it on")
    for accept in (False, True):
        found, of = drawn(run, task, accept, n, seed)
        when = "As it started"
        if accept:
            kept = [values["kept"] for values in run.metrics(task, ("accept",)).values() if "kept" in values]
            became = "kept" if kept[-1:] == [1.0] else "undone"
            when = f"Trained, against the agent before; the improvement was {became}"
        yield f"**{when}** ({len(found)} of {of} pairs, drawn by seed {seed})"
        yield ""
        for one in found:
            yield from _pair(run, one)


def _pair(run: Reader, one: ShownComparison) -> Iterator[str]:
    names = {"A": "A", "B": "B"}
    if one.accept:
        key = digest(run.config["seed"], one.task, one.round)
        names = dict(zip("AB", ("A (trained)", "B (before)"), strict=True))
        if not improved_first(key, case_of(run, one).id):
            names = dict(zip("AB", ("A (before)", "B (trained)"), strict=True))
    said = verdict(one.preference)
    yield f"Comparison {one.seq} of round {nth(one.round)}; the user's judgement: {names.get(said, said)}."
    yield ""
    yield from _verbatim("asked", one.case)
    for name, side in ((names["A"], one.a), (names["B"], one.b)):
        yield from _verbatim(name, side.text)
        yield from _assistance(side)


def _assistance(side: Side) -> Iterator[str]:
    lines = list(_answers(side.answers))
    yield from _verbatim("what was said of it", "\n".join(lines) if lines else "nothing")


def _answers(answers: Sequence[ShownAnswer], depth: int = 0) -> Iterator[str]:
    for one in answers:
        first, *rest = (one.text or one.verdict).splitlines() or [one.verdict]
        yield f"{'  ' * depth}{one.name}: {first}"
        yield from (f"{'  ' * depth}  {line}" for line in rest)
        yield from _answers(one.below, depth + 1)


def _verbatim(title: str, text: str) -> Iterator[str]:
    """A text as an indented block: nothing in it is markup, nor a line that a page is renewed by."""
    yield f"{title}:"
    yield ""
    yield from (f"    {line}".rstrip() for line in visible(text).splitlines() or ["(empty)"])
    yield ""


def renewed(page: str, name: str, text: str) -> str:
    """The page with the text between its marks, or, if it has none, at its end. Raises `RRMError` if one mark is
    missing."""
    begin, end = f"<!-- outcomes: {name} -->", f"<!-- end of outcomes: {name} -->"
    lines = page.rstrip("\n").split("\n")
    if (begin in lines) != (end in lines):
        raise RRMError(f"the page has only one of {begin} and {end}; put the other back, or take both away")
    block = [begin, "", *text.rstrip("\n").split("\n"), "", end]
    if begin in lines:
        lines[lines.index(begin) : lines.index(end) + 1] = block
    else:
        lines += ["", *block]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the section, or renew a page with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--task", help="by its path; default the root")
    parser.add_argument("--draw", type=int, default=2, help="pairs of the first round, and of the last")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    parser.add_argument("--page", type=Path, help="the page to renew; without, the text is printed")
    args = parser.parse_args()
    try:
        with Reader(args.run) as run:
            text = "\n".join(section(run, args.task or run.root, args.draw, args.seed))
        if args.page is None:
            print(text)
        else:
            page = args.page.read_text(encoding="utf-8")
            write_atomically(args.page, renewed(page, args.run.resolve().name, text).encode())
    except RRMError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
