"""Training and the label server as processes of their own, to be killed; and a client of the server."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from urllib.parse import urlsplit

from tests.forked import Forked


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(*command: str) -> Forked:
    return Forked(["-m", *command], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=DEVNULL)


def kill(process: Forked) -> None:
    """SIGKILL: no handler of the process gets to run."""
    process.kill()
    process.communicate()


def until(done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


class Server:
    """`rrm label RUN` on a fixed port; `restart` after a kill."""

    def __init__(self, run: Path, *options: str) -> None:
        self.command = ("rrm", "label", str(run), "--port", str(free_port()), *options)
        self.restart()

    def restart(self) -> None:
        self.process = start(*self.command)
        line = self.process.stdout.readline()
        found = re.search(r"http\S+", line)
        assert found, f"the server did not start: {line}"
        self.url = found[0]

    def kill(self) -> None:
        kill(self.process)


class Refused(Exception):
    """The server said no: (status, what it said)."""


class Client:
    """A browser without a screen: the cookie for the token, the CSRF token of the page, and posts."""

    def __init__(self, url: str) -> None:
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        page = self._opener.open(url, timeout=20).read().decode()
        found = re.search(r'<meta name="csrf" content="([^"]+)"', page)
        assert found
        self.csrf = found[1]

    def post(self, path: str, csrf: str | None = None, **message: object) -> Any:
        headers = {"Content-Type": "application/json", "Origin": self.origin, "X-CSRF-Token": csrf or self.csrf}
        request = urllib.request.Request(f"{self.origin}/label/{path}", json.dumps(message).encode(), headers)
        try:
            return json.load(self._opener.open(request, timeout=20))
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode()) from error
