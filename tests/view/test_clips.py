"""Episodes on the pages: played in films or strips, nothing hidden and nothing hostile in them, whatever is left."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import rrm
from rrm.acting import Acting
from rrm.acting.episodes import Episode, place_of
from rrm.core.clean import visible
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Answer, Assistance, Case, Finding, Outcome
from rrm.labels.queue import Labels
from rrm.store import films
from rrm.store.films import Film
from rrm.store.store import Store
from rrm.view.clips import STRIP, clip_of, moments, named_steps
from rrm.view.web.app import create_app
from rrm.view.web.label import as_shown
from rrm.view.web.static_copy import export
from tests.acting.places import FACTORIES
from tests.acting.test_places import task_in
from tests.bandits import Impatient, Interrupted
from tests.label.serving import Server
from tests.label.test_human import terminal
from tests.view import synthetic
from tests.view.browser import barriers, chromium, complaints, serving, wait_until
from tests.view.hostile import MARK, TEXTS
from tests.view.test_pages import open_app

CASE = Case("Go on.", {"env": "x", "seed": 1})


def episode(steps: int = 6, sign: int = 1) -> Episode:
    seen = np.stack([np.arange(steps + 1) * sign / 8, np.full(steps + 1, 0.5)], 1).astype(np.float32)
    hidden = {"reward": np.full(steps, 7770777.0), "<b>": np.full(steps, 8880888.0)}
    return Episode(seen, np.arange(steps) % 2, hidden=hidden)


def acted(folder: Path, what: Episode, text: str = "went on") -> Outcome:
    """An outcome whose arrays are in a run's folder."""
    path = place_of(folder, what.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(what.written())
    return Outcome(text, data={"env": "x", "episode": what.name, "steps": len(what), "ended": False})


def said(text: str, *findings: Finding) -> tuple[Assistance, ...]:
    return (Assistance("paper/proofs", "v1", (Answer(Case("well?"), Outcome(text), findings, None),)),)


def judged(
    a: Outcome, b: Outcome, of_a: tuple[Assistance, ...] = (), of_b: tuple[Assistance, ...] = ()
) -> Comparison:
    return Comparison(Pair("paper", CASE, a, b, of_a, of_b), Judgement(1.0, assisted=bool(of_a)), 0, "user")


def filmed(folder: Path, outcome: Outcome, steps: int = 6, words: str = "picture", images: bool = False) -> Film:
    shown = tuple(range(steps + 1))
    pngs = tuple(films.png(np.full((8, 8, 3), 30 * n % 256, np.uint8)) for n in shown) if images else ()
    texts = ("",) * len(shown) if images else tuple(f"{words} {n}" for n in shown)
    film = Film(steps, shown, tuple(f"{words} after {n}" for n in shown), texts, pngs)
    films.keep(folder, CASE.id, outcome.id, film)
    return film


# --- what there is to see --------------------------------------------------------------------------------


def test_without_a_film_there_is_a_strip_of_what_was_seen_and_done(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, CASE, acted(tmp_path, episode()))
    assert clip is not None and not clip.film and (clip.of, len(clip.frames)) == (6, 7)
    marks = [re.findall("●", frame.text.splitlines()[1]) for frame in clip.frames]
    places = [frame.text.splitlines()[1].index("●") for frame in clip.frames]
    assert all(len(one) == 1 for one in marks) and places == sorted(set(places)), "it moves to the right"
    assert "0.375" in clip.frames[3].text and "then did 1" in clip.frames[3].text and "the end" in clip.frames[6].text
    assert "7770777" not in repr(clip) and "8880888" not in repr(clip), "nothing that is hidden"


def test_a_long_episode_is_a_short_strip_and_a_small_page(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    wide = Episode(np.random.default_rng(0).normal(size=(50_001, 300)).astype(np.float32), np.zeros((50_000, 40)))
    outcome = acted(run, wide)
    clip = clip_of(run, CASE, outcome)
    assert clip is not None and len(clip.frames) == STRIP and clip.frames[-1].step == clip.of == 50_000
    assert "(288 more)" in clip.frames[0].text
    _add(run, judged(outcome, acted(run, episode())))
    with open_app(run) as client:
        assert len(client.get("/r/run/c/1").content) < 400_000


def test_what_is_lost_or_no_episode_is_no_clip_and_no_error(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    whole, cut, gone = (acted(run, episode(steps)) for steps in (4, 5, 6))
    place_of(run, episode(6).name).unlink()
    place_of(run, episode(5).name).write_bytes(episode(5).written()[:-9])
    odd = [Outcome("x", data={"episode": name}) for name in ("../../config", 7, None, "0" * 64)]
    assert clip_of(run, CASE, whole) is not None
    assert all(clip_of(run, CASE, one) is None for one in (cut, gone, Outcome("text"), *odd))
    _add(run, judged(cut, gone), judged(whole, gone), judged(odd[0], odd[1]))
    with open_app(run) as client:
        for seq, strips in ((1, 0), (2, 1), (3, 0)):
            page = client.get(f"/r/run/c/{seq}")
            assert page.status_code == 200 and page.text.count("<details class=\"reel\"") == strips
            assert ("player.js" in page.text) == bool(strips)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("broken at step 7", [7]), ("bumps at moves 3, 9 and 12.", [3, 9, 12]), ("step12: no", [12]),
        ("steps 4-6", [4, 6]), ("time = 5", [5]), ("Frame #8", [8]), ("step_3 step 3", [3]), ("STEP 2", [2]),
        ("after 24 steps", []), ("8 moves, 3 bumps", []), ("misstep 4", []), ("times 3", []), ("mark3: yes", []),
        ("step 1234567890", []), ("", []),
    ],
)  # fmt: skip
def test_the_steps_that_words_name(text: str, steps: list[int]) -> None:
    assert named_steps(text) == steps


def test_a_step_is_on_the_time_line_with_what_was_found_there() -> None:
    found = moments("safe", [("whole", False, "broken at step 3"), ("step5", True, "")], "step 9\nstep 2 odd", 6)
    assert [(m.step, m.holds, m.words) for m in found] == [
        (2, None, "step 2 odd"), (3, False, "whole: broken at step 3"), (5, True, "step5")
    ], "step 9 is not of it"  # fmt: skip
    assert len(moments("safe", [], "step 3 " * 10**6, 6)) == 1


# --- the pages -------------------------------------------------------------------------------------------


def _add(run: Path, *rows: Comparison) -> None:
    store = Store(run / "run.db")
    for i, one in enumerate(rows):
        store.add(one, i)
    store.close()


def test_a_comparison_has_both_films_and_what_was_said_of_their_steps(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    a, b = acted(run, episode()), acted(run, episode(sign=-1))
    filmed(run, a, words="drawn")
    film = filmed(run, b, images=True)
    _add(run, judged(a, b, said("whole: no broken at step 3", Finding("whole", False, None, "broken at step 3")), ()))
    with open_app(run) as client:
        page = client.get("/r/run/c/1").text
        assert page.count("<figure") == 7 + 7 and page.count("<img") == 7 and "drawn 5" in page
        assert 'data-moment="3" data-side="A" data-by="proofs" data-state="no"' in page
        address = f"/r/run/film/{CASE.id}/{b.id}"
        assert f'src="{address}/6.png"' in page
        answer = client.get(f"{address}/6.png")
        assert answer.content == film.images[6] and answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff" and "sandbox" in str(answer.headers)
        for none in (f"{address}/7.png", f"/r/run/film/{CASE.id}/{a.id}/0.png", f"/r/run/film/..%2f..%2fx/{b.id}/0.png",
                     f"/r/none/film/{CASE.id}/{b.id}/0.png", f"/r/run/film/{CASE.id}/{b.id[:-1]}/0.png"):  # fmt: skip
            assert client.get(none).status_code == 404, none
        assert "7770777" not in page and "8880888" not in page
    assert export([run], tmp_path / "copy") > 0
    kept = tmp_path / "copy" / "r" / "run" / "film" / CASE.id / b.id / "6.png"
    assert kept.read_bytes() == film.images[6]
    copied = (tmp_path / "copy" / "r" / "run" / "c" / "1" / "index.html").read_text()
    assert f'src="../../film/{CASE.id}/{b.id}/6.png"' in copied


class Elements(HTMLParser):
    """Elements that no page of ours has."""

    def __init__(self) -> None:
        super().__init__()
        self.odd: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        source = given.get("src", "")
        ours = {"script": source.startswith("/static/"), "img": source.startswith("/r/run/film/")}
        barred = tag in ("style", "iframe", "object", "base") or "http-equiv" in given or not ours.get(tag, True)
        if barred or any(name.startswith("on") for name in given) or "javascript:" in given.get("href", ""):
            self.odd.append(self.get_starttag_text() or tag)


def test_hostile_words_of_films_and_infos_are_only_words(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    store = Store(run / "run.db")
    for i, text in enumerate(TEXTS.values()):
        a, b = acted(run, episode(), f"{i} a"), acted(run, episode(sign=-1), f"{i} b")
        filmed(run, a, words=text)
        store.add(judged(a, b, said(f"step 3 {text}", Finding("whole", False, None, f"step 2 {text}")), ()), i)
        store.log("paper", 0, "improve", i, {"proxy": 1.0, "reward": 0.5, f"hidden {text}": float(i)})
    store.close()
    with open_app(run) as client:
        pages = [client.get(f"/r/run/c/{i + 1}").text for i in range(len(TEXTS))]
        pages.append(client.get("/r/run/node/paper").text)
    for page in pages:
        found = Elements()
        found.feed(page)
        assert found.odd == [], "nothing became an element"
        assert "\x1b" not in page and "\u202e" not in page
    for text, page in zip(TEXTS.values(), pages, strict=False):
        assert visible(f"{text} 4") in html.unescape(page).replace("\r\n", "\n"), text


def test_the_curves_of_a_node_that_acts_stand_together(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [synthetic.comparison(0)])
    with open_app(run) as client:
        assert "proxy" not in client.get("/r/run/node/paper").text, "of text there is none"
        store = Store(run / "run.db")
        for step in range(3):
            values = {"reward": float(step), "proxy": 40.0 - step, "hidden laps": step / 2}
            store.log("paper", 1, "improve", step, values)
        store.close()
        page = client.get("/r/run/node/paper").text
    figure = page[page.index("Learned reward, proxy") :].split("</figure>")[0]
    for words in ("learned, 0 to 2", "proxy, 38 to 40", "hidden laps, 0 to 1", "true score"):
        assert words in figure
    assert figure.count("<polyline") == 3 and ">least<" in figure and "<td>38</td>" in figure


def test_the_page_of_a_killed_run_plays_what_was_judged(tmp_path: Path) -> None:
    user, maker = Impatient(attention=200, patience=9), Acting(factories=FACTORIES)
    with pytest.raises(Interrupted):
        rrm.train(task_in("Painted"), user, maker, tmp_path / "run")
    half = tmp_path / "run" / films.FOLDER / ".x-y.safetensors.1.part"
    half.write_bytes(b"half")
    with open_app(tmp_path / "run") as client:
        for seq in range(1, 10):
            page = client.get(f"/r/run/c/{seq}").text
            shown = re.findall(r'src="(/r/run/film/[^"]*)"', page)
            assert len(shown) == 26 and all(client.get(one).status_code == 200 for one in (shown[0], shown[-1]))
        assert client.get("/r/run/node/walk").status_code == 200


# --- labeling --------------------------------------------------------------------------------------------


def asked(folder: Path, images: bool = True) -> tuple[Labels, Pair]:
    Store(folder / "run.db").close()
    a, b = acted(folder, episode()), acted(folder, episode(4, sign=-1))
    filmed(folder, a, 6, images=images)
    filmed(folder, b, 4, images=images)
    told = said("whole: no broken at step 3", Finding("whole", False, None, "broken at step 3"))
    pair = Pair("paper", CASE, a, b, told, ())
    labels = Labels(folder)
    labels.ask("paper", 0, "Which?", [pair], 1, 0.0)
    return labels, pair


def test_a_labeler_gets_clips_by_their_steps_and_findings_on_them(tmp_path: Path) -> None:
    labels, pair = asked(tmp_path)
    (question,) = labels.claim("ann")
    first = int(question.swapped("ann"))  # where the pair's A is
    shown = as_shown(question, "ann", folder=tmp_path)
    assert shown["opening"] == 0
    sides = shown["sides"][::-1] if first else shown["sides"]
    assert [len(side["pictures"]["alone"]) for side in sides] == [7, 5]
    image = f"/r/{tmp_path.name}/film/{CASE.id}/{pair.b.id}/2.png"
    assert sides[1]["pictures"]["shown"][2] == {"caption": "picture after 2", "text": "", "step": 2, "image": image}
    (moment,) = sides[0]["answers"][0]["moments"]
    assert moment == {"step": 3, "holds": False, "words": "whole: broken at step 3"} and not sides[1]["answers"]
    app = create_app([tmp_path])
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        client.get("/", params={"token": app.state.access.token})
        assert client.get(image).status_code == 200


def test_withheld_assistance_is_on_no_time_line(tmp_path: Path) -> None:
    labels, pair = asked(tmp_path, images=False)
    labels.ask("paper", 1, "Which?", [replace(pair, again=1)], 1, 1.0)
    *_, question = labels.claim("ann", 2)
    assert not question.assisted("ann")
    assert "broken" not in json.dumps(as_shown(question, "ann", folder=tmp_path))


@pytest.mark.parametrize("images", [False, True])
def test_the_terminal_steps_through_both_clips(tmp_path: Path, images: bool) -> None:
    labels, _ = asked(tmp_path, images)
    shown = terminal(tmp_path, ".", ".", "1")
    assert [shown.count(f"picture after {n}") for n in range(4)] == [2, 2, 2, 0], "from the beginning, both"
    assert ("the page shows it" in shown) == images and ("picture 2" in shown) != images
    assert len(labels.labels()) == 1


# --- in a browser ----------------------------------------------------------------------------------------


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_two_episodes_are_played_and_stepped_together(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    a, b = acted(run, episode()), acted(run, episode(3, sign=-1), TEXTS["script"])
    filmed(run, a, 6, images=True)
    filmed(run, b, 3, words=TEXTS["handler"])
    _add(run, judged(a, b, said("oh at step 4"), said(f"step 2 {TEXTS['attribute']}")))
    with chromium() as browser, serving(create_app([run])) as address:
        context = browser.new_context(bypass_csp=False)
        tab = context.new_page()
        heard = complaints(tab)
        tab.goto(address)
        tab.goto(address.split("/?")[0] + "/r/run/c/1")

        def at() -> list[str]:
            return [text.split(". ")[0] for text in tab.locator(".stage figcaption").all_text_contents()]

        assert at() == ["1", "1"]
        tab.keyboard.press(".")
        tab.keyboard.press(".")
        assert at() == ["3", "3"] and tab.locator("#clock").text_content() == "step 2 of 6"
        for _ in range(5):
            tab.keyboard.press(".")
        assert at() == ["7", "4"], "what is over stays at its end"
        tab.keyboard.press(",")
        assert at() == ["6", "4"]
        assert "after 5" in (tab.locator("#status[role=status]").text_content() or "")
        tab.locator("#moments button", has_text="A step 4, proofs: oh at step 4").click()
        assert at() == ["5", "4"]
        assert tab.locator("#ticks rect").count() == 2
        tab.locator("#time").focus()
        tab.keyboard.press("Home")
        assert at() == ["1", "1"]
        tab.keyboard.press("p")  # a key of the page, though the slider has the focus
        until(lambda: tab.locator("#clock").text_content() != "step 0 of 6")
        assert tab.locator("#play").get_attribute("aria-pressed") == "true"
        until(lambda: tab.locator("#clock").text_content() == "step 6 of 6")
        assert tab.locator("#play").get_attribute("aria-pressed") == "false" and at() == ["7", "4"]
        tab.locator("#play").click()
        tab.keyboard.press("p")
        assert tab.locator("#play").get_attribute("aria-pressed") == "false" and at()[0] != "7", "from the beginning"
        tab.locator("details.reel summary").first.click()
        tab.locator(".side").first.locator(".strip figure").nth(2).click()
        assert at() == ["3", "3"]
        wait_until(tab, "document.querySelector('.stage img').naturalWidth == 8")
        assert MARK not in tab.title() and tab.evaluate(f"window['{MARK}']") is None
        assert tab.locator("main img").count() == 8 and tab.locator("[onerror], [onload], [onfocus]").count() == 0
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert heard == []
        context.close()
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # axe-core adds a script
            tab = context.new_page()
            tab.goto(address)
            tab.goto(address.split("/?")[0] + "/r/run/c/1")
            assert barriers(tab) == []
            context.close()


def test_a_static_copy_plays_too(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run", [])
    a, b = acted(run, episode()), acted(run, episode(sign=-1))
    filmed(run, a, images=True)
    _add(run, judged(a, b))
    with chromium() as browser, ThreadPoolExecutor() as pool:  # Playwright has an event loop in this thread
        pool.submit(export, [run], tmp_path / "copy").result()
        context = browser.new_context(offline=True)
        tab = context.new_page()
        tab.goto((tmp_path / "copy" / "r" / "run" / "c" / "1" / "index.html").as_uri())
        tab.keyboard.press(".")
        wait_until(tab, "document.querySelector('.stage img').naturalWidth == 8")
        assert [text[:2] for text in tab.locator(".stage figcaption").all_text_contents()] == ["2.", "2."]
        context.close()


@pytest.mark.slow
def test_a_labeler_plays_both_clips_by_the_keyboard(tmp_path: Path) -> None:
    labels, pair = asked(tmp_path)
    server = Server(tmp_path, "--as", "ann")
    with chromium() as browser:
        context = browser.new_context(bypass_csp=False)
        tab = context.new_page()
        heard = complaints(tab)
        tab.goto(server.url)
        tab.locator("#pair:visible").wait_for()
        longer = "all => all.findIndex(e => e.textContent.includes('of 7'))"
        a = tab.locator("#caption-0, #caption-1").evaluate_all(longer)

        def at(side: int) -> str:
            return (tab.locator(f"#caption-{side}").text_content() or "").split(":")[0]

        assert (at(a), at(1 - a)) == ("1 of 7", "1 of 5"), "an episode begins at its beginning"
        tab.keyboard.press(".")
        assert (at(a), at(1 - a)) == ("2 of 7", "2 of 5")
        wait_until(tab, f"document.querySelector('#frame-{a} img').naturalWidth == 8")
        moment = tab.locator("#moments button")
        assert moment.count() == tab.locator("#ticks rect").count() == 1
        assert "step 3, proofs: whole: broken at step 3" in (moment.text_content() or "")
        moment.click()
        assert (at(a), at(1 - a)) == ("4 of 7", "4 of 5")
        tab.keyboard.press("h")
        assert moment.count() == 0 and at(a) == "4 of 7", "hidden: nothing of it on the time line"
        tab.keyboard.press("h")
        tab.keyboard.press("p")
        until(lambda: at(a) == "7 of 7")
        assert at(1 - a) == "5 of 5" and tab.locator("#play").get_attribute("aria-pressed") == "false"
        tab.locator(f"#reel-{a} summary").click()
        tab.locator(f"#strip-{a} figure").nth(1).click()
        assert at(a) == "2 of 7"
        tab.keyboard.press("0")
        until(lambda: len(labels.labels()) == 1)
        assert labels.labels()[0].preference == 0.5 and heard == []
        context.close()
        context = browser.new_context(bypass_csp=True)
        labels.ask("paper", 1, "Which?", [replace(pair, again=1)], 1, 0.0)
        tab = context.new_page()
        tab.goto(server.url)
        tab.locator("#pair:visible").wait_for()
        assert barriers(tab) == []
        context.close()
    server.kill()
