"""What helps whoever types: examples under every command's --help, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.markup import escape
from rich.text import Text

from rrm.view.clean_console import CleanConsole

Step = tuple[str, str]
"""A command to type, and what it is for."""


def examples(*lines: str) -> str:
    """What stands under a command's --help, an example a line (an empty line is a new one, to typer)."""
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *map(escape, lines)])


def command(*words: str | Path) -> str:
    """A command of ours as it is typed in a shell."""
    return shlex.join(["rrm", *map(str, words)])


def say_next(steps: Iterable[Step], err: bool = False) -> None:
    """The commands that may come next, each with its purpose."""
    given = list(steps)
    width = max((len(typed) for typed, _ in given), default=0)
    console = CleanConsole(stderr=err, soft_wrap=True)
    for place, (typed, what) in enumerate(given):
        console.print(Text.assemble("next: " if place == 0 else "      ", f"{typed:{width}}  ", (what, "dim")))


def after_training(run: Path, root: str, tree: str, people: bool, truth: bool = False) -> list[Step]:
    """What can be done with a run that has ended. truth: whether its tree knows what is so of its outcomes."""
    told = (
        (command("measure", "human-labels", run), "how far people agree, and what assistance did")
        if people
        else (command("audit", run, "--tree", tree), "test it on new cases, and against an adversary")
    )
    return [
        (command("inspect", run, root), "what was judged, and what the assistants said of it"),
        (command("view", run), "the same as pages"),
        *([(command("measure", "truth", run, "--tree", tree), "where the user was wrong")] * truth),
        told,
        (command("report", run), "a page to read and cite"),
        (command("serve", run, root), "its judge, for other programs"),
        (command("export", run, "-o", "pairs.jsonl"), "the comparisons, for other trainers"),
        (command("certify", run), "what was done, found and not shown, signed"),
    ]


def after_stopping(run: Path, again: str, people: bool) -> list[Step]:
    """What can be done with a run that was interrupted."""
    asked = [(command("label", run), "judge what it waits for, meanwhile")] if people else []
    return [(again, "go on where it was"), *asked, (command("inspect", run), "how far it came")]
