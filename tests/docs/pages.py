"""The code in the documentation, as it stands there: blocks by page, in order, with what they need.

A block is run unless an HTML comment on the line above says otherwise:

    <!-- needs: smollm2 -->         skipped where that is missing (see `MISSING`)
    <!-- not run: why -->           shown only; the reason is for the reader of the source

A block with a title (```python title="mytree.py") is the file of that name, which later blocks use. The lines of a
```text block must stand in what the block before it printed.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(
    r"(?:^<!-- (?P<what>needs|not run): (?P<rest>.+?) -->\n+)?"
    r"^```(?P<lang>\w+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<code>.*?)^```$",
    re.M | re.S,
)
LANGUAGES = ("python", "sh", "bash", "text")
"""What is run or compared. Other blocks (json, ...) are only shown."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    title: str = ""
    needs: tuple[str, ...] = ()
    not_run: str = ""


def pages() -> list[Path]:
    """The pages a person wrote: README and docs/, without the results."""
    return [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "results" not in p.parts)]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        if match["lang"] in LANGUAGES or match["title"]:
            line = text.count("\n", 0, match.start("code")) + 1
            needs = tuple(re.split(r",\s*", match["rest"])) if match["what"] == "needs" else ()
            not_run = match["rest"] if match["what"] == "not run" else ""
            found.append(Block(page, line, match["lang"], match["code"], match["title"] or "", needs, not_run))
    return found


@cache
def missing(need: str) -> str:
    """Why a need is not met here; empty if it is."""
    if need == "smollm2":
        from rrm.models.fetching import located

        return "" if located("smollm2") else "the model smollm2 is not here: rrm model fetch smollm2"
    if need.startswith("module "):
        name = need.removeprefix("module ")
        return "" if importlib.util.find_spec(name) else f"{name} is not installed"
    raise ValueError(f"a block needs {need!r}, which tests/docs/pages.py does not know")
