"""A chat-completions server on loopback whose behavior a test decides: right, slow, or wrong in every usual way."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Answer = Callable[["Server", dict[str, Any], int], Any]
"""(server, the request's body, how many came before it) -> the text of the answer, a Response, or None to hang."""


def completion(text: str | None, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chat completion as servers send it; one token a word."""
    words = len(body["messages"][0]["content"].split())
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | more
    usage = {"prompt_tokens": words, "completion_tokens": len((text or "").split()), "total_tokens": 0}
    return {"id": "x", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


def longer(server: Server, body: dict[str, Any], before: int) -> str:
    """Prefers the longer outcome, truly: the same in both orders."""
    question = body["messages"][0]["content"]
    a, b = question.split("\n\nA: ")[1].split("\n\nB: ")
    return "A" if len(a) > len(b.split("\n\nWhich")[0]) else "B"


@dataclass
class Server:
    """What a test looks at: every request's body and headers, and how many were under way at once."""

    answer: Answer
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most: int = 0
    _now: int = 0

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]

    async def serve(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization", ""))
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            said = self.answer(self, body, len(self.bodies) - 1)
            if asyncio.iscoroutine(said):
                said = await said
        finally:
            self._now -= 1
        if isinstance(said, Response):
            return said
        return JSONResponse(completion(said, body))


@contextmanager
def serving(answer: Answer = longer) -> Iterator[Server]:
    """A server in a thread, on a free port of loopback."""
    server = Server(answer)
    app = Starlette(routes=[Route("/v1/chat/completions", server.serve, methods=["POST"])])
    bound = socket.create_server(("127.0.0.1", 0))
    server.url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
    run = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0))
    thread = threading.Thread(target=run.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not run.started:
        time.sleep(0.01)
    try:
        yield server
    finally:
        run.should_exit = True
        thread.join(timeout=5)


def error(status: int, message: str, **headers: str) -> JSONResponse:
    """An error as OpenAI's servers word it."""
    return JSONResponse({"error": {"message": message, "type": "x", "code": None}}, status, headers)
