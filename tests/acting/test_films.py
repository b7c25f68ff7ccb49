"""Films of episodes: of what was judged and nothing else, small whatever the episode, and of no weight in the run."""

from __future__ import annotations

import io
import json
import os
import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import rrm
from rrm.acting import Acting, Place, episode_of
from rrm.acting.episodes import Episode
from rrm.acting.filming import drawn, rendered
from rrm.acting.playing import play
from rrm.acting.policy import ActingPolicy
from rrm.core.errors import Notice
from rrm.core.judgements import Comparison
from rrm.core.records import Assistance, Case, Outcome
from rrm.core.task import Picture, Task
from rrm.store import films
from rrm.store.films import BYTES, MOST_DRAWN, MOST_PAINTED, SIDE, Film, FilmError
from rrm.store.store import Store
from tests.acting.places import FACTORIES, Line
from tests.acting.test_places import task_in

SEES = rrm.BoundedUser(attention=200, error=0.0, biases={})


def trained(folder: Path, env: str, films: bool = True) -> list[Comparison]:
    rrm.train(task_in(env), SEES.model_copy(), Acting(factories=FACTORIES, rollout=24, films=films), folder)
    return list(Store(folder / "run.db").comparisons("walk"))


def pixels(png: bytes) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(png)))


def test_what_is_judged_is_filmed_as_it_was_and_nothing_else_is(tmp_path: Path) -> None:
    judged = trained(tmp_path, "Painted")
    outcomes = {(c.case.id, one.id): one for c in judged for one in (c.a, c.b)}
    assert {path.stem for path in (tmp_path / films.FOLDER).iterdir()} == {f"{a}-{b}" for a, b in outcomes}
    for (case, name), outcome in list(outcomes.items())[:4]:
        film, episode = films.read(tmp_path, case, name), episode_of(outcome)
        assert film is not None and film.steps == tuple(range(13)) and film.of == len(episode) == 12
        for step in film.steps:
            png = films.image(tmp_path, case, name, step)
            assert png is not None
            lit = np.flatnonzero(pixels(png)[20, :, 0])
            assert lit.mean() == pytest.approx(60 + 50 * episode.hidden["x"][step], abs=1.5)
        assert films.image(tmp_path, case, name, 13) is None


def test_films_decide_nothing(tmp_path: Path) -> None:
    with_them, without = trained(tmp_path / "a", "Painted"), trained(tmp_path / "b", "Painted", films=False)
    assert not (tmp_path / "b" / films.FOLDER).exists()
    assert "SDL_VIDEODRIVER" not in os.environ, "as it was"
    assert [(c.pair.id, c.preference) for c in with_them] == [(c.pair.id, c.preference) for c in without]
    for kept in (tmp_path / "a" / "nodes").rglob("*.safetensors"):
        assert kept.read_bytes() == (tmp_path / "b" / kept.relative_to(tmp_path / "a")).read_bytes()


def test_a_film_of_a_part_begins_where_the_part_does(tmp_path: Path) -> None:
    task = task_in("Told", segment=5)
    policy = Acting(factories=FACTORIES, rollout=24).policy(task, 0)
    assert isinstance(policy, ActingPolicy) and task.cases is not None
    policy.folder = tmp_path
    groups = policy.sample(task.cases.draw(4, "x"), 4, "x")
    policy.film(task, [rrm.Pair.of(task.path, group, i, i + 1) for group in groups for i in range(3)])
    begun = set()
    for group in groups:
        for outcome in group.outcomes:
            film = films.read(tmp_path, group.case.id, outcome.id)
            first = round(12 * float(episode_of(outcome).observations[0, 1]))
            assert film is not None and film.texts == tuple(f"at [{first + n}]" for n in range(6))
            begun.add(first)
    assert len(begun) > 1


def test_an_environment_that_does_otherwise_now_gets_no_film() -> None:
    place = Place("Told", {}, 3, 12)
    episode = _episode(place)
    assert rendered(place, FACTORIES, episode) is not None
    other = replace(episode, observations=episode.observations + np.float32(0.001))
    with pytest.raises(FilmError, match="otherwise than it had done, at step 0"):
        rendered(place, FACTORIES, other)
    turned = replace(episode, actions=1 - episode.actions)
    with pytest.raises(FilmError, match="at step 1"):
        rendered(place, FACTORIES, turned)
    assert rendered(Place("Line", {}, 3, 12), FACTORIES, _episode(Place("Line", {}, 3, 12))) is None


def test_what_cannot_be_rendered_is_said_once_and_judged_all_the_same(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        judged = trained(tmp_path, "Blurred")
    said = [str(one.message) for one in heard if issubclass(one.category, Notice) and "no pictures" in str(one.message)]
    assert len(said) == 1 and "render raised RuntimeError: no lens" in said[0]
    assert len(judged) == 40 and not (tmp_path / films.FOLDER).exists()


def _episode(place: Place) -> Episode:
    env = place.make(FACTORIES)
    kinds = env.observation_space, env.action_space
    [(episode, _)] = play([place], ["k"], lambda seen, noise: (noise[:, 0] < 0.5).long(), 1, kinds, FACTORIES)
    return episode


# --- how much it may be ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000, 10**9])
def test_what_is_shown_of_many_is_even_and_has_both_ends(n: int) -> None:
    for most in (2, 48, 64):
        chosen = films.spread(n, most)
        assert len(chosen) == min(n, most) and chosen[0] == 0 and chosen[-1] == n - 1
        gaps = np.diff(chosen)
        assert not len(gaps) or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_pictures_of_a_long_episode_are_few_and_small(tmp_path: Path) -> None:
    place = Place("Painted", {"length": 2000}, 0, 2000)
    film = rendered(place, FACTORIES, _episode(place))
    assert film is not None and len(film.steps) == MOST_PAINTED == len(film.images) and film.steps[-1] == 2000
    noise = np.random.default_rng(0)
    for shape in ((900, 1600, 3), (64, 64), (3, 5000, 4), (1, 1, 3)):
        frames = [noise.integers(0, 256, shape, np.uint8) for _ in range(20)]
        pngs = films.painted(frames)
        assert sum(map(len, pngs)) <= BYTES and max(pixels(pngs[0]).shape) <= SIDE
    small = noise.integers(0, 256, (5, 7, 3), np.uint8)
    assert (pixels(films.painted([small])[0]) == small).all()


def test_a_frame_is_made_smaller_by_means() -> None:
    frame = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    frame[::2] = 200
    assert (pixels(films.painted([frame])[0]) == 100).all()


@pytest.mark.parametrize("frame", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_a_frame_that_is_none_is_an_error_in_words(frame: np.ndarray) -> None:
    with pytest.raises(FilmError, match="a frame of shape"):
        films.painted([frame])


def test_a_drawing_of_many_pictures_is_thinned_and_cut() -> None:
    def draw(case: Case, outcome: Outcome, said: Sequence[Assistance]) -> list[Picture]:
        return [Picture(f"{n}", "x" * 10_000) for n in range(1001)]

    task = Task("t", "Which?", lambda case, outcome: [], drawing=draw)
    episode = Episode(np.zeros((1001, 1), np.float32), np.zeros(1000, np.int64))
    film = drawn(task, Case("c"), Outcome("o"), episode)
    assert film is not None and len(film.steps) == MOST_DRAWN and len(film.written()) < 1.1 * BYTES
    assert [film.captions[i] for i in (0, 7, -1)] == [str(film.steps[i]) for i in (0, 7, -1)] and film.steps[-1] == 1000
    assert drawn(replace(task, drawing=lambda *given: []), Case("c"), Outcome("o"), episode) is None


def test_what_is_no_film_is_nothing_to_look_at(tmp_path: Path) -> None:
    film = Film(3, (0, 3), ("a", "b"), ("", ""), (films.png(np.zeros((2, 2, 3), np.uint8)),) * 2)
    films.keep(tmp_path, "c", "o", film)
    path = films.path_of(tmp_path, "c", "o")
    body = path.read_bytes()
    assert films.read(tmp_path, "c", "o") == replace(film, images=(b"", b""))
    assert films.image(tmp_path, "c", "o", 1) == film.images[1]
    rng = random.Random(0)
    for _ in range(200):  # half written, or damaged: anything but an exception
        damaged = bytearray(body[: rng.randrange(len(body) + 1)])
        for _ in range(rng.randrange(4) if damaged else 0):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        films.read(tmp_path, "c", "o")
        films.image(tmp_path, "c", "o", 1)
    row = {"of": 3, "steps": [0, 3], "captions": ["a", "b"], "texts": ["", ""]}
    for wrong in ({"steps": [0]}, {"steps": "x"}, {"texts": ["x"] * 9}, {"of": None}):
        path.write_bytes(save({}, {"film": json.dumps(row | wrong)}))
        assert films.read(tmp_path, "c", "o") is None, wrong
    path.write_bytes(save({"0": np.frombuffer(b"<script>", np.uint8)}, {"film": json.dumps(row)}))
    assert films.image(tmp_path, "c", "o", 0) is None, "no PNG"


# --- the curves ------------------------------------------------------------------------------------------


def test_what_the_environment_pays_and_hides_is_on_record_beside_the_learned_reward(tmp_path: Path) -> None:
    """Turned around, the proxy is turned around on record, and nothing else is other."""
    rows = {}
    for pays in (1.0, -1000.0):
        FACTORIES["Paid"] = lambda pays=pays, **more: Line(pays=pays, **more)  # type: ignore[assignment, misc]
        trained(tmp_path / str(pays), "Paid")
        found = Store(tmp_path / str(pays) / "run.db").metrics("walk")
        rows[pays] = {row[3:5]: row[5] for row in found if row[2] == "improve"}
    steps = {step for step, name in rows[1.0] if name == "proxy"}
    assert len(steps) == 3 and {name for _, name in rows[1.0]} >= {"reward", "hidden x"}
    assert all(rows[-1000.0][step, "proxy"] * rows[1.0][step, "proxy"] < 0 for step in steps)


def test_a_number_that_is_none_and_a_name_that_cannot_be_kept_stop_nobody(tmp_path: Path) -> None:
    class Odd(Line):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            seen, _, ended, cut, info = super().step(action)
            return seen, 1e308, ended, cut, {**info, "\ud800<b>": 1.0, "late": float("inf"), "much": 1e308}

    FACTORIES["Odd"] = Odd
    trained(tmp_path, "Odd")
    names = {row[4] for row in Store(tmp_path / "run.db").metrics("walk") if row[2] == "improve"}
    assert "hidden \\ud800<b>" in names and "hidden late" not in names and "proxy" not in names
