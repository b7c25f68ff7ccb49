"""A static copy of the pages, to be shared: plain files, opened from a folder or any web server."""

from __future__ import annotations

import asyncio
import html
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.applications import Starlette
from starlette.types import Message

from rrm.core.errors import RRMError
from rrm.view.safety_case import as_it_stands
from rrm.view.web.app import HERE, create_app
from rrm.view.web.security import Access

LINK = re.compile(r' (href|src|action)="(/[^"]*)"')
"""An address in a page. Nothing else looks like one: in what models wrote, quotes are escaped."""
COMPARISON = re.compile(r"(/r/[^/]+/c/)(\d+)")
POLICY = "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data:"


class ExportError(RRMError, OSError):
    """The copy cannot be written."""


def export(runs: Sequence[Path], out: Path, most: int = 20, told: Callable[[str, bool], str] = as_it_stands) -> int:
    """Write every page of these runs into `out`, which must be new or empty; returns the number of pages.

    Of each node's comparisons, those on the pages that show them first are copied, `most` at most, each with
    all of its answers; links to others become plain text. Lists are copied without their filters. `told`: see
    `rrm.view.safety_case.case_of`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is not an empty folder; use another")
    app = create_app(runs, told=told)
    app.state.static = True
    new = not out.exists()
    try:
        return asyncio.run(_export(app, out, most))
    except BaseException as error:  # it was empty: all that is there is half of this, and in the way of the next
        for path in () if new or not out.is_dir() else out.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if new:
            shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, OSError):
            raise ExportError(f"cannot write to {out} ({error})") from error
        raise


async def _export(app: Starlette, out: Path, most: int) -> int:
    pages: dict[str, bytes] = {}
    texts: dict[str, bytes] = {}
    waiting, seen, kept = ["/"], {"/"}, set[str]()
    left: dict[str | None, int] = {}
    while waiting:
        address = waiting.pop(0)
        status, kind, body = await _get(app, address)
        if status != 200:
            continue
        if kind != "text/html":
            texts[address] = body
            continue
        pages[address] = body
        node = _node(address)
        for _, link in LINK.findall(body.decode()):
            link = html.unescape(link)
            if link in seen or link.startswith("/static/") or dict(parse_qsl(urlsplit(link).query)).keys() - {"after"}:
                continue
            if "after=" in link and left.get(node, most) <= 0:
                continue
            if (match := COMPARISON.match(link)) and match[0] not in kept:
                if node is None or left.get(node, most) <= 0:
                    continue
                left[node] = left.get(node, most) - 1
                kept.add(match[0])
            seen.add(link)
            waiting.append(link)
    names = {a: "" if a.endswith(".png") else "text.txt" for a in texts}
    places = {a: _place(a, "index.html") for a in pages} | {a: _place(a, name) for a, name in names.items()}
    for address, body in texts.items():
        _write(out / places[address], body)
    for address, body in pages.items():
        _write(out / places[address], _settle(body.decode(), places, places[address]).encode())
    for path in (HERE / "static").iterdir():
        _write(out / "static" / path.name, path.read_bytes())
    return len(pages)


def _node(address: str) -> str | None:
    """The node whose page, list or tree this is; None for comparisons: what they link to is not followed further."""
    match = re.match(r"/r/([^/?]+)(?:/(?:node|list|outcomes|challenges|case)/([^?]+))?(?:\?|$)", address)
    return match and f"{match[1]} {match[2] or 'tree'}"


def _place(address: str, name: str) -> Path:
    parts = urlsplit(address)
    inside = [unquote(part) for part in parts.path.split("/") if part]
    inside += [f"{key}-{value}" for key, value in parse_qsl(parts.query)]
    return Path(*inside, name)


def _settle(page: str, places: dict[str, Path], here: Path) -> str:
    """The page with its links made relative to where it lies; those that lead nowhere are taken off."""

    def relative(match: re.Match[str]) -> str:
        link = html.unescape(match[2])
        target = Path(link[1:]) if link.startswith("/static/") else places.get(link)
        if target is None:
            return ""
        return f' {match[1]}="{html.escape(os.path.relpath(target, here.parent))}"'

    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
    return LINK.sub(relative, page).replace('<meta name="csrf" content="">', policy, 1)


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


async def _get(app: Starlette, address: str) -> tuple[int, str, bytes]:
    """Ask the app for a page: (status, kind, body)."""
    access: Access = app.state.access
    parts = urlsplit(address)
    cookie = f"rrm-80={access.cookie}"
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": unquote(parts.path),
        "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "root_path": "",
        "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())], "server": ("localhost", 80),
        "client": ("localhost", 1),
    }  # fmt: skip
    status, kind, body = 500, "", b""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, kind, body
        if message["type"] == "http.response.start":
            status = message["status"]
            kind = dict(message["headers"]).get(b"content-type", b"").decode().split(";")[0]
        else:
            body += message.get("body", b"")

    await app(scope, receive, send)
    return status, kind, body
