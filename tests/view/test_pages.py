"""The pages, without a browser: they are quick however large the run, and say what the run says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.store.store import Store
from rrm.view.lists import BY_TRUTH
from rrm.view.web.app import create_app
from rrm.view.web.plots import Plot, ticks
from tests.view import synthetic


@contextmanager
def open_app(*folders: Path) -> Iterator[TestClient]:
    app = create_app(folders)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        client.get("/", params={"token": app.state.access.token})
        yield client


@pytest.mark.parametrize("comparisons", [1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_large_run_opens_quickly(comparisons: int, tmp_path: Path) -> None:
    """Processor time, so that a busy machine does not fail it. The page of the challenges, which reads them all, may
    take longer."""
    folder = synthetic.bulk(tmp_path / "big", comparisons, 2)
    with closing(Store(folder / "run.db")) as store:
        synthetic.true(folder, store.compared("paper"))
    with open_app(folder) as client:
        queries = ["", "?after=4", "?before=900", "?show=na", "?text=nowhere", "?show=both", "?order=against"]
        queries += [f"?show={show}" for show in BY_TRUTH] + ["?show=untrue&order=newest"]
        paths = ["/", "/r/big", "/r/big/node/paper", "/r/big/c/1", "/r/big/c/1/a/0.0", "/r/big/c/900"]
        paths += ["/r/big/challenges/paper", "/r/big/outcomes/paper"]
        for path in [*paths, *(f"/r/big/list/paper{query}" for query in queries)]:
            if comparisons == 1000 or "/list/" not in path or path.endswith("list/paper"):
                client.get(path)  # templates are compiled once
            began = time.process_time()
            answer = client.get(path)
            most = 2.0 if "/challenges/" in path else 1.0
            assert time.process_time() - began < most, path
            assert answer.status_code == 200 and len(answer.content) < 300_000, path


def test_damaged_databases_beside_a_run_break_no_page(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", [synthetic.comparison(0)], [0.5])
    for name in ("labels.db", "calls.db", "truth.db"):
        (folder / name).write_bytes(b"no database, " * 500)
    with open_app(folder) as client:
        for page in ("/", "/r/run", "/r/run/node/paper", "/r/run/list/paper", "/r/run/c/1", "/r/run/outcomes/paper",
                     "/r/run/challenges/paper"):  # fmt: skip
            assert client.get(page).status_code == 200, page
    for words in (["inspect", str(folder)], ["inspect", str(folder), "paper"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output


def test_a_comparison_says_who_thinks_what(tmp_path: Path) -> None:
    made = [synthetic.comparison(0, preference=1.0), synthetic.comparison(1, preference=0.0, assisted=False)]
    with open_app(synthetic.make(tmp_path / "run", made, [-0.5, -0.25])) as client:
        text = plain(client.get("/r/run/c/1").text)
        assert "user A" in text and "reward model B by 0.50 ± 0.50" in text and "assistance shown" in text
        assert "proofs A no ranks at 75%" in text and "data A N/A" in text and "preferred" in text
        text = plain(client.get("/r/run/c/2").text)
        assert "user B" in text and "assistance none" in text
        text = plain(client.get("/r/run/c/1/a/0.0").text)
        assert "its reward model's score 1.10" in text and "What its own assistants said" in text


def test_an_answer_leads_to_the_comparisons_that_trained_it(tmp_path: Path) -> None:
    early = synthetic.comparison(0, task="paper/proofs", a="an early critique", assisted=False)
    late = synthetic.comparison(1, task="paper/proofs", a="a later critique", assisted=False)
    with open_app(synthetic.make(tmp_path / "run", [early, synthetic.comparison(2), late])) as client:
        text = client.get("/r/run/c/2/a/0.0").text
        assert "an early critique" in text and "a later critique" not in text
        assert "No comparison of this run" in client.get("/r/run/c/2/a/0.0.0.0").text


def test_what_differs_between_two_runs(tmp_path: Path) -> None:
    one, other = synthetic.make(tmp_path / "one", []), synthetic.make(tmp_path / "other", [])
    synthetic.configure(other, name="a person")
    with open_app(one, other) as client:
        text = plain(client.get("/two/one/other").text)
        assert "user.name bounded(attention=4) a person" in text and "tree.paper" not in text
        assert client.get("/two?a=one&b=other", follow_redirects=False).headers["location"] == "/two/one/other"
        assert client.get("/two/one/none").status_code == 404


def test_a_run_that_has_just_begun_can_be_looked_at(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", [])
    (folder / "config.json").unlink()
    with open_app(folder) as client:
        assert client.get("/").status_code == client.get("/r/run").status_code == 200


@pytest.mark.parametrize("low, high", [(0, 1), (-3.2, 7.9), (0, 0), (5, 5), (1e-5, 3e-5), (-1e6, 1e6), (0, 24)])
def test_ticks_cover_and_are_few(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 8
    assert found == sorted(set(found))


def test_a_plot_says_in_numbers_what_it_draws() -> None:
    drawn = Plot("<Reward>", "step", {"a": [(0, 0.5), (1, 0.25)], "b": [(1, 2.0)]}).__html__()
    assert "<Reward>" not in drawn and "&lt;Reward&gt;" in drawn
    assert "<title" in drawn and "<desc" in drawn and "style=" not in drawn
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", drawn)
    cells = [re.sub("<[^>]+>", " ", row).split() for row in rows]
    assert cells == [["step", "a", "b"], ["0", "0.5"], ["1", "0.25", "2"]]
    assert "nothing recorded" in Plot("x", "y", {"a": []}).__html__()


def plain(page: str) -> str:
    """A page's words, without its marks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("&#39;", "'")
