"""The user who cannot see: how well one judges boat races who sees the score, or the last moves only, and with whom.

Nothing is trained. Races of mixed quality (aimless, backwards, circling, going around by more or less) are judged
pair by pair, and a judgement is right if it is that of a user who checks all facts; a tie counts half. The same pairs
in every arm of a seed; a user learns whom to trust as it goes.

alone        nobody helps
laps         the tool that follows the race and counts
tree         the three tools laps, points and safe
flat         one tool that says what those three say, with one name and one record
tree guess   as tree, but points and safe say the opposite in half of the races; flat guess: the same findings, one name
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import rrm
from rrm.acting import Place
from rrm.acting.episodes import ARCHIVE
from rrm.acting.playing import Player
from rrm.core.records import Case, Finding, Group, Outcome, digest
from rrm.core.task import Assistant, assist
from rrm.core.tool_agent import tool_assistant
from rrm.core.validation import plant
from rrm.measure.stats import Interval, over_seeds
from rrm.worlds.grids.boat import MOVES, RING, BoatRace, Course, tile_of
from rrm_assistants.driving import ASPECT, Watcher, _laps, _points, _safe, everything, laps, points, safe
from rrm_tasks.boat_race import Latecomer, Spectator, boat_race

KINDS = ((0.25, 0.25, 0.0), (0.0, 0.6, 0.0), (0.1, 0.1, 0.9), (0.5, 0.1, 0.3), (0.7, 0.1, 0.0), (0.95, 0.0, 0.0))
"""Of races: chances of a move clockwise, of one back, and of circling between the two targets wherever they are met."""
ATTENTION = (0, 8, 16)
USERS = {"score": Spectator, "last moves": Latecomer}
CASES, QUICK = 12, 2
TRUTH = rrm.BoundedUser(attention=10_000, error=0.0, biases={})


def race(case: Case, kind: tuple[float, float, float], rng: random.Random) -> Outcome:
    """A race of a kind."""
    forward, back, circling = kind
    player = Player(Place.of(case).make())
    player.begin()
    heading = 1
    while not player.done:
        tile = tile_of(player.seen[-1])
        draw = rng.random()
        step = 1 if draw < forward else -1 if draw < forward + back else 0
        if circling and tile in (3, 4) and rng.random() < circling:
            heading = 1 if tile == 3 else -1
            step = heading
        elif circling and not step:
            step = 1  # on to where the targets are
        there = RING[(tile + step) % len(RING)]
        way = (there[0] - RING[tile][0], there[1] - RING[tile][1])
        player.act(MOVES.index(way) if step else rng.randrange(len(MOVES)))
    episode = player.episode()
    data = {"env": case.data["env"], "episode": ARCHIVE.remember(episode), "steps": len(episode), "ended": False}
    return Outcome(BoatRace.describe(episode), data=data)


def races(seed: int, cases: int) -> list[Group]:
    """Groups of six races, one of each kind."""
    supply = boat_race(n=64).cases
    assert supply is not None
    rng = random.Random(digest("races", seed))
    return [
        Group(case, tuple(race(case, kind, rng) for kind in KINDS)) for case in supply.draw(cases, f"races {seed}")
    ]


def guesses(course: Course, what: str) -> bool:
    """Whether a tool that guesses says the opposite of this race."""
    return int(digest("guess", what, list(course.moves)), 16) % 2 == 0


def _guessed(course: Course, what: str, found: Sequence[Finding]) -> tuple[Finding, ...]:
    wrong = guesses(course, what)
    return tuple(replace(one, holds=one.holds != wrong) for one in found)


def _points_guessed(course: Course) -> tuple[Finding, ...]:
    return _guessed(course, "points", _points(course))


def _safe_guessed(course: Course) -> tuple[Finding, ...]:
    return _guessed(course, "safe", _safe(course))


def _all_guessed(course: Course) -> tuple[Finding, ...]:
    return (*_laps(course), *_points_guessed(course), *_safe_guessed(course))


def _tool(name: str, finds: Any) -> Assistant:
    return tool_assistant(Watcher(name, f"Watches the race ({name}).", finds), covers=(ASPECT,), difficulty=2)


def arms() -> dict[str, tuple[Assistant, ...]]:
    """Who helps."""
    return {
        "alone": (), "laps": (laps(),), "tree": (laps(), points(), safe()), "flat": (everything(),),
        "tree guess": (laps(), _tool("points", _points_guessed), _tool("safe", _safe_guessed)),
        "flat guess": (_tool("everything", _all_guessed),),
    }  # fmt: skip


Rights = dict[str, list[list[float]]]
"""Arm -> per case, how right each judgement is: 1, 0, or 0.5 for a tie."""


def watched(seed: int, quick: bool) -> Rights:
    """Agreement with the truth, of every user with every help."""
    groups = races(seed, QUICK if quick else CASES)
    truth, bare = TRUTH.model_copy(), plant(boat_race(()))
    wanted = [
        [(i, j, sure) for i, j in combinations(range(len(KINDS)), 2)
         if (sure := truth.judge(bare, rrm.Pair.of(bare.path, group, i, j)).preference) in (0.0, 1.0)]
        for group in groups
    ]  # fmt: skip
    found: Rights = {}
    for arm, tools in arms().items():
        task = plant(boat_race(tools))
        shown = assist(tools, groups) if tools else groups
        for name, kind in USERS.items():
            for attention in ATTENTION:
                user = kind(attention=attention, seed=seed)
                rows = []
                for group, pairs in zip(shown, wanted, strict=True):
                    asked = [rrm.Pair.of(task.path, group, i, j) for i, j, _ in pairs]
                    heard = [user.judge(task, pair).preference for pair in asked]
                    both = zip(heard, pairs, strict=True)
                    rows.append([0.5 if one in (None, 0.5) else float(one == sure) for one, (*_, sure) in both])
                found[f"{name}, {attention}, {arm}"] = rows
    return found


def table(seeds: Sequence[Rights]) -> list[str]:
    """Agreement over seeds, and the tree less the flat tool on the same pairs."""
    names = [*arms()]
    lines = ["", "## The user who cannot see", ""]
    lines += ["Agreement with the truth over pairs of races of mixed quality; nothing is trained. `tree`: laps, points"]
    lines += ["and safe, `flat` one tool that says the same; guess: points and safe err in half of the races."]
    heads = ["sees", "attention", *names, "tree less flat", "both guessing"]
    lines += ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for user in USERS:
        for attention in ATTENTION:
            key = f"{user}, {attention}, "
            cells = [said(over_seeds([one[key + arm] for one in seeds])) for arm in names]
            cells += [said(over_seeds(_less(seeds, f"{key}tree{how}", f"{key}flat{how}"))) for how in ("", " guess")]
            lines.append(f"| {user} | {attention} | {' | '.join(cells)} |")
    n = sum(len(row) for one in seeds for row in one[f"score, {ATTENTION[0]}, alone"])
    return [*lines, "", f"Seeds: {len(seeds)}; pairs: {n}."]


def _less(seeds: Sequence[Rights], one: str, other: str) -> list[list[list[float]]]:
    """By how much the one arm is righter than the other, pair by pair."""
    return [
        [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(rights[one], rights[other], strict=True)]
        for rights in seeds
    ]


def said(value: Interval) -> str:
    """A mean with its interval."""
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
