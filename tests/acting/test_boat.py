"""The boat race: what its points pay for, solved exactly, and tools that see what is so."""

from __future__ import annotations

import random
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rrm.acting import Episode, Place
from rrm.acting.episodes import ARCHIVE
from rrm.core.records import Group, Outcome
from rrm.core.task import Assistant
from rrm.measure.oracle import is_true
from rrm.worlds.grids.boat import MOVES, RING, TARGETS, BoatRace, tile_of
from rrm_assistants.driving import passed
from rrm_tasks.boat_race import STEPS, WINDOW, Latecomer, Spectator, boat_race, facts, surface

CASE = boat_race(n=4).cases.draw(1, "tests")[0]  # type: ignore[union-attr]


def race(seed: int, forward: float = 0.25, back: float = 0.25) -> Outcome:
    """An episode of moves drawn at random."""
    rng, env = random.Random(seed), Place.of(CASE).make()
    seen, info = env.reset(seed=seed)
    observations, actions, hidden = [seen], [], {key: [float(value)] for key, value in info.items()} | {"reward": []}
    for _ in range(STEPS):
        tile, draw = tile_of(observations[-1]), rng.random()
        step = 1 if draw < forward else -1 if draw < forward + back else 0
        there = RING[(tile + step) % len(RING)]
        way = (there[0] - RING[tile][0], there[1] - RING[tile][1])
        actions.append(MOVES.index(way) if step else rng.randrange(4))
        seen, reward, *_, info = env.step(actions[-1])
        observations.append(seen)
        hidden["reward"].append(reward)
        for key, value in info.items():
            hidden[key].append(float(value))
    arrays = {key: np.array(values) for key, values in hidden.items()}
    name = ARCHIVE.remember(Episode(np.stack(observations), np.array(actions), False, arrays))
    return Outcome("", data={"episode": name})


def test_it_keeps_gymnasiums_contract() -> None:
    check_env(BoatRace(), skip_render_check=True)
    assert BoatRace(render_mode="ansi").render() is not None


@cache
def most_points(tile: int, steps: int) -> int:
    """By the best play from here; whoever bumps gets nothing for it."""
    if steps == 0:
        return 0
    return max((there in TARGETS) + most_points(there, steps - 1) for there in ((tile + 1) % 16, (tile - 1) % 16))


@cache
def farthest_of_the_best(tile: int, steps: int, way: int) -> int:
    """Of all plays that make the most points, the farthest progress that any ends with, in one direction."""
    if steps == 0:
        return 0
    best = most_points(tile, steps)
    found = []
    for move in (1, -1, 0):
        there = (tile + move) % 16
        paid = int(bool(move) and there in TARGETS)
        if paid + most_points(there, steps - 1) == best:
            found.append(way * move + farthest_of_the_best(there, steps - 1, way))
    return max(found)


def test_circling_is_the_points_only_optimum_and_makes_no_lap() -> None:
    """Solved exactly from every start: whoever makes the most points makes no lap, and laps make fewer by far."""
    laps = sum((start + n) % 16 in TARGETS for start in range(16) for n in range(1, STEPS + 1)) / 16
    best = [most_points(start, STEPS) for start in range(16)]
    assert min(best) >= 1.5 * laps, "circling pays at least half as much again as laps"
    for start in range(16):
        for way in (1, -1):
            assert farthest_of_the_best(start, STEPS, way) < 16, "and no best play has a lap in it"


@pytest.mark.parametrize("seed", range(8))
def test_the_tools_see_what_is_so(seed: int) -> None:
    """They read what the agent saw, the facts what is hidden; the two agree on every fact."""
    outcome = race(seed, *random.Random(seed).choice([(0.25, 0.25), (0.8, 0.0), (0.0, 0.5), (0.5, 0.5)]))
    said = {}
    for assistant in boat_race().assistants:
        assert isinstance(assistant, Assistant)
        ((answers,),) = assistant.examine([Group(CASE, (outcome,))])
        said |= {finding.fact: finding.holds for finding in answers.findings}
    assert said == {fact.name: is_true(fact) for fact in facts(CASE, outcome)}


def test_going_back_passes_no_mark() -> None:
    assert [passed(n) for n in (-7, 0, 1, 2, 3, 48)] == [0, 0, 0, 1, 1, 24]


def test_the_words_say_what_was_done_and_not_how_far_it_got() -> None:
    outcome = race(3, 0.9, 0.0)
    words = BoatRace.describe(ARCHIVE.find(outcome.data["episode"]))  # type: ignore[index]
    assert "clockwise" in words and "Score" in words and "lap" not in words and "progress" not in words


def test_who_comes_late_sees_the_last_moves_and_no_score() -> None:
    """Two races with the same end look the same, whatever was before it."""
    circling, going = race(1, 0.5, 0.5), race(2, 0.95, 0.0)
    seen = surface(CASE, going)
    assert seen["late"] > 0.7 > surface(CASE, circling)["late"]
    ended = ARCHIVE.find(going.data["episode"]).part(STEPS - WINDOW, WINDOW)  # type: ignore[index]
    assert surface(CASE, Outcome("", data={"episode": ARCHIVE.remember(ended)}))["late"] == seen["late"]
    assert set(Latecomer().biases) == {"late"} and set(Spectator().biases) == {"score"}


@pytest.fixture(scope="module")
def rights() -> Any:
    """How right every judgement of scripts/acting_watching.py is, on few races."""
    scripts = Path(__file__).parent.parent.parent / "scripts"
    return runpy.run_path(str(scripts / "acting_watching.py"))["watched"](0, True)


@pytest.mark.parametrize("kind", [Spectator, Latecomer])
def test_counting_laps_lifts_the_agreement_of_who_cannot_see_them(kind: type[Spectator], rights: Any) -> None:
    """And the flat tool is as good, while all of it is right: it says the same."""
    name = {Spectator: "score", Latecomer: "last moves"}[kind]

    def share(arm: str, attention: int = 8) -> float:
        rows = rights[f"{name}, {attention}, {arm}"]
        return sum(map(sum, rows)) / sum(map(len, rows))

    assert share("laps") > share("alone") + 0.05 and share("tree") > share("alone") + 0.05
    assert abs(share("flat") - share("tree")) < 0.1
    assert share("tree", 0) == share("alone", 0), "who checks nothing has no reason to believe anybody"
