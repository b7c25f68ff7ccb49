"""How an endpoint is spoken to: a whole answer within a time and a size, and never anybody but the one that was named.

A timeout of the client's own is for each read: a server that sends a byte a second holds it for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rrm.core.border import plain
from rrm.core.errors import RRMError

if TYPE_CHECKING:
    import httpx2

LARGEST = 32 << 20
"""Bytes of an answer: more than any chat completion of the texts that are asked for here."""


class WireError(RRMError):
    """A server that sends us elsewhere, or sends without end."""


def client(seconds: float) -> httpx2.AsyncClient:
    """An HTTP client whose answers are whole within `seconds`, or time out; the one that the openai client is given.

    It raises `WireError` for a redirect and for more than `LARGEST` bytes. A redirect would carry the question, and
    headers that say whose it is, to wherever the server likes, and over a plain connection if it likes.
    """
    import httpx2  # what the openai client speaks through; late, as it is

    class Bounded(httpx2.AsyncClient):
        async def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
            try:
                async with asyncio.timeout(seconds):
                    return await self._whole(request, more)
            except TimeoutError as error:
                raise httpx2.ReadTimeout(f"no whole answer within {seconds:g} s", request=request) from error

        async def _whole(self, request: httpx2.Request, more: dict[str, Any]) -> httpx2.Response:
            response = await super().send(request, stream=True, **more | {"follow_redirects": False})
            try:
                if 300 <= response.status_code < 400:
                    raise WireError(_elsewhere(request, response))
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > LARGEST:
                        raise WireError(f"it sends more than {LARGEST >> 20} MB in answer to one question")
            finally:
                await response.aclose()
            packing = (b"content-encoding", b"content-length")  # the body is unpacked by now
            kept = [(name, value) for name, value in response.headers.raw if name.lower() not in packing]
            return httpx2.Response(response.status_code, headers=kept, content=bytes(body), request=request)

    return Bounded(timeout=seconds, headers={"Accept-Encoding": "identity"})


def _elsewhere(request: httpx2.Request, response: httpx2.Response) -> str:
    """Where a redirect leads: without what it may carry, a query or a name."""
    import httpx2

    try:
        to = request.url.join(response.headers.get("location", "")).copy_with(
            query=None, fragment=None, username=None, password=None
        )
    except (ValueError, TypeError, httpx2.InvalidURL):
        return "it answers with a redirect to nowhere"
    return (
        f"it answers with a redirect to {plain(str(to), 200)}, where no question is sent: who gets what is asked is "
        "for you to say. If that is the right server, give its address up to /v1"
    )
