"""What all pages share: templates and their filters, addresses, and the run that an address names."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from rrm.core.clean import visible
from rrm.view.accuracy import RANKS, counted
from rrm.view.comparisons import nth, points
from rrm.view.damage import damaged
from rrm.view.reading import NodeView, Reader
from rrm.view.text import line
from rrm.view.web.security import Access


def reader(request: Request) -> Reader:
    """The run that the address names (`{run}`); 404 if there is none. Close it after use: `with reader(r) as run`."""
    runs: Mapping[str, Path] = request.app.state.runs
    name = request.path_params["run"]
    if name not in runs:
        raise HTTPException(404, f"No run named {name!r} is open here.")
    return Reader(runs[name], name)


def node_of(run: Reader, request: Request) -> NodeView:
    """The node that the address names (`{task}`); 404 if the run has none."""
    path = request.path_params["task"]
    if path not in run.nodes:
        raise HTTPException(404, f"{run.title} has no task {path!r}.")
    return run.nodes[path]


def round_number(text: str | None) -> int | None:
    """A round of a query, below 0 for what was imported; None if it is none."""
    return int(text) if text and re.fullmatch(r"-?\d{1,15}", text, re.ASCII) else None


def whole_number(text: str | None) -> int | None:
    """A number of a query; None if it is none."""
    return int(text) if text and text.isdecimal() and len(text) < 16 else None


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page. Everything in `context` is escaped; use the filter `visible` on whatever a model or a person wrote."""
    access: Access = request.app.state.access
    shown = [one for value in context.values() for one in (value if isinstance(value, list | tuple) else (value,))]
    runs = {one.folder: one for one in shown if isinstance(one, Reader)}.values()
    torn = [f"{f'{run.title}: ' if len(runs) > 1 else ''}{line}" for run in runs for line in damaged(run.folder)]
    body = TEMPLATES.get_template(template).render(
        csrf="" if request.app.state.static else access.csrf,
        path=request.url.path,
        exported=request.app.state.static,
        torn=torn,
        **context,
    )
    return HTMLResponse(body, status)


def url(*parts: object, **query: object) -> str:
    """An address on this server: `url("r", run, "node", "paper/proofs", after=7)`. Empty values are left out."""
    path = "/" + "/".join(quote(str(part), safe="/@") for part in parts)
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return path + (f"?{urlencode(given)}" if given else "")


def number(value: float | None, digits: int = 2) -> str:
    """A measurement for a table: "0.95", "–" for none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("-") and not float(text) else text.replace("-", "−")


def signed(value: float) -> str:
    """A difference for a table: "+0.31", "−0.20", "0.00"."""
    text = number(value)
    return f"+{text}" if value > 0 and float(text) else text


def percent(value: float | None) -> str:
    """A share for a table: "95%", "–" for none."""
    return "–" if value is None else f"{value:.0%}"


def duration(seconds: float | None) -> str:
    """ "340.0 ms", "7.2 s", "3 min 5 s", "2 h 10 min", "–" for none."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole // 60 % 60} min"


def moment(at: float | None) -> str:
    """Seconds since 1970, as local time."""
    try:
        return "–" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, OSError, ValueError):  # a stranger's run may say anything
        return "–"


def _visible(value: object) -> str:
    return visible(str(value))


def _line(value: object, limit: int = 200) -> str:
    return line(str(value), limit)


def hit(value: object, sought: str, limit: int) -> Markup:
    """A beginning of a text on one line, escaped, with what was sought marked in it, in upper or lower case."""
    text, sought = line(str(value), limit), line(sought.strip(), limit)
    found = Markup()
    while sought and (at := text.lower().find(sought.lower())) >= 0:
        found += Markup("{}<mark>{}</mark>").format(text[:at], text[at : at + len(sought)])
        text = text[at + len(sought) :]
    return found + Markup("{}").format(text)


def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("rrm.view.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "visible": _visible, "line": _line, "number": number, "signed": signed, "percent": percent,
        "counted": counted, "hit": hit, "duration": duration, "moment": moment, "nth": nth,
    }  # fmt: skip
    env.globals |= {"url": url, "points": points, "ranks": RANKS}
    env.tests["markup"] = lambda value: isinstance(value, Markup)
    return env


TEMPLATES = _environment()
