"""The web app over one or more run folders: what it serves, behind what guard."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from inspect import iscoroutinefunction
from itertools import chain
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from rrm.view.damage import met
from rrm.view.reading import ReadError, find_runs
from rrm.view.safety_case import as_it_stands
from rrm.view.web import comparison_pages, outcome_pages, pages, run_pages, tree_pages
from rrm.view.web.rendering import render
from rrm.view.web.security import Access, Guard

HERE = Path(__file__).parent
PAGES = (run_pages, pages, tree_pages, comparison_pages, outcome_pages)


def create_app(
    runs: Sequence[Path], access: Access | None = None, routes: Sequence[BaseRoute] = (), **state: Any
) -> Starlette:
    """The app. Further `routes` are served beside its own, behind the same guard; `state` is put on `app.state`.

    `runs`: run folders, or folders that hold run folders. Raises `ReadError` where there is none.
    `access`: who may ask; loopback and a fresh token by default.
    """
    access = access or Access.loopback()
    static = Mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app = Starlette(
        routes=[*routes, *chain(*(one.ROUTES for one in PAGES)), static],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={
            HTTPException: failed, ReadError: unreadable, sqlite3.DatabaseError: met_a_tear, 500: broke,
        },
    )
    app.state.access = access
    app.state.runs = find_runs(runs)
    app.state.static = False
    app.state.told = as_it_stands  # says a line of what a certificate does not show in words (`rrm.view.safety_case`)
    for name, value in state.items():
        setattr(app.state, name, value)
    return app


async def failed(request: Request, error: Exception) -> Response:
    """The page of an error with a status, such as 404."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "Something went wrong."
    return render(request, "error.html", status, title=f"{status}", detail=detail)


async def unreadable(request: Request, error: Exception) -> Response:
    """The page of a run that cannot be read any more, or is none; says why."""
    return render(request, "error.html", 404, title="404", detail=str(error))


async def met_a_tear(request: Request, error: Exception) -> Response:
    """The page without what lies torn beside its runs, if anything does; else that a run's own records are."""
    runs: Mapping[str, Path] = request.app.state.runs
    name = str(request.path_params.get("run", ""))
    folders = [runs[name]] if name in runs else [*runs.values()]
    if any([await run_in_threadpool(met, folder) for folder in folders]):
        if request.method not in ("GET", "HEAD"):  # some of what was asked may be done
            detail = "A file beside the run is damaged, its page says which; look whether this was done, and ask again."
            return render(request, "error.html", 500, title="500", detail=detail)
        endpoint = request.scope["endpoint"]
        page = await (endpoint(request) if iscoroutinefunction(endpoint) else run_in_threadpool(endpoint, request))
        return cast(Response, page)
    detail = f"run.db cannot be read: {error}. If it is damaged, put a copy back, or what sqlite3's .recover saves."
    return render(request, "error.html", 404, title="404", detail=detail)


async def broke(request: Request, error: Exception) -> Response:
    """The page of an unexpected error."""
    return render(request, "error.html", 500, title="500", detail="This page failed; the terminal says where.")
