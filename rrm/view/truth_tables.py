"""How right user, reward model and assistants of a node are (`rrm.view.truth.rightness`), as a table for the terminal
that any of 80 columns has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rrm.core.clean import visible
from rrm.view.truth import Rightness

MEANT = {
    "holds": ("false alarms", "a false alarm: it says that something does not hold, and it does"),
    "fails": ("missed", "missed: it says that something holds, and it does not"),
}
"""Of what assistants say about what holds, and about what does not: what the wrong ones are called, and are."""
TIES = "ties: it sees no difference, and one is truly better"


def told_by_truth(found: Sequence[Rightness], title: str = "by the truth") -> Iterator[RenderableType]:
    """A table, and what its words mean; nothing of nothing."""
    if found:
        yield table_of(found, title)
        yield from (Text(words, style="dim") for words in meanings(found))


def table_of(found: Sequence[Rightness], title: str) -> Table:
    """The table alone, with that above the names."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    newest = next((one.who[at:] for one in found if (at := one.who.find(" (the newest ")) >= 0), "")
    table.add_column(Text(visible(title + newest)), overflow="fold")
    for name in ("right", "wrong", "ties"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        who = one.who.removesuffix(newest)
        if one.what not in MEANT:
            table.add_row(Text(visible(who)), str(one.share or "–"), f"{one.wrong:,}", f"{one.ties:,}")
            continue
        name, _, about = who.rpartition(", about ")
        if one.what == "holds":  # its two rows are below its name: beside it there is no room for both
            table.add_row(Text(visible(name)))
        table.add_row(f"  {about}", str(one.share or "–"), f"{one.wrong:,} {MEANT[one.what][0]}")
    return table


def meanings(found: Sequence[Rightness]) -> list[str]:
    """What the words of such tables mean, and which filters list what is wrong."""
    meant = [words for what, (_, words) in MEANT.items() if any(one.what == what for one in found)]
    listed = dict.fromkeys(name for one in found for name in (one.show, one.ties_show) if name)
    if any(not one.node for one in found):
        meant.append(TIES)
    if listed:
        meant.append(f"to list them: --show {', '.join(listed)}")
    return meant
