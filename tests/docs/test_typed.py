"""What the pages say to type can be typed: commands that no block runs are those there are, with options they have.

Blocks are run as they stand (`test_docs.py`). What stands in sentences, in blocks that are only shown, on the pages of
results, and in what the code itself says, is looked up here.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from rrm.command.cli import app
from tests.docs.pages import ROOT

SPAN = re.compile(r"`rrm ([^`]{1,300})`")
FENCED = re.compile(r"^```\w*[^\n]*\n(.*?)^```$", re.M | re.S)
LINE = re.compile(r"^(?:    |\$ )(?:[A-Z_]+=\S+ )?rrm ((?:.*\\\n)*.*)$", re.M)
CUT = re.compile(r"(?<!\S)(?:\|\|?|&&?|>{1,2}|2>|#|;)(?!\S).*")
"""What the shell does with the rest of a line."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "examples").glob("*.md"))]  # fmt: skip
SOURCES = [path for room in ("rrm", "tasks", "assistants") for path in sorted((ROOT / room).rglob("*.py"))]
COMMANDS = get_command(app)
MORE = {"--help", "-h", "--version"}


def typed(path: Path) -> list[str]:
    """Commands on a page, without the word rrm."""
    text = path.read_text(encoding="utf-8")
    spans = [" ".join(found.split()) for found in SPAN.findall(text)]
    if path.suffix == ".py":
        return [re.sub(r'" "', "", span) for span in spans]  # a string may be broken over two lines
    shown = FENCED.sub(lambda block: re.sub(r"^", "    ", block[1], flags=re.M), text)
    return [*spans, *(CUT.sub("", line.replace("\\\n", " ")) for line in LINE.findall(shown))]


def wrong(line: str) -> str:
    """What of it cannot be typed; empty: nothing."""
    group: Any = COMMANDS
    try:
        words = [word.strip("[](),.;:") for word in shlex.split(re.sub(r"'s\b", "", line), comments=True)]
    except ValueError:
        words = line.split()
    words = [word for word in words if word]
    while words and hasattr(group, "commands"):
        name = words[0]
        if name.startswith("-") or name in ("...", "COMMAND"):
            return ""
        if name not in group.commands:
            return f"there is no command {name!r}"
        group, words = group.commands[name], words[1:]
    known = {name for one in group.params for name in (*one.opts, *one.secondary_opts)} | MORE
    for word in words:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][\w-]*", option) and option not in known and option[:2] not in known:
            return f"rrm {group.name} has no {option}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_to_type_can_be_typed(page: Path) -> None:
    assert not [f"{line}: {why}" for line in typed(page) if (why := wrong(line))]


def test_what_the_code_says_to_type_can_be_typed() -> None:
    assert not [f"{p.relative_to(ROOT)}: {line}: {why}" for p in SOURCES for line in typed(p) if (why := wrong(line))]


def test_what_cannot_be_typed_is_found() -> None:
    assert wrong("tarin paper") == "there is no command 'tarin'"
    assert wrong("train paper --sede 3") == "rrm train has no --sede"
    assert wrong("model fecth smollm2") == "there is no command 'fecth'"
    assert not wrong("train paper --seed=3 -q") and not wrong("inspect RUN [NODE], [--limit N]")
