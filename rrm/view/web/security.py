"""Who may ask this server anything, and what a page of it may do.

The pages show text that models wrote, on a machine where a browser visits other sites too. So:

- the Host header must name this server (a page elsewhere cannot reach it under a name of its own: DNS rebinding);
- a token, new at every launch, is exchanged once for a cookie (HttpOnly, SameSite=Strict); without it: 403;
- a request that changes something must come from a page of this server (Origin or Sec-Fetch-Site) and carry
  the CSRF token, in the header `X-CSRF-Token` or the form field `csrf`;
- pages may load this server's own script and style files, and nothing else; no inline script or style, no
  HTML from strings in scripts (trusted types), no framing, no referrer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LARGEST_BODY = 4 << 20
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Access:
    """The secrets of one launch, and the host names that the server answers to (`None`: any)."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    hosts: frozenset[str] | None = frozenset(LOOPBACK)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def loopback(cls) -> Access:
        """Fresh secrets, and the host names of this machine only."""
        return cls()

    @classmethod
    def network(cls, token: str, hosts: Iterable[str] = ()) -> Access:
        """Reachable from other machines: the token must have been set by the user, 16 characters at least."""
        if len(token) < 16:
            raise ValueError("a token for a server that other machines can reach has at least 16 characters")
        return cls(token, frozenset(hosts) or None)

    @property
    def cookie(self) -> str:
        """The cookie's value: it proves the token was known, and does not tell it."""
        return self._derive("cookie")

    @property
    def csrf(self) -> str:
        """What a request that changes something must carry; derived from this launch's key."""
        return self._derive("csrf")

    def _derive(self, purpose: str) -> str:
        return hmac.new(self._key, purpose.encode(), hashlib.sha256).hexdigest()


def with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Sends the same, with these headers in every answer that has none of their names."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = MutableHeaders(scope=message)
            for name, value in headers.items():
                there.setdefault(name, value)
        await send(message)

    return sending


class Guard:
    """ASGI middleware: see the module's text. WebSockets are refused."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send_guarded = with_headers(send, {**HEADERS, "Cache-Control": "no-store"})
        request = Request(scope, receive)
        refusal, body = await self._examine(request)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        await self.app(scope, receive if body is None else replay(body, receive), send_guarded)

    async def _examine(self, request: Request) -> tuple[Response | None, bytes | None]:
        """(why not, the body if it was read)."""
        host = request.headers.get("host", "")
        if self.access.hosts is not None and host_name(host) not in self.access.hosts:
            return _refuse(403, f"This server does not answer to the name {host_name(host)!r}."), None
        cookie = f"rrm-{request.url.port or 80}"
        if "token" in request.query_params and request.method == "GET":
            if not same(request.query_params["token"], self.access.token):
                return _refuse(403, "This token is not valid (any more): each launch has a new one."), None
            rest = urlencode([(k, v) for k, v in request.query_params.multi_items() if k != "token"])
            path = "/" + request.url.path.lstrip("/")  # "//elsewhere" would be another site
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(
                cookie, self.access.cookie, path="/", httponly=True, samesite="strict",
                secure=request.url.scheme == "https",
            )  # fmt: skip
            return answer, None
        if not same(request.cookies.get(cookie, ""), self.access.cookie):
            return _refuse(403, "Open the address that the server printed when it started: it has the token."), None
        if request.method in SAFE:
            return None, None
        if not _from_here(request.headers, request.url.scheme):
            return _refuse(403, "This request came from another site."), None
        body = await body_of(request)
        if body is None:
            return _refuse(413, f"More than {LARGEST_BODY >> 20} MB."), None
        given = request.headers.get("x-csrf-token") or _form(request.headers, body).get("csrf", "")
        if not same(given, self.access.csrf):
            return _refuse(403, "The page is older than this server: reload it and try again."), None
        return None, body


async def form(request: Request) -> dict[str, str]:
    """A posted form's fields (urlencoded; the last of a name counts)."""
    return _form(request.headers, await request.body())


def _form(headers: Headers, body: bytes) -> dict[str, str]:
    if headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000))


def host_name(host: str) -> str:
    """ "127.0.0.1:8000" -> "127.0.0.1", "[::1]:8000" -> "::1"; empty for what is no name."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def same(given: str, expected: str) -> bool:
    """Whether two secrets are, in a time that does not tell how far."""
    return secrets.compare_digest(given.encode(), expected.encode())


def _from_here(headers: Headers, scheme: str) -> bool:
    origin = headers.get("origin", "null")
    if origin == "null":  # browsers send "null" with forms of a page that sends no referrer, and say more here:
        return headers.get("sec-fetch-site") == "same-origin"
    return origin == f"{scheme}://{headers.get('host', '')}"


async def body_of(request: Request, largest: int = LARGEST_BODY) -> bytes | None:
    """The whole body, or None if it has more bytes than `largest`."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > largest:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read once more."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refuse(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)
