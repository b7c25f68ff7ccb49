"""Starting the server: loopback, a token for this launch, and the address to open."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette

from rrm.core.errors import RRMError
from rrm.view.web.security import LOOPBACK, Access


class ServeError(RRMError, OSError):
    """The server cannot be started as asked."""


def access_for(host: str, token: str | None) -> Access:
    """Who may ask a server on `host`: beyond loopback only with a token that the user has set. Raises `ServeError`
    where that is missing, too short, or empty: an empty one would be no secret at all."""
    if token is not None and not token.strip():
        raise ServeError("--token is empty: anybody could ask; give one, or leave --token out for a new one")
    if is_loopback(host):
        access = Access() if token is None else Access(token)
        return replace(access, hosts=frozenset({*LOOPBACK, *_names(host)}))
    if token is None:
        raise ServeError(
            f"--host {host} lets other machines reach these pages; set --token (16 characters or more), "
            "or leave --host out"
        )
    try:
        return Access.network(token)
    except ValueError as error:
        raise ServeError(f"--token: {error}") from error


def _names(host: str) -> tuple[str, ...]:
    """What a browser that was given `host` calls it: 127.0.0.2 is this machine, too."""
    try:
        return host, str(ipaddress.ip_address(host))
    except ValueError:
        return (host.lower(),)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`; names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)  # from here on browsers wait for an answer, and are not refused
    except OSError as error:
        bound.close()
        raise ServeError(f"cannot listen on {host}:{port} ({error}); give another --port, or none") from error
    return bound


def address(bound: socket.socket, access: Access, path: str = "/") -> str:
    """What to open in a browser. It holds the token: whoever has it can see the runs until the server stops."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}?token={quote(access.token)}"


def serve(app: Starlette, bound: socket.socket) -> None:
    """Serve until Ctrl-C. Requests are not logged: their addresses may hold the token."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1, lifespan="off",
        ws="none", proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[bound])
