"""`rrm import`: what was detected, progress, and what became of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.text import Text

from rrm.command.configuration import with_values
from rrm.core.errors import ConfigError
from rrm.core.spelling import nearest
from rrm.exchange.imports import steps
from rrm.exchange.imports.alone import WHAT, Alone, What, is_ours
from rrm.exchange.imports.bringing import load_remarks
from rrm.exchange.imports.converting import Format
from rrm.exchange.imports.lengths import Limit, TooLong
from rrm.exchange.imports.loading import load
from rrm.exchange.imports.mapped import Columns
from rrm.exchange.imports.peerread import Dealing
from rrm.exchange.imports.sources import Source, source


@dataclass(frozen=True)
class Options:
    """What the command line says of the rows, as it says it."""

    format: str = "auto"
    split: str | None = None
    subset: str | None = None
    assignments: Sequence[str] = ()
    """For PeerRead's papers: KEY=VALUE."""
    skip: bool = False
    columns: Sequence[str] = ()
    """KEY=COLUMN."""
    ignore: Sequence[str] = ()
    longest: int | None = None
    """In characters."""
    model: str | None = None
    """Whose context is the limit."""
    too_long: str = "skip"
    question: str = steps.QUESTION
    what: str = "auto"
    """What rows say: comparisons, or something of one outcome; auto: remarks, if `rrm export` wrote such, and else
    comparisons."""
    levels: str | None = None


def bring(where: str, folder: Path, node: str, options: Options, console: Console) -> None:
    """Import, and say in words what was done. Progress goes to stderr, if that is a terminal."""
    opened = source(where, options.split, options.subset)
    if (what := _what(options.what, opened)) is not None:
        _bring_remarks(opened, folder, node, what, options, console)
        return
    if options.levels is not None:
        raise ConfigError("--levels goes with --as ratings")
    kinds: dict[str, Format] = {kind: kind for kind in get_args(Format)}
    if options.format != "auto" and options.format not in kinds:
        raise ConfigError(f"--format {options.format}: give auto, {', '.join(kinds)}")
    values = dict(_assigned(text) for text in options.assignments)
    dealing = with_values(Dealing(), values, "--set") if values else Dealing()
    columns = Columns.parse(options.columns) if options.columns else None
    limit = _limit(options)
    with Console(stderr=True).status("reading") as status:
        done = load(
            opened, folder, node, kinds[options.format] if options.format != "auto" else "auto", dealing, options.skip,
            lambda what, n: status.update(f"{n} comparisons {what}"), limit, columns, options.ignore, options.question,
        )  # fmt: skip
    for line in done.lines():
        console.print(Text(line))


def _what(name: str, opened: Source) -> What | None:
    """What rows say of one outcome; None: they compare. Raises `ConfigError` for another name."""
    known: Mapping[str, What] = {one: one for one in WHAT}
    if name == "auto":
        first = next(iter(opened.rows()), None)
        return "remarks" if first is not None and is_ours(first.values) else None
    if name == "comparisons":
        return None
    if name not in known:
        names = ("comparisons", *known)
        listed = f"; there are {', '.join(names)}"
        raise ConfigError(f"--as {name}: rows say no such thing{nearest(name, names) or listed}")
    return known[name]


def _bring_remarks(
    opened: Source, folder: Path, node: str, what: What, options: Options, console: Console
) -> None:
    beside = {
        "--format": options.format != "auto", "--set": bool(options.assignments),
        "--question": options.question != steps.QUESTION, "--too-long cut": options.too_long == "cut",
    }  # fmt: skip
    if wrong := [name for name, given in beside.items() if given]:
        raise ConfigError(f"{wrong[0]} is of comparisons, not of {what}; leave it out")
    how = Alone.parse(what, options.columns, options.levels)
    limit = _limit(options)
    with Console(stderr=True).status("reading") as status:
        done = load_remarks(
            opened, folder, how, node, options.skip, lambda what, n: status.update(f"{n} remarks {what}"), limit,
            options.ignore,
        )  # fmt: skip
    for line in done.lines():
        console.print(Text(line))


def _limit(options: Options) -> Limit | None:
    """The longest row that is imported as it is; None: any is. Raises `ConfigError` if it is said in two ways."""
    known: Mapping[str, TooLong] = {one: one for one in get_args(TooLong)}
    if options.too_long not in known:
        raise ConfigError(f"--too-long {options.too_long}: give {', '.join(known)}")
    then = known[options.too_long]
    if options.longest is not None and options.model is not None:
        raise ConfigError("--longest and --model both say what is too long; give one of them")
    if options.longest is not None:
        return Limit(options.longest, then)
    if options.model is None:
        if then != "skip":
            raise ConfigError(f"--too-long {then}: say what is, --longest CHARACTERS or --model NAME")
        return None
    from rrm.models.backbone import Backbone  # late: torch takes seconds

    backbone = Backbone.load(options.model)
    return Limit(
        backbone.limit, then, f"tokens of {options.model}",
        lambda text: len(backbone.render(text)), lambda text: len(backbone.encode(text)) + 1,  # and that it ends
    )  # fmt: skip


def _assigned(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: write KEY=VALUE, such as group=6")
    return key.strip(), value.strip()
