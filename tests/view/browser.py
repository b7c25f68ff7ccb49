"""A real browser on a real server, for tests: headless Chromium, where it is installed."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from starlette.applications import Starlette

from rrm.view.web.serving import address, listen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium; skips the test where there is none (fails it on CI)."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium; .ci/run installs it")
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The app on a free port of loopback, in a thread. Yields the address that holds the token."""
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address(bound, app.state.access)
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def complaints(page: Page) -> list[str]:
    """Everything the page complains of from now on: errors, blocked scripts and styles, dialogs, requests elsewhere."""
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))

    def dialog(opened: object) -> None:
        heard.append(f"dialog: {opened}")
        opened.dismiss()  # type: ignore[attr-defined]

    page.on("dialog", dialog)
    page.on(
        "request",
        lambda request: heard.append(f"request: {request.url}") if "//127.0.0.1:" not in request.url else None,
    )
    return heard


SERIOUS = ("serious", "critical")


def barriers(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """Serious findings of axe-core about the page as it is; of some `rules` only, if given."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def wait_until(tab: Page, expression: str, seconds: float = 30.0) -> None:
    """Until an expression holds in a page. Playwright's `wait_for_function` asks again by `eval`, which the pages'
    policy forbids, so that it fails wherever the first answer is no."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)
