"""A document made of few kinds of blocks, as Markdown and as one HTML file that needs nothing beside it.

What models and people wrote is shown as it is, and can neither hide nor act: no markup of theirs is read as such.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rrm.core.clean import visible


@dataclass(frozen=True)
class Title:
    """A heading. level: from 1."""

    level: int
    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph; `strong`: one that nobody shall overlook."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Lines:
    """A list."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Cells:
    """A table."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Verbatim:
    """A text as it is: a command, an example. `what` says what it is; empty for nothing."""

    text: str
    what: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure that lies beside the Markdown page as FILE.svg and FILE.pdf."""

    file: str
    caption: str


Block = Title | Words | Lines | Cells | Verbatim | Drawing


@dataclass(frozen=True)
class Document:
    """A document. svgs: a drawing's file -> its SVG."""

    blocks: Sequence[Block]
    svgs: Mapping[str, bytes] = field(default_factory=dict)


# --- Markdown ----------------------------------------------------------------------------------------


def as_md(paper: Document) -> str:
    """As Markdown."""
    return "\n\n".join(_md(block) for block in paper.blocks if not _empty(block)) + "\n"


def _empty(block: Block) -> bool:
    return (isinstance(block, Lines) and not block.lines) or (isinstance(block, Cells) and not block.rows)


def _md(block: Block) -> str:
    match block:
        case Title(level, text):
            return f"{'#' * level} {_plain(text)}"
        case Words(text, strong):
            return f"**{_plain(text)}**" if strong else _plain(text)
        case Lines(lines):
            return "\n".join(f"- {_plain(line)}" for line in lines)
        case Cells(head, rows):
            table = [head, ["---"] * len(head), *rows]
            body = ["| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in table]
            return "\n".join(body)
        case Verbatim(text, what):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return (f"{_plain(what)}:\n\n" if what else "") + f"{fence}text\n{visible(text)}\n{fence}"
        case Drawing(file, caption):
            return f"![{_plain(caption)}]({file}.svg)\n\n{_plain(caption)} ([PDF]({file}.pdf))"


def _plain(text: str) -> str:
    """One line in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", visible(" ".join(text.split())))


# --- HTML --------------------------------------------------------------------------------------------

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}div.wide{overflow-x:auto}table{border-collapse:collapse}"
    "td,th{padding:.2rem .7rem .2rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #ccc}"
    "pre{background:#f4f4f4;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}img{max-width:100%}"
    "p.strong{border-left:.3rem solid #a40;padding-left:.7rem;font-weight:600}figure{margin:1rem 0}"
)


def as_html(paper: Document, title: str) -> str:
    """As one HTML file: styles and drawings in it, no script, nothing from elsewhere."""
    body = "\n".join(_html(block, paper.svgs) for block in paper.blocks if not _empty(block))
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "img-src data:\">"
        f"<title>{_safe(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _html(block: Block, svgs: Mapping[str, bytes]) -> str:
    match block:
        case Title(level, text):
            return f"<h{level}>{_safe(text)}</h{level}>"
        case Words(text, strong):
            return f"<p{' class=strong' if strong else ''}>{_safe(text)}</p>"
        case Lines(lines):
            return f"<ul>{''.join(f'<li>{_safe(line)}</li>' for line in lines)}</ul>"
        case Cells(head, rows):
            top = "".join(f"<th scope=col>{_safe(cell)}</th>" for cell in head)
            body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
            return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
        case Verbatim(text, what):
            return (f"<p>{_safe(what)}:</p>" if what else "") + f"<pre>{_safe(text)}</pre>"
        case Drawing(file, caption):
            inside = base64.b64encode(svgs[file]).decode()
            return (
                f"<figure><img alt='{_safe(caption)}' src='data:image/svg+xml;base64,{inside}'>"
                f"<figcaption>{_safe(caption)}</figcaption></figure>"
            )


def _safe(text: str) -> str:
    return html.escape(visible(text), quote=True)
