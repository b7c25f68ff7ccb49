"""A run labeled by keyboard in a real browser, from start to end, through everything that may go wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rrm.core.records import Assistance, Case, Outcome
from rrm.core.task import Picture
from rrm.labels.queue import Labels
from rrm.store.store import Store
from tests.label.material import pair
from tests.label.serving import Server, kill, start, until
from tests.view.browser import barriers, chromium

sync_api = pytest.importorskip("playwright.sync_api")
SHOWN = 0.4
"""Seconds to look at a pair: the page takes nothing for a judgement that comes sooner."""


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with chromium() as found:
        yield found


class Person:
    """A page of the labeling server, and a person at its keyboard."""

    def __init__(self, context: sync_api.BrowserContext, url: str, name: str = "ann") -> None:
        self.page = context.new_page()
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.goto(url)
        if self.page.locator("#name-form").is_visible():
            self.page.keyboard.type(name)
            self.page.keyboard.press("Enter")

    def wait(self) -> str:
        """Until there is a pair to judge ("pair") or everything is done ("end")."""
        self.page.locator("#pair:visible, #report:visible").first.wait_for(timeout=120_000)
        time.sleep(SHOWN)
        return "pair" if self.page.locator("#pair").is_visible() else "end"

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def unsent(self) -> int:
        stored: list[str] = self.page.evaluate("Object.keys(localStorage)")
        return sum("/send/" in name for name in stored)


def queue(folder: Path, n: int, unassisted: float = 0.0) -> tuple[Labels, list[str]]:
    Store(folder / "run.db").close()
    labels = Labels(folder)
    return labels, labels.ask("t", 0, "Which?", [pair(i) for i in range(n)], 1, unassisted)


@pytest.mark.slow
def test_every_key_does_what_its_button_says(browser: sync_api.Browser, tmp_path: Path) -> None:
    labels, _ = queue(tmp_path, 8)
    server = Server(tmp_path, "--as", "ann")
    context = browser.new_context()
    person = Person(context, server.url)
    page = person.page
    for i, keys in enumerate([("1",), ("3", "2"), ("0",), ("s",)]):
        assert person.wait() == "pair"
        person.press(*keys)
        until(lambda n=i: len(labels.labels()) == n + 1, 10)  # type: ignore[misc]
    first, second, tie, skip = labels.labels()
    assert first.preference == (0.0 if first.swapped else 1.0) and first.strength == "clearly" and first.looked
    assert second.preference == (0.75 if second.swapped else 0.25) and second.strength == "slightly"
    assert (tie.preference, skip.preference) == (0.5, None)
    assert all(SHOWN <= label.seconds < 30 for label in labels.labels())

    person.wait()
    person.press("n")
    page.keyboard.type("12 s0u h")  # typing is no judging
    person.press("Escape", "h")
    assert not page.locator("#answers-0").is_visible()
    person.press("h", "j", "j", "y", "k", "x", "Control+1", "Alt+2")  # with a modifier a key is the browser's
    assert len(labels.labels()) == 4
    person.press("?")
    assert page.locator("#legend").is_visible()
    person.press("1")
    page.keyboard.press("Escape")
    assert len(labels.labels()) == 4, "while the legend is open no key judges"
    page.reload()
    assert person.wait() == "pair"
    assert page.locator("#note").input_value() == "12 s0u h", "what was begun outlives a reload"
    person.press("1")
    until(lambda: len(labels.labels()) == 5, 10)
    label = labels.labels()[4]
    side = "b" if label.swapped else "a"
    assert label.note == "12 s0u h" and label.marks == {f"{side}/1": "yes", f"{side}/0": "no"}

    person.wait()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert barriers(page) == []
    person.press("u")
    until(lambda: len(labels.labels()) == 4, 10)
    person.wait()
    assert page.locator("#note").input_value() == "12 s0u h", "undone with all that was said of it"
    page.locator("[data-choice=tie]").dblclick()
    until(lambda: len(labels.labels()) == 5, 10)
    time.sleep(0.3)
    assert [label.preference for label in labels.labels()[4:]] == [0.5], "a double click is one judgement"
    assert labels.labels()[4].question == label.question
    page.keyboard.down("s")
    time.sleep(0.5)
    page.keyboard.up("s")
    until(lambda: person.unsent() == 0, 10)
    assert len(labels.labels()) == 6 and person.troubles == []
    context.close()
    server.kill()


@pytest.mark.slow
def test_what_is_said_of_one_outcome_has_keys_of_its_own(browser: sync_api.Browser, tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    labels = Labels(tmp_path)
    ask = "rating=7,approval,unacceptable,correction,note"
    labels.ask("t", 0, "Which?", [pair(i) for i in range(2)], 1, 0.0, ask=ask)
    server = Server(tmp_path, "--as", "ann")
    context = browser.new_context()
    person = Person(context, server.url)
    page = person.page
    assert person.wait() == "pair" and barriers(page) == []
    person.press("a", "6", "+", "!", "e")
    page.keyboard.type("Better: ")
    person.press("Escape", "w")
    page.keyboard.type("12 u s")
    person.press("Escape", "Escape", "b", "2", "9", "-", "3", "3")  # there is no level 9, and 3 is taken back
    assert len(labels.labels()) == 0, "a digit there judges nothing"
    page.reload()
    assert person.wait() == "pair"
    assert page.locator("#remarks-0 [aria-pressed=true]").all_inner_texts() == ["6", "Approve"]
    person.press("b", "Escape", "1")
    until(lambda: len(labels.labels()) == 1, 10)
    (label,) = labels.labels()
    first, second = (label.remarks_b, label.remarks_a) if label.swapped else (label.remarks_a, label.remarks_b)
    assert [(r.kind, r.value) for r in first] == [
        ("rating", 6.0), ("approval", 1.0), ("unacceptable", 1.0), ("correction", None), ("note", None)
    ]  # fmt: skip
    assert first[3].better is not None and "Better:" in first[3].better.text and first[4].text == "12 u s"
    assert [(r.kind, r.value) for r in second] == [("approval", 0.0), ("unacceptable", 0.0)]
    person.wait()
    person.press("u")
    until(lambda: not labels.labels(), 10)
    person.wait()
    assert page.locator("#remarks-0 [aria-pressed=true]").all_inner_texts() == ["6", "Approve"], "undone with all of it"
    assert person.troubles == []
    context.close()
    server.kill()


def test_pairs_without_assistance_show_none_and_text_is_text(browser: sync_api.Browser, tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    labels = Labels(tmp_path)
    hostile = "</pre><script>document.title='owned'</script><img src=x onerror=document.title='owned'>\x1b[31m\u202e"
    labels.ask("t", 0, hostile, [pair(0, text=hostile * 50)], 1, 1.0)
    server = Server(tmp_path, "--as", "ann")
    context = browser.new_context()
    person = Person(context, server.url)
    assert person.wait() == "pair"
    shown = person.page.locator("#text-0").inner_text()
    assert "<script>" in shown and "\u202e" not in shown and "‹202E›" in shown
    assert person.page.title() != "owned" and person.page.locator("#pair img, #pair script").count() == 0
    assert person.page.locator("#unassisted").is_visible() and person.page.locator("#pair li").count() == 0
    width = person.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, "long text does not break the layout"
    nothing = "#hide, #unrank, #confirm, #refute, #player, [data-when=several], [data-when=marks], [data-when=help]"
    assert not any(one.is_visible() for one in person.page.locator(nothing).all()), "no buttons for what is not there"
    assert person.page.locator("#undo").is_disabled()
    person.press("y", "h", "u", "g")
    assert "<script>" in person.page.locator("#guide-asks").inner_text()
    person.page.reload()
    person.wait()
    assert person.page.locator("#guide-asks").is_visible(), "remembered"
    person.press("1")
    until(lambda: len(labels.labels()) == 1, 10)
    assert not labels.labels()[0].assisted and not labels.labels()[0].looked and person.troubles == []
    person.page.locator("#next li").first.wait_for(timeout=10_000)
    assert "You judged 1 pair." in person.page.locator("#idle-text").inner_text()
    assert f"rrm view {tmp_path}" in person.page.locator("#next").inner_text()
    kept = """async () => {
        getSelection().selectAllChildren(document.querySelector("#next li code"));
        await fill(); end = structuredClone(end); view();
        return String(getSelection());
    }"""
    assert "rrm inspect" in person.page.evaluate(kept), "selected to be copied, it stays when the page asks again"
    assert person.page.locator("#undo").is_enabled() and not person.page.locator("[data-choice=tie]").is_visible()
    person.press("v")
    person.page.wait_for_url("**/r/**")
    context.close()
    server.kill()


@pytest.mark.slow
def test_a_page_sends_what_it_holds_when_the_server_is_back(browser: sync_api.Browser, tmp_path: Path) -> None:
    labels, ids = queue(tmp_path, 8)
    server = Server(tmp_path)
    context = browser.new_context()
    person = Person(context, server.url)
    person.wait()
    server.kill()
    person.press("1")
    person.wait()  # the next pair is there at once
    person.press("2")
    person.page.locator("#trouble:visible").wait_for(timeout=10_000)
    assert person.unsent() == 2 and labels.labels() == []
    server.restart()
    Person(context, server.url)  # the new address, opened in another tab: the first page goes on by itself
    until(lambda: len(labels.labels()) == 2 and person.unsent() == 0, 30)
    person.page.locator("#trouble").wait_for(state="hidden", timeout=10_000)

    person.page.bring_to_front()
    person.wait()
    context.set_offline(True)
    person.press("0")
    person.page.locator("#trouble:visible").wait_for(timeout=10_000)
    server.kill()
    context.set_offline(False)
    person.page.close()  # and with the page gone, the browser still has it
    assert len(labels.labels()) == 2
    server.restart()
    again = Person(context, server.url)
    until(lambda: len(labels.labels()) == 3 and again.unsent() == 0, 30)
    assert [label.question for label in labels.labels()] == ids[:3] and again.troubles == person.troubles == []
    context.close()
    server.kill()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_is_labeled_by_keyboard_while_it_trains(browser: sync_api.Browser, tmp_path: Path) -> None:
    """Training and server are killed on the way; the run finishes, and the person is told what they did."""
    command = ("tests.label.training", str(tmp_path))
    trainer = start(*command)
    until((tmp_path / "labels.db").exists)
    server = Server(tmp_path)
    context = browser.new_context()
    person = Person(context, server.url)
    judged = 0
    while person.wait() == "pair":
        before = person.page.locator("#pair").inner_text()
        person.press("121012312"[judged % 9])
        judged += 1
        if judged == 2:
            kill(trainer)
            trainer = start(*command)
        if judged == 4:
            server.kill()
            server.restart()
            person.page.goto(server.url)
        if judged == 7:
            person.page.reload()
        if judged % 9 == 8:
            continue  # the key was 3: nothing was judged
        sync_api.expect(person.page.locator("#pair")).not_to_have_text(before, timeout=5_000)
    output, _ = trainer.communicate(timeout=60)
    assert "finished" in output
    report = person.page.locator("#report").inner_text()
    labels, store = Labels(tmp_path), Store(tmp_path / "run.db")
    given = labels.labels()
    assert f"ann: {len(given)} judged" in report and person.troubles == []
    assert len(given) == len({label.question for label in given}) == len(labels.cases())
    assert len(store.comparisons()) == len(given) and {c.user for c in store.comparisons()} == {"human(ann)"}
    assert len({label.assisted for label in labels.labels(drawn=True)}) == 2, "a share without assistance"
    assert {c.judgement.assisted for c in store.comparisons("paper")} == {True, False}
    context.close()
    server.kill()


@pytest.mark.slow
def test_pictures_are_stepped_through_by_keys_and_told(browser: sync_api.Browser, tmp_path: Path) -> None:
    Store(tmp_path / "run.db").close()
    labels = Labels(tmp_path)

    def draw(case: Case, outcome: Outcome, said: Sequence[Assistance]) -> list[Picture]:
        shown = [Picture("before", "o o o\no"), Picture("<b>after</b>", f"o o {outcome.text[-1]}")]
        return [*shown, Picture("a reply", "o")] if said and outcome.text[-1] == "A" else shown

    labels.ask("t", 0, "Which?", [pair(0)], 1, 0.0, draw=draw)
    labels.ask("t", 1, "Which?", [pair(1)], 1, 0.0)
    long = 1 if labels.claim("ann")[0].swapped("ann") else 0  # where the outcome with a reply is shown
    server = Server(tmp_path, "--as", "ann")
    context = browser.new_context()
    person = Person(context, server.url)
    page = person.page
    assert person.wait() == "pair"

    def captions() -> list[str]:
        found = [page.locator(f"#caption-{i}").inner_text() for i in range(2)]
        return found[::-1] if long else found

    assert captions() == ["2 of 3: <b>after</b>", "2 of 2: <b>after</b>"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert barriers(page) == []
    person.press(".")
    assert captions() == ["3 of 3: a reply", "2 of 2: <b>after</b>"]
    told = page.locator("#status[role=status]").inner_text()
    assert told.startswith("Picture 3 of 3.") and "a reply" in told and "after" in told
    person.press("h")
    assert captions() == ["2 of 2: <b>after</b>", "2 of 2: <b>after</b>"], "hidden: nothing of the reply"
    person.press(".", "h", ".", ".", ",", ",", ",")
    assert captions() == ["1 of 3: before", "1 of 2: before"]
    assert page.locator("#picture-0").inner_text().splitlines() == ["o o o", "o"]
    page.locator("#on").click()
    assert captions()[0] == "2 of 3: <b>after</b>"
    person.press("1")
    until(lambda: len(labels.labels()) == 1, 10)
    person.wait()
    assert not page.locator("#drawn-0").is_visible() and not page.locator("#on").is_visible()
    person.press(".", ",")
    assert person.troubles == []
    context.close()
    server.kill()
