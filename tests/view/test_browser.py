"""The pages in a real browser: what models wrote stays text, keys work, nobody is shut out, training shows."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rrm.core.clean import visible
from rrm.store.store import Store
from rrm.view.web.app import create_app
from rrm.view.web.static_copy import export
from tests.view import synthetic
from tests.view.browser import barriers, chromium, complaints, serving
from tests.view.hostile import LONG_LINE, MARK, TEXTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = (
    "/", "/?text=run", "/two/run/other", "/compare?run=run&run=other&lines=runs",
    "/r/run", "/r/run/node/paper", "/r/run/node/paper/proofs/steps", "/r/run/list/paper",
    "/r/run/list/paper?show=disagree&text=e", "/r/run/c/3", "/r/run/c/3/a/0.0", "/r/run/c/3/b/0.0.0.0", "/r/none",
    "/r/run/outcomes/paper", "/r/run/challenges/paper", "/r/run/list/paper?show=user_wrong", "/r/pile/case/moves",
)  # fmt: skip

CHART = "document.querySelector('.chart')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs: of every text of the corpus in every place a text can be, and of one line of a megabyte."""
    base = tmp_path_factory.mktemp("runs")
    made = [
        synthetic.comparison(i, a=text, b=f"{text} and more", case=text, said=text, note=text, user=text)
        for i, text in enumerate([*TEXTS.values(), LONG_LINE])
    ]
    whole = synthetic.make(base / "run", made, [(-1) ** i * 0.4 for i in range(len(made))])
    store = Store(whole / "run.db")
    for path in ("paper/proofs", "paper/proofs/steps"):
        for i, text in enumerate(TEXTS.values()):
            store.add(synthetic.comparison(i, task=path, a=text, assisted=False), i)
    store.add(synthetic.comparison(1000), 1000, synthetic.SPANS)
    synthetic.true(whole, store.compared("paper"))
    store.close()
    return [whole, synthetic.make(base / "other", made[:2])]


@pytest.fixture
def page(browser: Browser, folders: list[Path]) -> Iterator[tuple[Page, str]]:
    with serving(create_app(folders)) as address:
        context = browser.new_context(viewport={"width": 1200, "height": 800}, bypass_csp=False)
        opened = context.new_page()
        opened.goto(address)
        yield opened, address.split("/?")[0]
        context.close()


def innocent(page: Page) -> None:
    """Nothing of the corpus became anything but text, and the page still has its frame."""
    assert MARK not in page.title()
    assert page.evaluate(f"window['{MARK}']") is None
    assert page.locator(f"#{MARK}, iframe, object, form[action*=evil], meta[http-equiv], base, main img").count() == 0
    assert page.locator("a[href^='javascript:'], a[href*='evil.example'], [onerror], [onload], [onfocus]").count() == 0
    assert page.locator("body > main").count() == 1 and page.locator("body > header.top").count() == 1


def in_its_frame(page: Page) -> None:
    """No text pushes the page wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
def test_hostile_texts_are_only_text(page: tuple[Page, str]) -> None:
    tab, base = page
    heard = complaints(tab)
    for seq, (name, text) in enumerate(TEXTS.items(), 1):
        tab.goto(f"{base}/r/run/c/{seq}")
        innocent(tab)
        in_its_frame(tab)
        assert tab.locator("pre.outcome").nth(1).text_content() == visible(text), name
        for hidden in "\x1b\x00\u202e\u2066\u200f\u200b\u2028":
            assert hidden not in (tab.locator("body").text_content() or ""), name
    for path in ("/", "/r/run", "/r/run/list/paper", "/r/run/list/paper?text=%3Cscript%3E", "/r/run/node/paper",
                 "/r/run/node/paper/proofs", "/r/run/c/3/a/0.0", "/r/run/c/3/a/0.0.0.0"):  # fmt: skip
        tab.goto(base + path)
        innocent(tab)
        in_its_frame(tab)
    assert heard == []


def test_a_text_whole_is_plain_text_whatever_it_says(page: tuple[Page, str]) -> None:
    tab, base = page
    heard = complaints(tab)
    tab.goto(f"{base}/r/run/c/{len(TEXTS) + 1}")
    in_its_frame(tab)
    assert len(tab.locator("pre.outcome").nth(1).text_content() or "") < 30_000
    answer = tab.goto(base + str(tab.get_by_role("link", name="The whole").first.get_attribute("href")))
    assert answer is not None and answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text() == LONG_LINE
    tab.goto(f"{base}/r/run/list/paper?text=%3Cscript")
    assert heard == []


def test_what_an_answer_points_at_lights_up_in_the_text(page: tuple[Page, str]) -> None:
    tab, base = page
    tab.goto(f"{base}/r/run/c/{len(TEXTS) + 2 + 2 * len(TEXTS)}")
    lit = tab.locator(".lit")
    assert lit.count() == 0
    answers = tab.locator(".aligned td:nth-of-type(1) .answer")
    proofs, steps = answers.nth(0), answers.nth(1)
    proofs.hover()
    assert "".join(lit.all_text_contents()) == "le"
    steps.focus()
    tab.mouse.move(0, 0)
    assert "".join(lit.all_text_contents()) == "l", "it points at the part"
    tab.locator("h1").click()
    assert lit.count() == 0


def test_everything_can_be_reached_by_keys_alone(page: tuple[Page, str]) -> None:
    tab, base = page
    tab.goto(base)
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    assert tab.evaluate("document.activeElement.textContent") == "other"
    tab.keyboard.press("k")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/r/run")
    tab.keyboard.press("l")
    tab.wait_for_url("**/r/run/list/paper")
    tab.keyboard.press("/")
    tab.keyboard.type("jt?]l")  # keys are letters while typing
    assert tab.locator("input[type=search]").input_value() == "jt?]l"
    tab.keyboard.press("Escape")
    tab.keyboard.press("Control+j")
    assert tab.evaluate("document.activeElement === document.body")
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/c/1")
    tab.keyboard.press("]")
    tab.wait_for_url("**/c/2")
    tab.keyboard.press("j")
    assert "proofs" in (tab.evaluate("document.activeElement.getAttribute('aria-label')") or "")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/c/2/a/0.0")
    tab.keyboard.press("u")
    tab.wait_for_url("**/c/2")
    tab.keyboard.press("m")
    assert tab.locator("details.marks[open]").count() == 1
    tab.keyboard.press("?")
    assert tab.locator("dialog[open]").count() == 1
    tab.keyboard.press("]")  # nothing behind the legend
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0 and tab.url.endswith("/c/2")
    tab.keyboard.press("t")
    tab.wait_for_url("**/r/run")


def test_runs_are_picked_by_keys_and_plots_say_their_values_by_pointer_and_by_keys(page: tuple[Page, str]) -> None:
    tab, base = page
    heard = complaints(tab)
    tab.goto(base)
    for key in "jxjxc":
        tab.keyboard.press(key)
    tab.wait_for_url("**/two/run/other")
    plot, box = tab.locator(".canvas > svg").first, tab.locator(".readout").first
    frame = plot.bounding_box()
    assert frame is not None and not box.is_visible()
    tab.mouse.move(frame["x"] + frame["width"] - 12, frame["y"] + 20)
    said = [line.strip() for line in box.inner_text().split("\n")]
    assert said == ["step of improvement 3", "run 0.75", "other 0.75"]
    tab.mouse.move(0, 0)
    assert not box.is_visible()
    plot.focus()
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowRight")
    assert plot.get_attribute("aria-valuetext") == "step of improvement 1: run 0.25, other 0.25" and box.is_visible()
    assert plot.get_attribute("role") == "slider" and plot.get_attribute("aria-valuenow") == "1"
    tab.keyboard.press("Escape")
    assert not box.is_visible() and heard == []


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "rules"), [("light", ()), ("dark", ("color-contrast",))])
def test_nobody_is_shut_out(
    browser: Browser, folders: list[Path], scheme: str, rules: tuple[str, ...], tmp_path: Path
) -> None:
    with tarfile.open(Path("docs/certified/run.tar.gz").absolute()) as whole:
        whole.extractall(tmp_path, filter="data")
    width = 1200 if scheme == "light" else 390
    with serving(create_app([*folders, tmp_path / "pile"])) as address:
        context = browser.new_context(  # axe-core adds a script
            color_scheme=scheme, bypass_csp=True, viewport={"width": width, "height": 800}
        )
        tab = context.new_page()
        tab.goto(address)
        for path in PAGES:
            tab.goto(address.split("/?")[0] + path)
            assert barriers(tab, rules) == [], path
            in_its_frame(tab)
        context.close()


def test_a_large_tree_folds_by_keys_and_moves_in_its_box_alone(browser: Browser, tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "large", [synthetic.comparison(0)])
    below = [f"paper/{a}/{b}/{c}/deep/er" for a in "pqr" for b in "pq" for c in "pq"]
    paths = dict.fromkeys("/".join(path.split("/")[:n]) for path in below for n in range(6, 0, -1))
    config = json.loads((folder / "config.json").read_text())
    config["tree"] = {path: config["tree"]["paper"] for path in sorted(paths, key=lambda path: -path.count("/"))}
    (folder / "config.json").write_text(json.dumps(config))
    with serving(create_app([folder])) as address:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        tab = context.new_page()
        heard = complaints(tab)
        tab.goto(address)
        base = address.split("/?")[0]
        tab.goto(f"{base}/r/large")
        assert tab.locator(".card").count() == len(paths) > 30
        inner = tab.locator("details[data-fold='paper/p/q']")
        assert not inner.evaluate("fold => fold.open") and "6 nodes below" in inner.inner_text()
        tab.keyboard.press("+")
        in_its_frame(tab)
        box, root = (tab.locator(one).first.bounding_box() for one in (".chart", ".org > li > .card"))
        assert box and root and box["x"] <= root["x"] and root["x"] + root["width"] <= box["x"] + box["width"]
        assert tab.evaluate(f"{CHART}.scrollWidth > {CHART}.clientWidth && {CHART}.clientHeight <= 640")
        for _ in range(3):
            tab.keyboard.press("j")
        tab.keyboard.press("f")
        tab.reload()
        closed = tab.locator("details[data-fold]:not([open])")
        assert [one.get_attribute("data-fold") for one in closed.all()] == ["paper/p/p"], "it is kept"
        tab.keyboard.press("-")
        tab.keyboard.press("j")
        tab.keyboard.press("j")
        assert tab.evaluate("document.activeElement.textContent") == "paper", "what is folded is passed over"
        tab.set_viewport_size({"width": 390, "height": 800})
        tab.keyboard.press("+")
        in_its_frame(tab)
        assert tab.evaluate(f"{CHART}.scrollWidth <= {CHART}.clientWidth"), "an outline"
        assert heard == []
        context.close()


def test_the_tree_follows_training_while_it_is_looked_at(browser: Browser, tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "live", [synthetic.comparison(0)])
    with serving(create_app([folder])) as address:
        context = browser.new_context()
        tab = context.new_page()
        heard = complaints(tab)
        tab.goto(address)
        tab.goto(address.split("/?")[0] + "/r/live")
        state = tab.locator("[data-live='paper/data:state']").first
        assert state.text_content() != "finished"
        store = Store(folder / "run.db")
        store.checkpoint("paper/data", 0, "agent", "x", "0")
        store.add(synthetic.comparison(1, preference=0.0, said="other"), 1)
        store.close()
        deadline = time.monotonic() + 10
        verdict = tab.locator("[data-live='paper:verdict']")  # the second of two writes: it may come a moment later
        while (state.text_content(), verdict.text_content()) != ("finished", "B") and time.monotonic() < deadline:
            tab.wait_for_timeout(50)
        assert (state.text_content(), verdict.text_content()) == ("finished", "B")
        assert heard == []
        context.close()


def test_another_site_can_neither_read_nor_frame_the_pages(browser: Browser, folders: list[Path]) -> None:
    with serving(create_app(folders)) as address:
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(address)
        base = address.split("/?")[0]
        context.route("http://evil.example/", lambda route: route.fulfill(body="evil", content_type="text/html"))
        tab.goto("http://evil.example/")
        read = "u => fetch(u, {credentials: 'include'}).then(r => r.text(), e => 'refused')"
        assert tab.evaluate(read, base + "/") == "refused"
        blind = "u => fetch(u, {mode: 'no-cors', credentials: 'include'}).then(r => r.type, e => 'refused')"
        assert tab.evaluate(blind, base + "/r/run") == "refused"
        context.close()


def test_the_static_copy_works_from_a_folder_without_a_server(
    browser: Browser, folders: list[Path], tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool:  # Playwright has an event loop in this thread
        pages = pool.submit(export, folders, tmp_path / "copy", most=3).result()
    files = sorted((tmp_path / "copy").rglob("*.html"))
    assert pages == len(files) > 20
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "copy", moved)
    context = browser.new_context(offline=True)
    tab = context.new_page()
    heard = complaints(tab)
    tab.goto((moved / "index.html").as_uri())
    innocent_static(tab)
    tab.get_by_role("link", name="run").first.click()
    tab.get_by_role("link", name="comparison").first.click()
    innocent_static(tab)
    assert tab.locator(".answer").count() > 0
    tab.locator(".answer").first.hover()
    assert tab.locator(".lit").count() > 0, "its script runs"
    assert tab.evaluate("getComputedStyle(document.querySelector('.sides')).display") == "grid", "its style is there"
    tab.goto((moved / "r" / "run" / "node" / "paper" / "index.html").as_uri())
    tab.locator(".canvas > svg").first.hover()
    assert (tab.locator(".readout:visible").text_content() or "").startswith("step of improvement")
    assert [one for one in heard if not one.startswith("request: file:")] == []
    for path in files:
        for link in tab.evaluate(
            "html => [...new DOMParser().parseFromString(html, 'text/html').querySelectorAll('[href],[src]')]"
            ".map(e => e.getAttribute('href') || e.getAttribute('src'))",
            path_text(moved, path, tmp_path),
        ):
            target = os.path.normpath((moved / path.relative_to(tmp_path / "copy")).parent / link.split("#")[0])
            assert link.startswith("#") or Path(target).exists(), f"{path}: {link}"
    context.close()


def path_text(moved: Path, path: Path, base: Path) -> str:
    return (moved / path.relative_to(base / "copy")).read_text()


def innocent_static(page: Page) -> None:
    assert MARK not in page.title() and page.evaluate(f"window['{MARK}']") is None
    assert page.locator("body > main").count() == 1
