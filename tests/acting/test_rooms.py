"""The rooms: what their reward pays for, solved exactly, and tools that see what is so."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rrm.acting import Episode, Place
from rrm.acting.episodes import ARCHIVE
from rrm.acting.playing import Player
from rrm.core.records import Group, Outcome
from rrm.core.task import Assistant
from rrm.measure.oracle import is_true
from rrm.worlds.grids.rooms import CLIFF, Room, Walk, cliff
from rrm_tasks.cliff import cliff as edged
from rrm_tasks.cliff import facts as edge_facts
from rrm_tasks.vase import facts, vase

UP, RIGHT, DOWN, LEFT = range(4)
CASE = vase(n=2).cases.draw(1, "tests")[0]  # type: ignore[union-attr]


def walked(*actions: int) -> Episode:
    """An episode of these moves, as far as it goes."""
    player = Player(Place.of(CASE).make())
    player.begin()
    for action in actions:
        if not player.done:
            player.act(action)
    return player.episode()


@pytest.mark.parametrize("make", [Room, cliff], ids=["vase", "cliff"])
def test_they_keep_gymnasiums_contract(make: type[Room]) -> None:
    check_env(make(), skip_render_check=True)
    assert "R" in (make(render_mode="ansi").render() or "")


def test_the_rewards_only_optimum_breaks_the_vase_and_two_steps_more_do_not() -> None:
    """All plays of four and of six moves."""
    best = [walked(*moves) for moves in product(range(4), repeat=4)]
    there = [one for one in best if one.ended]
    assert len(there) == 1 and there[0].hidden["broken"][-1] == 1
    assert walked(DOWN, RIGHT, RIGHT, RIGHT, RIGHT, UP).hidden["reward"].sum() == there[0].hidden["reward"].sum() - 2
    whole = [one for moves in product((UP, RIGHT, DOWN), repeat=6) if (one := walked(*moves)).ended]
    assert any(one.hidden["broken"][-1] == 0 for one in whole)


@pytest.mark.parametrize(
    "moves", [(1, 1, 1, 1), (2, 1, 1, 1, 1, 0), (0, 3) * 12, (1, 1, 3, 3) * 6, (2, 1, 1, 0, 2) * 5], ids=str
)
def test_the_tools_see_what_is_so(moves: tuple[int, ...]) -> None:
    outcome = Outcome("", data={"episode": ARCHIVE.remember(walked(*moves))})
    said = {}
    for assistant in vase().assistants:
        assert isinstance(assistant, Assistant)
        ((answers,),) = assistant.examine([Group(CASE, (outcome,))])
        said |= {finding.fact: finding.holds for finding in answers.findings}
    assert said == {fact.name: is_true(fact) for fact in facts(CASE, outcome)}


@pytest.mark.parametrize("moves", [(1, 1, 1, 1, 1), (0, 1, 1, 1, 1, 2), (0, 2) * 12, (2,), (1, 1, 0, 1, 1, 2)], ids=str)
def test_who_walks_along_the_edge_is_seen_whatever_the_wind_does(moves: tuple[int, ...]) -> None:
    for case in edged(n=8).cases.draw(8, "tests"):  # type: ignore[union-attr]
        player = Player(Place.of(case).make())
        player.begin()
        for action in moves:
            if not player.done:
                player.act(action)
        outcome = Outcome("", data={"episode": ARCHIVE.remember(player.episode())})
        said = {}
        for assistant in edged().assistants:
            assert isinstance(assistant, Assistant)
            ((answers,),) = assistant.examine([Group(case, (outcome,))])
            said |= {finding.fact: finding.holds for finding in answers.findings}
        truth = {fact.name: is_true(fact) for fact in edge_facts(case, outcome)}
        assert truth == said | {"stands": truth["stands"]}
        assert not (truth["soon24"] and not truth["stands"])  # who fell does not arrive


def test_steps_beside_the_edge_are_those_in_the_row_above_it() -> None:
    case = edged(n=2).cases.draw(1, "tests")[0]  # type: ignore[union-attr]
    env = cliff(gust=0.0)
    seen = [env.reset(seed=0)[0]]
    for action in (RIGHT, RIGHT, UP, RIGHT, RIGHT, DOWN):
        seen.append(env.step(action)[0])  # type: ignore[arg-type]
    walk = Walk.of(np.stack(seen), CLIFF)
    assert walk.near == (1, 2) and walk.arrived and case.data["env"].endswith(":cliff")


def test_the_cliff_is_fallen_from_by_the_short_way_more_often() -> None:
    falls = {}
    for name, way in {"short": (RIGHT,) * 6, "long": (UP, RIGHT, RIGHT, RIGHT, RIGHT, DOWN)}.items():
        env = cliff()
        falls[name] = 0
        for seed in range(200):
            env.reset(seed=seed)
            for action in way:
                *_, ended, cut, info = env.step(action)  # type: ignore[arg-type]
                if ended or cut:
                    break
            falls[name] += info["fallen"]
    assert falls["short"] > 3 * falls["long"] > 0
