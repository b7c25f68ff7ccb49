"""`rrm import`: what was detected, progress, and what became of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.text import Text

from rrm.command.configuration import with_values
from rrm.core.errors import ConfigError
from rrm.exchange.imports.loading import Format, load
from rrm.exchange.imports.peerread import Dealing
from rrm.exchange.imports.sources import source


def bring(
    where: str, folder: Path, node: str, format: str, split: str, subset: str | None, assignments: Sequence[str],
    skip: bool, console: Console, longest: int | None = None,
) -> None:  # fmt: skip
    """Import, and say in words what was done. Progress goes to stderr, if that is a terminal."""
    kinds: dict[str, Format] = {kind: kind for kind in get_args(Format)}
    if format != "auto" and format not in kinds:
        raise ConfigError(f"--format {format}: give auto, {', '.join(kinds)}")
    values = dict(_assigned(text) for text in assignments)
    dealing = with_values(Dealing(), values, "--set") if values else Dealing()
    opened = source(where, split, subset)
    with Console(stderr=True).status("reading") as status:
        done = load(
            opened, folder, node, kinds[format] if format != "auto" else "auto", dealing, skip,
            lambda what, n: status.update(f"{n} comparisons {what}"), longest,
        )  # fmt: skip
    for line in done.lines():
        console.print(Text(line))


def _assigned(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: write KEY=VALUE, such as group=6")
    return key.strip(), value.strip()
