"""Move 37 in an environment: does an agent that acts make moves that win and look bad, if it is judged by looks?

The tree `rrm_tasks.match`, a king on a board of 5 x 5. Alone the user plays on at random from the move; with replies,
from where three levels of language models lead. `whole` learns from games to their end, of which anyone sees who won.

wins        games won against an opponent who never errs, of those that could be won from where they begin
surprising  of the positions where random play shows a losing move ahead of every winning one: a winning move is made
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import rrm
from rrm.acting import episode_of
from rrm.core.protocols import Agent
from rrm.core.records import Case
from rrm.loop.training import maker_of
from rrm.measure.stats import Interval, of_numbers
from rrm.worlds.games import Game, King, PlayoutUser, Position, chance
from rrm.worlds.games.game import after, wins
from rrm.worlds.games.match import ENV, openings, won
from rrm_tasks.match import SETTINGS, WHOLE, WRITING, match, whole

MATCH = {"match_alone": 0, "match": 3, "whole": 0}
"""Arm -> levels of replies."""
GAME = King(5)
AGAIN = 3
"""Games from each position: an opponent has several moves."""
SMALL = {"rounds": 1, "cases": 4, "comparisons": 8, "steps": 1, "batch": 4, "outcomes": 4, "reward_epochs": 1}


def learned_match(arm: str, seed: int, folder: Path, quick: bool) -> dict[str, float]:
    """Train an arm; how it plays."""
    user: rrm.BoundedUser | PlayoutUser = PlayoutUser(seed=seed)
    small = SMALL if quick else {}
    if arm == "whole":
        user, task, model = rrm.BoundedUser(seed=seed), whole(GAME, settings=WHOLE.model_copy(update=small)), "ppo"
    else:
        settings, writing = (one.model_copy(update=small) for one in (SETTINGS, WRITING))
        task = match(GAME, MATCH[arm], settings, writing)
        model = task.usual["model"]
    agent = rrm.train(task, user, maker_of(model), folder, seed).agent
    return {"wins": wins_of(agent), **moves_of(agent)}


def wins_of(agent: Agent) -> float:
    """Of games from all positions that can be won."""
    kwargs = [{"rules": dict(GAME.rules()), "position": list(one)} for one in won(GAME)]
    games = [
        Case("Win.", {"env": ENV, "kwargs": one, "seed": seed, "steps": 100}) for one in kwargs for seed in range(AGAIN)
    ]
    played = agent.sample(games, 1, "play", greedy=True)
    return float(np.mean([episode_of(group.outcomes[0]).hidden["won"][-1] for group in played]))


@cache
def by_chance(position: Position) -> float:
    """How often a mover at random wins against who never errs, exactly."""
    total, there = 0.0, list(after(GAME, position).values())
    for led in there:
        replies = list(after(GAME, led).values())
        best = [one for one in replies if not wins(GAME, one)] or replies
        total += sum(by_chance(one) for one in best if after(GAME, one)) / len(best) if best else 1.0
    return total / len(there)


def misleading(game: Game, position: Position) -> bool:
    """Whether random play shows a losing move ahead of every winning one."""
    there = after(game, position).values()
    losing, winning = ([chance(game, led) for led in there if wins(game, led) is lost] for lost in (True, False))
    return bool(losing and winning) and min(losing) < min(winning)  # chances of whoever moves next


def moves_of(agent: Agent) -> dict[str, float]:
    """How many of an agent's moves win where one does, and where it looks bad."""
    cases = [case for case in openings(GAME) if wins(GAME, tuple(case.data["position"]))]
    right, hard = [], []
    for group in agent.sample(cases, 1, "moves", greedy=True):
        position = tuple(group.case.data["position"])
        led = after(GAME, position).get(group.outcomes[0].text)
        right.append(float(led is not None and not wins(GAME, led)))
        hard += [right[-1]] if misleading(GAME, position) else []
    return {"moves": float(np.mean(right)), "surprising": float(np.mean(hard))}


def match_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Each arm over seeds."""
    lines = ["", "## Move 37", ""]
    lines += ["A king on 5 x 5. wins: of the games that can be won, against who never errs. moves: that win, where one"]
    lines += ["does. surprising: the same, where random play shows a losing move ahead of every winning one. A mover"]
    lines += [f"at random wins {np.mean([by_chance(one) for one in won(GAME)]):.2f}, exactly.", ""]
    heads = ("arm", "seeds", "wins", "of each seed", "moves", "surprising", "seconds")
    lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for arm, rows in found.items():
        each = ", ".join(f"{row['played']['wins']:.2f}" for row in rows)
        cells = [said(of_numbers([row["played"][key] for row in rows])) for key in ("wins", "moves", "surprising")]
        seconds = f"{np.mean([row['seconds'] for row in rows]):.0f}"
        lines.append(f"| {' | '.join([arm, str(len(rows)), cells[0], each, *cells[1:], seconds])} |")
    return lines


def said(value: Interval) -> str:
    """A mean with its interval."""
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
