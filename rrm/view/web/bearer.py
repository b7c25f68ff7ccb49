"""Who may ask a server that programs use: whoever sends its token, `Authorization: Bearer TOKEN`, with every request.

There is no cookie and no page, so another site in a browser has nothing to ride on: it does not know the token. The
Host header must name this server all the same, and no body is read beyond a limit.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rrm.view.web.security import Access, body_of, host_name, replay, same, with_headers

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class BearerGuard:
    """ASGI middleware: see the module's text. WebSockets are refused.

    Parameters
    ----------
    largest: of a body, in bytes.
    """

    def __init__(self, app: ASGIApp, access: Access, largest: int) -> None:
        self.app, self.access, self.largest = app, access, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send_guarded = with_headers(send, HEADERS)
        request = Request(scope, receive)
        if (refusal := self._refusal(request)) is not None:
            await refusal(scope, receive, send_guarded)
            return
        if (body := await body_of(request, self.largest)) is None:
            await refused(413, f"more than {self.largest} bytes")(scope, receive, send_guarded)
            return
        await self.app(scope, replay(body, receive), send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        name = host_name(request.headers.get("host", ""))
        if self.access.hosts is not None and name not in self.access.hosts:
            return refused(403, f"this server does not answer to the name {name!r}")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not same(token.strip(), self.access.token):
            answer = refused(401, "send the token that the server printed when it started: Authorization: Bearer TOKEN")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return None


def refused(status: int, why: str) -> JSONResponse:
    """Why a request is not answered, as JSON: {"error": ...}."""
    return JSONResponse({"error": why}, status)
