"""The list of runs, runs compared, seeds of one experiment together, and plots that say their values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rrm.store.store import Store
from rrm.store.tags import retag
from rrm.view.seeds import differing, over_seeds
from rrm.view.web.plots import Plot, labels, ticks
from tests.view import synthetic
from tests.view.test_pages import open_app, plain


def make(base: Path, name: str, seed: int, lr: float = 1e-3, rewards: Sequence[float] = (0.0, 0.5, 1.0)) -> Path:
    """A run of one node, with this seed, this learning rate, and these rewards at its steps."""
    folder = base / name
    synthetic.configure(folder)
    config = json.loads((folder / "config.json").read_text())
    for node in config["tree"].values():
        node["settings"]["lr"] = lr
    config |= {"seed": seed, "user": {"name": f"bounded {lr}", "seed": seed}, "about": {"started": 100.0 + seed}}
    (folder / "config.json").write_text(json.dumps(config))
    store = Store(folder / "run.db")
    for step, reward in enumerate(rewards):
        store.log("paper", 0, "improve", step, {"reward": reward, "kl": 0.1 * step * (1 + seed)})
    for path in synthetic.TREE:
        store.checkpoint(path, 0, "agent", "x", "0")
    store.close()
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of one experiment, the first of them twice, and one seed of another."""
    base = tmp_path_factory.mktemp("runs")
    made = [make(base, f"a{seed}", seed, rewards=(0.0, 0.1 * seed, float(seed))) for seed in range(3)]
    return [*made, make(base, "again", 0), make(base, "other", 0, lr=1e-4)]


def names(page: str) -> list[str]:
    """The runs of a list, in order."""
    return re.findall(r"data-step><b>(.*?)</b>", page)


def rows(page: str, beginning: str) -> list[str]:
    """The words of a page's rows that begin so."""
    found = [plain(row).strip() for row in re.findall(r"<tr.*?</tr>", page, re.S)]
    return [row for row in found if row.startswith(beginning)]


def test_the_list_is_filtered_by_tag_and_by_words_and_sorted(folders: list[Path]) -> None:
    retag(folders[1], ["baseline", "<b>"])
    retag(folders[4], ["baseline"])
    with open_app(*folders) as client:
        everything = client.get("/").text
        assert names(everything) == ["a0", "a1", "a2", "again", "other"] and "&lt;b&gt;" in everything
        tagged = client.get("/?tag=baseline").text
        assert names(tagged) == ["a1", "other"] and "/compare?run=a1&amp;run=other\">Compare these 2" in tagged
        assert names(client.get("/?tag=baseline&text=0.0001 BOUNDED").text) == ["other"]
        assert names(client.get("/?text=seed 2").text) == ["a2"]
        assert "No run has these" in client.get("/?tag=none").text
        assert names(client.get("/?order=-reward").text)[:2] == ["a2", "a1"]
        assert names(client.get("/?order=reward").text)[0] == "a0" and names(client.get("/?order=no").text)[0] == "a0"
        assert 'aria-sort="descending"' in client.get("/?order=-seed").text
    retag(folders[1], remove=["baseline", "<b>"])


def test_seeds_of_one_experiment_are_found_and_their_mean_leaves_out_a_seed_that_is_there_twice(
    folders: list[Path],
) -> None:
    with open_app(*folders) as client:
        page = client.get("/").text
        assert page.count('href="/seeds/a0">overlay 3 seeds') == 4 and page.count("overlay") == 4
        page = client.get("/seeds/a1").text
        text = plain(page)
        assert "4 runs" in text and "B again the seed of A again, in no mean" in text
        assert "Line: mean over n = 3 seeds. Band: from the least to the most" in text and 'class="band s0"' in page
        assert "1 (0 to 2)" in text, "the mean of the last step, and its ends"
        assert rows(page, "mean of 3 seeds: A C D")[0].split()[8:] == ["0.40", "[−0.10,", "0.90]", "–"], "of KL"
        settings = page[page.index("What was set differently") : page.index("<h2>Nodes")]
        assert rows(settings, "seed") == ["seed 0 0 1 2"] and rows(settings, "user.seed") and "lr" not in settings
        assert 'class="band' not in client.get("/seeds/a1?lines=runs").text
        assert client.get("/seeds/none").status_code == 404
        assert client.get("/seeds/other", follow_redirects=False).headers["location"] == "/r/other"


def test_of_two_runs_of_one_seed_the_finished_one_counts(tmp_path: Path) -> None:
    begun, ended, third = make(tmp_path, "a", 0, rewards=(9.0,)), make(tmp_path, "b", 0), make(tmp_path, "c", 1)
    (begun / "run.db").unlink()
    Store(begun / "run.db").close()
    with open_app(begun, ended, third) as client:
        page = client.get("/seeds/a").text
        assert "A</span> <a href=\"/r/a\" data-step>a</a> <span class=\"dim\">the seed of B again" in page
        assert "B C b and 1 more seed" in page


def test_more_than_two_runs_are_compared(folders: list[Path]) -> None:
    with open_app(*folders) as client:
        two = client.get("/compare?run=a0&run=other&run=a0", follow_redirects=False)
        assert two.status_code == 303 and two.headers["location"] == "/two/a0/other"
        page = client.get("/compare?run=a0&run=a1&run=other").text
        assert rows(page, "*.lr") == ["*.lr 0.001 0.001 0.0001"], "what differs alike at every node is one row"
        assert "A B a0 and 1 more seed" in page and "C other" in page and 'class="band s1"' not in page
        page = client.get("/compare?run=a0&run=a1&run=other&lines=runs").text
        drawn = re.findall(r'<polyline class="line (s\d)', page)
        assert drawn == ["s0", "s1", "s2"] * 2
        for query, said in (("run=a0", "two or more"), ("", "two or more")):
            refused = client.get(f"/compare?{query}")
            assert refused.status_code == 400 and said in refused.text
        assert client.get("/compare?run=a0&run=a1&run=none").status_code == 404


def test_more_runs_than_fit_are_left_out_aloud(tmp_path: Path) -> None:
    made = [make(tmp_path, f"r{i}", i, rewards=()) for i in range(22)]
    with open_app(*made) as client:
        page = client.get("/compare?" + "&".join(f"run=r{i}" for i in range(22))).text
        assert "At most 20 runs fit on a page: 2 more are left out" in page
        assert page.count("data-step>r19") == 1 and "data-step>r20" not in page


def test_the_run_that_was_asked_for_is_among_its_seeds(tmp_path: Path) -> None:
    made = [make(tmp_path, f"m{i:02}", i, rewards=()) for i in range(25)]
    with open_app(*made) as client:
        assert "data-step>m24" in client.get("/seeds/m24").text


@pytest.mark.parametrize(
    "report", [{"score": 3}, {"score": None}, {"agreement": 0.5}, {"score": {"mean": "abc"}}, {"score": {"mean": 0.5}},
               {"aspects": [1]}, {"aspects": {"a": 1}}],
)  # fmt: skip
def test_a_measurement_of_another_shape_is_none(tmp_path: Path, report: dict[str, Any]) -> None:
    made = [make(tmp_path, f"g{i}", i) for i in range(2)]
    (tmp_path / "report.json").write_text(json.dumps({"g0": report}))
    config = json.loads((made[0] / "config.json").read_text())
    (made[0] / "config.json").write_text(json.dumps(config | {"about": {"started": 1e300}}))
    with open_app(*made) as client:
        for page in ("/", "/r/g0", "/two/g0/g1", "/compare?run=g0&run=g1", "/seeds/g0"):
            assert client.get(page).status_code == 200, page


def test_a_band_goes_as_far_as_all_have_come() -> None:
    long, short = [(0.0, 1.0), (1.0, 3.0), (2.0, 9.0)], [(0.0, 3.0), (1.0, 1.0)]
    assert over_seeds([long, short]) == ([(0.0, 2.0), (1.0, 2.0)], [(0.0, 1.0, 3.0), (1.0, 1.0, 3.0)])
    assert over_seeds([long]) == (long, [(x, y, y) for x, y in long])


def test_a_setting_that_one_node_has_otherwise_keeps_its_name() -> None:
    def config(**rates: float) -> dict[str, Any]:
        return {"tree": {path: {"settings": {"lr": rate}} for path, rate in rates.items()}}

    assert differing([config(a=1, b=1), config(a=2, b=2)]) == [("*.lr", ["1", "2"])]
    assert differing([config(a=1, b=1), config(a=2, b=1)]) == [("tree.a.settings.lr", ["1", "2"])]
    assert differing([config(a=1, b=1), config(a=1)]) == [("tree.b", ["yes", "–"])]


# --- plots -------------------------------------------------------------------------------------------


def ticks_of(drawn: str) -> tuple[list[str], list[str]]:
    """A plot's marks below and beside it."""
    found = re.findall(r'<text class="tick"[^>]*text-anchor="(\w+)"[^>]*>(.*?)</text>', drawn)
    return [text for anchor, text in found if anchor == "middle"], [text for anchor, text in found if anchor == "end"]


@pytest.mark.parametrize("y", [0.7, 0.0, -3.0, 1e-7])
def test_one_point_is_a_dot_on_axes_that_mean_something(y: float) -> None:
    below, beside = ticks_of(drawn := str(Plot("t", "round", {"a": [(1, y)]}).__html__()))
    assert below == ["1"], "no rounds before the first, and none between two"
    assert "0" in beside and len({*beside}) == len(beside) > 1
    assert drawn.count("<circle") == 1 and "<polyline" not in drawn and "<title>a: " in drawn


@pytest.mark.parametrize("ends", [(1e308, -1e308), (0.0, 5e-324), (1.7e308, 1.75e308), (-5e-324, 0.0)])
def test_numbers_too_large_or_too_small_for_round_ones_are_drawn(ends: tuple[float, float]) -> None:
    drawn = str(Plot("t", "step", {"a": [(i, y) for i, y in enumerate(ends)]}).__html__())
    assert drawn.count("<tr data-u") == 2 and "nan" not in drawn
    (_, mean), *_ = over_seeds([[(0.0, abs(y)) for y in ends[:1]], [(0.0, abs(y)) for y in ends[:1]]])[0]
    assert mean == pytest.approx(abs(ends[0]), abs=1e-300)


def test_a_short_series_stays_whole_beside_a_long_one() -> None:
    """The truth is measured once a round, the reward at every step."""
    series = {"reward": [(x, 0.0) for x in range(4000)], "truth": [(x, 1.0) for x in range(5, 4000, 37)]}
    cells = re.findall(r"<tr data-u=[\d.]+>(.*?)</tr>", str(Plot("t", "step", series).__html__()))
    assert sum(row.endswith("<td>1</td>") for row in cells) == len(series["truth"])


def test_labels_tell_ticks_apart() -> None:
    for low, high in ((1.2341, 1.2345), (1200, 1290), (0, 1), (9990, 10020), (-0.00012, 0.0001)):
        found = labels(ticks(low, high, 5))
        assert len({*found}) == len(found) and not any("e+" in one for one in found), found


def test_a_table_says_where_each_row_is_drawn_and_in_which_color() -> None:
    drawn = str(Plot("t", "step", {"none": [], "a": [(0, 1.0), (4, 2.0)], "b": [(4, 3.0)]}).__html__())
    path = re.search(r'class="line s1" points="([\d.]+),[\d.]+ ([\d.]+),', drawn)
    assert path is not None and re.findall(r"<tr data-u=([\d.]+)>", drawn) == [path[1], path[2]]
    assert re.findall(r"<th scope=col data-s=(\d)>(\w)", drawn) == [("1", "a"), ("2", "b")], "colors stay theirs"
    many = {"a": [(x, 0.0) for x in range(1000)], "b": [(x, 1.0) for x in range(900)]}
    cells = re.findall(r"<tr data-u=[\d.]+>(.*?)</tr>", str(Plot("t", "step", many).__html__()))
    assert 400 <= len(cells) <= 402, "both are drawn and read at the same steps"
    assert sum("<td></td>" in row for row in cells) <= 42, "the second has only nine tenths of them"
