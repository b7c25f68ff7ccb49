"""Servers that send slowly, without end, or elsewhere: bounded, named, and nobody else is told anything."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the openai client: pip install -e '.[openai]'")

from rrm.models import wire
from rrm.models.endpoints import Ask, Endpoint, EndpointError

GOOD = b'{"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}'


@contextmanager
def raw(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server on bare sockets, and all that it was sent."""
    bound, heard = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def one(link: socket.socket) -> None:
        with link:
            try:
                got = link.recv(1 << 20)
                while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                    got += link.recv(1 << 20)
                heard.append(got)
                answer(link)
            except OSError:
                pass  # the client has left

    def serve() -> None:
        while True:
            try:
                link, _ = bound.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(link,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1", heard
    finally:
        bound.close()


def ask(url: str, **more: Any) -> str:
    it = Endpoint(**({"base_url": url, "model": "m", "retries": 0, "timeout": 5} | more))
    return it.ask([Ask("the question", 8)], "user", "t")[0].text


def head(status: str = "200 OK", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n{lines}\r\n".encode()


@pytest.mark.parametrize("first", [b"", head()], ids=["of the head", "of the body"])
def test_a_server_that_drips_is_given_up_in_time(first: bytes) -> None:
    def drip(link: socket.socket) -> None:
        link.sendall(first)
        for byte in (b"" if first else head()) + b" " * 1000:
            link.sendall(bytes([byte]))
            time.sleep(0.05)

    with raw(drip) as (url, _):
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"no whole answer within 0\.4 s"):
            ask(url, timeout=0.4)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("packed", [False, True])
def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(wire, "LARGEST", 1 << 20)

    def flood(link: socket.socket) -> None:
        link.sendall(head(**({"Content_Encoding": "gzip"} if packed else {})))
        piece = gzip.compress(b" " * (4 << 20)) if packed else b" " * (1 << 16)
        while True:
            link.sendall(piece)

    with raw(flood) as (url, heard):
        with pytest.raises(EndpointError, match="it sends more than 1 MB"):
            ask(url, retries=3)
        assert len(heard) == 1  # the same again would be no better


def test_a_packed_answer_is_read() -> None:
    body = gzip.compress(GOOD)
    whole = head(Content_Encoding="gzip", Content_Length=str(len(body))) + body
    with raw(lambda link: link.sendall(whole)) as (url, _):
        assert ask(url) == "fine"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_nobody_else_is_told_the_question(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "our-organization")
    monkeypatch.setenv("RRM_API_KEY", "sk-canary-3f9a77c1d2")
    with raw(lambda link: link.sendall(head() + GOOD)) as (other, heard):
        to = other.replace("http://", "http://sk-canary-3f9a77c1d2@") + "/sk-canary-3f9a77c1d2?x=sk-canary-3f9a77c1d2"
        with (
            raw(lambda link: link.sendall(head(status, Location=to))) as (url, asked),
            pytest.raises(EndpointError, match=r"redirect to http://127\.0\.0\.1.*give its address") as caught,
        ):
            ask(url)
    assert not heard and len(asked) == 1
    assert other in str(caught.value) and "canary" not in str(caught.value)


@pytest.mark.parametrize("location", ["", "http://[", "\x1b]0;x\x07", "http://h:99999999/", "javascript:1"])
def test_a_redirect_to_nowhere(location: str) -> None:
    with raw(lambda link: link.sendall(head("302 Found", Location=location))) as (url, _):
        with pytest.raises(EndpointError) as caught:
            ask(url)
        assert "\x1b" not in str(caught.value)
